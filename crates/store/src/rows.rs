use std::ops::Range;

use linnet_ids::StreamSeq;
use roaring::RoaringBitmap;

use crate::subjects::SubjectId;

/// Marks in the subject column that the record has headers.
pub(crate) const HAS_HEADERS: u32 = 1 << 31;
/// A jump over at most this many sequences costs less as dead rows than as another run.
const FILL_MAX: u64 = 2;

/// Which sequence each row of a block has: runs of consecutive sequences, in ascending order. Two runs may start
/// with the same sequence only around a row that stands for damage; look-ups then find the later one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    runs: Vec<Run>,
    len: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    row: u32,
    seq: StreamSeq,
}

impl Runs {
    /// From the first row and sequence of each run; `None` if they are not in order.
    pub(crate) fn from_parts(parts: impl IntoIterator<Item = (u32, StreamSeq)>, len: u32) -> Option<Self> {
        let runs: Vec<Run> = parts.into_iter().map(|(row, seq)| Run { row, seq }).collect();
        let ordered = runs.windows(2).all(|w| w[0].row < w[1].row && w[0].seq <= w[1].seq);
        let inside = match (runs.first(), runs.last()) {
            (Some(first), Some(last)) => first.row == 0 && last.row < len,
            _ => len == 0,
        };
        let finite = runs.last().is_none_or(|r| r.seq.checked_add(u64::from(len)).is_some());
        (ordered && inside && finite).then_some(Self { runs, len })
    }

    /// First row and sequence of each run.
    pub(crate) fn parts(&self) -> impl ExactSizeIterator<Item = (u32, StreamSeq)> {
        self.runs.iter().map(|r| (r.row, r.seq))
    }

    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) fn first(&self) -> StreamSeq {
        self.runs.first().map_or(0, |r| r.seq)
    }

    /// One past the last row's sequence.
    pub(crate) fn end(&self) -> StreamSeq {
        self.runs.last().map_or(0, |r| r.seq + u64::from(self.len - r.row))
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, seq: StreamSeq) {
        if self.runs.is_empty() || seq != self.end() {
            self.runs.push(Run { row: self.len, seq });
        }
        self.len += 1;
    }

    /// The last run that starts at or before `seq`: its first row, its length, and how far in `seq` is.
    fn run_at(&self, seq: StreamSeq) -> Option<(u32, u32, u64)> {
        let at = self.runs.partition_point(|r| r.seq <= seq).checked_sub(1)?;
        let run = self.runs.get(at)?;
        let end = self.runs.get(at + 1).map_or(self.len, |next| next.row);
        Some((run.row, end - run.row, seq - run.seq))
    }

    pub(crate) fn row_of(&self, seq: StreamSeq) -> Option<usize> {
        let (row, len, within) = self.run_at(seq)?;
        (within < u64::from(len)).then(|| row as usize + usize::try_from(within).unwrap_or(0))
    }

    /// The first row whose sequence is `seq` or higher; the number of rows if there is none.
    pub(crate) fn row_from(&self, seq: StreamSeq) -> usize {
        self.run_at(seq).map_or(0, |(row, len, within)| {
            row as usize + usize::try_from(within.min(u64::from(len))).unwrap_or(0)
        })
    }

    /// The sequence of every row, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = StreamSeq> {
        let ends = self.runs.iter().skip(1).map(|r| r.row).chain([self.len]);
        self.runs
            .iter()
            .zip(ends)
            .flat_map(|(run, end)| (run.row..end).map(|r| run.seq + u64::from(r - run.row)))
    }

    /// Sequence of a row that exists.
    pub(crate) fn seq_of(&self, row: usize) -> StreamSeq {
        let at = self.runs.partition_point(|r| r.row as usize <= row).saturating_sub(1);
        self.runs.get(at).map_or(0, |r| r.seq + (row - r.row as usize) as u64)
    }
}

/// The index of one block: where each row's record starts, whose subject it has, whether it is alive. A row takes
/// eight bytes and a bit.
#[derive(Clone, Default)]
pub(crate) struct Rows {
    seqs: Runs,
    /// Where each row's record starts. A record ends where the next one starts; an empty one is a hole.
    pub(crate) offsets: Vec<u32>,
    /// Subject of each row, with [`HAS_HEADERS`]; meaningless for dead rows.
    subjects: Vec<u32>,
    /// One bit a row.
    live: Vec<u64>,
    /// One bit for each word of `live` that has any: a search must not walk through a long dead stretch each time.
    summary: Vec<u64>,
    live_count: u32,
}

impl Rows {
    /// Rows that are all alive, from their columns; `subjects` carries [`HAS_HEADERS`]. Between the runs are no gaps
    /// that [`Rows::push`] would fill.
    pub(crate) fn all_live(seqs: Runs, offsets: Vec<u32>, subjects: Vec<u32>) -> Self {
        let len = offsets.len();
        let live = ones(len);
        let summary = ones(live.len());
        let live_count = u32::try_from(len).unwrap_or(u32::MAX);
        Self { seqs, offsets, subjects, live, summary, live_count }
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    pub(crate) fn seqs(&self) -> &Runs {
        &self.seqs
    }

    pub(crate) fn live_count(&self) -> u32 {
        self.live_count
    }

    /// Adds a row that starts at `offset`; `subject` carries [`HAS_HEADERS`].
    pub(crate) fn push(&mut self, seq: StreamSeq, offset: u32, subject: u32, live: bool) {
        if self.len() > 0 {
            let end = self.seqs.end();
            if seq > end && seq - end <= FILL_MAX {
                for hole in end..seq {
                    self.push_row(hole, offset, 0, false);
                }
            }
        }
        self.push_row(seq, offset, subject, live);
    }

    fn push_row(&mut self, seq: StreamSeq, offset: u32, subject: u32, live: bool) {
        let row = self.len();
        self.seqs.push(seq);
        self.offsets.push(offset);
        self.subjects.push(subject);
        let word = row / 64;
        if row.is_multiple_of(64) {
            self.live.push(0);
        }
        if word / 64 == self.summary.len() {
            self.summary.push(0);
        }
        if live {
            self.live[word] |= 1 << (row % 64);
            self.summary[word / 64] |= 1 << (word % 64);
            self.live_count += 1;
        }
    }

    pub(crate) fn is_live(&self, row: usize) -> bool {
        self.live.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    pub(crate) fn kill(&mut self, row: usize) {
        if self.is_live(row) {
            let word = row / 64;
            self.live[word] &= !(1 << (row % 64));
            if self.live[word] == 0 {
                self.summary[word / 64] &= !(1 << (word % 64));
            }
            self.live_count -= 1;
        }
    }

    pub(crate) fn subject(&self, row: usize) -> SubjectId {
        self.subjects[row] & !HAS_HEADERS
    }

    /// With [`HAS_HEADERS`].
    pub(crate) fn marked_subject(&self, row: usize) -> u32 {
        self.subjects[row]
    }

    pub(crate) fn has_headers(&self, row: usize) -> bool {
        self.subjects[row] & HAS_HEADERS != 0
    }

    pub(crate) fn set_subject(&mut self, row: usize, subject: SubjectId) {
        self.subjects[row] = subject | (self.subjects[row] & HAS_HEADERS);
    }

    /// Bytes of a row's record, when the block has `data_len` bytes.
    pub(crate) fn span(&self, row: usize, data_len: usize) -> Range<usize> {
        let end = self.offsets.get(row + 1).map_or(data_len, |o| *o as usize);
        self.offsets[row] as usize..end
    }

    /// The live bits of a word that lie in `rows`.
    fn live_in(&self, word: usize, rows: &Range<usize>) -> u64 {
        self.live[word] & bits_in(word, rows)
    }

    /// Words with live rows that overlap `rows`, in order.
    fn words(&self, rows: Range<usize>) -> impl DoubleEndedIterator<Item = usize> {
        let words = if rows.is_empty() { 0..0 } else { rows.start / 64..rows.end.div_ceil(64) };
        let groups = if words.is_empty() { 0..0 } else { words.start / 64..words.end.div_ceil(64) };
        groups.flat_map(move |group| Bits { word: group, left: self.summary[group] & bits_in(group, &words) })
    }

    /// Which of the 64 rows of a word have this subject. Without early exit, so that it becomes vector code.
    fn has_subject(&self, word: usize, id: SubjectId) -> u64 {
        let first = word * 64;
        let column = &self.subjects[first..self.len().min(first + 64)];
        if !column.iter().fold(false, |any, s| any | (s & !HAS_HEADERS == id)) {
            return 0;
        }
        column.iter().enumerate().fold(0, |bits, (at, s)| bits | u64::from(s & !HAS_HEADERS == id) << at)
    }

    /// The first live row from `start` on.
    pub(crate) fn next_live(&self, start: usize) -> Option<usize> {
        // Nearly always it is near.
        let first = start / 64;
        let near = *self.live.get(first)? & (u64::MAX << (start % 64));
        if near != 0 {
            return first_bit(first, near);
        }
        let rows = (first + 1) * 64..self.len();
        self.words(rows.clone()).find_map(|word| first_bit(word, self.live_in(word, &rows)))
    }

    /// The last live row before `end`.
    pub(crate) fn previous_live(&self, end: usize) -> Option<usize> {
        let rows = 0..end.min(self.len());
        self.words(rows.clone()).rev().find_map(|word| last_bit(word, self.live_in(word, &rows)))
    }

    /// The first live row of a subject from `start` on.
    pub(crate) fn next_of(&self, start: usize, id: SubjectId) -> Option<usize> {
        let rows = start..self.len();
        let mut words = self.words(rows.clone());
        words.find_map(|word| first_bit(word, self.live_in(word, &rows) & self.has_subject(word, id)))
    }

    /// The last live row of a subject before `end`.
    pub(crate) fn previous_of(&self, end: usize, id: SubjectId) -> Option<usize> {
        let rows = 0..end.min(self.len());
        let mut words = self.words(rows.clone()).rev();
        words.find_map(|word| last_bit(word, self.live_in(word, &rows) & self.has_subject(word, id)))
    }

    /// The first live row from `start` on whose subject is wanted.
    pub(crate) fn next_where(
        &self,
        start: usize,
        mut wanted: impl FnMut(SubjectId) -> bool,
    ) -> Option<usize> {
        let mut from = start;
        while let Some(row) = self.next_live(from) {
            if wanted(self.subject(row)) {
                return Some(row);
            }
            from = row + 1;
        }
        None
    }

    /// The last live row before `end` whose subject is wanted.
    pub(crate) fn previous_where(
        &self,
        end: usize,
        mut wanted: impl FnMut(SubjectId) -> bool,
    ) -> Option<usize> {
        let mut before = end;
        while let Some(row) = self.previous_live(before) {
            if wanted(self.subject(row)) {
                return Some(row);
            }
            before = row;
        }
        None
    }

    /// Number of live rows in a range.
    pub(crate) fn count_live(&self, rows: Range<usize>) -> u64 {
        if rows.start == 0 && rows.end == self.len() {
            return u64::from(self.live_count);
        }
        self.words(rows.clone()).map(|word| u64::from(self.live_in(word, &rows).count_ones())).sum()
    }

    /// Number of live rows of a subject in a range.
    pub(crate) fn count_of(&self, rows: Range<usize>, id: SubjectId) -> u64 {
        let words = self.words(rows.clone());
        words
            .map(|word| u64::from((self.live_in(word, &rows) & self.has_subject(word, id)).count_ones()))
            .sum()
    }

    /// Rows that are not alive, by number.
    pub(crate) fn dead(&self) -> RoaringBitmap {
        if self.live_count as usize == self.len() {
            return RoaringBitmap::new();
        }
        let words = self.live.iter().enumerate().filter(|(_, live)| **live != u64::MAX);
        let dead = words.flat_map(|(word, live)| {
            let rows = word * 64..self.len();
            Bits { word, left: !live & bits_in(word, &rows) }
        });
        // Ascending by construction; were it not, collecting would still give the same set.
        let mut bitmap: RoaringBitmap = dead.filter_map(|row| u32::try_from(row).ok()).collect();
        bitmap.optimize();
        bitmap
    }
}

/// Mask of the bits of a word whose numbers lie in a range that overlaps it.
fn bits_in(word: usize, range: &Range<usize>) -> u64 {
    let first = word * 64;
    let mut mask = u64::MAX;
    if range.start > first {
        mask &= u64::MAX << (range.start - first).min(63);
    }
    if range.end < first + 64 {
        mask &= (1 << range.end.saturating_sub(first)) - 1;
    }
    mask
}

/// Numbers of the set bits of one word.
struct Bits {
    word: usize,
    left: u64,
}

impl Iterator for Bits {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let bit = first_bit(self.word, self.left)?;
        self.left &= self.left - 1;
        Some(bit)
    }
}

impl DoubleEndedIterator for Bits {
    fn next_back(&mut self) -> Option<usize> {
        let bit = last_bit(self.word, self.left)?;
        self.left &= !(1 << (bit % 64));
        Some(bit)
    }
}

fn first_bit(word: usize, bits: u64) -> Option<usize> {
    (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)
}

fn last_bit(word: usize, bits: u64) -> Option<usize> {
    (bits != 0).then(|| word * 64 + 63 - bits.leading_zeros() as usize)
}

/// So many bits that are set.
fn ones(bits: usize) -> Vec<u64> {
    let mut words = vec![u64::MAX; bits.div_ceil(64)];
    if let Some(last) = words.last_mut().filter(|_| !bits.is_multiple_of(64)) {
        *last = (1 << (bits % 64)) - 1;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{Rows, Runs};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_find_every_row_again(gaps in proptest::collection::vec(1_u64..6, 1..60)) {
            let mut runs = Runs::default();
            let mut seqs = Vec::new();
            let mut seq = 0;
            for gap in gaps {
                seq += gap;
                runs.push(seq);
                seqs.push(seq);
            }
            for (row, seq) in seqs.iter().enumerate() {
                prop_assert_eq!(runs.row_of(*seq), Some(row));
                prop_assert_eq!(runs.seq_of(row), *seq);
            }
            for probe in 0..seq + 2 {
                prop_assert_eq!(runs.row_from(probe), seqs.partition_point(|s| *s < probe));
                prop_assert_eq!(runs.row_of(probe).is_some(), seqs.contains(&probe));
            }
            prop_assert_eq!(runs.end(), seq + 1);
            let again = Runs::from_parts(runs.parts().collect::<Vec<_>>(), u32::try_from(runs.len()).unwrap());
            prop_assert_eq!(again, Some(runs));
        }

        #[test]
        fn scans_agree_with_looking_at_each_row(
            subjects in proptest::collection::vec(0_u32..4, 1..9000),
            killed in proptest::collection::vec((0_usize..9000, 0_usize..5000), 0..20),
            at in 0_usize..9000,
            id in 0_u32..4,
        ) {
            let mut rows = Rows::default();
            for (n, subject) in subjects.iter().enumerate() {
                rows.push(n as u64 + 1, 0, *subject, true);
            }
            for (first, count) in killed {
                (first..subjects.len().min(first + count)).for_each(|row| rows.kill(row));
            }
            let live: Vec<usize> = (0..subjects.len()).filter(|r| rows.is_live(*r)).collect();
            let of: Vec<usize> = live.iter().copied().filter(|r| subjects[*r] == id).collect();
            let end = at.min(subjects.len());
            prop_assert_eq!(rows.next_live(at), live.iter().copied().find(|r| *r >= at));
            prop_assert_eq!(rows.previous_live(at), live.iter().copied().rfind(|r| *r < at));
            prop_assert_eq!(rows.next_of(at, id), of.iter().copied().find(|r| *r >= at));
            prop_assert_eq!(rows.previous_of(at, id), of.iter().copied().rfind(|r| *r < at));
            prop_assert_eq!(rows.next_where(at, |s| s == id), rows.next_of(at, id));
            prop_assert_eq!(rows.previous_where(at, |s| s == id), rows.previous_of(at, id));
            prop_assert_eq!(rows.count_live(end..subjects.len()), live.iter().filter(|r| **r >= end).count() as u64);
            prop_assert_eq!(rows.count_of(0..end, id), of.iter().filter(|r| **r < end).count() as u64);
            prop_assert_eq!(rows.live_count() as usize, live.len());
            prop_assert_eq!(rows.dead().len() as usize, subjects.len() - live.len());
        }
    }
}
