use std::sync::Arc;

use tokio::sync::watch;

use crate::account::Account;
use crate::broker::{Broker, Shared};
use crate::conn::Conn;

/// Watches connections and other servers come and go. Calls come from the tasks of connections: an observer neither
/// blocks nor publishes, it copies into a bounded queue and returns.
pub trait Observer: Send + Sync {
    /// A client has been let into its account.
    fn connected(&self, conn: &Arc<Conn>, account: &Arc<Account>);

    /// A client is gone, whether it was let in or not.
    fn disconnected(&self, conn: &Arc<Conn>);

    /// A client's login has been refused; it is gone soon.
    fn refused(&self, conn: &Arc<Conn>);

    /// Other servers have come or gone: [`Broker::connected_servers`] says who is there now.
    fn servers_changed(&self);
}

impl Shared {
    /// Other servers have come, gone, or are not what they were.
    pub(crate) fn servers_changed(&self) {
        self.routes_changed();
        if let Some(observer) = self.observer.get() {
            observer.servers_changed();
        }
    }

    /// The connections to other servers are not those that they were.
    pub(crate) fn routes_changed(&self) {
        self.servers.send_modify(|changes| *changes += 1);
    }
}

impl Broker {
    /// Changes whenever other servers or connections to them have come, gone or are not what they were: [`Broker::routed_servers`] and
    /// [`Broker::configured_routes`] may say something else then.
    pub fn watch_servers(&self) -> watch::Receiver<u64> {
        self.shared.servers.subscribe()
    }

    /// Sets who watches; called once, before there are connections.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        // A server has one observer.
        let _ = self.shared.observer.set(observer);
    }
}
