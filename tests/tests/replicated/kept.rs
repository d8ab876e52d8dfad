//! Backups of a cluster's streams, and streams that a server had before it was part of a cluster.

use std::process::Command;

use serde_json::{Value, json};

use super::scaling::{deliver_two, delivered};
use super::trio::{Trio, publish, run};
use crate::harness::{Fixture, JETSTREAM, Kind, eventually, nats_cli, run_with};

fn nats(cli: &std::path::Path, url: &str, words: &[&str]) -> String {
    let output = Command::new(cli).args(["--no-context", "-s", url]).args(words).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words:?}: {text}");
    text
}

async fn is_as_before(trio: &mut Trio, stream: &str, replicas: usize) {
    let info = trio.has_replicas(stream, replicas).await;
    assert_eq!((&info["state"]["messages"], &info["state"]["last_seq"]), (&json!(20), &json!(20)), "{info}");
    assert_eq!(info["config"]["num_replicas"], json!(replicas));
    assert_eq!(delivered(trio, stream).await, (json!(2), json!(1), json!(1)));
}

#[test]
fn backups_of_a_cluster_are_restored_by_the_nats_cli() {
    let Some(cli) = nats_cli() else { return };
    run(Kind::Linnet, async |trio| {
        let client = trio.roaming().await;
        for (stream, subject, replicas) in [("S", "s", 3), ("R", "r", 1)] {
            trio.stream(stream, replicas, json!({})).await;
            for n in 1..=20 {
                assert_eq!(publish(&client, subject, &n.to_string()).await, n);
            }
            deliver_two(trio, stream).await;
        }
        let dir = trio.cluster.dir().join("backups");
        let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        for (n, server) in trio.names().iter().enumerate() {
            // Whichever server the client is connected to, and whoever leads.
            let (url, to) = (trio.url(server), at(&format!("s{n}")));
            nats(&cli, &url, &["stream", "backup", "S", &to, "--no-progress"]);
            trio.api(server, "STREAM.DELETE.S", Value::Null).await;
            nats(&cli, &url, &["stream", "restore", &to, "--no-progress"]);
            is_as_before(trio, "S", 3).await;
        }
        let (url, all) = (trio.url("n0"), at("all"));
        nats(&cli, &url, &["account", "backup", &all, "--force", "--consumers"]);
        for stream in ["S", "R"] {
            trio.api("n0", &format!("STREAM.DELETE.{stream}"), Value::Null).await;
        }
        nats(&cli, &url, &["account", "restore", &all]);
        is_as_before(trio, "S", 3).await;
        is_as_before(trio, "R", 1).await;
        assert_eq!(publish(&client, "s", "new").await, 21);
        let leader = trio.leader("S").await;
        trio.kill(&leader);
        assert_eq!(publish(&client, "s", "newer").await, 22, "the others have it");
    });
}

/// Makes the store of a server alone, with a stream that has five messages, in the place of a server of the cluster.
pub(super) async fn come_from_alone(trio: &mut Trio, name: &str, stream: &str) {
    trio.terminate(name);
    let to = trio.store_of(name);
    std::fs::remove_dir_all(&to).unwrap();
    let config = json!({"name": stream, "subjects": [stream.to_lowercase()]});
    let subject = stream.to_lowercase();
    let copied = tokio::task::spawn_blocking(move || {
        run_with(Kind::Linnet, JETSTREAM, async |s: &mut Fixture| {
            s.stream(config.clone()).await;
            for n in 0..5 {
                s.publish(&subject, &n.to_string()).await;
            }
            s.server.terminate(crate::harness::LONG).unwrap();
            copy(&s.server.dir().join("store"), &to);
        });
    });
    copied.await.unwrap();
    trio.restart(name);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

#[test]
fn a_server_that_was_alone_brings_its_streams() {
    run(Kind::Linnet, async |trio| {
        trio.stream("TAKEN", 1, json!({})).await;
        let (meta, holder) = (trio.meta_leader().await, trio.leader("TAKEN").await);
        let names = trio.names();
        let newcomer = names.iter().find(|name| **name != meta && **name != holder).unwrap().clone();
        come_from_alone(trio, &newcomer, "S").await;
        let info = eventually("the stream of the newcomer", async || {
            let info = trio.try_api(&meta, "STREAM.INFO.S", &Value::Null).await?;
            info["error"].is_null().then_some(info)
        })
        .await;
        assert_eq!(info["state"]["messages"], json!(5), "{info}");
        assert_eq!(info["cluster"]["leader"], json!(newcomer), "{info}");
        let client = trio.roaming().await;
        assert_eq!(publish(&client, "s", "sixth").await, 6);
        let config = json!({"name": "S", "subjects": ["s"], "num_replicas": 3});
        trio.api(&meta, "STREAM.UPDATE.S", config).await;
        trio.has_replicas("S", 3).await;
        trio.terminate(&newcomer);
        trio.restart(&newcomer);
        trio.has_replicas("S", 3).await;

        // One whose name is taken stays where it is, hidden, and is told of.
        trio.api(&meta, "STREAM.DELETE.S", Value::Null).await;
        trio.has_no_streams(&newcomer).await;
        come_from_alone(trio, &newcomer, "TAKEN").await;
        trio.logs(&newcomer, "stays hidden: the cluster has another stream of this name").await;
        assert_eq!(trio.info("TAKEN").await["state"]["messages"], json!(0));
        let groups = std::fs::read_dir(trio.store_of(&newcomer).join("jetstream/groups")).unwrap();
        let kept = groups.filter_map(Result::ok).filter(|entry| {
            entry.file_name().into_string().is_ok_and(|name| name.bytes().any(|b| b != b'0'))
        });
        assert_eq!(kept.count(), 1, "nothing of it was removed");
    });
}
