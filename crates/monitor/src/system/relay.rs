//! Requests that every account may make of the system, answered about itself: they go on in the system account, and
//! the answers of all servers come back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use linnet_broker::Account;
use linnet_ids::Mono;

/// How long answers are passed on.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Requests that wait at a time; the oldest make room.
const WAITING_MAX: usize = 4096;

/// What any account may ask, and what that means in the system account: `{}` stands for its name.
pub(super) const OPEN_TO_ALL: [(&str, &str); 3] = [
    ("$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.ACCOUNT.{}.CONNZ"),
    ("$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.ACCOUNT.{}.CONNZ"),
    ("$SYS.REQ.ACCOUNT.PING.STATZ", "$SYS.REQ.ACCOUNT.{}.STATZ"),
];

/// Who waits for answers.
#[derive(Default)]
pub(super) struct Relay {
    waiting: HashMap<String, Asker>,
    order: VecDeque<(Mono, String)>,
}

/// Where answers go.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) account: Arc<Account>,
    pub(super) reply: Vec<u8>,
}

/// The subject in the system account of what `account` asks.
pub(super) fn inside(subject: &str, account: &str) -> Option<String> {
    let (_, inside) = OPEN_TO_ALL.iter().find(|(open, _)| *open == subject)?;
    Some(inside.replace("{}", account))
}

impl Relay {
    /// Answers under `token` are for `asker` from now on.
    pub(super) fn wait(&mut self, token: String, asker: Asker, now: Mono) {
        self.expire(now);
        if self.order.len() >= WAITING_MAX
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.waiting.remove(&oldest);
        }
        self.order.push_back((now + WAIT_MAX, token.clone()));
        self.waiting.insert(token, asker);
    }

    /// Whom an answer is for.
    pub(super) fn asker(&mut self, token: &str, now: Mono) -> Option<Asker> {
        self.expire(now);
        self.waiting.get(token).cloned()
    }

    fn expire(&mut self, now: Mono) {
        while let Some((until, _)) = self.order.front()
            && *until <= now
            && let Some((_, token)) = self.order.pop_front()
        {
            self.waiting.remove(&token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker() -> Asker {
        let account = Account::new("A", false, linnet_broker::AccountLimits::default());
        Asker { account, reply: b"_INBOX.1".to_vec() }
    }

    #[test]
    fn answers_are_passed_on_for_ten_seconds() {
        let mut relay = Relay::default();
        relay.wait("t".to_owned(), asker(), Mono(0));
        let almost = Mono(9_999_999_999);
        assert!(relay.asker("t", almost).is_some() && relay.asker("t", almost).is_some());
        assert!(relay.asker("other", almost).is_none());
        assert!(relay.asker("t", Mono(10_000_000_000)).is_none());
        assert!(relay.waiting.is_empty() && relay.order.is_empty());
    }

    #[test]
    fn oldest_requests_make_room() {
        let mut relay = Relay::default();
        for n in 0..=WAITING_MAX {
            relay.wait(n.to_string(), asker(), Mono(0));
        }
        assert_eq!(relay.waiting.len(), WAITING_MAX);
        assert!(relay.asker("0", Mono(0)).is_none() && relay.asker("1", Mono(0)).is_some());
    }

    #[test]
    fn accounts_ask_about_themselves() {
        assert_eq!(inside("$SYS.REQ.SERVER.PING.CONNZ", "A").as_deref(), Some("$SYS.REQ.ACCOUNT.A.CONNZ"));
        assert_eq!(inside("$SYS.REQ.SERVER.PING.VARZ", "A"), None);
    }
}
