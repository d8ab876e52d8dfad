//! The best servers among those that may carry an asset.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use linnet_ids::PeerId;

use super::fleet::Candidate;
use super::group::{Demand, Planner, majority};
use super::refusal::Refusal;
use super::screen::Screen;

/// What to choose members for.
pub(super) struct Choice<'a> {
    pub(super) cluster: &'a str,
    pub(super) demand: &'a Demand<'a>,
    /// Members that stay, whatever the rules say of them.
    pub(super) keep: &'a [PeerId],
    /// Members that stay if they are as good as others.
    pub(super) members: &'a [PeerId],
    /// Servers that are not chosen.
    pub(super) avoid: &'a [PeerId],
}

/// A server that may be chosen.
struct Spot<'a> {
    candidate: &'a Candidate,
    is_member: bool,
    free: u64,
    /// Decides between equals.
    lot: u64,
}

/// The best servers, at most as many as were asked for, in order of preference.
pub(super) struct Chosen<'a> {
    pub(super) best: Vec<&'a Candidate>,
    /// What spoke against the others.
    pub(super) refusal: Refusal,
}

impl<'a> Planner<'a> {
    /// The members to keep and as many others as are missing, a majority of all online.
    pub(super) fn choose(&self, choice: &Choice<'_>) -> Result<Vec<PeerId>, Refusal> {
        let replicas = choice.demand.replicas;
        let wanted = replicas.saturating_sub(choice.keep.len());
        let Chosen { best, mut refusal } = self.best(choice, wanted);
        if best.len() < wanted {
            refusal.is_without_jetstream = self.fleet.is_empty();
            return Err(refusal);
        }
        let online = self.online(choice.keep).len() + best.iter().filter(|c| c.is_online).count();
        if online < majority(replicas) {
            refusal.is_offline = true;
            return Err(refusal);
        }
        Ok(choice.keep.iter().copied().chain(best.iter().map(|c| c.peer)).collect())
    }

    /// The best servers beside those to keep. Where tags have to be unique the best of each value is taken: as a
    /// server has one such tag, no other way to pick gives more servers, or more of them online.
    pub(super) fn best(&self, choice: &Choice<'_>, wanted: usize) -> Chosen<'a> {
        let mut refusal = Refusal::default();
        if choice.cluster.is_empty() {
            refusal.has_other_reason = true;
            return Chosen { best: Vec::new(), refusal };
        }
        let screen = Screen::new(choice, self.fleet.limits());
        let admitted: Vec<&'a Candidate> =
            self.fleet.iter().filter(|c| screen.admits(c, &mut refusal)).collect();
        let mut spots: Vec<Spot<'a>> = admitted
            .iter()
            .zip(self.lots(admitted.len()))
            .map(|(candidate, lot)| Spot {
                candidate,
                is_member: screen.is_member(candidate.peer),
                free: candidate.free(choice.demand.storage),
                lot,
            })
            .collect();
        let is_replicated = choice.demand.replicas > 1;
        spots.sort_unstable_by(|a, b| order(a, b, is_replicated));
        let ranked = spots.iter().map(|s| s.candidate);
        let mut best: Vec<&'a Candidate> = match screen.unique_tag() {
            None => ranked.collect(),
            Some(prefix) => self.distinct(prefix, choice.keep, ranked, &mut refusal),
        };
        best.truncate(wanted);
        Chosen { best, refusal }
    }

    /// The first of `ranked` of each value of the tag that starts with `prefix`. Values of members that stay are
    /// taken, though they need not have one.
    fn distinct(
        &self,
        prefix: &str,
        keep: &[PeerId],
        ranked: impl Iterator<Item = &'a Candidate>,
        refusal: &mut Refusal,
    ) -> Vec<&'a Candidate> {
        let mut taken: BTreeSet<&str> =
            keep.iter().filter_map(|p| self.fleet.get(*p)?.tags.first_with_prefix(prefix)).collect();
        let mut best = Vec::new();
        for candidate in ranked {
            if candidate.tags.first_with_prefix(prefix).is_some_and(|value| taken.insert(value)) {
                best.push(candidate);
            } else {
                refusal.is_not_unique = true;
            }
        }
        best
    }
}

/// Online servers come first, then members, then what has least to carry: replicated streams for a replicated one,
/// and streams in proportion to free bytes. Free bytes alone would send every small stream to the same server, as
/// they hardly change anything there and are reported late.
fn order(a: &Spot<'_>, b: &Spot<'_>, is_replicated: bool) -> Ordering {
    let (left, right) = (a.candidate, b.candidate);
    let replicated = if is_replicated { left.ha_streams.cmp(&right.ha_streams) } else { Ordering::Equal };
    right
        .is_online
        .cmp(&left.is_online)
        .then(b.is_member.cmp(&a.is_member))
        .then(replicated)
        .then_with(|| load(left, b.free).cmp(&load(right, a.free)))
        .then(left.streams.cmp(&right.streams))
        .then(a.lot.cmp(&b.lot))
}

/// Compares `streams of the one / its free bytes` with the same of another, without dividing: the stream to be
/// placed counts too.
fn load(candidate: &Candidate, free_of_other: u64) -> u128 {
    (u128::from(candidate.streams) + 1) * u128::from(free_of_other)
}
