//! States of groups on their way between servers, for members that entries alone do not bring up to date.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use linnet_env::{OsRng, Rng};
use linnet_ids::{GroupId, PeerId};
use linnet_raft::Snapshot;
use linnet_replication::transfer::{ChunkRequest, Sink, Source, WINDOW};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::asks::{ASK_CHUNK, ASK_TAKEN};
use super::news::Fresh;
use super::{Cluster, Engine};
use crate::cluster::AskError;
use crate::pump::{Act, Control};

/// How long a chunk may take.
const CHUNK_WITHIN: Duration = Duration::from_secs(5);
/// So many chunks in a row may fail before a transfer is given up; the leader offers another one then.
const FAILURES_MAX: u32 = 5;
/// Pause after a chunk that did not come.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Answers those that ask for chunks.
pub(super) fn answer(engine: &Arc<Engine>, cluster: &Arc<Cluster>) {
    let (engine, weak) = (Arc::downgrade(engine), Arc::downgrade(cluster));
    cluster.link.answer_with(ASK_CHUNK, move |from, body, answerer| {
        let (Some(engine), Some(cluster)) = (engine.upgrade(), weak.upgrade()) else { return };
        let Some(request) = ChunkRequest::from_bytes(&body) else { return };
        let now = engine.broker.clock().mono();
        let mut sources = cluster.sources.lock();
        let group = sources.group_of(from, request.transfer);
        let found = group.zip(sources.find(from, request.transfer, now));
        drop(sources);
        let Some((group, source)) = found else { return };
        tokio::task::spawn_blocking(move || match source.chunk(request) {
            Ok(chunk) => {
                if !chunk.damaged.is_empty() {
                    engine.note_damage(group, chunk.damaged);
                }
                answerer.answer(&chunk.bytes);
            }
            Err(e) => tracing::warn!("A chunk of a state for peer {from}: {e}"),
        });
    });
}

/// Lets go of what was taken to its end.
pub(super) fn release(cluster: &Arc<Cluster>) {
    let weak = Arc::downgrade(cluster);
    cluster.link.answer_with(ASK_TAKEN, move |from, body, answerer| {
        let (Some(cluster), Ok(transfer)) = (weak.upgrade(), <[u8; 8]>::try_from(&body[..])) else { return };
        let mut sources = cluster.sources.lock();
        if let Some(group) = sources.group_of(from, u64::from_le_bytes(transfer)) {
            sources.release(group, from);
        }
        answerer.answer(b"");
    });
}

/// Begins what replicas asked for since the last call.
pub(super) fn serve(engine: &Arc<Engine>, cluster: &Arc<Cluster>, fresh: &Fresh) {
    let now = engine.broker.clock().mono();
    cluster.sources.lock().expire(now);
    for (group, peer) in fresh.wanted.keys() {
        engine.act_on(*group, offer(cluster.clone(), *group, *peer));
    }
    for (group, snapshot) in &fresh.offered {
        if cluster.taking.lock().insert(*group) {
            let (engine, cluster) = (engine.clone(), cluster.clone());
            let (group, snapshot) = (*group, snapshot.clone());
            tokio::spawn(async move {
                if let Err(reason) = take(&engine, &cluster, group, snapshot).await {
                    tracing::warn!("Group {group}: the state of its leader: {reason}");
                }
                cluster.taking.lock().remove(&group);
            });
        }
    }
}

/// Pins the state of a group and offers it to a member.
fn offer(cluster: Arc<Cluster>, group: GroupId, peer: PeerId) -> Act {
    Box::new(move |replica, now, log| {
        let mut sources = cluster.sources.lock();
        let snapshot = sources.has_room(group, peer).then(|| {
            let source = Source::new(replica.stream_mut(), OsRng.next_u64());
            let snapshot = replica.snapshot_of_applied(source.description())?;
            sources.hold(group, peer, Arc::new(source), now).ok()?;
            Some(snapshot)
        });
        replica.send_snapshot(now, peer, snapshot.flatten(), log);
    })
}

/// Takes the state that a leader offers and has the replica go on with it.
async fn take(
    engine: &Arc<Engine>,
    cluster: &Arc<Cluster>,
    group: GroupId,
    snapshot: Snapshot,
) -> Result<(), String> {
    let description = snapshot.body.clone();
    let begun = engine.act_and_tell(group, move |replica, _, _| {
        let leader = replica.status().and_then(|status| status.leader);
        Sink::begin(replica.stream_mut().store_mut(), &description).map(|sink| (sink, leader))
    });
    let (sink, leader) = begun.await.ok_or("the group is not here")?.map_err(|e| e.to_string())?;
    let leader = leader.ok_or("its leader is not known")?;
    let (disk, dir) = (engine.disk.clone(), linnet_replication::group_dir(&engine.dir, group));
    blocking(move || disk.create_dir_all(&dir)).await?.map_err(|e| e.to_string())?;
    let sink = fill(cluster, leader, sink).await?;
    let transfer = sink.transfer();
    let wall = engine.broker.clock().wall();
    let received = blocking(move || sink.finish(wall)).await?.map_err(|e| e.to_string())?;
    let installed = engine.act_and_tell(group, move |replica, now, log| {
        let at = linnet_assets::Moment { now, wall, live: true };
        let place = replica.stream().place().clone();
        replica.take_over(at, &snapshot, Box::new(received), place, log)
    });
    // What is not wanted any more is removed.
    if let Some(Err(unwanted)) = installed.await {
        blocking(move || unwanted.discard()).await?;
    }
    // Until it hears this, the leader sends no other state.
    let _ = cluster.link.ask(leader, ASK_TAKEN, &transfer.to_le_bytes(), CHUNK_WITHIN).await;
    Ok(())
}

async fn fill(cluster: &Arc<Cluster>, leader: PeerId, mut sink: Sink) -> Result<Sink, String> {
    let mut asking: JoinSet<Result<Bytes, AskError>> = JoinSet::new();
    let mut failures = 0;
    while !sink.is_complete() {
        for request in sink.next_requests(WINDOW) {
            let cluster = cluster.clone();
            asking.spawn(async move {
                cluster.link.ask(leader, ASK_CHUNK, &request.to_bytes(), CHUNK_WITHIN).await
            });
        }
        let answer = match asking.join_next().await {
            Some(Ok(answer)) => answer,
            Some(Err(e)) => return give_up(sink, e.to_string()).await,
            None => return give_up(sink, "nothing is left to ask for".to_owned()).await,
        };
        match answer {
            Ok(chunk) => {
                let (taken, back) = blocking(move || (sink.take(&chunk), sink)).await?;
                sink = back;
                match taken {
                    Ok(_) => failures = 0,
                    Err(e) if e.is_final() => return give_up(sink, e.to_string()).await,
                    Err(_) => failures += 1,
                }
            }
            Err(AskError::NoAnswer) => {
                return give_up(sink, "its leader does not send it any more".to_owned()).await;
            }
            Err(_) => failures += 1,
        }
        if failures >= FAILURES_MAX {
            return give_up(sink, "its leader cannot be heard".to_owned()).await;
        }
        if failures > 0 {
            tokio::time::sleep(ASK_AGAIN).await;
            sink.ask_again();
        }
    }
    Ok(sink)
}

async fn give_up(sink: Sink, reason: String) -> Result<Sink, String> {
    blocking(move || sink.discard()).await?;
    Err(reason)
}

async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R, String> {
    tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())
}

impl Engine {
    /// Messages of a group turned out to be damaged.
    fn note_damage(&self, group: GroupId, sequences: Vec<u64>) {
        tracing::error!("Group {group}: {} messages are damaged", sequences.len());
        self.act_on(
            group,
            Box::new(move |replica, _, _| {
                let store = replica.stream_mut().store_mut();
                for seq in sequences {
                    store.mark_damaged(seq);
                }
            }),
        );
    }

    /// Lets a group act on its pump's thread.
    pub(super) fn act_on(&self, group: GroupId, act: Act) {
        if let Some(pump) = self.log.pump_of(group) {
            pump.control(Control::Act { group, act });
        }
    }

    /// The same, and tells what came of it; `None` if the group is not here or has stopped.
    pub(crate) async fn act_and_tell<R: Send + 'static>(
        &self,
        group: GroupId,
        act: impl FnOnce(
            &mut linnet_replication::StreamGroup,
            linnet_ids::Mono,
            &mut crate::log_writer::LogHandle,
        ) -> R
        + Send
        + 'static,
    ) -> Option<R> {
        let (tell, told) = oneshot::channel();
        self.act_on(
            group,
            Box::new(move |replica, now, log| {
                let _ = tell.send(act(replica, now, log));
            }),
        );
        told.await.ok()
    }
}
