use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::account::Account;
use crate::broker::Broker;
use crate::close::CloseReason;
use crate::conn::Conn;
use crate::router::{close_with_text, push_and_flush};

impl Broker {
    /// Marks the server as draining and tells the clients that understand INFO. Returns how many clients are
    /// connected.
    pub fn announce_lame_duck(&self) -> usize {
        self.shared.lame_duck.store(true, Ordering::Relaxed);
        self.shared.info.write().ldm = true;
        if let Some(cluster) = self.shared.cluster.get() {
            cluster.announce_lame_duck(&self.shared);
        }
        let conns = self.connections();
        for conn in conns.iter().filter(|conn| conn.client().wants_info) {
            self.tell_draining(conn);
        }
        conns.len()
    }

    /// Tells one client that the server drains, so that it goes elsewhere; false if it does not understand that.
    pub fn send_away(&self, conn: &Arc<Conn>) -> bool {
        let understands = conn.client().wants_info;
        if understands {
            self.tell_draining(conn);
        }
        understands
    }

    fn tell_draining(&self, conn: &Arc<Conn>) {
        let mut info = self.shared.info.read().clone();
        info.ldm = true;
        info.client_id = conn.cid();
        info.client_ip = conn.peer().ip().to_string();
        let mut line = Vec::new();
        info.encode(&mut line);
        push_and_flush(&self.shared, conn, &line);
    }

    /// Closes a client's connection because an operator says so.
    pub fn kick(&self, conn: &Conn) {
        conn.close(CloseReason::Kicked);
    }

    /// Closes the newest clients of an account, as many as are too many, counting those of other servers.
    pub fn close_surplus(&self, account: &Arc<Account>) {
        let Some(max) = account.limits().max_connections else { return };
        let surplus = (account.connections() + account.connections_elsewhere()).saturating_sub(max);
        let conns = self.connections().into_iter().rev();
        let own = conns.filter(|conn| conn.account().is_some_and(|of| Arc::ptr_eq(&of, account)));
        for conn in own.take(surplus) {
            let text = "maximum account active connections exceeded";
            tracing::error!("{} - {text}", conn.log_prefix());
            close_with_text(&self.shared, &conn, CloseReason::MaximumAccountConnectionsExceeded, text);
        }
    }

    /// Closes the clients one by one, evenly over `spread`, never more than a second apart; each pause is drawn
    /// from the upper half of the interval so that clients of several servers do not move in step.
    pub async fn close_clients_over(&self, spread: Duration) {
        let conns = self.connections();
        if conns.is_empty() {
            return;
        }
        let count = u32::try_from(conns.len()).unwrap_or(u32::MAX);
        let interval = (spread / count).min(Duration::from_secs(1));
        let half = u64::try_from(interval.as_nanos() / 2).unwrap_or(u64::MAX);
        for conn in conns {
            conn.note_reason(CloseReason::ServerShutdown);
            conn.outbound.finish(&self.shared.runtime, std::net::Shutdown::Both);
            tokio::time::sleep(Duration::from_nanos(half + self.shared.rng.below(half + 1))).await;
        }
    }
}
