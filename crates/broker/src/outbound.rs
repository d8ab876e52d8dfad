#[cfg(test)]
mod tests;

mod state;

use std::collections::VecDeque;
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use linnet_s2::Level;
use linnet_wire::encode;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::chunk::{CHUNK_MAX, Chunk, recycle};
use crate::link::{How, Link, Wrote};
use crate::packing::Packer;
use crate::subscription::SubRef;
use state::{State, Taken, remaining};

/// Payloads of at least this size are shared by reference across a fan-out instead of being copied.
pub(crate) const SHARE_MIN: usize = 4096;
/// How long a connection that is being closed may take to accept its last bytes.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The bytes on their way to one socket. Any thread appends under a short lock; the thread that appended last in a
/// batch writes them out, outside the lock. At most one thread writes at a time.
pub(crate) struct Outbound {
    state: Mutex<State>,
    /// Set once what is written is compressed.
    packer: OnceLock<Box<Packer>>,
    /// What holds instead of the policy that writers name.
    policy: ArcSwapOption<WritePolicy>,
    /// How many times `max_pending` may wait.
    pending_factor: usize,
}

/// How long a connection may take for its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WritePolicy {
    /// Time without a byte taken, or for everything that is written at a time.
    pub deadline: Duration,
    /// Everything must be taken within the deadline. Else time begins anew with each byte that is.
    pub is_strict: bool,
}

/// The bytes of a batch.
pub(crate) enum Content<'a> {
    /// In the publisher's buffer.
    Owned(&'a mut Vec<u8>),
    /// The same for several connections.
    Shared(Bytes),
}

impl Content<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Owned(bytes) => bytes.len(),
            Self::Shared(bytes) => bytes.len(),
        }
    }

    fn discard(self) {
        if let Self::Owned(bytes) = self {
            bytes.clear();
        }
    }
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Queued. The caller must flush iff `schedule`; `pending` bytes are waiting now.
    Queued { schedule: bool, pending: usize },
    /// The connection is closed; nothing was queued.
    Closed,
    /// The queue would exceed its bound; nothing was queued.
    Full,
}

/// One message to deliver.
pub(crate) struct Frame<'a> {
    pub(crate) subject: &'a [u8],
    pub(crate) sid: &'a [u8],
    pub(crate) reply: &'a [u8],
    pub(crate) header_len: usize,
    pub(crate) body: &'a [u8],
}

impl Frame<'_> {
    /// Most bytes it takes.
    pub(crate) fn size_bound(&self) -> usize {
        encode::msg_line_bound(self.subject, self.sid, self.reply) + self.body.len() + 2
    }

    /// Appends the line before the body.
    pub(crate) fn encode_line(&self, out: &mut Vec<u8>) {
        encode::msg_line(out, self.subject, self.sid, self.reply, self.header_len, self.body.len());
    }
}

/// Why a connection could not take its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteFailure {
    Deadline(Late),
    Error,
}

/// What was not written in time, in nats-server's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("WriteDeadline of {deadline:?} exceeded with {chunks} chunks of {bytes} total bytes.")]
pub(crate) struct Late {
    deadline: Duration,
    chunks: usize,
    bytes: usize,
}

impl Outbound {
    pub(crate) fn new(link: Arc<Link>, pending_factor: usize) -> Self {
        Self {
            state: Mutex::new(State::new(Some(link))),
            packer: OnceLock::new(),
            policy: ArcSwapOption::empty(),
            pending_factor,
        }
    }

    /// Bytes that may wait.
    pub(crate) fn bound(&self, max_pending: usize) -> usize {
        max_pending.saturating_mul(self.pending_factor)
    }

    /// Bytes waiting to be written.
    pub(crate) fn pending(&self) -> usize {
        let state = self.state.lock();
        state.queued + state.in_flight
    }

    /// Messages and their bytes delivered so far.
    pub(crate) fn delivered(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.msgs, state.msg_bytes)
    }

    /// Moves a batch of `count` = (messages, their bytes) in and counts them at their subscriptions. All deliveries of
    /// a subscription are counted under this lock, so that it needs no atomic addition. A buffer of the caller's is
    /// empty afterwards.
    pub(crate) fn take_in(
        &self,
        content: Content<'_>,
        count: (u64, u64),
        runs: impl Iterator<Item = (SubRef, u64)>,
        max_pending: usize,
    ) -> Pushed {
        let bound = self.bound(max_pending);
        let mut state = self.state.lock();
        if state.sealed || state.queued + state.in_flight + content.len() > bound {
            content.discard();
            return if state.sealed { Pushed::Closed } else { Pushed::Full };
        }
        match content {
            Content::Owned(bytes) => state.append(bytes),
            Content::Shared(bytes) => state.append_shared(bytes),
        }
        for (sub, count) in runs {
            sub.delivered.store(sub.delivered.load(Ordering::Relaxed) + count, Ordering::Relaxed);
        }
        state.msgs += count.0;
        state.msg_bytes += count.1;
        state.schedule()
    }

    /// Appends a message and counts it at its subscription; `shared` is its body as a buffer to share, if it is large.
    pub(crate) fn deliver(
        &self,
        frame: &Frame<'_>,
        shared: Option<&Bytes>,
        delivered: &AtomicU64,
        max_pending: usize,
    ) -> Pushed {
        let bound = self.bound(max_pending);
        let mut state = self.state.lock();
        if state.sealed {
            return Pushed::Closed;
        }
        let size = frame.size_bound();
        if state.queued + state.in_flight + size > bound {
            return Pushed::Full;
        }
        let line = state.tail(size.min(CHUNK_MAX));
        let before = line.len();
        frame.encode_line(line);
        match shared {
            Some(shared) => {
                let written = line.len() - before;
                state.queued += written;
                state.append_shared(shared.clone());
                state.tail(2).extend_from_slice(encode::CRLF);
                state.queued += 2;
            }
            None => {
                line.extend_from_slice(frame.body);
                line.extend_from_slice(encode::CRLF);
                let written = line.len() - before;
                state.queued += written;
            }
        }
        delivered.store(delivered.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        state.msgs += 1;
        state.msg_bytes += frame.body.len() as u64;
        state.schedule()
    }

    /// From now on this holds, whatever policy a writer names.
    pub(crate) fn set_write_policy(&self, policy: WritePolicy) {
        self.policy.store(Some(Arc::new(policy)));
    }

    /// Compresses what is appended from here on; called again, at another level.
    pub(crate) fn compress(&self, level: Level) {
        let packer = self.packer.get_or_init(|| Box::new(Packer::new(level)));
        packer.set_level(level);
        let state = &mut *self.state.lock();
        if !state.is_packed {
            state.is_packed = true;
            state.plain = std::mem::take(&mut state.queue);
        }
    }

    /// Appends protocol bytes. They are small and not subject to the bound.
    pub(crate) fn push(&self, bytes: &[u8]) -> Pushed {
        let mut state = self.state.lock();
        if state.sealed {
            return Pushed::Closed;
        }
        state.tail(bytes.len()).extend_from_slice(bytes);
        state.queued += bytes.len();
        state.schedule()
    }

    /// Writes what is queued. Returns when the queue is empty, when another thread is writing, or when the socket
    /// is full: then a task goes on and reports a failure through `on_failure`.
    pub(crate) fn flush(
        self: &Arc<Self>,
        runtime: &Handle,
        policy: WritePolicy,
        on_failure: impl FnOnce(WriteFailure) + Send + 'static,
    ) {
        let Some((link, taken)) = self.begin() else { return };
        let mut chunks = self.pack(taken);
        let mut skip = 0;
        loop {
            match link.write(&mut chunks, &mut skip, How::WhenReady) {
                Wrote::All => match self.more(chunks) {
                    Some(next) => chunks = self.pack(next),
                    None => return,
                },
                Wrote::Blocked => {
                    let this = self.clone();
                    runtime.spawn(async move {
                        if let Err(failure) = this.drain(&link, chunks, skip, policy).await {
                            this.fail(failure, on_failure);
                        }
                    });
                    return;
                }
                Wrote::Failed => {
                    self.fail(WriteFailure::Error, on_failure);
                    return;
                }
            }
        }
    }

    /// Goes on writing to a full socket until the queue is empty.
    async fn drain(
        &self,
        link: &Link,
        mut chunks: VecDeque<Chunk>,
        mut skip: usize,
        policy: WritePolicy,
    ) -> Result<(), WriteFailure> {
        let policy = self.policy.load_full().map_or(policy, |policy| *policy);
        let mut until = Instant::now() + policy.deadline;
        loop {
            let how = match tokio::time::timeout_at(until, link.tcp().writable()).await {
                // The runtime hears of room only when there is much of it.
                Err(_) => How::Anyway,
                Ok(Err(_)) => return Err(WriteFailure::Error),
                Ok(Ok(())) => How::WhenReady,
            };
            let before = remaining(&chunks, skip);
            match link.write(&mut chunks, &mut skip, how) {
                Wrote::Blocked if how == How::WhenReady && policy.is_strict => {}
                Wrote::Blocked => {
                    let left = remaining(&chunks, skip);
                    if how == How::Anyway && (policy.is_strict || left == before) {
                        let deadline = policy.deadline;
                        return Err(WriteFailure::Deadline(Late {
                            deadline,
                            chunks: chunks.len(),
                            bytes: left,
                        }));
                    }
                    until = Instant::now() + policy.deadline;
                }
                Wrote::Failed => return Err(WriteFailure::Error),
                Wrote::All => match self.more(chunks) {
                    Some(next) => {
                        chunks = self.pack(next);
                        until = Instant::now() + policy.deadline;
                    }
                    None => return Ok(()),
                },
            }
            self.state.lock().in_flight = remaining(&chunks, skip);
        }
    }

    /// Without a socket what is queued stays, for [`Outbound::take_queued`].
    #[cfg(test)]
    pub(crate) fn unlink(&self) {
        self.state.lock().link = None;
    }

    /// What would have gone to the socket.
    #[cfg(test)]
    pub(crate) fn take_queued(&self) -> Vec<u8> {
        let taken = self.state.lock().take();
        self.state.lock().in_flight = 0;
        taken.chunks.iter().flat_map(|chunk| chunk.bytes().to_vec()).collect()
    }

    /// Takes the queue for writing; `None` if there is nothing to do or somebody else is at it.
    fn begin(&self) -> Option<(Arc<Link>, Taken)> {
        let mut state = self.state.lock();
        state.scheduled = false;
        if state.writing || state.is_empty() {
            return None;
        }
        let link = state.link.clone()?;
        state.writing = true;
        Some((link, state.take()))
    }

    /// After everything taken is written: the next chunks, or `None` with the writer's role given up.
    fn more(&self, mut written: VecDeque<Chunk>) -> Option<Taken> {
        for chunk in written.drain(..) {
            if let Chunk::Owned(buffer) = chunk {
                recycle(buffer);
            }
        }
        let mut state = self.state.lock();
        if !state.is_empty() {
            return Some(state.take());
        }
        state.in_flight = 0;
        state.writing = false;
        if state.sealed {
            let ending = state.ending;
            state.disconnect(ending);
        }
        None
    }

    /// What goes to the socket for what was taken.
    fn pack(&self, taken: Taken) -> VecDeque<Chunk> {
        match self.packer.get() {
            Some(packer) if taken.is_packed => packer.pack(taken.chunks),
            _ => taken.chunks,
        }
    }

    /// Tells of the failure, then gives up the socket. In this order, because the reader sees the end at once and would
    /// take it for the client's doing.
    fn fail(&self, failure: WriteFailure, on_failure: impl FnOnce(WriteFailure)) {
        on_failure(failure);
        self.discard();
    }

    /// Drops what is queued and the socket.
    fn discard(&self) {
        let mut state = self.state.lock();
        state.sealed = true;
        state.writing = false;
        state.drop_queue();
        state.disconnect(Shutdown::Both);
    }

    /// Closes at once; what is queued is lost.
    pub(crate) fn close(&self) {
        self.discard();
    }

    /// Refuses further appends and shuts the socket down once what is queued is written, at the latest after a
    /// second.
    pub(crate) fn finish(self: &Arc<Self>, runtime: &Handle, ending: Shutdown) {
        {
            let mut state = self.state.lock();
            state.sealed = true;
            state.ending = ending;
            if state.is_empty() && !state.writing {
                state.disconnect(ending);
                return;
            }
        }
        self.flush(runtime, WritePolicy { deadline: LAST_WORDS, is_strict: false }, |_| {});
    }
}
