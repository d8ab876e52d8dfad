use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::clock;
use crate::conn::{Conn, Scratch};

/// How soon the thread notices that it is to stop while nothing arrives.
const STOP_CHECK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// How long the last messages of a phase may take to arrive.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// One thread that counts the messages arriving on many subscriber connections.
#[derive(Debug)]
pub(crate) struct Readers {
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread shares with those who wait for it.
#[derive(Debug, Default)]
struct Progress {
    received: AtomicU64,
    stopping: AtomicBool,
    failure: Mutex<Option<anyhow::Error>>,
}

impl Readers {
    /// Starts counting on these connections, which are subscribed already.
    pub(crate) fn spawn(conns: Vec<Conn>) -> Result<Self> {
        let progress = Arc::new(Progress::default());
        let shared = Arc::clone(&progress);
        let thread = std::thread::Builder::new()
            .name("bench-readers".to_owned())
            .spawn(move || {
                if let Err(error) = read_all(conns, &shared) {
                    *shared.failure.lock() = Some(error);
                }
            })
            .context("starting the reader thread")?;
        Ok(Self { progress, thread: Some(thread) })
    }

    /// Messages counted so far.
    pub(crate) fn received(&self) -> u64 {
        self.progress.received.load(Ordering::Acquire)
    }

    /// The error that ended the thread, if there is one.
    pub(crate) fn check(&self) -> Result<()> {
        match self.progress.failure.lock().take() {
            Some(error) => Err(error.context("a subscriber failed")),
            None => Ok(()),
        }
    }

    /// Waits until `expected` messages were counted in all.
    pub(crate) fn await_received(&self, expected: u64) -> Result<()> {
        let arrived = clock::wait_for("delivery of every message", DRAIN_TIMEOUT, || {
            self.check()?;
            Ok(self.received() >= expected)
        });
        arrived.with_context(|| format!("{} of {expected} messages arrived", self.received()))?;
        if self.received() > expected {
            return Err(anyhow!("{} messages arrived, {expected} were expected", self.received()));
        }
        Ok(())
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.progress.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

fn read_all(mut conns: Vec<Conn>, progress: &Progress) -> Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create")?;
    for (index, conn) in conns.iter().enumerate() {
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&epoll, conn.stream(), data, epoll::EventFlags::IN).context("epoll_ctl")?;
    }
    let mut scratch = Scratch::large();
    let mut events = Vec::with_capacity(conns.len().clamp(1, 256));
    while !progress.stopping.load(Ordering::Acquire) {
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), Some(&STOP_CHECK)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context("epoll_wait"),
        }
        for event in &events {
            let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(conn) = conns.get_mut(index) else { continue };
            let messages = conn.read_count(&mut scratch)?;
            progress.received.fetch_add(messages, Ordering::AcqRel);
        }
    }
    Ok(())
}
