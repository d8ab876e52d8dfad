//! What is done to servers.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::trio::Trio;
use super::a_while;
use super::network::{Disturbance, Network};
use super::rot::{How, Part, damage};

/// Calls of the kernel with which files are made durable, and written.
const SYNCS: &str = "fsync,fdatasync";
const WRITES: &str = "pwrite64,pwritev,pwritev2";
/// Those that read files and nothing else.
const READS: &str = "pread64,preadv,preadv2";
/// What becomes of calls: each takes 200 ms longer, or fails.
const SLOW: &str = "delay_enter=200000";
const FAILS: &str = "error=EIO";

#[derive(Clone, Copy, Debug)]
pub(super) enum Injury {
    Kill,
    /// Stops to run for one to ten seconds, and goes on.
    Pause,
    /// Stops in order.
    Terminate,
    /// All stop in order, or are killed, one after the other, without regard to whether the one before is ready again.
    RollTerminating,
    RollKilling,
    /// Killed, and starts with an empty store.
    Wipe,
    /// Stops or is killed, and starts with a damaged file.
    Rot,
    /// The same with files of this kind, damaged in this way.
    RotOf(Part, How),
    KillTwo,
    KillAll,
    PauseTwo,
    /// One is killed while another one does not run.
    KillAndPause,
    /// Disks lose what was not synced: of one server, of two, of all.
    Power(usize),
    /// One is killed, and what it misses is on two; of these the power of one fails and the other one does not run while
    /// the first two go on.
    PowerAndPause,
    /// The file system is read-only after an error, until the server is started again.
    ReadOnly,
    /// Each sync takes long for a while.
    SlowSyncs,
    SlowSyncsEverywhere,
    /// Each sync fails for a while.
    FailingSyncs,
    /// So does each write.
    FailingWrites,
    /// So does each read of a file.
    FailingReads,
    /// What the time of day is to one server jumps, and jumps back later; or what it is to all, differently.
    ClockAhead,
    ClockBehind,
    ClocksApart,
    Network(Disturbance),
}

impl Injury {
    /// Does it and heals it: afterwards all servers run.
    pub(super) async fn inflict(
        self,
        trio: &mut Trio,
        network: Option<&Network>,
        streams: &[String],
        random: &mut fastrand::Rng,
    ) {
        let mut victims = trio.names();
        random.shuffle(&mut victims);
        let first = victim(trio, streams, random).await;
        victims.retain(|name| *name != first);
        victims.insert(0, first);
        eprintln!("{self:?} {victims:?}");
        match self {
            Self::Kill => down(trio, &victims[..1], random).await,
            Self::KillTwo => down(trio, &victims[..2], random).await,
            Self::KillAll => down(trio, &victims, random).await,
            Self::Pause => pause(trio, &victims[..1], random).await,
            Self::PauseTwo => pause(trio, &victims[..2], random).await,
            Self::Terminate => {
                trio.terminate(&victims[0]);
                tokio::time::sleep(a_while(random)).await;
                trio.restart(&victims[0]);
            }
            Self::RollTerminating | Self::RollKilling => {
                for victim in &victims {
                    match self {
                        Self::RollKilling => trio.kill(victim),
                        _ => trio.terminate(victim),
                    }
                    trio.restart(victim);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            Self::Wipe => {
                trio.kill(&victims[0]);
                std::fs::remove_dir_all(trio.store_of(&victims[0])).unwrap();
                tokio::time::sleep(a_while(random)).await;
                trio.restart(&victims[0]);
            }
            Self::Rot => {
                let part = Part::any(random);
                rot(trio, &victims[0], part, How::any(part, random), random).await;
            }
            Self::RotOf(part, how) => rot(trio, &victims[0], part, how, random).await,
            Self::Power(count) => {
                trio.cut_power(&victims[..count]);
                back(trio, &victims[..count], random).await;
            }
            Self::PowerAndPause => power_and_pause(trio, &victims, random).await,
            Self::ReadOnly => {
                trio.break_file_system(&victims[0]);
                tokio::time::sleep(a_while(random)).await;
                trio.kill(&victims[0]);
                trio.restart(&victims[0]);
            }
            Self::SlowSyncs => tampered(trio, &victims[..1], SYNCS, SLOW, random).await,
            Self::SlowSyncsEverywhere => tampered(trio, &victims, SYNCS, SLOW, random).await,
            Self::FailingSyncs => tampered(trio, &victims[..1], SYNCS, FAILS, random).await,
            Self::FailingWrites => tampered(trio, &victims[..1], WRITES, FAILS, random).await,
            Self::FailingReads => tampered(trio, &victims[..1], READS, FAILS, random).await,
            Self::ClockAhead => clocks(trio, &victims[..1], 1..=90, random).await,
            Self::ClockBehind => clocks(trio, &victims[..1], -90..=-1, random).await,
            Self::ClocksApart => clocks(trio, &victims, -45..=45, random).await,
            Self::Network(disturbance) => {
                disturbance.inflict(trio, network.unwrap(), &victims, random).await;
            }
            Self::KillAndPause => {
                trio.pause(&victims[0]);
                tokio::time::sleep(a_while(random)).await;
                trio.kill(&victims[1]);
                tokio::time::sleep(a_while(random)).await;
                trio.resume(&victims[0]);
                tokio::time::sleep(a_while(random)).await;
                trio.restart(&victims[1]);
            }
        }
    }
}

/// The leader of a stream, that of the meta group, or anybody.
async fn victim(trio: &mut Trio, streams: &[String], random: &mut fastrand::Rng) -> String {
    match random.u8(..4) {
        0 => trio.meta_leader().await,
        1 => trio.names()[random.usize(..3)].clone(),
        _ => trio.leader(&streams[random.usize(..streams.len())]).await,
    }
}

async fn down(trio: &mut Trio, victims: &[String], random: &mut fastrand::Rng) {
    for victim in victims {
        trio.kill(victim);
    }
    back(trio, victims, random).await;
}

async fn back(trio: &mut Trio, victims: &[String], random: &mut fastrand::Rng) {
    // With servers that miss one another, all have to come before any is ready.
    tokio::time::sleep(a_while(random)).await;
    for victim in victims {
        trio.restart(victim);
    }
}

async fn pause(trio: &mut Trio, victims: &[String], random: &mut fastrand::Rng) {
    for victim in victims {
        trio.pause(victim);
    }
    tokio::time::sleep(Duration::from_millis(random.u64(1000..10_000))).await;
    for victim in victims {
        trio.resume(victim);
    }
}

async fn tampered(trio: &Trio, victims: &[String], calls: &str, how: &str, random: &mut fastrand::Rng) {
    let tampering: Vec<_> = victims.iter().map(|victim| trio.tamper(victim, calls, how)).collect();
    tokio::time::sleep(Duration::from_millis(random.u64(1000..5000))).await;
    drop(tampering);
}

async fn clocks(trio: &Trio, victims: &[String], seconds: RangeInclusive<i64>, random: &mut fastrand::Rng) {
    for victim in victims {
        trio.set_clock(victim, random.i64(seconds.clone()));
    }
    tokio::time::sleep(Duration::from_millis(random.u64(1500..6000))).await;
    for victim in victims {
        trio.set_clock(victim, 0);
    }
}

async fn rot(trio: &mut Trio, victim: &str, part: Part, how: How, random: &mut fastrand::Rng) {
    // In order more often than not, so that there are blocks: what is only in the log has none.
    if random.u8(..3) > 0 {
        trio.terminate(victim);
    } else {
        trio.kill(victim);
    }
    damage(trio, victim, part, how, random);
    tokio::time::sleep(a_while(random)).await;
    trio.restart(victim);
}

/// Steps of a run of Jepsen's in which two of three replicas forgot what they had acknowledged.
async fn power_and_pause(trio: &mut Trio, victims: &[String], random: &mut fastrand::Rng) {
    let [leader, behind, dark] = victims else { unreachable!("three servers") };
    trio.kill(behind);
    tokio::time::sleep(a_while(random)).await;
    trio.cut_power(std::slice::from_ref(dark));
    trio.pause(leader);
    back(trio, &[behind.clone(), dark.clone()], random).await;
    tokio::time::sleep(a_while(random)).await;
    trio.resume(leader);
}
