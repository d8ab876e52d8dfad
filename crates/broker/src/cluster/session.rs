//! One route: its handshake, then what the other server says.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use linnet_links::{Admission, Closing, Effect, Established, Handshake, Mode, Origin, Role, Slot};
use linnet_s2::Decoder;
use linnet_wire::client::Error;
use linnet_wire::route::{Form, Message, Op, Parsed, parse};
use linnet_wire::{ServerInfo, encode};

use super::interest::RemoteInterest;
use super::route::{Bound, LINE_FACTOR, Route};
use super::{Cluster, RouteUrl, dial};
use crate::account::Account;
use crate::broker::Shared;
use crate::close::CloseReason;
use crate::link::Link;
use crate::router::{Publisher, flush_conn};
use crate::session::let_drain;

/// Bytes read per call.
const READ_MAX: usize = 64 * 1024;
/// Read calls between two chances for other tasks.
const READS_PER_TURN: usize = 8;
/// First PING after this long.
const FIRST_PING: Duration = Duration::from_secs(1);
/// Answers that may be on their way to a server that reads none of them.
const ANSWERS_MAX: u32 = 100_000;
/// How often keep-alives are looked at.
const TICK: Duration = Duration::from_millis(250);

/// A route as only its task touches it.
pub(super) struct RouteSession {
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    route: Arc<Route>,
    link: Arc<Link>,
    handshake: Handshake,
    origin: Origin,
    /// What was dialled, to dial it again for the next place of the pool.
    url: Option<RouteUrl>,
    publisher: Publisher,
    remote: RemoteInterest,
    /// Bytes that are not parsed yet.
    buffer: Vec<u8>,
    /// Set once what is read is compressed.
    decoder: Option<Box<Decoder>>,
    /// Bytes that are not decompressed yet.
    packed: Vec<u8>,
    /// Answers since everything was written.
    answers: u32,
    /// The account of the message before.
    account: Option<Arc<Account>>,
    established: Option<Slot>,
    owes_next_place: bool,
    in_msgs: u64,
    in_bytes: u64,
}

/// How a route ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It carried messages before.
    AfterUse,
    /// It did not come to that; dialling again may help.
    Refused,
    /// Its place with this server is taken.
    Duplicate(String),
    /// It leads to this very server.
    Ourselves,
}

/// Why the session stops.
struct Stop {
    reason: CloseReason,
    /// What the other side is told.
    said: Option<String>,
}

impl Stop {
    fn silent(reason: CloseReason) -> Self {
        Self { reason, said: None }
    }
}

impl RouteSession {
    pub(super) fn new(
        shared: Arc<Shared>,
        cluster: Arc<Cluster>,
        route: Arc<Route>,
        link: Arc<Link>,
        role: Role,
        origin: Origin,
        url: Option<RouteUrl>,
    ) -> Self {
        let nonce = format!("{:015x}", shared.rng.next_u64() & 0xfff_ffff_ffff_ffff);
        Self {
            publisher: Publisher::new(shared.clone()),
            handshake: Handshake::new(role, nonce),
            shared,
            cluster,
            route,
            link,
            origin,
            url,
            remote: RemoteInterest::default(),
            buffer: Vec::new(),
            decoder: None,
            packed: Vec::new(),
            answers: 0,
            account: None,
            established: None,
            owes_next_place: false,
            in_msgs: 0,
            in_bytes: 0,
        }
    }

    /// Serves the route until it ends.
    pub(super) async fn run(mut self) -> Ended {
        let begin = self.handshake.begin(&self.cluster.peers.lock());
        let mut ended = Ended::Refused;
        let stop = match self.follow(begin) {
            Err(stop) => stop,
            Ok(()) => {
                self.publisher.flush();
                self.serve().await
            }
        };
        if self.established.is_some() {
            ended = Ended::AfterUse;
        } else if stop.reason == CloseReason::DuplicateRoute {
            let peer = self.peer_id();
            let is_self = self.cluster.config.local.info.server_id == peer;
            ended = if is_self { Ended::Ourselves } else { Ended::Duplicate(peer) };
        }
        self.end(&stop);
        ended
    }

    fn peer_id(&self) -> String {
        self.route.conn.client().name
    }

    /// Reads, writes and keeps the route alive until something ends it.
    async fn serve(&mut self) -> Stop {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let begun = self.shared.clock.mono();
        let mut next_ping = begun + FIRST_PING;
        let (link, route) = (self.link.clone(), self.route.clone());
        loop {
            tokio::select! {
                ready = link.tcp().readable() => {
                    if ready.is_err() {
                        return Stop::silent(CloseReason::ReadError);
                    }
                    if let Err(stop) = self.read_all().await {
                        return stop;
                    }
                }
                () = route.wake.notified() => self.write(),
                _ = ticks.tick() => {
                    let now = self.shared.clock.mono();
                    let is_late = now.since(begun) > self.cluster.config.handshake_timeout;
                    if self.established.is_none() && is_late {
                        return Stop {
                            reason: CloseReason::AuthenticationTimeout,
                            said: Some("Authentication Timeout".to_owned()),
                        };
                    }
                    if self.established.is_some() && now >= next_ping {
                        next_ping = now + self.cluster.config.ping_interval;
                        if let Err(stop) = self.ping() {
                            return stop;
                        }
                    }
                }
            }
        }
    }

    fn write(&self) {
        flush_conn(&self.shared, &self.route.conn, self.shared.config.load().write_deadline);
    }

    fn ping(&mut self) -> Result<(), Stop> {
        let timers = &self.route.conn.timers;
        if timers.pings_out.load(Ordering::Relaxed) >= self.cluster.config.ping_max {
            self.shared.stats.stale_connections.fetch_add(1, Ordering::Relaxed);
            let said = Some("Stale Connection".to_owned());
            return Err(Stop { reason: CloseReason::StaleConnection, said });
        }
        timers.pings_out.fetch_add(1, Ordering::Relaxed);
        timers.ping_sent.store(self.shared.clock.mono().0, Ordering::Relaxed);
        self.publisher.push(&self.route.conn, encode::PING);
        self.publisher.flush();
        Ok(())
    }

    /// Reads until the socket is empty and acts on what came.
    async fn read_all(&mut self) -> Result<(), Stop> {
        let mut reads = 0;
        while self.read()? {
            if self.decoder.is_none() {
                self.act_on_buffer().await?;
            }
            let mut packed = std::mem::take(&mut self.packed);
            let mut input = packed.as_slice();
            while self.unpack(&mut input)? {
                self.act_on_buffer().await?;
            }
            packed.clear();
            self.packed = packed;
            reads += 1;
            if reads % READS_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Reads once. False if the socket is empty.
    fn read(&mut self) -> Result<bool, Stop> {
        let into = if self.decoder.is_some() { &mut self.packed } else { &mut self.buffer };
        let kept = into.len();
        into.resize(kept + READ_MAX, 0);
        let read = self.link.read(&mut into[kept..]);
        into.truncate(kept + read.as_ref().map_or(0, |n| *n));
        match read {
            Ok(0) => Err(Stop::silent(CloseReason::ClientClosed)),
            Ok(_) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
            Err(_) => Err(Stop::silent(CloseReason::ReadError)),
        }
    }

    /// Puts the next block into the buffer, if what is read is compressed and a whole block has come. One at a time: a
    /// few bytes can be compressed megabytes.
    fn unpack(&mut self, input: &mut &[u8]) -> Result<bool, Stop> {
        let Some(decoder) = &mut self.decoder else { return Ok(false) };
        let unpacked = decoder.next(input, &mut self.buffer);
        if decoder.is_between_chunks() {
            decoder.shrink_to(READ_MAX);
        }
        unpacked.map_err(|error| {
            tracing::error!("{} - read error: {error}", self.prefix());
            Stop::silent(CloseReason::ReadError)
        })
    }

    /// Acts on what the buffer holds, and waits for whoever does not take it fast enough.
    async fn act_on_buffer(&mut self) -> Result<(), Stop> {
        let was_plain = self.decoder.is_none();
        let buffer = std::mem::take(&mut self.buffer);
        let acted = self.act(&buffer);
        self.count();
        self.publisher.flush();
        let used = acted?;
        self.buffer = buffer;
        self.buffer.drain(..used);
        if was_plain && self.decoder.is_some() {
            // What came behind the last plain line is compressed.
            self.packed.append(&mut self.buffer);
        }
        if self.buffer.is_empty() {
            self.buffer.shrink_to(READ_MAX);
        }
        // Who reads here slower than somebody publishes elsewhere is not to be closed for it: the route fills up, and
        // its other end holds the publisher back.
        if let Some(slow) = self.publisher.take_slow() {
            let max_pending = self.shared.config.load().max_pending;
            let_drain(&slow, max_pending).await;
        }
        Ok(())
    }

    /// Acts on every whole operation, up to one behind which everything is compressed; returns how many bytes they took.
    fn act(&mut self, buffer: &[u8]) -> Result<usize, Stop> {
        let was_plain = self.decoder.is_none();
        let mut at = 0;
        loop {
            match parse(&buffer[at..], &self.form()) {
                Parsed::Op(op, used) => {
                    at += used;
                    self.on_op(op)?;
                    if was_plain && self.decoder.is_some() {
                        return Ok(at);
                    }
                }
                Parsed::Incomplete { .. } => return Ok(at),
                Parsed::Error(error) => return Err(refusal(error)),
            }
        }
    }

    fn form(&self) -> Form {
        self.route.form()
    }

    fn count(&mut self) {
        let (msgs, bytes) = (std::mem::take(&mut self.in_msgs), std::mem::take(&mut self.in_bytes));
        let conn = &self.route.conn;
        conn.in_msgs.fetch_add(msgs, Ordering::Relaxed);
        conn.in_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.shared.stats.in_msgs.fetch_add(msgs, Ordering::Relaxed);
        self.shared.stats.in_bytes.fetch_add(bytes, Ordering::Relaxed);
        conn.timers.last_activity.store(self.shared.clock.mono().0, Ordering::Relaxed);
    }

    fn on_op(&mut self, op: Op<'_>) -> Result<(), Stop> {
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
                } else if let Some(account) = self.account_of(interest.account) {
                    self.remote.on_line(&account, &interest, &self.route);
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

    /// Who the other server says it is, for the log and to notice ourselves.
    fn note_peer(&self, op: &Op<'_>) {
        let Op::Info(json) = op else { return };
        if let Ok(info) = ServerInfo::parse(json) {
            self.route.conn.update_client(|client| client.name = info.server_id);
        }
    }

    fn follow(&mut self, effects: Vec<Effect>) -> Result<(), Stop> {
        for effect in effects {
            match effect {
                Effect::Send(bytes) => self.publisher.push(&self.route.conn, &bytes),
                Effect::Compress(mode) => self.compress(mode),
                Effect::Adopt(name) => self.adopt(name),
                Effect::Established(established) => self.establish(&established)?,
                Effect::Close(closing) => return Err(self.closing(closing)),
            }
        }
        Ok(())
    }

    /// Everything behind what was said so far is compressed, in both directions.
    fn compress(&mut self, mode: Mode) {
        self.decoder = Some(Box::default());
        let since_start = self.shared.clock.mono().since(self.route.conn.start_mono);
        self.route.compress(mode, &self.cluster.config.rtt_thresholds, since_start);
    }

    /// One more answer is on its way. Servers ask little; whoever asks on and on and reads no answer is not one.
    fn owe_answer(&mut self) -> Result<(), Stop> {
        self.answers += 1;
        if self.answers > ANSWERS_MAX {
            if self.route.conn.outbound.pending() > 0 {
                return Err(Stop::silent(CloseReason::SlowConsumerPendingBytes));
            }
            self.answers = 0;
        }
        Ok(())
    }

    fn adopt(&self, name: linnet_links::ClusterName) {
        tracing::info!("Cluster name updated to {}", name.name);
        self.shared.info.write().cluster.clone_from(&name.name);
        let others = self.cluster.peers.lock().adopt(name, &self.peer_id());
        let routes = self.cluster.routes.lock();
        for route in others.iter().filter_map(|conn| routes.get(conn)) {
            route.conn.close(CloseReason::ClusterNameConflict);
        }
    }

    fn establish(&mut self, established: &Established) -> Result<(), Stop> {
        let info = &established.info;
        self.route.bind(Bound {
            server_id: info.server_id.clone(),
            server_name: info.server_name.clone(),
            slot: established.slot.clone(),
            form: Form {
                has_account: !matches!(established.slot, Slot::Account(_)),
                has_origin_in_removal: info.lnocu || info.ln,
                max_line: self.shared.config.load().max_control_line * LINE_FACTOR,
            },
        });
        let admission = self.cluster.admit(&self.shared, &self.route, established, self.origin);
        if admission == Admission::Duplicate {
            return Err(Stop::silent(CloseReason::DuplicateRoute));
        }
        self.established = Some(established.slot.clone());
        self.route.agree(established.compression);
        tracing::info!("{} - Route connection created", self.prefix());
        if matches!(established.slot, Slot::Pool(_)) && self.url.is_some() {
            // The answer proves that the other side lets us in.
            self.owes_next_place = true;
            self.publisher.push(&self.route.conn, encode::PING);
        }
        Ok(())
    }

    fn on_pong(&mut self) {
        let timers = &self.route.conn.timers;
        if timers.pings_out.swap(0, Ordering::Relaxed) > 0 {
            let sent = timers.ping_sent.load(Ordering::Relaxed);
            let rtt = self.shared.clock.mono().0.saturating_sub(sent);
            timers.rtt.store(rtt, Ordering::Relaxed);
            if self.route.compression() == Some(Mode::Auto) {
                let rtt = Duration::from_nanos(rtt);
                self.route.compress(Mode::Auto, &self.cluster.config.rtt_thresholds, rtt);
            }
        }
        if std::mem::take(&mut self.owes_next_place)
            && let Some(url) = &self.url
        {
            dial::dial_next_place(&self.shared, &self.cluster, url, self.route.is_explicit, &self.peer_id());
        }
    }

    fn on_info(&self, json: &[u8]) -> Result<(), Stop> {
        let Ok(info) = ServerInfo::parse(json) else {
            return Err(Stop::silent(CloseReason::ProtocolViolation));
        };
        let is_about_peer = self.route.bound().is_some_and(|bound| bound.server_id == info.server_id);
        if is_about_peer && info.ldm {
            self.cluster.drains(&self.shared, &info.server_id);
        }
        if !is_about_peer && info.gateway.is_empty() && !info.server_id.is_empty() {
            dial::dial_told(&self.shared, &self.cluster, &info);
        }
        Ok(())
    }

    /// The account that a line names; of a connection of one account that one.
    fn account_of(&mut self, name: &[u8]) -> Option<Arc<Account>> {
        let name = match &self.established {
            Some(Slot::Account(account)) => account.as_bytes(),
            _ => name,
        };
        if self.account.as_ref().is_none_or(|account| account.name().as_bytes() != name) {
            let name = std::str::from_utf8(name).ok()?;
            self.account = Some(self.shared.accounts.load().get(name)?.clone());
        }
        self.account.clone()
    }

    fn on_message(&mut self, message: &Message<'_>) {
        self.in_msgs += 1;
        self.in_bytes += message.body.len() as u64;
        if let Some(account) = self.account_of(message.account) {
            self.publisher.route_in(&account, message);
        }
    }

    fn say_error(&mut self, text: &str) {
        let mut line = Vec::with_capacity(text.len() + 10);
        encode::err(&mut line, text);
        self.publisher.push(&self.route.conn, &line);
    }

    fn closing(&self, closing: Closing) -> Stop {
        let (reason, said) = match closing {
            Closing::Said(text) if text == "Authorization Violation" => {
                (CloseReason::AuthenticationFailure, Some(text))
            }
            Closing::Said(text) => (CloseReason::ProtocolViolation, Some(text)),
            Closing::ClusterNameConflict => (CloseReason::ClusterNameConflict, None),
            Closing::DuplicateRoute => (CloseReason::DuplicateRoute, None),
            Closing::DuplicateServerName => {
                tracing::error!("{} - Remote server has a duplicate name", self.prefix());
                (CloseReason::DuplicateServerName, None)
            }
            Closing::ProtocolViolation => (CloseReason::ProtocolViolation, None),
            Closing::Told(text) => {
                tracing::error!("{} - Router Error {text}", self.prefix());
                (CloseReason::ParseError, None)
            }
        };
        Stop { reason, said }
    }

    fn prefix(&self) -> String {
        format!("{} - rid:{}", self.route.conn.peer(), self.route.conn.cid())
    }

    fn end(mut self, stop: &Stop) {
        let conn = &self.route.conn;
        conn.note_reason(stop.reason);
        let reason = conn.close_reason().unwrap_or(stop.reason);
        if let Some(text) = &stop.said {
            tracing::error!("{} - {text}", self.prefix());
            self.say_error(text);
            self.publisher.flush();
        }
        let conn = &self.route.conn;
        conn.outbound.finish(&self.shared.runtime, std::net::Shutdown::Both);
        if self.established.is_some() {
            self.cluster.leave(&self.shared, &self.route);
        }
        let remote = self.route.bound().map(|bound| format!(" - Remote: {}", bound.server_name));
        let count = self.remote.len();
        self.remote.forget();
        let text = reason.as_str();
        tracing::info!("{} - Router connection closed: {text}{}", self.prefix(), remote.unwrap_or_default());
        tracing::debug!("{} - {count} interests of the route are gone", self.prefix());
    }
}

fn refusal(error: Error) -> Stop {
    let reason = match error {
        Error::ControlLine => CloseReason::MaximumControlLineExceeded,
        _ => CloseReason::ProtocolViolation,
    };
    let said = match error {
        Error::Malformed | Error::HeadersUnsupported => None,
        _ => Some(error.to_string()),
    };
    Stop { reason, said }
}
