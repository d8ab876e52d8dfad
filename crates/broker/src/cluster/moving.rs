//! Accounts that get connections of their own by a reload (cluster protocols, "Async INFO").
//!
//! The server that is reloaded asks every other one, by the places of the pool that the account has had. From there on
//! neither tells its interest by the pool, and what has been told is forgotten: by the other one when it is asked, by this
//! one when that is confirmed. Then this server dials.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use linnet_links::Slot;
use linnet_wire::ServerInfo;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::route::Route;
use super::{Cluster, RouteUrl, dial, host_of};
use crate::broker::Shared;
use crate::router::push_and_flush;

/// How long others may take to confirm.
const CONFIRM: Duration = Duration::from_secs(2);

/// What the other side of a route has been asked and has not confirmed, in order.
#[derive(Default)]
pub(crate) struct Asked(Mutex<VecDeque<Question>>);

struct Question {
    request: String,
    account: String,
    confirmed: mpsc::Sender<()>,
}

impl Asked {
    /// The account that is confirmed to move, if that was asked for.
    fn confirm(&self, request: &str) -> Option<String> {
        let mut asked = self.0.lock();
        // What was asked before is not answered any more.
        let at = asked.iter().position(|question| question.request == request)?;
        let question = asked.drain(..=at).next_back()?;
        // There is room for every answer; whoever waited may have given up.
        let _ = question.confirmed.try_send(());
        Some(question.account)
    }
}

/// Answers that a reload waits for.
pub(super) struct Confirmations {
    answers: mpsc::Receiver<()>,
    missing: usize,
}

impl Confirmations {
    /// Waits until all are there, for a bounded time.
    pub(super) async fn wait(mut self) {
        let until = Instant::now() + CONFIRM;
        while self.missing > 0 {
            match timeout_at(until, self.answers.recv()).await {
                Ok(Some(())) => self.missing -= 1,
                // The routes that owe them are gone.
                Ok(None) => return,
                Err(_) => {
                    tracing::warn!(
                        "{} other servers have not confirmed that accounts get connections of their own",
                        self.missing
                    );
                    return;
                }
            }
        }
    }
}

impl Cluster {
    /// Asks the other servers for connections of their own for these accounts.
    pub(super) fn ask_to_move(&self, shared: &Arc<Shared>, accounts: &[&String]) -> Confirmations {
        let routes = self.routes.lock().values().cloned().collect::<Vec<_>>();
        let request = format!("{:016x}{:016x}", shared.rng.next_u64(), shared.rng.next_u64());
        let questions = self.questions(&routes, accounts);
        let (confirmed, answers) = mpsc::channel(questions.len().max(1));
        for name in accounts {
            if let Some(account) = shared.accounts.load().get(name.as_str()) {
                pooled(&routes).for_each(|(_, _, route)| account.announcer.leave(route));
            }
        }
        let pool_size = self.config().local.pool_size.and_then(|size| i64::try_from(size).ok());
        for (route, account) in &questions {
            let question =
                Question { request: request.clone(), account: account.clone(), confirmed: confirmed.clone() };
            route.asked.0.lock().push_back(question);
            let info = ServerInfo {
                route_pool_size: pool_size.unwrap_or(0),
                route_account: account.clone(),
                route_acc_add_reqid: request.clone(),
                ..ServerInfo::default()
            };
            let mut line = Vec::new();
            info.encode(&mut line);
            push_and_flush(shared, &route.conn, &line);
        }
        Confirmations { answers, missing: questions.len() }
    }

    /// Who is to be asked for what: by each connection that the account has had.
    fn questions(&self, routes: &[Arc<Route>], accounts: &[&String]) -> Vec<(Arc<Route>, String)> {
        let peers = self.peers.lock();
        let mut questions = Vec::new();
        for (server_id, place, route) in pooled(routes) {
            let moves = accounts.iter().filter(|name| peers.places(server_id, name).contains(&Some(place)));
            questions.extend(moves.map(|name| (route.clone(), (*name).clone())));
        }
        questions
    }

    /// Another server has confirmed what it was asked: the account.
    pub(super) fn confirmed(&self, route: &Route, request: &str) -> Option<String> {
        route.asked.confirm(request)
    }

    /// Another server asks for connections of its own for an account. It is not told of the account's interest by the pool
    /// any more.
    pub(super) fn move_account(&self, shared: &Shared, server_id: &str, account: &str) {
        self.peers.lock().move_account(server_id, account);
        self.have_moved.store(true, Ordering::Relaxed);
        let routes = self.routes.lock().values().cloned().collect::<Vec<_>>();
        if let Some(account) = shared.accounts.load().get(account) {
            let its = pooled(&routes).filter(|(id, _, _)| *id == server_id);
            its.for_each(|(_, _, route)| account.announcer.leave(route));
        }
    }

    /// Takes back what the pool was told of an account that has a connection of its own now.
    pub(super) fn take_back(&self, shared: &Shared, server_id: &str, account: &str) {
        let routes = self.routes.lock().values().cloned().collect::<Vec<_>>();
        if let Some(account) = shared.accounts.load().get(account) {
            let its = pooled(&routes).filter(|(id, _, _)| *id == server_id);
            its.for_each(|(_, _, route)| account.announcer.take_back(account.name(), route));
        }
    }

    /// Where the other servers can be dialled: as they are, or where they say if they have dialled this one.
    pub(super) fn addresses(&self) -> HashSet<RouteUrl> {
        let mut urls: HashSet<RouteUrl> = self.dialling.lock().keys().cloned().collect();
        let routes = self.routes.lock().values().cloned().collect::<Vec<_>>();
        let is_dialled = |id: &str| {
            routes.iter().any(|route| route.is_dialled && route.bound().is_some_and(|b| b.server_id == id))
        };
        let peers = self.peers.lock();
        for info in peers.infos().filter(|info| !is_dialled(&info.server_id) && info.port != 0) {
            let to_it = routes.iter().find(|r| r.bound().is_some_and(|b| b.server_id == info.server_id));
            let Some(route) = to_it else { continue };
            let credentials = peers.local().credentials.clone().filter(|_| info.auth_required);
            urls.insert(dial::parse_ip(&info.ip).map_or_else(
                || RouteUrl { host: host_of(route, info), port: info.port, credentials: credentials.clone() },
                |url| RouteUrl { credentials: credentials.clone(), ..url },
            ));
        }
        urls
    }
}

/// Routes of pools, with the other server and the place.
fn pooled(routes: &[Arc<Route>]) -> impl Iterator<Item = (&str, usize, &Arc<Route>)> {
    routes.iter().filter_map(|route| {
        let bound = route.bound()?;
        match bound.slot {
            Slot::Pool(place) => Some((bound.server_id.as_str(), place, route)),
            Slot::Only | Slot::Account(_) => None,
        }
    })
}
