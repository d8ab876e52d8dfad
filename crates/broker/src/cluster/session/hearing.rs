//! What the other server says on a route that carries messages.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use linnet_auth::SubscribeVerdict;
use linnet_links::{Mode, Slot};
use linnet_wire::route::{Message, Op};
use linnet_wire::{ServerInfo, encode};

use super::super::dial;
use super::super::permissions::hearing;
use super::super::route::Route;
use super::{RouteSession, Stop};
use crate::account::Account;
use crate::close::CloseReason;

/// Answers that may be on their way to a server that reads none of them.
const ANSWERS_MAX: u32 = 100_000;
/// Accounts that need not be looked up.
const ACCOUNTS_MAX: usize = 8;
/// Accounts that are not there and that the log is told of, for each route.
const UNKNOWN_ACCOUNTS_MAX: usize = 16;

impl RouteSession {
    pub(super) fn on_op(&mut self, op: Op<'_>) -> Result<(), Stop> {
        if self.established.is_none() {
            self.note_peer(&op);
            let effects = self.handshake.on_op(op, &self.cluster.peers.lock());
            return self.follow(effects);
        }
        match op {
            Op::Message(message) => self.on_message(&message),
            Op::Interest(interest) => {
                if !linnet_subject::is_well_formed(interest.subject) {
                    self.owe_answer()?;
                    self.say_error("Invalid Subscription");
                    return Ok(());
                }
                let verdict = hearing(self.permissions.as_deref(), interest.subject);
                if interest.weight > 0 && verdict == SubscribeVerdict::Denied {
                    // Other servers tell of everything that theirs are interested in, and need not know.
                } else if let Some(account) = self.account_of(interest.account)
                    && !self.has_moved(&account)
                {
                    let is_filtered = verdict == SubscribeVerdict::Filtered;
                    self.remote.on_line(&account, &interest, is_filtered, &self.route);
                }
            }
            Op::Ping => {
                self.owe_answer()?;
                self.publisher.push(&self.route.conn, encode::PONG);
            }
            Op::Pong => self.on_pong(),
            Op::Info(json) => self.on_info(json)?,
            Op::Err(text) => {
                let text = String::from_utf8_lossy(text);
                tracing::error!("{} - Router Error {text}", self.prefix());
                return Err(Stop::silent(CloseReason::ParseError));
            }
            Op::Connect(_) | Op::Ok | Op::Meaningless => {}
        }
        Ok(())
    }

    /// One more answer is on its way. Servers ask little; whoever asks on and on and reads no answer is not one.
    pub(super) fn owe_answer(&mut self) -> Result<(), Stop> {
        self.answers += 1;
        if self.answers > ANSWERS_MAX {
            if self.route.conn.outbound.pending() > 0 {
                return Err(Stop::silent(CloseReason::SlowConsumerPendingBytes));
            }
            self.answers = 0;
        }
        Ok(())
    }

    pub(super) fn on_pong(&mut self) {
        let timers = &self.route.conn.timers;
        if timers.pings_out.swap(0, Ordering::Relaxed) > 0 {
            let sent = timers.ping_sent.load(Ordering::Relaxed);
            let rtt = self.shared.clock.mono().0.saturating_sub(sent);
            timers.rtt.store(rtt, Ordering::Relaxed);
            if self.route.compression() == Some(Mode::Auto) {
                let rtt = Duration::from_nanos(rtt);
                self.route.compress(Mode::Auto, &self.cluster.config().rtt_thresholds, rtt);
            }
        }
        if std::mem::take(&mut self.owes_next_place)
            && let Some(url) = &self.url
        {
            dial::dial_next_place(&self.shared, &self.cluster, url, self.route.is_explicit, &self.peer_id());
        }
    }

    pub(super) fn on_info(&mut self, json: &[u8]) -> Result<(), Stop> {
        let info = ServerInfo::parse(json).map_err(|error| {
            self.complain(&format!("Error parsing the INFO of a route: {error}"));
            Stop::silent(CloseReason::ProtocolViolation)
        })?;
        if !info.route_acc_add_reqid.is_empty() {
            self.on_moving_account(info);
            return Ok(());
        }
        let is_about_peer = self.route.bound().is_some_and(|bound| bound.server_id == info.server_id);
        if is_about_peer && self.route.note_told(info.import.as_ref(), info.export.as_ref()) {
            self.cluster.repeat(&self.shared, &self.route);
        }
        if is_about_peer && self.cluster.peers.lock().take_news(&info) {
            self.shared.servers_changed();
        }
        if is_about_peer && info.ldm {
            self.cluster.drains(&self.shared, &info.server_id);
        }
        if !is_about_peer && info.gateway.is_empty() && !info.server_id.is_empty() {
            dial::dial_told(&self.shared, &self.cluster, &info);
        }
        Ok(())
    }

    /// The other server is about to give an account connections of its own: what it has said about its interest there does
    /// not count on this one any more, which it waits for to be confirmed. Or it confirms what it was asked itself.
    pub(super) fn on_moving_account(&mut self, mut info: ServerInfo) {
        let account = std::mem::take(&mut info.route_account);
        if account.is_empty() {
            if let Some(account) = self.cluster.confirmed(&self.route, &info.route_acc_add_reqid) {
                self.remote.forget_account(&account);
            }
            return;
        }
        if self.account_of(account.as_bytes()).is_none() {
            return;
        }
        if matches!(self.established, Some(Slot::Pool(_))) {
            self.remote.forget_account(&account);
            self.cluster.move_account(&self.shared, &self.peer_id(), &account);
        }
        let mut line = Vec::new();
        info.encode(&mut line);
        self.publisher.push(&self.route.conn, &line);
    }

    /// True if what is said of interest in the account does not count here.
    fn has_moved(&self, account: &Account) -> bool {
        self.cluster.have_moved.load(Ordering::Relaxed)
            && matches!(self.established, Some(Slot::Pool(_)))
            && self.cluster.peers.lock().has_moved(&self.peer_id(), account.name())
    }

    /// The account that a line names; of a connection of one account that one.
    pub(super) fn account_of(&mut self, name: &[u8]) -> Option<Arc<Account>> {
        let name = match &self.established {
            Some(Slot::Account(account)) => account.as_bytes(),
            _ => name,
        };
        let known = self.accounts.iter().position(|account| account.name().as_bytes() == name);
        let at = match known {
            Some(at) => at,
            None => {
                let name = std::str::from_utf8(name).ok()?;
                let account = self.shared.accounts.load().get(name).cloned();
                let Some(account) = account else {
                    note_unknown_account(&mut self.unknown_accounts, name, &self.route);
                    return None;
                };
                self.accounts.truncate(ACCOUNTS_MAX - 1);
                self.accounts.push(account);
                self.accounts.len() - 1
            }
        };
        // Whoever is asked for often is found soon.
        self.accounts.swap(0, at);
        self.accounts.first().cloned()
    }

    pub(super) fn on_message(&mut self, message: &Message<'_>) {
        self.in_msgs += 1;
        self.in_bytes += message.body.len() as u64;
        if let Some(account) = self.account_of(message.account) {
            let server = self.route.bound().map(|bound| bound.server_name.as_str());
            self.publisher.route_in(&account, server, message);
        }
    }

    pub(super) fn say_error(&mut self, text: &str) {
        let mut line = Vec::with_capacity(text.len() + 10);
        encode::err(&mut line, text);
        self.publisher.push(&self.route.conn, &line);
    }
}

/// Says once that an account of the other server is not there, so that somebody can add it.
fn note_unknown_account(told: &mut HashSet<String>, name: &str, route: &Route) {
    if told.len() < UNKNOWN_ACCOUNTS_MAX && !told.contains(name) {
        told.insert(name.to_owned());
        tracing::error!("{} - Unknown account {name:?} in lines of the route", route.conn.log_prefix());
    }
}
