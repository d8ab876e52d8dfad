use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use linnet_interest::{Matches, QueueMatch};
use linnet_links::propagation::{self, Matter, Neighbour, Passing, Place};
use linnet_wire::encode;
use linnet_wire::route::{self, Queues};

use crate::account::Account;
use crate::broker::Shared;
use crate::close::CloseReason;
use crate::cluster::Outgoing;
use crate::config::Config;
use crate::conn::Conn;
use crate::outbound::{Frame, Pushed, SHARE_MIN};
use crate::router::{Message, slow_consumer};
use crate::sink::Delivery;
use crate::staging::Staging;
use crate::subscription::{SubRef, Target};
use crate::trace;
use crate::traffic::Sums;

/// Bytes of a line between servers besides its subjects, names and body.
const LINE_OVERHEAD: usize = 64;

/// Everything of a publisher that deliveries touch.
pub(crate) struct Output {
    shared: Arc<Shared>,
    pub(crate) staging: Staging,
    max_pending: usize,
    stall_above: usize,
    drop_when_slow: bool,
    /// A target that is nearly full.
    slow: Option<Arc<Conn>>,
    random: fastrand_lite::Random,
    form: Form,
    /// Other servers that the message being delivered is for.
    outgoing: Outgoing,
    /// The account of the messages last delivered, and what it has not been told of them.
    counted: Option<Arc<Account>>,
    pub(crate) sums: Sums,
    /// Messages that reached connections' queues, and their bytes, not yet added to the server's counts.
    pub(crate) msgs: u64,
    pub(crate) bytes: u64,
}

/// The message that is being delivered, formatted as far as all receivers get the same.
#[derive(Default)]
struct Form {
    /// In use: several receivers get copies.
    is_set: bool,
    before_sid: Vec<u8>,
    behind_sid: Vec<u8>,
    /// A large body that receivers share instead.
    body: Option<Bytes>,
}

/// Who publishes, and into which account.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) account: &'a Arc<Account>,
    /// `None` for a service inside the server.
    pub(crate) origin: Option<&'a Arc<Conn>>,
    /// Another server that sent it by a route.
    pub(crate) server: Option<&'a str>,
}

impl Form {
    fn set(&mut self, fan_out: usize, message: &Message<'_>) {
        self.is_set = false;
        self.body = None;
        if fan_out < 2 {
            return;
        }
        if message.body.len() >= SHARE_MIN {
            self.body = Some(Bytes::copy_from_slice(message.body));
            return;
        }
        self.is_set = true;
        self.before_sid.clear();
        self.behind_sid.clear();
        encode::msg_line_before_sid(&mut self.before_sid, message.shown(), message.header_len);
        let total = message.body.len();
        encode::msg_line_behind_sid(&mut self.behind_sid, message.reply, message.header_len, total);
        self.behind_sid.extend_from_slice(message.body);
        self.behind_sid.extend_from_slice(encode::CRLF);
    }

    fn write(&self, sid: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.before_sid);
        out.extend_from_slice(sid);
        out.extend_from_slice(&self.behind_sid);
    }
}

impl Output {
    pub(crate) fn new(shared: Arc<Shared>, seed: u64) -> Self {
        Self {
            shared,
            staging: Staging::default(),
            max_pending: 0,
            stall_above: 0,
            drop_when_slow: false,
            slow: None,
            random: fastrand_lite::Random::new(seed),
            form: Form::default(),
            outgoing: Outgoing::default(),
            counted: None,
            sums: Sums::default(),
            msgs: 0,
            bytes: 0,
        }
    }

    /// Takes over the current limits.
    pub(crate) fn reconfigure(&mut self, config: &Config) {
        self.max_pending = config.max_pending;
        self.stall_above = config.max_pending / 4 * 3;
        self.drop_when_slow = config.no_fast_producer_stall;
    }

    /// Lets go of connections and accounts that may be gone.
    pub(crate) fn release(&mut self) {
        self.outgoing.release();
        self.fold_sums();
        self.counted = None;
    }

    /// What is counted from now on is this account's.
    #[inline]
    pub(crate) fn count_for(&mut self, account: &Arc<Account>) {
        if !self.counted.as_ref().is_some_and(|counted| Arc::ptr_eq(counted, account)) {
            self.fold_sums();
            self.counted = Some(account.clone());
        }
    }

    /// Adds what was counted to the account's own counts.
    pub(crate) fn fold_sums(&mut self) {
        if let Some(account) = &self.counted {
            self.sums.fold_into(&account.traffic);
        }
    }

    /// A subscriber that is nearly full, if deliveries since the last call met one.
    pub(crate) fn take_slow(&mut self) -> Option<Arc<Conn>> {
        self.slow.take()
    }

    /// Makes ready for a message to these receivers.
    #[inline]
    fn begin(&mut self, matches: &Matches<SubRef>, message: &Message<'_>) {
        if self.staging.lanes.are_full() {
            self.hand_over_all();
        }
        self.form.set(matches.plain().len() + matches.queues().len(), message);
        self.staging.lanes.begin_message();
    }

    /// Delivers to everybody in `matches`; returns how many receivers that were.
    pub(crate) fn spread(
        &mut self,
        source: Source<'_>,
        matches: &Matches<SubRef>,
        message: &Message<'_>,
    ) -> usize {
        self.begin(matches, message);
        self.count_for(source.account);
        let mut delivered = 0;
        for sub in matches.plain() {
            delivered += usize::from(self.deliver(source, sub, message));
        }
        for queue in matches.queues() {
            delivered += usize::from(self.deliver_to_one(source, queue, message));
        }
        if !self.outgoing.is_empty() {
            self.send_on(source, message);
        }
        delivered
    }

    /// Delivers what another server sent: to everybody here who plainly wants it, and to one member of each group that
    /// is named, which may be on another server if there is none here.
    pub(crate) fn spread_from_route(
        &mut self,
        source: Source<'_>,
        matches: &Matches<SubRef>,
        message: &Message<'_>,
        queues: Queues<'_>,
    ) -> usize {
        self.begin(matches, message);
        let mut delivered = 0;
        for sub in matches.plain().iter().filter(|sub| goes_on(sub, Matter::Message)) {
            delivered += usize::from(self.deliver(source, sub, message));
        }
        for name in queues.iter() {
            let Some(queue) = matches.queues().iter().find(|queue| queue.name == name) else { continue };
            let is_taken = self.deliver_to_one_of(source, queue, message, |sub| !sub.is_remote())
                || self.deliver_to_one_of(source, queue, message, |sub| {
                    sub.is_remote() && goes_on(sub, Matter::QueueFallback)
                });
            delivered += usize::from(is_taken);
        }
        if !self.outgoing.is_empty() {
            self.send_on(source, message);
        }
        delivered
    }

    /// Sends the message to the other servers that it is for, one line each.
    fn send_on(&mut self, source: Source<'_>, message: &Message<'_>) {
        let mut outgoing = std::mem::take(&mut self.outgoing);
        let reply = relayed_reply(message);
        let size = message.subject.len() + reply.len() + source.account.name().len() + message.body.len();
        for entry in outgoing.entries() {
            let conn = &entry.route.conn;
            let queues_len: usize = entry.queues().map(|name| name.len() + 1).sum();
            let bound = size + queues_len + LINE_OVERHEAD;
            let at = self.staging.position(conn);
            if self.staging.is_full_for(at, bound) {
                self.hand_over(at);
            }
            let line = route::Message {
                origin: None,
                account: source.account.name().as_bytes(),
                subject: message.subject,
                reply: &reply,
                queues: Queues::default(),
                header_len: message.header_len,
                body: message.body,
            };
            let form = entry.route.form();
            let batch =
                self.staging.add(at, bound, |out| route::write_message(out, &line, entry.queues(), &form));
            batch.count_unnamed(message.body.len());
            self.sums.to_routes.add(message.body.len());
        }
        outgoing.clear();
        self.outgoing = outgoing;
    }

    /// One of those members that are meant: each of them is the first to be asked as often as the others, however many
    /// there are that are not meant.
    fn deliver_to_one_of(
        &mut self,
        source: Source<'_>,
        queue: &QueueMatch<SubRef>,
        message: &Message<'_>,
        is_meant: impl Fn(&SubRef) -> bool,
    ) -> bool {
        let meant = || queue.members.iter().filter(|sub| is_meant(sub));
        let count = meant().count();
        let start = self.random.below(count);
        meant().skip(start).chain(meant().take(start)).any(|sub| self.deliver(source, sub, message))
    }

    /// One member of the group, starting at random, skipping those that cannot take it.
    fn deliver_to_one(
        &mut self,
        source: Source<'_>,
        queue: &QueueMatch<SubRef>,
        message: &Message<'_>,
    ) -> bool {
        let members = &queue.members;
        let start = self.random.below(members.len());
        let (tail, head) = members.split_at(start);
        head.iter().chain(tail).any(|sub| self.deliver(source, sub, message))
    }

    fn deliver(&mut self, source: Source<'_>, sub: &SubRef, message: &Message<'_>) -> bool {
        let conn = match &sub.target {
            Target::Client(conn) => conn,
            Target::Route(route) => {
                self.outgoing.add(route, sub);
                return true;
            }
            Target::Sink(sink) => {
                sub.delivered.fetch_add(1, Ordering::Relaxed);
                sink.deliver(&Delivery {
                    account: source.account,
                    origin: source.origin,
                    server: source.server,
                    subscription: sub,
                    subject: message.shown(),
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
        if conn.no_echo.load(Ordering::Relaxed) && source.origin.is_some_and(|o| Arc::ptr_eq(o, conn)) {
            return false;
        }
        let max = sub.max.load(Ordering::Relaxed);
        if max > 0 {
            // The count includes this message: whoever brings it to the limit ends the subscription.
            let nth = sub.claimed.fetch_add(1, Ordering::Relaxed) + 1;
            if nth >= max {
                conn.subs.lock().remove(&sub.sid);
                source.account.remove(sub);
            }
            if nth > max {
                return false;
            }
        }
        // A client's message is dropped where it would otherwise have to wait for the receiver.
        if self.drop_when_slow && source.origin.is_some() && self.is_nearly_full(conn) {
            return false;
        }
        self.append(conn, sub, message)
    }

    /// True if more is waiting for the connection than a producer may add to, what is staged for it included.
    pub(crate) fn is_nearly_full(&mut self, conn: &Arc<Conn>) -> bool {
        let at = self.staging.position(conn);
        conn.outbound.pending() + self.staging.batch(at).bytes() > self.stall_above
    }

    /// True if messages for connections that are nearly full are dropped instead.
    pub(crate) fn drops_when_slow(&self) -> bool {
        self.drop_when_slow
    }

    fn append(&mut self, conn: &Arc<Conn>, sub: &SubRef, message: &Message<'_>) -> bool {
        let is_stripped = message.header_len > 0 && !conn.headers.load(Ordering::Relaxed);
        let frame = Frame {
            subject: message.shown(),
            sid: &sub.sid,
            reply: message.reply,
            header_len: if is_stripped { 0 } else { message.header_len },
            body: if is_stripped {
                message.body.get(message.header_len..).unwrap_or_default()
            } else {
                message.body
            },
        };
        if trace::is_on() {
            trace::delivered(conn, &frame, &self.shared.config.load());
        }
        let is_taken = if sub.queue.is_some() || (self.form.body.is_some() && !is_stripped) {
            self.append_now(conn, sub, &frame, is_stripped)
        } else {
            self.stage(conn, sub, &frame, is_stripped);
            true
        };
        if is_taken {
            self.sums.to_clients.add(frame.body.len());
            if !message.reply.is_empty() {
                self.grant_reply(conn, message.reply);
            }
        }
        is_taken
    }

    /// Adds the message to the connection's batch.
    #[inline]
    fn stage(&mut self, conn: &Arc<Conn>, sub: &SubRef, frame: &Frame<'_>, is_stripped: bool) {
        let at = self.staging.position(conn);
        let size = frame.size_bound();
        if self.staging.is_full_for(at, size) {
            self.hand_over(at);
        }
        let form = &self.form;
        let place = if form.is_set && !is_stripped {
            self.staging.lanes.place(frame.sid, |out| form.write(frame.sid, out))
        } else {
            None
        };
        let batch = match place {
            Some(place) => self.staging.add_place(at, place),
            None => self.staging.add(at, size, |out| {
                if form.is_set && !is_stripped {
                    form.write(frame.sid, out);
                } else {
                    frame.encode_line(out);
                    out.extend_from_slice(frame.body);
                    out.extend_from_slice(encode::CRLF);
                }
            }),
        };
        batch.count(sub, frame.body.len());
    }

    /// Appends to the connection's queue at once, behind what is staged for it.
    fn append_now(&mut self, conn: &Arc<Conn>, sub: &SubRef, frame: &Frame<'_>, is_stripped: bool) -> bool {
        let at = self.staging.position(conn);
        self.hand_over(at);
        let shared = self.form.body.as_ref().filter(|_| !is_stripped);
        let pushed = conn.outbound.deliver(frame, shared, &sub.delivered, self.max_pending);
        if let Pushed::Queued { schedule, .. } = pushed {
            self.staging.batch(at).owes_flush |= schedule;
        }
        self.judge(conn, pushed, 1, frame.body.len() as u64)
    }

    /// Acts on what a connection's queue said to messages.
    fn judge(&mut self, conn: &Arc<Conn>, pushed: Pushed, msgs: u64, bytes: u64) -> bool {
        match pushed {
            Pushed::Queued { pending, .. } => {
                if pending > self.stall_above {
                    self.slow = Some(conn.clone());
                }
                self.msgs += msgs;
                self.bytes += bytes;
                true
            }
            Pushed::Closed => false,
            Pushed::Full => {
                let what = format!("MaxPending of {} Exceeded", conn.outbound.bound(self.max_pending));
                slow_consumer(&self.shared, conn, CloseReason::SlowConsumerPendingBytes, &what);
                false
            }
        }
    }

    fn hand_over(&mut self, at: usize) {
        let Some((conn, handed)) = self.staging.hand_over(at, self.max_pending) else { return };
        self.judge(&conn, handed.pushed, handed.msgs, handed.msg_bytes);
    }

    /// Puts everything staged into the connections' queues.
    pub(crate) fn hand_over_all(&mut self) {
        if std::mem::take(&mut self.staging.holds_messages) {
            self.staging.lanes.freeze();
            (0..self.staging.len()).for_each(|at| self.hand_over(at));
            self.staging.lanes.clear();
        }
    }

    /// Notes that the connection's queue is to be written with the next flush.
    pub(crate) fn owe_flush(&mut self, conn: &Arc<Conn>) {
        let at = self.staging.position(conn);
        self.staging.batch(at).owes_flush = true;
    }

    /// A user with `allow_responses` may answer what it receives.
    fn grant_reply(&self, conn: &Arc<Conn>, reply: &[u8]) {
        if !conn.has_permissions() {
            return;
        }
        if let Some(rule) = conn.permissions().and_then(|p| p.responses) {
            conn.replies.grant(reply, rule, &*self.shared.clock);
        }
    }
}

/// True if a message that came by a route may go to the subscription.
fn goes_on(sub: &SubRef, matter: Matter) -> bool {
    !sub.is_remote() || propagation::message(Place::Route, Neighbour::Route, matter) == Passing::Yes
}

/// The reply as other servers get it: a stream's message travels under its consumer's inbox, and says behind the reply
/// what it was stored as (cluster protocols, "The `@` deliver-subject rewrite").
fn relayed_reply<'a>(message: &Message<'a>) -> Cow<'a, [u8]> {
    if message.shown_subject.is_empty() || message.reply.is_empty() {
        return Cow::Borrowed(message.reply);
    }
    Cow::Owned([message.reply, b"@", message.shown_subject].concat())
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
