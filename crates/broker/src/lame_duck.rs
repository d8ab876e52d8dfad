use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::broker::Broker;
use crate::close::CloseReason;
use crate::router::push_and_flush;

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
        for conn in &conns {
            if conn.client().wants_info {
                let mut info = self.shared.info.read().clone();
                info.client_id = conn.cid();
                info.client_ip = conn.peer().ip().to_string();
                let mut line = Vec::new();
                info.encode(&mut line);
                push_and_flush(&self.shared, conn, &line);
            }
        }
        conns.len()
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
