//! Questions that clients wait to see answered, and what the answers may be.

use std::collections::BTreeMap;

use linnet_assets::{Answer, Token};
use linnet_ids::{GroupId, Wall};
use linnet_jsapi::ConsumerConfig;
use linnet_jsapi::requests::MsgGetRequest;
use linnet_wire::headers;

use crate::facts::Facts;
use crate::invariants::{Check, answers, reads};
use crate::model::Selection;

/// A call to the API.
pub(crate) enum Ask {
    /// `MSG.GET`.
    Get(Read),
    /// State, with the subjects that this covers.
    State(String),
    Purge,
    Delete,
    Names,
    Info(String),
    /// A consumer to be made, or to be configured so.
    Consumer(Box<ConsumerConfig>),
    /// A consumer is to deliver nothing until then.
    Pause(Option<Wall>),
    /// A consumer is to begin anew.
    Reset(String),
    /// The pinned client of a consumer is to be given up.
    Unpin(String),
    /// Something of which the answer does not tell.
    Other,
}

/// A read under way.
pub(crate) struct Read {
    pub(crate) request: MsgGetRequest,
    /// What the request meant at every moment since it was sent.
    pub(crate) meant: Vec<Selection>,
    /// What came so far, of a direct get.
    pub(crate) got: Vec<Reply>,
}

/// One message that answers a direct get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: Vec<u8>,
    pub(crate) seq: Option<u64>,
    pub(crate) pending: Option<u64>,
    pub(crate) last: Option<u64>,
    pub(crate) up_to: Option<u64>,
}

impl Reply {
    pub(crate) fn parse(block: &[u8]) -> Self {
        let number = |key| std::str::from_utf8(headers::get(block, key)?).ok()?.parse().ok();
        Self {
            status: headers::status(block).to_vec(),
            seq: number("Nats-Sequence"),
            pending: number("Nats-Num-Pending"),
            last: number("Nats-Last-Sequence"),
            up_to: number("Nats-UpTo-Sequence"),
        }
    }
}

impl Read {
    pub(crate) fn new(request: MsgGetRequest) -> Self {
        Self { request, meant: Vec::new(), got: Vec::new() }
    }

    fn note(&mut self, facts: &Facts, group: GroupId) {
        if let Some(stream) = facts.streams.get(&group) {
            let now = stream.model.select(&self.request);
            if self.meant.last() != Some(&now) {
                self.meant.push(now);
            }
        }
    }
}

/// Everything asked and not answered yet.
#[derive(Default)]
pub(crate) struct Questions {
    asked: BTreeMap<Token, (GroupId, Ask)>,
    direct: BTreeMap<u64, (GroupId, Read)>,
    next: u64,
}

impl Questions {
    pub(crate) fn ask(&mut self, token: Token, group: GroupId, mut ask: Ask, facts: &mut Facts) {
        if let Ask::Get(read) = &mut ask {
            read.note(facts, group);
        }
        if let Ask::Consumer(config) = &ask
            && let Some(stream) = facts.streams.get_mut(&group)
        {
            stream.wish(token, (**config).clone());
        }
        self.asked.insert(token, (group, ask));
    }

    /// A direct get; the number in its reply subject.
    pub(crate) fn read(&mut self, group: GroupId, mut read: Read, facts: &Facts) -> u64 {
        read.note(facts, group);
        self.next += 1;
        self.direct.insert(self.next, (group, read));
        self.next
    }

    /// True if it is not known yet whether the pinned client of a consumer was given up.
    pub(crate) fn is_unpinning(&self, group: GroupId, consumer: &str) -> bool {
        self.asked
            .values()
            .any(|(of, ask)| *of == group && matches!(ask, Ask::Unpin(name) if name == consumer))
    }

    /// The process that knew of them is gone.
    pub(crate) fn forget(&mut self) {
        self.asked.clear();
        self.direct.clear();
    }

    /// The stream is another one now.
    pub(crate) fn changed(&mut self, group: GroupId, facts: &Facts) {
        let asked = self.asked.values_mut().filter_map(|(of, ask)| match ask {
            Ask::Get(read) => Some((of, read)),
            _ => None,
        });
        let direct = self.direct.values_mut().map(|(of, read)| (of, read));
        asked.chain(direct).filter(|(of, _)| **of == group).for_each(|(of, read)| read.note(facts, *of));
    }

    pub(crate) fn answered(&mut self, token: Token, answer: &Answer, facts: &mut Facts) -> Check {
        let Some((group, ask)) = self.asked.remove(&token) else { return Ok(()) };
        let wall = facts.wall;
        let Some(stream) = facts.streams.get_mut(&group) else { return Ok(()) };
        // What a server refuses because it cannot go on may be in its log all the same.
        if answer.as_ref().err().is_none_or(|error| error.code < 500) {
            stream.wishes.retain(|wish| wish.token != token);
            if let Ask::Reset(name) = &ask {
                stream.reset_answered(name);
            }
        }
        answers::is_right(stream, &ask, answer, wall)
    }

    /// A message that answers the direct get of this number. True if it was the last one.
    pub(crate) fn replied(
        &mut self,
        no: u64,
        block: &[u8],
        payload: &[u8],
        facts: &Facts,
    ) -> Result<bool, crate::Violation> {
        let Some((group, read)) = self.direct.get_mut(&no) else { return Ok(false) };
        let Some(stream) = facts.streams.get(group).filter(|s| !s.is_lossy) else { return Ok(false) };
        read.got.push(Reply::parse(block));
        let is_last = reads::is_right(stream, read, block, payload)?;
        if is_last {
            reads::are_complete(stream, read)?;
            self.direct.remove(&no);
        }
        Ok(is_last)
    }
}
