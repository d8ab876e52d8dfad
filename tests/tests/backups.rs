//! Snapshots and restores, against both servers and between them. `LINNET_SNAPSHOT_MESSAGES` says how many messages.

mod features;
mod restores;

use futures_util::StreamExt as _;
use linnet_launch::Spec;
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, Kind, err_code, program, run, setting, within};

/// A backup as a client holds it.
pub(crate) struct Backup {
    config: Value,
    state: Value,
    data: Vec<u8>,
}

impl Fixture {
    /// Takes a backup; every chunk is acknowledged.
    pub(crate) async fn back_up(&mut self, stream: &str, chunk: u64) -> Backup {
        let client = self.client().await;
        let inbox = client.new_inbox();
        let mut chunks = client.subscribe(inbox.clone()).await.unwrap();
        let request = json!({"deliver_subject": inbox, "chunk_size": chunk, "window_size": 4 * chunk});
        let answer = self.api(&format!("STREAM.SNAPSHOT.{stream}"), request).await;
        assert_eq!(answer["error"], Value::Null, "{answer}");
        let mut data = Vec::new();
        loop {
            let part = within("a chunk", chunks.next()).await.unwrap();
            if part.payload.is_empty() {
                let status = part.status.map_or(204, |s| s.as_u16());
                assert_eq!(status, 204, "{:?}", part.description);
                return Backup { config: answer["config"].clone(), state: answer["state"].clone(), data };
            }
            data.extend_from_slice(&part.payload);
            if let Some(reply) = part.reply {
                assert_eq!(part.payload.len() as u64, chunk);
                client.publish(reply, "".into()).await.unwrap();
            }
        }
    }

    /// Restores a backup; the answer to its end.
    pub(crate) async fn restore(&mut self, backup: &Backup) -> Value {
        let name = backup.config["name"].as_str().unwrap().to_owned();
        let request = json!({"config": backup.config, "state": backup.state});
        let answer = self.api(&format!("STREAM.RESTORE.{name}"), request).await;
        assert_eq!(answer["error"], Value::Null, "{answer}");
        let subject = answer["deliver_subject"].as_str().unwrap().to_owned();
        let client = self.client().await;
        for chunk in backup.data.chunks(64 << 10) {
            let sent = client.request(subject.clone(), bytes::Bytes::copy_from_slice(chunk));
            assert_eq!(within("an answer to a chunk", sent).await.unwrap().payload.len(), 0);
        }
        self.request(&subject, "").await
    }

    /// Everything that the API tells of a stream's messages and consumers.
    async fn content(&mut self, stream: &str) -> (Value, Vec<Value>) {
        let mut state = self.state(stream).await;
        let (first, last) = (state["first_seq"].as_u64().unwrap(), state["last_seq"].as_u64().unwrap());
        let mut content = Vec::new();
        for seq in first..=last {
            let answer = self.api(&format!("STREAM.MSG.GET.{stream}"), json!({"seq": seq})).await;
            content.push(answer["message"].clone());
        }
        for consumer in ["PULL", "PUSH"] {
            let info = self.consumer_info(stream, consumer).await;
            let keys = ["num_ack_pending", "num_redelivered", "num_pending"];
            content.push(json!(keys.map(|key| info[key].clone())));
            for part in ["delivered", "ack_floor"] {
                content.push(json!([info[part]["consumer_seq"], info[part]["stream_seq"]]));
            }
            let config = &info["config"];
            content.push(json!(["durable_name", "filter_subject", "ack_policy"].map(|k| config[k].clone())));
        }
        state.as_object_mut().unwrap().remove("cluster");
        (state, content)
    }

    /// A stream with messages, holes, times to live, headers and consumers.
    async fn rich_stream(&mut self, messages: u64) {
        self.stream(json!({
            "name": "S", "subjects": ["s.*"], "allow_msg_ttl": true, "allow_rollup_hdrs": true,
            "allow_direct": true, "storage": "file", "allow_atomic": true,
        }))
        .await;
        let client = self.client().await;
        let mut answers = Vec::new();
        for n in 0..messages {
            let mut headers = async_nats::HeaderMap::new();
            if n % 3 == 0 {
                headers.append("Nats-Msg-Id", n.to_string().as_str());
            }
            if n % 7 == 0 {
                headers.append("Nats-TTL", "1h");
            }
            let body = format!("message {n} {}", "x".repeat(usize::try_from(n % 300).unwrap()));
            let subject = format!("s.{}", n % 5);
            let sent = client.clone();
            answers.push(async move { sent.request_with_headers(subject, headers, body.into()).await });
            if answers.len() == 200 || n + 1 == messages {
                for answer in futures_util::future::join_all(answers.drain(..)).await {
                    answer.unwrap();
                }
            }
        }
        for seq in (5..=messages).step_by(11).take(300) {
            self.api("STREAM.MSG.DELETE.S", json!({"seq": seq})).await;
        }
        let pull = json!({"durable_name": "PULL", "ack_policy": "explicit", "filter_subject": "s.1"});
        self.consumer("S", pull).await;
        let push = json!({"durable_name": "PUSH", "ack_policy": "all", "deliver_subject": "push.here"});
        self.consumer("S", push).await;
        let pulled = self.pull("S", "PULL", json!({"batch": 6})).await;
        for message in pulled.messages.iter().filter(|m| m.stream_seq % 2 == 0) {
            self.ack(message, "+ACK").await;
        }
        self.ack(&pulled.messages[5], "-NAK").await;
        self.pull("S", "PULL", json!({"batch": 1})).await;
    }
}

#[test]
fn a_stream_goes_from_the_reference_server_to_this_one_and_back() {
    let (Some(peer), Some(linnet)) = (program(Kind::Peer), program(Kind::Linnet)) else { return };
    run(async move || {
        let mut peer = Fixture::start(Kind::Peer, Spec::new(peer).options(JETSTREAM()));
        let mut linnet = Fixture::start(Kind::Linnet, Spec::new(linnet).options(JETSTREAM()));
        peer.rich_stream(setting("LINNET_SNAPSHOT_MESSAGES", 1000)).await;
        let expected = peer.content("S").await;
        let backup = peer.back_up("S", 32 << 10).await;
        let answer = linnet.restore(&backup).await;
        assert_eq!(answer["state"], expected.0, "{answer}");
        assert_eq!(linnet.content("S").await, expected);
        let backup = linnet.back_up("S", 32 << 10).await;
        peer.api("STREAM.DELETE.S", Value::Null).await;
        let answer = peer.restore(&backup).await;
        assert_eq!(answer["error"], Value::Null, "{answer}");
        assert_eq!(peer.content("S").await, expected);
    });
}

/// A backup that an older server made: `crates/archive/testdata/README.md`.
fn old_backup(version: &str, stream: &str) -> Backup {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/archive/testdata");
    let data = std::fs::read(dir.join(format!("{version}-{stream}.tar.s2"))).unwrap();
    let json = std::fs::read(dir.join(format!("{version}-{stream}.json"))).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    Backup { config: json["config"].clone(), state: json["state"].clone(), data }
}

#[test]
fn backups_of_older_servers_become_the_same_on_both() {
    let (Some(peer), Some(linnet)) = (program(Kind::Peer), program(Kind::Linnet)) else { return };
    run(async move || {
        let mut peer = Fixture::start(Kind::Peer, Spec::new(peer).options(JETSTREAM()));
        let mut linnet = Fixture::start(Kind::Linnet, Spec::new(linnet).options(JETSTREAM()));
        for version in ["2.9.25", "2.10.26", "2.12.8", "2.14.6"] {
            for stream in ["PLAIN", "SQUEEZED", "SHRUNK"] {
                let backup = old_backup(version, stream);
                let (theirs, ours) = (peer.restore(&backup).await, linnet.restore(&backup).await);
                assert_eq!(theirs["error"], Value::Null, "{theirs}");
                assert_eq!(ours["state"], backup.state, "{version} {stream}: {ours}");
                assert_eq!(ours["created"], theirs["created"]);
                let (ours, mut theirs) = (linnet.content(stream).await, peer.content(stream).await);
                // When the last message was stored is lost to nats-server if that one is deleted.
                theirs.0["last_ts"] = backup.state["last_ts"].clone();
                assert_eq!(ours, theirs, "{version} {stream}");
                for s in [&mut peer, &mut linnet] {
                    s.api(&format!("STREAM.DELETE.{stream}"), Value::Null).await;
                }
            }
        }
    });
}

#[test]
fn a_restored_stream_is_as_it_was_and_goes_on() {
    let Some(linnet) = program(Kind::Linnet) else { return };
    run(async move || {
        let mut s = Fixture::start(Kind::Linnet, Spec::new(linnet).options(JETSTREAM()));
        s.rich_stream(50).await;
        let expected = s.content("S").await;
        let backup = s.back_up("S", 1 << 10).await;
        s.api("STREAM.DELETE.S", Value::Null).await;
        s.restore(&backup).await;
        assert_eq!(s.content("S").await, expected);
        assert_eq!(s.publish("s.9", "x").await["seq"], 51);
    });
}

on_both_servers! { JETSTREAM;
    async fn what_is_no_backup_leaves_no_stream(s) {
        s.rich_stream(40).await;
        let whole = s.back_up("S", 1 << 10).await;
        s.api("STREAM.DELETE.S", Value::Null).await;
        let mut flipped = whole.data.clone();
        flipped[60] ^= 0x10;
        let cut = whole.data[..whole.data.len() - 9].to_vec();
        for data in [b"garbage".to_vec(), cut, flipped, Vec::new()] {
            let bad = Backup { config: whole.config.clone(), state: whole.state.clone(), data };
            let answer = s.restore(&bad).await;
            assert_eq!(err_code(&answer), 10062, "{answer}");
            assert_eq!(err_code(&s.api("STREAM.INFO.S", Value::Null).await), 10059);
        }
        assert_eq!(s.restore(&whole).await["error"], Value::Null);
    }

    async fn damaged_backups_of_older_servers_leave_no_stream(s) {
        let whole = old_backup("2.12.8", "PLAIN");
        let cut = whole.data[..whole.data.len() - 200].to_vec();
        let mut flipped = whole.data.clone();
        flipped[600] ^= 0x10;
        for data in [cut, flipped] {
            let answer = s.restore(&Backup { data, config: whole.config.clone(), state: json!({}) }).await;
            assert_eq!(err_code(&answer), 10062, "{answer}");
            assert_eq!(err_code(&s.api("STREAM.INFO.PLAIN", Value::Null).await), 10059);
        }
        let mut renamed = old_backup("2.12.8", "PLAIN");
        renamed.config["name"] = json!("OTHER");
        let answer = s.restore(&renamed).await;
        assert_eq!(answer["error"]["description"], "restore failed: stream names do not match");
        assert_eq!(s.restore(&whole).await["state"]["messages"], 21);
    }

    async fn requests_that_make_no_sense_are_refused(s) {
        s.stream(json!({"name": "S", "subjects": ["s"]})).await;
        assert_eq!(err_code(&s.api("STREAM.SNAPSHOT.S", Value::Null).await), 10003);
        assert_eq!(err_code(&s.api("STREAM.SNAPSHOT.S", json!({"deliver_subject": "x.*"})).await), 10015);
        assert_eq!(err_code(&s.api("STREAM.SNAPSHOT.N", json!({"deliver_subject": "x"})).await), 10059);
        let restore = |name: &str| json!({"config": {"name": name}, "state": {}});
        assert_eq!(err_code(&s.api("STREAM.RESTORE.S", restore("S")).await), 10130);
        assert_eq!(err_code(&s.api("STREAM.RESTORE.T", restore("X")).await), 10056);
        assert_eq!(err_code(&s.api("STREAM.RESTORE.T", Value::Null).await), 10003);
    }

    async fn a_client_that_acknowledges_nothing_or_wrongly_is_given_up(s) {
        s.rich_stream(200).await;
        let client = s.client().await;
        let inbox = client.new_inbox();
        let mut chunks = client.subscribe(inbox.clone()).await.unwrap();
        let request = json!({"deliver_subject": inbox, "chunk_size": 1024, "window_size": 2048});
        s.api("STREAM.SNAPSHOT.S", request).await;
        let first = within("a chunk", chunks.next()).await.unwrap();
        let reply = first.reply.unwrap().to_string();
        assert!(reply.starts_with("$JS.SNAPSHOT.ACK.S."), "{reply}");
        let end = loop {
            let part = within("the end", chunks.next()).await.unwrap();
            if part.payload.is_empty() {
                break part;
            }
        };
        assert_eq!(end.status.unwrap().as_u16(), 408);
        assert_eq!(end.description.as_deref(), Some("No Flow Response"));
    }

    async fn snapshots_that_nobody_listens_to_keep_no_restore_waiting(s) {
        s.rich_stream(40).await;
        let backup = s.back_up("S", 1 << 10).await;
        s.api("STREAM.DELETE.S", Value::Null).await;
        s.stream(json!({"name": "O", "subjects": ["o"]})).await;
        s.publish("o", "x").await;
        for _ in 0..100 {
            s.api("STREAM.SNAPSHOT.O", json!({"deliver_subject": "nobody.listens"})).await;
        }
        let restored = s.restore(&backup).await;
        assert_eq!(restored["error"], Value::Null, "{restored}");
    }

    /// Clients that have one subscription for all answers make one for the data when the request is answered.
    async fn a_snapshot_waits_for_its_own_subscription(s) {
        s.rich_stream(40).await;
        let client = s.client().await;
        let inbox = client.new_inbox();
        let mut all = client.subscribe(format!("{inbox}.*")).await.unwrap();
        let deliver = format!("{inbox}.data");
        s.api("STREAM.SNAPSHOT.S", json!({"deliver_subject": deliver})).await;
        // What comes at once comes before this round trip is over.
        s.state("S").await;
        let mut data = client.subscribe(deliver).await.unwrap();
        let first = within("the data", data.next()).await.unwrap();
        assert!(!first.payload.is_empty());
        let same = within("the data", all.next()).await.unwrap();
        assert_eq!(same.payload, first.payload);
    }
}
