use linnet_ids::StreamSeq;

use crate::filter::{Filter, Scan};
use crate::store::StreamStore;
use crate::subjects::SubjectState;

impl StreamStore {
    /// The first message at or after `seq` on a wanted subject.
    pub fn next(&self, seq: StreamSeq, filter: &Filter) -> Option<StreamSeq> {
        let mut from = seq.max(self.state.first_seq);
        if let Some(only) = filter.literal() {
            let id = self.subjects.find(only)?;
            let state = self.subjects.state(id);
            if state.last < from {
                return None;
            }
            if from <= state.first && self.subjects.first_is_exact(id) {
                return Some(state.first);
            }
            from = from.max(state.first);
        }
        let mut scan = Scan::new(filter, &self.subjects);
        let start = self.blocks.partition_point(|b| b.end() <= from);
        self.blocks.range(start..).find_map(|block| {
            let seqs = block.rows().seqs();
            scan.next_row(block.rows(), seqs.row_from(from)).map(|row| seqs.seq_of(row))
        })
    }

    /// The last message before `seq` on a wanted subject.
    pub fn previous(&self, seq: StreamSeq, filter: &Filter) -> Option<StreamSeq> {
        let mut before = seq.min(self.state.last_seq + 1);
        if let Some(only) = filter.literal() {
            let state = self.subjects.state(self.subjects.find(only)?);
            if before <= state.first {
                return None;
            }
            if before > state.last {
                return Some(state.last);
            }
            before = before.min(state.last + 1);
        }
        let mut scan = Scan::new(filter, &self.subjects);
        let end = self.blocks.partition_point(|b| b.base() < before);
        self.blocks.range(..end).rev().find_map(|block| {
            let seqs = block.rows().seqs();
            scan.previous_row(block.rows(), seqs.row_from(before)).map(|row| seqs.seq_of(row))
        })
    }

    /// Number of messages at or after `seq` on wanted subjects.
    pub fn count(&self, seq: StreamSeq, filter: &Filter) -> u64 {
        if seq <= self.state.first_seq {
            return self.total(filter);
        }
        if let Some(only) = filter.literal() {
            let Some(id) = self.subjects.find(only) else { return 0 };
            let state = self.subjects.state(id);
            if state.last < seq {
                return 0;
            }
            if state.first >= seq {
                return state.msgs;
            }
        }
        // Rows are looked at on the side of `seq` where there are fewer.
        let at = self.blocks.partition_point(|b| b.end() <= seq);
        let rows_in = |range: std::ops::Range<usize>| -> usize {
            self.blocks.range(range).map(|b| b.rows().len()).sum()
        };
        let total_costs = if filter.is_all() || filter.literal().is_some() { 0 } else { self.subjects.len() };
        if rows_in(0..at) + total_costs < rows_in(at..self.blocks.len()) {
            let before = self.blocks.partition_point(|b| b.base() < seq);
            return self.total(filter) - self.count_in(0..before, 0..seq, filter);
        }
        self.count_in(at..self.blocks.len(), seq..StreamSeq::MAX, filter)
    }

    fn count_in(
        &self,
        blocks: std::ops::Range<usize>,
        seqs: std::ops::Range<StreamSeq>,
        filter: &Filter,
    ) -> u64 {
        let mut scan = Scan::new(filter, &self.subjects);
        let blocks = self.blocks.range(blocks);
        blocks
            .map(|block| {
                let of = block.rows().seqs();
                scan.count(block.rows(), of.row_from(seqs.start)..of.row_from(seqs.end))
            })
            .sum()
    }

    /// Number of messages on wanted subjects.
    fn total(&self, filter: &Filter) -> u64 {
        if filter.is_all() {
            return self.state.msgs;
        }
        let mut total = 0;
        self.for_each_subject(filter, |_, state| total += state.msgs);
        total
    }

    /// State of one literal subject.
    pub fn subject(&self, subject: &[u8]) -> Option<SubjectState> {
        self.subjects.find(subject).map(|id| self.subjects.state(id))
    }

    /// Calls `visit` with every subject the filter wants, in no order.
    pub fn for_each_subject(&self, filter: &Filter, mut visit: impl FnMut(&[u8], SubjectState)) {
        if let Some(only) = filter.literal() {
            if let Some(state) = self.subject(only) {
                visit(only, state);
            }
            return;
        }
        for (_, subject, state) in self.subjects.iter().filter(|(_, subject, _)| filter.matches(subject)) {
            visit(subject, state);
        }
    }

    /// The newest message on a wanted subject.
    pub fn last_of(&self, filter: &Filter) -> Option<StreamSeq> {
        if filter.is_all() {
            return self.previous(StreamSeq::MAX, filter);
        }
        let mut last = None;
        self.for_each_subject(filter, |_, state| last = last.max(Some(state.last)));
        last
    }

    /// The oldest message of a literal subject.
    pub fn first_of(&mut self, subject: &[u8]) -> Option<StreamSeq> {
        let id = self.subjects.find(subject)?;
        if self.subjects.first_is_exact(id) {
            return Some(self.subjects.state(id).first);
        }
        let from = self.subjects.state(id).first;
        let start = self.blocks.partition_point(|b| b.end() <= from);
        let found = self.blocks.range(start..).find_map(|block| {
            let seqs = block.rows().seqs();
            block.rows().next_of(seqs.row_from(from), id).map(|row| seqs.seq_of(row))
        })?;
        self.subjects.set_first(id, found);
        Some(found)
    }
}
