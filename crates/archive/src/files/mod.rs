//! Backups of servers before nats-server 2.15: the files of the stream in a tar, in the order in which they are read.
//!
//! | File | Content |
//! |---|---|
//! | `meta.inf`, `meta.sum` | configuration as JSON, its checksum in hexadecimal |
//! | `msgs/N.idx` (before 2.10), `msgs/N.blk` | which messages of a block are there; messages |
//! | `msgs/index.db` (since 2.10) | which messages are there |
//! | `obs/CONSUMER/meta.inf`, `meta.sum`, `o.dat` | a consumer with its state |
//! | `errors.txt` | why the backup is not complete |

mod block;
mod checksum;
mod consumer;
mod index;
mod tar;

use std::cmp::Ordering;
use std::io::BufRead;

use linnet_ids::Wall;
use linnet_jsapi::ConsumerConfig;
use serde::Deserialize;

use self::block::{Record, RecordError};
use self::checksum::Checksum;
use self::index::{BlockIndex, IndexError, Range, StateReader};
use self::tar::{Member, Tar};
use crate::entry::{Entry, EntryError, read_bytes};
use crate::reader::{Error, Part};
use crate::{ArchivedConsumer, End};

/// Bytes of a file that is held as a whole.
const FILE_MAX: u64 = 16 << 20;
const META: &str = "meta.inf";
const SUM: &str = "meta.sum";

/// Reads the files of a stream.
pub(crate) struct FilesReader<R> {
    tar: Tar<R>,
    member: Member,
    stage: Stage,
    name: String,
    created: Option<Wall>,
    meta_sum: [u8; checksum::LEN],
    block_index: Option<(u64, BlockIndex)>,
    consumer: Option<Consumer>,
    entry: Entry,
    /// The last message that was told.
    last_message: u64,
    end: End,
    is_at_end: bool,
}

/// What of a file is left to read.
enum Stage {
    Nothing,
    Block { number: u64, sum: Box<Checksum> },
    State(Box<StateReader>),
}

/// A consumer whose files are being read.
struct Consumer {
    name: String,
    consumer: ArchivedConsumer,
    meta_sum: [u8; checksum::LEN],
}

/// What the configurations of streams and consumers have besides.
#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "Created")]
    created: String,
}

impl<R: BufRead> FilesReader<R> {
    /// Begins to read: the configuration comes first.
    pub(crate) fn new(input: R) -> Result<Self, Error> {
        let mut tar = Tar::new(input);
        let member = tar.next_member()?.ok_or(Error::Entry("the configuration is missing"))?;
        let mut reader = Self {
            tar,
            member,
            stage: Stage::Nothing,
            name: String::new(),
            created: None,
            meta_sum: [0; checksum::LEN],
            block_index: None,
            consumer: None,
            entry: Entry::default(),
            last_message: 0,
            end: End::default(),
            is_at_end: false,
        };
        if reader.member.name != META {
            return Err(Error::Entry("the configuration is missing"));
        }
        let bytes = reader.whole()?;
        let meta: Meta = reader.json(&bytes)?;
        reader.meta_sum = Checksum::keyed(&meta.name).of(&[&bytes]);
        reader.created = Wall::parse_rfc3339(&meta.created);
        reader.name = meta.name;
        Ok(reader)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn created(&self) -> Option<Wall> {
        self.created
    }

    pub(crate) fn next_part(&mut self) -> Result<Part<'_>, Error> {
        loop {
            match &mut self.stage {
                Stage::Nothing => {
                    if self.is_at_end {
                        return Ok(Part::End(self.end));
                    }
                    let finished = self.next_file()?;
                    if let Some(Consumer { name, consumer, .. }) = finished {
                        return Ok(Part::Consumer(name, Box::new(consumer)));
                    }
                }
                Stage::Block { .. } => match self.next_record()? {
                    Some(Record::Message) => return Ok(Part::Message(&self.entry)),
                    Some(Record::Tombstone) => {
                        return Ok(Part::Removed { first: self.entry.seq, last: self.entry.seq });
                    }
                    Some(Record::Erased) => {}
                    None => self.stage = Stage::Nothing,
                },
                Stage::State(_) => {
                    if let Some((first, last)) = self.next_removed()? {
                        return Ok(Part::Removed { first, last });
                    }
                }
            }
        }
    }

    /// Begins the next file, or reads it if it is a small one. A consumer that is complete by that.
    fn next_file(&mut self) -> Result<Option<Consumer>, Error> {
        let Some(member) = self.tar.next_member()? else {
            self.is_at_end = true;
            return Ok(self.consumer.take());
        };
        self.member = member;
        let name = self.member.name.clone();
        if name == SUM {
            self.check_sum(self.meta_sum)?;
        } else if name == "errors.txt" {
            let text = self.whole()?;
            return Err(Error::Incomplete(String::from_utf8_lossy(&text).into_owned()));
        } else if let Some(file) = name.strip_prefix("msgs/") {
            self.begin_messages(file)?;
        } else if let Some((consumer, file)) =
            name.strip_prefix("obs/").and_then(|path| path.rsplit_once('/'))
        {
            return self.consumer_file(consumer, file);
        }
        Ok(None)
    }

    fn begin_messages(&mut self, file: &str) -> Result<(), Error> {
        if file == "index.db" {
            let sum = Checksum::keyed(&self.name);
            let state = StateReader::begin(&mut self.tar, self.member.size, sum);
            let state = state.map_err(|e| self.index_error(e))?;
            self.end = reach(self.end, state.last_seq, state.last_ts);
            self.stage = Stage::State(Box::new(state));
        } else if let Some(number) = numbered(file, ".idx") {
            let bytes = self.whole()?;
            let index = BlockIndex::parse(&bytes).map_err(|e| self.index_error(e))?;
            self.end = reach(self.end, index.last_seq, index.last_ts);
            self.block_index = Some((number, index));
        } else if let Some(number) = numbered(file, ".blk") {
            let sum = Box::new(Checksum::keyed(&format!("{}-{number}", self.name)));
            self.stage = Stage::Block { number, sum };
        }
        Ok(())
    }

    /// The next record that says something: a message only if it is there.
    fn next_record(&mut self) -> Result<Option<Record>, Error> {
        let Stage::Block { number, sum } = &self.stage else { return Ok(None) };
        let number = *number;
        loop {
            let record = block::read(&mut self.tar, sum, &mut self.entry).map_err(|e| match e {
                RecordError::Entry(e) => Error::from(e),
                RecordError::Invalid(reason) => Error::File { name: self.member.name.clone(), reason },
            })?;
            let Some(record) = record else { return Ok(None) };
            let Entry { seq, timestamp, .. } = self.entry;
            self.end = reach(self.end, seq, timestamp);
            let index = self.block_index.as_ref().filter(|(block, _)| *block == number);
            let is_there = seq > self.last_message && index.is_none_or(|(_, index)| index.has(seq));
            if record != Record::Message {
                return Ok(Some(record));
            }
            if is_there {
                self.last_message = seq;
                return Ok(Some(record));
            }
        }
    }

    fn next_removed(&mut self) -> Result<Option<Range>, Error> {
        let Stage::State(state) = &mut self.stage else { return Ok(None) };
        let left = self.tar.left();
        let next = state.next_removed(&mut self.tar, left).map_err(|e| self.index_error(e))?;
        if next.is_none()
            && let Stage::State(state) = std::mem::replace(&mut self.stage, Stage::Nothing)
        {
            let left = self.tar.left();
            state.finish(&mut self.tar, left).map_err(|e| self.index_error(e))?;
        }
        Ok(next)
    }

    fn consumer_file(&mut self, name: &str, file: &str) -> Result<Option<Consumer>, Error> {
        if file == META {
            let bytes = self.whole()?;
            let (config, meta): (ConsumerConfig, Meta) = (self.json(&bytes)?, self.json(&bytes)?);
            let created = Wall::parse_rfc3339(&meta.created);
            let begun = Consumer {
                name: name.to_owned(),
                consumer: ArchivedConsumer { config, state: None, created },
                meta_sum: Checksum::keyed(&format!("{}/{name}", self.name)).of(&[&bytes]),
            };
            return Ok(self.consumer.replace(begun));
        }
        let Some(begun) = self.consumer.as_mut().filter(|begun| begun.name == name) else {
            return Err(self.invalid("not behind the configuration of its consumer"));
        };
        match file {
            SUM => {
                let sum = begun.meta_sum;
                self.check_sum(sum)?;
                Ok(None)
            }
            "o.dat" => {
                let bytes = self.whole()?;
                let state = consumer::decode(&bytes).map_err(|reason| self.invalid(reason))?;
                let finished = self.consumer.take();
                Ok(finished.map(|mut done| {
                    done.consumer.state = Some(state);
                    done
                }))
            }
            _ => Ok(None),
        }
    }

    /// The file as a whole.
    fn whole(&mut self) -> Result<Vec<u8>, Error> {
        let len = Some(self.member.size).filter(|size| *size <= FILE_MAX);
        let len = len.and_then(|size| usize::try_from(size).ok()).ok_or_else(|| self.invalid("too large"))?;
        let mut bytes = Vec::new();
        read_bytes(&mut self.tar, len, &mut bytes)?;
        Ok(bytes)
    }

    fn check_sum(&mut self, expected: [u8; checksum::LEN]) -> Result<(), Error> {
        let written = self.whole()?;
        let expected: String = expected.iter().map(|byte| format!("{byte:02x}")).collect();
        if written == expected.as_bytes() { Ok(()) } else { Err(self.invalid("wrong checksum")) }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(bytes)
            .map_err(|e| Error::Json { name: self.member.name.clone(), reason: e.to_string() })
    }

    fn invalid(&self, reason: &'static str) -> Error {
        Error::File { name: self.member.name.clone(), reason }
    }

    fn index_error(&self, error: IndexError) -> Error {
        match error {
            IndexError::Entry(EntryError::Io(error)) => Error::Io(error),
            IndexError::Entry(EntryError::Cut) => Error::Truncated,
            IndexError::Entry(EntryError::Length) => self.invalid("impossible number"),
            IndexError::Invalid(reason) => self.invalid(reason),
        }
    }
}

/// How far sequences are used if this one is. Erased messages say 0 for when they were stored.
fn reach(end: End, seq: u64, timestamp: i64) -> End {
    let timestamp = (timestamp != 0).then_some(timestamp);
    match seq.cmp(&end.last_seq) {
        Ordering::Greater => End { last_seq: seq, last_ts: timestamp },
        Ordering::Equal => End { last_ts: end.last_ts.or(timestamp), ..end },
        Ordering::Less => end,
    }
}

/// The number in a file's name.
fn numbered(file: &str, ending: &str) -> Option<u64> {
    file.strip_suffix(ending)?.parse().ok()
}

#[cfg(test)]
mod tests;
