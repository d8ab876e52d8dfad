//! The pump: its passes, and what it asks of the groups.

use std::path::PathBuf;

use linnet_assets::{EntryError, Moment, Output, Publish, StreamLimits};
use linnet_env::Clock;
use linnet_ids::{GroupId, Mono};
use linnet_jsapi::errors;
use linnet_jsapi::subjects::AckSubject;
use linnet_replication::{GroupJob, Host, Log, PassMail, StopReason, StreamGroup, Ticket, Touched};

use super::{GroupKey, Job, Letter, Process, Slot, layout};
use crate::log::SimLog;
use crate::mutation::Mutation;
use crate::outbox::{Event, Outbox};

/// Publishes one group may process before others get their turn.
const TURN_MAX: usize = 8;
/// Unwritten bytes of a stream that are worth handing to a disk thread.
const WRITE_AT: usize = 2 << 10;
/// Bytes of dead files after which a stream is checkpointed to free them.
const RECLAIM_AT: u64 = 16 << 10;
/// Bytes after which a direct get ends.
const READ_MAX: u64 = 1 << 20;

impl Process {
    /// True if a pass of the pump would do something now.
    pub(crate) fn pump_has_work(&self) -> bool {
        let now = self.clock.mono();
        !self.ready.is_empty()
            || !self.done.is_empty()
            || self.durable > self.turns.applied()
            || self.failure_mail.is_some()
            || !self.checkpoints.is_empty()
            || self.turns.next_due().is_some_and(|due| due <= now)
    }

    /// One pass of the pump's loop.
    pub(crate) fn pump(&mut self) {
        let at = self.at();
        let mail = PassMail {
            failure: self.failure_mail.take().map(errors::stream_store_failed),
            done: std::mem::take(&mut self.done),
            durable: self.durable,
            checkpoints: std::mem::take(&mut self.checkpoints),
            ready: std::mem::take(&mut self.ready).into_iter().collect(),
            ..PassMail::default()
        };
        let mut turns = std::mem::take(&mut self.turns);
        turns.pass(self, mail, at, Touched::default());
        self.turns = turns;
    }

    fn with_slot<R>(
        &mut self,
        key: GroupKey,
        act: impl FnOnce(&mut Slot, &mut Outbox<'_>, &mut SimLog) -> R,
    ) -> Option<R> {
        let (deaf, mutation, ids) = (self.deaf, self.mutation, &mut self.ids);
        let slot = self.slots.get_mut(&key).filter(|s| !s.failed)?;
        let group = slot.group.group();
        let mut outbox = Outbox {
            events: &self.events,
            jobs: &mut self.jobs,
            group,
            key,
            deaf,
            heard: &self.heard,
            wire: &mut self.wire,
            mutation,
            ids,
        };
        Some(act(slot, &mut outbox, &mut self.log))
    }

    fn disk_chores(&mut self, key: GroupKey) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        let store = slot.group.stream_mut().store_mut();
        if store.unwritten() >= WRITE_AT {
            for job in store.take_writes(false) {
                self.jobs.push(Job::Group(GroupJob::Write(job, slot.dir.clone()), key));
            }
        }
        if store.obsolete_bytes() > RECLAIM_AT.max(store.state().bytes / 2) {
            self.checkpoint(key);
        }
    }

    fn refuse_mail(&mut self, key: GroupKey) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        let group = slot.group.group();
        for (_, token) in slot.commands.drain(..) {
            let answer = Box::new(Err(errors::STREAM_OFFLINE));
            self.events.borrow_mut().push(Event::Answered { token, answer });
        }
        for publish in slot.publishes.drain(..).filter(|p| !p.reply.is_empty()) {
            let mut body = Vec::new();
            let name = &slot.group.stream().config().name;
            linnet_jsapi::write_pub_error(&errors::STREAM_OFFLINE, name, &mut body);
            let (to, shown, reply) = (publish.reply, Vec::new(), Vec::new());
            self.events.borrow_mut().push(Event::Sent { group, to, shown, reply, header_len: 0, body });
        }
        slot.letters.clear();
    }
}

impl Host for Process {
    fn with<R>(
        &mut self,
        key: GroupKey,
        act: impl FnOnce(&mut StreamGroup, &mut dyn Output, &mut dyn Log) -> R,
    ) -> Option<R> {
        self.with_slot(key, |slot, out, log| act(&mut slot.group, out, log))
    }

    fn keys(&self) -> Vec<GroupKey> {
        self.slots.keys().copied().collect()
    }

    fn key_of(&self, group: GroupId) -> Option<GroupKey> {
        self.slots.iter().find(|(_, s)| s.group.group() == group).map(|(key, _)| *key)
    }

    fn turn(&mut self, key: GroupKey, at: Moment) -> Option<Result<Option<Ticket>, EntryError>> {
        let flushed = self.with_slot(key, |slot, out, log| {
            slot.more = read_mail(slot, at, out);
            slot.group.flush(at, log, out)
        });
        if flushed.is_none() {
            self.refuse_mail(key);
        }
        flushed
    }

    fn turned(&mut self, key: GroupKey) -> Option<Mono> {
        if self.mutation == Some(Mutation::AckBeforeCommit) {
            self.durable = self.log.last_ticket();
        }
        let slot = self.slots.get_mut(&key)?;
        if !slot.group.is_waiting()
            && let Some(flow) = slot.installed.take()
        {
            self.flow_installed(flow);
        }
        let slot = self.slots.get_mut(&key)?;
        let due = slot.group.next_due();
        slot.group.stream_mut().store_mut().set_layout(layout());
        if std::mem::take(&mut slot.more) {
            self.ready.insert(key);
        }
        self.disk_chores(key);
        due
    }

    fn checkpoint(&mut self, key: GroupKey) {
        if let Some(slot) = self.slots.get_mut(&key).filter(|s| !s.failed)
            && let Some(job) = slot.group.begin_checkpoint()
        {
            let job = GroupJob::Checkpoint(Box::new(job), slot.dir.clone());
            self.jobs.push(Job::Group(job, key));
        }
    }

    fn applying(&mut self, key: GroupKey, ticket: Ticket) {
        if let Some(slot) = self.slots.get(&key).filter(|s| !s.failed) {
            self.events.borrow_mut().push(Event::Applying { group: slot.group.group(), ticket });
        }
    }

    fn raise_floor(&mut self, key: GroupKey, now: Mono) {
        if let Some(slot) = self.slots.get_mut(&key).filter(|s| !s.failed)
            && let Some(job) = slot.group.begin_floor(now)
        {
            self.jobs.push(Job::Group(GroupJob::Floor(job, slot.dir.clone()), key));
        }
    }

    fn remove_files(&mut self, files: Vec<PathBuf>) {
        self.jobs.push(Job::Remove(files));
    }

    fn stop(&mut self, key: GroupKey, why: StopReason<'_>) {
        if let StopReason::Entry(error) = why {
            panic!("an entry of the server's own cannot be applied: {error}");
        }
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.failed = true;
        }
    }
}

/// Gives the stream what is in its inbox. True if something is left that can go on now.
fn read_mail(slot: &mut Slot, at: Moment, out: &mut Outbox<'_>) -> bool {
    for (command, token) in slot.commands.drain(..) {
        slot.group.stream_mut().command(command, token, at, out);
    }
    for letter in slot.letters.drain(..) {
        let stream = slot.group.stream_mut();
        match letter {
            Letter::Ack { subject, payload, reply } => {
                if let Some(ack) = AckSubject::parse(&subject) {
                    stream.on_ack(&ack, &payload, &reply, at.now, at.wall, out);
                }
            }
            Letter::Next { consumer, payload, reply } => {
                stream.on_next_request(&consumer, &reply, &payload, at.now, at.wall, out);
            }
            Letter::Interest { consumer } => stream.on_interest(&consumer, at.now, at.wall, out),
            Letter::OriginAnswer { link, headers, payload } => {
                stream.on_origin_answer(link, &headers, &payload, at.now, at.wall, out);
            }
            Letter::Flow { consumer, subject, headers } => {
                stream.on_flow_answer(&consumer, &subject, &headers, at.now, at.wall, out);
            }
            Letter::Read { subject, payload, reply } => {
                stream.direct_get(subject.as_deref(), &payload, &reply, READ_MAX, out);
            }
        }
    }
    let publishes = slot.publishes.iter().take(TURN_MAX).map(|letter| Publish {
        subject: &letter.subject,
        reply: &letter.reply,
        header_len: letter.header_len,
        body: &letter.body,
        origin: letter.origin,
    });
    let (dealt_with, may_go_on) = slot.group.offer(publishes, &StreamLimits::default(), at, out);
    slot.publishes.drain(..dealt_with);
    may_go_on && !slot.publishes.is_empty()
}
