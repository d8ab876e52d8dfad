//! What clients sent, asked for and were told.

use std::collections::{BTreeMap, BTreeSet};

use linnet_assets::Token;
use linnet_ids::GroupId;
use linnet_jsapi::ConsumerConfig;

use crate::model::{Message, Model};

/// A message a client sent.
pub(crate) struct PublishFacts {
    pub(crate) no: usize,
    pub(crate) group: GroupId,
    pub(crate) subject: Vec<u8>,
    pub(crate) headers: Vec<u8>,
    pub(crate) id: Option<String>,
    pub(crate) filler: usize,
    pub(crate) answered: bool,
}

impl PublishFacts {
    /// Content that tells where it came from.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let mut payload = format!("m{};", self.no).into_bytes();
        payload.extend((0..self.filler).map(|at| b'a' + u8::try_from((self.no + at) % 26).unwrap_or(0)));
        payload
    }
}

/// The publish a stored message comes from.
pub(crate) fn publish_of<'a>(
    publishes: &'a [PublishFacts],
    message: &Message,
) -> Option<(usize, &'a PublishFacts)> {
    let text = match message.header("Sim-No") {
        Some(no) => no,
        None => message.payload.strip_prefix(b"m")?.split(|b| *b == b';').next()?,
    };
    let no: usize = std::str::from_utf8(text).ok()?.parse().ok()?;
    publishes.get(no).map(|sent| (no, sent))
}

/// An acknowledgement a client sent.
pub(crate) struct AckFacts {
    pub(crate) group: GroupId,
    pub(crate) consumer: String,
    pub(crate) born: u64,
    pub(crate) seq: u64,
    /// It ends the message for the consumer.
    pub(crate) is_final: bool,
    pub(crate) is_all: bool,
    /// [`ConsumerFacts::epoch`] when it was sent.
    pub(crate) epoch: u64,
}

/// A message that is to be published again.
#[derive(Debug)]
pub(crate) struct CopyFacts {
    pub(crate) seq: u64,
    pub(crate) to: Vec<u8>,
    /// The message before it on its subject.
    pub(crate) last: u64,
    pub(crate) headers_only: bool,
}

/// A fast batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct FastFacts {
    /// The publish of each of its messages, by its place in the batch, and whether that has an id.
    pub(crate) messages: BTreeMap<u64, (usize, bool)>,
    /// Places of messages that were refused, or that the server missed.
    pub(crate) refused: BTreeSet<u64>,
    /// Its end was answered.
    pub(crate) has_ended: bool,
}

/// A consumer that a client asked for.
pub(crate) struct Wish {
    pub(crate) token: Token,
    pub(crate) config: ConsumerConfig,
    /// Where it may begin, as the stream was at every moment since: the lowest and the highest first sequence.
    pub(crate) starts: Vec<(u64, u64)>,
}

impl Wish {
    pub(super) fn note(&mut self, model: &Model) {
        let now = model.start(&self.config);
        if self.starts.last() != Some(&now) {
            self.starts.push(now);
        }
    }
}
