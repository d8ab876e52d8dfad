//! What a mirror or a source asks of the server that has its origin, which may be an older one.

use async_nats::{Message, Subscriber};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, err_code, within};

const TOO_OLD: &str =
    r#"{"error":{"code":412,"err_code":10185,"description":"JetStream minimum api level required"}}"#;
const UNKNOWN_FIELD: &str = r#"{"error":{"code":400,"err_code":10025,"description":"invalid JSON"}}"#;
const MADE: &str = r#"{"config":{"ack_policy":"none"},"num_pending":0}"#;

/// The server of the origins.
struct Elsewhere {
    client: async_nats::Client,
    requests: Subscriber,
}

/// A request for a consumer: its subject behind `X.API.CONSUMER.` with `?` for what is drawn, the API level that it
/// needs, and whether the stream's identity is told.
type Asked = (String, String, bool);

impl Elsewhere {
    async fn new(s: &mut Fixture) -> Self {
        let client = s.client().await;
        let requests = client.subscribe("X.API.>").await.unwrap();
        client.flush().await.unwrap();
        Self { client, requests }
    }

    async fn next(&mut self) -> Message {
        within("a request", self.requests.next()).await.unwrap()
    }

    /// The next request, answered with this.
    async fn answers(&mut self, answer: &'static str) -> Asked {
        let request = self.next().await;
        self.client.publish(request.reply.clone().unwrap(), answer.into()).await.unwrap();
        let header = |name: &str| Some(request.headers.as_ref()?.get(name)?.as_str().to_owned());
        let config = serde_json::from_slice::<Value>(&request.payload).unwrap_or_default()["config"].clone();
        let level = header("Nats-Required-Api-Level").unwrap_or_default();
        assert_eq!(config["sourcing"] == true, !level.is_empty(), "{config}");
        (shape(&request), level, header("Nats-Stream-Identity").is_some())
    }
}

/// Subject of a request without what is drawn.
fn shape(request: &Message) -> String {
    let subject = request.subject.strip_prefix("X.API.CONSUMER.").unwrap();
    let tokens = subject.split('.').map(|token| match token.strip_prefix("JS_") {
        Some(name) => {
            name.split('_').enumerate().map(|(at, part)| if at == 0 { part } else { "?" }).collect()
        }
        None => vec![token],
    });
    tokens.map(|parts| parts.join("_")).collect::<Vec<_>>().join(".")
}

fn asked(subject: &str, level: &str, tells_identity: bool) -> Asked {
    (subject.to_owned(), level.to_owned(), tells_identity)
}

fn origin(more: Value) -> Value {
    let mut origin = json!({"name": "O", "external": {"api": "X.API", "deliver": "D"}});
    origin.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    origin
}

on_both_servers! { JETSTREAM;
    async fn an_older_server_is_asked_for_less(s) {
        let mut elsewhere = Elsewhere::new(s).await;
        s.stream(json!({"name": "M", "mirror": origin(json!({}))})).await;
        assert_eq!(elsewhere.answers(TOO_OLD).await, asked("CREATE.O", "4", false));
        assert_eq!(elsewhere.answers(MADE).await, asked("CREATE.O", "", false));
        s.stream(json!({"name": "S", "sources": [origin(json!({"filter_subject": "o.a"}))]})).await;
        assert_eq!(elsewhere.answers(TOO_OLD).await, asked("CREATE.O.SRC_?.o.a", "5", true));
        assert_eq!(elsewhere.answers(UNKNOWN_FIELD).await, asked("CREATE.O.SRC_?.o.a", "4", false));
        assert_eq!(elsewhere.answers(MADE).await, asked("CREATE.O.SRC_?_?.o.a", "", false));
    }

    async fn a_filter_of_a_mirror_stands_in_the_subject_of_its_request(s) {
        let mut elsewhere = Elsewhere::new(s).await;
        s.stream(json!({"name": "M", "mirror": origin(json!({"filter_subject": "o.*"}))})).await;
        assert_eq!(elsewhere.answers(MADE).await, asked("CREATE.O.MIRROR_?.o.*", "4", false));
    }

    async fn a_consumer_that_was_made_beforehand_is_reset(s) {
        let mut elsewhere = Elsewhere::new(s).await;
        let made = json!({"consumer": {"name": "C", "deliver_subject": "D.c"}});
        s.stream(json!({"name": "M", "mirror": origin(made.clone())})).await;
        let request = elsewhere.next().await;
        assert_eq!((shape(&request).as_str(), &request.headers, request.payload.len()), ("RESET.O.C", &None, 0));
        s.stream(json!({"name": "S", "sources": [origin(made)]})).await;
        let request = elsewhere.next().await;
        let headers = request.headers.clone().unwrap();
        let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        assert_eq!(header("Nats-Required-Api-Level").as_deref(), Some("5"));
        assert_eq!(header("Nats-Stream-Identity").as_deref(), Some(""));
        assert_eq!((shape(&request).as_str(), request.payload.len()), ("RESET.O.C", 0));
    }

    async fn a_stream_of_an_older_server_names_its_consumer(s) {
        s.stream(json!({"name": "O", "subjects": ["o"]})).await;
        let client = s.client().await;
        for (subject, name, sourcing) in [
            ("CONSUMER.CREATE.O.C", Some("C"), false),
            ("CONSUMER.CREATE.O", None, false),
            ("CONSUMER.CREATE.O.C", Some("C"), true),
            ("CONSUMER.CREATE.O", None, true),
        ] {
            let mut config = json!({"direct": true, "deliver_subject": "d"});
            if let Some(name) = name {
                config["name"] = json!(name);
            }
            if sourcing {
                config["sourcing"] = json!(true);
            }
            let request = json!({"stream_name": "O", "config": config}).to_string();
            let answer = within("an answer", client.request(format!("$JS.API.{subject}"), request.into())).await.unwrap();
            let headers = answer.headers.clone().unwrap_or_default();
            assert!(headers.get("Nats-Stream-Identity").is_some(), "{answer:?}");
            let made: Value = serde_json::from_slice(&answer.payload).unwrap();
            let given = made["name"].as_str().unwrap();
            match name {
                Some(name) if !sourcing => assert_eq!(given, name),
                Some(name) => assert_eq!(given.strip_prefix(name).map(str::len), Some(9), "{given}"),
                None => assert!(given.len() == 8 && made["config"]["name"].is_null(), "{made}"),
            }
        }
    }

    async fn who_tells_an_identity_is_told_one(s) {
        s.stream(json!({"name": "O", "subjects": ["o"]})).await;
        let config = json!({"durable_name": "C", "ack_policy": "flow_control", "deliver_subject": "d",
            "flow_control": true, "idle_heartbeat": 1_000_000_000_u64});
        s.consumer("O", config).await;
        let client = s.client().await;
        let mut known = String::new();
        for (told, error) in [(None, 0), (Some(""), 0), (Some("itself"), 0), (Some("another"), 0)] {
            let mut headers = async_nats::HeaderMap::new();
            if let Some(told) = told {
                let told = if told == "itself" { known.as_str() } else { told };
                headers.insert("Nats-Stream-Identity", told);
            }
            let sent = client.request_with_headers("$JS.API.CONSUMER.RESET.O.C", headers, "".into());
            let answer = within("an answer", sent).await.unwrap();
            let body: Value = serde_json::from_slice(&answer.payload).unwrap();
            let identity = answer.headers.as_ref().and_then(|headers| headers.get("Nats-Stream-Identity"));
            assert_eq!(err_code(&body), error, "{told:?}: {body}");
            assert_eq!(identity.is_some(), told.is_some() && error == 0, "{told:?}: {answer:?}");
            known = identity.map_or(known, ToString::to_string);
        }
    }

    /// One that became durable on a work queue would keep its messages.
    async fn a_consumer_is_given_back_with_its_stream_or_source(s) {
        let mut elsewhere = Elsewhere::new(s).await;
        let (first, second) = (origin(json!({})), origin(json!({"name": "P"})));
        s.stream(json!({"name": "S", "sources": [first, second]})).await;
        for _ in 0..2 {
            elsewhere.answers(MADE).await;
        }
        s.api("STREAM.UPDATE.S", json!({"name": "S", "sources": [first]})).await;
        assert_eq!(shape(&elsewhere.next().await), "DELETE.P.SRC_?");
        s.api("STREAM.UPDATE.S", json!({"name": "S", "sources": [origin(json!({"filter_subject": "o.a"}))]})).await;
        assert_eq!(elsewhere.answers(MADE).await.0, "CREATE.O.SRC_?.o.a");
        s.api("STREAM.DELETE.S", Value::Null).await;
        assert_eq!(shape(&elsewhere.next().await), "DELETE.O.SRC_?");
        s.stream(json!({"name": "M", "mirror": first})).await;
        elsewhere.answers(MADE).await;
        s.api("STREAM.UPDATE.M", json!({"name": "M", "subjects": ["m"]})).await;
        assert_eq!(shape(&elsewhere.next().await), "DELETE.O.MIRROR_?");
    }
}
