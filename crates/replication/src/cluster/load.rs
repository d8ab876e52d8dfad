//! What the streams of the catalogue ask of each server, kept as entries come and go: counting anew for every stream that is
//! placed would cost as much as there are streams.

use std::collections::HashMap;

use linnet_ids::PeerId;
use linnet_jsapi::policies::StorageType;

use crate::catalogue::Assignment;

/// What streams ask of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Streams that have a replica there.
    pub streams: u64,
    /// Those of them that have others elsewhere.
    pub ha_streams: u64,
    /// Bytes that streams in memory with a bound may come to take.
    reserved_memory: u128,
    /// The same of streams in files.
    reserved_storage: u128,
}

impl Load {
    /// Bytes that streams with a bound may come to take: memory, storage.
    pub fn reserved(&self) -> (u64, u64) {
        let bytes = |sum: u128| u64::try_from(sum).unwrap_or(u64::MAX);
        (bytes(self.reserved_memory), bytes(self.reserved_storage))
    }
}

/// The load of every server that has some.
#[derive(Debug, Default)]
pub(super) struct Loads(HashMap<PeerId, Load>);

impl Loads {
    pub(super) fn of(&self, peer: PeerId) -> Load {
        self.0.get(&peer).copied().unwrap_or_default()
    }

    /// An entry came.
    pub(super) fn add(&mut self, assignment: &Assignment) {
        self.change(assignment, |count| *count += 1, |sum, bytes| *sum += bytes);
    }

    /// An entry that came went.
    pub(super) fn remove(&mut self, assignment: &Assignment) {
        self.change(assignment, |count| *count -= 1, |sum, bytes| *sum -= bytes);
    }

    fn change(
        &mut self,
        assignment: &Assignment,
        count: impl Fn(&mut u64),
        reserve: impl Fn(&mut u128, u128),
    ) {
        if assignment.ended {
            return;
        }
        let peers: Vec<PeerId> = assignment.replicas().into_iter().map(|replica| replica.peer).collect();
        for peer in &peers {
            let load = self.0.entry(*peer).or_default();
            count(&mut load.streams);
            if peers.len() > 1 {
                count(&mut load.ha_streams);
            }
        }
        let bytes = u128::try_from(assignment.config.max_bytes).unwrap_or(0);
        for peer in assignment.holding_peers() {
            let load = self.0.entry(peer).or_default();
            match assignment.config.storage {
                StorageType::Memory => reserve(&mut load.reserved_memory, bytes),
                StorageType::File => reserve(&mut load.reserved_storage, bytes),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use linnet_ids::{GroupId, Wall};
    use linnet_jsapi::StreamConfig;

    use super::*;

    fn peer(name: &str) -> PeerId {
        PeerId::of_name(name)
    }

    fn stream(max_bytes: i64, names: &[&str]) -> Assignment {
        let group = GroupId { epoch: 0, meta_index: 1, random: 1 };
        let peers: Vec<PeerId> = names.iter().map(|name| peer(name)).collect();
        let config = StreamConfig { max_bytes, ..StreamConfig::default() };
        Assignment::new_stream("A", config, 1, group, &peers, &[])
    }

    #[test]
    fn what_comes_and_goes_leaves_nothing() {
        let mut loads = Loads::default();
        let (shared, alone, unbound) =
            (stream(10, &["a", "b"]), stream(i64::MAX, &["a"]), stream(-1, &["a"]));
        for assignment in [&shared, &alone, &unbound] {
            loads.add(assignment);
        }
        let a = loads.of(peer("a"));
        assert_eq!((a.streams, a.ha_streams, a.reserved()), (3, 1, (0, i64::MAX as u64 + 10)));
        assert_eq!(loads.of(peer("b")).reserved(), (0, 10));
        let mut ended = shared.clone();
        ended.end();
        loads.add(&ended);
        assert_eq!(loads.of(peer("a")), a, "what has ended asks for nothing");
        for assignment in [&shared, &alone, &unbound] {
            loads.remove(assignment);
        }
        assert_eq!((loads.of(peer("a")), loads.of(peer("b"))), (Load::default(), Load::default()));
    }

    #[test]
    fn a_server_that_a_stream_leaves_or_comes_to_keeps_room_for_it() {
        let mut moves = stream(10, &["a"]);
        let config = moves.config.clone();
        moves.reshape(stream(10, &["b"]).members, &config, Wall(1));
        let mut loads = Loads::default();
        loads.add(&moves);
        assert_eq!((loads.of(peer("a")).streams, loads.of(peer("a")).reserved()), (0, (0, 10)));
        assert_eq!((loads.of(peer("b")).streams, loads.of(peer("b")).reserved()), (1, (0, 10)));
    }
}
