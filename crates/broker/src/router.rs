use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use linnet_wire::route;

use crate::account::Account;
use crate::broker::Shared;
use crate::cache::MatchCache;
use crate::close::CloseReason;
use crate::conn::{Conn, ConnKind};
use crate::delivery::{Output, Source};
use crate::outbound::{Pushed, WriteFailure, WritePolicy};
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

impl<'a> Message<'a> {
    /// The subject printed to receivers.
    pub(crate) fn shown(&self) -> &'a [u8] {
        if self.shown_subject.is_empty() { self.subject } else { self.shown_subject }
    }
}

/// The publishing end of one thread of work: a connection's reader task, or a service inside the server. Holds
/// the cache of match results and what is not yet in the queues of its receivers, or not yet written; the owner calls
/// [`Publisher::flush`] at the end of each batch.
pub struct Publisher {
    shared: Arc<Shared>,
    cache: MatchCache,
    out: Output,
}

impl Publisher {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let seed = shared.rng.next_u64();
        let out = Output::new(shared.clone(), seed);
        let mut this = Self { shared, cache: MatchCache::default(), out };
        this.reconfigure();
        this
    }

    /// Takes over the current limits.
    pub(crate) fn reconfigure(&mut self) {
        self.out.reconfigure(&self.shared.config.load());
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
    #[inline]
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
        self.out.spread(Source { account, origin, server: None }, matches, message)
    }

    /// Delivers what another server sent; returns how many receivers were reached.
    pub(crate) fn route_in(
        &mut self,
        account: &Arc<Account>,
        server: Option<&str>,
        sent: &route::Message<'_>,
    ) -> usize {
        self.out.count_for(account);
        self.out.sums.from_routes.add(sent.body.len());
        let matches = self.cache.get(account, sent.subject);
        if matches.is_empty() {
            return 0;
        }
        let (reply, shown_subject) = split_reply(sent.reply);
        let message = Message {
            subject: sent.subject,
            shown_subject,
            reply,
            header_len: sent.header_len,
            body: sent.body,
        };
        self.out.spread_from_route(Source { account, origin: None, server }, matches, &message, sent.queues)
    }

    /// Writes every connection that was delivered to since the last call. Everything is in the connections' queues
    /// before the first byte is written.
    pub fn flush(&mut self) {
        self.out.hand_over_all();
        let config = self.shared.config.load();
        for conn in self.out.staging.drain() {
            flush_conn(&self.shared, &conn, config.write_policy);
        }
        self.out.staging.shrink();
        self.out.fold_sums();
        let stats = &self.shared.stats;
        stats.out_msgs.fetch_add(std::mem::take(&mut self.out.msgs), Ordering::Relaxed);
        stats.out_bytes.fetch_add(std::mem::take(&mut self.out.bytes), Ordering::Relaxed);
        let (lookups, misses) = self.cache.take_counts();
        stats.matches.fetch_add(lookups, Ordering::Relaxed);
        stats.cache_hits.fetch_add(lookups - misses, Ordering::Relaxed);
    }

    /// Puts everything published so far into the queues of its receivers, and counts it there.
    pub(crate) fn hand_over_all(&mut self) {
        self.out.hand_over_all();
    }

    /// Appends protocol bytes to the publisher's own connection, to be written with the next flush. They do not
    /// overtake what was published before: a client takes PONG as the sign that it has been delivered.
    pub(crate) fn push(&mut self, conn: &Arc<Conn>, bytes: &[u8]) {
        if trace::is_on() {
            trace::said(conn, bytes);
        }
        self.out.hand_over_all();
        if let Pushed::Queued { schedule: true, .. } = conn.outbound.push(bytes) {
            self.out.owe_flush(conn);
        }
    }

    /// True if something published since the last call went to a connection that is nearly full.
    pub fn met_slow(&mut self) -> bool {
        self.out.take_slow().is_some()
    }

    /// True if a connection that plainly subscribes to the subject is nearly full.
    pub fn is_slow(&mut self, account: &Arc<Account>, subject: &[u8]) -> bool {
        let matches = self.cache.get(account, subject);
        matches.plain().iter().filter_map(|sub| sub.conn()).any(|conn| self.out.is_nearly_full(conn))
    }

    /// A subscriber that is nearly full and worth waiting for, if deliveries since the last call met one.
    pub(crate) fn take_slow(&mut self) -> Option<Arc<Conn>> {
        let slow = self.out.take_slow();
        slow.filter(|_| !self.out.drops_when_slow())
    }

    /// Forgets cached match results.
    pub(crate) fn release(&mut self) {
        self.cache.release();
        self.out.release();
    }
}

/// Divides the reply of a stream's message from the subject it was stored with: behind an `@` that comes after the
/// tokens of an acknowledgement (cluster protocols, "The `@` deliver-subject rewrite").
fn split_reply(reply: &[u8]) -> (&[u8], &[u8]) {
    const ACK_DOTS: usize = 8;
    if !reply.starts_with(b"$JS.ACK.") {
        return (reply, b"");
    }
    let mut dots = 0;
    for (at, byte) in reply.iter().enumerate() {
        match byte {
            b'.' => dots += 1,
            b'@' if dots >= ACK_DOTS => {
                return (reply.get(..at).unwrap_or_default(), reply.get(at + 1..).unwrap_or_default());
            }
            _ => {}
        }
    }
    (reply, b"")
}

/// Writes what is queued to a connection.
pub(crate) fn flush_conn(shared: &Arc<Shared>, conn: &Arc<Conn>, policy: WritePolicy) {
    let on_failure = {
        let (shared, conn) = (shared.clone(), conn.clone());
        move |failure| match failure {
            WriteFailure::Deadline(late) => {
                slow_consumer(&shared, &conn, CloseReason::SlowConsumerWriteDeadline, &late.to_string());
            }
            WriteFailure::Error => conn.close(CloseReason::WriteError),
        }
    };
    conn.outbound.flush(&shared.runtime, policy, on_failure);
}

/// Appends protocol bytes to a connection from outside its reader task and writes them.
pub(crate) fn push_and_flush(shared: &Arc<Shared>, conn: &Arc<Conn>, bytes: &[u8]) {
    if trace::is_on() {
        trace::said(conn, bytes);
    }
    if let Pushed::Queued { schedule: true, .. } = conn.outbound.push(bytes) {
        flush_conn(shared, conn, shared.config.load().write_policy);
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

/// Closes a connection that does not keep up; `what` has been too much for it.
pub(crate) fn slow_consumer(shared: &Arc<Shared>, conn: &Arc<Conn>, reason: CloseReason, what: &str) {
    if conn.close_reason().is_none() {
        shared.stats.slow_consumers.fetch_add(1, Ordering::Relaxed);
        if conn.kind() == ConnKind::Route {
            shared.stats.slow_routes.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(account) = conn.account() {
            account.traffic.slow_consumers.fetch_add(1, Ordering::Relaxed);
        }
        tracing::info!("{} - Slow Consumer Detected: {what}", conn.log_prefix());
    }
    conn.close(reason);
}
