use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;
use linnet_assets::{Place, Stream, StreamSaved};
use linnet_ids::{Mono, Wall};
use linnet_jsapi::policies::Compression;
use linnet_store::{CheckpointBody, Replacement, StreamStore};

use super::chunk::{ChunkRequest, Opened, Part, open};
use super::description::Description;
use super::error::TransferError;
use super::order::{Arrival, Order};
use super::state::{self, ReadState};
use crate::open::{StoredId, stored_ids, stream_of};

/// Bytes of a stream's state, besides its messages, that are taken.
const STATE_MAX: u64 = 4 << 30;

/// What a replica has of a state that it asks for.
pub struct Sink {
    description: Description,
    replacement: Replacement,
    order: Order,
    /// How many parts the state has, once that is known.
    state_parts: Option<u32>,
    /// What has arrived of it.
    state_bytes: Vec<u8>,
    state: Option<ReadState>,
    /// Messages that are damaged at the leader, and their bytes.
    lost: (u64, u64),
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Places done.
    pub done: u64,
    /// Places there are.
    pub places: u64,
    /// Nothing is missing.
    pub is_complete: bool,
}

/// A state that has arrived and is durable. Nothing names it yet.
pub struct Received {
    replacement: Replacement,
    saved: StreamSaved,
    ids: Vec<StoredId>,
    body: Option<CheckpointBody>,
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("description", &self.description).finish_non_exhaustive()
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("body", &self.body).finish_non_exhaustive()
    }
}

impl Sink {
    /// Begins to take a state that is to take the place of a store, which goes on meanwhile. The store's directory
    /// exists by the time something arrives.
    pub fn begin(present: &mut StreamStore, description: &[u8]) -> Result<Self, TransferError> {
        let description = Description::from_bytes(description)?;
        if description.is_memory != present.is_memory() {
            return Err(TransferError::OtherStorage);
        }
        let replacement = present.begin_replacement(description.places, description.state.msgs);
        Ok(Self {
            description,
            replacement,
            order: Order::default(),
            state_parts: None,
            state_bytes: Vec::new(),
            state: None,
            lost: (0, 0),
        })
    }

    /// Which transfer it is.
    pub fn transfer(&self) -> u64 {
        self.description.transfer
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let done = self.order.done().saturating_sub(u64::from(self.state_parts.unwrap_or(u32::MAX)));
        let places = self.description.places;
        let done = done.saturating_mul(u64::from(self.description.chunk_bytes)).min(places);
        Progress { done, places, is_complete: self.is_complete() }
    }

    /// True if nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.state_parts.is_some() && self.order.done() == self.parts()
    }

    /// Parts that are known to exist, the state first.
    fn parts(&self) -> u64 {
        match self.state_parts {
            None => 1,
            Some(parts) => u64::from(parts) + self.description.message_parts(),
        }
    }

    /// What to ask the leader for, so that `window` chunks are on their way.
    pub fn next_requests(&mut self, window: usize) -> Vec<ChunkRequest> {
        let transfer = self.description.transfer;
        let numbers = self.order.ask(window, self.parts());
        numbers.into_iter().map(|number| ChunkRequest { transfer, part: self.part(number) }).collect()
    }

    /// What was asked for and is not here may not arrive: [`Sink::next_requests`] names it again.
    pub fn ask_again(&mut self) {
        self.order.ask_again();
    }

    fn part(&self, number: u64) -> Part {
        let state_parts = u64::from(self.state_parts.unwrap_or(1));
        match number.checked_sub(state_parts) {
            Some(number) => Part::Messages(number),
            None => Part::State(u32::try_from(number).unwrap_or(u32::MAX)),
        }
    }

    fn number(&self, part: Part) -> Option<u64> {
        match part {
            Part::State(number) if self.state_parts.is_none_or(|parts| number < parts) => {
                Some(u64::from(number))
            }
            Part::State(_) => None,
            Part::Messages(number) => u64::from(self.state_parts?).checked_add(number),
        }
    }

    /// Takes a chunk. It blocks: messages are written. See [`TransferError::is_final`] for what an error means; after a
    /// final one call [`Sink::discard`].
    pub fn take(&mut self, chunk: &Bytes) -> Result<Progress, TransferError> {
        let opened = open(chunk, self.description.transfer)?;
        let number = self.number(opened.part).ok_or(TransferError::NotAsked(opened.part))?;
        match self.order.arrival(number) {
            Arrival::Known => {}
            Arrival::NotAsked => return Err(TransferError::NotAsked(opened.part)),
            Arrival::Early => self.order.keep(number, chunk.clone()),
            Arrival::Due => {
                self.use_part(&opened)?;
                while let Some(chunk) = self.order.advance() {
                    self.use_part(&open(&chunk, self.description.transfer)?)?;
                }
            }
        }
        Ok(self.progress())
    }

    fn use_part(&mut self, opened: &Opened<'_>) -> Result<(), TransferError> {
        match opened.part {
            Part::State(number) => self.use_state(number, opened),
            Part::Messages(_) => self.use_messages(opened),
        }
    }

    fn use_state(&mut self, number: u32, opened: &Opened<'_>) -> Result<(), TransferError> {
        let parts = *self.state_parts.get_or_insert(opened.extent);
        let is_possible = u64::from(parts) * u64::from(self.description.chunk_bytes) <= STATE_MAX
            && number < parts
            && opened.extent == parts
            && opened.state().len() <= self.description.chunk_bytes as usize;
        if !is_possible {
            return Err(contradiction("lengths of the state"));
        }
        self.state_bytes.extend_from_slice(opened.state());
        if number + 1 < parts {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.state_bytes);
        let state = state::decode(&bytes).ok_or_else(|| contradiction("the state cannot be read"))?;
        let config = &state.saved.config;
        let compress = config.compression == Compression::S2;
        self.replacement.configure(config.max_msgs_per_subject, config.max_bytes, compress);
        self.state = Some(state);
        Ok(())
    }

    fn use_messages(&mut self, opened: &Opened<'_>) -> Result<(), TransferError> {
        let (records, damaged) =
            opened.messages().ok_or_else(|| contradiction("lengths of records and damage"))?;
        self.replacement.append(records)?;
        let state = self.replacement.store().state();
        if state.last_seq > self.description.state.last_seq {
            return Err(contradiction("a message behind the last one"));
        }
        for (seq, len) in damaged {
            self.lost = (self.lost.0 + 1, self.lost.1 + u64::from(len));
            if let Some(state) = &mut self.state {
                state.damaged.push(seq);
            }
        }
        Ok(())
    }

    /// Makes everything durable, under names that nothing has used. It blocks. After an error nothing is left.
    pub fn finish(mut self, wall: Wall) -> Result<Received, TransferError> {
        match self.complete() {
            Ok((state, body)) => {
                let ids = stored_ids(self.replacement.store(), &state.saved.config, wall);
                Ok(Received { replacement: self.replacement, saved: state.saved, ids, body })
            }
            Err(error) => {
                self.discard();
                Err(error)
            }
        }
    }

    fn complete(&mut self) -> Result<(ReadState, Option<CheckpointBody>), TransferError> {
        if !self.is_complete() {
            return Err(TransferError::Incomplete);
        }
        let mut state = self.state.take().ok_or(TransferError::Incomplete)?;
        let expected = self.description.state;
        let msgs = self.replacement.store().state().msgs + self.lost.0;
        if msgs != expected.msgs {
            return Err(contradiction(&format!("{msgs} messages instead of {}", expected.msgs)));
        }
        let bytes = self.replacement.store().state().bytes;
        if self.lost.0 == 0 && bytes != expected.bytes {
            return Err(contradiction(&format!("{bytes} bytes instead of {}", expected.bytes)));
        }
        let stored = std::mem::take(&mut state.stored);
        let damaged = std::mem::take(&mut state.damaged);
        let body = self.replacement.finish(&expected, damaged, self.lost, stored)?;
        Ok((state, body))
    }

    /// Removes what has arrived. It blocks. What a process leaves behind that ends before, the next opening finds as
    /// files that nothing names.
    pub fn discard(self) {
        self.replacement.discard();
    }
}

fn contradiction(what: &str) -> TransferError {
    TransferError::Contradiction(what.to_owned())
}

impl Received {
    /// What the log is to record of it when it is installed; empty for a memory stream.
    pub fn body(&self) -> Vec<u8> {
        self.body.map_or_else(Vec::new, |body| body.to_bytes().to_vec())
    }

    /// The stream goes on with it, in the place of the present store, which is not to be used any more: as soon as the
    /// record with the body is on its way to the log. Also the files that are obsolete once that record is durable, to
    /// be given to [`StreamStore::release_files`] of the new store then; some of them may not exist. After what the log
    /// holds behind it is applied, [`Stream::finish_replay`] is to be called.
    pub fn into_stream(
        self,
        present: &mut StreamStore,
        created: Wall,
        place: Place,
        now: Mono,
    ) -> (Stream, Vec<PathBuf>) {
        let (store, obsolete) = self.replacement.take_over(present);
        (stream_of(self.saved, store, &self.ids, created, place, now), obsolete)
    }

    /// Removes it: it is not wanted any more. It blocks.
    pub fn discard(self) {
        self.replacement.discard();
    }
}
