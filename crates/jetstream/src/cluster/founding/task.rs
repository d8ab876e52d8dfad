//! The task around the ballot.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use linnet_ids::{Mono, PeerId};
use linnet_raft::{Incarnation, Replica};
use linnet_replication::raft::{Ballot, BallotEffect, BallotMessage, BallotRecord, ClusterId, Founding};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::file::{Durable, RecordFile};
use super::{Foundation, Missing};
use crate::cluster::expected::Expected;
use crate::cluster::link::Link;
use crate::cluster::subjects::Kind;

/// How often it is looked who is there while nothing else happens.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Pause after a record could not be written.
const RETRY: Duration = Duration::from_secs(1);
/// How long somebody must be missing to be worth a line: servers that start together are a moment apart.
const SETTLE: Duration = Duration::from_millis(500);
/// How often a line about the same ones is repeated.
const REPEAT: Duration = Duration::from_secs(10);

/// What the server tells its part in the ballot.
pub(super) enum Command {
    Begun(oneshot::Sender<bool>),
    BelongsTo(Founding, oneshot::Sender<bool>),
    Leave(ClusterId, oneshot::Sender<bool>),
}

pub(super) struct Task {
    link: Weak<Link>,
    domain: String,
    file: RecordFile,
    seed: u64,
    /// What is on the disk, or may be there without anybody having been told.
    durable: Option<Durable>,
    /// `None`: the last record could not be written, and nothing is said until it is tried again.
    ballot: Option<Ballot>,
    retry_at: Mono,
    strangers: BTreeMap<PeerId, String>,
    missing_since: BTreeMap<PeerId, Mono>,
    missing: Arc<Mutex<Vec<Missing>>>,
    log: MissingLog,
    state: watch::Sender<Foundation>,
    life: watch::Sender<Incarnation>,
}

/// What the log was told of those who are missing.
#[derive(Default)]
struct MissingLog {
    seen: Vec<PeerId>,
    seen_since: Mono,
    told: Vec<PeerId>,
    told_at: Mono,
}

impl MissingLog {
    /// True if a line is due.
    fn is_due(&mut self, now: Mono, missing: &[PeerId]) -> bool {
        if self.seen != missing {
            self.seen = missing.to_vec();
            self.seen_since = now;
        }
        let is_news = self.told != missing && now.since(self.seen_since) >= SETTLE;
        let is_due = is_news || (self.told == missing && now.since(self.told_at) >= REPEAT);
        if is_due {
            self.told = missing.to_vec();
            self.told_at = now;
        }
        is_due && !missing.is_empty()
    }
}

impl Task {
    pub(super) fn open(
        link: &Arc<Link>,
        domain: String,
        file: RecordFile,
        seed: u64,
        state: watch::Sender<Foundation>,
        life: watch::Sender<Incarnation>,
        missing: Arc<Mutex<Vec<Missing>>>,
    ) -> Self {
        let durable = file.read();
        let task = Self {
            link: Arc::downgrade(link),
            domain,
            file,
            seed,
            durable,
            ballot: None,
            retry_at: link.clock.mono(),
            strangers: BTreeMap::new(),
            missing_since: BTreeMap::new(),
            missing,
            log: MissingLog::default(),
            state,
            life,
        };
        // What was founded before is known before anybody asks.
        if let Some(durable) = &task.durable {
            task.life.send_replace(durable.record.life);
            if let Some(founding) = durable.record.founded.clone() {
                task.say_founded(link.me(), founding);
            }
        }
        task
    }

    pub(super) async fn run(
        mut self,
        mut mail: mpsc::Receiver<(PeerId, BallotMessage)>,
        mut commands: mpsc::Receiver<Command>,
    ) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                said = mail.recv() => match said {
                    // The link has stopped.
                    None => return,
                    Some((from, message)) => self.hear(from, message).await,
                },
                Some(command) = commands.recv() => self.obey(command).await,
                _ = ticks.tick() => self.look().await,
            }
        }
    }

    async fn hear(&mut self, from: PeerId, message: BallotMessage) {
        let Some(link) = self.link.upgrade() else { return };
        let mut effects = Vec::new();
        if let Some(ballot) = &mut self.ballot {
            ballot.on_message(link.clock.mono(), from, message, &mut effects);
        }
        self.follow(&link, effects).await;
    }

    async fn look(&mut self) {
        let Some(link) = self.link.upgrade() else { return };
        let now = link.clock.mono();
        let mut effects = Vec::new();
        if self.ballot.is_none() && now >= self.retry_at {
            self.seed = self.seed.wrapping_add(1);
            let record = self.durable.as_ref().map(|durable| durable.record.clone());
            self.ballot = Some(Ballot::open(link.me(), record, self.seed, now, &mut effects));
        }
        if let Some(ballot) = &mut self.ballot {
            let broker = link.broker();
            let address = |url: linnet_broker::RouteUrl| format!("{}:{}", url.host, url.port);
            let routes: Vec<_> =
                broker.configured_routes().into_iter().map(|(url, leads)| (address(url), leads)).collect();
            let expected = Expected::of(&self.domain, &routes, &broker.routed_servers());
            ballot.expect(expected.peers);
            self.strangers = expected.strangers;
            ballot.on_timeout(now, &mut effects);
            // Those of them that were away when that was decided.
            let left = link.strangers().into_iter().filter(|met| ballot.is_dissolved(met.history.cluster));
            let tell = |cluster| BallotMessage::Dissolved(cluster);
            effects.extend(left.map(|met| BallotEffect::Send(met.id, tell(met.history.cluster))));
        }
        self.follow(&link, effects).await;
        self.note_missing(&link, now);
    }

    fn note_missing(&mut self, link: &Link, now: Mono) {
        let waiting = self.ballot.as_ref().filter(|_| *self.state.borrow() == Foundation::Waiting);
        let missing = waiting.map_or_else(Vec::new, |ballot| ballot.missing(now));
        self.missing_since.retain(|peer, _| missing.contains(peer));
        for peer in &missing {
            self.missing_since.entry(*peer).or_insert(now);
        }
        let who = |peer| self.strangers.get(&peer).cloned().unwrap_or_else(|| link.shown(peer));
        let mut named: Vec<Missing> = self
            .missing_since
            .iter()
            .map(|(peer, since)| Missing { who: who(*peer), since: now.since(*since) })
            .collect();
        named.sort_by(|a, b| a.who.cmp(&b.who));
        if self.log.is_due(now, &missing) {
            let each = named.iter().map(|m| format!("{} ({} s)", m.who, m.since.as_secs()));
            tracing::warn!(
                "Waiting for {} before the JetStream meta group is founded",
                each.collect::<Vec<_>>().join(", ")
            );
        }
        *self.missing.lock() = named;
    }

    /// Carries out what the ballot wants, in order.
    async fn follow(&mut self, link: &Link, effects: Vec<BallotEffect>) {
        for effect in effects {
            match effect {
                BallotEffect::Write(record) => {
                    if !self.write(record).await {
                        // What follows relies on it.
                        self.give_up_for_now(link);
                        return;
                    }
                }
                BallotEffect::Send(to, _) if self.strangers.contains_key(&to) => {}
                BallotEffect::Send(to, message) => {
                    let bytes = [link.head(), message.encode()].concat();
                    // What finds no room is said again.
                    link.say(to, Kind::Ballot, bytes);
                }
                BallotEffect::Founded(founding) => {
                    let names = founding.voters.iter().map(|voter| link.shown(voter.peer));
                    let names = names.collect::<Vec<_>>().join(", ");
                    if self.say_founded(link.me(), founding) {
                        tracing::info!("JetStream meta group founded by {names}");
                    }
                }
                BallotEffect::Exists(founding) => {
                    tracing::info!("A JetStream meta group exists that this server is to join");
                    self.state.send_replace(Foundation::Joins(founding));
                }
                BallotEffect::Left(_) => {
                    self.state.send_replace(Foundation::Waiting);
                }
                BallotEffect::GivenUp(_) => {
                    tracing::warn!(
                        "The JetStream meta group that was founded can never work: most of its servers were replaced \
                         before. It is given up"
                    );
                    self.state.send_replace(Foundation::Waiting);
                }
            }
        }
    }

    /// True if that is news.
    fn say_founded(&self, me: PeerId, founding: Founding) -> bool {
        let durable = self.durable.as_ref();
        let life = durable.map_or(0, |durable| durable.record.life);
        let is_voter = founding.voters.contains(&Replica { peer: me, incarnation: life });
        let state = if is_voter {
            Foundation::Founded { founding, has_begun: durable.is_some_and(|durable| durable.has_begun) }
        } else {
            Foundation::Joins(founding)
        };
        self.state.send_if_modified(|known| {
            let is_news = *known != state;
            *known = state;
            is_news
        })
    }

    /// Writes down a record of the ballot. False if that fails.
    async fn write(&mut self, record: BallotRecord) -> bool {
        let has_begun = record.founded.is_some() && self.durable.as_ref().is_some_and(|d| d.has_begun);
        self.write_all(Durable { record, has_begun }).await
    }

    async fn write_all(&mut self, durable: Durable) -> bool {
        let (file, to_write) = (self.file.clone(), durable.clone());
        let written = tokio::task::spawn_blocking(move || file.write(&to_write)).await;
        match written {
            Ok(Ok(())) => {
                self.life.send_if_modified(|life| std::mem::replace(life, durable.record.life) != *life);
                self.durable = Some(durable);
                true
            }
            Ok(Err(error)) => {
                tracing::error!(
                    "What the ballot of the JetStream meta group needs cannot be written: {error}"
                );
                false
            }
            Err(_) => false,
        }
    }

    /// Nothing of what could not be written was said. Later the ballot goes on from what was.
    fn give_up_for_now(&mut self, link: &Link) {
        self.ballot = None;
        self.retry_at = link.clock.mono() + RETRY;
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Begun(done) => {
                // Whoever waited may have given up.
                let _ = done.send(self.note_begun().await);
            }
            Command::BelongsTo(founding, done) => {
                let _ = done.send(self.note_member(founding).await);
            }
            Command::Leave(cluster, done) => {
                let _ = done.send(self.leave(cluster).await);
            }
        }
    }

    async fn note_begun(&mut self) -> bool {
        let Some(durable) = self.durable.clone().filter(|durable| durable.record.founded.is_some()) else {
            return false;
        };
        let has_begun = durable.has_begun || self.write_all(Durable { has_begun: true, ..durable }).await;
        self.state.send_if_modified(|state| match state {
            Foundation::Founded { has_begun: known, .. } => !std::mem::replace(known, has_begun) && has_begun,
            Foundation::Waiting | Foundation::Joins(_) => false,
        });
        has_begun
    }

    /// True if that is written, or was before.
    async fn leave(&mut self, cluster: ClusterId) -> bool {
        let (Some(link), Some(ballot)) = (self.link.upgrade(), &mut self.ballot) else { return false };
        let mut effects = Vec::new();
        ballot.leave(cluster, &mut effects);
        self.follow(&link, effects).await;
        self.ballot.as_ref().is_some_and(|ballot| ballot.is_dissolved(cluster))
    }

    async fn note_member(&mut self, founding: Founding) -> bool {
        let Some(link) = self.link.upgrade() else { return false };
        let Some(durable) = self.durable.clone() else { return false };
        let record = BallotRecord { founded: Some(founding), ..durable.record };
        if !self.write_all(Durable { record, has_begun: true }).await {
            return false;
        }
        // It goes on from what it is now.
        self.ballot = None;
        self.retry_at = link.clock.mono();
        self.look().await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_who_is_missing_when_that_changes_and_now_and_then() {
        let mut log = MissingLog::default();
        let (a, b) = (PeerId::of_name("a"), PeerId::of_name("b"));
        let at = |millis| Mono(1) + Duration::from_millis(millis);
        assert!(!log.is_due(at(0), &[a, b]), "they may come at once");
        assert!(log.is_due(at(500), &[a, b]));
        assert!(!log.is_due(at(9_000), &[a, b]));
        assert!(!log.is_due(at(9_100), &[b]));
        assert!(log.is_due(at(9_600), &[b]));
        assert!(!log.is_due(at(19_500), &[b]) && log.is_due(at(19_600), &[b]));
        assert!(!log.is_due(at(19_700), &[]) && !log.is_due(at(40_000), &[]), "nobody is no news");
        assert!(!log.is_due(at(40_100), &[b]) && log.is_due(at(40_600), &[b]));
    }
}
