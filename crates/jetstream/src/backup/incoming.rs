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
        let mut waiting = self.0.waiting.lock();
        // What a chunk costs besides its data counts, too.
        let cost = delivery.payload().len() + delivery.reply.len() + size_of::<Chunk>();
        if waiting.bytes + cost > WAITING_MAX && !waiting.chunks.is_empty() {
            waiting.is_flooded = true;
        }
        if !waiting.is_flooded {
            waiting.bytes += cost;
            let (reply, data) = (delivery.reply.to_vec(), delivery.payload().to_vec());
            waiting.chunks.push_back(Chunk { reply, data });
        }
        self.0.more.notify_one();
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

    fn next_chunk(&self) -> io::Result<Chunk> {
        let mut waiting = self.incoming.waiting.lock();
        loop {
            if waiting.is_flooded {
                return Err(io::Error::other("client does not wait for answers"));
            }
            if let Some(chunk) = waiting.chunks.pop_front() {
                waiting.bytes -= chunk.data.len() + chunk.reply.len() + size_of::<Chunk>();
                return Ok(chunk);
            }
            if self.incoming.more.wait_for(&mut waiting, CHUNK_WAIT).timed_out() && waiting.chunks.is_empty()
            {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.data.len() {
            if self.end.is_some() {
                return Ok(0);
            }
            let chunk = self.next_chunk()?;
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
