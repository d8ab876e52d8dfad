use std::collections::VecDeque;

use linnet_ids::StreamSeq;

/// Publishers that wait for their messages to be applied, in order. Reply subjects lie in one buffer, so that a
/// publish allocates nothing.
#[derive(Default)]
pub(super) struct AckQueue {
    waiting: VecDeque<Waiting>,
    bytes: Vec<u8>,
    start: usize,
}

struct Waiting {
    /// Answer when this is applied.
    after: StreamSeq,
    /// What to answer.
    ack: Ack,
    len: usize,
}

/// What a publisher is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) seq: StreamSeq,
    pub(super) duplicate: bool,
}

/// Bytes at the front of the buffer that may be dead before it is compacted.
const DEAD_MAX: usize = 64 * 1024;

impl AckQueue {
    pub(super) fn push(&mut self, after: StreamSeq, ack: Ack, reply: &[u8]) {
        self.bytes.extend_from_slice(reply);
        self.waiting.push_back(Waiting { after, ack, len: reply.len() });
    }

    /// Answers everybody who waits for `seq` or less.
    pub(super) fn release(&mut self, seq: StreamSeq, mut answer: impl FnMut(&[u8], Ack)) {
        while let Some(first) = self.waiting.front().filter(|w| w.after <= seq) {
            let end = self.start + first.len;
            answer(self.bytes.get(self.start..end).unwrap_or_default(), first.ack);
            self.start = end;
            self.waiting.pop_front();
        }
        if self.waiting.is_empty() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start > DEAD_MAX {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// Takes everybody who waits.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        self.release(StreamSeq::MAX, |reply, _| each(reply));
    }
}
