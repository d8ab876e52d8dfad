//! PUB and HPUB.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use linnet_wire::client::Pub;
use linnet_wire::{encode, fast_path, headers};

use super::Session;
use crate::account::Account;
use crate::message_trace;
use crate::router::Message;
use crate::trace;

impl Session {
    /// Acts on the publications at the front of `buffer` as long as they have the usual shape; returns how many bytes
    /// they took.
    pub(super) fn publish_run(&mut self, buffer: &[u8]) -> usize {
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

    #[inline]
    pub(super) fn publish(&mut self, account: &Arc<Account>, publication: &Pub<'_>) {
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
    pub(super) fn may_publish(&mut self, account: &Arc<Account>, subject: &[u8], reply: &[u8]) -> bool {
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

    pub(super) fn deny_publish(&mut self, subject: &[u8]) {
        let subject = String::from_utf8_lossy(subject);
        tracing::error!("{} - Publish Violation - Subject \"{subject}\"", self.conn.log_prefix());
        self.say_error(&format!("Permissions Violation for Publish to \"{subject}\""));
    }

    /// Tells the requester that nobody listens, if it listens for the answer itself.
    pub(super) fn say_no_responders(&mut self, subject: &[u8], reply: &[u8]) {
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
}
