use linnet_ids::{Mono, StreamSeq, Wall};
use linnet_jsapi::StreamConfig;
use linnet_jsapi::policies::Compression;
use linnet_store::{Filter, Record};
use linnet_wire::headers;

use super::renaming::Renaming;
use super::ttl::Ttl;
use super::{CommandOutcome, Proposal, Stream, Waiter};
use crate::consumer::{Consumer, Context};
use crate::entry::{Attach, Entry, EntryError, Purge};
use crate::output::{Advisory, Output};

/// When an entry is applied.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Monotonic time.
    pub now: Mono,
    /// Real time.
    pub wall: Wall,
    /// False while the log is replayed: nobody waits and nobody is told.
    pub live: bool,
}

impl Stream {
    /// Applies a committed entry and tells those who waited for it.
    pub fn apply(&mut self, proposal: &Proposal, at: Moment, out: &mut dyn Output) -> Result<(), EntryError> {
        self.apply_with(&proposal.bytes, &proposal.waiter, at, out)
    }

    /// As [`Stream::apply`], for an entry whose bytes are elsewhere.
    pub fn apply_with(
        &mut self,
        bytes: &[u8],
        waiter: &Waiter,
        at: Moment,
        out: &mut dyn Output,
    ) -> Result<(), EntryError> {
        let entry = Entry::decode(bytes)?;
        if at.live && Entry::is_barrier(bytes) {
            self.barriers = self.barriers.saturating_sub(1);
        }
        if at.live && matches!(entry, Entry::Config(_)) {
            self.reconfiguring = self.reconfiguring.saturating_sub(1);
        }
        let first = self.store.state().first_seq;
        let outcome = self.apply_entry(entry, at, out);
        if at.live {
            if self.store.state().first_seq > first {
                self.store.forget_lost_before_first();
            }
            self.schedules.plan(at.now, at.wall);
        }
        if let Some(token) = waiter.token {
            let outcome = self.resets.remove(&token).unwrap_or(outcome);
            let outcome = match outcome {
                CommandOutcome::Attached(name) => match self.consumer_info(&name, at.wall, out) {
                    Some(info) => CommandOutcome::Consumer(Box::new(info)),
                    None => CommandOutcome::Attached(name),
                },
                other => other,
            };
            out.answer(token, Ok(outcome));
        }
        for reply in &waiter.confirmations {
            out.publish(reply, b"", b"", 0, b"");
        }
        Ok(())
    }

    fn apply_entry(&mut self, entry: Entry<'_>, at: Moment, out: &mut dyn Output) -> CommandOutcome {
        match entry {
            Entry::Messages(records) => self.apply_messages(records, at, out),
            Entry::Config(config) => self.apply_config(*config, at, out),
            Entry::Purge(purge) => return CommandOutcome::Purged(self.apply_purge(&purge, at.wall)),
            Entry::Delete { seq, erase } => {
                let removed = self.remove_message(seq, erase, at, out);
                return CommandOutcome::Deleted(removed);
            }
            Entry::Expire(cutoff) => self.apply_expire(cutoff, at, out),
            Entry::ExpireOwn(now) => self.apply_expire_own(now, at, out),
            Entry::ConsumerAttach(attach) => return self.apply_attach(*attach, at, out),
            Entry::ConsumerDetach(name) => {
                self.note_arrived(&name);
                self.apply_detach(&name, at, out);
            }
            Entry::ConsumerDelta(delta) => self.apply_delta(delta, at, out),
            Entry::Sweep { from, to } => self.apply_sweep(from, to, at, out),
            Entry::Deleted => {
                self.deleted = true;
                self.leave_origins(at.now, out);
                if at.live {
                    self.end_consumers(at, out);
                }
            }
            Entry::Leader => {}
            Entry::Owner(owner) => self.owner = Some(owner),
            Entry::Restore(mark) => self.apply_restore(&mark, at, out),
            Entry::Skip(last) => {
                self.skip_to(last);
                self.answer_origin_flow(out);
            }
        }
        CommandOutcome::Done
    }

    fn apply_messages(&mut self, mut records: &[u8], at: Moment, out: &mut dyn Output) {
        while let Ok((record, len)) = Record::view(records) {
            let (bytes, rest) = records.split_at(len);
            records = rest;
            if self.restoring {
                self.apply_restored(&record, bytes, at, out);
            } else {
                self.apply_message(&record, bytes, at, out);
            }
        }
        let applied = self.store.state().last_seq;
        if at.live {
            let mut acks = std::mem::take(&mut self.acks);
            acks.release(applied, |reply, ack| self.send_ack(reply, ack, out));
            self.acks = acks;
            self.answer_origin_flow(out);
            if self.restoring {
                return;
            }
            if self.next_expiry.is_none() || self.ttls.first_due().is_some() {
                let before = self.next_expiry;
                self.schedule_expiry(at.now, at.wall);
                // Traffic must not put off what is due.
                self.next_expiry = self.next_expiry.into_iter().chain(before).min();
            }
        }
    }

    fn apply_message(&mut self, record: &Record<'_>, bytes: &[u8], at: Moment, out: &mut dyn Output) {
        if record.seq <= self.store.state().last_seq {
            return;
        }
        let (id, rollup) = if record.headers.is_empty() {
            (b"".as_slice(), None)
        } else {
            (
                headers::get(record.headers, "Nats-Msg-Id").unwrap_or_default(),
                headers::get(record.headers, "Nats-Rollup"),
            )
        };
        if at.live {
            let memory = self.store.is_memory();
            self.in_flight.remove(record.subject, id, record.accounted(memory));
            if self.config.allow_msg_counter {
                self.totals.stored(record.subject, record.seq);
            }
            if self.config.allow_msg_schedules {
                self.schedules.arrived(record.headers);
            }
        } else {
            self.head_seq = record.seq;
            self.head_ts = record.timestamp;
        }
        if !id.is_empty() && !self.config.duplicate_window.is_zero() {
            if !at.live {
                // Who only follows judges nobody, and would remember every id for ever.
                self.forget_ids(record.timestamp);
            }
            self.dedupe.insert(id, record.seq, record.timestamp);
        }
        if !self.config.sources.is_empty()
            && let Some(source) = headers::get(record.headers, "Nats-Stream-Source")
        {
            self.origins.note(source);
        }
        self.last_id.clear();
        self.last_id.extend_from_slice(id);
        if self.config.allow_msg_schedules {
            self.move_schedule(record.headers, at, out);
        }
        if self.is_unwanted(record.seq, record.subject) {
            self.store.pass_over(record.seq, record.timestamp);
            return;
        }
        if self.config.allow_msg_ttl
            && let Some(ttl) = headers::get(record.headers, "Nats-TTL").and_then(Ttl::parse)
        {
            self.ttls.insert(record.seq, ttl.expiry(record.timestamp));
        }
        let last_of_subject = match at.live && self.renaming.republishes() {
            true => self.store.subject(record.subject).map_or(0, |s| s.last),
            false => 0,
        };
        if self.config.allow_msg_schedules {
            self.note_schedule(record);
        }
        self.store.append(bytes);
        if at.live {
            self.renaming.republish(&self.config.name, record, last_of_subject, out);
        }
        self.feed(record.seq, record.subject);
        // A message of an origin may say what only its origin allows.
        match rollup.filter(|_| self.may_roll_up()) {
            Some(scope) if scope.eq_ignore_ascii_case(b"sub") => {
                self.roll_up(&Filter::new([record.subject]), record.seq, at, out);
            }
            Some(scope) if scope.eq_ignore_ascii_case(b"all") => {
                self.roll_up(&Filter::all(), record.seq, at, out)
            }
            _ => {}
        }
        self.enforce_limits(record.subject, at, out);
    }

    /// True if a message may remove those before it.
    pub(super) fn may_roll_up(&self) -> bool {
        self.config.allow_rollup_hdrs && !self.config.deny_purge
    }

    /// Removes everything wanted before `seq`.
    fn roll_up(&mut self, filter: &Filter, seq: StreamSeq, at: Moment, out: &mut dyn Output) {
        let mut from = 0;
        while let Some(old) = self.store.next(from, filter).filter(|old| *old < seq) {
            self.remove_message(old, false, at, out);
            from = old + 1;
        }
    }

    /// Per-subject limit first, then messages, then bytes, oldest first.
    pub(super) fn enforce_limits(&mut self, subject: &[u8], at: Moment, out: &mut dyn Output) {
        let limit = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
        if let Some(max) = limit(self.config.max_msgs_per_subject) {
            while self.store.subject(subject).is_some_and(|s| s.msgs > max) {
                let Some(oldest) = self.store.first_of(subject) else { break };
                self.remove_message(oldest, false, at, out);
            }
        }
        if let Some(max) = limit(self.config.max_msgs) {
            while self.store.state().msgs > max {
                self.remove_message(self.store.state().first_seq, false, at, out);
            }
        }
        if let Some(max) = limit(self.config.max_bytes) {
            while self.store.state().bytes > max && self.store.state().msgs > 0 {
                self.remove_message(self.store.state().first_seq, false, at, out);
            }
        }
    }

    /// Enforces the limits of the stream and of every subject.
    pub(super) fn enforce_all(&mut self, at: Moment, out: &mut dyn Output) {
        let mut subjects = Vec::new();
        if self.config.max_msgs_per_subject > 0 {
            self.store.for_each_subject(&Filter::all(), |subject, _| subjects.push(subject.to_vec()));
        }
        // The log is replayed in another memory layout: the order must not depend on it.
        subjects.sort_unstable();
        for subject in subjects {
            self.enforce_limits(&subject, at, out);
        }
        self.enforce_limits(b"", at, out);
    }

    /// Removes one message and tells the consumers that want it. False if it was not there. Of one that was lost to
    /// damage the subject is not known, and consumers have passed over it.
    pub(super) fn remove_message(
        &mut self,
        seq: StreamSeq,
        erase: bool,
        at: Moment,
        out: &mut dyn Output,
    ) -> bool {
        self.ttls.remove(seq);
        self.schedules.remove(seq);
        if self.store.forget_lost(seq) {
            return true;
        }
        if self.by_name.is_empty() {
            return self.store.remove(seq, erase).is_some();
        }
        let Some(subject) = self.store.subject_of(seq) else { return false };
        self.wants.matches(subject, &mut self.matches);
        let reckons = |id: &usize| self.consumers.get(*id).is_some_and(|c| c.reckons_with(seq));
        if self.matches.plain().iter().any(reckons) {
            let subject = subject.to_vec();
            for id in self.matches.plain() {
                if let Some(consumer) = self.consumers.get_mut(*id) {
                    consumer.before_removed(&mut self.store, seq, &subject);
                }
            }
        }
        self.store.remove(seq, erase);
        let matches = std::mem::take(&mut self.matches);
        let mut ctx =
            Context { stream: &self.config.name, store: &mut self.store, out, now: at.now, wall: at.wall };
        for id in matches.plain() {
            if let Some(consumer) = self.consumers.get_mut(*id) {
                consumer.on_removed(&mut ctx, seq);
                if !at.live {
                    // The log says what came of it.
                    drop(consumer.take_delta());
                } else if consumer.is_dirty() {
                    self.dirty_since.get_or_insert(at.now);
                }
            }
        }
        self.matches = matches;
        true
    }

    fn apply_purge(&mut self, purge: &Purge, wall: Wall) -> u64 {
        let filter =
            if purge.filter.is_empty() { Filter::all() } else { Filter::new([purge.filter.as_bytes()]) };
        let removed = if filter.is_all() && purge.below == 0 && purge.keep == 0 {
            self.store.clear()
        } else {
            self.purge_some(&filter, purge)
        };
        if filter.is_all() && purge.below > 1 && self.store.state().msgs == 0 {
            self.skip_to(purge.below - 1);
        }
        let store = &self.store;
        self.ttls.retain(|seq| store.contains(seq));
        self.schedules.retain(|seq| store.contains(seq));
        for (_, consumer) in &mut self.consumers {
            consumer.on_purged(&self.store, &filter, wall);
        }
        removed
    }

    /// Sequences up to this one are used up.
    pub(super) fn skip_to(&mut self, last: StreamSeq) {
        self.store.skip_to(last);
        self.head_seq = self.head_seq.max(last);
    }

    fn purge_some(&mut self, filter: &Filter, purge: &Purge) -> u64 {
        let below = if purge.below > 0 { purge.below } else { self.store.state().last_seq + 1 };
        let mut left = match purge.keep {
            0 => u64::MAX,
            keep => self.store.count(0, filter).saturating_sub(keep),
        };
        let mut removed = 0;
        let mut from = 0;
        while left > 0 {
            let Some(seq) = self.store.next(from, filter).filter(|seq| *seq < below) else { break };
            self.store.remove(seq, false);
            removed += 1;
            left -= 1;
            from = seq + 1;
        }
        if filter.is_all() && purge.keep == 0 {
            self.store.forget_lost_below(below);
        }
        removed
    }

    fn apply_expire(&mut self, cutoff: Wall, at: Moment, out: &mut dyn Output) {
        self.expiry_in_flight = false;
        let mut from = 0;
        let mut unknown = Vec::new();
        while let Some(seq) = self.store.next(from, &Filter::all()) {
            from = seq + 1;
            if self.ttls.is_exempt(seq) {
                continue;
            }
            match self.store.timestamp(seq) {
                // Damaged: it is too old if one behind it is.
                None => unknown.push(seq),
                Some(stored) if stored > cutoff => break,
                Some(_) => {
                    for old in unknown.drain(..).chain([seq]) {
                        self.remove_message(old, false, at, out);
                    }
                }
            }
        }
        if at.live {
            self.schedule_expiry(at.now, at.wall);
        }
    }

    fn apply_expire_own(&mut self, now: Wall, at: Moment, out: &mut dyn Output) {
        self.expiry_in_flight = false;
        for seq in self.ttls.expired(now) {
            self.remove_message(seq, false, at, out);
        }
        if at.live {
            self.schedule_expiry(at.now, at.wall);
        }
    }

    fn apply_config(&mut self, config: StreamConfig, at: Moment, out: &mut dyn Output) {
        let tighter_subject_limit = config.max_msgs_per_subject > 0
            && (self.config.max_msgs_per_subject <= 0
                || config.max_msgs_per_subject < self.config.max_msgs_per_subject);
        self.store.set_max_per_subject(config.max_msgs_per_subject);
        self.store.fit_to(config.max_bytes);
        self.store.set_compression(config.compression == Compression::S2);
        self.revision += 1;
        let retention = std::mem::replace(&mut self.config, config).retention;
        self.renaming = Renaming::of(&self.config);
        self.origins.configured(&self.config);
        for (_, consumer) in &mut self.consumers {
            consumer.limit_rate(self.config.max_msg_size);
        }
        if !self.config.allow_atomic {
            self.batches.clear();
        }
        if !self.config.allow_batched {
            self.fast.clear();
        }
        if self.config.retention != retention {
            self.end_direct(at, out);
            self.follow_retention();
        }
        if tighter_subject_limit {
            self.enforce_all(at, out);
        } else {
            self.enforce_limits(b"", at, out);
        }
        if at.live {
            self.schedule_expiry(at.now, at.wall);
            out.advise(Advisory::Reconfigured);
        }
    }

    fn apply_attach(&mut self, attach: Attach, at: Moment, out: &mut dyn Output) -> CommandOutcome {
        self.note_arrived(&attach.name);
        let name = attach.name.clone();
        let existing = self.by_name.get(&name).copied();
        let id = match existing.filter(|_| attach.state.is_none()) {
            Some(id) => {
                if at.live {
                    self.tell_of_pause(id, attach.config.pause_until, at.wall, out);
                }
                self.remove_wants(id);
                if let Some(consumer) = self.consumers.get_mut(id)
                    && consumer.reconfigure(attach.config, &self.store, at.now, at.wall)
                {
                    self.sweep_all();
                }
                if let Some(consumer) = self.consumers.get_mut(id) {
                    consumer.limit_rate(self.config.max_msg_size);
                }
                if at.live {
                    out.advise(Advisory::Reconfigured);
                }
                self.add_wants(id);
                id
            }
            None => {
                if existing.is_some() {
                    // The new one owes what the old one owed: nothing is released in between.
                    self.take_out(&name, at, out);
                    self.sweep_all();
                }
                let id = self.install_consumer(attach, at.now);
                self.await_pending(id, at.now, at.wall);
                if at.live && !self.restoring {
                    out.advise(Advisory::ConsumerCreated { consumer: name.clone() });
                }
                id
            }
        };
        self.mark_ready(id);
        self.touch_timer(id);
        CommandOutcome::Attached(name)
    }

    /// Tells of a change of when the consumer delivers again.
    fn tell_of_pause(&self, id: usize, until: Option<Wall>, wall: Wall, out: &mut dyn Output) {
        let Some(consumer) = self.consumers.get(id).filter(|c| c.config.pause_until != until) else { return };
        let paused = until.is_some_and(|until| until > wall);
        out.advise(Advisory::Paused { consumer: consumer.name.clone(), until, paused });
    }

    /// The stream ends, and its consumers with it.
    fn end_consumers(&mut self, at: Moment, out: &mut dyn Output) {
        self.end_requests("409 Consumer Deleted", false, at, out);
        for consumer in self.by_name.keys() {
            out.advise(Advisory::ConsumerDeleted { consumer: consumer.clone() });
        }
    }

    /// Tells everybody who waits for messages that none will come.
    pub fn end_requests(&mut self, status: &str, with_leftover: bool, at: Moment, out: &mut dyn Output) {
        for (_, consumer) in &mut self.consumers {
            let mut ctx = Context {
                stream: &self.config.name,
                store: &mut self.store,
                out,
                now: at.now,
                wall: at.wall,
            };
            consumer.end_requests(&mut ctx, status, with_leftover);
        }
    }

    /// An entry about the consumer is not in flight any more.
    fn note_arrived(&mut self, name: &str) {
        if let Some(count) = self.attaching.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.attaching.remove(name);
            }
        }
    }

    pub(super) fn apply_detach(&mut self, name: &str, at: Moment, out: &mut dyn Output) {
        let lasted = self.take_out(name, at, out).is_some_and(|consumer| !consumer.config.direct);
        if lasted {
            self.release_consumer();
        }
    }

    /// Ends a consumer, whatever that means for the messages.
    fn take_out(&mut self, name: &str, at: Moment, out: &mut dyn Output) -> Option<Consumer> {
        let id = self.by_name.remove(name)?;
        self.remove_wants(id);
        let mut consumer = self.consumers.remove(id);
        self.direct -= usize::from(consumer.config.direct);
        if let Some(due) = consumer.timer {
            self.timers.remove(&(due, id));
        }
        self.ready.retain(|other| *other != id);
        if at.live {
            let mut ctx = Context {
                stream: &self.config.name,
                store: &mut self.store,
                out,
                now: at.now,
                wall: at.wall,
            };
            consumer.end_requests(&mut ctx, "409 Consumer Deleted", false);
            out.advise(Advisory::ConsumerDeleted { consumer: name.to_owned() });
        }
        Some(consumer)
    }
}
