use std::io::{self, BufRead, Read};

use linnet_ids::Wall;
use linnet_jsapi::info::StreamState;
use linnet_s2::FrameReader;
use thiserror::Error as ThisError;

use crate::consumer::ArchivedConsumer;
use crate::entry::{self, Entry, EntryError, MAGIC};
use crate::files::FilesReader;
use crate::writer::{CONSUMERS, STATE};

/// Why something is no archive. The texts are told to clients.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The bytes end before the archive does.
    #[error("backup was truncated")]
    Truncated,
    /// It begins with something else.
    #[error("not a backup of a stream")]
    NotAnArchive,
    /// An entry that cannot be.
    #[error("backup has an invalid entry: {0}")]
    Entry(&'static str),
    /// A message whose sequence is not above the one before.
    #[error("backup has sequence {seq} behind {last}")]
    Order {
        /// Its sequence.
        seq: u64,
        /// The one before.
        last: u64,
    },
    /// The state or a consumer cannot be read.
    #[error("backup has an invalid entry {name}: {reason}")]
    Json {
        /// Name of the entry.
        name: String,
        /// Why.
        reason: String,
    },
    /// A file of a backup of an older server cannot be read.
    #[error("backup has an invalid file {name}: {reason}")]
    File {
        /// Its name.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// The server that made the backup could not finish it.
    #[error("backup is incomplete: {0}")]
    Incomplete(String),
    /// The frames are damaged, or their source failed.
    #[error("backup cannot be read: {0}")]
    Io(io::Error),
}

impl From<EntryError> for Error {
    fn from(error: EntryError) -> Self {
        match error {
            EntryError::Cut => Self::Truncated,
            EntryError::Length => Self::Entry("impossible length"),
            EntryError::Io(error) => Self::Io(error),
        }
    }
}

/// A part of an archive.
#[derive(Debug)]
pub enum Part<'a> {
    /// A consumer and its name.
    Consumer(String, Box<ArchivedConsumer>),
    /// A message.
    Message(&'a Entry),
    /// Of the messages that came, these are not in the stream.
    Removed {
        /// The first one.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// The end: nothing is missing.
    End(End),
}

/// How far the sequences of a stream are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// The last one.
    pub last_seq: u64,
    /// When the newest message was stored, nanoseconds since the Unix epoch.
    pub last_ts: Option<i64>,
}

/// Reads a backup, whichever form it has.
pub struct Reader<R>(Form<R>);

/// Anything whose first bytes were read.
type Begun<R> = io::Chain<io::Cursor<Vec<u8>>, FrameReader<R>>;

enum Form<R> {
    Entries(Box<EntryReader<FrameReader<R>>>),
    Files(Box<FilesReader<Begun<R>>>),
}

impl<R: Read> Reader<R> {
    /// Begins to read: what tells of the stream comes first.
    pub fn new(source: R) -> Result<Self, Error> {
        let mut frames = FrameReader::new(source);
        let mut magic = Vec::new();
        frames.by_ref().take(MAGIC.len() as u64).read_to_end(&mut magic).map_err(EntryError::from)?;
        if magic.len() < MAGIC.len() {
            return Err(Error::Truncated);
        }
        Ok(Self(match magic == MAGIC {
            true => Form::Entries(Box::new(EntryReader::new(frames)?)),
            false => Form::Files(Box::new(FilesReader::new(io::Cursor::new(magic).chain(frames))?)),
        }))
    }

    /// How far sequences are used, if that is known from the beginning.
    pub fn end(&self) -> Option<End> {
        match &self.0 {
            Form::Entries(entries) => Some(entries.end()),
            Form::Files(_) => None,
        }
    }

    /// The stream's name, in backups that bind it.
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Form::Entries(_) => None,
            Form::Files(files) => Some(files.name()),
        }
    }

    /// When the stream was created, in backups that say so.
    pub fn created(&self) -> Option<Wall> {
        match &self.0 {
            Form::Entries(_) => None,
            Form::Files(files) => files.created(),
        }
    }

    /// The next part.
    pub fn next_part(&mut self) -> Result<Part<'_>, Error> {
        match &mut self.0 {
            Form::Entries(entries) => entries.next_part(),
            Form::Files(files) => files.next_part(),
        }
    }
}

/// Reads the entries of an archive.
struct EntryReader<R> {
    frames: R,
    state: StreamState,
    entry: Entry,
    /// Consumers that are still to come.
    consumers_left: u64,
    last_seq: u64,
}

impl<R: BufRead> EntryReader<R> {
    fn new(mut frames: R) -> Result<Self, Error> {
        let mut first = Entry::default();
        if !entry::read(&mut frames, &mut first)? || first.name != STATE.as_bytes() {
            return Err(Error::Entry("the state is missing"));
        }
        let state: StreamState = parse(STATE, &first.body)?;
        let consumers_left = state.consumer_count;
        Ok(Self { frames, state, entry: first, consumers_left, last_seq: 0 })
    }

    fn end(&self) -> End {
        End { last_seq: self.state.last_seq, last_ts: self.state.last_ts.map(|at| at.0) }
    }

    fn next_part(&mut self) -> Result<Part<'_>, Error> {
        if !entry::read(&mut self.frames, &mut self.entry)? {
            return match self.consumers_left {
                0 => Ok(Part::End(self.end())),
                _ => Err(Error::Entry("consumers are missing")),
            };
        }
        if self.consumers_left > 0 {
            self.consumers_left -= 1;
            let name = std::str::from_utf8(&self.entry.name).ok().and_then(|n| n.strip_prefix(CONSUMERS));
            let name = name.ok_or(Error::Entry("a consumer is missing"))?.to_owned();
            let consumer = parse(&name, &self.entry.body)?;
            return Ok(Part::Consumer(name, Box::new(consumer)));
        }
        let (seq, last) = (self.entry.seq, self.last_seq);
        if seq == 0 {
            return Err(Error::Entry("neither a message nor the end"));
        }
        if seq <= last {
            return Err(Error::Order { seq, last });
        }
        self.last_seq = seq;
        Ok(Part::Message(&self.entry))
    }
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, json: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|e| Error::Json { name: name.to_owned(), reason: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ArchivedState, Position, Writer};

    fn read_all(bytes: &[u8]) -> Result<Vec<String>, Error> {
        let mut reader = Reader::new(bytes)?;
        let mut parts = vec![format!("up to {:?}", reader.end().map(|end| end.last_seq))];
        loop {
            parts.push(match reader.next_part()? {
                Part::Consumer(name, consumer) => format!("{name} {:?}", consumer.state),
                Part::Message(m) => {
                    let (headers, payload) = m.body.split_at(m.header_len);
                    format!("{} {} {headers:?} {payload:?}", m.seq, String::from_utf8_lossy(&m.name))
                }
                Part::Removed { first, last } => format!("{first}-{last} removed"),
                Part::End(_) => return Ok(parts),
            });
        }
    }

    fn archive() -> Vec<u8> {
        let state = StreamState { msgs: 2, consumer_count: 1, last_seq: 7, ..StreamState::default() };
        let mut writer = Writer::new(&state, 5);
        let delivered = Position { consumer_seq: 3, stream_seq: 2 };
        let state = Some(ArchivedState { delivered, ..ArchivedState::default() });
        writer.consumer("C", 5, &ArchivedConsumer { state, ..Default::default() });
        writer.message(b"s.a", 6, 2, 0, b"one");
        writer.message(b"s.b", 7, 7, 2, b"\r\ntwo");
        writer.end();
        let mut bytes = Vec::new();
        while !writer.is_empty() {
            bytes.extend(writer.take(9));
        }
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let parts = read_all(&archive()).unwrap();
        assert_eq!(parts[0], "up to Some(7)");
        assert!(parts[1].starts_with("C Some"), "{}", parts[1]);
        assert_eq!(parts[2], format!("2 s.a [] {:?}", b"one"));
        assert_eq!(parts[3], format!("7 s.b {:?} {:?}", b"\r\n", b"two"));
        assert_eq!(parts.len(), 4);
    }

    #[test]
    fn every_cut_and_every_flip_is_noticed() {
        let whole = archive();
        for len in 0..whole.len() {
            assert!(read_all(&whole[..len]).is_err(), "cut at {len}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x20;
            assert!(read_all(&flipped).is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn sequences_must_ascend() {
        let mut writer = Writer::new(&StreamState::default(), 1);
        writer.message(b"a", 1, 3, 0, b"");
        writer.message(b"a", 1, 3, 0, b"");
        writer.end();
        let error = read_all(&writer.take(usize::MAX)).unwrap_err();
        assert_eq!(error.to_string(), "backup has sequence 3 behind 3");
    }

    #[test]
    fn a_backup_of_nats_server_is_read() {
        let parts = read_all(include_bytes!("../testdata/nine-messages.arc.s2")).unwrap();
        assert_eq!(parts[0], "up to Some(9)");
        assert!(parts[1].contains("stream_seq"), "{}", parts[1]);
        let sequences: Vec<&str> = parts[2..].iter().map(|p| p.split(' ').next().unwrap()).collect();
        assert_eq!(sequences, ["1", "2", "3", "5", "6", "7", "8", "9"]);
    }
}
