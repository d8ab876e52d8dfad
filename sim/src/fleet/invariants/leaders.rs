//! A term has one leader.

use linnet_ids::{GroupId, Term};

use crate::fleet::world::World;

impl World {
    /// A replica was elected.
    pub(in crate::fleet) fn check_leader(&mut self, at: usize, group: GroupId, term: Term) {
        let other = self.facts.leaders.insert((group, term), at);
        if let Some(other) = other.filter(|other| *other != at) {
            self.fail(format!("s{other} and s{at} lead {group} in term {term}"));
        }
    }
}
