//! Requests for messages that clients made, and which clients are pinned.

use std::collections::BTreeMap;

use linnet_ids::{GroupId, Mono};

/// What a request says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) batch: u64,
    pub(crate) max_bytes: u64,
    pub(crate) no_wait: bool,
    pub(crate) waits: bool,
    pub(crate) group: Option<String>,
    pub(crate) id: String,
    pub(crate) min_pending: u64,
    pub(crate) min_ack_pending: u64,
    pub(crate) priority: i64,
}

impl Wanted {
    /// The body of the request.
    pub(crate) fn body(&self) -> String {
        let mut body = serde_json::json!({"batch": self.batch});
        let mut set = |key: &str, value: serde_json::Value, is_set: bool| {
            if is_set {
                body[key] = value;
            }
        };
        set("max_bytes", self.max_bytes.into(), self.max_bytes > 0);
        set("no_wait", true.into(), self.no_wait);
        set("expires", 3_000_000_000_u64.into(), self.waits);
        set("idle_heartbeat", 1_000_000_000_u64.into(), self.waits);
        set("id", self.id.clone().into(), !self.id.is_empty());
        set("min_pending", self.min_pending.into(), self.min_pending > 0);
        set("min_ack_pending", self.min_ack_pending.into(), self.min_ack_pending > 0);
        set("priority", self.priority.into(), self.priority > 0);
        set("group", self.group.clone().into(), self.group.is_some());
        body.to_string()
    }
}

/// A request that a client made.
#[derive(Clone, Debug)]
pub(crate) struct Pull {
    pub(crate) group: GroupId,
    /// Name of the consumer and index of the entry that made it.
    pub(crate) consumer: (String, u64),
    pub(crate) wanted: Wanted,
    /// It came with an acknowledgement, which the server may not know what to do with.
    pub(crate) is_unsure: bool,
    pub(crate) got: u64,
    pub(crate) got_bytes: u64,
    pub(crate) has_ended: bool,
    /// The client was pinned by it.
    pub(crate) pin: Vec<u8>,
}

/// The client that gets everything of a consumer.
#[derive(Clone, Debug)]
pub(crate) struct Pinned {
    pub(crate) id: Vec<u8>,
    /// When the client last got something. It may have asked for more since, and nobody knows whether it came in time.
    pub(crate) active: Mono,
    /// Somebody asked that it be given up.
    pub(crate) may_end: bool,
}

/// Everything that clients wait for.
#[derive(Default)]
pub(crate) struct Pulls {
    open: BTreeMap<u64, Pull>,
    pinned: BTreeMap<(GroupId, String, u64), Pinned>,
    /// Pins in the order in which they were first seen.
    pins: Vec<Vec<u8>>,
    next: u64,
}

impl Pulls {
    /// Remembers a request; the number in its reply subject.
    pub(crate) fn add(&mut self, pull: Pull) -> u64 {
        self.next += 1;
        self.open.insert(self.next, pull);
        self.next
    }

    /// Nobody knows any more what the server still has of the requests.
    pub(crate) fn forget(&mut self) {
        self.open.clear();
    }

    /// The process that knew of requests and pins is gone.
    pub(crate) fn forget_all(&mut self) {
        self.open.clear();
        self.pinned.clear();
    }

    /// The client that is pinned.
    pub(crate) fn pinned(&self, group: GroupId, consumer: &str, born: u64) -> Option<&Pinned> {
        self.pinned.get(&(group, consumer.to_owned(), born))
    }

    /// Somebody asked that the pinned client be given up.
    pub(crate) fn unpin(&mut self, group: GroupId, consumer: &str) {
        let of = self.pinned.iter_mut().filter(|((g, name, _), _)| *g == group && name == consumer);
        of.for_each(|(_, pinned)| pinned.may_end = true);
    }

    /// True if the id was given to a client before.
    pub(crate) fn was_pinned(&self, id: &[u8]) -> bool {
        self.pins.iter().any(|known| known == id)
    }

    /// The request, if what the server does with it is known.
    pub(crate) fn get(&self, no: u64) -> Option<&Pull> {
        self.open.get(&no)
    }

    /// Other requests to the same consumer that were made before one and have not ended.
    pub(crate) fn before(&self, no: u64) -> impl Iterator<Item = &Pull> {
        let of = self.open.get(&no).map(|pull| (pull.group, &pull.consumer));
        let earlier = self.open.range(..no).map(|(_, pull)| pull);
        earlier.filter(move |pull| {
            of == Some((pull.group, &pull.consumer)) && !pull.has_ended && !pull.is_unsure
        })
    }

    /// A message of so many bytes came for the request, with the id of the pinned client, and whether that one may be
    /// given up any moment.
    pub(crate) fn got(&mut self, no: u64, size: u64, pin: Option<(&[u8], bool)>, now: Mono) {
        let Some(pull) = self.open.get_mut(&no) else { return };
        pull.got += 1;
        pull.got_bytes += size;
        pull.has_ended |= pull.got >= pull.wanted.batch;
        if let Some((id, is_unpinning)) = pin {
            pull.pin = id.to_vec();
            let (name, born) = pull.consumer.clone();
            let key = (pull.group, name, born);
            if !self.was_pinned(id) {
                self.pins.push(id.to_vec());
            }
            let was_to_end = self.pinned.get(&key).is_some_and(|pinned| pinned.id == id && pinned.may_end);
            let may_end = was_to_end || is_unpinning;
            self.pinned.insert(key, Pinned { id: id.to_vec(), active: now, may_end });
        }
    }

    /// A status came for the request.
    pub(crate) fn told(&mut self, no: u64, status: &[u8]) {
        if let Some(pull) = self.open.get_mut(&no) {
            pull.has_ended |= !status.starts_with(b"100");
        }
    }
}
