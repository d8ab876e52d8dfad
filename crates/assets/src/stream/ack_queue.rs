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
    seq: StreamSeq,
    duplicate: bool,
    /// Length of the reply subject.
    reply: usize,
    /// Length of the text behind it, and what it is.
    text: usize,
    kind: Text,
}

#[derive(Clone, Copy)]
enum Text {
    Counter,
    /// Of a batch of so many messages.
    Batch(u64),
    /// Of nothing: how far a fast batch has come, and when it is told next.
    Flow(u64, u64),
}

/// What a publisher is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ack<'a> {
    pub(super) seq: StreamSeq,
    pub(super) duplicate: bool,
    /// Id and number of messages of the batch that ends.
    pub(super) batch: Option<(&'a str, u64)>,
    /// How far a fast batch has come that goes on, and after how many messages that is told next; nothing else then.
    pub(super) flow: Option<(u64, u64)>,
    /// Value of a counter, empty for none.
    pub(super) val: &'a str,
}

/// Bytes at the front of the buffer that may be dead before it is compacted.
const DEAD_MAX: usize = 64 * 1024;

impl AckQueue {
    pub(super) fn push(&mut self, after: StreamSeq, ack: Ack<'_>, reply: &[u8]) {
        let (text, kind) = match (ack.batch, ack.flow) {
            (Some((id, messages)), _) => (id, Text::Batch(messages)),
            (None, Some((seq, messages))) => ("", Text::Flow(seq, messages)),
            (None, None) => (ack.val, Text::Counter),
        };
        self.bytes.extend_from_slice(reply);
        self.bytes.extend_from_slice(text.as_bytes());
        self.waiting.push_back(Waiting {
            after,
            seq: ack.seq,
            duplicate: ack.duplicate,
            reply: reply.len(),
            text: text.len(),
            kind,
        });
    }

    /// Answers everybody who waits for `seq` or less.
    pub(super) fn release(&mut self, seq: StreamSeq, mut answer: impl FnMut(&[u8], Ack<'_>)) {
        while let Some(first) = self.waiting.pop_front_if(|w| w.after <= seq) {
            let reply_end = self.start + first.reply;
            let end = reply_end + first.text;
            let text = self.bytes.get(reply_end..end).unwrap_or_default();
            let text = std::str::from_utf8(text).unwrap_or_default();
            let plain = Ack { seq: first.seq, duplicate: first.duplicate, ..Ack::default() };
            let ack = match first.kind {
                Text::Counter => Ack { val: text, ..plain },
                Text::Flow(seq, messages) => Ack { flow: Some((seq, messages)), ..plain },
                Text::Batch(messages) => Ack { batch: Some((text, messages)), ..plain },
            };
            answer(self.bytes.get(self.start..reply_end).unwrap_or_default(), ack);
            self.start = end;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_order_with_what_belongs_to_them() {
        let mut queue = AckQueue::default();
        queue.push(1, Ack { seq: 1, val: "5", ..Ack::default() }, b"a");
        queue.push(3, Ack { seq: 3, batch: Some(("id", 2)), ..Ack::default() }, b"bb");
        queue.push(3, Ack { flow: Some((4, 9)), ..Ack::default() }, b"d");
        queue.push(3, Ack { seq: 1, duplicate: true, ..Ack::default() }, b"c");
        let mut seen = Vec::new();
        let mut note = |queue: &mut AckQueue, seq| {
            queue.release(seq, |reply, ack| seen.push(format!("{} {ack:?}", String::from_utf8_lossy(reply))));
        };
        note(&mut queue, 2);
        note(&mut queue, 3);
        assert_eq!(
            seen,
            [
                "a Ack { seq: 1, duplicate: false, batch: None, flow: None, val: \"5\" }",
                "bb Ack { seq: 3, duplicate: false, batch: Some((\"id\", 2)), flow: None, val: \"\" }",
                "d Ack { seq: 0, duplicate: false, batch: None, flow: Some((4, 9)), val: \"\" }",
                "c Ack { seq: 1, duplicate: true, batch: None, flow: None, val: \"\" }",
            ]
        );
    }
}
