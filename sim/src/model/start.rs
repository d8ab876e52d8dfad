//! Where a new consumer begins.

use linnet_jsapi::ConsumerConfig;
use linnet_jsapi::policies::DeliverPolicy;

use super::Model;

impl Model {
    /// The lowest and the highest first sequence with which a consumer gets what it asks for, of the stream as it is.
    pub(crate) fn start(&self, config: &ConsumerConfig) -> (u64, u64) {
        let is_covered = |subject: &[u8]| {
            let mut filters = config.filters().iter();
            config.filters().is_empty() || filters.any(|f| linnet_subject::is_subset(subject, f.as_bytes()))
        };
        let wanted: Vec<(u64, i64)> = self
            .messages
            .iter()
            .filter(|(_, m)| is_covered(&m.subject))
            .map(|(seq, m)| (*seq, m.time))
            .collect();
        let end = self.last + 1;
        let first = match config.deliver_policy {
            DeliverPolicy::All | DeliverPolicy::LastPerSubject => wanted.first().map(|(seq, _)| *seq),
            DeliverPolicy::New => None,
            DeliverPolicy::Last => wanted.last().map(|(seq, _)| *seq),
            DeliverPolicy::ByStartSequence => {
                wanted.iter().map(|(seq, _)| *seq).find(|seq| *seq >= config.opt_start_seq)
            }
            DeliverPolicy::ByStartTime => {
                let time = config.opt_start_time.unwrap_or_default().0;
                wanted.iter().find(|(_, at)| *at >= time).map(|(seq, _)| *seq)
            }
        };
        // A sequence that is not reached yet is where it begins, and nowhere before.
        if config.opt_start_seq > end {
            return (config.opt_start_seq, config.opt_start_seq);
        }
        let high = first.unwrap_or(end);
        let before = wanted.iter().map(|(seq, _)| *seq).rfind(|seq| *seq < high);
        (before.map_or(1, |seq| seq + 1), high)
    }
}
