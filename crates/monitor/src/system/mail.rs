//! What arrives for the system's services, from the tasks of connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use linnet_broker::{Account, Conn, Delivery, Observer, Sink};
use tokio::sync::{Notify, mpsc};

/// Requests that wait at a time; further ones are not answered.
const REQUESTS_MAX: usize = 4096;
/// Events that wait at a time; further ones are not told.
const EVENTS_MAX: usize = 65_536;

/// A message for the services.
pub(super) struct Request {
    pub(super) account: Arc<Account>,
    pub(super) conn: Option<Arc<Conn>>,
    pub(super) subject: String,
    pub(super) reply: Vec<u8>,
    pub(super) headers: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

/// What has happened.
pub(super) enum Event {
    Connected(Arc<Conn>, Arc<Account>),
    Disconnected(Arc<Conn>),
    Refused(Arc<Conn>),
}

/// The end that others put mail into.
pub(super) struct Postbox {
    requests: mpsc::Sender<Request>,
    events: mpsc::Sender<Event>,
    /// Somebody has to look who is there. No news of a server waits behind clients' events, or is lost among them.
    servers: Arc<Notify>,
    dropped: AtomicU64,
}

/// The end that mail is taken from.
pub(super) struct Mail {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) events: mpsc::Receiver<Event>,
    /// Which servers there are routes to may be different from when this was waited for last.
    pub(super) servers: Arc<Notify>,
}

/// Both ends.
pub(super) fn mail() -> (Arc<Postbox>, Mail) {
    let (requests, from_requests) = mpsc::channel(REQUESTS_MAX);
    let (events, from_events) = mpsc::channel(EVENTS_MAX);
    let servers = Arc::new(Notify::new());
    let postbox = Postbox { requests, events, servers: servers.clone(), dropped: AtomicU64::new(0) };
    (Arc::new(postbox), Mail { requests: from_requests, events: from_events, servers })
}

impl Postbox {
    fn tell(&self, event: Event) {
        self.note(self.events.try_send(event).is_ok());
    }

    fn note(&self, has_room: bool) {
        if !has_room {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many have found no room since the last call.
    pub(super) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

impl Sink for Postbox {
    fn deliver(&self, delivery: &Delivery<'_>) {
        let Ok(subject) = std::str::from_utf8(delivery.subject) else { return };
        let request = Request {
            account: delivery.account.clone(),
            conn: delivery.origin.cloned(),
            subject: subject.to_owned(),
            reply: delivery.reply.to_vec(),
            headers: delivery.headers().to_vec(),
            payload: delivery.payload().to_vec(),
        };
        self.note(self.requests.try_send(request).is_ok());
    }
}

impl Observer for Postbox {
    fn connected(&self, conn: &Arc<Conn>, account: &Arc<Account>) {
        self.tell(Event::Connected(conn.clone(), account.clone()));
    }

    fn disconnected(&self, conn: &Arc<Conn>) {
        self.tell(Event::Disconnected(conn.clone()));
    }

    fn refused(&self, conn: &Arc<Conn>) {
        self.tell(Event::Refused(conn.clone()));
    }

    fn servers_changed(&self) {
        self.servers.notify_one();
    }
}
