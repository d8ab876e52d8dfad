//! How a group with one voter makes entries certain: what the log of this server has durably is committed.

use std::collections::VecDeque;

use linnet_assets::Proposal;
use linnet_ids::GroupId;
use linnet_wal::HardState;

use crate::group::LogPosition;
use crate::log::{Log, Ticket};

/// The one voter of a group.
pub(crate) struct Solo {
    term: u64,
    /// The last entry given to the log.
    last: u64,
    unapplied: VecDeque<Unapplied>,
    in_flight: usize,
    /// To be written behind the next entries.
    deferred_state: Option<HardState>,
}

/// An entry that waits to become durable.
pub(crate) struct Unapplied {
    pub(crate) ticket: Ticket,
    pub(crate) index: u64,
    pub(crate) proposal: Proposal,
}

impl Solo {
    /// Its log ends at `last`; its first entries are written in `term`.
    pub(crate) fn new(last: u64, term: u64) -> Self {
        Self { term, last, unapplied: VecDeque::new(), in_flight: 0, deferred_state: None }
    }

    /// Writes a hard state behind the next entries.
    pub(crate) fn defer_hard_state(&mut self, state: HardState) {
        self.deferred_state = Some(state);
    }

    /// Bytes that wait to become durable.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// True if an entry waits to become durable.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.unapplied.is_empty()
    }

    /// Its term and the index of its last entry, once all of it is durable and applied.
    pub(crate) fn end(&self) -> Option<(u64, u64)> {
        (self.unapplied.is_empty() && self.deferred_state.is_none()).then_some((self.term, self.last))
    }

    /// Gives an entry to the log.
    pub(crate) fn append(&mut self, group: GroupId, proposal: Proposal, log: &mut dyn Log) -> Ticket {
        self.last += 1;
        let ticket = log.append(group, self.last, self.term, &proposal.bytes);
        self.in_flight += proposal.bytes.len();
        self.unapplied.push_back(Unapplied { ticket, index: self.last, proposal });
        ticket
    }

    /// What is to follow the entries of this pass.
    pub(crate) fn appended(&mut self, group: GroupId, log: &mut dyn Log) {
        if let Some(state) = self.deferred_state.take() {
            log.hard_state(group, &state);
        }
    }

    /// The next entry that became durable, with its place.
    pub(crate) fn next_durable(&mut self, ticket: Ticket) -> Option<(LogPosition, Proposal)> {
        let Unapplied { index, proposal, .. } = self.unapplied.pop_front_if(|u| u.ticket <= ticket)?;
        self.in_flight -= proposal.bytes.len();
        Some((LogPosition { index, term: self.term }, proposal))
    }

    /// Nothing becomes durable any more: what waits.
    pub(crate) fn give_up(&mut self) -> impl Iterator<Item = Proposal> {
        self.in_flight = 0;
        self.unapplied.drain(..).map(|u| u.proposal)
    }
}
