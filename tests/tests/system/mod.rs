//! The system account from outside: what can be asked, what is told, and what an operator can do.

mod actions;
mod cli;
mod clients;
mod counting;
mod events;
mod everybody;
mod limits;
mod reports;

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use linnet_launch::{JetStream, Options};
use serde_json::Value;

use crate::harness::{Fixture, within};

/// A system user, two accounts, one with JetStream, and a user with permissions.
pub(crate) const SYSTEM: fn() -> Options = || {
    Options {
    name: Some("S1".to_owned()),
    jetstream: Some(JetStream { extra: "domain: hub".to_owned(), ..JetStream::default() }),
    extra: "server_tags: [\"region:eu\", ssd]\n\
            system_account: SYS\n\
            accounts {\n\
              SYS { users: [{user: sys, password: sys}] }\n\
              A { jetstream: enabled, users: [{user: a, password: a}, {user: limited, password: limited, permissions: {\n\
                publish: {allow: [\"x.>\", \"$SYS.REQ.USER.INFO\"], deny: \"x.no\"}, subscribe: [\"_INBOX.>\"],\n\
                allow_responses: {max: 5, expires: \"3s\"} }}] }\n\
              B { users: [{user: b, password: b}] }\n\
            }\n"
        .to_owned(),
    ..Options::default()
}
};

impl Fixture {
    /// A client that logs in with its name as the password.
    pub(crate) async fn user(&self, user: &str) -> async_nats::Client {
        let options = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), user.to_owned());
        let url = self.server.client_url().unwrap();
        within("connect", options.name(format!("client of {user}")).connect(url)).await.unwrap()
    }

    /// The id of the server.
    pub(crate) async fn server_id(&self, client: &async_nats::Client) -> String {
        ask(client, "$SYS.REQ.SERVER.PING.IDZ", "").await["id"].as_str().unwrap().to_owned()
    }
}

/// The JSON that a request is answered with.
pub(crate) async fn ask(client: &async_nats::Client, subject: &str, body: impl Into<Bytes>) -> Value {
    let answer = within(subject, client.request(subject.to_owned(), body.into())).await.unwrap();
    assert!(answer.headers.is_none(), "{subject}: {:?}", answer.headers);
    serde_json::from_slice(&answer.payload).unwrap()
}

/// Whatever answers a request within the time that a server that would answer needs: nobody, or silence.
pub(crate) async fn is_silent(client: &async_nats::Client, subject: &str, body: &'static str) -> bool {
    let patience = Some(Duration::from_millis(400));
    let request = async_nats::Request::new().payload(body.into()).timeout(patience);
    client.send_request(subject.to_owned(), request).await.is_err()
}

/// The next message as JSON, with its subject.
pub(crate) async fn next(messages: &mut async_nats::Subscriber) -> (String, Value) {
    let message = within("an event", messages.next()).await.unwrap();
    (message.subject.to_string(), serde_json::from_slice(&message.payload).unwrap())
}

/// The keys of an object, in order of their names.
pub(crate) fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}
