//! Which schedules are accepted, and who may say that one is over.

use linnet_ids::Wall;
use linnet_jsapi::errors::{self, ApiError};
use linnet_wire::headers;

use super::Stream;
use super::admit::Judged;
use super::batch::Earlier;
use super::draft::{Draft, Incoming};
use super::schedules::OVER;
use super::ttl::Ttl;
use crate::schedule::{BadSchedule, Schedule};

/// What a schedule says besides when it is due. A header without a value says nothing, but where that is said.
#[derive(Clone, Copy, Default)]
pub(super) struct Terms<'a> {
    pub(super) target: &'a [u8],
    pub(super) source: &'a [u8],
    pub(super) ttl: &'a [u8],
    pub(super) rollup: &'a [u8],
    /// Also one without a value: it is wrong, not absent.
    pub(super) zone: Option<&'a [u8]>,
}

impl<'a> Terms<'a> {
    pub(super) fn read(block: &'a [u8]) -> Self {
        let value = |key| headers::get(block, key).unwrap_or_default();
        Self {
            target: value("Nats-Schedule-Target"),
            source: value("Nats-Schedule-Source"),
            ttl: value("Nats-Schedule-TTL"),
            rollup: value("Nats-Schedule-Rollup"),
            zone: headers::get(block, "Nats-Schedule-Time-Zone"),
        }
    }
}

impl Stream {
    /// Judges what a message says of schedules. A schedule replaces what is on its subject.
    pub(super) fn check_schedule(
        &self,
        message: &Incoming<'_>,
        earlier: &Earlier,
        draft: &mut Draft<'_>,
        now: Wall,
    ) -> Result<(), Judged> {
        let wishes = &message.wishes;
        if let Some(pattern) = wishes.schedule {
            self.check_terms(pattern, message, now)?;
            if wishes.rollup.is_none() {
                draft.set_header("Nats-Rollup", Some(b"sub"));
            }
        }
        if wishes.scheduler.is_none() && wishes.schedule_next.is_none() {
            return Ok(());
        }
        let scheduler = wishes.scheduler.unwrap_or_default();
        let is_end = wishes.schedule_next == Some(OVER);
        if !is_end || !linnet_subject::is_valid_literal(scheduler) || scheduler == message.subject {
            return Err(errors::MESSAGE_SCHEDULES_SCHEDULER_INVALID.into());
        }
        if !self.config.allow_msg_schedules {
            return Err(errors::MESSAGE_SCHEDULES_DISABLED.into());
        }
        if earlier.on(scheduler) > 0 {
            return Ok(());
        }
        if self.in_flight.subject(scheduler).is_some() {
            return Err(Judged::Wait);
        }
        if self.store.subject(scheduler).is_some() && self.schedule_on(scheduler).is_none() {
            return Err(errors::MESSAGE_SCHEDULES_SCHEDULER_INVALID.into());
        }
        Ok(())
    }

    fn check_terms(&self, pattern: &[u8], message: &Incoming<'_>, now: Wall) -> Result<(), ApiError> {
        if !self.config.allow_msg_schedules {
            return Err(errors::MESSAGE_SCHEDULES_DISABLED);
        }
        let terms = Terms::read(message.headers());
        let schedule = Schedule::parse(pattern, terms.zone).map_err(|bad| match bad {
            BadSchedule::Zone => errors::MESSAGE_SCHEDULES_TIME_ZONE_INVALID,
            BadSchedule::Pattern => errors::MESSAGE_SCHEDULES_PATTERN_INVALID,
        })?;
        schedule.first(now).ok_or(errors::MESSAGE_SCHEDULES_PATTERN_INVALID)?;
        if !terms.ttl.is_empty() {
            Ttl::parse(terms.ttl).ok_or(errors::MESSAGE_SCHEDULES_TTL_INVALID)?;
            if !self.config.allow_msg_ttl {
                return Err(errors::MESSAGE_TTL_DISABLED);
            }
        }
        let rolls_up = |scope: &[u8]| scope.is_empty() || scope.eq_ignore_ascii_case(b"sub");
        if !terms.rollup.is_empty() && terms.rollup != b"sub" {
            return Err(errors::MESSAGE_SCHEDULES_ROLLUP_INVALID);
        }
        let (target, source) = (terms.target, terms.source);
        if target == message.subject || !linnet_subject::is_valid_literal(target) {
            return Err(errors::MESSAGE_SCHEDULES_TARGET_INVALID);
        }
        let is_own = source == target || source == message.subject;
        if !source.is_empty() && (is_own || !linnet_subject::is_valid_literal(source)) {
            return Err(errors::MESSAGE_SCHEDULES_SOURCE_INVALID);
        }
        if !self.listens_to(target) {
            return Err(errors::MESSAGE_SCHEDULES_TARGET_INVALID);
        }
        if !source.is_empty() && !self.listens_to(source) {
            return Err(errors::MESSAGE_SCHEDULES_SOURCE_INVALID);
        }
        if !message.wishes.rollup.is_none_or(rolls_up) {
            return Err(errors::MESSAGE_SCHEDULES_ROLLUP_INVALID);
        }
        Ok(())
    }

    fn listens_to(&self, subject: &[u8]) -> bool {
        self.config.subjects.iter().any(|pattern| linnet_subject::is_subset(subject, pattern.as_bytes()))
    }
}
