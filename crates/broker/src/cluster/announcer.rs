use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use linnet_auth::Permissions;
use linnet_links::{Change, Key, Tally};
use linnet_wire::route::Interest;
use parking_lot::Mutex;

use super::permissions::may_tell;
use super::route::Route;
use crate::subscription::Subscription;

/// Tells other servers who is interested in an account's messages here.
#[derive(Default)]
pub(crate) struct Announcer {
    /// The server is part of a cluster.
    is_on: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tally: Tally,
    /// One route per other server.
    routes: Vec<Arc<Route>>,
    /// What they may be told of; `None` for everything.
    permissions: Option<Arc<Permissions>>,
}

impl Announcer {
    /// Starts counting. Called before the account has subscriptions.
    pub(crate) fn switch_on(&self, permissions: Option<Arc<Permissions>>) {
        self.state.lock().permissions = permissions;
        self.is_on.store(true, Ordering::Relaxed);
    }

    /// From here on other servers are told of what these permissions allow. They hear of what they did not know yet, and
    /// that what they may not know any more is gone.
    pub(crate) fn permit(&self, account: &str, permissions: Option<Arc<Permissions>>) {
        let state = &mut *self.state.lock();
        let before = std::mem::replace(&mut state.permissions, permissions);
        for change in state.tally.all() {
            let subject = &change.key.subject;
            let (was, is) =
                (may_tell(before.as_deref(), subject), may_tell(state.permissions.as_deref(), subject));
            if was != is {
                let weight = if is { change.weight } else { 0 };
                send(&state.routes, account, &Change { key: change.key, weight });
            }
        }
    }

    /// Tells a route everything once more: its other side takes more of it now.
    pub(crate) fn repeat(&self, account: &str, route: &Arc<Route>) {
        let state = &*self.state.lock();
        if state.routes.iter().any(|other| Arc::ptr_eq(other, route)) {
            state.tally.all().for_each(|change| state.tell(std::slice::from_ref(route), account, &change));
        }
    }

    /// A subscription has come. Somebody else may be ending it at the same time: whoever gets the lock last finds out.
    pub(crate) fn add(&self, account: &str, sub: &Subscription) {
        if self.is_on.load(Ordering::Relaxed) {
            // What is told under the lock is told in the order of the changes.
            let State { tally, routes, permissions } = &mut *self.state.lock();
            if sub.is_closed() {
                return;
            }
            sub.announced.store(true, Ordering::Relaxed);
            tally.add(key(sub), |change| tell(routes, permissions.as_deref(), account, &change));
        }
    }

    /// A subscription is gone, and closed.
    pub(crate) fn remove(&self, account: &str, sub: &Subscription) {
        if self.is_on.load(Ordering::Relaxed) {
            let State { tally, routes, permissions } = &mut *self.state.lock();
            if !sub.announced.swap(false, Ordering::Relaxed) {
                return;
            }
            tally.remove(key(sub), |change| tell(routes, permissions.as_deref(), account, &change));
        }
    }

    /// A route that carries the account is there: it is told everything, once, and every change from here on.
    pub(crate) fn join(&self, account: &str, route: &Arc<Route>) {
        let state = &mut *self.state.lock();
        // Whoever ends a route says so before it takes it away here.
        if route.has_ended() || state.routes.iter().any(|other| Arc::ptr_eq(other, route)) {
            return;
        }
        for change in state.tally.all() {
            state.tell(std::slice::from_ref(route), account, &change);
        }
        state.routes.push(route.clone());
    }

    /// The account has a connection of its own to the other side of a route, which is told what it knew is gone.
    pub(crate) fn take_back(&self, account: &str, route: &Arc<Route>) {
        let state = &mut *self.state.lock();
        let Some(at) = state.routes.iter().position(|other| Arc::ptr_eq(other, route)) else { return };
        let route = state.routes.swap_remove(at);
        for change in state.tally.all() {
            state.tell(std::slice::from_ref(&route), account, &Change { weight: 0, ..change });
        }
    }

    /// The route is gone, or does not carry the account any more.
    pub(crate) fn leave(&self, route: &Arc<Route>) {
        self.state.lock().routes.retain(|other| !Arc::ptr_eq(other, route));
    }
}

fn key(sub: &Subscription) -> Key {
    Key { origin: None, subject: sub.subject.clone(), queue: sub.queue.clone() }
}

impl State {
    fn tell(&self, routes: &[Arc<Route>], account: &str, change: &Change<'_>) {
        tell(routes, self.permissions.as_deref(), account, change);
    }
}

/// Tells routes of a change, if they may know of it.
fn tell(routes: &[Arc<Route>], permissions: Option<&Permissions>, account: &str, change: &Change<'_>) {
    if may_tell(permissions, &change.key.subject) {
        send(routes, account, change);
    }
}

fn send(routes: &[Arc<Route>], account: &str, change: &Change<'_>) {
    let interest = Interest {
        origin: change.key.origin.as_deref(),
        account: account.as_bytes(),
        subject: &change.key.subject,
        queue: change.key.queue.as_deref(),
        weight: change.weight,
    };
    routes.iter().for_each(|route| route.tell(&interest));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use linnet_env::{Clock as _, RealClock};

    use super::*;
    use crate::account::{Account, AccountLimits};
    use crate::conn::{Conn, ConnKind};
    use crate::link::Link;
    use crate::subscription::{SubRef, Target};

    /// A route to nobody who reads.
    async fn route() -> (Arc<Route>, tokio::net::TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let clock = RealClock::new();
        let conn =
            Conn::new(ConnKind::Route, 1, peer, Arc::new(Link::new(stream)), clock.wall(), clock.mono());
        (Route::new(Arc::new(conn), None, false), far)
    }

    fn subscription(route: &Arc<Route>) -> SubRef {
        let target = Target::Client(route.conn.clone());
        SubRef(Arc::new(Subscription { subject: b"a".as_slice().into(), ..Subscription::new(target) }))
    }

    #[tokio::test]
    async fn others_hear_of_what_is_there_already() {
        let (route, _far) = route().await;
        let account = Account::new("A", false, AccountLimits::default());
        account.announcer.switch_on(None);
        account.announcer.join("A", &route);
        let sub = subscription(&route);
        let inserting = account.while_nothing_is_inserted(|| {
            let (account, sub) = (account.clone(), sub.clone());
            let inserting = std::thread::spawn(move || account.insert(&sub));
            let clock = RealClock::new();
            let begun = clock.mono();
            while clock.mono().since(begun) < Duration::from_millis(100) {
                assert_eq!(route.conn.outbound.pending(), 0, "a message for it would be lost");
                std::thread::yield_now();
            }
            inserting
        });
        inserting.join().unwrap();
        assert!(account.has_interest(b"a") && route.conn.outbound.pending() > 0);
    }

    #[tokio::test]
    async fn what_ends_before_it_is_told_is_not_told_at_all() {
        let (route, _far) = route().await;
        let account = Account::new("A", false, AccountLimits::default());
        account.announcer.switch_on(None);
        account.announcer.join("A", &route);
        let sub = subscription(&route);
        account.insert_untold(&sub);
        account.remove(&sub);
        account.announcer.add("A", &sub);
        assert_eq!(route.conn.outbound.pending(), 0);
        assert!(account.announcer.state.lock().tally.is_empty());
    }
}
