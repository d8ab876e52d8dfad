//! The state machine: a sum, and a hash of all additions in order.

use bytes::Bytes;
use linnet_ids::{LogIndex, fold};
use linnet_raft::{LogPoint, Node, Snapshot};

/// Additions of one client carry a number of their own.
pub(super) fn addition(number: u64) -> Bytes {
    let mut bytes = vec![1];
    bytes.extend_from_slice(&number.to_le_bytes());
    // Some are large, so that segments fill up and messages are split.
    bytes.resize(9 + usize::try_from(number % 7).unwrap_or(0) * 200, 0);
    bytes.into()
}

pub(super) fn number_of(payload: &[u8]) -> u64 {
    payload.get(1..9).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Sum and history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counter {
    pub(super) applied: LogIndex,
    pub(super) sum: u64,
    pub(super) history: u64,
}

impl Counter {
    pub(super) fn apply(&mut self, index: LogIndex, payload: Option<&[u8]>) {
        self.applied = index;
        if let Some(payload) = payload {
            let number = number_of(payload);
            self.sum = self.sum.wrapping_add(number);
            self.history = fold(self.history, number);
        }
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        [self.applied, self.sum, self.history].iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let [applied, sum, history] = words else { return None };
        let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        rest.is_empty().then(|| Self { applied: word(applied), sum: word(sum), history: word(history) })
    }
}

/// A checkpoint: the state, and where it ends.
#[derive(Clone, Debug)]
pub(super) struct Checkpoint {
    pub(super) counter: Counter,
    pub(super) last: LogPoint,
}

impl Checkpoint {
    pub(super) fn snapshot(&self, node: &Node) -> Snapshot {
        let (since, membership) = node.members_at(self.last.index);
        let (membership, body) = (membership.clone(), self.counter.to_bytes().into());
        Snapshot { last: self.last, membership, since, body }
    }
}
