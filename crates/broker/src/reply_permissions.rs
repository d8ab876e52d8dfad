use std::collections::HashMap;

use linnet_auth::ResponseRule;
use linnet_env::Clock;
use linnet_ids::Mono;
use parking_lot::Mutex;

/// Tracked reply subjects of one connection; beyond this expired ones are dropped, then new ones are refused.
const REPLIES_MAX: usize = 10_000;

/// Reply subjects a client may answer because it received a message that carried them (`allow_responses`).
#[derive(Default)]
pub(crate) struct ReplyPermissions {
    replies: Mutex<HashMap<Vec<u8>, Reply>>,
}

struct Reply {
    left: Option<u64>,
    until: Option<Mono>,
}

impl Reply {
    fn is_valid(&self, now: Mono) -> bool {
        self.left != Some(0) && self.until.is_none_or(|t| now < t)
    }
}

impl ReplyPermissions {
    /// The client received a message with this reply subject.
    pub(crate) fn grant(&self, reply: &[u8], rule: ResponseRule, clock: &dyn Clock) {
        let now = clock.mono();
        let mut replies = self.replies.lock();
        if replies.len() >= REPLIES_MAX {
            replies.retain(|_, r| r.is_valid(now));
        }
        if replies.len() < REPLIES_MAX {
            replies.insert(reply.to_vec(), Reply { left: rule.max, until: rule.ttl.map(|ttl| now + ttl) });
        }
    }

    /// Uses up one permission to publish on `subject`; false if there is none.
    pub(crate) fn redeem(&self, subject: &[u8], clock: &dyn Clock) -> bool {
        let mut replies = self.replies.lock();
        let Some(reply) = replies.get_mut(subject) else { return false };
        if !reply.is_valid(clock.mono()) {
            replies.remove(subject);
            return false;
        }
        if let Some(left) = &mut reply.left {
            *left -= 1;
            if *left == 0 {
                replies.remove(subject);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use linnet_auth::ResponseRule;
    use linnet_env::ManualClock;

    use super::ReplyPermissions;

    #[test]
    fn a_reply_may_be_answered_as_often_and_as_long_as_the_rule_says() {
        let clock = ManualClock::default();
        let replies = ReplyPermissions::default();
        replies.grant(b"r", ResponseRule { max: Some(2), ttl: Some(Duration::from_secs(1)) }, &clock);
        assert!(replies.redeem(b"r", &clock));
        assert!(replies.redeem(b"r", &clock));
        assert!(!replies.redeem(b"r", &clock));
        replies.grant(b"s", ResponseRule { max: None, ttl: Some(Duration::from_secs(1)) }, &clock);
        assert!(replies.redeem(b"s", &clock));
        clock.advance(Duration::from_secs(1));
        assert!(!replies.redeem(b"s", &clock));
    }
}
