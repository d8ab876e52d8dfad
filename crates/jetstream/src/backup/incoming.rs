use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use linnet_broker::{Account, Delivery, Message, Publisher, Sink};
use parking_lot::{Condvar, Mutex};

/// Bytes that may wait: a client that does not wait for answers is given up.
const WAITING_MAX: usize = 32 << 20;
/// How long a client may take for its next chunk.
const CHUNK_WAIT: Duration = Duration::from_secs(5);

/// Chunks that were sent to us.
#[derive(Default)]
pub(super) struct Incoming {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    is_flooded: bool,
}

struct Chunk {
    reply: Vec<u8>,
    data: Vec<u8>,
}

pub(super) struct ChunkSink(pub(super) Arc<Incoming>);

impl Sink for ChunkSink {
    fn deliver(&self, delivery: &Delivery<'_>) {
        self.0.take(delivery.reply, delivery.payload());
    }
}

impl Incoming {
    fn take(&self, reply: &[u8], data: &[u8]) {
        let mut waiting = self.waiting.lock();
        // What a chunk costs besides its data counts, too.
        let cost = data.len() + reply.len() + size_of::<Chunk>();
        if waiting.bytes + cost > WAITING_MAX && !waiting.chunks.is_empty() {
            waiting.is_flooded = true;
        }
        if !waiting.is_flooded {
            waiting.bytes += cost;
            waiting.chunks.push_back(Chunk { reply: reply.to_vec(), data: data.to_vec() });
        }
        self.more.notify_one();
    }

    fn next(&self) -> io::Result<Chunk> {
        let mut waiting = self.waiting.lock();
        loop {
            if waiting.is_flooded {
                return Err(io::Error::other("client does not wait for answers"));
            }
            if let Some(chunk) = waiting.chunks.pop_front() {
                waiting.bytes -= chunk.data.len() + chunk.reply.len() + size_of::<Chunk>();
                return Ok(chunk);
            }
            if self.more.wait_for(&mut waiting, CHUNK_WAIT).timed_out() && waiting.chunks.is_empty() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// The bytes of the chunks, one behind the other. Each chunk is answered when it is read.
pub(super) struct ChunkReader {
    incoming: Arc<Incoming>,
    account: Arc<Account>,
    publisher: Publisher,
    data: Vec<u8>,
    at: usize,
    /// Bytes that came.
    pub(super) received: u64,
    /// Who waits for the answer to the end.
    pub(super) end: Option<Vec<u8>>,
}

impl ChunkReader {
    pub(super) fn new(incoming: Arc<Incoming>, account: Arc<Account>, publisher: Publisher) -> Self {
        Self { incoming, account, publisher, data: Vec::new(), at: 0, received: 0, end: None }
    }

    /// Reads up to the end, and forgets what it reads.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(|_| ())
    }

    pub(super) fn answer(&mut self, reply: &[u8], body: &[u8]) {
        if !reply.is_empty() {
            let message = Message { subject: reply, shown_subject: b"", reply: b"", header_len: 0, body };
            self.publisher.publish(&self.account, &message);
            self.publisher.flush();
        }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.data.len() {
            if self.end.is_some() {
                return Ok(0);
            }
            let chunk = self.incoming.next()?;
            if chunk.data.is_empty() {
                self.end = Some(chunk.reply);
                return Ok(0);
            }
            self.received += chunk.data.len() as u64;
            self.answer(&chunk.reply, b"");
            self.data = chunk.data;
            self.at = 0;
        }
        let count = self.data.get(self.at..).unwrap_or_default().read(out)?;
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded() {
        let incoming = Incoming::default();
        let chunk = vec![7; 1 << 20];
        for _ in 0..31 {
            incoming.take(b"reply", &chunk);
        }
        assert_eq!(incoming.next().unwrap().data, chunk);
        for _ in 0..5 {
            incoming.take(b"reply", &chunk);
        }
        let error = incoming.next().map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "client does not wait for answers");
        assert!(incoming.waiting.lock().bytes <= WAITING_MAX);
    }

    #[test]
    fn empty_chunks_that_flood_are_bounded_as_well() {
        let incoming = Incoming::default();
        for _ in 0..WAITING_MAX / size_of::<Chunk>() + 1 {
            incoming.take(b"", b"");
        }
        assert!(incoming.next().is_err());
    }
}
