//! What leaves the server, in order.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use linnet_assets::{Advisory, Answer, CommandOutcome, Link, Output, Token};
use linnet_ids::GroupId;
use linnet_replication::{GroupJob, Ticket};
use linnet_store::LoadJob;

use linnet_wire::headers;

use crate::mutation::Mutation;
use crate::process::{GroupKey, Job};
use crate::wire::{Parcel, Wire};

/// Something that happened, in the order in which it did.
pub(crate) enum Event {
    /// A message was published by a stream.
    Sent { group: GroupId, to: Vec<u8>, shown: Vec<u8>, reply: Vec<u8>, header_len: usize, body: Vec<u8> },
    /// A command was answered.
    Answered { token: Token, answer: Box<Answer> },
    /// A group is about to apply what is durable up to the ticket.
    Applying { group: GroupId, ticket: Ticket },
    /// A group that lives in memory alone is about to apply an entry.
    Unlogged { group: GroupId, payload: Vec<u8> },
    /// A stored message cannot be read.
    Damaged { group: GroupId, seq: u64 },
    /// The catalogue's part of an API call is over.
    FlowDone { ok: bool },
}

/// Everything that happened and was not looked at, in order.
pub(crate) type Events = Rc<RefCell<Vec<Event>>>;

/// The output of one group.
pub(crate) struct Outbox<'a> {
    pub(crate) events: &'a Events,
    pub(crate) jobs: &'a mut Vec<Job>,
    pub(crate) group: GroupId,
    pub(crate) key: GroupKey,
    /// Nobody listens to what requests are answered with.
    pub(crate) deaf: bool,
    /// Deliver subjects to which somebody listens.
    pub(crate) heard: &'a BTreeSet<String>,
    pub(crate) wire: &'a mut Wire,
    pub(crate) mutation: Option<Mutation>,
    /// Ids given out.
    pub(crate) ids: &'a mut u64,
}

impl Outbox<'_> {
    fn is_heard(&self, subject: &[u8]) -> bool {
        if subject.starts_with(b"_push.") {
            return str::from_utf8(subject).is_ok_and(|subject| self.heard.contains(subject));
        }
        if subject.starts_with(b"$JS.M.") || subject.starts_with(b"$JS.S.") {
            return self.wire.is_heard(subject);
        }
        !(self.deaf && subject.starts_with(b"_pull."))
    }
}

impl Output for Outbox<'_> {
    fn unique_id(&mut self) -> Vec<u8> {
        *self.ids += 1;
        format!("id{}", self.ids).into_bytes()
    }

    fn publish(&mut self, to: &[u8], shown: &[u8], reply: &[u8], header_len: usize, body: &[u8]) -> usize {
        if !self.is_heard(to) {
            return usize::from(self.mutation == Some(Mutation::LoseUnheard));
        }
        if self.wire.is_for_stream(to) {
            let shown = if shown.is_empty() { to } else { shown }.to_vec();
            let (to, reply, body) = (to.to_vec(), reply.to_vec(), body.to_vec());
            self.wire.parcels.push_back(Parcel { to, shown, reply, header_len, body });
            return 1;
        }
        if self.mutation == Some(Mutation::SkipInReads) && is_left_out(to, &body[..header_len]) {
            return 1;
        }
        if self.mutation == Some(Mutation::LoseCopies) && to.starts_with(b"_again.") {
            return 1;
        }
        let (mut reply, mut body) = (reply.to_vec(), body.to_vec());
        if self.mutation == Some(Mutation::AckFastAhead) && to.starts_with(b"_fast.") {
            acknowledge_one_more(&mut body);
        }
        spoil_delivery(self.mutation, &mut reply, &mut body[..header_len]);
        let (to, shown) = (to.to_vec(), shown.to_vec());
        self.events.borrow_mut().push(Event::Sent { group: self.group, to, shown, reply, header_len, body });
        1
    }

    fn has_interest(&mut self, subject: &[u8]) -> bool {
        self.is_heard(subject) || self.mutation == Some(Mutation::LoseUnheard)
    }

    fn answer(&mut self, token: Token, mut answer: Answer) {
        spoil(self.mutation, &mut answer);
        self.events.borrow_mut().push(Event::Answered { token, answer: Box::new(answer) });
    }

    fn listen(&mut self, link: Link, deliver_to: &[u8], answer_to: &[u8]) {
        self.wire.listen(self.group, link, deliver_to, answer_to);
    }

    fn stop_listening(&mut self, link: Link) {
        self.wire.stop_listening(self.group, link);
    }

    fn load(&mut self, job: LoadJob) {
        self.jobs.push(Job::Group(GroupJob::Load(job), self.key));
    }

    fn advise(&mut self, advisory: Advisory) {
        if let Advisory::Damaged { stream_seq } = advisory {
            self.events.borrow_mut().push(Event::Damaged { group: self.group, seq: stream_seq });
        }
    }
}

/// A message of a direct get of several that a broken server does not send.
fn is_left_out(to: &[u8], block: &[u8]) -> bool {
    let seq = headers::get(block, "Nats-Sequence").and_then(|seq| seq.last());
    to.starts_with(b"_read.") && headers::get(block, "Nats-Num-Pending").is_some() && seq == Some(&b'5')
}

fn acknowledge_one_more(body: &mut Vec<u8>) {
    let Ok(mut told) = serde_json::from_slice::<serde_json::Value>(body) else { return };
    let is_ack = told.get("type").is_some_and(|kind| kind == "ack");
    if let Some(seq) = told.get("seq").and_then(serde_json::Value::as_u64).filter(|_| is_ack) {
        told["seq"] = (seq + 1).into();
        *body = told.to_string().into_bytes();
    }
}

/// What a broken server does to a message that it delivers.
fn spoil_delivery(mutation: Option<Mutation>, reply: &mut [u8], block: &mut [u8]) {
    let digit = match mutation {
        Some(Mutation::MiscountPending) if reply.starts_with(b"$JS.ACK.") => reply.last_mut(),
        Some(Mutation::WrongSizes) if headers::get(block, "Nats-Msg-Size").is_some() => {
            // It is the last header; two line ends follow.
            block.len().checked_sub(5).and_then(|at| block.get_mut(at))
        }
        Some(Mutation::WrongBeats)
            if headers::get(block, "Nats-Last-Consumer").is_some() && reply.is_empty() =>
        {
            let key = b"Nats-Last-Consumer: ";
            let at = block.windows(key.len()).position(|part| part == key).map(|at| at + key.len());
            at.and_then(|at| block.get_mut(at))
        }
        _ => None,
    };
    if let Some(digit) = digit {
        *digit = if *digit == b'7' { b'8' } else { b'7' };
    }
}

/// What a broken server answers.
fn spoil(mutation: Option<Mutation>, answer: &mut Answer) {
    match (mutation, answer) {
        (Some(Mutation::WrongTimes), Ok(CommandOutcome::Message(message))) => message.time.0 += 1,
        (Some(Mutation::MiscountPurges), Ok(CommandOutcome::Purged(n))) if *n > 3 => *n += 1,
        (Some(Mutation::MiscountSubjects), Ok(CommandOutcome::State(report))) => {
            report.state.subjects.pop_last();
        }
        _ => {}
    }
}
