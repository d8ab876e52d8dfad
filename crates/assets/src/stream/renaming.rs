//! Subjects of messages on their way in, and of their copies on their way out (jetstream, "Subject transform and
//! republish").

use linnet_ids::{StreamSeq, Wall};
use linnet_jsapi::StreamConfig;
use linnet_store::Record;
use linnet_subject::Transform;
use linnet_wire::headers;

use crate::output::Output;

/// What a stream's configuration says about other subjects, ready to be used.
#[derive(Default)]
pub(super) struct Renaming {
    incoming: Option<Transform>,
    republish: Option<Transform>,
    headers_only: bool,
    /// Holds a subject while a message is judged under it.
    scratch: Vec<u8>,
    outgoing: Vec<u8>,
    copy: Vec<u8>,
}

impl Renaming {
    /// The rules have judged the configuration: what is not valid there renames nothing.
    pub(super) fn of(config: &StreamConfig) -> Self {
        let transform = |src: &str, dest: &str| {
            if dest.is_empty() { None } else { Transform::new(src, dest).ok() }
        };
        let republish = config.republish.as_ref();
        Self {
            incoming: config.subject_transform.as_ref().and_then(|t| transform(&t.src, &t.dest)),
            republish: republish.and_then(|r| transform(&r.src, &r.dest)),
            headers_only: republish.is_some_and(|r| r.headers_only),
            ..Self::default()
        }
    }

    /// The subject under which a message is judged and stored, if it is another one. To be given back.
    pub(super) fn rename(&mut self, subject: &[u8], head: StreamSeq, now: Wall) -> Option<Vec<u8>> {
        let transform = self.incoming.as_ref()?;
        self.scratch.clear();
        let random = chance(head, now);
        transform.apply(subject, random, &mut self.scratch).then(|| std::mem::take(&mut self.scratch))
    }

    /// Takes the memory of a subject back.
    pub(super) fn give_back(&mut self, renamed: Option<Vec<u8>>) {
        if let Some(renamed) = renamed {
            self.scratch = renamed;
        }
    }

    /// True if stored messages are published again.
    pub(super) fn republishes(&self) -> bool {
        self.republish.is_some()
    }

    /// Publishes a stored message again. `last` is the sequence of the message before it on its subject.
    pub(super) fn republish(
        &mut self,
        stream: &str,
        record: &Record<'_>,
        last: StreamSeq,
        out: &mut dyn Output,
    ) {
        let Some(transform) = &self.republish else { return };
        self.outgoing.clear();
        if !transform.apply(record.subject, chance(record.seq, record.timestamp), &mut self.outgoing) {
            return;
        }
        let copy = &mut self.copy;
        let mut digits = itoa::Buffer::new();
        copy.clear();
        headers::reopen(copy, record.headers);
        headers::push(copy, "Nats-Stream", stream.as_bytes());
        headers::push(copy, "Nats-Subject", record.subject);
        headers::push(copy, "Nats-Sequence", digits.format(record.seq).as_bytes());
        headers::push(copy, "Nats-Time-Stamp", record.timestamp.rfc3339().as_bytes());
        headers::push(copy, "Nats-Last-Sequence", digits.format(last).as_bytes());
        if self.headers_only {
            headers::push(copy, "Nats-Msg-Size", digits.format(record.payload.len()).as_bytes());
        }
        headers::end(copy);
        let header_len = copy.len();
        if !self.headers_only {
            copy.extend_from_slice(record.payload);
        }
        out.publish(&self.outgoing, b"", b"", header_len, copy);
    }
}

/// What decides where a transform leaves it to chance: spread evenly, and the same in every replay of a simulation.
fn chance(seq: StreamSeq, time: Wall) -> u64 {
    let mixed = (time.0.cast_unsigned() ^ seq.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 16
}
