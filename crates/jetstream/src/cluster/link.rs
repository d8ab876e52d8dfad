//! A server's end of what servers say to each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use linnet_broker::{Account, Broker, InternalSubscription, Message, Publisher};
use linnet_env::Clock;
use linnet_ids::{Mono, PeerId};
use linnet_replication::raft::{BallotMessage, Frame, History, Liveness, PeerChange};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

use super::ask::Asks;
use super::datagram::Head;
use super::directory::{Directory, PeerView, Stranger};
use super::loops::Loops;
use super::receiving::Ear;
use super::seldom::Seldom;
use super::status::Stall;
use super::subjects::{Kind, Subjects};

/// Messages other than frames that wait to be sent.
const OUTGOING_MAX: usize = 1024;
/// Their bytes.
const OUTGOING_BYTES_MAX: usize = 64 << 20;
/// Messages sent before the connections are written.
const AT_ONCE: usize = 64;
/// The shortest sleep, so that a clock that stands still does not spin.
const SLEEP_MIN: Duration = Duration::from_millis(1);
/// A sleep that lasts so much longer than asked for is told: others take a server for away that is silent as long.
const STALL_MIN: Duration = Duration::from_secs(1);
/// How long saying that the server stops may take.
const STOP_MAX: Duration = Duration::from_secs(1);

/// Who a server is to the others.
pub(crate) struct LinkConfig {
    /// JetStream domain; empty for none.
    pub(crate) domain: String,
    /// Number of this opening of the store, from [`next_boot`](super::next_boot).
    pub(crate) boot: u64,
}

/// A server cannot talk to others.
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    /// Everything rides the system account.
    #[error("JetStream cluster requires a system account")]
    NoSystemAccount,
}

/// What was sent and received.
#[derive(Debug, Default)]
pub(crate) struct LinkCounts {
    /// Frames sent.
    pub(crate) sent: AtomicU64,
    /// Messages that no connection took.
    pub(crate) undeliverable: AtomicU64,
    /// Frames taken.
    pub(crate) taken: AtomicU64,
    /// Frames of earlier processes of their servers.
    pub(crate) outdated: AtomicU64,
    /// Frames of servers of another cluster's history.
    pub(crate) strangers: AtomicU64,
    /// Messages that cannot be read.
    pub(crate) malformed: AtomicU64,
    /// Messages of groups that are not here.
    pub(crate) unknown_groups: AtomicU64,
}

/// What waits to be sent.
pub(super) enum Outgoing {
    Say { to: PeerId, kind: Kind, bytes: Vec<u8>, _room: tokio::sync::OwnedSemaphorePermit },
    Stop(oneshot::Sender<()>),
}

/// A server's end of the link. It ends with [`Link::stop`], or when it is dropped.
pub(crate) struct Link {
    pub(super) me: PeerId,
    pub(super) boot: u64,
    pub(super) clock: Arc<dyn Clock>,
    broker: Broker,
    account: Arc<Account>,
    subjects: Subjects,
    liveness: Mutex<Liveness>,
    directory: Mutex<Directory>,
    /// The cluster of this server, as others are told.
    history: Mutex<Option<History>>,
    loops: Arc<dyn Loops>,
    outgoing: mpsc::Sender<Outgoing>,
    outgoing_room: Arc<Semaphore>,
    pub(super) asks: Asks,
    pub(super) ballots: Mutex<Option<mpsc::Sender<(PeerId, BallotMessage)>>>,
    /// Somebody is to hear of this server before its next beat is due.
    hurry: Arc<Notify>,
    has_stopped: AtomicBool,
    started: Mono,
    /// How long this process last did not run, and when that ended.
    stall: Mutex<Option<(Duration, Mono)>>,
    pub(crate) counts: LinkCounts,
    pub(super) complaints: Seldom,
    subscription: Mutex<Option<InternalSubscription>>,
}

impl Link {
    /// Listens to the other servers of the domain, and tells them that this one is there.
    pub(crate) fn start(
        broker: &Broker,
        config: &LinkConfig,
        loops: Arc<dyn Loops>,
    ) -> Result<Arc<Self>, LinkError> {
        let account = broker.accounts().into_iter().find(|account| account.is_system());
        let account = account.ok_or(LinkError::NoSystemAccount)?;
        let me = PeerId::of_name(&broker.identity().name);
        let clock = broker.clock().clone();
        let subjects = Subjects::of_domain(&config.domain);
        let (outgoing, sending) = mpsc::channel(OUTGOING_MAX);
        let hurry = Arc::new(Notify::new());
        let link = Arc::new_cyclic(|weak| Self {
            me,
            boot: config.boot,
            liveness: Mutex::new(Liveness::new(config.boot, clock.mono())),
            directory: Mutex::new(Directory::new(me, &config.domain)),
            history: Mutex::default(),
            started: clock.mono(),
            stall: Mutex::default(),
            clock,
            broker: broker.clone(),
            account,
            subjects,
            loops,
            outgoing,
            outgoing_room: Arc::new(Semaphore::new(OUTGOING_BYTES_MAX)),
            asks: Asks::start(weak.clone()),
            ballots: Mutex::default(),
            hurry: hurry.clone(),
            has_stopped: AtomicBool::new(false),
            counts: LinkCounts::default(),
            complaints: Seldom::default(),
            subscription: Mutex::default(),
        });
        let ear = Arc::new(Ear(Arc::downgrade(&link)));
        let everything = link.subjects.everything_for(me);
        *link.subscription.lock() = Some(link.account.subscribe(everything.as_bytes(), None, ear));
        let mut servers = broker.watch_servers();
        servers.mark_changed();
        let voice = Voice { link: Arc::downgrade(&link), publisher: broker.publisher() };
        tokio::spawn(voice.run(sending, servers, hurry));
        Ok(link)
    }

    /// This server.
    pub(crate) fn me(&self) -> PeerId {
        self.me
    }

    /// The time.
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The server behind the link.
    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Name of a server that there is or was a connection to, or of this one.
    pub(crate) fn name_of(&self, peer: PeerId) -> Option<String> {
        if peer == self.me {
            return Some(self.broker.identity().name.clone());
        }
        self.directory.lock().name_of(peer)
    }

    /// The cluster that this server belongs to, as it last said.
    pub(crate) fn history(&self) -> Option<History> {
        *self.history.lock()
    }

    /// This server belongs to a cluster, or another one than before: those of others have nothing to say to its groups.
    pub(crate) fn set_history(&self, history: Option<History>) {
        let mut liveness = self.liveness.lock();
        if std::mem::replace(&mut *self.history.lock(), history) == history {
            return;
        }
        for stranger in self.directory.lock().strangers(history) {
            let change = liveness.on_stopping(self.clock.mono(), stranger.id);
            self.tell(change.as_slice());
        }
        drop(liveness);
        self.hurry.notify_one();
    }

    /// The servers that there are connections to and that belong to another cluster's history, by name.
    pub(crate) fn strangers(&self) -> Vec<Stranger> {
        self.directory.lock().strangers(self.history())
    }

    /// True if a server belongs to another cluster's history.
    pub(crate) fn is_stranger(&self, peer: PeerId) -> bool {
        self.directory.lock().is_stranger(peer, self.history())
    }

    /// The other servers of the domain and of this cluster's history, by name.
    pub(crate) fn peers(&self) -> Vec<PeerView> {
        let liveness = self.liveness.lock();
        self.directory.lock().views(self.clock.mono(), &liveness, self.history())
    }

    /// True if a server can be heard and hears this one.
    pub(crate) fn hears(&self, peer: PeerId) -> bool {
        self.liveness.lock().hears(peer)
    }

    /// How long this server has listened to others.
    pub(crate) fn listened(&self) -> Duration {
        self.clock.mono().since(self.started)
    }

    /// The last time that this process did not run for long.
    pub(crate) fn last_stall(&self) -> Option<Stall> {
        let (lasted, ended) = (*self.stall.lock())?;
        Some(Stall { lasted, ago: self.clock.mono().since(ended) })
    }

    fn note_stall(&self, lasted: Duration) {
        tracing::warn!(
            "This server did not run for {:.1} s: it was stopped, or others had the processor",
            lasted.as_secs_f64()
        );
        *self.stall.lock() = Some((lasted, self.clock.mono()));
    }

    /// A server says that its disk takes nothing, or that it does again.
    pub(crate) fn note_trouble(&self, peer: PeerId, has_trouble: bool) {
        self.directory.lock().note_trouble(self.clock.mono(), peer, has_trouble);
    }

    /// Says that this server stops, and is silent from then on. What was queued before is sent.
    pub(crate) async fn stop(&self) {
        if self.has_stopped.swap(true, Ordering::Relaxed) {
            return;
        }
        let (done, is_done) = oneshot::channel();
        let stopping = async {
            if self.outgoing.send(Outgoing::Stop(done)).await.is_ok() {
                // Fails only if the task is gone already.
                let _ = is_done.await;
            }
        };
        if tokio::time::timeout(STOP_MAX, stopping).await.is_err() {
            tracing::warn!("Other servers may not have been told that JetStream stops");
        }
        self.subscription.lock().take();
        self.asks.lose_all();
        self.ballots.lock().take();
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.has_stopped.load(Ordering::Relaxed)
    }

    pub(super) fn head(&self) -> Vec<u8> {
        Head { from: self.me, boot: self.boot }.encode()
    }

    /// Queues a message that is no frame. False if too much waits already.
    pub(super) fn say(&self, to: PeerId, kind: Kind, bytes: Vec<u8>) -> bool {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let Ok(room) = self.outgoing_room.clone().try_acquire_many_owned(len) else { return false };
        self.outgoing.try_send(Outgoing::Say { to, kind, bytes, _room: room }).is_ok()
    }

    /// Publishes to a server; written with the publisher's next flush.
    pub(super) fn publish(&self, publisher: &mut Publisher, to: PeerId, kind: Kind, body: &[u8]) {
        let subject = self.subjects.to(to, kind);
        let message =
            Message { subject: subject.as_bytes(), shown_subject: b"", reply: b"", header_len: 0, body };
        if publisher.publish(&self.account, &message) == 0 {
            self.counts.undeliverable.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes what another server says to the groups here.
    pub(super) fn on_frame(&self, frame: Frame) {
        let Frame { from, boot, history, beat, messages } = frame;
        let now = self.clock.mono();
        let mut liveness = self.liveness.lock();
        if self.directory.lock().note_history(from, history, self.history()) {
            let change = liveness.on_stopping(now, from);
            self.tell(change.as_slice());
            self.counts.strangers.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let is_new = liveness.boot_of(from) != boot;
        let Some(mut changes) = liveness.on_frame(now, from, boot) else {
            self.counts.outdated.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if let Some(beat) = &beat {
            changes.extend(liveness.on_beat(now, from, beat));
            if beat.echo_boot > self.boot {
                self.note_later_self(now, from);
            }
        }
        // Under the lock, so that every loop hears of changes in one order, and before what comes after them.
        self.tell(&changes);
        if !messages.is_empty() {
            let unknown = self.loops.take(messages);
            self.counts.unknown_groups.fetch_add(unknown, Ordering::Relaxed);
        }
        drop(liveness);
        self.counts.taken.fetch_add(1, Ordering::Relaxed);
        if is_new {
            self.hurry.notify_one();
        }
    }

    /// A process of a server says that it stops.
    pub(super) fn on_stopping(&self, head: Head) {
        let mut liveness = self.liveness.lock();
        if liveness.boot_of(head.from) != head.boot {
            return;
        }
        let change = liveness.on_stopping(self.clock.mono(), head.from);
        self.tell(change.as_slice());
        self.directory.lock().stopped(head.from, head.boot);
    }

    fn note_later_self(&self, now: Mono, from: PeerId) {
        if self.complaints.occurs(now).is_some() {
            tracing::error!(
                "Server {} knows a later start of this server and does not listen: the clock was set back while the \
                 store was new, or another server is called the same",
                self.shown(from)
            );
        }
    }

    /// A server's name, else its id.
    pub(super) fn shown(&self, peer: PeerId) -> String {
        self.name_of(peer).unwrap_or_else(|| peer.to_string())
    }

    fn tell(&self, changes: &[PeerChange]) {
        if changes.is_empty() {
            return;
        }
        self.loops.peers_changed(changes);
        for change in changes {
            if let PeerChange::Unreachable(peer) | PeerChange::Restarted(peer) = change {
                self.asks.lose(*peer);
            }
        }
    }

    /// Looks which connections there are. Returns the servers that are new.
    fn look_around(&self) -> Vec<PeerId> {
        let now = self.clock.mono();
        let mut liveness = self.liveness.lock();
        let found = self.directory.lock().update(now, self.broker.routed_servers());
        for peer in found.lost {
            let change = liveness.on_disconnected(now, peer);
            self.tell(change.as_slice());
        }
        found.came
    }

    /// Who has been silent for too long, and whether beats are due.
    fn on_timeout(&self) -> bool {
        let mut liveness = self.liveness.lock();
        let (changes, is_due) = liveness.on_timeout(self.clock.mono());
        self.tell(&changes);
        is_due
    }

    fn until_timeout(&self) -> Duration {
        self.liveness.lock().next_timeout().since(self.clock.mono()).max(SLEEP_MIN)
    }

    fn connected(&self) -> Vec<PeerId> {
        self.directory.lock().connected().collect()
    }

    fn beat(&self, publisher: &mut Publisher, peers: &[PeerId]) {
        let now = self.clock.mono();
        let oldest = self.loops.oldest_write(now);
        let history = self.history();
        for peer in peers {
            let beat = Some(self.liveness.lock().beat_for(now, *peer, oldest));
            let frame = Frame { from: self.me, boot: self.boot, history, beat, messages: Vec::new() };
            self.publish(publisher, *peer, Kind::Frame, &frame.encode());
        }
    }
}

/// The task that tells the others that this server is there, and says what has waited.
struct Voice {
    link: Weak<Link>,
    publisher: Publisher,
}

impl Voice {
    async fn run(
        mut self,
        mut sending: mpsc::Receiver<Outgoing>,
        mut servers: watch::Receiver<u64>,
        hurry: Arc<Notify>,
    ) {
        let mut queued = Vec::new();
        loop {
            let planned = self.link.upgrade().map(|link| (link.until_timeout(), link.clock.mono()));
            let Some((sleep, began)) = planned else { return };
            let mut to_beat = ToBeat::Nobody;
            tokio::select! {
                count = sending.recv_many(&mut queued, AT_ONCE) => if count == 0 { return },
                Ok(()) = servers.changed() => to_beat = ToBeat::New,
                () = hurry.notified() => to_beat = ToBeat::All,
                () = tokio::time::sleep(sleep) => to_beat = ToBeat::IfDue,
            }
            let Some(link) = self.link.upgrade() else { return };
            let late = link.clock.mono().since(began).saturating_sub(sleep);
            if late >= STALL_MIN {
                link.note_stall(late);
            }
            for outgoing in queued.drain(..) {
                match outgoing {
                    Outgoing::Say { to, kind, bytes, .. } => {
                        link.publish(&mut self.publisher, to, kind, &bytes);
                    }
                    Outgoing::Stop(done) => {
                        self.say_goodbye(&link);
                        // Whoever waited may have given up.
                        let _ = done.send(());
                        return;
                    }
                }
            }
            let peers = match to_beat {
                ToBeat::Nobody => Vec::new(),
                ToBeat::New => link.look_around(),
                ToBeat::All => link.connected(),
                ToBeat::IfDue if link.on_timeout() => link.connected(),
                ToBeat::IfDue => Vec::new(),
            };
            link.beat(&mut self.publisher, &peers);
            self.publisher.flush();
        }
    }

    fn say_goodbye(&mut self, link: &Link) {
        for peer in link.connected() {
            link.publish(&mut self.publisher, peer, Kind::Stopping, &link.head());
        }
        self.publisher.flush();
    }
}

/// Whom a beat is sent.
enum ToBeat {
    Nobody,
    /// Who has come.
    New,
    All,
    /// All, if it is time.
    IfDue,
}

#[cfg(test)]
mod tests;
