use std::io::Write as _;

use linnet_jsapi::info::StreamState;

use crate::consumer::ArchivedConsumer;
use crate::entry::{MAGIC, encode};

/// Makes an archive piece by piece.
pub struct Writer {
    frames: snap::write::FrameEncoder<Vec<u8>>,
    entry: Vec<u8>,
    /// The frames bear the name of S2.
    is_named: bool,
}

impl Writer {
    /// Begins the archive of a stream. `state` counts the consumers that will follow.
    pub fn new(state: &StreamState, timestamp: i64) -> Self {
        let mut writer = Self {
            frames: snap::write::FrameEncoder::new(Vec::new()),
            entry: MAGIC.to_vec(),
            is_named: false,
        };
        // Plain data: writing it to memory cannot fail.
        let json = serde_json::to_vec(state).expect("state serialises");
        writer.entry(STATE.as_bytes(), timestamp, 0, 0, &json);
        writer
    }

    /// Adds a consumer. All of them come before the first message.
    pub fn consumer(&mut self, name: &str, timestamp: i64, consumer: &ArchivedConsumer) {
        // As above.
        let json = serde_json::to_vec(consumer).expect("consumer serialises");
        self.entry(format!("{CONSUMERS}{name}").as_bytes(), timestamp, 0, 0, &json);
    }

    /// Adds a message. Sequences ascend.
    pub fn message(&mut self, subject: &[u8], timestamp: i64, seq: u64, header_len: usize, body: &[u8]) {
        self.entry(subject, timestamp, seq, header_len, body);
    }

    /// Ends the archive.
    pub fn end(&mut self) {
        self.entry(b"", 0, 0, 0, b"");
        // As below.
        let _ = self.frames.flush();
    }

    /// Compressed bytes that wait to be taken.
    pub fn len(&self) -> usize {
        self.frames.get_ref().len()
    }

    /// True if nothing waits to be taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes up to `max` of the compressed bytes.
    pub fn take(&mut self, max: usize) -> Vec<u8> {
        let ready = self.frames.get_mut();
        // Snappy's blocks are blocks of S2, and tools look for the name of S2.
        if let Some(name) = ready.get_mut(4..10).filter(|_| !std::mem::replace(&mut self.is_named, true)) {
            name.copy_from_slice(b"S2sTwO");
        }
        let rest = ready.split_off(max.min(ready.len()));
        std::mem::replace(ready, rest)
    }

    fn entry(&mut self, name: &[u8], timestamp: i64, seq: u64, header_len: usize, body: &[u8]) {
        encode(&mut self.entry, name, timestamp, seq, header_len, body);
        // Memory takes every byte.
        let _ = self.frames.write_all(&self.entry);
        self.entry.clear();
    }
}

/// Name of the entry with the stream's state.
pub(crate) const STATE: &str = "state.json";
/// What names of consumers' entries begin with.
pub(crate) const CONSUMERS: &str = "consumers/";
