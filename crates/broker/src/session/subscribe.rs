//! SUB and UNSUB.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use linnet_auth::SubscribeVerdict;
use linnet_wire::encode;

use super::{End, Session};
use crate::subscription::{SubRef, Subscription, Target};

/// Queue group that only the server may use.
const RESERVED_QUEUE: &[u8] = b"_sys_";

impl Session {
    pub(super) fn on_sub(&mut self, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) -> Result<(), End> {
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
                filtered: AtomicBool::new(verdict == SubscribeVerdict::Filtered),
                ..Subscription::new(Target::Client(self.conn.clone()))
            }));
            self.conn.subs.lock().insert(sid.into(), sub.clone());
            account.insert(&sub);
        }
        if self.verbose {
            self.publisher.push(&self.conn, encode::OK);
        }
        Ok(())
    }

    pub(super) fn deny_subscription(&mut self, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
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

    pub(super) fn on_unsub(&mut self, sid: &[u8], max: Option<u64>) {
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

    pub(super) fn remove_sub(&self, sid: &[u8]) {
        let removed = self.conn.subs.lock().remove(sid);
        if let (Some(sub), Some(account)) = (removed, &self.account) {
            account.remove(&sub);
        }
    }
}
