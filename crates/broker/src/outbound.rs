use std::collections::VecDeque;
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use linnet_s2::Level;
use linnet_wire::encode;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::chunk::{CHUNK_MAX, Chunk, recycle, take_buffer};
use crate::link::{Link, Wrote};
use crate::packing::{PACK_MAX, Packer};
use crate::subscription::SubRef;

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
}

struct State {
    link: Option<Arc<Link>>,
    queue: VecDeque<Chunk>,
    /// What was queued before compression began, which goes out first and as it is.
    plain: VecDeque<Chunk>,
    is_packed: bool,
    /// Bytes in `queue` and `plain`.
    queued: usize,
    /// Bytes a writer has taken out of `queue` and not reported as written.
    in_flight: usize,
    /// Somebody has promised to call [`Outbound::flush`].
    scheduled: bool,
    writing: bool,
    /// Nothing more may be appended.
    sealed: bool,
    /// What to shut down once the queue of a sealed connection is written.
    ending: Shutdown,
    msgs: u64,
    msg_bytes: u64,
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

/// What a writer has taken out of the queue.
struct Taken {
    chunks: VecDeque<Chunk>,
    /// It is to be compressed.
    is_packed: bool,
}

/// Why a connection could not take its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteFailure {
    Deadline,
    Error,
}

impl Outbound {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self { state: Mutex::new(State::new(Some(link))), packer: OnceLock::new() }
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
        let mut state = self.state.lock();
        if state.sealed || state.queued + state.in_flight + content.len() > max_pending {
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
        let mut state = self.state.lock();
        if state.sealed {
            return Pushed::Closed;
        }
        let size = frame.size_bound();
        if state.queued + state.in_flight + size > max_pending {
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
        write_deadline: Duration,
        on_failure: impl FnOnce(WriteFailure) + Send + 'static,
    ) {
        let Some((link, taken)) = self.begin() else { return };
        let mut chunks = self.pack(taken);
        let mut skip = 0;
        loop {
            match link.write(&mut chunks, &mut skip) {
                Wrote::All => match self.more(chunks) {
                    Some(next) => chunks = self.pack(next),
                    None => return,
                },
                Wrote::Blocked => {
                    let this = self.clone();
                    runtime.spawn(async move {
                        if let Err(failure) = this.drain(&link, chunks, skip, write_deadline).await {
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
        deadline: Duration,
    ) -> Result<(), WriteFailure> {
        loop {
            match tokio::time::timeout(deadline, link.tcp().writable()).await {
                Err(_) => return Err(WriteFailure::Deadline),
                Ok(Err(_)) => return Err(WriteFailure::Error),
                Ok(Ok(())) => {}
            }
            match link.write(&mut chunks, &mut skip) {
                Wrote::Blocked => {}
                Wrote::Failed => return Err(WriteFailure::Error),
                Wrote::All => match self.more(chunks) {
                    Some(next) => chunks = self.pack(next),
                    None => return Ok(()),
                },
            }
            self.state.lock().in_flight = remaining(&chunks, skip);
        }
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
        self.flush(runtime, LAST_WORDS, |_| {});
    }
}

impl State {
    fn new(link: Option<Arc<Link>>) -> Self {
        Self {
            link,
            queue: VecDeque::new(),
            plain: VecDeque::new(),
            is_packed: false,
            queued: 0,
            in_flight: 0,
            scheduled: false,
            writing: false,
            sealed: false,
            ending: Shutdown::Both,
            msgs: 0,
            msg_bytes: 0,
        }
    }

    /// The buffer to append `size` bytes to.
    fn tail(&mut self, size: usize) -> &mut Vec<u8> {
        let fits = matches!(self.queue.back(), Some(Chunk::Owned(b)) if b.len() + size <= CHUNK_MAX);
        if !fits {
            self.queue.push_back(Chunk::Owned(take_buffer()));
        }
        match self.queue.back_mut() {
            Some(Chunk::Owned(buffer)) => buffer,
            _ => unreachable!("an owned chunk was just pushed"),
        }
    }

    /// Moves `bytes` in: as a chunk of its own if it would be well filled or nothing waits, else copied, so that
    /// half-empty buffers do not pile up.
    fn append(&mut self, bytes: &mut Vec<u8>) {
        self.queued += bytes.len();
        if self.queue.is_empty() || bytes.len() >= CHUNK_MAX / 2 {
            self.queue.push_back(Chunk::Owned(std::mem::take(bytes)));
            return;
        }
        self.tail(bytes.len()).extend_from_slice(bytes);
        bytes.clear();
    }

    fn append_shared(&mut self, bytes: Bytes) {
        self.queued += bytes.len();
        self.queue.push_back(Chunk::Shared(bytes));
    }

    fn schedule(&mut self) -> Pushed {
        let schedule = !self.scheduled && !self.writing;
        self.scheduled |= schedule;
        Pushed::Queued { schedule, pending: self.queued + self.in_flight }
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.plain.is_empty()
    }

    fn take(&mut self) -> Taken {
        if !self.is_packed {
            self.in_flight = std::mem::take(&mut self.queued);
            return Taken { chunks: std::mem::take(&mut self.queue), is_packed: false };
        }
        let is_packed = self.plain.is_empty();
        let chunks = if is_packed { self.take_some() } else { std::mem::take(&mut self.plain) };
        self.in_flight = remaining(&chunks, 0);
        self.queued -= self.in_flight;
        Taken { chunks, is_packed }
    }

    /// As much of the queue as becomes one stream, a chunk at least.
    fn take_some(&mut self) -> VecDeque<Chunk> {
        let mut bytes = 0;
        let beyond = self.queue.iter().position(|chunk| {
            bytes += chunk.bytes().len();
            bytes > PACK_MAX
        });
        match beyond {
            None => std::mem::take(&mut self.queue),
            Some(count) => self.queue.drain(..count.max(1)).collect(),
        }
    }

    fn drop_queue(&mut self) {
        self.queue = VecDeque::new();
        self.plain = VecDeque::new();
        self.queued = 0;
        self.in_flight = 0;
    }

    /// Gives up the socket. The peer sees the end of the stream; with `Both` our reader sees it too.
    fn disconnect(&mut self, ending: Shutdown) {
        if let Some(link) = self.link.take() {
            link.shut(ending);
        }
    }
}

fn remaining(chunks: &VecDeque<Chunk>, skip: usize) -> usize {
    chunks.iter().map(|c| c.bytes().len()).sum::<usize>() - skip
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends batches of these sizes; returns the lengths of the chunks they became.
    fn chunks_of(sizes: &[usize]) -> Vec<usize> {
        let mut state = State::new(None);
        let mut expected = Vec::new();
        for (n, size) in sizes.iter().enumerate() {
            let mut batch = Vec::with_capacity(CHUNK_MAX);
            batch.resize(*size, n as u8);
            expected.extend_from_slice(&batch);
            state.append(&mut batch);
            assert!(batch.is_empty());
        }
        let kept: Vec<u8> = state.queue.iter().flat_map(|chunk| chunk.bytes().to_vec()).collect();
        assert!(kept == expected, "bytes were lost or reordered");
        assert_eq!(state.queued, expected.len());
        state.queue.iter().map(|chunk| chunk.bytes().len()).collect()
    }

    #[test]
    fn large_batches_are_moved_and_small_ones_fill_what_is_there() {
        assert_eq!(chunks_of(&[10]), [10]);
        assert_eq!(chunks_of(&[10, 20, 30]), [60]);
        assert_eq!(chunks_of(&[CHUNK_MAX, CHUNK_MAX]), [CHUNK_MAX, CHUNK_MAX]);
        assert_eq!(chunks_of(&[100, CHUNK_MAX / 2, 100]), [100, CHUNK_MAX / 2 + 100]);
    }

    #[test]
    fn many_small_batches_leave_no_half_empty_chunks() {
        let chunks = chunks_of(&[1000; 1000]);
        assert!(chunks.len() <= 1_000_000 / (CHUNK_MAX - 1000) + 1, "{chunks:?}");
    }

    #[tokio::test]
    async fn a_failure_is_told_before_the_socket_is_shut() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let deaf = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let outbound = Arc::new(Outbound::new(Arc::new(Link::new(stream))));
        outbound.push(&vec![b'x'; 32 << 20]);
        let (tell, told) = tokio::sync::oneshot::channel();
        let open = outbound.clone();
        outbound.flush(&Handle::current(), Duration::from_millis(10), move |failure| {
            let _ = tell.send((failure, open.state.lock().link.is_some()));
        });
        assert_eq!(told.await.unwrap(), (WriteFailure::Deadline, true));
        drop(deaf);
    }
}
