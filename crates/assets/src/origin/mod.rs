//! What a stream takes from another one, as a mirror or a source (jetstream, "Mirrors and sources").
//!
//! An [`Origin`] asks the other stream for a consumer that pushes to a subject of its own, follows what arrives there
//! and begins anew when something is missing. It speaks the public consumer protocol, so that it does not matter
//! where the other stream is. How far it is stands in the stream's own log, with the messages: [`Taken`].

mod arrival;
mod request;
mod taken;

use std::collections::VecDeque;
use std::time::Duration;

use linnet_ids::{Mono, StreamSeq, Wall};
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::StreamSourceInfo;
use linnet_jsapi::{Nanos, StreamSource};
use linnet_subject::Transform;

use crate::output::Output;

pub(crate) use arrival::{Arrival, clean_headers};
pub(crate) use request::Asker;
use request::Demand;
pub use taken::Taken;
pub(crate) use taken::source_header;

/// Names one attempt to read an origin. What comes for an earlier attempt is not taken for the present one's.
pub type Link = u32;

/// How long the answer to a request for a consumer is awaited.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long messages wait for that answer, which says what the origin is known by.
const IDENTITY_MAX: Duration = Duration::from_secs(1);
/// The consumer gives a sign of life every second; after this long without one it is taken for gone.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Wait after the first attempt that failed, when it may be that the server is only starting; then; and at most.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_NEXT: Duration = Duration::from_secs(2);
const RETRY_STEP: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(120);
/// From one attempt to the next, even if the first got an answer.
const ANEW_MIN: Duration = Duration::from_millis(500);
/// So near the end of its origin a mirror may answer for it.
const NEAR: u64 = 10;
/// Flow control requests that may wait for what they ask about to be stored.
const FLOW_WAITING_MAX: usize = 64;

/// What the other stream is to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its copy, with the same sequences.
    Mirror,
    /// One of those whose messages are added.
    Source,
}

/// A stream that is read.
pub(crate) struct Origin {
    pub(crate) role: Role,
    pub(crate) config: StreamSource,
    /// What tells it from the other origins.
    pub(crate) key: String,
    /// Which of the stream's origins of the same name it is.
    pub(crate) nth: usize,
    renames: Vec<Transform>,
    /// Newest sequence taken over, those in flight included; 0 for none.
    pub(crate) position: StreamSeq,
    /// What the other stream is known by, so that another one of the same name is noticed.
    pub(crate) identity: String,
    state: State,
    /// A message waits for the answer to the request for a consumer.
    is_holding: bool,
    lag: u64,
    heard: Option<Wall>,
    error: Option<ApiError>,
    failures: u32,
    /// When a consumer was asked for last.
    asked: Option<Mono>,
    /// What its server is asked for.
    demand: Demand,
    /// Where the consumer that was asked for last is given back.
    give_back_to: Option<Vec<u8>>,
    /// It has come near the end of the origin.
    has_caught_up: bool,
    /// Flow control requests that are answered when the stream is stored up to a sequence.
    flow: VecDeque<FlowRequest>,
}

enum State {
    /// Nothing is under way; when to try.
    Down { retry: Mono },
    /// A consumer was asked for.
    Asked { link: Link, since: Mono, delivered: u64 },
    /// A consumer delivers.
    Up { link: Link, last: Mono, delivered: u64 },
}

struct FlowRequest {
    reply: Vec<u8>,
    stored: StreamSeq,
    delivered: u64,
    position: StreamSeq,
}

impl Origin {
    pub(crate) fn new(role: Role, config: StreamSource, nth: usize, taken: &Taken, due: Mono) -> Self {
        let transforms = config.subject_transforms.iter().filter(|t| !t.dest.is_empty());
        Self {
            role,
            key: config.key(),
            nth,
            // The rules have judged them: what is not valid renames nothing.
            renames: transforms.filter_map(|t| Transform::new(&t.src, &t.dest).ok()).collect(),
            config,
            position: taken.seq,
            identity: taken.identity.clone(),
            state: State::Down { retry: due },
            is_holding: false,
            lag: 0,
            heard: None,
            error: None,
            failures: 0,
            asked: None,
            demand: Demand::of(role),
            give_back_to: None,
            has_caught_up: false,
            flow: VecDeque::new(),
        }
    }

    /// True if something that came on this link is for the present attempt.
    pub(crate) fn is_current(&self, link: Link) -> bool {
        self.link() == Some(link)
    }

    pub(crate) fn link(&self) -> Option<Link> {
        match &self.state {
            State::Down { .. } => None,
            State::Asked { link, .. } | State::Up { link, .. } => Some(*link),
        }
    }

    /// True once it has come near the end of the origin.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.has_caught_up
    }

    /// Notes how many messages the origin has beyond what is here. True when that is few for the first time.
    fn note_lag(&mut self, lag: u64) -> bool {
        self.lag = lag;
        let comes_near = lag < NEAR && !self.has_caught_up;
        self.has_caught_up |= comes_near;
        comes_near
    }

    /// When it wants to be looked at.
    pub(crate) fn next_due(&self) -> Mono {
        match &self.state {
            State::Down { retry } => *retry,
            State::Asked { since, .. } if self.is_holding => *since + IDENTITY_MAX,
            State::Asked { since, .. } => *since + ANSWER_MAX,
            State::Up { last, .. } => *last + SILENCE_MAX,
        }
    }

    /// Does what is due: asks for a consumer, or gives one up that is silent. `link` names the next attempt; true if
    /// it was used.
    pub(crate) fn on_timer(
        &mut self,
        link: Link,
        asker: &Asker<'_>,
        now: Mono,
        out: &mut dyn Output,
    ) -> bool {
        if now < self.next_due() {
            return false;
        }
        match self.state {
            State::Down { .. } => {
                self.ask(link, asker, now, out);
                true
            }
            // What waits goes on without an answer.
            State::Asked { .. } if self.is_holding => {
                self.is_holding = false;
                false
            }
            State::Asked { .. } => {
                self.fail(self.setup_failed("no answer from the origin"), now, out);
                false
            }
            // It was there, so that it may be there again at once.
            State::Up { .. } => {
                self.begin_anew(now, out);
                false
            }
        }
    }

    fn ask(&mut self, link: Link, asker: &Asker<'_>, now: Mono, out: &mut dyn Output) {
        let request = asker.request(self, &out.unique_id());
        out.listen(link, &request.deliver_to, &request.answer_to);
        self.asked = Some(now);
        self.give_back_to = request.give_back_to;
        let reached =
            out.publish(&request.subject, b"", &request.answer_to, request.header_len, &request.body);
        self.state = State::Asked { link, since: now, delivered: 0 };
        if reached == 0 {
            self.fail(self.setup_failed("nobody answers for the origin"), now, out);
        }
    }

    /// The attempt failed: the next one comes later.
    pub(crate) fn fail(&mut self, error: ApiError, now: Mono, out: &mut dyn Output) {
        self.demand = Demand::of(self.role);
        self.error = Some(error);
        let wait = match self.failures {
            0 => RETRY_MIN,
            1 => RETRY_NEXT,
            more => RETRY_STEP.saturating_mul(more - 1),
        };
        self.failures = self.failures.saturating_add(1);
        self.close(now + wait.min(RETRY_MAX), out);
    }

    /// Something is missing of what was delivered: the rest is asked for again.
    pub(crate) fn begin_anew(&mut self, now: Mono, out: &mut dyn Output) {
        self.demand = Demand::of(self.role);
        let soonest = self.asked.map_or(now, |asked| asked + ANEW_MIN);
        self.close(soonest.max(now), out);
    }

    /// A stream with the origin's name came or went: what is known of its consumer and of failures is old.
    pub(crate) fn origin_changed(&mut self, now: Mono, out: &mut dyn Output) {
        self.failures = 0;
        self.begin_anew(now, out);
    }

    /// Gives up what is under way.
    pub(crate) fn close(&mut self, retry: Mono, out: &mut dyn Output) {
        if let Some(link) = self.link() {
            out.stop_listening(link);
        }
        self.flow.clear();
        self.is_holding = false;
        self.state = State::Down { retry };
    }

    /// True if a message of the origin must wait: its sequence means nothing as long as it is not known whose it is, and
    /// the answer that says so is on its way.
    pub(crate) fn must_hold(&mut self, now: Mono) -> bool {
        let knows = self.role == Role::Mirror || !self.identity.is_empty();
        self.is_holding = match &self.state {
            State::Asked { since, .. } => {
                !knows && self.demand == Demand::Identity && now < *since + IDENTITY_MAX
            }
            State::Down { .. } | State::Up { .. } => false,
        };
        self.is_holding
    }

    /// The server refused what was asked because it is too old for it: less is asked at once. False if there is no less.
    fn ask_for_less(&mut self, now: Mono, out: &mut dyn Output) -> bool {
        let Some(less) = self.demand.less() else { return false };
        self.demand = less;
        self.close(now, out);
        true
    }

    /// Gives its consumer back. Nobody waits for the answer, and a consumer that stays goes by itself, unless it keeps
    /// messages of a work queue.
    pub(crate) fn leave(mut self, now: Mono, out: &mut dyn Output) {
        self.close(now, out);
        if let Some(subject) = &self.give_back_to {
            let answer_to = [b"$JSC.R.".as_slice(), &out.unique_id()].concat();
            out.publish(subject, b"", &answer_to, 0, b"");
        }
    }

    /// True if both are read by the same consumer.
    pub(crate) fn shares_consumer_with(&self, other: &Self) -> bool {
        let api = |origin: &Self| origin.config.external.as_ref().map(|external| external.api.clone());
        (&self.config.name, self.nth, self.role) == (&other.config.name, other.nth, other.role)
            && api(self) == api(other)
    }

    /// What kept the origin from being asked, in the words of the role.
    pub(crate) fn setup_failed(&self, text: &str) -> ApiError {
        match self.role {
            Role::Mirror => errors::mirror_consumer_setup_failed(text),
            Role::Source => errors::source_consumer_setup_failed(text),
        }
    }

    /// Another stream has the origin's name now: it is read from where the configuration says.
    pub(crate) fn forget_origin(&mut self) {
        self.position = 0;
        self.identity.clear();
    }

    /// Answers flow control requests for what is stored by now.
    pub(crate) fn answer_flow(&mut self, stored: StreamSeq, out: &mut dyn Output) {
        while let Some(request) = self.flow.pop_front_if(|request| request.stored <= stored) {
            arrival::send_flow_answer(&request.reply, request.delivered, request.position, out);
        }
    }

    /// The subject under which a message of the origin is stored here.
    pub(crate) fn rename(&self, subject: &[u8], random: u64) -> Option<Vec<u8>> {
        let mut renamed = Vec::new();
        self.renames.iter().any(|rename| rename.apply(subject, random, &mut renamed)).then_some(renamed)
    }

    pub(crate) fn info(&self, wall: Wall) -> StreamSourceInfo {
        StreamSourceInfo {
            name: self.config.name.clone(),
            external: self.config.external.clone(),
            lag: self.lag,
            seq: if self.role == Role::Source { self.position } else { 0 },
            active: self.heard.map_or(Nanos(-1), |heard| Nanos((wall.0 - heard.0).max(0))),
            error: self.error.clone(),
            filter_subject: self.config.filter_subject.clone(),
            subject_transforms: self.config.subject_transforms.clone(),
        }
    }
}
