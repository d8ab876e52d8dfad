//! Which messages there are: `msgs/index.db` of servers since 2.10, and `msgs/N.idx` of those before.
//!
//! A message may be removed without a trace in the blocks. The indexes know: what they leave out is removed. The layouts
//! are those of `fileStore.writeFullState` and `msgBlock.readIndexInfo` in nats-server's `server/filestore.go` and of
//! `SequenceSet.Encode` in its `server/avl/seqset.go`.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

use super::checksum::{self, Checksum};
use crate::entry::{EntryError, NAME_MAX, read_uvarint, zigzag};

const STATE_MAGIC: u8 = 11;
const STATE_VERSIONS: std::ops::RangeInclusive<u8> = 1..=4;
const MAGIC: u8 = 22;

/// Why an index cannot be read.
#[derive(Debug)]
pub(super) enum IndexError {
    Entry(EntryError),
    Invalid(&'static str),
}

impl From<EntryError> for IndexError {
    fn from(error: EntryError) -> Self {
        Self::Entry(error)
    }
}

impl From<io::Error> for IndexError {
    fn from(error: io::Error) -> Self {
        Self::Entry(error.into())
    }
}

/// Sequences from one to another, both included.
pub(super) type Range = (u64, u64);

/// Reads `index.db` piece by piece: it names every subject of the stream, and whatever is removed.
pub(super) struct StateReader {
    sum: Option<Checksum>,
    version: u8,
    blocks_left: u64,
    removals: Removals,
    /// What was read and not told.
    told_next: VecDeque<Range>,
    /// The first sequence that nothing was said of.
    unsaid: u64,
    /// The newest message.
    pub(super) last_seq: u64,
    pub(super) last_ts: i64,
}

impl StateReader {
    /// Reads up to the blocks. The input is the file; its last bytes are its checksum.
    pub(super) fn begin(input: &mut impl BufRead, size: u64, sum: Checksum) -> Result<Self, IndexError> {
        let len = size.checked_sub(checksum::LEN as u64).ok_or(IndexError::Invalid("cut short"))?;
        let mut reader = Self {
            sum: Some(sum),
            version: 0,
            blocks_left: 0,
            removals: Removals::default(),
            told_next: VecDeque::new(),
            unsaid: 1,
            last_seq: 0,
            last_ts: 0,
        };
        reader.with_sum(&mut input.take(len), |reader, input| reader.head(input))?;
        Ok(reader)
    }

    /// Everything that is read counts for the checksum.
    fn with_sum<R: BufRead, T>(
        &mut self,
        input: &mut R,
        read: impl FnOnce(&mut Self, &mut Summed<'_, R>) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        let mut summed =
            Summed { inner: input, sum: self.sum.take().ok_or(IndexError::Invalid("cut short"))? };
        let outcome = read(self, &mut summed);
        self.sum = Some(summed.sum);
        outcome
    }

    fn head(&mut self, input: &mut impl BufRead) -> Result<(), IndexError> {
        let mut start = [0; 2];
        input.read_exact(&mut start)?;
        if start[0] != STATE_MAGIC || !STATE_VERSIONS.contains(&start[1]) {
            return Err(IndexError::Invalid("unknown version"));
        }
        self.version = start[1];
        let (_messages, _bytes) = (read_uvarint(input)?, read_uvarint(input)?);
        let (_first_seq, _first_ts) = (read_uvarint(input)?, read_uvarint(input)?);
        self.last_seq = sequence(read_uvarint(input)?)?;
        self.last_ts = zigzag(read_uvarint(input)?);
        for _ in 0..read_uvarint(input)? {
            self.skip_subject(input)?;
        }
        self.blocks_left = read_uvarint(input)?;
        Ok(())
    }

    /// A subject, how many messages it has, and their blocks.
    fn skip_subject(&self, input: &mut impl BufRead) -> Result<(), IndexError> {
        let len = read_uvarint(input)?;
        if len == 0 {
            return Ok(());
        }
        if len > NAME_MAX as u64 {
            return Err(IndexError::Invalid("impossible length of a subject"));
        }
        skip(input, len)?;
        let messages = read_uvarint(input)?;
        read_uvarint(input)?;
        if messages > 1 || self.version >= 4 {
            read_uvarint(input)?;
        }
        Ok(())
    }

    /// The next sequences that are removed; `None` at the end, when the checksum was right.
    pub(super) fn next_removed(
        &mut self,
        input: &mut impl BufRead,
        left: u64,
    ) -> Result<Option<Range>, IndexError> {
        let len = left.saturating_sub(checksum::LEN as u64);
        let mut input = input.take(len);
        while self.told_next.is_empty() {
            let is_over = self.blocks_left == 0 && self.removals.nodes_left == 0;
            if is_over {
                return Ok(None);
            }
            self.with_sum(&mut input, Self::read_on)?;
        }
        Ok(self.told_next.pop_front())
    }

    /// Reads one step further.
    fn read_on(&mut self, input: &mut Summed<'_, impl BufRead>) -> Result<(), IndexError> {
        if self.removals.nodes_left > 0 {
            return self.removals.node(input, &mut self.told_next);
        }
        self.blocks_left -= 1;
        let (_number, _bytes) = (read_uvarint(input)?, read_uvarint(input)?);
        let (first, _first_ts) = (sequence(read_uvarint(input)?)?, read_uvarint(input)?);
        let (last, _last_ts) = (sequence(read_uvarint(input)?)?, read_uvarint(input)?);
        let removed = read_uvarint(input)?;
        for _ in 2..=self.version.min(3) {
            // Messages with a time to live, and schedules.
            read_uvarint(input)?;
        }
        if first > self.unsaid {
            self.told_next.push_back((self.unsaid, first - 1));
        }
        self.unsaid = self.unsaid.max(last + 1);
        if removed > 0 {
            self.removals = Removals::begin(input)?;
        }
        if self.blocks_left == 0 && self.last_seq >= self.unsaid {
            self.told_next.push_back((self.unsaid, self.last_seq));
        }
        Ok(())
    }

    /// Reads what stands behind the blocks, and the checksum of it all.
    pub(super) fn finish(mut self, input: &mut impl BufRead, left: u64) -> Result<(), IndexError> {
        let len = left.saturating_sub(checksum::LEN as u64);
        self.with_sum(&mut input.take(len), |_, input| Ok(skip(input, len)?))?;
        let mut expected = [0; checksum::LEN];
        input.read_exact(&mut expected)?;
        match self.sum.map(Checksum::value) {
            Some(sum) if sum == expected => Ok(()),
            _ => Err(IndexError::Invalid("wrong checksum")),
        }
    }
}

/// A set of sequences that are removed: nodes of a tree, each with a bit for every sequence from its first one on.
#[derive(Default)]
struct Removals {
    nodes_left: u32,
    words: usize,
}

impl Removals {
    fn begin(input: &mut impl BufRead) -> Result<Self, IndexError> {
        let mut head = [0; 10];
        input.read_exact(&mut head)?;
        let [magic, version, n0, n1, n2, n3, ..] = head;
        let words = match (magic, version) {
            (MAGIC, 1) => 64,
            (MAGIC, 2) => 32,
            _ => return Err(IndexError::Invalid("unknown version of removals")),
        };
        Ok(Self { nodes_left: u32::from_le_bytes([n0, n1, n2, n3]), words })
    }

    fn node(&mut self, input: &mut impl BufRead, out: &mut VecDeque<Range>) -> Result<(), IndexError> {
        self.nodes_left -= 1;
        let mut word = [0; 8];
        input.read_exact(&mut word)?;
        let base = sequence(u64::from_le_bytes(word))?;
        let mut from = None;
        for start in (base..).step_by(64).take(self.words) {
            input.read_exact(&mut word)?;
            let bits = u64::from_le_bytes(word);
            for seq in start..start + 64 {
                match (from, bits >> (seq - start) & 1 == 1) {
                    (None, true) => from = Some(seq),
                    (Some(first), false) => {
                        out.push_back((first, seq - 1));
                        from = None;
                    }
                    _ => {}
                }
            }
        }
        if let Some(first) = from {
            out.push_back((first, base + 64 * self.words as u64 - 1));
        }
        let mut height = [0; 2];
        input.read_exact(&mut height)?;
        Ok(())
    }
}

/// What `N.idx` says of its block, which follows it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct BlockIndex {
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) last_ts: i64,
    /// In ascending order.
    removed: Vec<u64>,
}

impl BlockIndex {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        let Some(mut input) = bytes.strip_prefix(&[MAGIC, 1]) else {
            return Err(IndexError::Invalid("unknown version"));
        };
        let input = &mut input;
        let (_messages, _bytes) = (read_uvarint(input)?, read_uvarint(input)?);
        let (first_seq, _first_ts) = (sequence(read_uvarint(input)? & !(1 << 63))?, read_uvarint(input)?);
        let last_seq = sequence(read_uvarint(input)? & !(1 << 63))?;
        let last_ts = zigzag(read_uvarint(input)?);
        let count = read_uvarint(input)?;
        skip(input, checksum::LEN as u64)?;
        let mut removed = Vec::new();
        for _ in 0..count {
            removed.push(sequence(read_uvarint(input)?.saturating_add(first_seq))?);
        }
        removed.sort_unstable();
        Ok(Self { first_seq, last_seq, last_ts, removed })
    }

    /// True if the message is there.
    pub(super) fn has(&self, seq: u64) -> bool {
        seq >= self.first_seq && self.removed.binary_search(&seq).is_err()
    }
}

fn sequence(seq: u64) -> Result<u64, IndexError> {
    if seq < 1 << 62 { Ok(seq) } else { Err(IndexError::Invalid("impossible sequence")) }
}

fn skip(input: &mut impl BufRead, len: u64) -> Result<(), EntryError> {
    let skipped = io::copy(&mut input.take(len), &mut io::sink())?;
    if skipped == len { Ok(()) } else { Err(EntryError::Cut) }
}

/// Adds up what is read.
struct Summed<'a, R> {
    inner: &'a mut R,
    sum: Checksum,
}

impl<R: BufRead> BufRead for Summed<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        // What is consumed was filled before.
        if let Ok(bytes) = self.inner.fill_buf() {
            self.sum.add(bytes.get(..count).unwrap_or(bytes));
        }
        self.inner.consume(count);
    }
}

impl<R: BufRead> Read for Summed<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
pub(super) mod tests;
