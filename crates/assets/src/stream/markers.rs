//! Markers that expired subjects leave (jetstream, "TTL, delete markers, rollup").
//!
//! A marker is a message that rolls up its subject. It is written to the log in front of the entry that removes what
//! expired: applying it removes the last of its subject, and the entry behind it removes what leaves no marker.

use std::collections::{HashMap, HashSet};

use linnet_ids::{StreamSeq, Wall};
use linnet_jsapi::{Nanos, go_duration};
use linnet_store::{Filter, Record};
use linnet_wire::headers;

use super::Stream;
use super::ttl::Ttl;

/// Markers stored in one go; what expires beyond them waits for the next time.
const MARKERS_MAX: u64 = 1024;

/// Shortest life of a message, in nanoseconds.
const TTL_MIN_NANOS: i64 = 1_000_000_000;

/// What leaves a stream in one go.
#[derive(Default)]
pub(super) struct Leaving {
    seqs: HashSet<StreamSeq>,
    per_subject: HashMap<Vec<u8>, u64>,
    markers: u64,
}

impl Stream {
    /// True if the last message of a subject leaves a marker when it expires.
    pub(super) fn leaves_markers(&self) -> bool {
        !self.config.subject_delete_marker_ttl.is_zero()
    }

    /// True if it can be told what leaves a marker now: not while messages are in flight that may have expired
    /// before they are applied, since the removal in front of which markers stand comes behind them.
    pub(super) fn may_mark(&self, now: Wall) -> bool {
        let life = match self.config.max_age.0 {
            max_age if max_age > 0 => max_age.min(TTL_MIN_NANOS),
            _ => TTL_MIN_NANOS,
        };
        let expired = Wall(now.0.saturating_sub(life));
        let in_time = self.store.state().last_ts.is_some_and(|newest| newest > expired);
        self.room > 0 && (in_time || self.in_flight.is_empty())
    }

    /// Life of a marker in whole seconds, 0 if there are none.
    pub(super) fn marker_seconds(&self) -> u64 {
        self.config.subject_delete_marker_ttl.to_duration().as_secs()
    }

    /// Stores the markers of subjects whose messages were all stored at or before `cutoff`. Up to when messages may
    /// go now.
    pub(super) fn mark_aged(&mut self, cutoff: Wall, leaving: &mut Leaving, now: Wall) -> Wall {
        if !self.leaves_markers() {
            return cutoff;
        }
        let mut from = 0;
        while let Some(seq) = self.store.next(from, &Filter::all()) {
            from = seq + 1;
            if self.ttls.is_exempt(seq) {
                continue;
            }
            // One that is damaged goes with the next that is not, and leaves nothing.
            let Some(stored) = self.store.timestamp(seq) else { continue };
            if stored > cutoff {
                break;
            }
            if leaving.markers >= MARKERS_MAX.min(self.room) {
                return Wall(stored.0 - 1);
            }
            self.leave(seq, leaving, now);
        }
        cutoff
    }

    /// The same for messages whose own time is over at `until`.
    pub(super) fn mark_expired(&mut self, until: Wall, leaving: &mut Leaving, now: Wall) -> Wall {
        if !self.leaves_markers() {
            return until;
        }
        for (due, seq) in self.ttls.expired_until(until) {
            if leaving.markers >= MARKERS_MAX.min(self.room) {
                return Wall(due.0 - 1);
            }
            self.leave(seq, leaving, now);
        }
        until
    }

    /// A message expires. If it is the last of its subject and no marker itself, it leaves one.
    fn leave(&mut self, seq: StreamSeq, leaving: &mut Leaving, now: Wall) {
        if !leaving.seqs.insert(seq) {
            return;
        }
        let Some(subject) = self.store.subject_of(seq).map(<[u8]>::to_vec) else { return };
        let gone = leaving.per_subject.entry(subject.clone()).or_default();
        *gone += 1;
        let is_last = self.store.subject(&subject).is_some_and(|s| s.msgs == *gone)
            && self.in_flight.subject(&subject).is_none();
        if is_last && self.store.inspect(seq, is_marker) == Some(false) {
            self.store_marker(&subject, now);
            leaving.markers += 1;
        }
    }

    /// How many seconds a message lives if its own life is shorter than that of the marker it leaves.
    pub(super) fn longer_life(&self, ttl: Ttl) -> Option<u64> {
        let seconds = self.marker_seconds();
        let Ttl::After(life) = ttl else { return None };
        (life.as_secs() < seconds && self.config.max_msgs_per_subject != 1).then_some(seconds)
    }

    fn store_marker(&mut self, subject: &[u8], now: Wall) {
        let mut block = Vec::with_capacity(96);
        let life = Nanos::from_secs(i64::try_from(self.marker_seconds()).unwrap_or(i64::MAX));
        headers::begin(&mut block, "");
        headers::push(&mut block, "Nats-Marker-Reason", b"MaxAge");
        headers::push(&mut block, "Nats-TTL", go_duration::format(life).as_bytes());
        headers::push(&mut block, "Nats-Rollup", b"sub");
        headers::end(&mut block);
        self.make_room_in_entry(subject.len() + block.len());
        self.append_made(subject, block.len(), &block, now);
    }
}

/// True for what says that its subject is gone.
fn is_marker(record: &Record<'_>) -> bool {
    headers::get(record.headers, "Nats-Marker-Reason").is_some_and(|reason| !reason.is_empty())
        || headers::get(record.headers, "KV-Operation") == Some(b"PURGE")
}
