//! Who would get a message, over all servers of the cluster: `$SYS.DEBUG.SUBSCRIBERS` (monitoring, "Account requests").
//!
//! The server that is asked counts its own clients' subscriptions and asks the others for theirs. What they say within half
//! a second is part of the answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use linnet_broker::{Account, Subscription};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::System;
use super::mail::Request;
use super::relay::Asker;
use super::reply::text;
use super::voice;

/// What a client asks its server.
pub(super) const ASK_ALL: &str = "$SYS.DEBUG.SUBSCRIBERS";
/// What servers ask each other.
pub(super) const ASK_EACH: &str = "$SYS.REQ.ACCOUNT.NSUBS";
/// How long others may take to answer.
const WAIT: Duration = Duration::from_millis(500);
/// Questions that wait for others at a time; further ones are answered with what is known here.
const WAITING_MAX: usize = 1024;

/// Which subscriptions are counted.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Question {
    acc: String,
    #[serde(default)]
    subject: String,
    /// Queue group, in base64; empty for all subscriptions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    queue: String,
}

impl Question {
    /// `subject` or `subject group`, as clients write it.
    fn read(payload: &[u8], account: &str) -> Self {
        let payload = String::from_utf8_lossy(payload);
        let mut words = payload.split_whitespace();
        let subject = words.next().unwrap_or_default().to_owned();
        let queue = words.next().map(|name| BASE64.encode(name.as_bytes())).unwrap_or_default();
        Self { acc: account.to_owned(), subject, queue }
    }

    /// Subscriptions of this server's clients that it means; `None` if the name of the group cannot be read.
    fn count(&self, account: &Account) -> Option<usize> {
        let queue = BASE64.decode(self.queue.as_bytes()).ok()?;
        let is_meant = |sub: &Subscription| {
            sub.conn().is_some()
                && (queue.is_empty() || sub.queue.as_deref() == Some(queue.as_slice()))
                && is_counted(self.subject.as_bytes(), &sub.subject)
        };
        Some(account.subscriptions().iter().filter(|sub| is_meant(sub)).count())
    }
}

/// True if a subscription to `subscribed` gets messages on `asked`; if that has wildcards, no others but those.
fn is_counted(asked: &[u8], subscribed: &[u8]) -> bool {
    if linnet_subject::is_literal(asked) {
        linnet_subject::matches(asked, subscribed)
    } else {
        linnet_subject::is_subset(subscribed, asked)
    }
}

/// Questions that wait for other servers.
#[derive(Default)]
pub(super) struct Counts {
    waiting: HashMap<String, Count>,
    /// All wait equally long.
    order: VecDeque<(Instant, String)>,
}

struct Count {
    asker: Asker,
    sum: usize,
    missing: usize,
}

impl Counts {
    /// When the question that has waited longest is to be answered; `None` if none waits.
    pub(super) fn due(&self) -> Option<Instant> {
        self.order.front().map(|(until, _)| *until)
    }

    fn wait(&mut self, token: String, count: Count, now: Instant) {
        self.order.push_back((now + WAIT, token.clone()));
        self.waiting.insert(token, count);
    }

    fn is_full(&self) -> bool {
        self.order.len() >= WAITING_MAX
    }

    /// A server has answered. Returns the count once it is complete.
    fn add(&mut self, token: &str, found: usize) -> Option<Count> {
        let count = self.waiting.get_mut(token)?;
        count.sum = count.sum.saturating_add(found);
        count.missing = count.missing.saturating_sub(1);
        if count.missing > 0 {
            return None;
        }
        self.order.retain(|(_, other)| other != token);
        self.waiting.remove(token)
    }

    /// The next count whose time is up.
    fn expire(&mut self, now: Instant) -> Option<Count> {
        let (until, _) = self.order.front()?;
        if *until > now {
            return None;
        }
        let (_, token) = self.order.pop_front()?;
        self.waiting.remove(&token)
    }
}

impl System {
    /// A client asks who would get a message.
    pub(super) fn on_count_all(&mut self, request: &Request) {
        // Others than clients of this server are not told of the service.
        if request.reply.is_empty() || request.conn.is_none() {
            return;
        }
        let Some(system) = self.subscriptions.system().cloned() else { return };
        let question = Question::read(&request.payload, request.account.name());
        let sum = question.count(&request.account).unwrap_or(0);
        let missing = self.monitor.broker().connected_servers().len();
        let asker = Asker { account: request.account.clone(), reply: request.reply.clone() };
        let count = Count { asker, sum, missing };
        if missing == 0 || self.counts.is_full() {
            return self.tell_count(&count);
        }
        let token = self.names.unique();
        let reply = format!("$SYS._INBOX.{}.{token}", self.node);
        self.counts.wait(token, count, Instant::now());
        let body = text(&question);
        voice::publish(&mut self.publisher, &system, ASK_EACH.as_bytes(), reply.as_bytes(), 0, &body);
    }

    /// Another server asks what there is here.
    pub(super) fn on_count(&mut self, request: &Request) {
        let own = format!("$SYS._INBOX.{}.", self.node);
        if request.reply.starts_with(own.as_bytes()) {
            return;
        }
        let Ok(question) = serde_json::from_slice::<Question>(&request.payload) else {
            tracing::error!("Error unmarshalling account nsubs request message");
            return;
        };
        let account = self.monitor.broker().account(&question.acc);
        if let Some(found) = account.and_then(|account| question.count(&account)) {
            self.reply(request, found.to_string().as_bytes());
        }
    }

    /// What another server has counted, if that was asked for.
    pub(super) fn on_counted_there(&mut self, answer: &Request, token: &str) {
        let found = std::str::from_utf8(&answer.payload).ok().and_then(|text| text.parse().ok());
        if let Some(count) = found.and_then(|found| self.counts.add(token, found)) {
            self.tell_count(&count);
        }
    }

    /// Answers what has waited long enough.
    pub(super) fn answer_late_counts(&mut self) {
        let now = Instant::now();
        while let Some(count) = self.counts.expire(now) {
            self.tell_count(&count);
        }
    }

    fn tell_count(&mut self, count: &Count) {
        let Asker { account, reply } = &count.asker;
        let (account, reply): (&Arc<Account>, &[u8]) = (account, reply);
        voice::publish(&mut self.publisher, account, reply, b"", 0, count.sum.to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use linnet_broker::AccountLimits;

    use super::*;

    #[test]
    fn questions_name_a_subject_and_perhaps_a_group() {
        let question = |payload: &str| Question::read(payload.as_bytes(), "A");
        let expected = |subject: &str, queue: &str| Question {
            acc: "A".to_owned(),
            subject: subject.to_owned(),
            queue: queue.to_owned(),
        };
        assert_eq!(question("foo"), expected("foo", ""));
        assert_eq!(question(" foo q more"), expected("foo", "cQ=="));
        assert_eq!(question(""), expected("", ""));
        assert_eq!(text(&question("foo q")), br#"{"acc":"A","subject":"foo","queue":"cQ=="}"#);
        let account = Account::new("A", false, AccountLimits::default());
        assert_eq!(expected("foo", "q").count(&account), None, "no base64");
    }

    #[test]
    fn subjects_count_who_gets_them_and_wildcards_who_gets_nothing_else() {
        let rows = [
            ("foo", "foo", true),
            ("foo", "*", true),
            ("foo", "foo.>", false),
            ("foo.*", "foo.x", true),
            ("foo.*", "foo.*", true),
            ("foo.*", "foo.>", false),
            (">", "a.b", true),
            ("", "a", false),
        ];
        for (asked, subscribed, is) in rows {
            assert_eq!(is_counted(asked.as_bytes(), subscribed.as_bytes()), is, "{asked} {subscribed}");
        }
    }

    #[test]
    fn counts_are_complete_when_all_have_answered_or_their_time_is_up() {
        let mut counts = Counts::default();
        let start = Instant::now();
        let account = Account::new("A", false, AccountLimits::default());
        let count = |missing| {
            let asker = Asker { account: account.clone(), reply: b"r".to_vec() };
            Count { asker, sum: 1, missing }
        };
        counts.wait("a".to_owned(), count(2), start);
        counts.wait("b".to_owned(), count(2), start + Duration::from_millis(1));
        assert!(counts.add("a", 3).is_none() && counts.add("strange", 3).is_none());
        assert_eq!(counts.add("a", 4).map(|count| count.sum), Some(8));
        assert!(counts.add("a", 4).is_none(), "it has been answered");
        counts.add("b", 5);
        assert!(counts.expire(start + WAIT).is_none());
        assert_eq!(counts.due(), Some(start + WAIT + Duration::from_millis(1)));
        assert_eq!(counts.expire(start + WAIT * 2).map(|count| count.sum), Some(6));
        assert!(counts.due().is_none() && counts.waiting.is_empty());
    }
}
