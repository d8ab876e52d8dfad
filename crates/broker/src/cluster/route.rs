use std::sync::{Arc, OnceLock};

use linnet_links::Slot;
use linnet_wire::route::{Form, Interest, write_interest};
use tokio::sync::Notify;

use crate::conn::Conn;
use crate::outbound::Pushed;

/// Longest line between servers: sixteen times a client's.
pub(crate) const LINE_FACTOR: usize = 16;

/// A connection to another server of the cluster.
pub(crate) struct Route {
    pub(crate) conn: Arc<Conn>,
    /// How the connection came to be.
    pub(crate) is_dialled: bool,
    pub(crate) is_explicit: bool,
    /// Asks the connection's task to write what others have queued.
    pub(crate) wake: Notify,
    bound: OnceLock<Bound>,
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
    pub(crate) fn new(conn: Arc<Conn>, is_dialled: bool, is_explicit: bool) -> Arc<Self> {
        Arc::new(Self { conn, is_dialled, is_explicit, wake: Notify::new(), bound: OnceLock::new() })
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
