//! What a reload does to JetStream.

use async_nats::RequestErrorKind;
use futures_util::StreamExt as _;
use linnet_launch::poll_until;
use serde_json::{Value, json};

use super::Running;
use crate::harness::{Kind, LONG, err_code, run, within};

/// Two accounts with their users, and JetStream.
fn config(a: &str, b: &str, jetstream: &str) -> String {
    let jetstream = if jetstream == "off" {
        String::new()
    } else {
        format!("jetstream {{ store_dir: \"$DIR/store\"\n{jetstream}\n}}\n")
    };
    format!(
        "accounts {{\nA {{ users: [{{user: a, password: p}}]\n{a}\n}}\nB {{ users: [{{user: b, password: p}}]\n{b}\n}}\n}}\n{jetstream}"
    )
}

const ON: &str = "jetstream: enabled";
const SIZES: &str = "max_mem: 1MB\nmax_file: 10MB";

impl Running {
    async fn client(&self, user: &str) -> async_nats::Client {
        let options = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), "p".to_owned());
        within("a connection", options.connect(self.server.client_url().unwrap())).await.unwrap()
    }

    /// The answer to a part of a batch for stream S of account A; `null` if it says nothing.
    async fn part(&self, id: &str, seq: u64, commit: bool) -> Value {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Batch-Id", id);
        headers.insert("Nats-Batch-Sequence", seq.to_string());
        if commit {
            headers.insert("Nats-Batch-Commit", "1");
        }
        let client = self.client("a").await;
        let answer = client.request_with_headers("s", headers, "x".into());
        serde_json::from_slice(&within("an answer", answer).await.unwrap().payload).unwrap_or_default()
    }

    /// The answer to the last part of a batch.
    async fn batch(&self, id: &str, parts: u64) -> Value {
        for seq in 1..parts {
            assert_eq!(self.part(id, seq, false).await, Value::Null);
        }
        self.part(id, parts, true).await
    }

    /// The answer to a user's request; `null` if nobody is there.
    async fn ask(&self, user: &str, subject: &str, body: Value) -> Value {
        let client = self.client(user).await;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        match within("an answer", client.request(subject.to_owned(), body.into())).await {
            Ok(answer) => serde_json::from_slice(&answer.payload).unwrap(),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Value::Null,
            Err(error) => panic!("{error}"),
        }
    }

    async fn api(&self, user: &str, call: &str, body: Value) -> Value {
        self.ask(user, &format!("$JS.API.{call}"), body).await
    }

    async fn make(&self, user: &str, name: &str, storage: &str) -> Value {
        let config = json!({"name": name, "subjects": [name.to_lowercase()], "storage": storage});
        self.api(user, &format!("STREAM.CREATE.{name}"), config).await
    }
}

on_both_kinds! {
    fn limits_of_an_account_change(kind) {
        let Some(mut running) = Running::start(kind, None, &config("jetstream: {max_store: 1MB}", "", SIZES)) else { return };
        run(async move || {
            assert_eq!(running.make("a", "S", "file").await["error"], Value::Null);
            running.reload(&config("jetstream: {max_store: 2MB, max_streams: 1}", "", SIZES));
            let limits = running.api("a", "INFO", Value::Null).await["limits"].clone();
            assert_eq!((&limits["max_storage"], &limits["max_streams"]), (&json!(2 << 20), &json!(1)));
            assert_eq!(err_code(&running.make("a", "T", "file").await), 10027);
            running.reload(&config("jetstream: {max_store: 1KB}", "", SIZES));
            let big = json!("x".repeat(2000));
            // The message that goes beyond the limit is the last one to nats-server.
            running.ask("a", "s", big.clone()).await;
            assert_eq!(err_code(&running.ask("a", "s", big).await), 10002);
        });
    }

    fn an_account_cannot_be_promised_more_than_there_is(kind) {
        let Some(mut running) = Running::start(kind, None, &config("jetstream: {max_store: 2MB}", "", SIZES)) else { return };
        run(async move || {
            let log = running.reload(&config("jetstream: {max_store: 20MB}", "", SIZES));
            let line = "Error enabling jetstream on configured accounts: insufficient storage resources available (10047)";
            assert!(log.contains(line), "{log}");
            assert!(log.contains("Reloaded server configuration"), "{log}");
            let info = running.api("a", "INFO", Value::Null).await;
            assert_eq!(info["limits"]["max_storage"], 2 << 20);
        });
    }

    fn an_account_gets_jetstream_and_loses_it_and_gets_it_back(kind) {
        let Some(mut running) = Running::start(kind, None, &config(ON, "", SIZES)) else { return };
        run(async move || {
            running.make("a", "S", "file").await;
            running.ask("a", "s", json!("one")).await;
            assert_eq!(err_code(&running.api("b", "INFO", Value::Null).await), 10039);
            running.reload(&config(ON, ON, SIZES));
            assert_eq!(running.make("b", "T", "file").await["error"], Value::Null);
            assert_eq!(running.ask("b", "t", json!("one")).await["seq"], 1);
            running.reload(&config(ON, "", SIZES));
            assert_eq!(err_code(&running.api("b", "INFO", Value::Null).await), 10039);
            assert_eq!(running.ask("b", "t", json!("two")).await, Value::Null);
            assert_eq!(running.ask("a", "s", json!("two")).await["seq"], 2);
            running.reload(&config(ON, ON, SIZES));
            let info = running.api("b", "STREAM.INFO.T", Value::Null).await;
            assert_eq!(info["state"]["messages"], 1, "{info}");
            assert_eq!(running.ask("b", "t", json!("two")).await["seq"], 2);
        });
    }

    fn an_account_that_comes_has_the_api(kind) {
        let Some(mut running) = Running::start(kind, None, &format!("jetstream {{ store_dir: \"$DIR/store\" }}\naccounts {{ A {{ users: [{{user: a, password: p}}]\n{ON}\n}} }}\n")) else { return };
        run(async move || {
            running.reload(&format!("jetstream {{ store_dir: \"$DIR/store\" }}\n{}", config(ON, ON, "off")));
            assert_eq!(running.make("b", "T", "file").await["error"], Value::Null);
            assert_eq!(running.make("a", "S", "memory").await["error"], Value::Null);
        });
    }

    fn the_server_may_hold_more_and_never_less(kind) {
        let Some(mut running) = Running::start(kind, None, &config(ON, "", SIZES)) else { return };
        run(async move || {
            let log = running.reload(&config(ON, "", "max_mem: 2MB\nmax_file: 20MB"));
            assert!(log.contains("Reloaded: JetStream max_mem_store = 2.00 MB"), "{log}");
            assert!(log.contains("Reloaded: JetStream max_file_store = 20.00 MB"), "{log}");
            assert_eq!(running.page("/jsz")["config"]["max_storage"], 20 << 20);
            let big = json!({"name": "S", "subjects": ["s"], "storage": "memory", "max_bytes": 3 << 19});
            assert_eq!(running.api("a", "STREAM.CREATE.S", big).await["error"], Value::Null);
            let refused = [
                ("max_mem: 1MB\nmax_file: 20MB", "decreasing jetstream max memory and store"),
                ("max_mem: 2MB", "jetstream max memory and max store"),
            ];
            for (sizes, reason) in refused {
                let log = running.reload(&config(ON, "", sizes));
                let line = format!("Failed to reload server configuration: config reload not supported for {reason}");
                assert!(log.contains(&line), "{log}");
            }
        });
    }

    fn sizes_that_were_not_set_stay_unset(kind) {
        let Some(mut running) = Running::start(kind, None, &config(ON, "", "")) else { return };
        let log = running.reload(&config(ON, "", SIZES));
        assert!(log.contains("config reload not supported for jetstream dynamic max memory and store"), "{log}");
    }

    fn limits_for_all_accounts_change(kind) {
        let Some(mut running) = Running::start(kind, None, &config(ON, "", SIZES)) else { return };
        run(async move || {
            running.make("a", "S", "file").await;
            let log = running.reload(&config(ON, "", &format!("{SIZES}\nlimits {{ max_ack_pending: 10 }}")));
            assert!(log.contains("Reloaded: JetStream limits"), "{log}");
            let consumer = json!({"durable_name": "C", "ack_policy": "explicit", "max_ack_pending": 100});
            let request = json!({"stream_name": "S", "config": consumer});
            assert_eq!(err_code(&running.api("a", "CONSUMER.CREATE.S.C", request).await), 10121);
        });
    }

    fn bounds_of_batches_change(kind) {
        let batch = |bounds: &str| config(ON, "", &format!("{SIZES}\nlimits {{ batch {{ {bounds} }} }}"));
        let Some(mut running) = Running::start(kind, None, &batch("max_msgs: 5, max_inflight_per_stream: 1")) else { return };
        run(async move || {
            let stream = json!({"name": "S", "subjects": ["s"], "allow_atomic": true});
            running.api("a", "STREAM.CREATE.S", stream).await;
            let refused = running.batch("one", 6).await;
            assert_eq!(refused["error"]["description"], "atomic publish batch is too large: 5");
            assert_eq!(running.part("first", 1, false).await, Value::Null);
            assert_eq!(err_code(&running.part("second", 1, false).await), 10210);
            let log = running.reload(&batch("max_msgs: 6, max_inflight_per_stream: 3, timeout: 1s"));
            assert!(log.contains("Reloaded: JetStream limits"), "{log}");
            assert_eq!(running.batch("two", 6).await["count"], 6);
            let refused = running.batch("three", 7).await;
            assert_eq!(refused["error"]["description"], "atomic publish batch is too large: 6");
            // By default one that nothing is added to lasts 10 seconds.
            let client = running.client("a").await;
            let mut ended = client.subscribe("$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.S").await.unwrap();
            client.flush().await.unwrap();
            let begun = tokio::time::Instant::now();
            assert_eq!(running.part("second", 1, false).await, Value::Null);
            let advisory = within("an advisory", ended.next()).await.unwrap();
            let advisory: Value = serde_json::from_slice(&advisory.payload).unwrap();
            assert_eq!((&advisory["batch"], &advisory["reason"]), (&json!("second"), &json!("timeout")));
            assert!(begun.elapsed() < std::time::Duration::from_secs(8), "{:?}", begun.elapsed());
        });
    }

    fn what_jetstream_is_started_with_stays(kind) {
        let Some(mut running) = Running::start(kind, None, &config(ON, "", SIZES)) else { return };
        assert_eq!(running.page("/jsz")["config"]["compress_ok"], true);
        let refused = [
            ("domain: d", "JetStreamDomain: old=, new=d"),
            ("strict: false", "NoJetStreamStrict: old=false, new=true"),
            ("sync_interval: \"5s\"", "SyncInterval: old="),
            ("key: secret", "JetStreamKey: old=, new="),
            ("max_buffered_msgs: 5", "StreamMaxBufferedMsgs: old="),
            ("request_queue_limit: 5", "JetStreamRequestQueueLimit: old=10000, new=5"),
            ("unique_tag: \"az:\"", "JetStreamUniqueTag: old=, new=az:"),
        ];
        for (key, reason) in refused {
            let log = running.reload(&config(ON, "", &format!("{SIZES}\n{key}")));
            assert!(log.contains(&format!("config reload not supported for {reason}")), "{key}: {log}");
        }
        let elsewhere = config(ON, "", SIZES).replace("$DIR/store", "$DIR/other");
        let log = running.reload(&elsewhere);
        assert!(log.contains("config reload not supported for jetstream storage directory"), "{log}");
    }

    fn jetstream_goes_off_and_on(kind) {
        let Some(mut running) = Running::start(kind, None, &config(ON, "", SIZES)) else { return };
        run(async move || {
            running.make("a", "S", "file").await;
            running.ask("a", "s", json!("one")).await;
            let log = running.reload(&config(ON, "", "off"));
            assert!(log.contains("Reloaded: JetStream"), "{log}");
            assert!(poll_until(LONG, || running.page("/jsz")["disabled"] == true));
            assert_eq!(running.ask("a", "s", json!("two")).await, Value::Null);
            let log = running.reload(&config(ON, "", "max_mem: 512KB\nmax_file: 5MB"));
            assert!(log.contains("Restarting JetStream"), "{log}");
            let streams = running.api("a", "STREAM.NAMES", Value::Null).await["streams"].clone();
            assert_eq!(streams, json!(["S"]));
            assert_eq!(running.ask("a", "s", json!("two")).await["seq"], 2);
            assert_eq!(running.page("/jsz")["config"]["max_memory"], 512 << 10);
        });
    }
}

/// nats-server closes the streams of the one account alone.
#[test]
fn streams_in_memory_are_not_lost_to_a_reload() {
    let Some(mut running) = Running::start(Kind::Linnet, None, &config(ON, ON, SIZES)) else { return };
    run(async move || {
        running.make("a", "M", "memory").await;
        running.make("b", "T", "file").await;
        let log = running.reload(&config(ON, "", SIZES));
        assert!(log.contains("streams in memory, a restart is needed"), "{log}");
        assert_eq!(running.ask("a", "m", json!("x")).await["seq"], 1);
        assert_eq!(running.ask("b", "t", json!("x")).await["seq"], 1);
    });
}

/// nats-server serves its streams until the next start.
#[test]
fn the_global_account_has_no_jetstream_beside_others() {
    let jetstream = "jetstream { store_dir: \"$DIR/store\" }\n";
    let Some(mut running) = Running::start(Kind::Linnet, None, jetstream) else { return };
    run(async move || {
        let served = |running: &Running| {
            let accounts = running.page("/jsz?accounts=true&streams=true")["account_details"].clone();
            let name = |account: &Value| account["name"].as_str().unwrap().to_owned();
            accounts.as_array().into_iter().flatten().map(name).collect::<Vec<_>>()
        };
        let client = async_nats::connect(running.server.client_url().unwrap()).await.unwrap();
        let create = client.request("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#.into());
        within("a stream", create).await.unwrap();
        let log = running.reload(&format!("{jetstream}{}", config(ON, "", "off")));
        assert!(log.contains("Stream '$G > S' is not served: its account has no JetStream"), "{log}");
        assert_eq!(served(&running), ["A"]);
        running.reload(jetstream);
        assert_eq!(served(&running), ["$G"]);
        let client = async_nats::connect(running.server.client_url().unwrap()).await.unwrap();
        let stored = within("a message", client.request("s", "x".into())).await.unwrap();
        let stored: Value = serde_json::from_slice(&stored.payload).unwrap();
        assert_eq!(stored["seq"], 1);
    });
}
