use linnet_ids::{StreamSeq, Wall};
use linnet_jsapi::{ConsumerConfig, StreamConfig};
use linnet_store::StreamStore;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::consumer::{ConsumerOp, ConsumerState, first_sequence};

/// One entry of a stream's log. The first byte says which kind; the rest is JSON for the rare kinds and packed for
/// the frequent ones.
#[derive(Debug)]
pub enum Entry<'a> {
    /// Encoded records, one after the other (`linnet_store::encode_record`). The messages of an atomic batch stand in
    /// one entry, without others: what the log has of the entry it has as a whole.
    Messages(&'a [u8]),
    /// The stream's configuration from here on.
    Config(Box<StreamConfig>),
    /// Removal of many messages.
    Purge(Purge),
    /// Removal of one message.
    Delete {
        /// Sequence.
        seq: StreamSeq,
        /// Overwrite the bytes on disk.
        erase: bool,
    },
    /// Removal of everything stored at or before a time, except what never expires.
    Expire(Wall),
    /// Removal of the messages whose own time to live is over at a time.
    ExpireOwn(Wall),
    /// A consumer exists from here on, or has this configuration from here on.
    ConsumerAttach(Box<Attach>),
    /// A consumer exists no more.
    ConsumerDetach(String),
    /// What consumers did.
    ConsumerDelta(Vec<(String, Vec<ConsumerOp>)>),
    /// The stream exists no more; nothing follows.
    Deleted,
    /// A leader took over.
    Leader,
    /// Removal of what nobody owes anything for, of the messages in a range.
    Sweep {
        /// First sequence.
        from: StreamSeq,
        /// Last sequence.
        to: StreamSeq,
    },
    /// Sequences up to this are used up: the log lost messages that may have had them.
    Skip(StreamSeq),
    /// Whose stream this is: what else only the catalogue knows.
    Owner(Owner),
    /// How far the restoring of the stream from a backup is.
    Restore(RestoreMark),
}

/// Whose a stream is, for finding it without the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Account it belongs to.
    pub account: String,
    /// When it was created, nanoseconds since the Unix epoch.
    pub created: i64,
}

/// How far the restoring of a stream is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreMark {
    /// The stream is being restored from here on: nobody else stores anything or hears anything of it, and without
    /// an entry in the catalogue it is none.
    Begin,
    /// Its sequences are used up to here; the newest message was stored at this time, nanoseconds since the Unix epoch.
    Position {
        /// Last sequence.
        last_seq: StreamSeq,
        /// Time of the newest message ever.
        last_ts: Option<i64>,
    },
    /// Of what was stored, these messages are not in the stream.
    Removed {
        /// First sequence.
        first: StreamSeq,
        /// Last sequence.
        last: StreamSeq,
    },
    /// It is complete, and a stream like any other.
    Done,
}

/// Arguments of a purge, as in the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purge {
    /// Only subjects covered by this; empty for all.
    pub filter: String,
    /// Only sequences below this; 0 for all.
    pub below: StreamSeq,
    /// Keep this many of the newest.
    pub keep: u64,
}

/// A consumer with its configuration and, for a new one, where it starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attach {
    /// Name.
    pub name: String,
    /// Configuration.
    pub config: ConsumerConfig,
    /// When it was created, nanoseconds since the Unix epoch.
    pub created: i64,
    /// State of a new consumer; `None` keeps that of the existing one.
    pub state: Option<ConsumerState>,
}

impl Attach {
    /// A new consumer of a stream in which nothing is in flight: it begins where its configuration says.
    pub fn beginning(name: String, config: ConsumerConfig, created: i64, store: &StreamStore) -> Self {
        let first = first_sequence(&config, store);
        let state = ConsumerState::of_new(&config, first, store.state().last_seq);
        Self { name, config, created, state: Some(state) }
    }
}

/// A log entry that this version cannot read.
#[derive(Debug, Error)]
pub enum EntryError {
    /// No bytes.
    #[error("log entry is empty")]
    Empty,
    /// A kind this version does not know.
    #[error("log entry of unknown kind {0}")]
    UnknownKind(u8),
    /// The content does not fit the kind.
    #[error("log entry of kind {kind} cannot be read")]
    Content {
        /// The kind.
        kind: u8,
    },
}

const MESSAGES: u8 = 1;
const CONFIG: u8 = 2;
const PURGE: u8 = 3;
const DELETE: u8 = 4;
const EXPIRE: u8 = 5;
const ATTACH: u8 = 6;
const DETACH: u8 = 7;
const DELTA: u8 = 8;
const DELETED: u8 = 9;
const LEADER: u8 = 10;
const SKIP: u8 = 11;
const EXPIRE_OWN: u8 = 12;
const OWNER: u8 = 13;
const SWEEP: u8 = 14;
const RESTORE: u8 = 32;

impl<'a> Entry<'a> {
    /// First byte of an entry of messages; records follow it.
    pub const MESSAGES_KIND: u8 = MESSAGES;

    /// True if publishes admitted before this entry is applied could be judged wrongly: they wait for it.
    pub fn is_barrier(bytes: &[u8]) -> bool {
        matches!(bytes.first(), Some(&(CONFIG | PURGE | DELETE | DELETED)))
    }

    /// Encoded form.
    pub fn encode(&self) -> Vec<u8> {
        let json = |kind: u8, value: Result<Vec<u8>, serde_json::Error>| {
            let mut out = vec![kind];
            // Plain data structures: writing them to memory cannot fail.
            out.extend_from_slice(&value.expect("entry serialises"));
            out
        };
        match self {
            Self::Messages(records) => [&[MESSAGES], *records].concat(),
            Self::Config(config) => json(CONFIG, serde_json::to_vec(config)),
            Self::Purge(purge) => json(PURGE, serde_json::to_vec(purge)),
            Self::Delete { seq, erase } => {
                let mut out = vec![DELETE, u8::from(*erase)];
                out.extend_from_slice(&seq.to_le_bytes());
                out
            }
            Self::Expire(cutoff) => [&[EXPIRE], cutoff.0.to_le_bytes().as_slice()].concat(),
            Self::ExpireOwn(now) => [&[EXPIRE_OWN], now.0.to_le_bytes().as_slice()].concat(),
            Self::ConsumerAttach(attach) => json(ATTACH, serde_json::to_vec(attach)),
            Self::ConsumerDetach(name) => [&[DETACH], name.as_bytes()].concat(),
            Self::ConsumerDelta(delta) => {
                let mut out = vec![DELTA];
                for (name, ops) in delta {
                    ConsumerOp::encode_list(name, ops, &mut out);
                }
                out
            }
            Self::Deleted => vec![DELETED],
            Self::Leader => vec![LEADER],
            Self::Skip(last) => [&[SKIP], last.to_le_bytes().as_slice()].concat(),
            Self::Sweep { from, to } => {
                let mut out = vec![SWEEP];
                out.extend_from_slice(&from.to_le_bytes());
                out.extend_from_slice(&to.to_le_bytes());
                out
            }
            Self::Owner(owner) => json(OWNER, serde_json::to_vec(owner)),
            Self::Restore(mark) => json(RESTORE, serde_json::to_vec(mark)),
        }
    }

    /// Inverse of [`Entry::encode`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, EntryError> {
        let (kind, rest) = bytes.split_first().ok_or(EntryError::Empty)?;
        let content = || EntryError::Content { kind: *kind };
        Ok(match *kind {
            MESSAGES => Self::Messages(rest),
            CONFIG => Self::Config(serde_json::from_slice(rest).map_err(|_| content())?),
            PURGE => Self::Purge(serde_json::from_slice(rest).map_err(|_| content())?),
            DELETE => {
                let (erase, seq) = rest.split_first().ok_or_else(content)?;
                let seq: [u8; 8] = seq.try_into().map_err(|_| content())?;
                Self::Delete { seq: u64::from_le_bytes(seq), erase: *erase == 1 }
            }
            EXPIRE_OWN => {
                let now: [u8; 8] = rest.try_into().map_err(|_| content())?;
                Self::ExpireOwn(Wall(i64::from_le_bytes(now)))
            }
            EXPIRE => {
                let cutoff: [u8; 8] = rest.try_into().map_err(|_| content())?;
                Self::Expire(Wall(i64::from_le_bytes(cutoff)))
            }
            ATTACH => Self::ConsumerAttach(serde_json::from_slice(rest).map_err(|_| content())?),
            DETACH => Self::ConsumerDetach(String::from_utf8(rest.to_vec()).map_err(|_| content())?),
            DELTA => Self::ConsumerDelta(ConsumerOp::decode_lists(rest).ok_or_else(content)?),
            DELETED => Self::Deleted,
            LEADER => Self::Leader,
            SKIP => {
                let last: [u8; 8] = rest.try_into().map_err(|_| content())?;
                Self::Skip(u64::from_le_bytes(last))
            }
            SWEEP => {
                let (from, to) = rest.split_at_checked(8).ok_or_else(content)?;
                let from: [u8; 8] = from.try_into().map_err(|_| content())?;
                let to: [u8; 8] = to.try_into().map_err(|_| content())?;
                Self::Sweep { from: u64::from_le_bytes(from), to: u64::from_le_bytes(to) }
            }
            OWNER => Self::Owner(serde_json::from_slice(rest).map_err(|_| content())?),
            RESTORE => Self::Restore(serde_json::from_slice(rest).map_err(|_| content())?),
            unknown => return Err(EntryError::UnknownKind(unknown)),
        })
    }
}
