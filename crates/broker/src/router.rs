use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use linnet_interest::QueueMatch;

use crate::account::Account;
use crate::broker::Shared;
use crate::cache::MatchCache;
use crate::close::CloseReason;
use crate::conn::Conn;
use crate::outbound::{Frame, Pushed, SHARE_MIN, WriteFailure};
use crate::sink::Delivery;
use crate::subscription::{SubRef, Target};
use crate::trace;

/// A message to publish. Borrows the publisher's buffer.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// Where it goes: decides who receives it.
    pub subject: &'a [u8],
    /// The subject printed to receivers where it differs: a stream's message travels to a consumer's inbox under
    /// the subject it was stored with. Empty means `subject`.
    pub shown_subject: &'a [u8],
    /// Reply subject; empty when absent.
    pub reply: &'a [u8],
    /// Length of the header block at the start of `body`.
    pub header_len: usize,
    /// Header block and payload.
    pub body: &'a [u8],
}

/// The publishing end of one thread of work: a connection's reader task, or a service inside the server. Holds
/// the cache of match results and the connections that were appended to and not written yet; the owner calls
/// [`Publisher::flush`] at the end of each batch.
pub struct Publisher {
    shared: Arc<Shared>,
    cache: MatchCache,
    out: Output,
}

/// Everything of a publisher that deliveries touch.
struct Output {
    shared: Arc<Shared>,
    touched: Vec<Arc<Conn>>,
    max_pending: usize,
    stall_above: usize,
    drop_when_slow: bool,
    /// A target that is nearly full.
    slow: Option<Arc<Conn>>,
    random: fastrand_lite::Random,
    stripped: Vec<u8>,
    msgs: u64,
    bytes: u64,
}

impl Publisher {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let seed = shared.rng.next_u64();
        let out = Output {
            shared: shared.clone(),
            touched: Vec::new(),
            max_pending: 0,
            stall_above: 0,
            drop_when_slow: false,
            slow: None,
            random: fastrand_lite::Random::new(seed),
            stripped: Vec::new(),
            msgs: 0,
            bytes: 0,
        };
        let mut this = Self { shared, cache: MatchCache::default(), out };
        this.reconfigure();
        this
    }

    /// Takes over the current limits.
    pub(crate) fn reconfigure(&mut self) {
        let config = self.shared.config.load();
        self.out.max_pending = config.max_pending;
        self.out.stall_above = config.max_pending / 4 * 3;
        self.out.drop_when_slow = config.no_fast_producer_stall;
    }

    /// Publishes for a service inside the server. Returns how many receivers were reached. Nothing is written to
    /// sockets before [`Publisher::flush`].
    pub fn publish(&mut self, account: &Arc<Account>, message: &Message<'_>) -> usize {
        self.route(account, None, message)
    }

    /// The publish permission for `subject`; `judge` is asked once per subject, its answer cached.
    pub(crate) fn permits(
        &mut self,
        account: &Arc<Account>,
        subject: &[u8],
        judge: impl FnOnce() -> bool,
    ) -> bool {
        self.cache.permits(account, subject, judge)
    }

    /// Delivers to everybody who wants the message; returns how many receivers that were.
    pub(crate) fn route(
        &mut self,
        account: &Arc<Account>,
        origin: Option<&Arc<Conn>>,
        message: &Message<'_>,
    ) -> usize {
        let matches = self.cache.get(account, message.subject);
        if matches.is_empty() {
            return 0;
        }
        let fan_out = matches.plain().len() + matches.queues().len();
        let shared_body =
            (fan_out > 1 && message.body.len() >= SHARE_MIN).then(|| Bytes::copy_from_slice(message.body));
        let mut delivered = 0;
        for sub in matches.plain() {
            delivered += usize::from(self.out.deliver(account, origin, sub, message, shared_body.as_ref()));
        }
        for queue in matches.queues() {
            delivered +=
                usize::from(self.out.deliver_to_one(account, origin, queue, message, shared_body.as_ref()));
        }
        delivered
    }

    /// Writes every connection that was appended to since the last call.
    pub fn flush(&mut self) {
        let config = self.shared.config.load();
        for conn in self.out.touched.drain(..) {
            flush_conn(&self.shared, &conn, config.write_deadline);
        }
        let stats = &self.shared.stats;
        stats.out_msgs.fetch_add(std::mem::take(&mut self.out.msgs), Ordering::Relaxed);
        stats.out_bytes.fetch_add(std::mem::take(&mut self.out.bytes), Ordering::Relaxed);
        stats.matches.fetch_add(std::mem::take(&mut self.cache.lookups), Ordering::Relaxed);
        stats.cache_hits.fetch_add(std::mem::take(&mut self.cache.hits), Ordering::Relaxed);
    }

    /// Appends protocol bytes to the publisher's own connection, to be written with the next flush.
    pub(crate) fn push(&mut self, conn: &Arc<Conn>, bytes: &[u8]) {
        if trace::is_on() {
            trace::said(conn, bytes);
        }
        if let Pushed::Queued { schedule: true, .. } = conn.outbound.push(bytes) {
            self.out.touched.push(conn.clone());
        }
    }

    /// A subscriber that is nearly full, if deliveries since the last call met one.
    pub(crate) fn take_slow(&mut self) -> Option<Arc<Conn>> {
        self.out.slow.take()
    }

    /// Forgets cached match results.
    pub(crate) fn release(&mut self) {
        self.cache.release();
        self.out.touched = Vec::new();
        self.out.stripped = Vec::new();
    }
}

/// Writes what is queued to a connection.
pub(crate) fn flush_conn(shared: &Arc<Shared>, conn: &Arc<Conn>, write_deadline: std::time::Duration) {
    let on_failure = {
        let (shared, conn) = (shared.clone(), conn.clone());
        move |failure| match failure {
            WriteFailure::Deadline => slow_consumer(&shared, &conn, CloseReason::SlowConsumerWriteDeadline),
            WriteFailure::Error => conn.close(CloseReason::WriteError),
        }
    };
    conn.outbound.flush(&shared.runtime, write_deadline, on_failure);
}

/// Appends protocol bytes to a connection from outside its reader task and writes them.
pub(crate) fn push_and_flush(shared: &Arc<Shared>, conn: &Arc<Conn>, bytes: &[u8]) {
    if trace::is_on() {
        trace::said(conn, bytes);
    }
    if let Pushed::Queued { schedule: true, .. } = conn.outbound.push(bytes) {
        flush_conn(shared, conn, shared.config.load().write_deadline);
    }
}

/// Says why, writes what is queued and closes, from outside the reader task.
pub(crate) fn close_with_text(shared: &Arc<Shared>, conn: &Arc<Conn>, reason: CloseReason, text: &str) {
    conn.note_reason(reason);
    let mut line = Vec::new();
    linnet_wire::encode::err(&mut line, text);
    conn.outbound.push(&line);
    conn.outbound.finish(&shared.runtime, Shutdown::Both);
}

fn slow_consumer(shared: &Arc<Shared>, conn: &Arc<Conn>, reason: CloseReason) {
    if conn.close_reason().is_none() {
        shared.stats.slow_consumers.fetch_add(1, Ordering::Relaxed);
        tracing::info!("{} - Slow Consumer Detected: {}", conn.log_prefix(), reason.as_str());
    }
    conn.close(reason);
}

impl Output {
    /// One member of the group, starting at random, skipping those that cannot take it.
    fn deliver_to_one(
        &mut self,
        account: &Arc<Account>,
        origin: Option<&Arc<Conn>>,
        queue: &QueueMatch<SubRef>,
        message: &Message<'_>,
        shared_body: Option<&Bytes>,
    ) -> bool {
        let members = &queue.members;
        let start = self.random.below(members.len());
        let (tail, head) = members.split_at(start);
        head.iter().chain(tail).any(|sub| self.deliver(account, origin, sub, message, shared_body))
    }

    fn deliver(
        &mut self,
        account: &Arc<Account>,
        origin: Option<&Arc<Conn>>,
        sub: &SubRef,
        message: &Message<'_>,
        shared_body: Option<&Bytes>,
    ) -> bool {
        let conn = match &sub.target {
            Target::Client(conn) => conn,
            Target::Sink(sink) => {
                sub.delivered.fetch_add(1, Ordering::Relaxed);
                sink.deliver(&Delivery {
                    account,
                    origin,
                    subscription: sub,
                    subject: message.subject,
                    reply: message.reply,
                    header_len: message.header_len,
                    body: message.body,
                });
                return true;
            }
        };
        if sub.is_closed() {
            return false;
        }
        if conn.no_echo.load(Ordering::Relaxed) && origin.is_some_and(|o| Arc::ptr_eq(o, conn)) {
            return false;
        }
        let max = sub.max.load(Ordering::Relaxed);
        if max > 0 {
            // The count includes this message: whoever brings it to the limit ends the subscription.
            let nth = sub.claimed.fetch_add(1, Ordering::Relaxed) + 1;
            if nth >= max {
                conn.subs.lock().remove(&sub.sid);
                account.remove(sub);
            }
            if nth > max {
                return false;
            }
        }
        // A client's message is dropped where it would otherwise have to wait for the receiver.
        if self.drop_when_slow && origin.is_some() && conn.outbound.pending() > self.stall_above {
            return false;
        }
        self.append(conn, sub, message, shared_body)
    }

    fn append(
        &mut self,
        conn: &Arc<Conn>,
        sub: &SubRef,
        message: &Message<'_>,
        shared_body: Option<&Bytes>,
    ) -> bool {
        let shown = if message.shown_subject.is_empty() { message.subject } else { message.shown_subject };
        let mut frame = Frame {
            subject: shown,
            sid: &sub.sid,
            reply: message.reply,
            header_len: message.header_len,
            body: message.body,
            shared: shared_body,
        };
        if message.header_len > 0 && !conn.headers.load(Ordering::Relaxed) {
            frame.body = message.body.get(message.header_len..).unwrap_or_default();
            frame.header_len = 0;
            frame.shared = None;
        }
        if trace::is_on() {
            trace::delivered(conn, &frame, &self.shared.config.load());
        }
        match conn.outbound.deliver(&frame, &sub.delivered, self.max_pending) {
            Pushed::Queued { schedule, pending } => {
                if schedule {
                    self.touched.push(conn.clone());
                }
                if pending > self.stall_above && !self.drop_when_slow {
                    self.slow = Some(conn.clone());
                }
                self.msgs += 1;
                self.bytes += frame.body.len() as u64;
                self.grant_reply(conn, message.reply);
                true
            }
            Pushed::Closed => false,
            Pushed::Full => {
                slow_consumer(&self.shared, conn, CloseReason::SlowConsumerPendingBytes);
                false
            }
        }
    }

    /// A user with `allow_responses` may answer what it receives.
    fn grant_reply(&self, conn: &Arc<Conn>, reply: &[u8]) {
        if reply.is_empty() || !conn.has_permissions() {
            return;
        }
        if let Some(rule) = conn.permissions().and_then(|p| p.responses) {
            conn.replies.grant(reply, rule, &*self.shared.clock);
        }
    }
}

/// A tiny generator for choosing queue members: quality matters little, speed does.
mod fastrand_lite {
    pub(super) struct Random(u64);

    impl Random {
        pub(super) fn new(seed: u64) -> Self {
            Self(seed | 1)
        }

        pub(super) fn below(&mut self, bound: usize) -> usize {
            if bound < 2 {
                return 0;
            }
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from((u128::from(self.0) * bound as u128) >> 64).unwrap_or(0)
        }
    }
}
