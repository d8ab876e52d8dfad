//! Messages that go with time.

use std::time::Duration;

use linnet_ids::{Mono, Wall};
use linnet_store::Filter;

use super::Stream;
use super::markers::Leaving;
use crate::entry::Entry;

/// Expiry by age runs at most this often.
const EXPIRE_SPACING: Duration = Duration::from_millis(250);

impl Stream {
    /// Proposes the removal of messages that are too old or whose time is over.
    pub(super) fn expire(&mut self, now: Mono, wall: Wall) {
        if self.expiry_in_flight || self.next_expiry.is_none_or(|due| now < due) {
            return;
        }
        if !self.is_open() || (self.leaves_markers() && !self.may_mark(wall)) {
            self.next_expiry = Some(now + EXPIRE_SPACING);
            return;
        }
        let mut leaving = Leaving::default();
        let cutoff = self.age_cutoff(wall);
        if self.oldest_that_ages().is_some_and(|oldest| oldest <= cutoff) {
            self.expiry_in_flight = true;
            let cutoff = self.mark_aged(cutoff, &mut leaving, wall);
            self.propose(&Entry::Expire(cutoff), None);
        }
        if self.ttls.first_due().is_some_and(|due| due <= wall) {
            self.expiry_in_flight = true;
            let until = self.mark_expired(wall, &mut leaving, wall);
            self.propose(&Entry::ExpireOwn(until), None);
        }
        self.schedule_expiry(now, wall);
    }

    /// Messages stored at or before this are too old.
    fn age_cutoff(&self, wall: Wall) -> Wall {
        Wall(wall.0.saturating_sub(self.config.max_age.0))
    }

    /// When the oldest message was stored that `max_age` concerns, if the stream has one.
    fn oldest_that_ages(&mut self) -> Option<Wall> {
        if self.config.max_age.0 <= 0 {
            return None;
        }
        loop {
            let seq = self.store.next(self.ages_from, &Filter::all())?;
            if !self.ttls.is_exempt(seq) {
                self.ages_from = seq;
                return if seq == self.store.state().first_seq {
                    self.store.first_timestamp()
                } else {
                    self.store.timestamp(seq)
                };
            }
            self.ages_from = seq + 1;
        }
    }

    /// Sets the expiry timer by what expires first.
    pub(super) fn schedule_expiry(&mut self, now: Mono, wall: Wall) {
        let by_age =
            self.oldest_that_ages().map(|oldest| Wall(oldest.0.saturating_add(self.config.max_age.0)));
        let first = by_age.into_iter().chain(self.ttls.first_due()).min();
        self.next_expiry = first.map(|due| {
            let wait = due.0.saturating_sub(wall.0);
            now + Duration::from_nanos(u64::try_from(wait).unwrap_or(0)).max(EXPIRE_SPACING)
        });
    }
}
