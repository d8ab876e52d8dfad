//! The system account: what servers tell each other and operators of themselves, and what they can be asked
//! (monitoring, "System services over NATS" and "Events").
//!
//! One task owns all of it. Messages and events come to it through bounded queues (`mail`); reports, which may have to
//! wait for streams, are made by tasks of their own and are those of the HTTP pages (`reports`).

mod counting;
mod description;
mod events;
mod mail;
mod relay;
mod reply;
mod reports;
mod request;
mod servers;
mod services;
mod subscriptions;
mod user;
mod voice;

use std::sync::Arc;
use std::time::Duration;

use linnet_broker::{Account, Publisher};
use linnet_env::NameSource;
use linnet_ids::node_hash;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use self::counting::Counts;
use self::description::ServerDescription;
use self::mail::{Event, Mail, Postbox};
use self::relay::Relay;
use self::servers::Servers;
use self::subscriptions::Subscriptions;
use self::voice::Voice;
use crate::monitor::Monitor;

/// First pause between two broadcasts of a server's numbers; each is twice as long as the one before.
const BROADCAST_FIRST: Duration = Duration::from_millis(250);
/// Longest pause.
const BROADCAST_MAX: Duration = Duration::from_secs(10);
/// Shortest pause before a broadcast that something else asks for.
const BROADCAST_MIN: Duration = Duration::from_secs(1);
/// How often connections of accounts are told although they have not changed.
const CONNECTIONS_EVERY: Duration = Duration::from_secs(30);
/// Events taken from the queue at a time.
const EVENTS_AT_ONCE: usize = 256;
/// Reports that are made at a time.
const REPORTS_MAX: usize = 64;

/// A reload that somebody asks for over NATS; the answer is what is wrong with it.
pub type ReloadRequest = oneshot::Sender<Result<(), String>>;

/// How a server leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// It drains.
    LameDuck,
    /// It stops.
    Shutdown,
}

/// What the server tells its system services.
enum Command {
    AccountsChanged,
    Leave(Leaving, oneshot::Sender<()>),
}

/// The server's hold on its system services. They end when it is dropped.
pub struct SystemHandle(mpsc::Sender<Command>);

/// The services' own state; only their task touches it.
struct System {
    monitor: Arc<Monitor>,
    voice: Voice,
    publisher: Publisher,
    names: NameSource,
    /// Token of this server in the subjects that answers come back to.
    node: String,
    postbox: Arc<Postbox>,
    subscriptions: Subscriptions,
    servers: Servers,
    relay: Relay,
    counts: Counts,
    reports: JoinSet<()>,
    reloads: mpsc::Sender<ReloadRequest>,
    schedule: Schedule,
}

/// When the server's numbers are broadcast.
struct Schedule {
    next: Instant,
    pause: Duration,
    last: Option<Instant>,
}

impl Schedule {
    fn new(now: Instant) -> Self {
        Self { next: now + BROADCAST_FIRST, pause: BROADCAST_FIRST, last: None }
    }

    /// A regular broadcast is made.
    fn made(&mut self, now: Instant) {
        self.last = Some(now);
        self.pause = (self.pause * 2).min(BROADCAST_MAX);
        self.next = now + self.pause;
    }

    /// Somebody wants one: at once, unless the last one was just made.
    fn hurry(&mut self, now: Instant) {
        let earliest = self.last.map_or(now, |last| (last + BROADCAST_MIN).max(now));
        self.next = self.next.min(earliest);
    }
}

impl SystemHandle {
    /// The accounts are others than before.
    pub async fn accounts_changed(&self) {
        // Fails only while the server stops.
        let _ = self.0.send(Command::AccountsChanged).await;
    }

    /// Tells everybody that the server leaves. Returns when that is written.
    pub async fn leave(&self, how: Leaving) {
        let (done, is_done) = oneshot::channel();
        if self.0.send(Command::Leave(how, done)).await.is_ok() {
            let _ = is_done.await;
        }
    }
}

impl Monitor {
    /// Starts the system services. Called before there are connections; reloads that are asked for go to `reloads`.
    pub fn serve_system(self: &Arc<Self>, reloads: mpsc::Sender<ReloadRequest>) -> SystemHandle {
        let (commands, obeyed) = mpsc::channel(16);
        let (postbox, mail) = mail::mail();
        self.broker().observe(postbox.clone());
        let mut system = System {
            voice: Voice::new(self.clone()),
            publisher: self.broker().publisher(),
            names: NameSource::new(),
            node: node_hash(&self.server_name()),
            subscriptions: Subscriptions::default(),
            servers: Servers::default(),
            relay: Relay::default(),
            counts: Counts::default(),
            reports: JoinSet::new(),
            schedule: Schedule::new(Instant::now()),
            monitor: self.clone(),
            postbox,
            reloads,
        };
        system.subscribe();
        tokio::spawn(system.run(mail, obeyed));
        SystemHandle(commands)
    }
}

impl System {
    async fn run(mut self, mut mail: Mail, mut commands: mpsc::Receiver<Command>) {
        let mut events = Vec::new();
        let mut ticks = tokio::time::interval(CONNECTIONS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    None => return,
                    Some(command) => self.obey(command),
                },
                Some(request) = mail.requests.recv() => self.serve(request).await,
                () = mail.servers.notified() => self.look_around(),
                _ = mail.events.recv_many(&mut events, EVENTS_AT_ONCE) => self.tell(&mut events),
                () = tokio::time::sleep_until(self.schedule.next) => {
                    self.broadcast();
                    self.schedule.made(Instant::now());
                }
                _ = ticks.tick() => self.tick(),
                () = at(self.counts.due()) => self.answer_late_counts(),
                Some(_) = self.reports.join_next() => {}
            }
            self.publisher.flush();
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::AccountsChanged => {
                self.subscribe();
                self.schedule.hurry(Instant::now());
            }
            Command::Leave(how, done) => {
                let verb = match how {
                    Leaving::LameDuck => "LAMEDUCK",
                    Leaving::Shutdown => "SHUTDOWN",
                };
                let subject = format!("$SYS.SERVER.{}.{verb}", self.monitor.server_id());
                let description = self.describe();
                self.publish(&subject, &reply::text(&description));
                self.publisher.flush();
                // Whoever waited may have given up.
                let _ = done.send(());
            }
        }
    }

    /// What is due from time to time.
    fn tick(&mut self) {
        let now = self.monitor.broker().clock().mono();
        for account in self.servers.expire(now) {
            self.recount(&account);
        }
        let dropped = self.postbox.take_dropped();
        for account in self.monitor.broker().accounts() {
            if is_due(&account, dropped) {
                self.tell_connections(account.name());
            }
        }
        if dropped > 0 {
            tracing::warn!("System services: {dropped} messages or events found no room");
        }
    }

    /// Tells of events. The connections of an account are told once for all of them, and first.
    fn tell(&mut self, events: &mut Vec<Event>) {
        let mut changed: Vec<Arc<Account>> = Vec::new();
        for event in events.iter() {
            let account = match event {
                Event::Connected(_, account) => Some(account.clone()),
                Event::Disconnected(conn) => conn.account(),
                _ => None,
            };
            if let Some(account) = account
                && !changed.iter().any(|known| Arc::ptr_eq(known, &account))
            {
                changed.push(account);
            }
        }
        for account in &changed {
            self.tell_connections(account.name());
        }
        for event in events.drain(..) {
            match event {
                Event::Connected(conn, account) => {
                    // It may be gone again by now.
                    if account.connections() <= 1 {
                        self.ask_for_connections(account.name());
                    }
                    self.tell_connected(&conn, account.name());
                }
                Event::Disconnected(conn) => self.tell_disconnected(&conn),
                Event::Refused(conn) => self.tell_refused(&conn),
            }
        }
    }

    /// Compares who is there with who was.
    fn look_around(&mut self) {
        let broker = self.monitor.broker();
        let (present, now) = (broker.connected_servers(), broker.clock().mono());
        let found = self.servers.compare(present, now);
        for account in &found.left_by {
            self.recount(account);
        }
        if found.has_new {
            self.schedule.hurry(Instant::now());
        }
    }

    fn describe(&self) -> ServerDescription {
        self.voice.describe()
    }

    /// True if somebody in the system account listens to the subject.
    fn is_heard(&self, subject: &str) -> bool {
        self.subscriptions.system().is_some_and(|account| account.has_interest(subject.as_bytes()))
    }

    /// Publishes in the system account.
    fn publish(&mut self, subject: &str, payload: &[u8]) {
        if let Some(account) = self.subscriptions.system().cloned() {
            self.publish_in(&account, subject, payload);
        }
    }

    fn publish_in(&mut self, account: &Arc<Account>, subject: &str, payload: &[u8]) {
        voice::publish(&mut self.publisher, account, subject.as_bytes(), b"", 0, payload);
    }
}

/// Waits until then; without a time, for ever.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// True if others are told how many connections an account has: if it has any. If events have been lost, the end of its
/// last one may be among them.
fn is_due(account: &Account, dropped: u64) -> bool {
    account.connections() > 0 || dropped > 0
}

#[cfg(test)]
mod tests {
    use linnet_broker::AccountLimits;

    use super::*;

    #[test]
    fn accounts_without_connections_are_told_of_if_that_may_be_news() {
        let account = Account::new("A", false, AccountLimits::default());
        assert!(!is_due(&account, 0));
        assert!(is_due(&account, 1));
    }

    #[tokio::test]
    async fn news_of_servers_wait_for_whoever_looks_later() {
        let (postbox, mail) = mail::mail();
        let observer: &dyn linnet_broker::Observer = postbox.as_ref();
        (0..2).for_each(|_| observer.servers_changed());
        mail.servers.notified().await;
        assert!(futures_util::FutureExt::now_or_never(mail.servers.notified()).is_none(), "once is enough");
        assert_eq!(postbox.take_dropped(), 0);
    }

    #[test]
    fn broadcasts_are_regular_and_hurried_ones_a_second_apart() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let due = schedule.next;
            pauses.push((due - schedule.last.unwrap_or(start)).as_millis());
            schedule.made(due);
        }
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        let made = schedule.last.unwrap();
        schedule.hurry(made + Duration::from_millis(400));
        assert_eq!(schedule.next, made + BROADCAST_MIN);
        schedule.made(made + Duration::from_secs(1));
        schedule.hurry(made + Duration::from_secs(5));
        assert_eq!(schedule.next, made + Duration::from_secs(5));
    }
}
