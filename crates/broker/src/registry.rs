use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use linnet_ids::Wall;
use parking_lot::Mutex;

use crate::close::CloseReason;
use crate::conn::{Conn, ConnSnapshot};
use crate::subscription::SubRef;

/// Subscriptions kept of a closed connection for `/connz?state=closed&subs=1`.
const CLOSED_SUBS_MAX: usize = 1024;

/// The open connections by id and a ring of the closed ones.
#[derive(Default)]
pub(crate) struct Registry {
    open: Mutex<BTreeMap<u64, Arc<Conn>>>,
    closed: Mutex<VecDeque<ClosedConn>>,
    total_closed: AtomicU64,
    next_cid: AtomicU64,
}

/// A connection that ended.
#[derive(Clone)]
pub struct ClosedConn {
    /// Its values when it ended.
    pub last: ConnSnapshot,
    /// When it ended.
    pub stop: Wall,
    /// Why.
    pub reason: CloseReason,
    /// Subjects it was subscribed to: subject, queue, sid, messages delivered.
    pub subscriptions: Vec<(String, Option<String>, String, u64)>,
}

impl Registry {
    pub(crate) fn next_cid(&self) -> u64 {
        self.next_cid.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds a connection unless `max` are open.
    pub(crate) fn admit(&self, conn: &Arc<Conn>, max: usize) -> bool {
        let mut open = self.open.lock();
        if open.len() >= max {
            return false;
        }
        open.insert(conn.cid(), conn.clone());
        true
    }

    pub(crate) fn remove(&self, cid: u64) {
        self.open.lock().remove(&cid);
    }

    pub(crate) fn remember(&self, closed: ClosedConn, max: usize) {
        self.total_closed.fetch_add(1, Ordering::Relaxed);
        let mut ring = self.closed.lock();
        while ring.len() >= max.max(1) {
            ring.pop_front();
        }
        if max > 0 {
            ring.push_back(closed);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.lock().len()
    }

    pub(crate) fn get(&self, cid: u64) -> Option<Arc<Conn>> {
        self.open.lock().get(&cid).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Conn>> {
        self.open.lock().values().cloned().collect()
    }

    pub(crate) fn closed(&self) -> Vec<ClosedConn> {
        self.closed.lock().iter().cloned().collect()
    }
}

/// Text form of subscriptions for the closed ring.
pub(crate) fn describe(subs: &[SubRef]) -> Vec<(String, Option<String>, String, u64)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    subs.iter()
        .take(CLOSED_SUBS_MAX)
        .map(|s| (text(&s.subject), s.queue.as_deref().map(text), text(&s.sid), s.delivered()))
        .collect()
}
