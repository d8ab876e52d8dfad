use std::sync::Arc;

use crate::account::Account;
use crate::broker::Broker;
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

impl Broker {
    /// Sets who watches; called once, before there are connections.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        // A server has one observer.
        let _ = self.shared.observer.set(observer);
    }
}
