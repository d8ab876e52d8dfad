//! The pieces an outbound queue is made of, and the buffers they are made from.

use std::cell::RefCell;

use bytes::Bytes;

/// A chunk of copied bytes is closed when it reaches this size.
pub(crate) const CHUNK_MAX: usize = 64 * 1024;
/// Bytes of buffers kept for reuse per thread. What a queue takes for a short line is as large as it was used before, so
/// that a large pool would make waiting queues take more than is counted.
const POOL_MAX: usize = 1 << 20;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { buffers: Vec::new(), bytes: 0 }) };
}

/// Empty buffers for reuse.
struct Pool {
    buffers: Vec<Vec<u8>>,
    /// What all of them can hold.
    bytes: usize,
}

impl Pool {
    fn take(&mut self) -> Option<Vec<u8>> {
        let buffer = self.buffers.pop()?;
        self.bytes -= buffer.capacity();
        Some(buffer)
    }

    fn put(&mut self, buffer: Vec<u8>) {
        if self.bytes + buffer.capacity() <= POOL_MAX {
            self.bytes += buffer.capacity();
            self.buffers.push(buffer);
        }
    }
}

/// An empty buffer, from the thread's pool if there is one.
pub(crate) fn take_buffer() -> Vec<u8> {
    POOL.with_borrow_mut(Pool::take).unwrap_or_else(|| Vec::with_capacity(1024))
}

/// Gives a buffer back to the thread's pool.
pub(crate) fn recycle(mut buffer: Vec<u8>) {
    buffer.clear();
    if (1..=2 * CHUNK_MAX).contains(&buffer.capacity()) {
        POOL.with_borrow_mut(|pool| pool.put(buffer));
    }
}

/// Bytes waiting to be written.
pub(crate) enum Chunk {
    Owned(Vec<u8>),
    Shared(Bytes),
}

impl Chunk {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(b) => b,
            Self::Shared(b) => b,
        }
    }
}
