use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use linnet_archive::{End, Entry as ArchiveEntry, Part, Reader};
use linnet_assets::{Answer, Attach, Command, Entry, RestoreMark, RestorePart, is_expired};
use linnet_ids::Wall;
use linnet_jsapi::errors;
use linnet_store::{RECORD_MAX, Seed, encode_record};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::consumer::restored;
use super::incoming::ChunkReader;
use super::restore::{Failure, Judged, Waiting, refused};
use crate::catalogue::StreamHandle;
use crate::engine::Engine;

/// Bytes of messages that go into one entry of the log, unless one message is larger.
const PART_BYTES: usize = 1 << 20;
/// Entries that may be on their way to the log.
const PARTS_MAX: usize = 4;
/// The same of entries with a few bytes.
const SMALL_PARTS_MAX: usize = 1000;
/// Removals that are collected.
const REMOVED_MAX: usize = 1 << 16;
/// Bytes of a record besides subject, headers and payload.
const RECORD_FIXED: usize = 32;
/// How often the log is asked whether it can take more.
const PRESSED_STEP: Duration = Duration::from_millis(10);

/// The way of a backup into the log of its stream.
pub(super) struct Feed {
    engine: Weak<Engine>,
    handle: Arc<StreamHandle>,
    seed: Seed,
    /// Sequences are reserved up to this.
    last_seq: u64,
    now: Wall,
    /// The entry being collected.
    records: Vec<u8>,
    /// First and last sequence each: removed, once they are stored.
    removed: Vec<(u64, u64)>,
    in_flight: VecDeque<oneshot::Receiver<Answer>>,
}

impl Feed {
    pub(super) fn new(engine: Weak<Engine>, handle: Arc<StreamHandle>, last_seq: u64, now: Wall) -> Self {
        Self {
            engine,
            seed: Seed::of(handle.group),
            handle,
            last_seq,
            now,
            records: Entry::Messages(&[]).encode(),
            removed: Vec::new(),
            in_flight: VecDeque::new(),
        }
    }

    /// Stores the messages, and collects the consumers.
    pub(super) fn take(
        &mut self,
        reader: &mut Reader<&mut ChunkReader>,
        consumers: &mut Waiting<'_>,
    ) -> Result<End, Failure> {
        loop {
            match reader.next_part()? {
                Part::Consumer(name, consumer) => consumers.add(name, *consumer)?,
                Part::Message(message) => self.message(message)?,
                Part::Removed { first, last } => self.remove(first, last)?,
                Part::End(end) if end.last_seq > self.last_seq => return Err(refused("sequence too large")),
                Part::End(end) => {
                    self.send_removed()?;
                    return Ok(end);
                }
            }
        }
    }

    fn message(&mut self, message: &ArchiveEntry) -> Result<(), Failure> {
        let (last_seq, now) = (self.last_seq, self.now);
        let ArchiveEntry { name, timestamp, seq, header_len, body } = message;
        let size = RECORD_FIXED + name.len() + body.len();
        let headers = body.get(..*header_len).unwrap_or_default();
        let is_block =
            headers.is_empty() || (headers.starts_with(b"NATS/1.0") && headers.ends_with(b"\r\n\r\n"));
        if *seq > last_seq {
            return Err(refused(format_args!("message {seq} is behind the last one, {last_seq}")));
        }
        if size > RECORD_MAX || !is_block || !linnet_subject::is_valid_literal(name) {
            return Err(refused(format_args!("message {seq} is invalid")));
        }
        if is_expired(headers, Wall(*timestamp), now) {
            return Ok(());
        }
        if self.records.len() > 1 && self.records.len() + size > PART_BYTES {
            self.send_records()?;
        }
        encode_record(&mut self.records, self.seed, *seq, Wall(*timestamp), name, *header_len, body);
        Ok(())
    }

    fn send_records(&mut self) -> Result<(), Failure> {
        if self.records.len() <= 1 {
            return Ok(());
        }
        let records = std::mem::replace(&mut self.records, Entry::Messages(&[]).encode());
        self.wait_for_room(records.len() as u64)?;
        self.send(RestorePart::Messages(records), PARTS_MAX)
    }

    fn remove(&mut self, first: u64, last: u64) -> Result<(), Failure> {
        match self.removed.last_mut() {
            Some(before) if before.1.checked_add(1) == Some(first) => before.1 = last,
            _ => self.removed.push((first, last)),
        }
        if self.removed.len() >= REMOVED_MAX { self.send_removed() } else { Ok(()) }
    }

    /// Stores what is collected and removes from what is stored.
    fn send_removed(&mut self) -> Result<(), Failure> {
        self.send_records()?;
        self.wait_for(0)?;
        for (first, last) in std::mem::take(&mut self.removed) {
            self.send(RestorePart::Mark(RestoreMark::Removed { first, last }), SMALL_PARTS_MAX)?;
        }
        self.wait_for(0)
    }

    /// Waits while the log or the disk is behind.
    fn wait_for_room(&self, bytes: u64) -> Result<(), Failure> {
        let is_memory = self.handle.cell.is_memory();
        loop {
            let engine = self.engine.upgrade().ok_or(Failure::Stalled)?;
            let left = engine.usage.limits(&self.handle.cell);
            let fits = |left: Option<u64>| left.is_none_or(|left| left >= bytes);
            if !fits(left.account_left) || !fits(left.server_left) {
                return Err(Failure::Refused(match is_memory {
                    true => errors::MEMORY_RESOURCES_EXCEEDED,
                    false => errors::STORAGE_RESOURCES_EXCEEDED,
                }));
            }
            if is_memory || !engine.is_pressed() {
                return Ok(());
            }
            if engine.is_disk_full() {
                return Err(Failure::Refused(errors::STORAGE_RESOURCES_EXCEEDED));
            }
            drop(engine);
            Handle::current().block_on(tokio::time::sleep(PRESSED_STEP));
        }
    }

    /// Sends a part once less than so many others are on their way.
    fn send(&mut self, part: RestorePart, max: usize) -> Result<(), Failure> {
        self.in_flight.push_back(self.handle.inbox.command(Command::Restore(part)));
        self.wait_for(max)
    }

    /// Waits until no more than so many parts are on their way.
    fn wait_for(&mut self, max: usize) -> Result<(), Failure> {
        while self.in_flight.len() > max {
            let Some(answer) = self.in_flight.pop_front() else { return Ok(()) };
            match answer.blocking_recv() {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error.into()),
                // The server stops.
                Err(_) => return Err(Failure::Stalled),
            }
        }
        Ok(())
    }

    /// Everything behind the messages.
    pub(super) fn finish(&mut self, end: End, consumers: Vec<Judged>) -> Result<(), Failure> {
        let End { last_seq, last_ts } = end;
        self.send(RestorePart::Mark(RestoreMark::Position { last_seq, last_ts }), 0)?;
        // A consumer's state is held against the messages that are there.
        for (name, config, consumer) in consumers {
            let created = consumer.created.unwrap_or(self.now).0;
            let state = Some(restored(consumer.state, &config, last_seq));
            let attach = Attach { name, config, created, state };
            self.send(RestorePart::Consumer(Box::new(attach)), PARTS_MAX)?;
        }
        self.wait_for(0)
    }
}
