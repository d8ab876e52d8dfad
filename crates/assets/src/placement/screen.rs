//! Which servers may carry an asset at all.

use linnet_ids::PeerId;

use super::choose::Choice;
use super::fleet::{Candidate, FleetLimits};
use super::refusal::Refusal;
use super::tags::normal;

/// A server with this tag carries no assets that are not there already.
const NO_PLACEMENT_TAG: &str = "!jetstream";

/// The rules of one choice.
pub(super) struct Screen<'a> {
    choice: &'a Choice<'a>,
    limits: &'a FleetLimits,
    rules: Vec<TagRule<'a>>,
}

/// One tag of a placement.
struct TagRule<'a> {
    /// As in the request, without the `!`.
    text: &'a str,
    normal: String,
    is_excluding: bool,
}

impl<'a> Screen<'a> {
    pub(super) fn new(choice: &'a Choice<'a>, limits: &'a FleetLimits) -> Self {
        let tags = choice.demand.placement.map_or(&[][..], |p| &p.tags);
        Self { choice, limits, rules: tags.iter().map(|t| TagRule::new(t)).collect() }
    }

    /// The prefix of the tag in which replicas have to differ. There is none when the request names a tag with that
    /// prefix itself; nats-server compares that name as it was written.
    pub(super) fn unique_tag(&self) -> Option<&'a str> {
        self.limits.unique_tag().filter(|prefix| !self.rules.iter().any(|r| r.text.starts_with(prefix)))
    }

    pub(super) fn is_member(&self, peer: PeerId) -> bool {
        self.choice.members.contains(&peer)
    }

    /// Whether `candidate` may be chosen; if not, why goes to `refusal`. To be in another cluster, kept or avoided is
    /// no reason that clients are told.
    pub(super) fn admits(&self, candidate: &Candidate, refusal: &mut Refusal) -> bool {
        if candidate.cluster.is_empty() {
            refusal.has_other_reason = true;
            return false;
        }
        if candidate.cluster != self.choice.cluster {
            return false;
        }
        // What a member takes is in its figures already.
        let is_member = self.is_member(candidate.peer);
        if candidate.stats.is_none() && !is_member {
            refusal.is_offline = true;
            return false;
        }
        if self.choice.keep.contains(&candidate.peer) || self.choice.avoid.contains(&candidate.peer) {
            return false;
        }
        if candidate.tags.contains_normal(NO_PLACEMENT_TAG) {
            refusal.is_excluded = true;
            return false;
        }
        self.tags_match(candidate, refusal) && (is_member || self.has_room(candidate, refusal))
    }

    fn tags_match(&self, candidate: &Candidate, refusal: &mut Refusal) -> bool {
        let broken = self.rules.iter().find(|r| candidate.tags.contains_normal(&r.normal) == r.is_excluding);
        let Some(rule) = broken else { return true };
        let reasons = if rule.is_excluding { &mut refusal.tags_excluded } else { &mut refusal.tags_missing };
        reasons.insert(rule.text.to_owned());
        false
    }

    fn has_room(&self, candidate: &Candidate, refusal: &mut Refusal) -> bool {
        if self.choice.demand.max_bytes > candidate.free(self.choice.demand.storage) {
            refusal.lacks_storage = true;
            return false;
        }
        if self.choice.demand.replicas > 1 && self.limits.is_full(candidate) {
            refusal.has_other_reason = true;
            return false;
        }
        true
    }
}

impl<'a> TagRule<'a> {
    fn new(tag: &'a str) -> Self {
        let excluded = tag.strip_prefix('!');
        let text = excluded.unwrap_or(tag);
        Self { text, normal: normal(text), is_excluding: excluded.is_some() }
    }
}
