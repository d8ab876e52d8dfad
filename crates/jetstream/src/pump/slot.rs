//! What a pump has of one group, and how the group is given its mail.

use std::path::PathBuf;
use std::sync::Arc;

use linnet_assets::{Moment, Publish, Stream, StreamLimits};
use linnet_broker::Account;
use linnet_ids::Mono;
use linnet_jsapi::decode::check_required_api_level;
use linnet_jsapi::errors::ApiError;
use linnet_jsapi::subjects::AckSubject;
use linnet_replication::StreamGroup;
use linnet_wire::headers;
use tokio::sync::oneshot;

use crate::bearing::Follower;
use crate::budget::Share;
use crate::cell::StreamCell;
use crate::inbox::{LetterKind, Mail, Opened, StreamInbox};
use crate::output::Outbox;
use crate::services::ConsumerServices;

/// Messages one group may process before others get their turn.
const TURN_MAX: usize = 4096;
/// A group and what a pump has of it.
pub(super) struct Slot {
    pub(super) group: StreamGroup,
    pub(super) inbox: Arc<StreamInbox>,
    pub(super) account: Arc<Account>,
    pub(super) cell: Arc<StreamCell>,
    pub(super) dir: PathBuf,
    pub(super) services: ConsumerServices,
    pub(super) mail: Mail,
    pub(super) share: Share,
    /// When to try again to write what the full disk did not take.
    pub(super) space_again: Option<Mono>,
    /// Messages of `mail` that are dealt with.
    pub(super) read: usize,
    /// What the last turn left.
    pub(super) more: More,
    /// Nothing is accepted any more; why.
    pub(super) failed: Option<ApiError>,
    /// Looks at the stream after each of its turns.
    pub(super) watch: Option<StreamWatch>,
    pub(super) installed: Option<oneshot::Sender<()>>,
    /// How its replica has been doing, if it is one.
    pub(super) follower: Follower,
}

/// Looks at a stream.
pub(crate) type StreamWatch = Box<dyn FnMut(&mut Stream) + Send>;

/// Answers every message that waits with the reason why it is not stored.
pub(super) fn refuse_publishes(slot: &mut Slot, error: &ApiError, outbox: &mut Outbox<'_>) {
    let stream = slot.group.stream().config().name.clone();
    loop {
        for at in slot.read..slot.mail.publishes.len() {
            if let Some(letter) = slot.mail.publishes.get(at).filter(|l| !l.reply.is_empty()) {
                outbox.refuse(letter.reply, error, &stream);
            }
        }
        slot.mail.publishes.clear();
        slot.read = 0;
        if !slot.inbox.has_publishes() {
            return;
        }
        slot.inbox.take_publishes(&mut slot.mail);
    }
}

/// Another replica leads: publishers are told that nobody answers here, so that they try again.
fn leave_publishes(slot: &mut Slot, outbox: &mut Outbox<'_>) {
    loop {
        for at in slot.read..slot.mail.publishes.len() {
            if let Some(letter) = slot.mail.publishes.get(at).filter(|l| l.kind == LetterKind::Publish) {
                outbox.say_no_responders(letter.subject, letter.reply);
            }
        }
        slot.mail.publishes.clear();
        slot.read = 0;
        if !slot.inbox.has_publishes() {
            return;
        }
        slot.inbox.take_publishes(&mut slot.mail);
    }
}

/// What is left in a group's mail.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum More {
    /// Nothing, or it goes on when the group's own entries or a higher floor are durable.
    #[default]
    None,
    /// Something that can go on now.
    Now,
    /// Messages that wait until the log has less to write.
    WhenLogAllows,
}

/// Gives the stream what is in its inbox.
pub(super) fn read_mail(
    slot: &mut Slot,
    at: Moment,
    usage: &crate::usage::Usage,
    is_pressed: bool,
    outbox: &mut Outbox<'_>,
) -> More {
    if slot.group.is_held() {
        return More::None;
    }
    let keep = slot.read < slot.mail.publishes.len();
    slot.inbox.take(&mut slot.mail, keep);
    let stream_name = slot.group.stream().config().name.clone();
    for reply in slot.mail.refused.drain(..) {
        outbox.refuse_busy(&reply, &stream_name);
    }
    for (command, sender) in slot.mail.commands.drain(..) {
        let token = outbox.expect(sender);
        slot.group.stream_mut().command(command, token, at, outbox);
    }
    for index in 0..slot.mail.others.len() {
        let Some(letter) = slot.mail.others.get(index) else { continue };
        let may_answer = slot.group.may_answer();
        let stream = slot.group.stream_mut();
        match letter.kind {
            // Another replica leads: what was meant for a leader came too late or too early.
            LetterKind::Ack | LetterKind::NextRequest if !stream.is_leading() => {
                outbox.say_no_responders(letter.subject, letter.reply);
            }
            kind if kind != LetterKind::DirectGet && !stream.is_leading() => {}
            // A replica that is behind answers nothing; whoever asks is sent to another one next time.
            LetterKind::DirectGet if !may_answer => {
                outbox.say_no_responders(letter.subject, letter.reply);
            }
            LetterKind::NextRequest | LetterKind::DirectGet if needs_more(&letter) => {
                outbox.say_level_required(letter.reply);
            }
            LetterKind::Ack => {
                let ack = AckSubject::parse(letter.subject);
                // The longer form of an acknowledgement may look like the shorter one of another stream.
                if ack.as_ref().is_some_and(|ack| ack.stream != stream_name) {
                    continue;
                }
                let payload = letter.body.get(letter.header_len..).unwrap_or_default();
                let is_taken = ack
                    .is_some_and(|ack| stream.on_ack(&ack, payload, letter.reply, at.now, at.wall, outbox));
                if !is_taken {
                    outbox.say_no_responders(letter.subject, letter.reply);
                }
            }
            LetterKind::NextRequest => {
                let consumer = last_token(letter.subject);
                let payload = letter.body.get(letter.header_len..).unwrap_or_default();
                stream.on_next_request(consumer, letter.reply, payload, at.now, at.wall, outbox);
            }
            LetterKind::FlowAnswer => {
                let consumer = flow_consumer(letter.subject);
                let block = letter.body.get(..letter.header_len).unwrap_or_default();
                stream.on_flow_answer(consumer, letter.subject, block, at.now, at.wall, outbox);
            }
            LetterKind::DirectGet => {
                let payload = letter.body.get(letter.header_len..).unwrap_or_default();
                let subject = std::str::from_utf8(letter.subject).ok();
                let wanted = subject.and_then(|s| direct_subject(s));
                stream.direct_get(wanted, payload, letter.reply, outbox.max_direct_bytes(), outbox);
            }
            LetterKind::Interest => {
                let consumer = std::str::from_utf8(letter.subject).unwrap_or_default();
                stream.on_interest(consumer, at.now, at.wall, outbox);
            }
            LetterKind::OriginAnswer(link) => {
                let (block, payload) = letter.body.split_at_checked(letter.header_len).unwrap_or_default();
                stream.on_origin_answer(link, block, payload, at.now, at.wall, outbox);
            }
            LetterKind::Publish | LetterKind::Origin(_) => {}
        }
    }
    slot.mail.others.clear();
    if !slot.group.stream().is_leading() {
        leave_publishes(slot, outbox);
        return More::None;
    }
    if is_pressed && (slot.read < slot.mail.publishes.len() || slot.inbox.has_publishes()) {
        return More::WhenLogAllows;
    }
    let limits = usage.limits(&slot.cell);
    if admit(slot, at, &limits, outbox) { More::Now } else { More::None }
}

/// Offers publishes until none is left, the turn is over, or the log must catch up first. True if it can go on now.
fn admit(slot: &mut Slot, at: Moment, limits: &StreamLimits, outbox: &mut Outbox<'_>) -> bool {
    let Slot { mail, group, .. } = slot;
    let end = mail.publishes.len().min(slot.read + TURN_MAX);
    let letters = (slot.read..end).map_while(|at| mail.publishes.get(at));
    let publishes = letters.map(|letter| Publish {
        subject: letter.subject,
        reply: letter.reply,
        header_len: letter.header_len,
        body: letter.body,
        origin: match letter.kind {
            LetterKind::Origin(link) => Some(link),
            _ => None,
        },
    });
    let (dealt_with, may_go_on) = group.offer(publishes, limits, at, outbox);
    slot.read += dealt_with;
    if !may_go_on || slot.read < slot.mail.publishes.len() {
        return may_go_on;
    }
    slot.mail.publishes.clear();
    slot.read = 0;
    slot.inbox.has_publishes()
}

fn last_token(subject: &[u8]) -> &str {
    let token = subject.rsplit(|b| *b == b'.').next().unwrap_or_default();
    std::str::from_utf8(token).unwrap_or_default()
}

/// The consumer in `$JS.FC.<stream>.<consumer>.<token>`.
fn flow_consumer(subject: &[u8]) -> &str {
    let token = subject.rsplit(|b| *b == b'.').nth(1).unwrap_or_default();
    std::str::from_utf8(token).unwrap_or_default()
}

/// The message subject in `$JS.API.DIRECT.GET.<stream>.<subject>`, also with a domain in front of `API`.
fn direct_subject(subject: &str) -> Option<&str> {
    let (_, rest) = subject.split_once(".DIRECT.GET.")?;
    rest.split_once('.').map(|(_, subject)| subject)
}

/// True if a request names an API level that this server does not have.
fn needs_more(letter: &Opened<'_>) -> bool {
    let block = letter.body.get(..letter.header_len).unwrap_or_default();
    let level = headers::get(block, "Nats-Required-Api-Level").map(String::from_utf8_lossy);
    check_required_api_level(level.as_deref()).is_err()
}
