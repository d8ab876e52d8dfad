//! Questions between servers, and their answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use linnet_ids::PeerId;
use parking_lot::{Mutex, RwLock};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::datagram::Head;
use super::link::Link;
use super::subjects::Kind;

/// Bytes of a question or an answer.
pub(crate) const BODY_MAX: usize = 16 << 20;
/// Questions of this server that wait for their answers.
const PENDING_MAX: usize = 4096;
/// Questions of others that wait for whoever answers.
const ASKED_MAX: usize = 1024;
/// Their bytes.
const ASKED_BYTES_MAX: usize = 64 << 20;

/// What a question is about. Servers of different versions know different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AskKind(pub(crate) u8);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum AskError {
    /// The server cannot be heard, or was restarted before it answered.
    #[error("the server cannot be reached")]
    Unreachable,
    /// It did not answer in time.
    #[error("the server did not answer in time")]
    TimedOut,
    /// It does not know such questions, or gave this one up.
    #[error("the server has no answer")]
    NoAnswer,
    /// Too much is asked at once, here or there.
    #[error("too many questions between servers wait for answers")]
    Busy,
    /// The question, or the answer, has more than [`BODY_MAX`] bytes.
    #[error("a question or answer between servers is too large")]
    TooLarge,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Answered,
    NoAnswer,
    Busy,
    TooLarge,
}

impl Status {
    const ALL: [Self; 4] = [Self::Answered, Self::NoAnswer, Self::Busy, Self::TooLarge];

    fn number(self) -> u8 {
        match self {
            Self::Answered => 0,
            Self::NoAnswer => 1,
            Self::Busy => 2,
            Self::TooLarge => 3,
        }
    }

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.number() == number)
    }
}

/// Which question an answer is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct QuestionId {
    /// Number of the asking process.
    boot: u64,
    number: u64,
}

impl QuestionId {
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.boot.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
    }

    /// The id, the byte behind it, and the rest.
    fn take(bytes: &Bytes) -> Option<(Self, u8, Bytes)> {
        let (head, _) = bytes.split_first_chunk::<17>()?;
        let (boot, rest) = head.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let id = Self { boot: u64::from_le_bytes(*boot), number: u64::from_le_bytes(*number) };
        Some((id, *rest.first()?, bytes.slice(head.len()..)))
    }
}

/// Answers questions of one kind. It returns soon: whatever takes long is for a task of its own, which takes the
/// answerer along.
pub(crate) type Handler = Arc<dyn Fn(PeerId, Bytes, Answerer) + Send + Sync>;

/// Who waits for an answer.
struct Pending {
    from: PeerId,
    answer: oneshot::Sender<Result<Bytes, AskError>>,
}

/// A question of another server.
struct Asked {
    kind: AskKind,
    from: PeerId,
    body: Bytes,
    answerer: Answerer,
    _room: OwnedSemaphorePermit,
}

/// Questions of this server, and those to it.
pub(super) struct Asks {
    pending: Mutex<HashMap<u64, Pending>>,
    next: AtomicU64,
    handlers: Arc<RwLock<HashMap<AskKind, Handler>>>,
    asked: mpsc::Sender<Asked>,
    asked_room: Arc<Semaphore>,
    link: Weak<Link>,
}

impl Asks {
    pub(super) fn start(link: Weak<Link>) -> Self {
        let handlers: Arc<RwLock<HashMap<AskKind, Handler>>> = Arc::default();
        let (asked, to_answer) = mpsc::channel(ASKED_MAX);
        tokio::spawn(answer_all(to_answer, handlers.clone()));
        Self {
            pending: Mutex::default(),
            next: AtomicU64::new(0),
            handlers,
            asked,
            asked_room: Arc::new(Semaphore::new(ASKED_BYTES_MAX)),
            link,
        }
    }

    /// Nothing more comes from a server.
    pub(super) fn lose(&self, peer: PeerId) {
        let lost: Vec<Pending> =
            self.pending.lock().extract_if(|_, pending| pending.from == peer).map(|(_, lost)| lost).collect();
        lost.into_iter().for_each(|pending| pending.end(Err(AskError::Unreachable)));
    }

    /// Nothing more comes from anybody.
    pub(super) fn lose_all(&self) {
        let lost = std::mem::take(&mut *self.pending.lock());
        lost.into_values().for_each(|pending| pending.end(Err(AskError::Unreachable)));
    }
}

impl Pending {
    fn end(self, outcome: Result<Bytes, AskError>) {
        // Whoever asked may have given up.
        let _ = self.answer.send(outcome);
    }
}

/// Hands questions to those who answer them, in order.
async fn answer_all(mut asked: mpsc::Receiver<Asked>, handlers: Arc<RwLock<HashMap<AskKind, Handler>>>) {
    while let Some(Asked { kind, from, body, answerer, _room }) = asked.recv().await {
        let handler = handlers.read().get(&kind).cloned();
        // Without one the answerer is dropped, which answers.
        if let Some(handler) = handler {
            handler(from, body, answerer);
        }
    }
}

/// Answers one question. Dropped, it says that there is no answer.
pub(crate) struct Answerer {
    link: Weak<Link>,
    to: PeerId,
    id: QuestionId,
    is_done: bool,
}

impl Answerer {
    /// Answers.
    pub(crate) fn answer(mut self, body: &[u8]) {
        if body.len() > BODY_MAX {
            self.say(Status::TooLarge, &[]);
        } else if !self.say(Status::Answered, body) {
            self.say(Status::Busy, &[]);
        }
    }

    /// False if too much waits to be sent.
    fn say(&mut self, status: Status, body: &[u8]) -> bool {
        self.is_done = true;
        let Some(link) = self.link.upgrade() else { return true };
        let mut bytes = link.head();
        self.id.put(&mut bytes);
        bytes.push(status.number());
        bytes.extend_from_slice(body);
        link.say(self.to, Kind::Answer, bytes)
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        if !self.is_done {
            self.say(Status::NoAnswer, &[]);
        }
    }
}

/// Forgets a question when nobody waits for its answer any more.
struct Waiting<'a> {
    asks: &'a Asks,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.asks.pending.lock().remove(&self.number);
    }
}

impl Link {
    /// Has questions of a kind answered by `handler` from now on.
    pub(crate) fn answer_with(
        &self,
        kind: AskKind,
        handler: impl Fn(PeerId, Bytes, Answerer) + Send + Sync + 'static,
    ) {
        self.asks.handlers.write().insert(kind, Arc::new(handler));
    }

    /// Asks a server and waits for its answer.
    pub(crate) async fn ask(
        &self,
        peer: PeerId,
        kind: AskKind,
        body: &[u8],
        timeout: Duration,
    ) -> Result<Bytes, AskError> {
        if body.len() > BODY_MAX {
            return Err(AskError::TooLarge);
        }
        let number = self.asks.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        {
            let mut pending = self.asks.pending.lock();
            if pending.len() >= PENDING_MAX {
                return Err(AskError::Busy);
            }
            pending.insert(number, Pending { from: peer, answer });
        }
        let _waiting = Waiting { asks: &self.asks, number };
        // Only now: who becomes unreachable from here on ends the wait.
        if self.has_stopped() || !self.hears(peer) {
            return Err(AskError::Unreachable);
        }
        let mut bytes = self.head();
        QuestionId { boot: self.boot, number }.put(&mut bytes);
        bytes.push(kind.0);
        bytes.extend_from_slice(body);
        if !self.say(peer, Kind::Question, bytes) {
            return Err(AskError::Busy);
        }
        match tokio::time::timeout(timeout, answered).await {
            Ok(outcome) => outcome.unwrap_or(Err(AskError::Unreachable)),
            Err(_) => Err(AskError::TimedOut),
        }
    }

    /// Asks every server that can be heard. Returns once all have answered, or could have, in the order of their names.
    pub(crate) async fn ask_all(
        self: &Arc<Self>,
        kind: AskKind,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Vec<(PeerId, Result<Bytes, AskError>)> {
        let peers: Vec<PeerId> = self.peers().into_iter().filter(|p| p.is_reachable).map(|p| p.id).collect();
        let body: Arc<[u8]> = body.into();
        let mut asking = JoinSet::new();
        for (at, peer) in peers.into_iter().enumerate() {
            let (link, body) = (self.clone(), body.clone());
            asking.spawn(async move { (at, peer, link.ask(peer, kind, &body, timeout).await) });
        }
        let mut answers = asking.join_all().await;
        answers.sort_unstable_by_key(|(at, ..)| *at);
        answers.into_iter().map(|(_, peer, answer)| (peer, answer)).collect()
    }

    /// False if it cannot be read.
    pub(super) fn on_question(&self, head: Head, bytes: Bytes) -> bool {
        let Some((id, kind, body)) = QuestionId::take(&bytes) else { return false };
        let mut answerer = Answerer { link: self.asks.link.clone(), to: head.from, id, is_done: false };
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let Ok(room) = self.asks.asked_room.clone().try_acquire_many_owned(len) else {
            answerer.say(Status::Busy, &[]);
            return true;
        };
        let asked = Asked { kind: AskKind(kind), from: head.from, body, answerer, _room: room };
        if let Err(refused) = self.asks.asked.try_send(asked) {
            refused.into_inner().answerer.say(Status::Busy, &[]);
        }
        true
    }

    /// False if it cannot be read.
    pub(super) fn on_answer(&self, head: Head, bytes: &Bytes) -> bool {
        let Some((id, status, body)) = QuestionId::take(bytes) else { return false };
        let Some(status) = Status::of(status) else { return false };
        if id.boot != self.boot {
            return true;
        }
        let pending = {
            let mut all = self.asks.pending.lock();
            let is_theirs = all.get(&id.number).is_some_and(|pending| pending.from == head.from);
            is_theirs.then(|| all.remove(&id.number)).flatten()
        };
        if let Some(pending) = pending {
            pending.end(match status {
                Status::Answered => Ok(body),
                Status::NoAnswer => Err(AskError::NoAnswer),
                Status::Busy => Err(AskError::Busy),
                Status::TooLarge => Err(AskError::TooLarge),
            });
        }
        true
    }
}

#[cfg(test)]
mod tests;
