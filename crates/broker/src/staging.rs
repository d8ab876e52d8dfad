//! What a publisher has ready for connections and not handed over yet.
//!
//! Taking a connection's lock for each message would cost more than formatting the message. So a publisher formats
//! into a buffer of its own per connection and hands over whole batches. Members of queue groups are left out: a
//! member that drains would be chosen before its UNSUB and get the message behind the PONG that follows it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::chunk::{CHUNK_MAX, recycle, take_buffer};
use crate::conn::Conn;
use crate::lanes::{Lanes, Place};
use crate::outbound::{Content, Pushed};
use crate::subscription::SubRef;

/// Subscriptions of one connection whose counts a batch holds back at most.
const RUNS_MAX: usize = 64;
/// Batches that an idle publisher keeps memory for.
const KEPT_MAX: usize = 16;

/// Batches for connections, and the connections somebody has to write out.
#[derive(Default)]
pub(crate) struct Staging {
    /// Something may be left to hand over.
    pub(crate) holds_messages: bool,
    /// Messages to many.
    pub(crate) lanes: Lanes,
    batches: Vec<Batch>,
    index: HashMap<usize, usize, foldhash::fast::RandomState>,
}

/// Messages for one connection.
pub(crate) struct Batch {
    pub(crate) conn: Arc<Conn>,
    /// The publisher has promised to write the connection's queue out.
    pub(crate) owes_flush: bool,
    /// What the batch holds as part of a lane; `bytes` is empty then.
    shared: Option<Place>,
    bytes: Vec<u8>,
    msgs: u64,
    msg_bytes: u64,
    /// Messages of the subscription that was delivered to last, and of those before it.
    run: Option<(SubRef, u64)>,
    earlier_runs: Vec<(SubRef, u64)>,
}

/// A batch's messages and their bytes that have reached the connection's queue, and what its queue said.
pub(crate) struct HandedOver {
    pub(crate) msgs: u64,
    pub(crate) msg_bytes: u64,
    pub(crate) pushed: Pushed,
}

impl Staging {
    /// Where the connection's batch is.
    #[inline]
    pub(crate) fn position(&mut self, conn: &Arc<Conn>) -> usize {
        // Publishers tend to meet the same connections in the same order.
        let hint = conn.staged_at.load(Ordering::Relaxed);
        if self.batches.get(hint).is_some_and(|batch| Arc::ptr_eq(&batch.conn, conn)) {
            return hint;
        }
        self.find_or_begin(conn)
    }

    fn find_or_begin(&mut self, conn: &Arc<Conn>) -> usize {
        let at = *self.index.entry(Arc::as_ptr(conn) as usize).or_insert(self.batches.len());
        if at == self.batches.len() {
            self.batches.push(Batch::new(conn.clone()));
        }
        conn.staged_at.store(at, Ordering::Relaxed);
        at
    }

    #[inline]
    pub(crate) fn batch(&mut self, at: usize) -> &mut Batch {
        &mut self.batches[at]
    }

    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    /// Adds a message of at most `size` bytes to the connection's batch, which has room for it.
    #[inline]
    pub(crate) fn add(&mut self, at: usize, size: usize, write: impl FnOnce(&mut Vec<u8>)) -> &mut Batch {
        self.holds_messages = true;
        let batch = &mut self.batches[at];
        write(batch.room(size, &self.lanes));
        batch
    }

    /// Adds a message that stands in a lane.
    #[inline]
    pub(crate) fn add_place(&mut self, at: usize, place: Place) -> &mut Batch {
        self.holds_messages = true;
        let batch = &mut self.batches[at];
        batch.add_place(place, &self.lanes);
        batch
    }

    /// True if the batch is to be handed over before a message of at most `size` bytes is added.
    #[inline]
    pub(crate) fn is_full_for(&self, at: usize, size: usize) -> bool {
        self.batches[at].is_full_for(size)
    }

    /// Moves everything of a batch into the connection's queue.
    pub(crate) fn hand_over(&mut self, at: usize, max_pending: usize) -> Option<(Arc<Conn>, HandedOver)> {
        let batch = &mut self.batches[at];
        let handed = batch.hand_over(max_pending, &self.lanes)?;
        Some((batch.conn.clone(), handed))
    }

    /// Ends all batches, which must have been handed over; yields the connections that are to be written out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Arc<Conn>> + '_ {
        self.index.clear();
        self.batches.drain(..).filter_map(|batch| {
            recycle(batch.bytes);
            batch.owes_flush.then_some(batch.conn)
        })
    }

    /// Gives memory back after a message to many.
    pub(crate) fn shrink(&mut self) {
        if self.batches.is_empty() && self.batches.capacity() > KEPT_MAX {
            self.batches = Vec::new();
            self.index = HashMap::default();
        }
    }
}

impl Batch {
    fn new(conn: Arc<Conn>) -> Self {
        Self {
            conn,
            owes_flush: false,
            shared: None,
            bytes: Vec::new(),
            msgs: 0,
            msg_bytes: 0,
            run: None,
            earlier_runs: Vec::new(),
        }
    }

    /// Bytes that are not handed over yet.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len() + self.shared.as_ref().map_or(0, Place::len)
    }

    /// True if `size` more bytes would make the batch's own buffer larger than a chunk, or if it holds back too many
    /// counts.
    #[inline]
    fn is_full_for(&self, size: usize) -> bool {
        self.msgs > 0
            && ((!self.bytes.is_empty() && self.bytes.len() + size > CHUNK_MAX)
                || self.earlier_runs.len() >= RUNS_MAX)
    }

    /// The buffer to append a message of at most `size` bytes to.
    #[inline]
    fn room(&mut self, size: usize, lanes: &Lanes) -> &mut Vec<u8> {
        if self.shared.is_some() {
            self.copy_shared(lanes);
        }
        self.own_room(size)
    }

    fn own_room(&mut self, size: usize) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = take_buffer();
        }
        self.bytes.reserve(size);
        &mut self.bytes
    }

    /// Appends a message that stands in a lane.
    #[inline]
    fn add_place(&mut self, place: Place, lanes: &Lanes) {
        let joins = self.shared.as_mut().is_some_and(|shared| shared.extend(&place));
        if joins {
            return;
        }
        if self.shared.is_none() && self.bytes.is_empty() {
            self.shared = Some(place);
        } else {
            self.room(place.len(), lanes).extend_from_slice(lanes.bytes(&place));
        }
    }

    /// What was a part of a lane becomes the batch's own.
    fn copy_shared(&mut self, lanes: &Lanes) {
        if let Some(place) = self.shared.take() {
            self.own_room(place.len()).extend_from_slice(lanes.bytes(&place));
        }
    }

    /// Counts a message that was appended.
    #[inline]
    pub(crate) fn count(&mut self, sub: &SubRef, body_len: usize) {
        self.msgs += 1;
        self.msg_bytes += body_len as u64;
        match &mut self.run {
            Some((last, count)) if last == sub => *count += 1,
            _ => self.begin_run(sub),
        }
    }

    /// As [`Batch::count`], of a message that belongs to no subscription here.
    pub(crate) fn count_unnamed(&mut self, body_len: usize) {
        self.msgs += 1;
        self.msg_bytes += body_len as u64;
    }

    fn begin_run(&mut self, sub: &SubRef) {
        self.earlier_runs.extend(self.run.replace((sub.clone(), 1)));
    }

    /// Moves everything into the connection's queue.
    fn hand_over(&mut self, max_pending: usize, lanes: &Lanes) -> Option<HandedOver> {
        if self.msgs == 0 {
            return None;
        }
        let shared = self.shared.as_ref().and_then(|place| lanes.share(place));
        if shared.is_some() {
            self.shared = None;
        } else {
            self.copy_shared(lanes);
        }
        let (msgs, msg_bytes) = (std::mem::take(&mut self.msgs), std::mem::take(&mut self.msg_bytes));
        let runs = self.earlier_runs.drain(..).chain(self.run.take());
        let content = match shared {
            Some(bytes) => Content::Shared(bytes),
            None => Content::Owned(&mut self.bytes),
        };
        let pushed = self.conn.outbound.take_in(content, (msgs, msg_bytes), runs, max_pending);
        if let Pushed::Queued { schedule, .. } = pushed {
            self.owes_flush |= schedule;
        }
        Some(HandedOver { msgs, msg_bytes, pushed })
    }
}
