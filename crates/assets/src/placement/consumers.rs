//! Consumers, which live on members of their stream.

use linnet_ids::PeerId;
use linnet_jsapi::ApiError;
use linnet_jsapi::errors::INSUFFICIENT_RESOURCES;

use super::group::{Group, Plan, Planner, majority};

impl Planner<'_> {
    /// Members for a new consumer of `replicas` replicas (1 or more) on the stream's members: all of them, or any of
    /// those that are online if there are more than needed.
    ///
    /// # Errors
    /// 10023 if the stream has too few members, if too few of them are online, or if one of several has reached
    /// `max_ha_assets`.
    pub fn create_consumer(&self, stream: &Group<'_>, replicas: usize) -> Result<Plan, ApiError> {
        let online = self.online(stream.peers);
        let needed = if replicas < stream.peers.len() { replicas } else { majority(replicas) };
        if replicas == 0 || replicas > stream.peers.len() || online.len() < needed {
            return Err(INSUFFICIENT_RESOURCES);
        }
        let peers = if replicas < stream.peers.len() {
            self.shuffled(&online)[..replicas].to_vec()
        } else {
            stream.peers.to_vec()
        };
        if peers.len() > 1 && peers.iter().any(|p| self.is_full(*p)) {
            return Err(INSUFFICIENT_RESOURCES);
        }
        let preferred = self.preferred(&peers, None);
        Ok(Plan { cluster: stream.cluster.to_owned(), peers, preferred })
    }

    /// Members of a consumer of `replicas` replicas after those of its stream became `stream`: it keeps those that
    /// are still there, and gets others, online ones first, as far as there are any. If the result has none of
    /// `consumer`, its state is lost.
    pub fn follow_stream(&self, stream: &[PeerId], consumer: &[PeerId], replicas: usize) -> Vec<PeerId> {
        let kept = consumer.iter().copied().filter(|p| stream.contains(p));
        let others = self.shuffled(stream).into_iter().filter(|p| !consumer.contains(p));
        let (online, offline): (Vec<PeerId>, Vec<PeerId>) = others.partition(|p| self.fleet.is_online(*p));
        kept.chain(online).chain(offline).take(replicas).collect()
    }

    pub(super) fn is_full(&self, peer: PeerId) -> bool {
        self.fleet.get(peer).is_some_and(|c| self.fleet.limits().is_full(c))
    }
}
