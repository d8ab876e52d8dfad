use linnet_assets::{Moment, Place};
use linnet_raft::Snapshot;

use super::sink::Received;
use crate::group::{LogPosition, Seat, StreamGroup};
use crate::log::Log;

impl StreamGroup {
    /// Goes on with a state that a leader offered and that has arrived, in place of its own. The files of its own go as
    /// soon as the log has recorded the new one. Gives the state back if it is not wanted any more: nothing has changed
    /// then, and [`Received::discard`] removes it.
    pub fn take_over(
        &mut self,
        at: Moment,
        snapshot: &Snapshot,
        received: Box<Received>,
        place: Place,
        log: &mut dyn Log,
    ) -> Result<(), Box<Received>> {
        let Seat::Replica(replica) = &mut self.seat else { return Err(received) };
        if !replica.install(at.now, snapshot, received.body(), log) {
            return Err(received);
        }
        let durable_with = replica.driver().waits_for().unwrap_or_default();
        let created = self.stream.created();
        let (mut stream, left) = received.into_stream(self.stream.store_mut(), created, place, at.now);
        stream.become_replica();
        stream.finish_replay(at.now, at.wall);
        self.stream = stream;
        self.applied = LogPosition { index: snapshot.last.index, term: snapshot.last.term };
        self.begin_anew(durable_with, left);
        Ok(())
    }
}
