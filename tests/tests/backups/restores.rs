//! Restores that are cut off, limited or watched.

use std::fs;
use std::time::Duration;

use futures_util::StreamExt as _;
use linnet_launch::{JetStream, Options, Spec, free_port, poll_until};
use serde_json::{Value, json};

use super::Backup;
use crate::harness::{Fixture, JETSTREAM, Kind, LONG, err_code, program, run, within};

impl Fixture {
    /// Asks for a restore and sends the first bytes of the data; what the rest is to be sent to.
    async fn begin_restore(&mut self, backup: &Backup, bytes: usize) -> String {
        let name = backup.config["name"].as_str().unwrap();
        let request = json!({"config": backup.config, "state": backup.state});
        let answer = self.api(&format!("STREAM.RESTORE.{name}"), request).await;
        let subject = answer["deliver_subject"].as_str().unwrap().to_owned();
        let client = self.client().await;
        for chunk in backup.data[..bytes].chunks(1 << 10) {
            let sent = client.request(subject.clone(), bytes::Bytes::copy_from_slice(chunk));
            within("an answer to a chunk", sent).await.unwrap();
        }
        subject
    }
}

#[test]
fn a_restore_that_a_kill_cuts_off_leaves_nothing_and_succeeds_later() {
    let Some(linnet) = program(Kind::Linnet) else { return };
    run(async move || {
        let options = Options { port: Some(free_port().unwrap()), ..JETSTREAM() };
        let mut s = Fixture::start(Kind::Linnet, Spec::new(linnet).options(options));
        s.rich_stream(3000).await;
        let expected = s.content("S").await;
        let backup = s.back_up("S", 32 << 10).await;
        s.api("STREAM.DELETE.S", Value::Null).await;
        for part in [2, 1] {
            s.begin_restore(&backup, backup.data.len() / part).await;
            s.server.kill().unwrap();
            s.server.restart().unwrap();
            s.forget_client();
            assert_eq!(err_code(&s.api("STREAM.INFO.S", Value::Null).await), 10059);
            assert_eq!(s.api("STREAM.NAMES", Value::Null).await["total"], 0);
        }
        assert_eq!(s.restore(&backup).await["error"], Value::Null);
        for _ in 0..2 {
            assert_eq!(s.content("S").await, expected);
            s.server.kill().unwrap();
            s.server.restart().unwrap();
            s.forget_client();
        }
        assert_eq!(s.publish("s.9", "x").await["seq"], 3001);
    });
}

#[test]
fn a_backup_of_an_older_server_survives_a_kill() {
    let Some(linnet) = program(Kind::Linnet) else { return };
    run(async move || {
        let options = Options { port: Some(free_port().unwrap()), ..JETSTREAM() };
        let mut s = Fixture::start(Kind::Linnet, Spec::new(linnet).options(options));
        let backup = super::old_backup("2.12.8", "SHRUNK");
        assert_eq!(s.restore(&backup).await["error"], Value::Null);
        let expected = s.content("SHRUNK").await;
        s.server.kill().unwrap();
        s.server.restart().unwrap();
        s.forget_client();
        assert_eq!(s.content("SHRUNK").await, expected);
        assert_eq!(s.publish("shrunk.1", "x").await["seq"], 125);
    });
}

#[test]
fn a_client_that_stalls_is_given_up() {
    let Some(linnet) = program(Kind::Linnet) else { return };
    run(async move || {
        let mut s = Fixture::start(Kind::Linnet, Spec::new(linnet).options(JETSTREAM()));
        s.rich_stream(200).await;
        let backup = s.back_up("S", 1 << 10).await;
        s.api("STREAM.DELETE.S", Value::Null).await;
        let subject = s.begin_restore(&backup, backup.data.len() / 2).await;
        let log = s.server.log_file().to_owned();
        let given_up = || fs::read_to_string(&log).unwrap().contains("was given up by its client");
        assert!(poll_until(LONG + Duration::from_secs(5), given_up));
        let client = s.client().await;
        assert!(client.request(subject, "x".into()).await.is_err(), "nobody listens any more");
        assert_eq!(err_code(&s.api("STREAM.INFO.S", Value::Null).await), 10059);
        assert_eq!(s.restore(&backup).await["error"], Value::Null);
    });
}

/// Two accounts: what is restored to the second one is bounded.
fn limited(kind: Kind, limits: &str) -> Option<Fixture> {
    let extra = format!(
        "accounts {{ A {{ users: [{{user: a, password: p}}], jetstream: {{ {limits} }} }} }}\nno_auth_user: a\n"
    );
    let options = Options { extra, ..JETSTREAM() };
    Some(Fixture::start(kind, Spec::new(program(kind)?).options(options)))
}

on_both_kinds! {
    fn limits_of_the_account_hold_for_restores(kind) {
        let Some(mut free) = limited(kind, "max_streams: 5") else { return };
        let Some(mut full) = limited(kind, "max_streams: 1") else { return };
        let Some(mut small) = limited(kind, "max_store: 3KB") else { return };
        run(async move || {
            free.rich_stream(200).await;
            let backup = free.back_up("S", 1 << 10).await;
            full.stream(json!({"name": "OTHER", "subjects": ["o"]})).await;
            let request = json!({"config": backup.config, "state": backup.state});
            assert_eq!(err_code(&full.api("STREAM.RESTORE.S", request).await), 10027);
            let answer = small.restore(&backup).await;
            assert_eq!(err_code(&answer), 10047, "{answer}");
            assert_eq!(err_code(&small.api("STREAM.INFO.S", Value::Null).await), 10059);
            assert_eq!(small.api("INFO", Value::Null).await["storage"], 0);
        });
    }

    /// Which messages were the last of their subjects when the consumer was made is in no backup: what is behind its
    /// position is delivered, of which nats-server counts the last ones only.
    fn a_restored_consumer_of_last_messages_delivers_all_behind_its_position(kind) {
        let Some(program) = program(kind) else { return };
        let mut s = Fixture::start(kind, Spec::new(program).options(JETSTREAM()));
        run(async move || {
            s.stream(json!({"name": "S", "subjects": ["s.*"]})).await;
            for subject in ["s.a", "s.b", "s.c", "s.b", "s.c"] {
                s.publish(subject, "x").await;
            }
            let last = json!({
                "durable_name": "C", "ack_policy": "explicit",
                "deliver_policy": "last_per_subject", "filter_subject": "s.*",
            });
            s.consumer("S", last).await;
            assert_eq!(s.pull("S", "C", json!({"batch": 1, "no_wait": true})).await.messages.len(), 1);
            s.consumer_shows("S", "C", &[("/delivered/stream_seq", 1), ("/num_pending", 2)]).await;
            let backup = s.back_up("S", 1 << 10).await;
            s.api("STREAM.DELETE.S", Value::Null).await;
            s.restore(&backup).await;
            let pending = if kind == Kind::Peer { 2 } else { 4 };
            s.consumer_shows("S", "C", &[("/num_pending", pending)]).await;
            assert_eq!(s.pull("S", "C", json!({"batch": 9, "no_wait": true})).await.messages.len(), 4);
        });
    }

    fn listeners_are_told_who_makes_backups_and_restores(kind) {
        let Some(program) = program(kind) else { return };
        let domain = JetStream { extra: "domain: here".to_owned(), ..JetStream::default() };
        let options = Options { jetstream: Some(domain), ..JETSTREAM() };
        let mut s = Fixture::start(kind, Spec::new(program).options(options));
        run(async move || {
            let listener = s.connect().await;
            let mut told = listener.subscribe("$JS.EVENT.ADVISORY.STREAM.>").await.unwrap();
            listener.flush().await.unwrap();
            s.rich_stream(50).await;
            let backup = s.back_up("S", 1 << 10).await;
            s.api("STREAM.DELETE.S", Value::Null).await;
            s.restore(&backup).await;
            let expected = [
                ("CREATED", "stream_action"),
                ("SNAPSHOT_CREATE", "snapshot_create"),
                ("SNAPSHOT_COMPLETE", "snapshot_complete"),
                ("DELETED", "stream_action"),
                ("RESTORE_CREATE", "restore_create"),
                ("RESTORE_COMPLETE", "restore_complete"),
            ];
            for (topic, name) in expected {
                // A restored stream is a created one to nats-server.
                let advisory = loop {
                    let message = within("an advisory", told.next()).await.unwrap();
                    let is_extra = message.subject.ends_with(".CREATED.S") && topic != "CREATED";
                    if !is_extra {
                        assert_eq!(message.subject.as_str(), format!("$JS.EVENT.ADVISORY.STREAM.{topic}.S"));
                        break serde_json::from_slice::<Value>(&message.payload).unwrap();
                    }
                };
                assert_eq!(advisory["type"], format!("io.nats.jetstream.advisory.v1.{name}"));
                assert_eq!((&advisory["stream"], &advisory["domain"]), (&json!("S"), &json!("here")));
                if name != "stream_action" {
                    let client = &advisory["client"];
                    assert_eq!((&client["acc"], &client["host"]), (&json!("$G"), &json!("127.0.0.1")), "{advisory}");
                    assert_eq!((&client["kind"], &client["lang"]), (&json!("Client"), &json!("rust")), "{advisory}");
                    assert!(client["id"].is_u64() && client["start"].is_string(), "{advisory}");
                }
                if name == "restore_complete" {
                    assert_eq!(advisory["bytes"], backup.data.len());
                }
            }
        });
    }

    fn limits_of_the_configuration_hold_at_the_end_of_a_restore(kind) {
        let Some(program) = program(kind) else { return };
        let mut s = Fixture::start(kind, Spec::new(program).options(JETSTREAM()));
        run(async move || {
            for mut backup in [super::old_backup("2.14.6", "SQUEEZED"), super::old_backup("2.9.25", "SHRUNK")] {
                let name = backup.config["name"].as_str().unwrap().to_owned();
                backup.config["max_msgs"] = json!(7);
                let answer = s.restore(&backup).await;
                assert_eq!(answer["state"]["messages"], 7, "{answer}");
                assert_eq!(answer["state"]["last_seq"], backup.state["last_seq"]);
                assert_eq!(s.state(&name).await["messages"], 7);
            }
        });
    }

    fn streams_in_memory_are_backed_up_and_restored(kind) {
        let Some(program) = program(kind) else { return };
        let mut s = Fixture::start(kind, Spec::new(program).options(JETSTREAM()));
        run(async move || {
            s.stream(json!({"name": "M", "subjects": ["m.*"], "storage": "memory"})).await;
            for n in 0..20 {
                s.publish(&format!("m.{}", n % 3), &format!("message {n}")).await;
            }
            s.api("STREAM.MSG.DELETE.M", json!({"seq": 7})).await;
            let before = s.state("M").await;
            let backup = s.back_up("M", 1 << 10).await;
            s.api("STREAM.DELETE.M", Value::Null).await;
            let answer = s.restore(&backup).await;
            assert_eq!((&answer["config"]["storage"], &answer["state"]), (&json!("memory"), &before), "{answer}");
            assert_eq!(s.publish("m.9", "x").await["seq"], 21);
            assert_eq!(s.stored("M", 20).await.unwrap().body, "message 19");
        });
    }
}
