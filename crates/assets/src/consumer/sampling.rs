//! Telling of some acknowledgements (jetstream, "Advisories and metrics").

use linnet_ids::StreamSeq;

use super::{Consumer, Context, Pending};
use crate::output::Advisory;

impl Consumer {
    /// A message was acknowledged by itself that was due again at `deadline`.
    pub(super) fn sample(
        &self,
        ctx: &mut Context<'_>,
        seq: StreamSeq,
        pending: Pending,
        deadline: Option<linnet_ids::Mono>,
    ) {
        let frequency = self.config.sample_percent();
        if !is_sampled(pending.consumer_seq, frequency) {
            return;
        }
        let left = deadline.map_or(std::time::Duration::ZERO, |deadline| deadline.since(ctx.now));
        let ack_time = self.ack_wait(pending.deliveries).saturating_sub(left);
        ctx.out.advise(Advisory::AckSampled {
            consumer: self.name.clone(),
            consumer_seq: pending.consumer_seq,
            stream_seq: seq,
            ack_time,
            deliveries: pending.deliveries,
        });
    }
}

/// So many of a hundred deliveries are told of, evenly spread.
fn is_sampled(delivery: u64, percent: u64) -> bool {
    let up_to = |n: u64| n.saturating_mul(percent.min(100)) / 100;
    up_to(delivery) > up_to(delivery.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_told_of_as_was_asked_for() {
        for (percent, expected) in [(0, 0), (1, 10), (30, 300), (99, 990), (100, 1000), (200, 1000)] {
            let told = (1..=1000).filter(|delivery| is_sampled(*delivery, percent)).count();
            assert_eq!(told, expected, "{percent}");
        }
    }
}
