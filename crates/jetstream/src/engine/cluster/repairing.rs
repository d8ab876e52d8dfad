//! Damaged messages of replicas come back from other replicas of their group.
//!
//! A group whose replica here met damage has a task until nothing is damaged any more. It asks the other members, the
//! leader first, for the records, and has the replica put them in their places. Readers wait for that; when every member
//! has said that it has no intact record either, or none did for a while, they are told that the message is damaged.
//!
//! | Answer to [`ASK_RECORDS`], little-endian | |
//! |---|---|
//! | up to where that replica has applied the log | 8 bytes |
//! | for each message: sequence, then length, or [`GONE`] or [`DAMAGED`] | 8 and 4 bytes |
//! | its record | |

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use linnet_ids::{GroupId, PeerId};
use linnet_replication::{Held, Lacking};
use linnet_store::{PinReadError, RepairDone};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::asks::ASK_RECORDS;
use super::news::Fresh;
use super::{Cluster, Engine};

/// Groups that are repaired at a time.
pub(super) const REPAIRS_MAX: usize = 4;
/// Bytes of records in an answer; one record may be alone.
const ANSWER_BYTES: usize = 8 << 20;
/// Messages that are looked up for one question; one that asks for more asks again.
const ASKED_MAX: usize = 1024;
/// How long another server may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long another member may take to lead.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);
/// How long a follower applies nothing while it is repaired.
const STILL: Duration = Duration::from_secs(4);
/// After this, readers are told that what was not repaired is damaged.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pauses between attempts.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// In place of a length: there is no such message.
const GONE: u32 = 0;
/// In place of a length: it is damaged there, too.
const DAMAGED: u32 = u32::MAX;

#[derive(Serialize, Deserialize)]
struct Question {
    group: String,
    sequences: Vec<u64>,
}

/// What a replica has of some messages.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    applied: u64,
    records: Vec<Bytes>,
    gone: Vec<u64>,
    damaged: Vec<u64>,
}

impl Answer {
    fn encode(held: &Held, sequences: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u64_le(held.applied);
        for seq in sequences.iter().copied().take(ASKED_MAX) {
            let found = held.messages.record(seq);
            let len = match &found {
                Ok(Some(record)) => u32::try_from(record.len()).unwrap_or(DAMAGED),
                Ok(None) => GONE,
                Err(PinReadError::Damaged(_)) => DAMAGED,
                Err(PinReadError::Io { .. }) => continue,
            };
            let record = found.ok().flatten().unwrap_or_default();
            if out.len() > 8 && out.len() + record.len() > ANSWER_BYTES {
                break;
            }
            out.put_u64_le(seq);
            out.put_u32_le(len);
            out.put_slice(&record);
        }
        out
    }

    /// `None` for what is no answer.
    fn decode(mut bytes: Bytes) -> Option<Self> {
        let mut answer = Self { applied: bytes.try_get_u64_le().ok()?, ..Self::default() };
        while !bytes.is_empty() {
            let seq = bytes.try_get_u64_le().ok()?;
            match bytes.try_get_u32_le().ok()? {
                GONE => answer.gone.push(seq),
                DAMAGED => answer.damaged.push(seq),
                len => {
                    let len = usize::try_from(len).ok().filter(|len| *len <= bytes.len())?;
                    answer.records.push(bytes.split_to(len));
                }
            }
        }
        Some(answer)
    }
}

/// Answers those that lack something.
pub(super) fn answer(engine: &Arc<Engine>, cluster: &Arc<Cluster>) {
    let engine = Arc::downgrade(engine);
    cluster.link.answer_with(ASK_RECORDS, move |_, body, answerer| {
        let Some(engine) = engine.upgrade() else { return };
        let Ok(question) = serde_json::from_slice::<Question>(&body) else { return };
        let Some(group) = GroupId::parse(&question.group) else { return };
        tokio::spawn(async move {
            let held = engine.act_and_tell(group, |replica, _, _| replica.held()).await.flatten();
            let Some(held) = held else { return };
            let encoded = move || Answer::encode(&held, &question.sequences);
            if let Ok(bytes) = tokio::task::spawn_blocking(encoded).await {
                answerer.answer(&bytes);
            }
        });
    });
}

/// Begins to repair groups that met damage since the last call.
pub(super) fn begin(engine: &Arc<Engine>, cluster: &Arc<Cluster>, fresh: &Fresh) {
    for group in &fresh.damaged {
        if let Some(has_met_more) = cluster.repairing.lock().get_mut(group) {
            *has_met_more = true;
            continue;
        }
        cluster.repairing.lock().insert(*group, false);
        let repair = Repair { engine: engine.clone(), cluster: cluster.clone(), group: *group };
        let (cluster, group) = (cluster.clone(), *group);
        tokio::spawn(async move {
            loop {
                repair.run().await;
                let mut repairing = cluster.repairing.lock();
                if repairing.insert(group, false) != Some(true) {
                    repairing.remove(&group);
                    return;
                }
            }
        });
    }
}

/// What came of asking all members once.
#[derive(Default)]
struct Round {
    repaired: usize,
    /// How many members said of a message that they do not have it.
    refused: HashMap<u64, usize>,
}

struct Repair {
    engine: Arc<Engine>,
    cluster: Arc<Cluster>,
    group: GroupId,
}

impl Repair {
    async fn run(&self) {
        let mut arrivals = self.cluster.arrivals.subscribe();
        let mut hopeful_since = Instant::now();
        let mut pause = PAUSE;
        let mut is_told = false;
        while let Some(lacking) = self.lacking().await {
            if !is_told {
                tracing::warn!(
                    "{}: {} messages are damaged here; other replicas are asked for them",
                    self.name(),
                    lacking.damage.len()
                );
                is_told = true;
            }
            let Ok(permit) = self.cluster.repairs.acquire().await else { return };
            let round = self.ask_everybody(&lacking).await;
            drop(permit);
            if round.repaired > 0 {
                tracing::info!("{}: {} damaged messages are repaired", self.name(), round.repaired);
                (pause, hopeful_since) = (PAUSE, Instant::now());
                continue;
            }
            self.give_up_on_some(&lacking, &round, hopeful_since.elapsed() >= PATIENCE).await;
            // Whoever comes may have what those that are there lack.
            pause = match tokio::time::timeout(pause, arrivals.changed()).await {
                Ok(_) => PAUSE,
                Err(_) => (pause * 2).min(PAUSE_MAX),
            };
            if self.engine.stopped.load(std::sync::atomic::Ordering::Relaxed) {
                return;
            }
        }
    }

    fn name(&self) -> String {
        match self.cluster.view.of_group(self.group) {
            Some(stream) => format!("Stream '{} > {}'", stream.account, stream.config.name),
            None => format!("Group {}", self.group),
        }
    }

    async fn lacking(&self) -> Option<Lacking> {
        self.engine.act_and_tell(self.group, |replica, _, _| replica.lacking()).await.flatten()
    }

    /// The other members, the leader first.
    fn others(&self, lacking: &Lacking) -> Vec<PeerId> {
        let me = self.cluster.me();
        let mut others: Vec<PeerId> = lacking.members.iter().copied().filter(|peer| *peer != me).collect();
        others.sort_by_key(|peer| Some(*peer) != lacking.leader);
        others
    }

    async fn ask_everybody(&self, lacking: &Lacking) -> Round {
        let mut round = Round::default();
        let mut left: Vec<u64> = lacking.damage.iter().map(|damage| damage.seq).collect();
        for peer in self.others(lacking) {
            if left.is_empty() {
                break;
            }
            // What is lost can come back only while nothing is applied.
            let still = lacking.damage.iter().any(|damage| !damage.is_alive && left.contains(&damage.seq));
            if still {
                let _ = self.engine.act_and_tell(self.group, |r, now, _| r.stand_still(now, STILL)).await;
            }
            if let Some(answer) = self.ask(peer, &left).await {
                for seq in answer.gone.iter().chain(&answer.damaged) {
                    *round.refused.entry(*seq).or_default() += 1;
                }
                let has_some = !answer.records.is_empty();
                let repaired = self.take(answer).await;
                left.retain(|seq| !repaired.contains(seq));
                round.repaired += repaired.len();
                if has_some && !left.is_empty() && lacking.leader == Some(self.cluster.me()) {
                    self.hand_over(peer).await;
                }
            }
            if still {
                let _ = self.engine.act_and_tell(self.group, |replica, _, _| replica.go_on()).await;
            }
        }
        round
    }

    /// What a leader lost does not come back while it leads: one that has it leads instead.
    async fn hand_over(&self, peer: PeerId) {
        let handed = self.engine.act_and_tell(self.group, move |replica, now, log| {
            replica.transfer(now, peer, HAND_OVER_WITHIN, log)
        });
        match handed.await {
            Some(Ok(())) => {
                tracing::info!("{}: peer {peer} is to lead, which has what is lost here", self.name())
            }
            Some(Err(e)) => tracing::debug!("{}: handing over to peer {peer} waits: {e}", self.name()),
            None => {}
        }
    }

    async fn ask(&self, peer: PeerId, sequences: &[u64]) -> Option<Answer> {
        let question = Question { group: self.group.to_string(), sequences: sequences.to_vec() };
        let body = serde_json::to_vec(&question).ok()?;
        let answer = self.cluster.link.ask(peer, ASK_RECORDS, &body, ANSWER_WITHIN).await.ok()?;
        Answer::decode(answer)
    }

    /// Has the replica take what another one has; which messages are whole again.
    async fn take(&self, answer: Answer) -> Vec<u64> {
        let Answer { applied, records, gone, .. } = answer;
        let begun = self.engine.act_and_tell(self.group, move |replica, _, _| {
            replica.forget_removed(&gone, applied);
            replica.stream_mut().store_mut().begin_repair(records)
        });
        let mut repaired = Vec::new();
        for job in begun.await.unwrap_or_default() {
            let Ok(done) = tokio::task::spawn_blocking(move || job.run()).await else { continue };
            repaired.extend(self.finish(done, applied).await);
        }
        repaired
    }

    async fn finish(&self, done: RepairDone, applied: u64) -> Vec<u64> {
        let finished =
            self.engine.act_and_tell(self.group, move |replica, _, _| replica.finish_repair(done, applied));
        match finished.await {
            Some(Ok(Ok(repaired))) => repaired,
            Some(Ok(Err(e))) => {
                tracing::warn!("{}: a damaged block cannot be read: {e}", self.name());
                Vec::new()
            }
            // A checkpoint is under way; the next attempt comes later.
            Some(Err(_)) | None => Vec::new(),
        }
    }

    /// Readers hear of what every member lacks, or, with `all`, of everything.
    async fn give_up_on_some(&self, lacking: &Lacking, round: &Round, all: bool) {
        let others = self.others(lacking).len();
        let is_hopeless =
            |seq: &u64| all || round.refused.get(seq).is_some_and(|n| *n >= others) || others == 0;
        let hopeless: Vec<u64> = lacking.damage.iter().map(|damage| damage.seq).filter(is_hopeless).collect();
        if !hopeless.is_empty() {
            self.engine.act_on(
                self.group,
                Box::new(move |replica, _, _| replica.stream_mut().give_up_on(&hopeless)),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_answer_is_refused() {
        let whole = [7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, b'a', b'b'];
        let answer = Answer::decode(Bytes::copy_from_slice(&whole)).expect("it is one");
        assert_eq!((answer.applied, answer.records.len()), (7, 1));
        for cut in 9..whole.len() {
            assert_eq!(Answer::decode(Bytes::copy_from_slice(&whole[..cut])), None, "cut at {cut}");
        }
        let mut longer = whole;
        longer[16] = 3;
        assert_eq!(Answer::decode(Bytes::copy_from_slice(&longer)), None);
    }
}
