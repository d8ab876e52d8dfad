use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use linnet_links::propagation::Place;

use crate::cluster::Route;
use crate::conn::Conn;
use crate::sink::Sink;

/// One subscription of a client or of a service inside the server.
pub struct Subscription {
    /// Subject, may have wildcards.
    pub subject: Box<[u8]>,
    /// Queue group.
    pub queue: Option<Box<[u8]>>,
    /// The client's name for it; empty for services.
    pub sid: Box<[u8]>,
    pub(crate) target: Target,
    /// Stands in for another account's service, so that others need not know of it.
    pub(crate) is_import: bool,
    /// Members of the queue group that it stands for.
    pub(crate) weight: AtomicU32,
    /// Messages on subjects denied to the receiver must be kept from it.
    pub(crate) filtered: AtomicBool,
    /// Ends after this many deliveries; 0 for never.
    pub(crate) max: AtomicU64,
    /// Written under the lock of the connection's outbound queue.
    pub(crate) delivered: AtomicU64,
    /// Deliveries counted towards `max`: all before it was set, and those begun since.
    pub(crate) claimed: AtomicU64,
    pub(crate) closed: AtomicBool,
    /// Other servers count it. Changes under the lock of the account's announcer.
    pub(crate) announced: AtomicBool,
}

/// Where deliveries go.
pub(crate) enum Target {
    Client(Arc<Conn>),
    Sink(Arc<dyn Sink>),
    /// To whoever is interested on another server.
    Route(Arc<Route>),
}

impl Subscription {
    /// A subscription to nothing yet.
    pub(crate) fn new(target: Target) -> Self {
        Self {
            subject: Box::default(),
            queue: None,
            sid: Box::default(),
            target,
            is_import: false,
            weight: AtomicU32::new(1),
            filtered: AtomicBool::new(false),
            max: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            claimed: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            announced: AtomicBool::new(false),
        }
    }

    /// Where it is, as others are concerned.
    pub(crate) fn place(&self) -> Place {
        match self.target {
            Target::Route(_) => Place::Route,
            Target::Client(_) | Target::Sink(_) if self.is_import => Place::Import,
            Target::Client(_) | Target::Sink(_) => Place::Local,
        }
    }

    /// True if it is another server's.
    pub fn is_remote(&self) -> bool {
        matches!(self.target, Target::Route(_))
    }

    /// Messages delivered so far.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Deliveries after which it ends.
    pub fn max(&self) -> Option<u64> {
        Some(self.max.load(Ordering::Relaxed)).filter(|max| *max > 0)
    }

    /// The connection it belongs to; `None` for services.
    pub fn conn(&self) -> Option<&Arc<Conn>> {
        match &self.target {
            Target::Client(conn) => Some(conn),
            Target::Sink(_) | Target::Route(_) => None,
        }
    }

    /// The connection that its messages go to; `None` for services.
    pub(crate) fn receiver(&self) -> Option<&Arc<Conn>> {
        self.route().map(|route| &route.conn).or_else(|| self.conn())
    }

    /// The route to the server it belongs to; `None` for those of this server.
    pub(crate) fn route(&self) -> Option<&Arc<Route>> {
        match &self.target {
            Target::Route(route) => Some(route),
            Target::Client(_) | Target::Sink(_) => None,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// A shared subscription; equality is identity.
#[derive(Clone)]
pub struct SubRef(pub(crate) Arc<Subscription>);

impl PartialEq for SubRef {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for SubRef {
    type Target = Subscription;

    fn deref(&self) -> &Subscription {
        &self.0
    }
}
