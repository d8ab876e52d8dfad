use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use linnet_links::{Level, Mode, Slot, Thresholds};
use linnet_wire::SubjectPermission;
use linnet_wire::route::{Form, Interest, write_interest};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::RouteUrl;
use super::moving::Asked;
use crate::conn::Conn;
use crate::outbound::Pushed;

/// Longest line between servers: sixteen times a client's.
pub(crate) const LINE_FACTOR: usize = 16;

/// A connection to another server of the cluster.
pub(crate) struct Route {
    pub(crate) conn: Arc<Conn>,
    /// Nothing is to be told any more.
    has_ended: AtomicBool,
    /// How the connection came to be.
    pub(crate) is_dialled: bool,
    pub(crate) is_explicit: bool,
    /// Asks the connection's task to write what others have queued.
    pub(crate) wake: Notify,
    bound: OnceLock<Bound>,
    compression: Mutex<Compression>,
    /// What was dialled.
    url: Option<RouteUrl>,
    /// Different interests of the other side.
    pub(crate) interests: AtomicUsize,
    /// Accounts that the other side has been asked to give connections of their own.
    pub(super) asked: Asked,
    /// User and password that the other side has shown.
    shown: OnceLock<(String, String)>,
    /// What the other side says it imports and exports.
    told: Mutex<RoutePermissions>,
}

/// What a server lets through its routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutePermissions {
    /// Subjects of which it sends interest; `None` for all.
    pub import: Option<SubjectPermission>,
    /// Subjects for which it accepts interest; `None` for all.
    pub export: Option<SubjectPermission>,
}

/// How a route is compressed.
#[derive(Clone, Copy, Debug)]
struct Compression {
    /// As agreed on; `None` before that.
    mode: Option<Mode>,
    /// The level in use.
    level: Option<Level>,
}

/// What is known once a route carries messages.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    /// Id and name of the other server.
    pub(crate) server_id: String,
    pub(crate) server_name: String,
    pub(crate) slot: Slot,
    pub(crate) form: Form,
}

impl Route {
    pub(crate) fn new(conn: Arc<Conn>, url: Option<RouteUrl>, is_explicit: bool) -> Arc<Self> {
        Arc::new(Self {
            conn,
            has_ended: AtomicBool::new(false),
            is_dialled: url.is_some(),
            is_explicit,
            wake: Notify::new(),
            bound: OnceLock::new(),
            compression: Mutex::new(Compression { mode: None, level: None }),
            url,
            interests: AtomicUsize::new(0),
            asked: Asked::default(),
            shown: OnceLock::new(),
            told: Mutex::default(),
        })
    }

    /// What the other side says it imports and exports.
    pub(crate) fn told(&self) -> RoutePermissions {
        self.told.lock().clone()
    }

    /// Notes that. True if it exports something else than before.
    pub(crate) fn note_told(
        &self,
        import: Option<&SubjectPermission>,
        export: Option<&SubjectPermission>,
    ) -> bool {
        let now = RoutePermissions { import: import.cloned(), export: export.cloned() };
        let before = std::mem::replace(&mut *self.told.lock(), now);
        before.export.as_ref() != export
    }

    /// Nothing is to be told to the other side from here on.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    /// What was dialled; `None` if the other side did.
    pub(crate) fn url(&self) -> Option<&RouteUrl> {
        self.url.as_ref()
    }

    /// The other side has shown this.
    pub(crate) fn note_credentials(&self, user: String, password: String) {
        // Whoever shows something else later is not let in by it.
        let _ = self.shown.set((user, password));
    }

    /// True if what the other side has shown lets it in.
    pub(crate) fn shows(&self, wanted: Option<&(String, String)>) -> bool {
        wanted.is_none_or(|wanted| self.shown.get() == Some(wanted))
    }

    /// What is sent from here on is compressed, if the mode says so: at its level, or at the one for the round-trip time.
    pub(crate) fn compress(&self, mode: Mode, thresholds: &Thresholds, rtt: Duration) {
        let level = match mode {
            Mode::At(level) => Some(level),
            Mode::Auto => Some(thresholds.level(rtt)),
            Mode::NotSupported | Mode::Off | Mode::Accept => None,
        };
        let mut compression = self.compression.lock();
        compression.mode = Some(mode);
        if let Some(level) = level
            && compression.level.replace(level) != Some(level)
        {
            self.conn.outbound.compress(packing_level(level));
        }
    }

    /// The handshake ended with this agreement.
    pub(crate) fn agree(&self, mode: Mode) {
        self.compression.lock().mode = Some(mode);
    }

    /// What was agreed on; `None` before that.
    pub(crate) fn compression(&self) -> Option<Mode> {
        self.compression.lock().mode
    }

    /// The level in use, or the mode that uses none.
    pub(crate) fn shown_compression(&self) -> &'static str {
        let Compression { mode, level } = *self.compression.lock();
        level.map_or_else(|| mode.map_or("", Mode::as_str), Level::as_str)
    }

    pub(crate) fn bind(&self, bound: Bound) {
        // A connection shakes hands once.
        let _ = self.bound.set(bound);
    }

    pub(crate) fn bound(&self) -> Option<&Bound> {
        self.bound.get()
    }

    /// What lines look like; before the handshake is over, nothing but it is said.
    pub(crate) fn form(&self) -> Form {
        self.bound.get().map_or(
            Form { has_account: true, has_origin_in_removal: true, max_line: 4096 * LINE_FACTOR },
            |bound| bound.form,
        )
    }

    /// Queues a line of interest; the connection's task writes it.
    pub(crate) fn tell(&self, interest: &Interest<'_>) {
        let mut line = Vec::with_capacity(interest.subject.len() + interest.account.len() + 32);
        write_interest(&mut line, interest, &self.form());
        if let Pushed::Queued { .. } = self.conn.outbound.push(&line) {
            self.wake.notify_one();
        }
    }
}

fn packing_level(level: Level) -> linnet_s2::Level {
    match level {
        Level::Uncompressed => linnet_s2::Level::Uncompressed,
        Level::Fast => linnet_s2::Level::Fast,
        Level::Better => linnet_s2::Level::Better,
        Level::Best => linnet_s2::Level::Best,
    }
}
