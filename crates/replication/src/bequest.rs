//! A group in memory of which too few remember anything goes on as another one, with what the most advanced of its replicas
//! holds (rule R8).

use linnet_assets::{EntryError, Moment, Nobody, Stream, Waiter};
use linnet_ids::{GroupId, Mono, Wall};
use linnet_raft::{LogPoint, Opening, Replica};
use linnet_store::{Filter, Kind, Lookup, Seed, StreamStore, encode_record};

use crate::catalogue::Assignment;
use crate::clustered::Myself;
use crate::group::StreamGroup;
use crate::log::Log;
use crate::open::{stored_ids, stream_of};

impl StreamGroup {
    /// Gives up, durably, everything that this replica promised its group: it counts for nothing there any more, and keeps
    /// what it holds. False if it knows a leader, or is none of several replicas.
    pub fn give_up(&mut self, now: Mono, log: &mut dyn Log) -> bool {
        self.replica_mut().is_some_and(|replica| replica.give_up_promises(now, log))
    }

    /// What a replica in memory that counts for nothing holds, with everything that its log has, committed or not. Nothing
    /// is left of it here. `None` if it counts, or never got anything.
    ///
    /// # Errors
    /// An entry of its log cannot be understood.
    pub fn bequeath(&mut self, at: Moment) -> Result<Option<Stream>, EntryError> {
        let has_content = self.status().is_some_and(|status| status.is_amnesiac && status.last > 0);
        if !has_content || !self.stream.store().is_memory() || self.stream.is_leading() {
            return Ok(None);
        }
        let rest = self.replica_ref().map(|replica| replica.driver().rest_after(self.applied.index));
        let at = Moment { live: false, ..at };
        for payload in rest.unwrap_or_default() {
            self.stream.apply_with(&payload, &Waiter::default(), at, &mut Nobody)?;
        }
        let config = self.stream.config().clone();
        let store = StreamStore::new(Kind::Memory, Seed::of(self.group()), 0, config.max_msgs_per_subject);
        let place = self.stream.place().clone();
        let mut nothing = Stream::new(config, Wall(0), place, store, Vec::new(), at.now);
        nothing.become_replica();
        Ok(Some(std::mem::replace(&mut self.stream, nothing)))
    }
}

/// The same stream with records of another group. What cannot be read is left out.
fn rewritten(content: &Stream, seed: Seed, now: Mono, wall: Wall) -> Stream {
    let saved = content.saved();
    let old = content.store();
    let state = *old.state();
    let mut store = StreamStore::new(Kind::Memory, seed, state.first_seq, saved.config.max_msgs_per_subject);
    let mut encoded = Vec::new();
    let mut next = old.next(0, &Filter::all());
    while let Some(seq) = next {
        if let Lookup::Found(record) = old.get(seq, true) {
            encoded.clear();
            let header_len = record.headers.len();
            encode_record(&mut encoded, seed, seq, record.timestamp, record.subject, header_len, record.body);
            store.append(&encoded);
        }
        next = old.next(seq + 1, &Filter::all());
    }
    if store.state().last_seq < state.last_seq {
        store.pass_over(state.last_seq, state.last_ts.unwrap_or_default());
    }
    let ids = stored_ids(&store, &saved.config, wall);
    let mut stream = stream_of(saved, store, &ids, content.created(), content.place().clone(), now);
    stream.finish_replay(now, wall);
    stream
}

impl Assignment {
    /// The first replica of a group that goes on with what another group's replica held.
    pub fn begin_with(
        &self,
        group: GroupId,
        content: &Stream,
        me: Myself,
        (now, wall): (Mono, Wall),
        log: &mut dyn Log,
    ) -> StreamGroup {
        let content = rewritten(content, Seed::of(group), now, wall);
        let incarnation = self.replica(me.peer).map_or(0, |replica| replica.incarnation);
        // The history of the group begins behind a state that nobody else has.
        let last = LogPoint { index: 1, term: 1, chain: group.random };
        let opening = Opening::alone(group, Replica { peer: me.peer, incarnation }, last, 1, me.seed);
        StreamGroup::replica(opening, content, Some(self.owner()), now, log)
    }
}
