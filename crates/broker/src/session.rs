//! A client's side of the protocol: its reader task.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use linnet_auth::{Credentials, Identity, SubscribeVerdict};
use linnet_wire::client::{self, Limits, Op, Parsed, Pub};
use linnet_wire::{Connect, encode, fast_path, headers};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::account::Account;
use crate::broker::Shared;
use crate::close::CloseReason;
use crate::conn::Conn;
use crate::message_trace;
use crate::router::{Message, Publisher};
use crate::subscription::{SubRef, Subscription, Target};
use crate::trace;

/// Bytes read per call.
const READ_MAX: usize = 64 * 1024;
/// Bytes read per call into an operation larger than that.
const LARGE_READ_MAX: usize = 4 * READ_MAX;
/// Memory an idle connection keeps for unfinished operations.
const PARTIAL_KEPT: usize = 1024;
/// Read calls between two chances for other tasks.
const READS_PER_TURN: usize = 8;
/// Producer pauses (cluster protocols, "Pending limits, slow consumers"): per look at a nearly full subscriber, at
/// a full one, and in all per read.
const STALL: Duration = Duration::from_millis(2);
const STALL_FULL: Duration = Duration::from_millis(5);
const STALL_MAX: Duration = Duration::from_millis(10);
/// How long and how much is read and thrown away after an error, so that the client sees the text before the
/// connection is reset.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 4 << 20;
/// First PING after this long, plus up to a fifth.
const FIRST_PING: Duration = Duration::from_secs(2);
/// Queue group that only the server may use.
const RESERVED_QUEUE: &[u8] = b"_sys_";

thread_local! {
    /// Connections read into one buffer per thread and keep only what is left of an unfinished operation.
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_MAX]);
}

/// State of a client connection that only its reader task touches.
pub(crate) struct Session {
    shared: Arc<Shared>,
    conn: Arc<Conn>,
    stream: Arc<TcpStream>,
    publisher: Publisher,
    account: Option<Arc<Account>>,
    limits: Limits,
    verbose: bool,
    pedantic: bool,
    no_responders: bool,
    /// CONNECT is awaited; nothing else may come first.
    must_login: bool,
    /// The client asked for asynchronous INFO and has not sent its first PING.
    owes_connect_info: bool,
    /// An unfinished operation.
    partial: Vec<u8>,
    /// Size of the unfinished operation, if known.
    wanted: usize,
    in_msgs: u64,
    in_bytes: u64,
}

/// What the reader does after it acted on a buffer.
enum Next {
    /// The socket has no more for now.
    Wait,
    /// More may be there.
    Again,
    /// A CONNECT whose password check is slow.
    SlowLogin(Box<Connect>),
    /// A subscriber is nearly full.
    Stall(Arc<Conn>),
    End(End),
}

/// Why the session ends.
enum End {
    /// The client is gone, or somebody else closed the connection.
    Gone(CloseReason),
    /// We close it and say why.
    Said(CloseReason),
}

/// The INFO a new connection gets.
pub(crate) fn greeting(shared: &Shared, conn: &Conn) -> Vec<u8> {
    let mut info = shared.info.read().clone();
    info.client_id = conn.cid();
    info.client_ip = conn.peer().ip().to_string();
    let mut line = Vec::with_capacity(512);
    info.encode(&mut line);
    line
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, conn: Arc<Conn>, stream: Arc<TcpStream>) -> Self {
        let config = shared.config.load();
        let must_login = shared.authenticator.load().is_required();
        let limits = Limits {
            max_control_line: config.max_control_line,
            max_payload: Some(config.max_payload),
            headers: config.headers,
        };
        drop(config);
        Self {
            publisher: Publisher::new(shared.clone()),
            account: None,
            limits,
            verbose: true,
            pedantic: true,
            no_responders: false,
            must_login,
            owes_connect_info: false,
            partial: Vec::new(),
            wanted: 0,
            in_msgs: 0,
            in_bytes: 0,
            shared,
            conn,
            stream,
        }
    }

    /// Serves the connection until it ends.
    pub(crate) async fn run(mut self) {
        self.greet();
        let mut reads = 0;
        let end = loop {
            match self.turn() {
                Next::Wait => {
                    reads = 0;
                    if self.stream.readable().await.is_err() {
                        break End::Gone(CloseReason::ReadError);
                    }
                }
                Next::Again => {
                    reads += 1;
                    if reads % READS_PER_TURN == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                Next::SlowLogin(connect) => {
                    let identity = self.verify_slowly(&connect).await;
                    if let Err(end) = self.login(*connect, identity) {
                        break end;
                    }
                    // What came in the same buffer behind the CONNECT.
                    let rest = std::mem::take(&mut self.partial);
                    let next = self.act(&rest);
                    self.account_for_batch();
                    self.publisher.flush();
                    if let Next::End(end) = next {
                        break end;
                    }
                }
                Next::Stall(slow) => self.stall(&slow).await,
                Next::End(end) => break end,
            }
        };
        self.publisher.flush();
        match end {
            End::Gone(reason) => self.conn.note_reason(reason),
            End::Said(reason) => {
                self.conn.note_reason(reason);
                self.conn.outbound.finish(&self.shared.runtime, Shutdown::Write);
                self.linger().await;
            }
        }
    }

    /// Sends INFO and starts the timers.
    fn greet(&mut self) {
        let line = greeting(&self.shared, &self.conn);
        self.publisher.push(&self.conn, &line);
        self.publisher.flush();
        let now = self.shared.clock.mono();
        let timers = &self.conn.timers;
        let first = nanos(FIRST_PING);
        timers.next_ping.store(now.0 + first + self.shared.rng.below(first / 5), Ordering::Relaxed);
        if self.must_login {
            let timeout = self.shared.config.load().auth_timeout;
            timers.login_deadline.store((now + timeout).0, Ordering::Relaxed);
        } else if let Some(identity) = self.shared.authenticator.load().verify(&Credentials::default()) {
            // Without a login the client may act at once, as the anonymous user.
            let _ = self.bind(identity);
        }
    }

    /// Reads once and acts on everything that arrived.
    fn turn(&mut self) -> Next {
        let next = if self.wanted > READ_MAX { self.read_large() } else { self.read_small() };
        self.account_for_batch();
        self.publisher.flush();
        match next {
            Next::Wait | Next::Again => match self.publisher.take_slow() {
                Some(slow) => Next::Stall(slow),
                None => next,
            },
            other => other,
        }
    }

    /// The usual case: read behind what is left over into the thread's buffer.
    fn read_small(&mut self) -> Next {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let kept = self.partial.len();
            let needed = kept + READ_MAX;
            if buffer.len() < needed {
                buffer.resize(needed, 0);
            }
            buffer[..kept].copy_from_slice(&self.partial);
            let read = match self.read(&mut buffer[kept..needed]) {
                Ok(0) => return Next::End(End::Gone(CloseReason::ClientClosed)),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Next::Wait,
                Err(_) => return Next::End(End::Gone(CloseReason::ReadError)),
            };
            let filled = kept + read;
            let next = self.act(&buffer[..filled]);
            if buffer.len() > 2 * READ_MAX {
                buffer.truncate(READ_MAX);
                buffer.shrink_to_fit();
            }
            next
        })
    }

    /// Reads once. Getting less than was asked for means that the socket is empty: its readiness is cleared, which
    /// spares the read call that would only say so.
    fn read(&self, out: &mut [u8]) -> io::Result<usize> {
        let mut got = 0;
        let result = self.stream.try_io(Interest::READABLE, || {
            got = rustix::io::read(&*self.stream, &mut *out)?;
            if got > 0 && got < out.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match result {
            Ok(()) => Ok(got),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && got > 0 => Ok(got),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(io::ErrorKind::WouldBlock.into()),
            Err(e) => Err(e),
        }
    }

    /// An operation larger than the thread's buffer: read the rest of it straight into its own.
    fn read_large(&mut self) -> Next {
        let have = self.partial.len();
        let mut whole = std::mem::take(&mut self.partial);
        // An announced size is not touched before its bytes come, else a line of twenty bytes would cost megabytes.
        whole.resize(self.wanted.min(have + LARGE_READ_MAX), 0);
        let read = self.read(&mut whole[have..]);
        let got = match &read {
            Ok(n) => *n,
            Err(_) => 0,
        };
        if have + got == self.wanted {
            self.wanted = 0;
            return self.act(&whole);
        }
        whole.truncate(have + got);
        self.partial = whole;
        match read {
            Ok(0) => Next::End(End::Gone(CloseReason::ClientClosed)),
            Ok(_) => Next::Again,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Next::Wait,
            Err(_) => Next::End(End::Gone(CloseReason::ReadError)),
        }
    }

    /// Acts on every whole operation in `buffer` and keeps the rest.
    fn act(&mut self, buffer: &[u8]) -> Next {
        let mut at = 0;
        let next = loop {
            at += self.publish_run(&buffer[at..]);
            if at == buffer.len() {
                break Next::Again;
            }
            if self.must_login && buffer.get(at).is_some_and(|first| !first.eq_ignore_ascii_case(&b'C')) {
                // Not even a whole line of anything else is waited for.
                break Next::End(self.refuse_login());
            }
            match client::parse(&buffer[at..], &self.limits) {
                Parsed::Op(op, used) => {
                    if let Some(next) = self.on_op(op) {
                        at += used;
                        break next;
                    }
                    at += used;
                }
                Parsed::Incomplete { total } => {
                    self.wanted = total.unwrap_or(0);
                    break Next::Again;
                }
                Parsed::Error(error) => break Next::End(self.on_parse_error(error)),
            }
        };
        self.keep(&buffer[at..]);
        next
    }

    /// Acts on the publications at the front of `buffer` as long as they have the usual shape; returns how many bytes
    /// they took.
    fn publish_run(&mut self, buffer: &[u8]) -> usize {
        if self.must_login || trace::is_on() {
            return 0;
        }
        // Moved out and back: counting a reference up and down would cost more than everything else here.
        let Some(account) = self.account.take() else { return 0 };
        let mut at = 0;
        while let Some((publication, used)) = fast_path::publication(&buffer[at..], &self.limits) {
            self.publish(&account, &publication);
            at += used;
        }
        self.account = Some(account);
        at
    }

    fn keep(&mut self, rest: &[u8]) {
        self.partial.clear();
        if rest.is_empty() {
            self.partial.shrink_to(PARTIAL_KEPT);
            self.wanted = 0;
            return;
        }
        if self.wanted > READ_MAX {
            self.partial.reserve_exact(self.wanted);
        }
        self.partial.extend_from_slice(rest);
    }

    /// Folds the batch's counts into the shared ones.
    fn account_for_batch(&mut self) {
        if self.in_msgs > 0 {
            let (msgs, bytes) = (std::mem::take(&mut self.in_msgs), std::mem::take(&mut self.in_bytes));
            self.conn.in_msgs.fetch_add(msgs, Ordering::Relaxed);
            self.conn.in_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.shared.stats.in_msgs.fetch_add(msgs, Ordering::Relaxed);
            self.shared.stats.in_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        self.conn.timers.last_activity.store(self.shared.clock.mono().0, Ordering::Relaxed);
    }

    fn say_error(&mut self, text: &str) {
        let mut line = Vec::with_capacity(text.len() + 10);
        encode::err(&mut line, text);
        self.publisher.push(&self.conn, &line);
    }

    fn end_with(&mut self, reason: CloseReason, text: &str) -> End {
        self.say_error(text);
        End::Said(reason)
    }

    fn on_parse_error(&mut self, error: client::Error) -> End {
        let reason = match error {
            client::Error::UnknownOperation => CloseReason::ProtocolViolation,
            client::Error::ControlLine => CloseReason::MaximumControlLineExceeded,
            client::Error::MaxPayload(_) => CloseReason::MaximumMessagePayloadExceeded,
            client::Error::Malformed => CloseReason::ParseError,
            client::Error::HeadersUnsupported => CloseReason::MessageHeaderViolation,
        };
        tracing::error!("{} - {error}", self.conn.log_prefix());
        match error {
            client::Error::Malformed | client::Error::HeadersUnsupported => End::Said(reason),
            _ => self.end_with(reason, &error.to_string()),
        }
    }

    /// Acts on one operation; `Some` interrupts the batch.
    fn on_op(&mut self, op: Op<'_>) -> Option<Next> {
        if trace::is_on() {
            trace::received(&self.conn, &op, &self.shared.config.load());
        }
        if self.must_login && !matches!(op, Op::Connect(_)) {
            return Some(Next::End(self.refuse_login()));
        }
        let result = match op {
            Op::Pub(publication) => {
                if let Some(account) = self.account.clone() {
                    self.publish(&account, &publication);
                }
                Ok(())
            }
            Op::Sub { subject, queue, sid } => self.on_sub(subject, queue, sid),
            Op::Unsub { sid, max } => {
                self.on_unsub(sid, max);
                Ok(())
            }
            Op::Ping => {
                self.on_ping();
                Ok(())
            }
            Op::Pong => {
                self.on_pong();
                Ok(())
            }
            Op::Connect(json) => return self.on_connect(json),
            Op::Info(_) | Op::Ok => Ok(()),
            Op::Err(text) => {
                tracing::error!(
                    "{} - Client Error {}",
                    self.conn.log_prefix(),
                    String::from_utf8_lossy(text)
                );
                Err(End::Gone(CloseReason::ParseError))
            }
        };
        result.err().map(Next::End)
    }

    fn on_ping(&mut self) {
        self.publisher.push(&self.conn, encode::PONG);
        if self.owes_connect_info {
            self.owes_connect_info = false;
            let mut info = self.shared.info.read().clone();
            info.client_id = self.conn.cid();
            info.client_ip = self.conn.peer().ip().to_string();
            info.connect_info = true;
            if let Some(account) = &self.account {
                account.name().clone_into(&mut info.remote_account);
                info.acc_is_sys = account.is_system();
            }
            if let Some(max) = self.limits.max_payload {
                info.max_payload = i64::try_from(max).unwrap_or(i64::MAX);
            }
            let mut line = Vec::with_capacity(512);
            info.encode(&mut line);
            self.publisher.push(&self.conn, &line);
            self.conn.update_client(|c| c.wants_info = true);
        }
    }

    fn on_pong(&self) {
        let timers = &self.conn.timers;
        if timers.pings_out.swap(0, Ordering::Relaxed) > 0 {
            let sent = timers.ping_sent.load(Ordering::Relaxed);
            let rtt = self.shared.clock.mono().0.saturating_sub(sent);
            timers.rtt.store(rtt, Ordering::Relaxed);
        }
    }

    fn on_connect(&mut self, json: &[u8]) -> Option<Next> {
        let Ok(connect) = Connect::parse(json) else {
            return Some(Next::End(End::Said(CloseReason::ProtocolViolation)));
        };
        let authenticator = self.shared.authenticator.load_full();
        let given = credentials(&connect);
        if authenticator.is_slow(&given) {
            return Some(Next::SlowLogin(Box::new(connect)));
        }
        let identity = authenticator.verify(&given);
        self.login(connect, identity).err().map(Next::End)
    }

    /// Checks a hashed password away from the tasks that move messages.
    async fn verify_slowly(&self, connect: &Connect) -> Option<Identity> {
        let Ok(_permit) = self.shared.slow_logins.acquire().await else { return None };
        let authenticator = self.shared.authenticator.load_full();
        let given = credentials(connect);
        tokio::task::spawn_blocking(move || authenticator.verify(&given)).await.ok().flatten()
    }

    fn refuse_login(&mut self) -> End {
        self.end_with(CloseReason::AuthenticationFailure, "Authorization Violation")
    }

    fn login(&mut self, connect: Connect, identity: Option<Identity>) -> Result<(), End> {
        if !(0..=1).contains(&connect.protocol) {
            return Err(self.end_with(CloseReason::BadClientProtocolVersion, "invalid client protocol"));
        }
        if !connect.account.is_empty() || connect.new_account {
            return Err(self.refuse_login());
        }
        let Some(identity) = identity else {
            tracing::error!("{} - authentication error - User \"{}\"", self.conn.log_prefix(), connect.user);
            return Err(self.refuse_login());
        };
        let with_headers = connect.headers && self.shared.config.load().headers;
        if connect.no_responders && !with_headers {
            let text = "no responders requires headers support";
            return Err(self.end_with(CloseReason::NoRespondersRequiresHeaders, text));
        }
        self.limits.headers = with_headers;
        self.conn.headers.store(with_headers, Ordering::Relaxed);
        self.conn.no_echo.store(!connect.echo, Ordering::Relaxed);
        self.verbose = connect.verbose;
        self.pedantic = connect.pedantic;
        self.no_responders = connect.no_responders;
        self.conn.update_client(|c| {
            c.name.clone_from(&connect.name);
            c.lang.clone_from(&connect.lang);
            c.version.clone_from(&connect.version);
        });
        self.bind(identity)?;
        self.must_login = false;
        self.owes_connect_info = connect.protocol >= 1;
        self.conn.timers.login_deadline.store(0, Ordering::Relaxed);
        if self.verbose {
            self.publisher.push(&self.conn, encode::OK);
        }
        Ok(())
    }

    /// Puts the connection into its account. A second login drops the subscriptions of the first.
    fn bind(&mut self, identity: Identity) -> Result<(), End> {
        let Some(account) = self.shared.accounts.load().get(&identity.account).cloned() else {
            return Err(self.refuse_login());
        };
        let is_same = self.account.as_ref().is_some_and(|a| Arc::ptr_eq(a, &account));
        if !is_same {
            let before = account.connections.fetch_add(1, Ordering::Relaxed);
            if account.limits().max_connections.is_some_and(|max| before >= max) {
                account.connections.fetch_sub(1, Ordering::Relaxed);
                let text = "maximum account active connections exceeded";
                return Err(self.end_with(CloseReason::MaximumAccountConnectionsExceeded, text));
            }
        }
        if let Some(old) = self.account.take() {
            let subs: Vec<SubRef> = self.conn.subs.lock().drain().map(|(_, sub)| sub).collect();
            subs.iter().for_each(|sub| old.remove(sub));
            if !is_same {
                old.connections.fetch_sub(1, Ordering::Relaxed);
            }
            self.publisher.release();
        }
        let config = self.shared.config.load();
        let max_payload =
            account.limits().max_payload.map_or(config.max_payload, |m| m.min(config.max_payload));
        self.limits.max_payload = Some(max_payload);
        self.conn.set_permissions(identity.permissions);
        self.conn.update_client(|c| {
            c.user = identity.user;
            c.account = Some(account.clone());
        });
        self.account = Some(account);
        Ok(())
    }

    #[inline]
    fn publish(&mut self, account: &Arc<Account>, publication: &Pub<'_>) {
        self.in_msgs += 1;
        self.in_bytes += publication.body.len() as u64;
        let Pub { subject, reply, header_len, body } = *publication;
        if !self.may_publish(account, subject, reply) {
            return;
        }
        if self.pedantic && !linnet_subject::is_valid_literal(subject) {
            self.say_error("Invalid Publish Subject");
        }
        if self.verbose {
            self.publisher.push(&self.conn, encode::OK);
        }
        if message_trace::is_only_traced(body.get(..header_len).unwrap_or_default()) {
            return;
        }
        let message = Message { subject, shown_subject: b"", reply, header_len, body };
        let delivered = self.publisher.route(account, Some(&self.conn), &message);
        if delivered == 0 && self.no_responders && !reply.is_empty() {
            self.say_no_responders(subject, reply);
        }
    }

    /// Publish permission, with the answer to the client if it is missing.
    fn may_publish(&mut self, account: &Arc<Account>, subject: &[u8], reply: &[u8]) -> bool {
        // Subjects that carry the servers' own traffic and replies.
        if subject.starts_with(b"_GR_.") || (subject.starts_with(b"$NRG.") && !account.is_system()) {
            self.deny_publish(subject);
            return false;
        }
        if !reply.is_empty()
            && [b"_R_.".as_slice(), b"$JS.ACK.", b"_GR_."].iter().any(|p| reply.starts_with(p))
        {
            let text = format!(
                "Permissions Violation for Publish with Reply of \"{}\"",
                String::from_utf8_lossy(reply)
            );
            tracing::error!(
                "{} - Publish Violation - Subject \"{}\", Reply \"{}\"",
                self.conn.log_prefix(),
                String::from_utf8_lossy(subject),
                String::from_utf8_lossy(reply)
            );
            self.say_error(&text);
            return false;
        }
        if !self.conn.has_permissions() {
            return true;
        }
        let conn = self.conn.clone();
        let judge = || conn.permissions().is_none_or(|p| p.may_publish(subject));
        if self.publisher.permits(account, subject, judge)
            || self.conn.replies.redeem(subject, &*self.shared.clock)
        {
            return true;
        }
        self.deny_publish(subject);
        false
    }

    fn deny_publish(&mut self, subject: &[u8]) {
        let subject = String::from_utf8_lossy(subject);
        tracing::error!("{} - Publish Violation - Subject \"{subject}\"", self.conn.log_prefix());
        self.say_error(&format!("Permissions Violation for Publish to \"{subject}\""));
    }

    /// Tells the requester that nobody listens, if it listens for the answer itself.
    fn say_no_responders(&mut self, subject: &[u8], reply: &[u8]) {
        let listener = {
            let subs = self.conn.subs.lock();
            subs.values().find(|s| s.queue.is_none() && linnet_subject::matches(reply, &s.subject)).cloned()
        };
        let Some(sub) = listener else { return };
        let mut block = Vec::with_capacity(subject.len() + 40);
        headers::begin(&mut block, "503");
        headers::push(&mut block, "Nats-Subject", subject);
        headers::end(&mut block);
        let mut line = Vec::with_capacity(block.len() + reply.len() + 40);
        encode::msg_line(&mut line, reply, &sub.sid, b"", block.len(), block.len());
        line.extend_from_slice(&block);
        line.extend_from_slice(encode::CRLF);
        self.publisher.push(&self.conn, &line);
        let max = sub.max.load(Ordering::Relaxed);
        if max > 0 && sub.claimed.fetch_add(1, Ordering::Relaxed) + 1 >= max {
            self.remove_sub(&sub.sid);
        }
    }

    fn on_sub(&mut self, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) -> Result<(), End> {
        let Some(account) = self.account.clone() else { return Ok(()) };
        if !linnet_subject::is_well_formed(subject) {
            self.say_error("Invalid Subject");
            return Ok(());
        }
        let config = self.shared.config.load_full();
        if config.max_sub_tokens.is_some_and(|max| linnet_subject::tokens(subject).count() > max) {
            let subject = String::from_utf8_lossy(subject);
            self.say_error(&format!(
                "Permissions Violation for Subscription to \"{subject}\", too many tokens"
            ));
            return Ok(());
        }
        let verdict = if queue == Some(RESERVED_QUEUE) {
            SubscribeVerdict::Denied
        } else {
            self.conn.permissions().map_or(SubscribeVerdict::Allowed, |p| p.may_subscribe(subject, queue))
        };
        if verdict == SubscribeVerdict::Denied {
            self.deny_subscription(subject, queue, sid);
            return Ok(());
        }
        let count = self.conn.subs.lock().len();
        let account_max = account.limits().max_subscriptions;
        if [config.max_subscriptions, account_max].into_iter().flatten().any(|max| count >= max) {
            tracing::error!("{} - maximum subscriptions exceeded", self.conn.log_prefix());
            self.say_error("maximum subscriptions exceeded");
            return Ok(());
        }
        let is_new = !self.conn.subs.lock().contains_key(sid);
        if is_new {
            let sub = SubRef(Arc::new(Subscription {
                subject: subject.into(),
                queue: queue.map(Into::into),
                sid: sid.into(),
                target: Target::Client(self.conn.clone()),
                filtered: verdict == SubscribeVerdict::Filtered,
                max: AtomicU64::new(0),
                delivered: AtomicU64::new(0),
                claimed: AtomicU64::new(0),
                closed: AtomicBool::new(false),
            }));
            self.conn.subs.lock().insert(sid.into(), sub.clone());
            account.insert(&sub);
        }
        if self.verbose {
            self.publisher.push(&self.conn, encode::OK);
        }
        Ok(())
    }

    fn deny_subscription(&mut self, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
        let subject = String::from_utf8_lossy(subject);
        let group =
            queue.map(|q| format!(" using queue \"{}\"", String::from_utf8_lossy(q))).unwrap_or_default();
        tracing::error!(
            "{} - Subscription Violation - Subject \"{subject}\"{}, SID {}",
            self.conn.log_prefix(),
            queue.map(|q| format!(", Queue: \"{}\"", String::from_utf8_lossy(q))).unwrap_or_default(),
            String::from_utf8_lossy(sid)
        );
        self.say_error(&format!("Permissions Violation for Subscription to \"{subject}\"{group}"));
    }

    fn on_unsub(&mut self, sid: &[u8], max: Option<u64>) {
        // The limit counts all deliveries of the subscription, this batch's included.
        self.publisher.hand_over_all();
        let sub = self.conn.subs.lock().get(sid).cloned();
        if let Some(sub) = sub {
            match max {
                Some(max) if sub.delivered() < max => {
                    sub.claimed.store(sub.delivered(), Ordering::Relaxed);
                    sub.max.store(max, Ordering::Relaxed);
                }
                _ => self.remove_sub(sid),
            }
        }
        if self.verbose {
            self.publisher.push(&self.conn, encode::OK);
        }
    }

    fn remove_sub(&self, sid: &[u8]) {
        let removed = self.conn.subs.lock().remove(sid);
        if let (Some(sub), Some(account)) = (removed, &self.account) {
            account.remove(&sub);
        }
    }

    /// Waits until a nearly full subscriber has drained a little; its own writer does the work meanwhile.
    async fn stall(&self, slow: &Arc<Conn>) {
        let max = self.shared.config.load().max_pending;
        self.conn.stalls.fetch_add(1, Ordering::Relaxed);
        self.shared.stats.stalled_clients.fetch_add(1, Ordering::Relaxed);
        let mut waited = Duration::ZERO;
        while waited < STALL_MAX {
            let pending = slow.outbound.pending();
            if pending <= max / 4 * 3 || slow.close_reason().is_some() {
                return;
            }
            let pause = if pending >= max { STALL_FULL } else { STALL }.min(STALL_MAX - waited);
            tokio::time::sleep(pause).await;
            waited += pause;
        }
    }

    /// Reads and drops what the client still sends, so that closing does not reset the connection before the
    /// client has read our last words.
    async fn linger(&self) {
        let mut left = LINGER_BYTES;
        let mut sink = vec![0; 16 * 1024];
        let drain = async {
            while left > 0 {
                if self.stream.readable().await.is_err() {
                    return;
                }
                match self.stream.try_read(&mut sink) {
                    Ok(0) => return,
                    Ok(n) => left = left.saturating_sub(n),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, drain).await;
    }
}

fn credentials(connect: &Connect) -> Credentials {
    Credentials { user: connect.user.clone(), pass: connect.pass.clone(), token: connect.auth_token.clone() }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
