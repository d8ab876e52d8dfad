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

/// Verdicts of one scan. A long scan matches each subject once; a short one spares the table.
pub(crate) struct Scan<'a> {
    filter: &'a Filter,
    subjects: &'a Subjects,
    only: Option<Option<SubjectId>>,
    looked_at: usize,
    /// 0 unknown, 1 wanted, 2 not wanted.
    verdicts: Vec<u8>,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(filter: &'a Filter, subjects: &'a Subjects) -> Self {
        let only = filter.literal().map(|subject| subjects.find(subject));
        Self { filter, subjects, only, looked_at: 0, verdicts: Vec::new() }
    }

    /// True if messages of this subject are wanted.
    pub(crate) fn wants(&mut self, id: SubjectId) -> bool {
        if self.filter.is_all() {
            return true;
        }
        if let Some(only) = self.only {
            return only == Some(id);
        }
        self.looked_at += 1;
        if self.looked_at < MEMO_AFTER {
            return self.filter.matches(self.subjects.subject(id));
        }
        if self.verdicts.is_empty() {
            self.verdicts = vec![0; self.subjects.id_bound()];
        }
        match self.verdicts.get_mut(id as usize) {
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
