//! Opening a server's store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use linnet_assets::Place;
use linnet_env::{Disk, FaultyDisk, ManualClock};
use linnet_ids::{Mono, PeerId, Wall};
use linnet_raft::{Membership, Replica};
use linnet_replication::{FLOOR_STEP, Myself, RestoreOutcome, Restoring, Site, begin_catalogue};
use linnet_wal::{Config, Opened, StoreIdentity, Wal};

use super::FleetMutation;
use super::server::{Life, META_KEY};
use crate::field::{Machine, STORE};

/// Wall clock when the simulated clock is at zero.
const START: i64 = 1_700_000_000_000_000_000;

/// What a server that founds the cluster begins as.
#[derive(Clone)]
pub(super) struct Founding {
    pub(super) me: Replica,
    pub(super) voters: Membership,
}

pub(super) fn wall(now: Mono) -> Wall {
    Wall(START.saturating_add(i64::try_from(now.0).unwrap_or(i64::MAX)))
}

pub(super) fn site(disk: &Arc<dyn Disk>) -> Site {
    Site { disk: disk.clone(), dir: STORE.into(), place: Place::default(), floor_step: FLOOR_STEP }
}

fn config() -> Config {
    Config {
        segment_bytes: 256 << 10,
        first_segment_bytes: 64 << 10,
        max_bytes: 4 << 20,
        reserve_segments: 1,
        ahead_after: 16 << 10,
    }
}

/// Opens the store of a machine; why it cannot be opened.
pub(super) fn open(
    machine: &Machine<Life>,
    boot: u64,
    now: Mono,
    mutation: Option<FleetMutation>,
) -> Result<Life, String> {
    let me = Myself { peer: machine.peer, seed: boot };
    let faulty: &FaultyDisk = &machine.disk;
    faulty.ignore_syncs(mutation == Some(FleetMutation::IgnoreSyncs));
    let disk: Arc<dyn Disk> = Arc::new(faulty.clone());
    let dir = Path::new(STORE);
    disk.create_dir_all(dir).map_err(|e| e.to_string())?;
    let opened = Wal::open(disk.clone(), dir, config(), StoreIdentity { store_id: machine.store_id });
    let Opened { wal, groups, report } = opened.map_err(|e| e.to_string())?;
    let mut early = Life::before_opening(me, boot, disk.clone(), now, mutation);
    let clock = ManualClock::at(wall(Mono(0)));
    clock.advance(Duration::from_nanos(now.0));
    let restoring = Restoring {
        disk: &disk,
        dir,
        wal: &wal,
        groups: &groups,
        place: &Place::default(),
        clock: &clock,
        floor_step: FLOOR_STEP,
        may_lack_groups: report.any_group_may_be_affected(),
    };
    let store = restoring.run_clustered(me, &mut early.queue).map_err(|e| e.to_string())?;
    let mut life = early.with(wal);
    let meta = match store.meta {
        Some(meta) => *meta,
        None => begin_meta(machine.founding.as_ref(), me, &disk, now, &mut life),
    };
    life.install(Some(META_KEY), meta, now);
    for stream in store.streams {
        match stream.outcome {
            RestoreOutcome::Open(group, found) => {
                if !found.lost.is_empty() || !found.ruined.is_empty() {
                    return Err(format!("lost at opening: {:?} {:?}", found.lost, found.ruined));
                }
                for path in &found.strays {
                    match disk.remove_file(path) {
                        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.to_string()),
                        _ => {}
                    }
                }
                life.install(None, *group, now);
            }
            RestoreOutcome::Ended(_) => life.finish_removal(stream.group),
            RestoreOutcome::Lost(_) => life.install_lost(&stream.assignment, stream.group, now),
        }
    }
    store.removing.into_iter().for_each(|group| life.finish_removal(group));
    life.follow_catalogue();
    Ok(life)
}

fn begin_meta(
    founding: Option<&Founding>,
    me: Myself,
    disk: &Arc<dyn Disk>,
    now: Mono,
    life: &mut Life,
) -> linnet_replication::StreamGroup {
    let replica = founding.map_or(Replica { peer: me.peer, incarnation: 0 }, |founding| founding.me);
    let voters = founding.map(|founding| founding.voters.clone());
    begin_catalogue(&site(disk), replica, me.seed, voters, now, &mut life.queue)
}

/// Id of a server by its number.
pub(super) fn peer(number: usize) -> PeerId {
    PeerId::of_name(&format!("s{number}"))
}
