//! Requests with a fixed number in flight, and a responder that answers them.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::clock;
use crate::conn::{Conn, Scratch};
use crate::frames::{self, Frame, Msg};
use crate::measure::{self, Limit};

/// A requester. Each request in flight has a slot, and a slot its own reply subject and prebuilt frame.
#[derive(Debug)]
pub(crate) struct Window {
    conn: Conn,
    scratch: Scratch,
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    /// Sent in turn.
    frames: Vec<Vec<u8>>,
    turn: usize,
    sent_at: Option<Instant>,
}

impl Window {
    /// A requester on `subject` with at most `in_flight` requests without an answer.
    pub(crate) fn open(addr: SocketAddr, subject: &str, payload: &[u8], in_flight: usize) -> Result<Self> {
        Self::over(addr, |_| subject.to_owned(), 1, payload, in_flight)
    }

    /// A requester on the first `subjects` of some subjects in turn.
    pub(crate) fn over(
        addr: SocketAddr,
        subject: impl Fn(usize) -> String,
        subjects: usize,
        payload: &[u8],
        in_flight: usize,
    ) -> Result<Self> {
        let mut scratch = Scratch::large();
        let mut conn = Conn::open(addr, &mut scratch)?;
        let inbox = inbox();
        let mut line = Vec::new();
        frames::put_sub(&mut line, &format!("{inbox}.*"), None, 1);
        conn.send(&line)?;
        conn.flush(&mut scratch)?;
        let slots = (0..in_flight).map(|index| {
            let reply = format!("{inbox}.{index}");
            let frames = (0..subjects.div_ceil(in_flight)).map(|turn| {
                let mut frame = Vec::new();
                let subject = subject((turn * in_flight + index) % subjects);
                frames::put_pub(&mut frame, subject.as_bytes(), Some(reply.as_bytes()), payload);
                frame
            });
            Slot { frames: frames.collect(), turn: 0, sent_at: None }
        });
        Ok(Self { conn, scratch, slots: slots.collect() })
    }

    /// Keeps the window full until the limit, then waits for the last answers. Returns their number.
    pub(crate) fn run(
        &mut self,
        limit: Limit,
        latency: &mut Histogram<u64>,
        mut on_reply: impl FnMut(&Msg<'_>) -> Result<()>,
    ) -> Result<u64> {
        let Self { conn, scratch, slots } = self;
        let budget = limit.begin();
        let mut free: Vec<usize> = (0..slots.len()).collect();
        let mut out = Vec::new();
        let (mut sent, mut answered) = (0, 0);
        loop {
            let now = clock::now();
            for index in free.drain(..) {
                if !budget.is_spent(sent, now) {
                    let slot = &mut slots[index];
                    out.extend_from_slice(&slot.frames[slot.turn]);
                    slot.turn = (slot.turn + 1) % slot.frames.len();
                    slot.sent_at = Some(now);
                    sent += 1;
                }
            }
            if sent == answered {
                return Ok(answered);
            }
            if !out.is_empty() {
                conn.send(&out)?;
                out.clear();
            }
            conn.read(scratch, |frame| {
                let Frame::Msg(msg) = frame else { return Ok(()) };
                if let Some(status) = msg.status() {
                    bail!("a request was answered with status {}", String::from_utf8_lossy(status));
                }
                let index = slot_index(&msg).context("an answer came on an unknown subject")?;
                let slot = slots.get_mut(index).context("an answer came on an unknown subject")?;
                let sent_at = slot.sent_at.take().context("a request was answered twice")?;
                measure::record(latency, clock::now().saturating_duration_since(sent_at));
                on_reply(&msg)?;
                answered += 1;
                free.push(index);
                Ok(())
            })?;
        }
    }
}

/// A reply subject prefix of its own.
pub(crate) fn inbox() -> String {
    format!("_INBOX.{:016x}", fastrand::u64(..))
}

fn slot_index(msg: &Msg<'_>) -> Option<usize> {
    let token = msg.subject().rsplit(|&byte| byte == b'.').next()?;
    std::str::from_utf8(token).ok()?.parse().ok()
}

/// A thread that answers every request on a subject with its payload.
#[derive(Debug)]
pub(crate) struct Responder {
    stream: TcpStream,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    failure: Mutex<Option<anyhow::Error>>,
}

impl Responder {
    /// Starts answering.
    pub(crate) fn spawn(addr: SocketAddr, subject: &str) -> Result<Self> {
        let mut scratch = Scratch::large();
        let mut conn = Conn::open(addr, &mut scratch)?;
        let mut line = Vec::new();
        frames::put_sub(&mut line, subject, None, 1);
        conn.send(&line)?;
        conn.flush(&mut scratch)?;
        let stream = conn.stream().try_clone().context("sharing the responder's socket")?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("bench-responder".to_owned())
            .spawn(move || {
                let Err(error) = respond(conn, scratch);
                if !theirs.stopping.load(Ordering::Acquire) {
                    *theirs.failure.lock() = Some(error);
                }
            })
            .context("starting the responder thread")?;
        Ok(Self { stream, shared, thread: Some(thread) })
    }

    /// The error that ended the thread, if there is one.
    pub(crate) fn check(&self) -> Result<()> {
        match self.shared.failure.lock().take() {
            Some(error) => Err(error.context("the responder failed")),
            None => Ok(()),
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        // The thread waits in a read; without its connection it ends. If the server closed it, it has ended.
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn respond(mut conn: Conn, mut scratch: Scratch) -> Result<std::convert::Infallible> {
    let mut out = Vec::new();
    loop {
        conn.read(&mut scratch, |frame| {
            if let Frame::Msg(msg) = frame {
                let reply = msg.reply().context("a request has no reply subject")?;
                frames::put_pub(&mut out, reply, None, msg.payload);
            }
            Ok(())
        })?;
        conn.send(&out)?;
        out.clear();
    }
}
