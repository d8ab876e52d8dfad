use std::time::Duration;

use linnet_subject::{is_literal, is_subset, matches, overlaps};

/// What one user may publish and subscribe to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Subjects for publishing.
    pub publish: Rules,
    /// Subjects for subscribing; entries may name a queue group (`subject queue`).
    pub subscribe: Rules,
    /// Publishing to the reply subject of a received message.
    pub responses: Option<ResponseRule>,
}

/// Subjects allowed and denied. Deny wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// `None` allows everything that is not denied.
    pub allow: Option<Vec<String>>,
    /// Denied subjects.
    pub deny: Vec<String>,
}

/// How far a client may answer messages it received beyond its publish permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseRule {
    /// Answers per received message; `None` for any number.
    pub max: Option<u64>,
    /// How long after the message; `None` for ever.
    pub ttl: Option<Duration>,
}

/// Outcome of a subscription check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeVerdict {
    /// Allowed.
    Allowed,
    /// Allowed, but messages on denied subjects must be kept from it ([`Permissions::may_receive`]).
    Filtered,
    /// Refused.
    Denied,
}

/// An entry of a subscribe list: subject and optional queue pattern.
fn entry(text: &str) -> (&[u8], Option<&[u8]>) {
    match text.split_once(' ') {
        Some((subject, queue)) => (subject.as_bytes(), Some(queue.trim().as_bytes())),
        None => (text.as_bytes(), None),
    }
}

impl Permissions {
    /// True if a message may be published on the literal `subject`.
    pub fn may_publish(&self, subject: &[u8]) -> bool {
        // Allowing answers without saying what may be published closes everything else.
        let closed = self.responses.is_some() && self.publish.allow.is_none();
        let allowed = match &self.publish.allow {
            Some(list) => list.iter().any(|p| matches(subject, p.as_bytes())),
            None => !closed,
        };
        allowed && !self.publish.deny.iter().any(|p| matches(subject, p.as_bytes()))
    }

    /// Judges a subscription, which may have wildcards.
    pub fn may_subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> SubscribeVerdict {
        let listed = |list: &[String]| {
            let mut plain = false;
            let mut queued = None;
            for (_, group) in list.iter().map(|e| entry(e)).filter(|(p, _)| is_subset(subject, p)) {
                match (group, queue) {
                    (None, _) => plain = true,
                    (Some(group), Some(name)) => {
                        let hit = matches(name, group);
                        queued = Some(queued.unwrap_or(false) || hit);
                    }
                    (Some(_), None) => {}
                }
            }
            (plain, queued)
        };
        if let Some(list) = &self.subscribe.allow {
            let (plain, queued) = listed(list);
            if !queued.unwrap_or(plain) {
                return SubscribeVerdict::Denied;
            }
        }
        let (plain, queued) = listed(&self.subscribe.deny);
        if queued.unwrap_or(plain) {
            return SubscribeVerdict::Denied;
        }
        let hides = |e: &String| entry(e).1.is_none() && overlaps(entry(e).0, subject);
        if !is_literal(subject) && self.subscribe.deny.iter().any(hides) {
            return SubscribeVerdict::Filtered;
        }
        SubscribeVerdict::Allowed
    }

    /// True unless the literal `subject` is denied for subscriptions.
    pub fn may_receive(&self, subject: &[u8]) -> bool {
        !self.subscribe.deny.iter().map(|e| entry(e)).any(|(p, queue)| queue.is_none() && matches(subject, p))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: Option<&[&str]>, deny: &[&str]) -> Rules {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Rules { allow: allow.map(own), deny: own(deny) }
    }

    #[test]
    fn deny_wins_over_allow() {
        let p = Permissions { publish: rules(Some(&["a.>"]), &["a.secret"]), ..Permissions::default() };
        assert!(p.may_publish(b"a.b"));
        assert!(!p.may_publish(b"a.secret"));
        assert!(!p.may_publish(b"b"));
        assert!(Permissions::default().may_publish(b"x"));
    }

    #[test]
    fn wildcard_subscription_over_a_denied_subject_is_filtered() {
        let p = Permissions { subscribe: rules(None, &["a.secret"]), ..Permissions::default() };
        assert_eq!(p.may_subscribe(b"a.*", None), SubscribeVerdict::Filtered);
        assert_eq!(p.may_subscribe(b"a.secret", None), SubscribeVerdict::Denied);
        assert_eq!(p.may_subscribe(b"a.b", None), SubscribeVerdict::Allowed);
        assert!(!p.may_receive(b"a.secret"));
    }

    #[test]
    fn queue_entries_bind_the_queue_name() {
        let p = Permissions {
            subscribe: rules(Some(&["a", "b v1", "b v2.*"]), &["c q"]),
            ..Permissions::default()
        };
        assert_eq!(p.may_subscribe(b"a", Some(b"any")), SubscribeVerdict::Allowed);
        assert_eq!(p.may_subscribe(b"b", Some(b"v1")), SubscribeVerdict::Allowed);
        assert_eq!(p.may_subscribe(b"b", Some(b"v2.x")), SubscribeVerdict::Allowed);
        assert_eq!(p.may_subscribe(b"b", Some(b"other")), SubscribeVerdict::Denied);
        assert_eq!(p.may_subscribe(b"b", None), SubscribeVerdict::Denied);
    }

    #[test]
    fn responses_alone_close_publishing() {
        let p = Permissions {
            responses: Some(ResponseRule { max: Some(1), ttl: None }),
            ..Permissions::default()
        };
        assert!(!p.may_publish(b"x"));
    }
}
