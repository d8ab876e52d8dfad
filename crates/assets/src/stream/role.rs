//! One replica among several: what a stream does when another server begins or stops to lead it.
//!
//! A follower applies entries exactly as a replay does, with [`Moment::live`](super::Moment) off: nobody waits there and
//! nobody is told. What only a leader has (messages that are judged and not applied, requests that wait, timers) comes
//! with leading and goes with it; the rest is what the log led to.

use linnet_jsapi::errors::ApiError;

use super::schedules::Schedules;
use super::{Command, ConsumerCommand, Moment, Stream, Sweep};
use crate::output::Output;

/// What clients are told whose requests for messages wait at a server that does not lead any more.
const LEADERSHIP_CHANGE: &str = "409 Leadership Change";

impl Stream {
    /// Makes it one replica of several, which follows until it is told otherwise.
    pub fn become_replica(&mut self) {
        self.is_replica = true;
        self.follows = true;
        self.store.set_repairable(true);
        for (_, consumer) in &mut self.consumers {
            consumer.follow_replicated();
        }
    }

    /// True if it decides: it is the only replica, or the one that leads.
    pub fn is_leading(&self) -> bool {
        !self.follows
    }

    /// Proposes what consumers did and is not written. True if nothing is left that the log does not have: neither to be
    /// written nor on its way.
    pub fn settle(&mut self) -> bool {
        if self.dirty_since.is_some() && !self.delta_in_flight {
            self.write_delta();
        }
        self.is_idle() && self.dirty_since.is_none()
    }

    /// Leads from here on: everything that was committed before is applied.
    pub fn lead(&mut self, at: Moment) {
        self.follows = false;
        self.forget_decisions(at);
        self.origins.configured(&self.config);
    }

    /// Follows from here on. What it has decided and is not applied may become part of the log or not: those who wait
    /// for it are told `reason`, and publishers nothing.
    pub fn follow(&mut self, reason: &ApiError, at: Moment, out: &mut dyn Output) {
        self.end_requests(LEADERSHIP_CHANGE, false, at, out);
        self.close_origins(at.now, out);
        let proposed = std::mem::take(&mut self.proposals).into_iter().filter_map(|p| p.waiter.token);
        let deferred = std::mem::take(&mut self.deferred).into_iter().map(|(_, token)| token);
        for token in proposed.chain(deferred) {
            out.answer(token, Err(reason.clone()));
        }
        self.follows = true;
        self.forget_decisions(at);
    }

    /// Goes back to what the log has led to.
    fn forget_decisions(&mut self, at: Moment) {
        self.messages.clear();
        self.in_flight = Default::default();
        self.totals = Default::default();
        self.batches.clear();
        self.fast.clear();
        self.acks = Default::default();
        self.barriers = 0;
        self.reconfiguring = 0;
        self.attaching.clear();
        self.resets.clear();
        self.delta_in_flight = false;
        self.dirty_since = None;
        self.unsent = Default::default();
        self.expiry_in_flight = false;
        self.is_retention_in_flight = false;
        self.sweep = Sweep::default();
        self.schedules = Schedules::load(&self.schedules.save());
        self.head_seq = self.store.state().last_seq;
        self.head_ts = self.store.state().last_ts.unwrap_or_default();
        self.finish_replay(at.now, at.wall);
    }

    /// True for what a follower may answer: what only looks, at this replica as it is.
    pub(super) fn may_follower_answer(command: &Command) -> bool {
        match command {
            Command::State { .. }
            | Command::Snapshot { .. }
            | Command::PinBlock(_)
            | Command::NoteDamage(_)
            | Command::Get(_) => true,
            Command::Consumer(command) => matches!(
                command,
                ConsumerCommand::Info(_)
                    | ConsumerCommand::List
                    | ConsumerCommand::Names
                    | ConsumerCommand::Configs
            ),
            _ => false,
        }
    }
}
