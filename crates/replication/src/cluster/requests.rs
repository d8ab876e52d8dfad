use linnet_assets::Command;
use linnet_jsapi::errors::{self, ApiError};
use serde::{Deserialize, Serialize};

use super::known::Known;
use crate::catalogue::Assignment;
use crate::kept::KeptConsumer;

/// What the leader of the catalogue's group is asked by other servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MetaRequest {
    /// The group has its first leader.
    Live {
        /// Account.
        account: String,
        /// Name.
        stream: String,
        /// Group, as text.
        group: String,
    },
    /// The stream has ended in its own log.
    Ended {
        /// Account.
        account: String,
        /// Name.
        stream: String,
        /// Group, as text.
        group: String,
    },
    /// A durable consumer of a stream in memory is to be kept.
    Keep {
        /// Account.
        account: String,
        /// Name.
        stream: String,
        /// The consumer.
        consumer: Box<KeptConsumer>,
    },
    /// Such a consumer is gone.
    Drop {
        /// Account.
        account: String,
        /// Name.
        stream: String,
        /// Group, as text.
        group: String,
        /// Its name.
        consumer: String,
    },
    /// A stream is on the server that says so, and the catalogue may not know it.
    Claim {
        /// What the catalogue shall say.
        assignment: Box<Assignment>,
    },
    /// A group has the members that it shall have.
    Shaped {
        /// Account.
        account: String,
        /// Name.
        stream: String,
        /// Group, as text.
        group: String,
        /// The members.
        members: Vec<String>,
    },
    /// A server has nothing any more of a stream that has ended.
    Gone {
        /// Account.
        account: String,
        /// Name.
        stream: String,
        /// Group, as text.
        group: String,
        /// The member.
        peer: String,
    },
}

impl MetaRequest {
    /// What the catalogue takes because of it; `None` if that is so already.
    ///
    /// # Errors
    /// The stream is not there.
    pub fn command(self, known: &Known) -> Result<Option<Command>, ApiError> {
        match self {
            Self::Live { account, stream, group } => {
                let entry =
                    known.entry(&account, &stream).filter(|a| a.group == group && !a.live && !a.ended);
                Ok(entry.map(|entry| Assignment { live: true, ..(*entry).clone() }.store()))
            }
            Self::Ended { account, stream, group } => {
                let entry = known.stream(&account, &stream).filter(|a| a.group == group);
                Ok(entry.map(|entry| {
                    let mut over = (*entry).clone();
                    over.end();
                    over.store()
                }))
            }
            Self::Keep { account, stream, consumer } => {
                let entry = known.stream(&account, &stream).filter(|a| a.group == consumer.group);
                entry.ok_or(errors::STREAM_NOT_FOUND)?;
                Ok(Some(consumer.store(&account, &stream)))
            }
            Self::Drop { account, stream, group, consumer } => {
                let is_kept = known.consumers_of(&group).iter().any(|kept| kept.name == consumer);
                Ok(is_kept.then(|| KeptConsumer::forget(&account, &stream, &consumer)))
            }
            // Whoever leads the catalogue judges these.
            Self::Claim { .. } => Ok(None),
            Self::Shaped { account, stream, group, members } => {
                let entry = known.stream(&account, &stream).filter(|a| a.group == group);
                let is_so = |entry: &Assignment| entry.members.iter().map(|m| &m.peer).eq(&members);
                let entry = entry.filter(|entry| entry.reshaping.is_some() && is_so(entry));
                Ok(entry.map(|entry| entry.shaped().store()))
            }
            Self::Gone { account, stream, group, peer } => {
                let Some(entry) = known.entry(&account, &stream) else { return Ok(None) };
                let is_waited_for =
                    entry.waited_for().any(|(of, by)| of.to_string() == group && by.to_string() == peer);
                let left =
                    || entry.without(&group, &peer).map_or_else(|| entry.forget(), |left| left.store());
                Ok(is_waited_for.then(left))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use linnet_ids::{GroupId, PeerId, Wall};
    use linnet_jsapi::StreamConfig;

    use super::*;

    fn entry_after(request: MetaRequest, before: Assignment) -> Assignment {
        match request.command(&Known::of(before)) {
            Ok(Some(Command::Append { payload, .. })) => serde_json::from_slice(&payload).unwrap(),
            _ => panic!("an entry is expected"),
        }
    }

    #[test]
    fn everybody_who_may_have_a_replica_hears_of_the_end_also_while_replicas_change() {
        let group = GroupId { epoch: 0, meta_index: 1, random: 1 };
        let peers = ["a", "b", "c"].map(PeerId::of_name);
        let mut stream = Assignment::new_stream("A", StreamConfig::default(), 1, group, &peers, &[]);
        stream.live = true;
        let (first, config) = (stream.members[..1].to_vec(), stream.config.clone());
        stream.reshape(first, &config, Wall(1));
        let group = group.to_string();
        let ended = MetaRequest::Ended { account: "A".to_owned(), stream: String::new(), group };
        let over = entry_after(ended, stream);
        assert!(over.ended && over.reshaping.is_none());
        assert_eq!(over.waited_for().map(|(_, peer)| peer).collect::<Vec<_>>(), peers);
    }
}
