//! The loop around groups: what one pass does, in which order.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::path::PathBuf;

use linnet_assets::{EntryError, Moment, Output};
use linnet_ids::{GroupId, Mono};
use linnet_jsapi::ApiError;
use linnet_raft::Message;

use crate::group::StreamGroup;
use crate::job::GroupDone;
use crate::log::{Log, Ticket};
use crate::raft::PeerChange;

/// Names a group on this server.
pub type GroupKey = u64;

/// What the loop needs of whoever runs it.
pub trait Host {
    /// Lets a group act. `None` if there is no such group or it has stopped.
    fn with<R>(
        &mut self,
        key: GroupKey,
        act: impl FnOnce(&mut StreamGroup, &mut dyn Output, &mut dyn Log) -> R,
    ) -> Option<R>;

    /// Keys of all groups.
    fn keys(&self) -> Vec<GroupKey>;

    /// The key of a group.
    fn key_of(&self, group: GroupId) -> Option<GroupKey>;

    /// Gives a group what is in its inbox, then flushes it. `None` if it has stopped and refused its mail.
    fn turn(&mut self, key: GroupKey, at: Moment) -> Option<Result<Option<Ticket>, EntryError>>;

    /// The group had its turn. When it wants the next one.
    fn turned(&mut self, key: GroupKey) -> Option<Mono>;

    /// Starts a checkpoint of a group, unless one is under way or there is nothing new.
    fn checkpoint(&mut self, key: GroupKey);

    /// Starts recording how far the sequences of a group may go, if they come near and it is not under way.
    fn raise_floor(&mut self, key: GroupKey, now: Mono);

    /// A group will now apply what is durable up to the ticket.
    fn applying(&mut self, key: GroupKey, ticket: Ticket) {
        let _ = (key, ticket);
    }

    /// Nothing needs these files any more.
    fn remove_files(&mut self, files: Vec<PathBuf>);

    /// An error stopped the group: it gets no more turns.
    fn stop(&mut self, key: GroupKey, why: StopReason<'_>);

    /// Adds groups that have another reason to act.
    fn add_others(&mut self, at: Moment, touched: &mut Touched) {
        let _ = (at, touched);
    }
}

/// Why a group stops.
pub enum StopReason<'a> {
    /// The log failed: everybody who waits was told this.
    Log(&'a ApiError),
    /// An entry cannot be applied.
    Entry(&'a EntryError),
}

/// What came in since the last pass.
#[derive(Default)]
pub struct PassMail {
    /// The log failed for good: what to tell everybody who waits.
    pub failure: Option<ApiError>,
    /// Finished jobs.
    pub done: Vec<(GroupKey, GroupDone)>,
    /// The log is durable up to here.
    pub durable: Ticket,
    /// Groups asked for a checkpoint.
    pub checkpoints: Vec<GroupId>,
    /// Groups with something in their inbox.
    pub ready: Vec<GroupKey>,
    /// What came from other servers, in order: what a server said before it began anew must not be taken for newer.
    pub incoming: Vec<Incoming>,
}

/// Something that comes from another server, or is known of it.
#[derive(Debug)]
pub enum Incoming {
    /// What its replica of a group says.
    Message(GroupId, Message),
    /// It can be heard, or cannot any more.
    Peer(PeerChange),
}

/// Groups to turn, each once.
#[derive(Default)]
pub struct Touched {
    keys: Vec<GroupKey>,
    seen: HashSet<GroupKey>,
}

impl Touched {
    /// Adds one.
    pub fn add(&mut self, key: GroupKey) {
        if self.seen.insert(key) {
            self.keys.push(key);
        }
    }
}

/// What groups wait for.
#[derive(Default)]
pub struct Turns {
    /// Groups that wait for a ticket, in order.
    waiting: VecDeque<(Ticket, GroupKey)>,
    timers: BTreeSet<(Mono, GroupKey)>,
    timer_of: HashMap<GroupKey, Mono>,
    applied: Ticket,
}

impl Turns {
    /// When the first timer is due.
    pub fn next_due(&self) -> Option<Mono> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// True if no group waits for the log.
    pub fn is_quiet(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets a group.
    pub fn forget(&mut self, key: GroupKey) {
        self.set_timer(key, None);
    }

    /// What the log tells is applied up to here.
    pub fn applied(&self) -> Ticket {
        self.applied
    }

    /// One pass: takes in what happened, then lets every group act that it concerns.
    pub fn pass(&mut self, host: &mut impl Host, mail: PassMail, at: Moment, mut touched: Touched) {
        if let Some(error) = mail.failure {
            self.log_failed(host, &error);
        }
        for (key, done) in mail.done {
            let ticket = host.with(key, |group, out, log| group.job_done(done, at, log, out));
            self.wait(key, ticket.flatten());
            touched.add(key);
        }
        if mail.durable > self.applied {
            self.applied = mail.durable;
            self.apply(host, at, &mut touched);
        }
        for incoming in mail.incoming {
            match incoming {
                Incoming::Peer(change) => Self::tell_of_peer(host, change, at, &mut touched),
                Incoming::Message(group, message) => {
                    let Some(key) = host.key_of(group) else { continue };
                    host.with(key, |group, _, log| group.on_message(at.now, message, log));
                    touched.add(key);
                }
            }
        }
        for group in mail.checkpoints {
            if let Some(key) = host.key_of(group) {
                host.checkpoint(key);
            }
        }
        while let Some((due, key)) = self.timers.first().copied().filter(|(due, _)| *due <= at.now) {
            self.timers.remove(&(due, key));
            self.timer_of.remove(&key);
            host.with(key, |group, out, log| group.on_timer(at, log, out));
            touched.add(key);
        }
        for key in mail.ready {
            touched.add(key);
        }
        host.add_others(at, &mut touched);
        for key in touched.keys {
            self.turn(host, key, at);
        }
    }

    fn tell_of_peer(host: &mut impl Host, change: PeerChange, at: Moment, touched: &mut Touched) {
        for key in host.keys() {
            let is_told = host.with(key, |group, _, log| {
                group.on_peer(at.now, change, log);
                group.is_replica()
            });
            if is_told == Some(true) {
                touched.add(key);
            }
        }
    }

    /// Nothing becomes durable any more: everybody who waits is told, groups refuse from now on.
    fn log_failed(&mut self, host: &mut impl Host, error: &ApiError) {
        for key in host.keys() {
            if host.with(key, |group, out, _| group.fail(error, out)).is_some() {
                host.stop(key, StopReason::Log(error));
            }
        }
        self.waiting.clear();
    }

    /// Applies what became durable.
    fn apply(&mut self, host: &mut impl Host, at: Moment, touched: &mut Touched) {
        let ticket = self.applied;
        while let Some((_, key)) = self.waiting.pop_front_if(|(t, _)| *t <= ticket) {
            Self::tell_durable(host, key, ticket, at);
            touched.add(key);
        }
    }

    fn tell_durable(host: &mut impl Host, key: GroupKey, ticket: Ticket, at: Moment) {
        host.applying(key, ticket);
        match host.with(key, |group, out, log| group.durable(ticket, at, log, out)) {
            Some(Ok(files)) if !files.is_empty() => host.remove_files(files),
            Some(Err(error)) => host.stop(key, StopReason::Entry(&error)),
            _ => {}
        }
    }

    fn turn(&mut self, host: &mut impl Host, key: GroupKey, at: Moment) {
        match host.turn(key, at) {
            None => return,
            // A group may have written before it came here, and the log may never write again.
            Some(Ok(Some(ticket))) if ticket <= self.applied => {
                Self::tell_durable(host, key, self.applied, at);
            }
            Some(Ok(ticket)) => self.wait(key, ticket),
            Some(Err(error)) => host.stop(key, StopReason::Entry(&error)),
        }
        host.raise_floor(key, at.now);
        let due = host.turned(key);
        self.set_timer(key, due);
    }

    fn wait(&mut self, key: GroupKey, ticket: Option<Ticket>) {
        self.waiting.extend(ticket.map(|ticket| (ticket, key)));
    }

    fn set_timer(&mut self, key: GroupKey, due: Option<Mono>) {
        let old = match due {
            Some(due) => self.timer_of.insert(key, due),
            None => self.timer_of.remove(&key),
        };
        if old != due {
            if let Some(old) = old {
                self.timers.remove(&(old, key));
            }
            self.timers.extend(due.map(|due| (due, key)));
        }
    }
}

#[cfg(test)]
mod tests {
    use linnet_ids::Wall;

    use super::*;

    /// One group whose turns end with tickets that are given.
    struct OneGroup {
        tickets: VecDeque<Ticket>,
        told: Vec<Ticket>,
    }

    impl Host for OneGroup {
        fn with<R>(
            &mut self,
            _: GroupKey,
            _: impl FnOnce(&mut StreamGroup, &mut dyn Output, &mut dyn Log) -> R,
        ) -> Option<R> {
            None
        }

        fn keys(&self) -> Vec<GroupKey> {
            vec![1]
        }

        fn key_of(&self, _: GroupId) -> Option<GroupKey> {
            Some(1)
        }

        fn turn(&mut self, _: GroupKey, _: Moment) -> Option<Result<Option<Ticket>, EntryError>> {
            Some(Ok(self.tickets.pop_front()))
        }

        fn turned(&mut self, _: GroupKey) -> Option<Mono> {
            None
        }

        fn checkpoint(&mut self, _: GroupKey) {}

        fn raise_floor(&mut self, _: GroupKey, _: Mono) {}

        fn applying(&mut self, _: GroupKey, ticket: Ticket) {
            self.told.push(ticket);
        }

        fn remove_files(&mut self, _: Vec<PathBuf>) {}

        fn stop(&mut self, _: GroupKey, _: StopReason<'_>) {}
    }

    #[test]
    fn what_was_durable_before_a_group_waited_for_it_is_told_at_once() {
        let mut host = OneGroup { tickets: [3, 7].into(), told: Vec::new() };
        let mut turns = Turns::default();
        let at = Moment { now: Mono(1), wall: Wall(1), live: true };
        let mut pass = |host: &mut OneGroup, durable| {
            let mail = PassMail { durable, ready: vec![1], ..PassMail::default() };
            turns.pass(host, mail, at, Touched::default());
        };
        pass(&mut host, 5);
        assert_eq!(host.told, [5], "the log may never write again");
        pass(&mut host, 5);
        assert_eq!(host.told, [5], "7 is not durable");
        pass(&mut host, 8);
        assert_eq!(host.told, [5, 8]);
    }
}
