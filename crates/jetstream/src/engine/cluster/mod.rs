//! A server's part in the JetStream of its cluster.
//!
//! The catalogue is a group with a replica on every server: which streams exist, and where. Its leader decides about
//! streams ([`changes`]); every server sees what was decided ([`CatalogueView`]) and brings about what concerns it
//! ([`reconcile`]). Streams are groups of their own, and what is asked of one is answered by the server that leads it.
//! Servers ask each other over the [`Link`](crate::cluster::Link) ([`asks`]).

mod asks;
mod changes;
mod describe;
mod members;
mod news;
mod reconcile;
mod view;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use linnet_ids::{GroupId, PeerId};
use linnet_raft::Replica;
use linnet_replication::{Myself, begin_catalogue};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Engine, META_KEY};
use crate::cell::StreamCell;
use crate::cluster::Link;
use crate::pump::{Control, Installation, PumpHandle, ReplicaReport};
use crate::services::ConsumerServices;

pub(crate) use asks::StreamCall;
pub(crate) use news::News;
pub(crate) use view::CatalogueView;

/// How often a server looks around without being told to.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A server that has no leader for so long says so; before that it waits (jetstream-clustering 1.6).
const LEADERLESS_AFTER: Duration = Duration::from_secs(10);

/// What this server is to its cluster.
pub(crate) struct Cluster {
    pub(crate) link: Arc<Link>,
    pub(crate) view: Arc<CatalogueView>,
    pub(crate) news: Arc<News>,
    me: Myself,
    meta: ArcSwap<MetaStanding>,
    /// Streams that are being begun or removed here.
    busy: Mutex<HashSet<GroupId>>,
    /// Since when servers that were taken out may not come back by themselves.
    removed: Mutex<HashMap<PeerId, Instant>>,
}

/// Where the catalogue's group stands, as this server sees it.
pub(crate) struct MetaStanding {
    /// What its replica here says; `None` before there is one.
    pub(crate) report: Option<ReplicaReport>,
    /// Since when no leader is known.
    pub(crate) leaderless_since: Option<Instant>,
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
}

impl Cluster {
    pub(crate) fn new(link: Arc<Link>, view: Arc<CatalogueView>, news: Arc<News>, seed: u64) -> Self {
        let me = Myself { peer: link.me(), seed };
        let meta = MetaStanding { report: None, leaderless_since: Some(Instant::now()) };
        Self {
            link,
            view,
            news,
            me,
            meta: ArcSwap::from_pointee(meta),
            busy: Mutex::default(),
            removed: Mutex::default(),
        }
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

    /// Who answers what the leader of the catalogue's group answers.
    pub(crate) fn meta_responder(&self) -> Responder {
        if self.leads_meta() {
            return Responder::Here;
        }
        let leaderless_for = self.meta.load().leaderless_since.map(|since| since.elapsed());
        match leaderless_for {
            Some(elapsed) if elapsed > LEADERLESS_AFTER => Responder::Unavailable,
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
                members::look_after(&engine, &cluster).await;
                reconcile::reconcile(&engine, &cluster, &fresh).await;
            }
        });
    }

    /// Has the catalogue's replica say where it stands.
    async fn refresh_meta(&self, cluster: &Cluster) {
        let report = self.report(&self.meta_pump(), META_KEY).await;
        let has_leader = report.as_ref().is_some_and(|r| r.status.leader.is_some() || r.status.is_leader);
        let since = cluster.meta.load().leaderless_since;
        let leaderless_since = if has_leader { None } else { since.or_else(|| Some(Instant::now())) };
        cluster.meta.store(Arc::new(MetaStanding { report, leaderless_since }));
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

    /// Begins the catalogue's replica: with the founders of a new group, or in one that exists.
    pub(crate) async fn begin_catalogue(&self, me: Replica, founders: Option<linnet_raft::Membership>) {
        let Some(cluster) = &self.cluster else { return };
        let now = self.broker.clock().mono();
        let mut log = self.log.clone();
        let group = begin_catalogue(&self.site(), me, cluster.me.seed, founders, now, &mut log);
        self.install_catalogue(Box::new(group)).await;
    }

    /// Hands the catalogue's replica to its pump.
    pub(super) async fn install_catalogue(&self, group: Box<linnet_replication::SoloGroup>) {
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
