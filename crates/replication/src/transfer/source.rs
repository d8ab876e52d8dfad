use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use linnet_assets::{Stream, StreamSaved};
use linnet_ids::StreamSeq;
use linnet_store::PinnedData;

use super::CHUNK_BYTES;
use super::chunk::{ChunkRequest, Part, begin, seal};
use super::description::Description;
use super::error::SourceError;
use super::state;

/// A stream as it was at one place of its log, for whoever asks for it. Until it is dropped, files stay that it may read.
pub struct Source {
    description: Description,
    data: PinnedData,
    damaged: Vec<StreamSeq>,
    saved: StreamSaved,
    /// Written down by whoever asks first.
    state: OnceLock<Vec<u8>>,
}

/// A chunk to send.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Its bytes.
    pub bytes: Bytes,
    /// Messages that turned out to be damaged here, which the stream is to be told of.
    pub damaged: Vec<StreamSeq>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("description", &self.description).finish_non_exhaustive()
    }
}

impl Source {
    /// The stream as it is now, at its applied place. `transfer` is random: it tells this one from every other.
    pub fn new(stream: &mut Stream, transfer: u64) -> Self {
        Self::with_chunks_of(stream, transfer, CHUNK_BYTES)
    }

    /// The same with chunks of another size.
    pub fn with_chunks_of(stream: &mut Stream, transfer: u64, chunk_bytes: u32) -> Self {
        let saved = stream.saved();
        let store = stream.store_mut();
        let data = store.pin().by_place();
        let description = Description {
            transfer,
            is_memory: store.is_memory(),
            chunk_bytes: chunk_bytes.max(1),
            places: data.len(),
            state: *store.state(),
        };
        let damaged = store.damaged().iter().copied().collect();
        Self { description, data, damaged, saved, state: OnceLock::new() }
    }

    /// Which transfer it is.
    pub fn transfer(&self) -> u64 {
        self.description.transfer
    }

    /// What a snapshot says of it.
    pub fn description(&self) -> Bytes {
        self.description.to_bytes().into()
    }

    /// A chunk. It blocks. Any can be asked for at any time and again, by several threads.
    pub fn chunk(&self, request: ChunkRequest) -> Result<Chunk, SourceError> {
        if request.transfer != self.description.transfer {
            return Err(SourceError::OtherTransfer);
        }
        match request.part {
            Part::State(number) => self.state_chunk(request, number),
            Part::Messages(number) => self.message_chunk(request, number),
        }
    }

    fn message_chunk(&self, request: ChunkRequest, number: u64) -> Result<Chunk, SourceError> {
        if number >= self.description.message_parts() {
            return Err(SourceError::NoSuchPart(request.part));
        }
        let step = u64::from(self.description.chunk_bytes);
        let places = number * step..(number + 1) * step;
        let mut out = begin(request, self.description.chunk_bytes as usize);
        let before = out.len();
        let damaged = self.data.copy(places, &mut out)?;
        // Of places in a block, which is far below 4 GiB.
        let extent = u32::try_from(out.len() - before).unwrap_or(u32::MAX);
        let newly = damaged.iter().map(|message| message.seq);
        let newly = newly.filter(|seq| self.damaged.binary_search(seq).is_err()).collect();
        Ok(Chunk { bytes: seal(out, extent, &damaged), damaged: newly })
    }

    fn state_chunk(&self, request: ChunkRequest, number: u32) -> Result<Chunk, SourceError> {
        let state = match self.state.get() {
            Some(state) => state,
            None => {
                let encoded = state::encode(&self.saved, &self.damaged)?;
                self.state.get_or_init(|| encoded)
            }
        };
        let mut parts = state.chunks(self.description.chunk_bytes as usize);
        let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let part = parts.nth(number as usize).ok_or(SourceError::NoSuchPart(request.part))?;
        let mut out = begin(request, part.len());
        out.extend_from_slice(part);
        Ok(Chunk { bytes: seal(out, count, &[]), damaged: Vec::new() })
    }
}
