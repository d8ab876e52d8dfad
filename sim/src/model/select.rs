//! Which messages a read means, found by looking at all of them.

use std::collections::BTreeMap;

use linnet_jsapi::requests::MsgGetRequest;

use super::{Message, Model};

/// Messages that a read means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) seqs: Vec<u64>,
    /// Up to where a read of the newest messages looks.
    pub(crate) up_to: u64,
}

fn is_covered(message: &Message, pattern: &str) -> bool {
    pattern.is_empty() || linnet_subject::is_subset(&message.subject, pattern.as_bytes())
}

impl Model {
    /// What the request means now.
    pub(crate) fn select(&self, request: &MsgGetRequest) -> Selection {
        if !request.multi_last.is_empty() {
            return self.select_newest(request);
        }
        let (all, up_to) = (self.messages.iter(), 0);
        if !request.last_by_subj.is_empty() {
            let newest = self.messages.iter().rfind(|(_, m)| is_covered(m, &request.last_by_subj));
            return Selection { seqs: newest.map(|(seq, _)| *seq).into_iter().collect(), up_to };
        }
        let is_late = |seq: u64, m: &Message| match request.start_time {
            Some(time) => m.time >= time.0,
            None => seq >= request.seq,
        };
        let wanted = all.filter(|(seq, m)| is_late(**seq, m)).map(|(seq, m)| (*seq, m));
        let mut seqs: Vec<u64> =
            wanted.filter(|(_, m)| is_covered(m, &request.next_by_subj)).map(|(seq, _)| seq).collect();
        if request.batch == 0 {
            seqs.truncate(1);
            // Without a subject to look for, a sequence means that message and no later one.
            if request.next_by_subj.is_empty() && request.start_time.is_none() {
                seqs.retain(|seq| *seq == request.seq);
            }
        }
        Selection { seqs, up_to }
    }

    fn select_newest(&self, request: &MsgGetRequest) -> Selection {
        let up_to = match request.up_to_time {
            Some(time) => {
                self.messages.iter().find(|(_, m)| m.time >= time.0).map_or(self.last, |(s, _)| s - 1)
            }
            None if request.up_to_seq > 0 => request.up_to_seq.min(self.last),
            None => self.last,
        };
        let early = self.messages.range(..=up_to);
        let wanted = early.filter(|(_, m)| request.multi_last.iter().any(|pattern| is_covered(m, pattern)));
        let newest: BTreeMap<&[u8], u64> = wanted.map(|(seq, m)| (m.subject.as_slice(), *seq)).collect();
        let mut seqs: Vec<u64> = newest.into_values().filter(|seq| *seq >= request.seq).collect();
        seqs.sort_unstable();
        Selection { seqs, up_to }
    }
}
