//! A client's side of the protocol: its reader task.

mod login;
mod publish;
mod secure;
mod subscribe;
mod waiting;

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use linnet_wire::client::{self, Limits, Op, Parsed};
use linnet_wire::{Connect, Info, encode};

use crate::account::Account;
use crate::broker::Shared;
use crate::close::CloseReason;
use crate::conn::Conn;
use crate::link::Link;
use crate::router::Publisher;
use crate::trace;
use crate::traffic::Amount;

pub(crate) use login::{greeting, refusal};

/// Bytes read per call.
const READ_MAX: usize = 64 * 1024;
/// Bytes read per call into an operation larger than that.
const LARGE_READ_MAX: usize = 4 * READ_MAX;
/// Memory an idle connection keeps for unfinished operations.
const PARTIAL_KEPT: usize = 1024;
/// Read calls between two chances for other tasks.
const READS_PER_TURN: usize = 8;

thread_local! {
    /// Connections read into one buffer per thread and keep only what is left of an unfinished operation.
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_MAX]);
}

/// State of a client connection that only its reader task touches.
pub(crate) struct Session {
    shared: Arc<Shared>,
    conn: Arc<Conn>,
    link: Arc<Link>,
    publisher: Publisher,
    account: Option<Arc<Account>>,
    limits: Limits,
    /// The reload whose settings are followed.
    epoch: u64,
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

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, conn: Arc<Conn>, link: Arc<Link>) -> Self {
        let epoch = shared.epoch.load(Ordering::SeqCst);
        let config = shared.config.load();
        let must_login = shared.authenticator.load().is_required();
        let limits = Limits {
            max_control_line: config.max_control_line,
            max_payload: Some(config.max_payload),
            // The client says in CONNECT whether it knows them.
            headers: false,
        };
        drop(config);
        Self {
            publisher: Publisher::new(shared.clone()),
            account: None,
            limits,
            epoch,
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
            link,
        }
    }

    /// Serves the connection until it ends.
    pub(crate) async fn run(mut self) {
        let mut reads = 0;
        let mut ended = self.begin().await.err();
        let end = loop {
            if let Some(end) = ended.take() {
                break end;
            }
            match self.turn() {
                Next::Wait => {
                    reads = 0;
                    if self.link.tcp().readable().await.is_err() {
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
                    let authenticator = self.shared.authenticator.load_full();
                    let identity = self.verify_slowly(&connect, &authenticator).await;
                    if let Err(end) = self.login(*connect, identity, authenticator) {
                        break end;
                    }
                    self.keep_up();
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

    /// Reads once and acts on everything that arrived.
    fn turn(&mut self) -> Next {
        self.keep_up();
        let next = if self.wanted > READ_MAX { self.read_large() } else { self.read_small() };
        self.account_for_batch();
        self.keep_up();
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
            let read = match self.link.read(&mut buffer[kept..needed]) {
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

    /// An operation larger than the thread's buffer: read the rest of it straight into its own.
    fn read_large(&mut self) -> Next {
        let have = self.partial.len();
        let mut whole = std::mem::take(&mut self.partial);
        // An announced size is not touched before its bytes come, else a line of twenty bytes would cost megabytes.
        whole.resize(self.wanted.min(have + LARGE_READ_MAX), 0);
        let read = self.link.read(&mut whole[have..]);
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
            if let Some(account) = &self.account {
                account.traffic.from_clients.add(Amount { msgs, bytes });
            }
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
            client::Error::UnknownOperation
            | client::Error::Malformed
            | client::Error::HeadersUnsupported => CloseReason::ProtocolViolation,
            client::Error::ControlLine => CloseReason::MaximumControlLineExceeded,
            client::Error::MaxPayload(_) => CloseReason::MaximumMessagePayloadExceeded,
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
            // Without a meaning from a client, but it has to be one.
            Op::Info(json) if is_info(json) => Ok(()),
            Op::Info(_) => Err(End::Said(CloseReason::ProtocolViolation)),
            Op::Ok => Ok(()),
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
}

/// An array would do for a structure, had the object not been asked for.
fn is_info(json: &[u8]) -> bool {
    let is_object = serde_json::from_slice::<Option<serde_json::Map<_, _>>>(json).is_ok();
    is_object && serde_json::from_slice::<Option<Info>>(json).is_ok()
}
