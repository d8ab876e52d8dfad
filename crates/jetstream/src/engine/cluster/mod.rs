//! A server's part in the JetStream of its cluster.
//!
//! The catalogue is a group with a replica on every server: which streams exist, and where. Its leader decides about
//! streams ([`changes`]); every server sees what was decided ([`CatalogueView`]) and brings about what concerns it
//! ([`reconcile`]). Streams are groups of their own, and what is asked of one is answered by the server that leads it.
//! Servers ask each other over the [`Link`](crate::cluster::Link) ([`asks`]).

mod acquaintances;
mod alternates;
mod announce;
mod asks;
mod assigned;
mod assurance;
mod attention;
mod busy;
mod changes;
mod claiming;
mod cramped;
mod describe;
mod desired;
mod entering;
mod facts;
mod following;
mod guard;
mod hearsay;
mod histories;
mod lives;
mod members;
mod news;
mod opening_up;
mod orphans;
mod placing;
mod probing;
mod reconcile;
mod removal;
mod repairing;
mod rescue;
mod reseed;
mod reshaping;
mod succession;
mod transfers;
mod trouble;
mod unavailable;
mod view;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use linnet_broker::Broker;
use linnet_env::{Disk, OsRng, Rng as _};
use linnet_ids::{GroupId, Mono, PeerId};
use linnet_jsapi::errors::{self, ApiError};
use linnet_replication::cluster::{Assurance, Healing};
use linnet_replication::transfer::Sources;
use linnet_replication::{Assignment, Myself};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::{Engine, META_KEY, StartError};
use crate::catalogue::StreamHandle;
use crate::cell::StreamCell;
use crate::cluster::{
    Foundation, Founder, FrameSender, Link, LinkConfig, MetaFacts, MetaPhase, MetaStatus, Pumps, next_boot,
};
use crate::log_writer::LogHandle;
use crate::pump::{Control, Installation, PumpHandle, ReplicaReport, Replicas};
use crate::services::ConsumerServices;

use attention::Attention;

pub use assigned::{Assigned, AssignedStream};
pub(crate) use facts::Facts;
pub(crate) use news::News;
pub use orphans::Orphan;
pub(crate) use unavailable::Awaited;
pub(crate) use view::CatalogueView;

/// How often a server looks around without being told to.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// States that a server sends at a time.
const SENDING_MAX: usize = 32;
/// A state that nobody asks for is let go after this.
const SENDING_PATIENCE: Duration = Duration::from_secs(30);
/// Calls of the API that wait for a leader at a time; further ones are not answered.
const WAITING_MAX: usize = 1024;
/// A server that has no leader for so long says so; before that it waits (jetstream-clustering 1.6).
const LEADERLESS_AFTER: Duration = Duration::from_secs(10);

/// What this server is to its cluster.
pub(crate) struct Cluster {
    pub(crate) link: Arc<Link>,
    pub(crate) view: Arc<CatalogueView>,
    pub(crate) news: Arc<News>,
    me: Myself,
    meta: ArcSwap<MetaStanding>,
    /// Names of streams of which one is being begun, changed or removed here.
    busy: Mutex<HashSet<busy::Name>>,
    /// What is to be looked at next.
    attention: Mutex<Attention>,
    /// When streams that lack members were looked for, and under which circumstances.
    healing: Mutex<Healing>,
    /// Groups of which a step of the membership is under way.
    moving: Mutex<HashSet<GroupId>>,
    /// Groups led here that have the members that they shall have: these.
    seated: Mutex<HashMap<GroupId, Vec<PeerId>>>,
    /// Groups whose replica here was removed, and that want another one here.
    outlived: Mutex<HashSet<GroupId>>,
    /// Lives that replicas here named.
    lives: Mutex<lives::Lives>,
    /// What this server has of streams that the catalogue may not know.
    unclaimed: Mutex<HashMap<GroupId, claiming::Unclaimed>>,
    /// Groups that the store has and that are not served while it is open.
    unserved: Mutex<HashSet<GroupId>>,
    /// Streams here that no entry of the catalogue names.
    orphans: Mutex<orphans::Orphans>,
    /// When streams that too few remember were looked for.
    reseeding: Mutex<Option<Mono>>,
    /// Whether this server knows what the catalogue says now.
    assurance: Mutex<Assurance>,
    /// When silent members were asked again last.
    probing: Mutex<Option<Mono>>,
    /// Groups whose damaged messages are asked for, and whether they met more meanwhile; how many may ask at a time.
    repairing: Mutex<HashMap<GroupId, bool>>,
    repairs: Semaphore,
    /// States that this server sends.
    sources: Arc<Mutex<Sources>>,
    /// Groups whose state is on its way to this server.
    taking: Mutex<HashSet<GroupId>>,
    /// Since when servers that were taken out may not come back by themselves, and their newest start then.
    removed: Mutex<HashMap<PeerId, (Mono, Option<String>)>>,
    founder: OnceLock<Founder>,
    /// Calls of the API that wait for a leader.
    waiting: Arc<Semaphore>,
    /// Tells that `meta` is new.
    standings: watch::Sender<()>,
    /// Terms whose leaders were announced.
    announced: Mutex<HashMap<GroupId, u64>>,
    /// Tells that a server came that has JetStream.
    arrivals: watch::Sender<()>,
    /// What others said of themselves.
    acquaintances: Mutex<acquaintances::Acquaintances>,
    /// What all servers said of themselves when they were asked last. Whoever asks them holds it.
    heard: tokio::sync::Mutex<facts::Heard>,
    /// What others say of a leader.
    hearsay: Mutex<hearsay::Hearsay>,
    stream_hearsay: Mutex<hearsay::StreamHearsay>,
    /// Whether streams have room here.
    cramped: Mutex<cramped::Cramped>,
    /// What was said of the disk.
    trouble: Mutex<trouble::Trouble>,
    /// This process has been a member of the catalogue's group that knew everything.
    was_member: AtomicBool,
    /// This server gives up what it has of the catalogue.
    leaves_history: AtomicBool,
    /// Servers of other clusters that the log was told of.
    strangers: Mutex<Vec<String>>,
    /// Nobody is to wait for leaderships to move.
    hurried: watch::Sender<bool>,
}

/// Where the catalogue's group stands, as this server sees it.
pub(crate) struct MetaStanding {
    /// What its replica here says; `None` before there is one.
    pub(crate) report: Option<ReplicaReport>,
    /// Since when no leader is known.
    pub(crate) leaderless_since: Option<Mono>,
}

/// Who answers a call of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Responder {
    /// This server.
    Here,
    /// Another one, or nobody.
    Elsewhere,
    /// Nobody can: everybody says so.
    Unavailable,
    /// Nobody can, as the servers that could are gone: this one says so, after a while.
    Offline,
}

impl Cluster {
    /// Begins to talk to the other servers.
    pub(super) fn start(
        broker: &Broker,
        domain: &str,
        disk: &dyn Disk,
        dir: &Path,
        log: &LogHandle,
        pumps: &[PumpHandle],
    ) -> Result<Arc<Self>, StartError> {
        let io = |source| StartError::Io { path: dir.to_owned(), source };
        let boot = next_boot(disk, dir, broker.clock().wall()).map_err(io)?;
        let loops = Arc::new(Pumps { log: log.clone(), pumps: pumps.to_vec() });
        let config = LinkConfig { domain: domain.to_owned(), boot };
        let link = Link::start(broker, &config, loops).map_err(|e| StartError::Cluster(e.to_string()))?;
        Ok(Arc::new(Self::new(link, CatalogueView::new(), Arc::default(), boot)))
    }

    fn new(link: Arc<Link>, view: Arc<CatalogueView>, news: Arc<News>, seed: u64) -> Self {
        let me = Myself { peer: link.me(), seed };
        let meta = MetaStanding { report: None, leaderless_since: Some(link.clock().mono()) };
        Self {
            link,
            view,
            news,
            me,
            meta: ArcSwap::from_pointee(meta),
            busy: Mutex::default(),
            attention: Mutex::default(),
            healing: Mutex::default(),
            moving: Mutex::default(),
            seated: Mutex::default(),
            outlived: Mutex::default(),
            lives: Mutex::default(),
            sources: Arc::new(Mutex::new(Sources::new(SENDING_MAX, SENDING_PATIENCE))),
            repairing: Mutex::default(),
            repairs: Semaphore::new(repairing::REPAIRS_MAX),
            assurance: Mutex::default(),
            probing: Mutex::default(),
            reseeding: Mutex::default(),
            unclaimed: Mutex::default(),
            unserved: Mutex::default(),
            orphans: Mutex::default(),
            taking: Mutex::default(),
            removed: Mutex::default(),
            founder: OnceLock::new(),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            standings: watch::Sender::new(()),
            announced: Mutex::default(),
            arrivals: watch::Sender::new(()),
            acquaintances: Mutex::default(),
            heard: tokio::sync::Mutex::default(),
            hearsay: Mutex::default(),
            stream_hearsay: Mutex::default(),
            cramped: Mutex::default(),
            trouble: Mutex::default(),
            was_member: AtomicBool::new(false),
            leaves_history: AtomicBool::new(false),
            strangers: Mutex::default(),
            hurried: watch::Sender::new(false),
        }
    }

    /// Who this server is to its groups.
    pub(super) fn myself(&self) -> Myself {
        self.me
    }

    /// A pump's part.
    pub(super) fn replicas(&self) -> Replicas {
        Replicas::new(FrameSender::new(&self.link), self.news.clone(), self.sources.clone())
    }

    /// This server's part in founding the catalogue's group.
    pub(crate) fn founder(&self) -> Option<&Founder> {
        self.founder.get()
    }

    /// This server.
    pub(crate) fn me(&self) -> PeerId {
        self.me.peer
    }

    /// True if this server leads the catalogue's group.
    pub(crate) fn leads_meta(&self) -> bool {
        self.news.leads(GroupId::META)
    }

    /// Where the catalogue's group stands.
    pub(crate) fn meta(&self) -> arc_swap::Guard<Arc<MetaStanding>> {
        self.meta.load()
    }

    /// The server that leads the catalogue's group, as far as this one knows.
    pub(crate) fn meta_leader(&self) -> Option<PeerId> {
        self.meta.load().report.as_ref().and_then(|report| report.status.leader)
    }

    /// The id of a group that never was. Sequences of the catalogue are never used again, whatever is removed from it,
    /// unless a rescue takes it back: that begins another epoch.
    pub(crate) fn new_group(&self) -> GroupId {
        let epoch = self.meta().report.as_ref().map_or(0, |report| report.status.epoch());
        GroupId { epoch, meta_index: self.view.last_seq() + 1, random: OsRng.next_u64() }
    }

    /// The stream of this name.
    pub(crate) fn find(&self, account: &str, stream: &str) -> Result<Arc<Assignment>, ApiError> {
        self.view.stream(account, stream).ok_or_else(|| self.not_found())
    }

    /// The entry of a stream as it is now; what has its name may be another stream by now.
    pub(crate) fn still(&self, asked: &Assignment) -> Result<Arc<Assignment>, ApiError> {
        let entry = self.find(&asked.account, &asked.config.name)?;
        if entry.group == asked.group { Ok(entry) } else { Err(errors::STREAM_NOT_FOUND) }
    }

    /// Why there is no stream of some name: what cannot be read is not missing.
    pub(crate) fn not_found(&self) -> ApiError {
        if self.view.is_damaged() {
            errors::CLUSTER_NOT_AVAIL
                .because("entries of the catalogue of streams are damaged and not repaired yet")
        } else {
            errors::STREAM_NOT_FOUND
        }
    }

    /// This server gives up what it has of the catalogue. False if it does already.
    fn leave_history(&self) -> bool {
        !self.leaves_history.swap(true, Ordering::Relaxed)
    }

    /// Room for a call that waits for a leader; `None` if there is one, or too many wait.
    pub(crate) fn room_to_wait(&self) -> Option<OwnedSemaphorePermit> {
        self.meta.load().leaderless_since?;
        self.waiting.clone().try_acquire_owned().ok()
    }

    /// Room for a call that is answered later; `None` if too many wait.
    pub(crate) fn room_to_delay(&self) -> Option<OwnedSemaphorePermit> {
        self.waiting.clone().try_acquire_owned().ok()
    }

    /// Who answers what the leader of a stream answers, on a server that does not lead it. `here` is what this server
    /// has of the stream. One that has had no leader for long is described by a member, and the rest cannot be done.
    pub(crate) fn stream_responder(
        &self,
        assignment: &Assignment,
        here: Option<&StreamHandle>,
        now: Mono,
        is_description: bool,
    ) -> Responder {
        let peers = self.link.peers();
        let is_heard = |peer| peer == self.me() || peers.iter().any(|p| p.id == peer && p.is_reachable);
        let first = assignment.holding_peers().into_iter().filter(|p| is_heard(*p)).min();
        let is_led = || !assignment.group_id().is_some_and(|group| self.is_leaderless_stream(group));
        match (first, here.and_then(|handle| handle.cell.replica())) {
            (None, _) if self.meta_responder() == Responder::Unavailable => Responder::Unavailable,
            (Some(first), Some(state)) if first == self.me() && !is_led() => match state.leaderless_since {
                Some(since) if now.since(since) > LEADERLESS_AFTER && is_description => Responder::Here,
                Some(since) if now.since(since) > LEADERLESS_AFTER => Responder::Unavailable,
                _ => Responder::Elsewhere,
            },
            _ => Responder::Elsewhere,
        }
    }

    /// Who answers what the leader of the catalogue's group answers.
    pub(crate) fn meta_responder(&self) -> Responder {
        if self.leads_meta() {
            return Responder::Here;
        }
        match self.leaderless_for() {
            Some(elapsed) if elapsed > LEADERLESS_AFTER && self.speaks_for_leaderless() => {
                Responder::Unavailable
            }
            _ => Responder::Elsewhere,
        }
    }
}

impl Engine {
    /// Looks after this server's part until the engine stops.
    pub(super) fn look_after_cluster(self: &Arc<Self>) {
        let Some(cluster) = self.cluster.clone() else { return };
        asks::answer(self, &cluster);
        let engine = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut changes = cluster.view.watch();
            let mut announcer = announce::Announcer::default();
            loop {
                tokio::select! {
                    () = cluster.news.wait() => {}
                    _ = changes.changed() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                let Some(engine) = engine.upgrade() else { return };
                if engine.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let fresh = cluster.news.take();
                engine.refresh_meta(&cluster).await;
                assurance::look_after(&cluster);
                let scope = cluster.scope(&fresh);
                announcer.announce(&engine, &cluster, &fresh, &scope);
                trouble::look_after(&engine, &cluster).await;
                cramped::look_after(&engine, &cluster);
                members::look_after(&engine, &cluster).await;
                histories::look_after(&engine, &cluster).await;
                hearsay::look_after(&cluster);
                hearsay::look_after_streams(&engine, &cluster);
                acquaintances::look_after(&cluster);
                probing::look_after(&engine, &cluster);
                repairing::begin(&engine, &cluster, &fresh);
                rescue::note(&engine, &cluster);
                reseed::look_after(&engine, &cluster);
                transfers::serve(&engine, &cluster, &fresh);
                claiming::look_after(&engine, &cluster);
                orphans::look_for(&engine, &cluster);
                reconcile::reconcile(&engine, &cluster, &scope);
                following::follow(&engine, &cluster, &fresh, &scope);
            }
        });
    }

    /// Has the catalogue's replica say where it stands.
    async fn refresh_meta(&self, cluster: &Arc<Cluster>) {
        let report = self.report(&self.meta_pump(), META_KEY).await;
        self.meta_status.store(Some(Arc::new(self.describe_meta(cluster, report.as_ref()))));
        if let Some(report) = &report {
            cluster.note_members(report);
            self.look_at_membership(cluster, report).await;
        }
        let has_leader = report.as_ref().is_some_and(|r| r.status.leader.is_some() || r.status.is_leader);
        let since = cluster.meta.load().leaderless_since;
        let leaderless_since =
            if has_leader { None } else { since.or_else(|| Some(cluster.link.clock().mono())) };
        cluster.meta.store(Arc::new(MetaStanding { report, leaderless_since }));
        cluster.standings.send_replace(());
    }

    /// What monitoring shows of the catalogue's group.
    fn describe_meta(&self, cluster: &Cluster, report: Option<&ReplicaReport>) -> MetaStatus {
        let peers = cluster.link.peers();
        let name = self.broker.cluster_name().unwrap_or_default();
        let missing = || cluster.founder().map(Founder::missing).unwrap_or_default();
        let strangers: Vec<String> = cluster.link.strangers().into_iter().map(|met| met.name).collect();
        let Some(report) = report else {
            let joins = matches!(cluster.founder().map(Founder::state), Some(Foundation::Joins(_)));
            return MetaStatus {
                cluster: name,
                phase: if joins { MetaPhase::Joining } else { MetaPhase::Recovering },
                hears_somebody: peers.iter().any(|peer| peer.is_reachable),
                missing: missing().into_iter().map(|missing| (missing.who, missing.since)).collect(),
                strangers,
                ..MetaStatus::default()
            };
        };
        let facts = MetaFacts {
            cluster: &name,
            name: &self.place.server,
            me: cluster.me(),
            raft: &report.status,
            progress: &|peer| report.progress.iter().find(|(of, _)| *of == peer).and_then(|(_, p)| *p),
            peers: &peers,
            names: &|peer| cluster.link.name_of(peer),
            listened: cluster.link.listened(),
        };
        MetaStatus { stall: cluster.link.last_stall(), strangers, ..facts.status() }
    }

    /// Where a replica stands.
    pub(super) async fn report(&self, pump: &PumpHandle, key: u64) -> Option<ReplicaReport> {
        let (done, reported) = oneshot::channel();
        pump.control(Control::Report { key, done });
        reported.await.ok().flatten()
    }

    fn meta_pump(&self) -> PumpHandle {
        self.pumps.first().cloned().unwrap_or_else(PumpHandle::new)
    }

    /// Hands the catalogue's replica to its pump.
    pub(super) async fn install_catalogue(&self, group: Box<linnet_replication::StreamGroup>) {
        let pump = self.meta_pump();
        self.log.own(GroupId::META, pump.clone());
        let watch = self.cluster.as_ref().map(|cluster| {
            let view = cluster.view.clone();
            let watch: crate::pump::StreamWatch = Box::new(move |stream| view.follow(stream));
            watch
        });
        let (done, installed) = oneshot::channel();
        pump.control(Control::Install(Box::new(Installation {
            key: META_KEY,
            dir: linnet_replication::group_dir(&self.dir, GroupId::META),
            group: *group,
            inbox: self.meta.clone(),
            account: self.own_account.clone(),
            cell: Arc::new(StreamCell::new("", false)),
            services: ConsumerServices::internal(),
            failed: None,
            watch,
            done,
        })));
        let _ = installed.await;
    }
}
