//! What happens to connections, told in the system account (monitoring, "Events").

use std::sync::Arc;

use linnet_broker::{Amount, ClientDescription, Conn};
use serde::Serialize;

use super::System;
use super::reply::text;
use crate::accstatz::{AccountStat, Count};
use crate::system::description::ServerDescription;

/// The account of those who were never let in anywhere.
const NO_ACCOUNT: &str = linnet_conf::options::GLOBAL_ACCOUNT;
const CONNECT: &str = "io.nats.server.advisory.v1.client_connect";
const DISCONNECT: &str = "io.nats.server.advisory.v1.client_disconnect";
const CONNECTIONS: &str = "io.nats.server.advisory.v1.account_connections";

/// What every event begins with.
#[derive(Serialize)]
struct Head {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    timestamp: String,
    server: ServerDescription,
}

#[derive(Serialize)]
struct Connected {
    #[serde(flatten)]
    head: Head,
    client: ClientDescription,
}

#[derive(Serialize)]
struct Disconnected {
    #[serde(flatten)]
    head: Head,
    client: ClientDescription,
    /// What the client sent.
    sent: Count,
    received: Count,
    reason: &'static str,
}

#[derive(Serialize)]
struct Connections {
    #[serde(flatten)]
    head: Head,
    #[serde(flatten)]
    stat: AccountStat,
}

impl System {
    fn head(&mut self, kind: &'static str) -> Head {
        Head { kind, id: self.names.unique(), timestamp: self.monitor.now(), server: self.describe() }
    }

    /// A client has been let in.
    pub(super) fn tell_connected(&mut self, conn: &Conn, account: &str) {
        let subject = format!("$SYS.ACCOUNT.{account}.CONNECT");
        if !self.is_heard(&subject) {
            return;
        }
        let now = self.monitor.broker().clock().mono();
        let client = ClientDescription::new(conn, account, now).with_name_tag();
        let event = Connected { head: self.head(CONNECT), client };
        self.publish(&subject, &text(&event));
    }

    /// A client is gone.
    pub(super) fn tell_disconnected(&mut self, conn: &Conn) {
        let account = account_of(conn);
        self.tell_gone(conn, &format!("$SYS.ACCOUNT.{account}.DISCONNECT"), &account);
    }

    /// A login has been refused: the system is told, and the account that it was for.
    pub(super) fn tell_refused(&mut self, conn: &Conn) {
        let subject = format!("$SYS.SERVER.{}.CLIENT.AUTH.ERR", self.monitor.server_id());
        let account = account_of(conn);
        self.tell_gone(conn, &subject, &account);
        let subject = "$SYS.ACCOUNT.CLIENT.AUTH.ERR";
        let Some(inside) = self.monitor.broker().account(&account) else { return };
        if inside.has_interest(subject.as_bytes()) {
            let event = self.gone(conn, &account);
            self.publish_in(&inside, subject, &text(&event));
        }
    }

    fn tell_gone(&mut self, conn: &Conn, subject: &str, account: &str) {
        if self.is_heard(subject) {
            let event = self.gone(conn, account);
            self.publish(subject, &text(&event));
        }
    }

    fn gone(&mut self, conn: &Conn, account: &str) -> Disconnected {
        let (now, at) = {
            let clock = self.monitor.broker().clock();
            (clock.mono(), clock.wall())
        };
        let values = conn.snapshot(now);
        Disconnected {
            head: self.head(DISCONNECT),
            client: ClientDescription::new(conn, account, now).with_name_tag().stopped(at),
            sent: Amount { msgs: values.in_msgs, bytes: values.in_bytes }.into(),
            received: Amount { msgs: values.out_msgs, bytes: values.out_bytes }.into(),
            reason: conn.close_reason().map_or("Client Closed", |reason| reason.as_str()),
        }
    }

    /// How many connections an account has here, under both of the subjects this has.
    pub(super) fn tell_connections(&mut self, account: &str) {
        if account == NO_ACCOUNT {
            return;
        }
        for subject in
            [format!("$SYS.SERVER.ACCOUNT.{account}.CONNS"), format!("$SYS.ACCOUNT.{account}.SERVER.CONNS")]
        {
            if self.is_heard(&subject)
                && let Some(event) = self.connections(account)
            {
                self.publish(&subject, &event);
            }
        }
    }

    /// The event itself; nothing for an account that is not there.
    pub(super) fn connections(&mut self, account: &str) -> Option<Vec<u8>> {
        let account = self.monitor.broker().account(account)?;
        let head = self.head(CONNECTIONS);
        Some(text(&Connections { head, stat: AccountStat::of(&account) }))
    }
}

fn account_of(conn: &Conn) -> String {
    let account = conn.account();
    account.as_ref().map_or(NO_ACCOUNT, |account: &Arc<_>| account.name()).to_owned()
}
