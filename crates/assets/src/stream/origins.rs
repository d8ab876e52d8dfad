//! What a stream takes from others: its mirror and its sources.

use std::collections::BTreeMap;
use std::time::Duration;

use linnet_ids::{Mono, StreamSeq, Wall};
use linnet_jsapi::StreamConfig;
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::StreamSourceInfo;
use linnet_jsapi::policies::DiscardPolicy;
use linnet_wire::headers;

use super::batch::Earlier;
use super::draft::{Incoming, Sourced};
use super::{Admitted, Judged, Publish, Stream, StreamLimits};
use crate::entry::Entry;
use crate::origin::{Arrival, Asker, Link, Origin, Role, Taken, clean_headers, source_header};
use crate::output::Output;

/// Sources that are remembered although the configuration does not name them any more.
const TAKEN_MAX: usize = 10_000;
/// A message for which there is no room now is asked for again after this.
const ROOM_AGAIN: Duration = Duration::from_secs(1);
/// The origins of a stream do not all ask at once.
const SPREAD: Duration = Duration::from_millis(2);

/// The mirror and sources of a stream.
#[derive(Default)]
pub(super) struct Origins {
    all: Vec<Origin>,
    /// How far sources are, by key, those in the log.
    taken: BTreeMap<String, Taken>,
    last_link: Link,
    /// The configuration names others than these.
    must_follow: bool,
    scratch: Vec<u8>,
}

impl Origins {
    /// When one of them wants to be looked at.
    pub(super) fn next_due(&self) -> Option<Mono> {
        if self.must_follow {
            return Some(Mono::default());
        }
        self.all.iter().map(Origin::next_due).min()
    }

    /// How far the sources are, for a checkpoint.
    pub(super) fn save(&self) -> BTreeMap<String, Taken> {
        self.taken.clone()
    }

    /// Takes over what a checkpoint kept.
    pub(super) fn load(&mut self, taken: BTreeMap<String, Taken>) {
        self.taken = taken;
    }

    /// The configuration changed.
    pub(super) fn configured(&mut self, config: &StreamConfig) {
        self.must_follow = config.mirror.is_some() || !config.sources.is_empty() || !self.all.is_empty();
    }

    /// A message with this header was stored.
    pub(super) fn note(&mut self, header: &[u8]) {
        if let Some((key, taken)) = Taken::parse(header)
            && (self.taken.len() < TAKEN_MAX || self.taken.contains_key(&key))
        {
            self.taken.insert(key, taken);
        }
    }

    /// Has the origins follow the configuration. What goes on is not disturbed.
    fn follow(&mut self, config: &StreamConfig, last_seq: StreamSeq, now: Mono, out: &mut dyn Output) {
        self.must_follow = false;
        let mut before = std::mem::take(&mut self.all);
        let mirror = config.mirror.iter().map(|origin| (Role::Mirror, origin));
        let sources = config.sources.iter().map(|origin| (Role::Source, origin));
        for (at, (role, origin)) in mirror.chain(sources).enumerate() {
            if let Some(same) = before.iter().position(|o| o.role == role && o.config == *origin) {
                self.all.push(before.swap_remove(same));
                continue;
            }
            let taken = match role {
                Role::Mirror => Taken { seq: last_seq, identity: String::new() },
                Role::Source => self.taken.get(&origin.key()).cloned().unwrap_or_default(),
            };
            let nth = self.all.iter().filter(|o| o.config.name == origin.name).count();
            let due = now + SPREAD * u32::try_from(at).unwrap_or(u32::MAX);
            self.all.push(Origin::new(role, origin.clone(), nth, &taken, due));
        }
        for mut origin in before {
            if self.all.iter().any(|other| other.shares_consumer_with(&origin)) {
                origin.close(now, out);
            } else {
                origin.leave(now, out);
            }
        }
    }

    fn on_link(&mut self, link: Link) -> Option<&mut Origin> {
        self.all.iter_mut().find(|origin| origin.is_current(link))
    }
}

impl Stream {
    /// True if its sequences are those of another stream.
    pub(super) fn is_mirror(&self) -> bool {
        self.config.mirror.is_some()
    }

    /// Name of the stream for which it may answer direct gets.
    pub fn answers_for(&self) -> Option<&str> {
        let mirror = self.config.mirror.as_ref().filter(|_| self.config.mirror_direct)?;
        self.origins.all.first().filter(|origin| origin.has_caught_up())?;
        Some(&mirror.name)
    }

    /// Stops reading the origins.
    pub(super) fn leave_origins(&mut self, now: Mono, out: &mut dyn Output) {
        for origin in std::mem::take(&mut self.origins.all) {
            origin.leave(now, out);
        }
    }

    /// Stops listening to the origins. Their consumers stay: whoever leads now goes on with them.
    pub(super) fn close_origins(&mut self, now: Mono, out: &mut dyn Output) {
        for mut origin in std::mem::take(&mut self.origins.all) {
            origin.close(now, out);
        }
    }

    pub(super) fn run_origin_timers(&mut self, now: Mono, out: &mut dyn Output) {
        if self.deleted || self.restoring {
            return;
        }
        if self.origins.must_follow {
            self.origins.follow(&self.config, self.head_seq, now, out);
        }
        if self.origins.all.is_empty() {
            return;
        }
        let account = out.account().to_owned();
        let asker = Asker { stream: &self.config.name, account: &account, domain: &self.place.domain };
        let Origins { all, last_link, .. } = &mut self.origins;
        for origin in all {
            if origin.on_timer(last_link.wrapping_add(1), &asker, now, out) {
                *last_link = last_link.wrapping_add(1);
            }
        }
    }

    /// How far the mirror and the sources are.
    pub fn origin_infos(&self, wall: Wall) -> (Option<StreamSourceInfo>, Vec<StreamSourceInfo>) {
        let infos = |role| self.origins.all.iter().filter(move |o| o.role == role).map(|o| o.info(wall));
        (infos(Role::Mirror).next(), infos(Role::Source).collect())
    }

    /// The answer to a request for a consumer.
    pub fn on_origin_answer(
        &mut self,
        link: Link,
        block: &[u8],
        payload: &[u8],
        now: Mono,
        wall: Wall,
        out: &mut dyn Output,
    ) {
        if let Some(origin) = self.origins.on_link(link) {
            origin.on_answer(block, payload, now, wall, out);
        }
    }

    /// Takes what the consumer of an origin sent.
    pub fn take_over(
        &mut self,
        link: Link,
        sent: &Publish<'_>,
        limits: &StreamLimits,
        now: Mono,
        wall: Wall,
        out: &mut dyn Output,
    ) -> Admitted {
        let (head, stored) = (self.head_seq, self.store.state().last_seq);
        let Some(origin) = self.origins.on_link(link) else { return Admitted::Stored };
        let block = sent.body.get(..sent.header_len).unwrap_or_default();
        let role = origin.role;
        if !headers::status(block).starts_with(b"100") && origin.must_hold(now) {
            return Admitted::Wait;
        }
        match origin.look_at(sent.reply, block, (head, stored), now, wall, out) {
            Arrival::Nothing => Admitted::Stored,
            Arrival::Gap => {
                origin.begin_anew(now, out);
                Admitted::Stored
            }
            Arrival::Passed(seq) => {
                if role == Role::Mirror && seq > head {
                    origin.position = seq;
                    self.head_seq = seq;
                    self.propose(&Entry::Skip(seq), None);
                }
                Admitted::Stored
            }
            Arrival::Message { seq, at } => {
                let mut scratch = std::mem::take(&mut self.origins.scratch);
                let taken = match role {
                    Role::Mirror => self.take_for_mirror(sent, seq, at, limits, &mut scratch),
                    Role::Source => self.take_for_source(link, sent, seq, limits, wall, &mut scratch),
                };
                self.origins.scratch = scratch;
                self.note_taken(link, seq, taken, now, out)
            }
        }
    }

    fn note_taken(
        &mut self,
        link: Link,
        seq: StreamSeq,
        taken: Result<(), Judged>,
        now: Mono,
        out: &mut dyn Output,
    ) -> Admitted {
        let Some(origin) = self.origins.on_link(link) else { return Admitted::Stored };
        match taken {
            Err(Judged::Wait) => return Admitted::Wait,
            Err(Judged::Refused(error)) if is_lack_of_room(&error) => {
                origin.fail(error, now, out);
                origin.close(now + ROOM_AGAIN, out);
            }
            // What was stored before or can never be stored is passed over.
            Ok(()) | Err(Judged::Duplicate(_) | Judged::Refused(_)) => origin.took(seq),
        }
        Admitted::Stored
    }

    /// A mirror has the origin's sequences and times, whatever is missing in between.
    fn take_for_mirror(
        &mut self,
        sent: &Publish<'_>,
        seq: StreamSeq,
        at: Wall,
        limits: &StreamLimits,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Judged> {
        if seq <= self.head_seq {
            return Ok(());
        }
        let (header_len, body) = clean_headers(sent.header_len, sent.body, None, scratch);
        let renamed = self.origins.all.first().and_then(|origin| origin.rename(sent.subject, seq));
        let message = Incoming::new(renamed.as_deref().unwrap_or(sent.subject), header_len, body);
        let earlier = Earlier::default();
        self.check_size(&message, limits, &earlier)?;
        let mut draft = message.draft();
        draft.bytes = self.accounted_size(message.subject, header_len, body);
        if self.config.discard == DiscardPolicy::New {
            self.check_room(message.subject, draft.bytes, false, &earlier)?;
        }
        self.make_room_in_entry(message.subject.len() + body.len());
        self.head_seq = seq - 1;
        self.append_message(message.subject, &draft, message.wishes.id, at);
        Ok(())
    }

    /// A source's messages are judged as if they were published here, and say where they come from.
    fn take_for_source(
        &mut self,
        link: Link,
        sent: &Publish<'_>,
        seq: StreamSeq,
        limits: &StreamLimits,
        now: Wall,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Judged> {
        let Some(origin) = self.origins.on_link(link) else { return Ok(()) };
        let header = source_header(origin, seq, sent.subject);
        let name = origin.config.name.clone();
        let renamed = origin.rename(sent.subject, seq);
        let (header_len, body) = clean_headers(sent.header_len, sent.body, Some(&header), scratch);
        let mut subject = renamed.as_deref().unwrap_or(sent.subject);
        let renamed = self.renaming.rename(subject, self.head_seq, now);
        subject = renamed.as_deref().unwrap_or(subject);
        let mut message = Incoming::new(subject, header_len, body);
        message.sourced = Some(Sourced { origin: &name, subject: sent.subject });
        message.wishes.source = None;
        message.wishes.incr.take_if(|_| !self.config.allow_msg_counter);
        // What it says of schedules it said to its origin.
        message.wishes.schedule = None;
        message.wishes.scheduler = None;
        message.wishes.schedule_next = None;
        message.wishes.ttl.take_if(|_| !self.config.allow_msg_ttl);
        message.wishes.rollup.take_if(|_| !self.may_roll_up());
        let judged = self.judge(&message, limits, &Earlier::default(), now);
        if let Ok(draft) = &judged {
            self.make_room_in_entry(subject.len() + draft.body.len());
            self.append_message(subject, draft, message.wishes.id, now);
        }
        let judged = judged.map(|_| ());
        self.renaming.give_back(renamed);
        judged
    }

    /// A stream of this name in the same account came or went. Its consumers went with it, which they do not tell.
    pub fn origin_changed(&mut self, name: &str, now: Mono, out: &mut dyn Output) {
        let all = self.origins.all.iter_mut();
        for origin in all.filter(|o| o.config.name == name && o.config.external.is_none()) {
            origin.origin_changed(now, out);
        }
    }

    /// Answers flow control requests for what is stored by now.
    pub(super) fn answer_origin_flow(&mut self, out: &mut dyn Output) {
        let stored = self.store.state().last_seq;
        for origin in &mut self.origins.all {
            origin.answer_flow(stored, out);
        }
    }
}

/// True if the same message may be stored later.
fn is_lack_of_room(error: &ApiError) -> bool {
    let full = ["maximum messages exceeded", "maximum bytes exceeded"];
    *error == errors::INSUFFICIENT_RESOURCES
        || *error == errors::ACCOUNT_RESOURCES_EXCEEDED
        || *error == errors::STORAGE_RESOURCES_EXCEEDED
        || full.iter().any(|text| *error == errors::stream_store_failed(*text))
}
