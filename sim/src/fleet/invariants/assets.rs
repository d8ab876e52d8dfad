//! What a server has is what the catalogue's log says, once everything is settled.

use std::collections::BTreeMap;

use linnet_ids::GroupId;
use linnet_replication::cluster::Known;
use linnet_replication::group_dir;

use crate::field::STORE;
use crate::fleet::server::{Life, META_KEY};
use crate::fleet::world::World;

/// Group and name of each stream.
type Streams = BTreeMap<GroupId, String>;

fn assigned(life: &Life, known: &Known) -> Streams {
    let all = known.all().into_iter().filter(|a| !a.ended && a.replica(life.me()).is_some());
    all.filter_map(|a| Some((a.group_id()?, a.config.name.clone()))).collect()
}

impl World {
    pub(super) fn check_assets(&mut self) {
        for at in self.staying() {
            let disk = self.field.machines[at].disk.clone();
            let Some(life) = self.field.life(at) else { continue };
            let mut replayed = Known::default();
            if let Some(meta) = life.slots.get_mut(&META_KEY) {
                replayed.follow(meta.group.stream_mut());
            }
            let expected = assigned(life, &replayed);
            let known = assigned(life, &life.known);
            let streams = life.slots.iter().filter(|(key, _)| **key != META_KEY);
            let found: Streams = streams.map(|(_, slot)| (slot.group.group(), slot.stream.clone())).collect();
            // Of one whose only disk is gone nobody can say any more who still had something of it.
            let is_lost = |group: &GroupId| self.facts.streams.get(group).is_some_and(|f| f.is_lost);
            let [expected, known, left] = [expected, known, found.clone()].map(|mut streams| {
                streams.retain(|group, _| !is_lost(group));
                streams
            });
            let mut problems = Vec::new();
            if expected != known {
                problems.push(format!("takes the catalogue for {known:?}, its log says {expected:?}"));
            }
            // Nothing is removed because the catalogue does not know it.
            let left: Streams = match self.marred.contains(&at) {
                true => left.into_iter().filter(|(group, _)| expected.contains_key(group)).collect(),
                false => left,
            };
            if expected != left {
                problems.push(format!("has {left:?}, the catalogue says {expected:?}"));
            }
            let ended: Vec<String> =
                replayed.all().iter().filter(|a| a.ended).map(|a| a.config.name.clone()).collect();
            if !ended.is_empty() {
                problems.push(format!("still has entries of {ended:?}, which have ended"));
            }
            problems.extend(orphans(&disk, &found).filter(|_| !self.marred.contains(&at)));
            for problem in problems {
                self.fail(format!("s{at} {problem}"));
            }
        }
    }
}

/// Files of groups that are not there.
fn orphans(disk: &linnet_env::FaultyDisk, found: &Streams) -> Option<String> {
    let store = std::path::Path::new(STORE);
    let is_known = |path: &std::path::Path| {
        path.starts_with(group_dir(store, GroupId::META))
            || found.keys().any(|group| {
                path.starts_with(group_dir(store, *group))
                    || path == store.join("assigned").join(group.to_string())
            })
    };
    let mut files = disk.files_below(&store.join("groups"));
    files.extend(disk.files_below(&store.join("assigned")));
    // What a crash left of a write is overwritten by the next one of its name, and read by nobody.
    let is_whole = |path: &std::path::PathBuf| path.extension().is_none_or(|end| end != "new");
    let orphan = files.into_iter().map(|(path, _)| path).find(|path| is_whole(path) && !is_known(path));
    orphan.map(|path| format!("has {} of a group that it has not", path.display()))
}
