use std::ops::Range;

use crate::rows::Rows;
use crate::subjects::{SubjectId, Subjects};

/// Messages looked at before a scan starts to remember its verdicts by subject.
const MEMO_AFTER: usize = 1024;

/// Which subjects a reader wants: all, or those that any of several patterns covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    patterns: Vec<Box<[u8]>>,
}

impl Filter {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// The subjects covered by any of `patterns`; everything if there are none or one of them is `>`.
    pub fn new<P: AsRef<[u8]>>(patterns: impl IntoIterator<Item = P>) -> Self {
        let patterns: Vec<Box<[u8]>> = patterns.into_iter().map(|p| p.as_ref().into()).collect();
        if patterns.iter().any(|p| **p == *b">") { Self::all() } else { Self { patterns } }
    }

    /// True if every subject is wanted.
    pub fn is_all(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The patterns; empty for everything.
    pub fn patterns(&self) -> &[Box<[u8]>] {
        &self.patterns
    }

    /// True if messages on the literal `subject` are wanted.
    pub fn matches(&self, subject: &[u8]) -> bool {
        self.is_all() || self.patterns.iter().any(|p| linnet_subject::matches(subject, p))
    }

    /// The only subject wanted, if the filter is one literal.
    pub(crate) fn literal(&self) -> Option<&[u8]> {
        match self.patterns.as_slice() {
            [only] if linnet_subject::is_literal(only) => Some(only),
            _ => None,
        }
    }
}

/// One search through rows. A long search matches each subject once; a short one spares the table.
pub(crate) enum Scan<'a> {
    All,
    Only(SubjectId),
    Nothing,
    Matching(Verdicts<'a>),
}

impl<'a> Scan<'a> {
    pub(crate) fn new(filter: &'a Filter, subjects: &'a Subjects) -> Self {
        if filter.is_all() {
            return Self::All;
        }
        match filter.literal().map(|subject| subjects.find(subject)) {
            Some(Some(id)) => Self::Only(id),
            Some(None) => Self::Nothing,
            None => Self::Matching(Verdicts { filter, subjects, looked_at: 0, known: Vec::new() }),
        }
    }

    /// The first wanted row from `start` on.
    pub(crate) fn next_row(&mut self, rows: &Rows, start: usize) -> Option<usize> {
        match self {
            Self::All => rows.next_live(start),
            Self::Only(id) => rows.next_of(start, *id),
            Self::Nothing => None,
            Self::Matching(verdicts) => rows.next_where(start, |id| verdicts.wants(id)),
        }
    }

    /// The last wanted row before `end`.
    pub(crate) fn previous_row(&mut self, rows: &Rows, end: usize) -> Option<usize> {
        match self {
            Self::All => rows.previous_live(end),
            Self::Only(id) => rows.previous_of(end, *id),
            Self::Nothing => None,
            Self::Matching(verdicts) => rows.previous_where(end, |id| verdicts.wants(id)),
        }
    }

    /// Number of wanted rows in a range.
    pub(crate) fn count(&mut self, rows: &Rows, range: Range<usize>) -> u64 {
        match self {
            Self::All => rows.count_live(range),
            Self::Only(id) => rows.count_of(range, *id),
            Self::Nothing => 0,
            Self::Matching(verdicts) => {
                let (mut count, mut from) = (0, range.start);
                while let Some(row) = rows.next_live(from).filter(|row| *row < range.end) {
                    count += u64::from(verdicts.wants(rows.subject(row)));
                    from = row + 1;
                }
                count
            }
        }
    }
}

/// Which subjects a filter with wildcards wants.
pub(crate) struct Verdicts<'a> {
    filter: &'a Filter,
    subjects: &'a Subjects,
    looked_at: usize,
    /// By subject id: 0 unknown, 1 wanted, 2 not wanted.
    known: Vec<u8>,
}

impl Verdicts<'_> {
    fn wants(&mut self, id: SubjectId) -> bool {
        self.looked_at += 1;
        if self.known.is_empty() {
            // The table has a byte for every subject: it must not cost more than it spares.
            if self.looked_at < MEMO_AFTER.max(self.subjects.id_bound() / 32) {
                return self.filter.matches(self.subjects.subject(id));
            }
            self.known = vec![0; self.subjects.id_bound()];
        }
        match self.known.get_mut(id as usize) {
            Some(1) => true,
            Some(2) => false,
            Some(verdict) => {
                let wanted = self.filter.matches(self.subjects.subject(id));
                *verdict = if wanted { 1 } else { 2 };
                wanted
            }
            None => self.filter.matches(self.subjects.subject(id)),
        }
    }
}
