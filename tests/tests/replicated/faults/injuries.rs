//! What is done to servers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::trio::Trio;
use super::a_while;
use crate::scrub::flip_byte;

#[derive(Clone, Copy, Debug)]
pub(super) enum Injury {
    Kill,
    /// Stops to run for one to ten seconds, and goes on.
    Pause,
    /// Stops in order.
    Terminate,
    /// Killed, and starts with an empty store.
    Wipe,
    /// Stops, and starts with a bit of the log that is another.
    FlipLog,
    KillTwo,
    KillAll,
    PauseTwo,
    /// One is killed while another one does not run.
    KillAndPause,
}

impl Injury {
    /// Does it and heals it: afterwards all servers run.
    pub(super) async fn inflict(self, trio: &mut Trio, streams: &[String], random: &mut fastrand::Rng) {
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
            Self::Wipe => {
                trio.kill(&victims[0]);
                std::fs::remove_dir_all(trio.store_of(&victims[0])).unwrap();
                tokio::time::sleep(a_while(random)).await;
                trio.restart(&victims[0]);
            }
            Self::FlipLog => damage(trio, &victims[0], "wal", random).await,
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

async fn damage(trio: &mut Trio, victim: &str, ending: &str, random: &mut fastrand::Rng) {
    // In order, so that there are blocks: what is only in the log has none.
    trio.terminate(victim);
    let mut files = Vec::new();
    collect(&trio.store_of(victim), ending, &mut files);
    files.sort();
    if let Some((file, at)) = place(&files, random) {
        eprintln!("bit of {} at {at}", file.display());
        flip_byte(&file, at);
    }
    tokio::time::sleep(a_while(random)).await;
    trio.restart(victim);
}

/// Where something is written.
fn place(files: &[PathBuf], random: &mut fastrand::Rng) -> Option<(PathBuf, u64)> {
    let mut written = Vec::new();
    for file in files {
        let bytes = std::fs::read(file).unwrap();
        let used = (0..bytes.len()).filter(|at| bytes[*at] != 0);
        let used: Vec<usize> = used.collect();
        if !used.is_empty() {
            written.push((file.clone(), used));
        }
    }
    let (file, used) = written.get(random.usize(..written.len().max(1)))?;
    Some((file.clone(), used[random.usize(..used.len())] as u64))
}

fn collect(dir: &Path, ending: &str, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            collect(&entry, ending, files);
        } else if entry.extension().is_some_and(|e| e == ending) {
            files.push(entry);
        }
    }
}
