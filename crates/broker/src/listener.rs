use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::accepting::{AcceptPause, takes_one_of_the_last};
use crate::broker::Broker;
use crate::close::CloseReason;
use crate::conn::{Conn, ConnKind};
use crate::link::Link;
use crate::listen::{canonical, listen};
use crate::registry::{ClosedConn, describe};
use crate::router::close_with_text;
use crate::session::{Session, greeting};
use crate::sweeper;

/// How often the end of the server is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Broker {
    /// Binds the client listener; returns the address in use, too. Connections are accepted after [`Broker::serve`].
    pub fn bind(&self, addr: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
        let _runtime = self.shared.runtime.enter();
        listen(addr)
    }

    /// Accepts and serves clients until `stop` turns true.
    pub async fn serve(&self, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let sweeper = tokio::spawn(sweeper::run(self.shared.clone()));
        let mut pause = AcceptPause::default();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause.end();
                    self.accept(stream, canonical(peer));
                }
                Err(e) => pause.after("client", &e).await,
            }
        }
        drop(listener);
        // Keep-alives go on until the server has closed its connections.
        let shared = self.shared.clone();
        tokio::spawn(async move {
            while !shared.stopping.load(Ordering::Relaxed) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            sweeper.abort();
        });
    }

    fn accept(&self, stream: TcpStream, peer: SocketAddr) {
        let shared = &self.shared;
        // Messages are batched by us, not by the kernel.
        let _ = stream.set_nodelay(true);
        let is_one_of_the_last = takes_one_of_the_last(&stream);
        let link = Arc::new(Link::new(stream));
        let (wall, mono) = (shared.clock.wall(), shared.clock.mono());
        let conn =
            Arc::new(Conn::new(ConnKind::Client, shared.registry.next_cid(), peer, link.clone(), wall, mono));
        shared.stats.total_connections.fetch_add(1, Ordering::Relaxed);
        let config = shared.config.load_full();
        let limit = shared.tls.load().as_ref().and_then(|policy| policy.rate_limit);
        if limit.is_some_and(|limit| !shared.connection_rate.admits(limit, mono)) {
            conn.outbound.push(&greeting(shared, &conn));
            let text = "Connection throttling is active. Please try again later.";
            close_with_text(shared, &conn, CloseReason::MaximumConnectionsExceeded, text);
            remember(self, &conn);
            return;
        }
        let is_admitted = !is_one_of_the_last && shared.registry.admit(&conn, config.max_connections);
        if !is_admitted {
            let why = if is_one_of_the_last { ": few file descriptors are left" } else { "" };
            tracing::error!("{} - maximum connections exceeded{why}", conn.log_prefix());
            conn.outbound.push(&greeting(shared, &conn));
            close_with_text(
                shared,
                &conn,
                CloseReason::MaximumConnectionsExceeded,
                "maximum connections exceeded",
            );
            remember(self, &conn);
            return;
        }
        tracing::debug!("{} - Client connection created", conn.log_prefix());
        let broker = self.clone();
        tokio::spawn(async move {
            Session::new(broker.shared.clone(), conn.clone(), link).run().await;
            broker.shared.registry.remove(conn.cid());
            let reason = conn.close_reason().unwrap_or(CloseReason::ClientClosed);
            tracing::debug!("{} - Client connection closed: {}", conn.log_prefix(), reason.as_str());
            remember(&broker, &conn);
            release(&conn);
            if let Some(observer) = broker.shared.observer.get() {
                observer.disconnected(&conn);
            }
        });
    }

    /// Closes every client connection, telling nobody why but monitoring.
    pub fn close_clients(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for conn in self.shared.registry.all() {
            conn.note_reason(CloseReason::ServerShutdown);
            conn.outbound.finish(&self.shared.runtime, std::net::Shutdown::Both);
        }
    }
}

fn remember(broker: &Broker, conn: &Arc<Conn>) {
    let shared = &broker.shared;
    let last = conn.snapshot(shared.clock.mono());
    let closed = ClosedConn {
        subscriptions: describe(&conn.subscriptions()),
        last,
        stop: shared.clock.wall(),
        reason: conn.close_reason().unwrap_or(CloseReason::ClientClosed),
    };
    shared.registry.remember(closed, shared.config.load().max_closed_clients);
}

/// Undoes what the connection did to its account and breaks the cycle between it and its subscriptions.
fn release(conn: &Arc<Conn>) {
    conn.outbound.close();
    let subs: Vec<_> = conn.subs.lock().drain().map(|(_, sub)| sub).collect();
    if let Some(account) = conn.account() {
        subs.iter().for_each(|sub| account.remove(sub));
        account.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
