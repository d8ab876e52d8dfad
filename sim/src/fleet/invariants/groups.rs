//! No id of a group is used again.

use linnet_ids::GroupId;
use linnet_replication::Assignment;

use crate::fleet::world::World;

impl World {
    /// A stream was put on servers as this group.
    pub(in crate::fleet) fn check_group_is_new(&mut self, group: GroupId, assignment: &Assignment) {
        if self.facts.streams.contains_key(&group) {
            self.fail(format!("group {group} is used again for {}", assignment.config.name));
        }
    }
}
