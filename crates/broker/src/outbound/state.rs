//! What waits for one connection, under its lock.

use std::collections::VecDeque;
use std::net::Shutdown;
use std::sync::Arc;

use bytes::Bytes;

use super::Pushed;
use crate::chunk::{CHUNK_MAX, Chunk, take_buffer};
use crate::link::Link;
use crate::packing::PACK_MAX;

pub(super) struct State {
    pub(super) link: Option<Arc<Link>>,
    pub(super) queue: VecDeque<Chunk>,
    /// What was queued before compression began, which goes out first and as it is.
    pub(super) plain: VecDeque<Chunk>,
    pub(super) is_packed: bool,
    /// Bytes in `queue` and `plain`.
    pub(super) queued: usize,
    /// Bytes a writer has taken out of `queue` and not reported as written.
    pub(super) in_flight: usize,
    /// Somebody has promised to call [`Outbound::flush`].
    pub(super) scheduled: bool,
    pub(super) writing: bool,
    /// Nothing more may be appended.
    pub(super) sealed: bool,
    /// What to shut down once the queue of a sealed connection is written.
    pub(super) ending: Shutdown,
    pub(super) msgs: u64,
    pub(super) msg_bytes: u64,
}

/// What a writer has taken out of the queue.
pub(super) struct Taken {
    pub(super) chunks: VecDeque<Chunk>,
    /// It is to be compressed.
    pub(super) is_packed: bool,
}

impl State {
    pub(super) fn new(link: Option<Arc<Link>>) -> Self {
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
    pub(super) fn tail(&mut self, size: usize) -> &mut Vec<u8> {
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
    pub(super) fn append(&mut self, bytes: &mut Vec<u8>) {
        self.queued += bytes.len();
        if self.queue.is_empty() || bytes.len() >= CHUNK_MAX / 2 {
            self.queue.push_back(Chunk::Owned(std::mem::take(bytes)));
            return;
        }
        self.tail(bytes.len()).extend_from_slice(bytes);
        bytes.clear();
    }

    pub(super) fn append_shared(&mut self, bytes: Bytes) {
        self.queued += bytes.len();
        self.queue.push_back(Chunk::Shared(bytes));
    }

    pub(super) fn schedule(&mut self) -> Pushed {
        let schedule = !self.scheduled && !self.writing;
        self.scheduled |= schedule;
        Pushed::Queued { schedule, pending: self.queued + self.in_flight }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.plain.is_empty()
    }

    pub(super) fn take(&mut self) -> Taken {
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
    pub(super) fn take_some(&mut self) -> VecDeque<Chunk> {
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

    pub(super) fn drop_queue(&mut self) {
        self.queue = VecDeque::new();
        self.plain = VecDeque::new();
        self.queued = 0;
        self.in_flight = 0;
    }

    /// Gives up the socket. The peer sees the end of the stream; with `Both` our reader sees it too.
    pub(super) fn disconnect(&mut self, ending: Shutdown) {
        if let Some(link) = self.link.take() {
            link.shut(ending);
        }
    }
}

pub(super) fn remaining(chunks: &VecDeque<Chunk>, skip: usize) -> usize {
    chunks.iter().map(|c| c.bytes().len()).sum::<usize>() - skip
}
