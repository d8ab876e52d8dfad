//! The schedules of a stream: messages that tell when others are to be published (jetstream, "Scheduled messages").
//!
//! A schedule is always the newest message of its subject: it replaces those before it, and one behind it cancels it.
//! What it leads to is a message that names it and says when it is due next, or that it is over. Storing that message
//! moves the schedule on, so that after a restart nothing is published twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use linnet_ids::{Mono, StreamSeq, Wall};
use linnet_store::Record;
use linnet_wire::headers;

use super::{Moment, Stream};
use crate::output::Output;
use crate::schedule::Schedule;

/// Schedules are looked at at most this often.
pub(super) const SPACING: Duration = Duration::from_millis(250);

pub(super) const SCHEDULER: &str = "Nats-Scheduler";
pub(super) const NEXT: &str = "Nats-Schedule-Next";
/// The value of [`NEXT`] that ends a schedule.
pub(super) const OVER: &[u8] = b"purge";

/// When the schedules of a stream are due.
#[derive(Default)]
pub(super) struct Schedules {
    next: BTreeMap<StreamSeq, Wall>,
    due: BTreeSet<(Wall, StreamSeq)>,
    /// Schedules that messages in flight move on or end, with the number of those messages.
    moving: HashMap<Vec<u8>, usize>,
    /// When to look at them; known to the leader alone.
    look: Option<Mono>,
    is_time: bool,
}

impl Schedules {
    fn insert(&mut self, seq: StreamSeq, at: Wall) {
        self.remove(seq);
        self.next.insert(seq, at);
        self.due.insert((at, seq));
    }

    pub(super) fn remove(&mut self, seq: StreamSeq) {
        if let Some(at) = self.next.remove(&seq) {
            self.due.remove(&(at, seq));
        }
    }

    /// Forgets messages that are gone.
    pub(super) fn retain(&mut self, mut is_there: impl FnMut(StreamSeq) -> bool) {
        self.next.retain(|seq, _| is_there(*seq));
        let next = &self.next;
        self.due.retain(|(_, seq)| next.contains_key(seq));
    }

    pub(super) fn contains(&self, seq: StreamSeq) -> bool {
        self.next.contains_key(&seq)
    }

    /// Those due at `now`, in order.
    pub(super) fn due(&self, now: Wall) -> Vec<(Wall, StreamSeq)> {
        self.due.range(..=(now, StreamSeq::MAX)).copied().collect()
    }

    /// Does not ask for this one again until the stream is opened anew: it cannot be read.
    pub(super) fn set_aside(&mut self, due: Wall, seq: StreamSeq) {
        self.due.remove(&(due, seq));
    }

    /// A message is on its way into the log.
    pub(super) fn departed(&mut self, block: &[u8]) {
        if let Some(scheduler) = headers::get(block, SCHEDULER).filter(|s| !s.is_empty()) {
            *self.moving.entry(scheduler.to_vec()).or_default() += 1;
        }
    }

    /// It is applied.
    pub(super) fn arrived(&mut self, block: &[u8]) {
        let Some(scheduler) = headers::get(block, SCHEDULER) else { return };
        if let Some(count) = self.moving.get_mut(scheduler) {
            *count -= 1;
            if *count == 0 {
                self.moving.remove(scheduler);
            }
        }
    }

    pub(super) fn is_moving(&self, subject: &[u8]) -> bool {
        self.moving.contains_key(subject)
    }

    /// Sets the timer by what is due first, unless it is set to an earlier time.
    pub(super) fn plan(&mut self, now: Mono, wall: Wall) {
        let planned = self.due.first().map(|(due, _)| {
            let wait = due.0.saturating_sub(wall.0);
            now + Duration::from_nanos(u64::try_from(wait).unwrap_or(0)).max(SPACING)
        });
        self.look = planned.map(|planned| self.look.map_or(planned, |look| look.min(planned)));
    }

    /// Sets the timer.
    pub(super) fn look_at(&mut self, at: Mono) {
        self.look = (!self.due.is_empty()).then_some(at);
    }

    pub(super) fn next_look(&self) -> Option<Mono> {
        self.look
    }

    /// If it is time, they are looked at with the next messages.
    pub(super) fn note_time(&mut self, now: Mono) {
        if self.look.is_some_and(|due| due <= now) {
            self.is_time = true;
            self.look = Some(now + SPACING);
        }
    }

    pub(super) fn is_time(&self) -> bool {
        self.is_time
    }

    /// They were looked at.
    pub(super) fn looked(&mut self, now: Mono, wall: Wall) {
        self.is_time = false;
        self.look = None;
        self.plan(now, wall);
    }

    /// Form for a checkpoint.
    pub(super) fn save(&self) -> Vec<(StreamSeq, i64)> {
        self.next.iter().map(|(seq, at)| (*seq, at.0)).collect()
    }

    /// Inverse of [`Schedules::save`].
    pub(super) fn load(saved: &[(StreamSeq, i64)]) -> Self {
        let mut schedules = Self::default();
        for (seq, at) in saved {
            schedules.insert(*seq, Wall(*at));
        }
        schedules
    }
}

impl Stream {
    /// A message is about to be stored. If it is a schedule it will be followed, and the one on its subject is over
    /// in any case.
    pub(super) fn note_schedule(&mut self, record: &Record<'_>) {
        if let Some(old) = self.store.subject(record.subject).map(|s| s.last) {
            self.schedules.remove(old);
        }
        let Some(pattern) = headers::get(record.headers, "Nats-Schedule").filter(|p| !p.is_empty()) else {
            return;
        };
        let zone = headers::get(record.headers, "Nats-Schedule-Time-Zone");
        let schedule = Schedule::parse(pattern, zone).ok();
        if let Some(first) = schedule.and_then(|schedule| schedule.first(record.timestamp)) {
            self.schedules.insert(record.seq, first);
        }
    }

    /// A message may move a schedule on, or end it.
    pub(super) fn move_schedule(&mut self, block: &[u8], at: Moment, out: &mut dyn Output) {
        let Some(scheduler) = headers::get(block, SCHEDULER) else { return };
        let Some(seq) = self.schedule_on(scheduler) else { return };
        match headers::get(block, NEXT) {
            Some(OVER) => {
                self.remove_message(seq, false, at, out);
            }
            Some(next) => {
                let next = std::str::from_utf8(next).ok().and_then(Wall::parse_rfc3339);
                if let Some(next) = next {
                    self.schedules.insert(seq, next);
                }
            }
            None => {}
        }
    }

    /// The schedule on a subject.
    pub(super) fn schedule_on(&self, subject: &[u8]) -> Option<StreamSeq> {
        let last = self.store.subject(subject)?.last;
        self.schedules.contains(last).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_due_in_order_and_survive_a_checkpoint() {
        let mut schedules = Schedules::default();
        schedules.insert(1, Wall(30));
        schedules.insert(2, Wall(10));
        schedules.insert(3, Wall(20));
        schedules.insert(2, Wall(25));
        assert_eq!(schedules.due(Wall(29)), [(Wall(20), 3), (Wall(25), 2)]);
        schedules.set_aside(Wall(20), 3);
        assert_eq!(schedules.due(Wall(99)), [(Wall(25), 2), (Wall(30), 1)]);
        let mut again = Schedules::load(&schedules.save());
        assert_eq!(again.due(Wall(20)), [(Wall(20), 3)]);
        again.retain(|seq| seq != 3);
        again.remove(1);
        assert_eq!(again.due(Wall(99)), [(Wall(25), 2)]);
    }

    #[test]
    fn a_schedule_is_not_looked_at_before_it_is_due_nor_too_often() {
        let at = |millis| Mono::default() + Duration::from_millis(millis);
        let mut schedules = Schedules::default();
        schedules.plan(at(0), Wall(0));
        assert_eq!(schedules.next_look(), None);
        schedules.insert(1, Wall(1_000_000_000));
        schedules.plan(at(0), Wall(0));
        assert_eq!(schedules.next_look(), Some(at(1000)));
        schedules.note_time(at(999));
        assert!(!schedules.is_time());
        schedules.note_time(at(1000));
        assert!(schedules.is_time());
        assert_eq!(schedules.next_look(), Some(at(1250)));
        // What happens meanwhile does not put it off.
        schedules.plan(at(1200), Wall(1_200_000_000));
        assert_eq!(schedules.next_look(), Some(at(1250)));
        schedules.looked(at(1260), Wall(1_260_000_000));
        assert!(!schedules.is_time());
        assert_eq!(schedules.next_look(), Some(at(1510)));
    }
}
