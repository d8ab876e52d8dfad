use std::net::SocketAddr;

use linnet_launch::{JetStream, Options, Server, Spec};
use serde_json::Value;

use super::{Kind, LONG, Raw, program, within};

/// A server without JetStream; more configuration can be given.
pub(crate) const PLAIN: fn() -> Options = || Options { monitor: false, ..Options::default() };

/// A server with JetStream.
pub(crate) const JETSTREAM: fn() -> Options =
    || Options { monitor: false, jetstream: Some(JetStream::default()), ..Options::default() };

/// How a server ends.
#[derive(Clone, Copy)]
pub(crate) enum End {
    Orderly,
    Killed,
}

pub(crate) const ENDS: [End; 2] = [End::Orderly, End::Killed];

/// A running server of either kind.
pub(crate) struct Fixture {
    pub(crate) kind: Kind,
    pub(crate) server: Server,
    client: Option<async_nats::Client>,
}

/// Runs a test against a fresh server.
pub(crate) fn run_with(kind: Kind, options: fn() -> Options, test: impl AsyncFnOnce(&mut Fixture)) {
    let Some(program) = program(kind) else { return };
    let spec = Spec::new(program).options(options());
    run(async move || {
        let mut fixture = Fixture::start(kind, spec);
        test(&mut fixture).await;
    });
}

/// Runs a test on a runtime of its own.
pub(crate) fn run(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test());
}

impl Fixture {
    /// Starts the server.
    pub(crate) fn start(kind: Kind, spec: Spec) -> Self {
        let spec = spec.ready(linnet_launch::Ready::Info, LONG);
        let server = spec.start().unwrap_or_else(|error| panic!("{error}"));
        Self { kind, server, client: None }
    }

    /// Where clients connect.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.server.client_addr().unwrap()
    }

    /// A new connection of async-nats.
    pub(crate) async fn connect(&self) -> async_nats::Client {
        let url = self.server.client_url().unwrap();
        within("connect", async_nats::connect(url)).await.unwrap()
    }

    /// The connection that is kept for requests of the test itself.
    pub(crate) async fn client(&mut self) -> async_nats::Client {
        if self.client.is_none() {
            self.client = Some(self.connect().await);
        }
        self.client.clone().unwrap()
    }

    /// Ends the server and starts it again.
    pub(crate) fn restart_after(&mut self, end: End) {
        match end {
            End::Orderly => self.server.terminate(LONG).unwrap(),
            End::Killed => self.server.kill().unwrap(),
        };
        self.server.restart().unwrap();
        self.forget_client();
    }

    /// The next request uses a new connection: the server was restarted.
    pub(crate) fn forget_client(&mut self) {
        self.client = None;
    }

    /// A connection that speaks the protocol byte by byte.
    pub(crate) fn raw(&self) -> Raw {
        Raw::connect(self.addr())
    }

    /// A request whose answer is JSON.
    pub(crate) async fn request(&mut self, subject: &str, body: impl Into<bytes::Bytes>) -> Value {
        let client = self.client().await;
        let answer = within(subject, client.request(subject.to_owned(), body.into())).await;
        let answer = answer.unwrap_or_else(|error| panic!("{subject}: {error}"));
        serde_json::from_slice(&answer.payload).unwrap_or_else(|error| {
            panic!("{subject}: {error}: {}", String::from_utf8_lossy(&answer.payload));
        })
    }

    /// A request to the JetStream API.
    pub(crate) async fn api(&mut self, subject: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.request(&format!("$JS.API.{subject}"), body).await
    }
}
