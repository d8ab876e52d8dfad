//! What streams send each other: mirrors and sources ask their origins for consumers and hear from them.

use std::collections::VecDeque;
use std::fmt;

use linnet_assets::{Answer, Command, CommandOutcome, ConsumerCommand, Link};
use linnet_ids::GroupId;
use linnet_jsapi::limits::Limits;
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_replication::Host as _;
use linnet_wire::headers;

use crate::flows::Waiter;
use crate::mutation::Mutation;
use crate::process::{Letter, Process, PublishIn};

const API: &[u8] = b"$JS.API.CONSUMER.CREATE.";
const GIVE_BACK: &[u8] = b"$JS.API.CONSUMER.DELETE.";
const FLOW: &[u8] = b"$JS.FC.";
const IDENTITY: &str = "Nats-Stream-Identity";

/// A message from one stream to another.
pub(crate) struct Parcel {
    pub(crate) to: Vec<u8>,
    pub(crate) shown: Vec<u8>,
    pub(crate) reply: Vec<u8>,
    pub(crate) header_len: usize,
    pub(crate) body: Vec<u8>,
}

impl fmt::Display for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes).replace("\r\n", " ");
        let head = self.body.get(..self.header_len).unwrap_or_default();
        write!(f, "{} with reply {}: {}", text(&self.to), text(&self.reply), text(head))
    }
}

/// A stream that listens to an origin.
pub(crate) struct Listener {
    group: GroupId,
    link: Link,
    deliver_to: Vec<u8>,
    answer_to: Vec<u8>,
}

/// What is under way between streams, and who listens.
#[derive(Default)]
pub(crate) struct Wire {
    listeners: Vec<Listener>,
    pub(crate) parcels: VecDeque<Parcel>,
}

impl Wire {
    pub(crate) fn listen(&mut self, group: GroupId, link: Link, deliver_to: &[u8], answer_to: &[u8]) {
        let (deliver_to, answer_to) = (deliver_to.to_vec(), answer_to.to_vec());
        self.listeners.push(Listener { group, link, deliver_to, answer_to });
    }

    pub(crate) fn stop_listening(&mut self, group: GroupId, link: Link) {
        self.listeners.retain(|listener| listener.group != group || listener.link != link);
    }

    /// True if a stream listens there for messages.
    pub(crate) fn is_heard(&self, subject: &[u8]) -> bool {
        self.listeners.iter().any(|listener| listener.deliver_to == subject)
    }

    /// True if what is sent there is meant for a stream.
    pub(crate) fn is_for_stream(&self, to: &[u8]) -> bool {
        [API, GIVE_BACK, FLOW].iter().any(|prefix| to.starts_with(prefix)) || self.is_heard(to)
    }

    fn find(&self, is_it: impl Fn(&Listener) -> bool) -> Option<(GroupId, Link)> {
        self.listeners.iter().find(|listener| is_it(listener)).map(|listener| (listener.group, listener.link))
    }
}

/// A stream that waits for the answer to its request for a consumer.
#[derive(Clone, Copy)]
pub(crate) struct Asker {
    group: GroupId,
    link: Link,
    origin: GroupId,
}

impl Process {
    /// Hands over the message that was sent first; with `is_lost` one that a consumer delivers gets lost.
    pub(crate) fn hand_over(&mut self, is_lost: bool) {
        let Some(parcel) = self.wire.parcels.pop_front() else { return };
        if parcel.to.starts_with(API) {
            self.ask_origin(&parcel);
        } else if let Some(rest) = parcel.to.strip_prefix(GIVE_BACK) {
            self.take_back(rest);
        } else if let Some(rest) = parcel.to.strip_prefix(FLOW) {
            let Some((stream, consumer)) = two_tokens(rest) else { return };
            let Some(origin) = self.group_of(&stream) else { return };
            let block = parcel.body[..parcel.header_len].to_vec();
            self.tell(origin, Letter::Flow { consumer, subject: parcel.to, headers: block });
        } else if let Some((group, link)) = self.wire.find(|l| l.deliver_to == parcel.to)
            && !is_lost
            && let Some(key) = self.key_of(group)
        {
            let Parcel { shown, reply, header_len, mut body, .. } = parcel;
            if let Some(last) = body.get_mut(header_len..).and_then(<[u8]>::last_mut)
                && self.mutation == Some(Mutation::SpoilTaken)
            {
                *last ^= 1;
            }
            self.publish(key, PublishIn { subject: shown, reply, header_len, body, origin: Some(link) });
        }
    }

    fn tell(&mut self, group: GroupId, letter: Letter) {
        if let Some(key) = self.key_of(group) {
            self.letter(key, letter);
        }
    }

    /// The stream of this name.
    fn group_of(&self, name: &str) -> Option<GroupId> {
        let mut slots = self.slots.values().filter(|slot| slot.group.group() != GroupId::META);
        let found = slots.find(|slot| slot.group.stream().config().name == name && !slot.failed);
        found.map(|slot| slot.group.group())
    }

    fn ask_origin(&mut self, parcel: &Parcel) {
        let Some((group, link)) = self.wire.find(|l| l.answer_to == parcel.reply) else { return };
        let (block, payload) = parcel.body.split_at(parcel.header_len);
        let Ok(request) = serde_json::from_slice::<CreateConsumerRequest>(payload) else { return };
        let Some((origin, key)) =
            self.group_of(&request.stream).and_then(|origin| Some((origin, self.key_of(origin)?)))
        else {
            let mut none = Vec::new();
            headers::begin(&mut none, "503");
            headers::end(&mut none);
            self.tell(group, Letter::OriginAnswer { link, headers: none, payload: Vec::new() });
            return;
        };
        let asker = Asker { group, link, origin };
        let known = headers::get(block, IDENTITY).unwrap_or_default();
        if !known.is_empty() && known != origin.to_string().as_bytes() {
            let error = r#"{"error":{"code":400,"err_code":10225,"description":"another stream"}}"#;
            self.answer_asker(asker, error.as_bytes().to_vec());
            return;
        }
        self.ids += 1;
        let command = ConsumerCommand::Create {
            request: Box::new(request),
            suggested_name: format!("w{}", self.ids),
            limits: Box::new(Limits::unlimited()),
        };
        let token = self.expect(Waiter::Asker(asker));
        self.command(key, Command::Consumer(command), token);
    }

    /// Deletes a consumer that its stream does not need any more; nobody waits for that.
    fn take_back(&mut self, whose: &[u8]) {
        let Some((stream, consumer)) = two_tokens(whose) else { return };
        let Some(key) = self.group_of(&stream).and_then(|origin| self.key_of(origin)) else { return };
        let token = self.expect(Waiter::Nobody);
        self.command(key, Command::Consumer(ConsumerCommand::Delete(consumer)), token);
    }

    /// The origin answered a request for a consumer.
    pub(crate) fn origin_answered(&mut self, asker: Asker, answer: &Answer) {
        let payload = match answer {
            Ok(CommandOutcome::Consumer(info)) => serde_json::to_vec(info),
            Ok(_) => return,
            Err(error) => serde_json::to_vec(&serde_json::json!({ "error": error })),
        };
        self.answer_asker(asker, payload.unwrap_or_default());
    }

    fn answer_asker(&mut self, asker: Asker, payload: Vec<u8>) {
        let mut block = Vec::new();
        headers::begin(&mut block, "");
        headers::push(&mut block, IDENTITY, asker.origin.to_string().as_bytes());
        headers::end(&mut block);
        self.tell(asker.group, Letter::OriginAnswer { link: asker.link, headers: block, payload });
    }
}

fn two_tokens(subject: &[u8]) -> Option<(String, String)> {
    let mut tokens = str::from_utf8(subject).ok()?.split('.');
    Some((tokens.next()?.to_owned(), tokens.next()?.to_owned()))
}
