use std::net::SocketAddr;

use parking_lot::RwLock;

/// What a listener is for. The names are those of `/healthz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// Clients.
    Server,
    /// Servers of the same cluster.
    Route,
    /// Other clusters.
    Gateway,
    /// Leafnodes.
    Leafnode,
    /// Clients over WebSocket.
    Websocket,
    /// MQTT clients.
    Mqtt,
}

impl ListenerKind {
    /// Name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Route => "route",
            Self::Gateway => "gateway",
            Self::Leafnode => "leafnode",
            Self::Websocket => "websocket",
            Self::Mqtt => "mqtt",
        }
    }
}

/// The listeners the configuration asks for and which of them accept connections. Whoever opens and closes them
/// says so here; the server is ready when all are open.
#[derive(Debug, Default)]
pub struct Listeners(RwLock<Vec<Listener>>);

#[derive(Clone, Debug)]
struct Listener {
    kind: ListenerKind,
    is_open: bool,
    /// Last address, kept when the listener closes: monitoring goes on naming it.
    addr: Option<SocketAddr>,
    error: Option<String>,
}

impl Listeners {
    /// Listeners that are not open yet.
    pub fn expecting(kinds: impl IntoIterator<Item = ListenerKind>) -> Self {
        let closed = |kind| Listener { kind, is_open: false, addr: None, error: None };
        Self(RwLock::new(kinds.into_iter().map(closed).collect()))
    }

    /// A listener accepts connections on `addr`.
    pub fn opened(&self, kind: ListenerKind, addr: SocketAddr) {
        self.change(kind, |l| {
            l.is_open = true;
            l.addr = Some(addr);
            l.error = None;
        });
    }

    /// A listener could not be opened.
    pub fn failed(&self, kind: ListenerKind, error: &str) {
        self.change(kind, |l| {
            l.is_open = false;
            l.error = Some(error.to_owned());
        });
    }

    /// A listener accepts no more connections, as in lame duck mode.
    pub fn closed(&self, kind: ListenerKind) {
        self.change(kind, |l| l.is_open = false);
    }

    fn change(&self, kind: ListenerKind, change: impl FnOnce(&mut Listener)) {
        if let Some(listener) = self.0.write().iter_mut().find(|l| l.kind == kind) {
            change(listener);
        }
    }

    /// The address last listened on.
    pub fn address(&self, kind: ListenerKind) -> Option<SocketAddr> {
        self.0.read().iter().find(|l| l.kind == kind)?.addr
    }

    /// Names of the listeners that are not open, with the error of those that failed.
    pub fn missing(&self) -> Vec<String> {
        let describe = |l: &Listener| match &l.error {
            Some(error) => format!("{}({error})", l.kind.as_str()),
            None => l.kind.as_str().to_owned(),
        };
        self.0.read().iter().filter(|l| !l.is_open).map(describe).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{ListenerKind, Listeners};

    #[test]
    fn missing_listeners_are_named_and_addresses_outlive_them() {
        let addr = "127.0.0.1:4222".parse().unwrap();
        let listeners = Listeners::expecting([ListenerKind::Server, ListenerKind::Route]);
        assert_eq!(listeners.missing(), ["server", "route"]);
        listeners.opened(ListenerKind::Server, addr);
        listeners.failed(ListenerKind::Route, "in use");
        assert_eq!(listeners.missing(), ["route(in use)"]);
        listeners.closed(ListenerKind::Server);
        assert_eq!(listeners.missing(), ["server", "route(in use)"]);
        assert_eq!(listeners.address(ListenerKind::Server), Some(addr));
    }
}
