//! States on their way: what this server sends and what it takes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use linnet_assets::{Moment, Place};
use linnet_ids::{GroupId, Mono, PeerId};
use linnet_raft::{LogPoint, Snapshot};
use linnet_replication::transfer::{ChunkRequest, Description, Sink, Source, Sources};
use linnet_replication::{Log, StreamGroup};

/// States that are sent at once.
const SOURCES_MAX: usize = 2;
/// How long one is held that nobody asks for.
const PATIENCE: Duration = Duration::from_secs(6);
/// Bytes of a chunk.
const CHUNK: u32 = 700;
/// Chunks on their way at once.
const WINDOW: usize = 3;
/// After this time without a chunk it is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(1200);
/// How often in a row, before the transfer is given up.
const TRIES: u32 = 8;

/// What servers send each other about a state.
#[derive(Clone)]
pub(crate) enum Parcel {
    Ask(ChunkRequest),
    Chunk(Bytes),
    /// There is nothing of this transfer.
    Gone(u64),
}

/// What a broken server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoiled {
    /// A state that arrived is installed without its newest messages.
    End,
    /// A state is described as one of a later place of the log.
    Place,
}

/// A state that is being taken.
struct Taking {
    from: PeerId,
    snapshot: Snapshot,
    sink: Sink,
    heard: Mono,
    tries: u32,
}

/// What became of transfers, for the count.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) begun: u64,
    pub(crate) done: u64,
    pub(crate) given_up: u64,
}

pub(crate) struct Transfers {
    sources: Sources,
    taking: Option<Taking>,
    next: u64,
    pub(crate) counts: Counts,
    group: GroupId,
    spoiled: Option<Spoiled>,
}

impl Transfers {
    pub(crate) fn new(group: GroupId, boot: u64, spoiled: Option<Spoiled>) -> Self {
        let sources = Sources::new(SOURCES_MAX, PATIENCE);
        let next = boot.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { sources, taking: None, next, counts: Counts::default(), group, spoiled }
    }

    /// A state for a peer; `None` if there is none now.
    pub(crate) fn offer(&mut self, group: &mut StreamGroup, peer: PeerId, now: Mono) -> Option<Snapshot> {
        if !self.sources.has_room(self.group, peer) {
            return None;
        }
        self.next = self.next.wrapping_add(1);
        let source = Arc::new(Source::with_chunks_of(group.stream_mut(), self.next, CHUNK));
        let mut snapshot = group.snapshot_of_applied(source.description())?;
        if self.spoiled == Some(Spoiled::Place) {
            snapshot.last = LogPoint { index: snapshot.last.index + 1, ..snapshot.last };
        }
        self.sources.hold(self.group, peer, source, now).ok()?;
        Some(snapshot)
    }

    /// Answers a request for a chunk.
    pub(crate) fn answer(&mut self, peer: PeerId, request: ChunkRequest, now: Mono) -> Parcel {
        let source = self.sources.find(peer, request.transfer, now);
        match source.map(|source| source.chunk(request)) {
            Some(Ok(chunk)) => Parcel::Chunk(chunk.bytes),
            _ => Parcel::Gone(request.transfer),
        }
    }

    /// Begins to take a state, unless that one is being taken.
    pub(crate) fn take(&mut self, group: &mut StreamGroup, snapshot: Snapshot, now: Mono) {
        let Some(from) = group.status().and_then(|status| status.leader) else { return };
        let offered = Description::from_bytes(&snapshot.body).map(|description| description.transfer).ok();
        if self.taking.as_ref().is_some_and(|taking| Some(taking.sink.transfer()) == offered) {
            return;
        }
        self.give_up();
        if let Ok(sink) = Sink::begin(group.stream_mut().store_mut(), &snapshot.body) {
            self.counts.begun += 1;
            self.taking = Some(Taking { from, snapshot, sink, heard: now, tries: 0 });
        }
    }

    fn give_up(&mut self) {
        if let Some(taking) = self.taking.take() {
            self.counts.given_up += 1;
            taking.sink.discard();
        }
    }

    /// The sender has nothing of this transfer.
    pub(crate) fn gone(&mut self, transfer: u64) {
        if self.taking.as_ref().is_some_and(|taking| taking.sink.transfer() == transfer) {
            self.give_up();
        }
    }

    /// A chunk arrived.
    pub(crate) fn chunk(&mut self, group: &mut StreamGroup, bytes: &Bytes, at: Moment, log: &mut dyn Log) {
        let Some(taking) = &mut self.taking else { return };
        match taking.sink.take(bytes) {
            Err(error) if error.is_final() => self.give_up(),
            Err(_) => {}
            Ok(progress) => {
                (taking.heard, taking.tries) = (at.now, 0);
                if progress.is_complete {
                    self.finish(group, at, log);
                }
            }
        }
    }

    fn finish(&mut self, group: &mut StreamGroup, at: Moment, log: &mut dyn Log) {
        let Some(taking) = self.taking.take() else { return };
        let outcome = taking.sink.finish(at.wall).ok().map(Box::new);
        let refused = outcome.map(|received| {
            group.take_over(at, &taking.snapshot, received, Place::default(), log).map_err(|r| r.discard())
        });
        match refused {
            Some(Ok(())) => {
                self.counts.done += 1;
                if self.spoiled == Some(Spoiled::End) {
                    let store = group.stream_mut().store_mut();
                    let last = store.state().last_seq;
                    store.remove(last, false);
                }
            }
            _ => self.counts.given_up += 1,
        }
    }

    /// What to ask for, and whom.
    pub(crate) fn on_time(&mut self, now: Mono) -> Vec<(PeerId, Parcel)> {
        self.sources.expire(now);
        let Some(taking) = &mut self.taking else { return Vec::new() };
        if taking.heard + ASK_AGAIN <= now {
            taking.sink.ask_again();
            (taking.heard, taking.tries) = (now, taking.tries + 1);
        }
        if taking.tries > TRIES {
            self.give_up();
            return Vec::new();
        }
        let from = taking.from;
        let requests = taking.sink.next_requests(WINDOW);
        requests.into_iter().map(|request| (from, Parcel::Ask(request))).collect()
    }

    /// True while somebody takes the state of this replica.
    pub(crate) fn is_sending(&self) -> bool {
        self.sources.is_sending(self.group)
    }

    pub(crate) fn next_due(&self) -> Option<Mono> {
        let taking = self.taking.as_ref().map(|taking| taking.heard + ASK_AGAIN);
        taking.into_iter().chain(self.sources.next_due()).min()
    }
}
