//! Rows of the operator contract about a peer of the meta group that is away.

mod descriptors;
mod disks;
mod leaving;
mod majority;
mod partition;
mod restart;

use std::process::Command;

use serde_json::{Value, json};

use super::offline::{alone_on, is_said_to_be_offline};
use super::trio::{Trio, publish, run};
use crate::harness::{Kind, eventually, nats_cli};

impl Trio {
    /// What a server shows of another one as a member of the meta group.
    fn replica(&self, at: &str, name: &str) -> Option<Value> {
        let page = self.try_see(at, "/jsz")?;
        let replicas = page["meta_cluster"]["replicas"].as_array()?;
        replicas.iter().find(|replica| replica["name"] == json!(name)).cloned()
    }

    /// Waits until every server of these shows another one as offline, or not.
    async fn show_offline(&self, servers: &[String], name: &str, is_offline: bool) {
        for server in servers {
            eventually(&format!("that {server} shows {name} as offline: {is_offline}"), async || {
                let shown = self.replica(server, name)?["offline"].as_bool().unwrap_or(false);
                (shown == is_offline).then_some(())
            })
            .await;
        }
    }

    /// Kills a server, and waits until the others know.
    async fn kills(&mut self, name: &str) {
        self.kill(name);
        for other in self.running() {
            let away = format!("{name} (for ");
            eventually(&format!("that {other} knows that {name} is away"), async || {
                self.get(&other, "/healthz?details=1")?.body.contains(&away).then_some(())
            })
            .await;
        }
    }

    /// Whether a server has said something.
    fn has_logged(&self, name: &str, text: &str) -> bool {
        let member = self.cluster.members().iter().find(|member| member.name() == name).unwrap();
        std::fs::read_to_string(member.server().log_file()).is_ok_and(|log| log.contains(text))
    }

    /// A running server that is none of these.
    fn another(&mut self, than: &[&str]) -> String {
        self.running().into_iter().find(|name| !than.contains(&name.as_str())).unwrap()
    }

    /// What the `nats` CLI prints to a system user.
    fn cli(&self, at: &str, words: &[&str]) -> Option<String> {
        self.run_cli(at, &["--user", "sys", "--password", "sys"], words)
    }

    /// The same to somebody of the account that everybody is in.
    fn cli_of_user(&self, at: &str, words: &[&str]) -> Option<String> {
        self.run_cli(at, &[], words)
    }

    fn run_cli(&self, at: &str, login: &[&str], words: &[&str]) -> Option<String> {
        let url = self.url(at);
        let output = Command::new(nats_cli()?)
            .args(["--no-context", "-s", &url])
            .args(login)
            .args(words)
            .output()
            .unwrap();
        Some(format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ))
    }

    /// The row of a server in the CLI's report: name, id, leader, current, online, active, lag, each behind a bar.
    fn reported(&self, at: &str, name: &str) -> Option<Vec<String>> {
        let text = self.cli(at, &["server", "report", "jetstream"])?;
        let rows = text.split("RAFT Meta Group").nth(1)?.lines();
        let cells = rows.map(|row| row.split('│').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
        cells.into_iter().find(|cells| cells.get(1).is_some_and(|cell| cell == name))
    }

    /// Whether the CLI lists a server.
    fn lists(&self, at: &str, name: &str) -> bool {
        let text = self.cli(at, &["server", "list"]).unwrap_or_default();
        text.lines().any(|row| row.split('│').any(|cell| cell.trim() == name))
    }
}

/// Row A03: what exists goes on, and streams are created, changed and deleted by those that are left.
#[test]
fn a03_work_goes_on_without_one_server() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let client = trio.roaming().await;
        assert_eq!(publish(&client, "s", "before").await, 1);
        let (meta, leader) = (trio.meta_leader().await, trio.leader("S").await);
        let away = trio.another(&[&meta, &leader]);
        trio.kill(&away);
        assert_eq!(publish(&client, "s", "after").await, 2);
        trio.stream("R", 1, json!({})).await;
        assert_eq!(publish(&client, "r", "first").await, 1);
        let config = json!({"name": "R", "subjects": ["r"], "num_replicas": 1, "max_msgs": 5});
        let changed = trio.api(&meta, "STREAM.UPDATE.R", config).await;
        assert_eq!(changed["config"]["max_msgs"], json!(5), "{changed}");
        trio.api(&meta, "STREAM.DELETE.R", Value::Null).await;
    });
}

/// Rows A05, A09, A11, A12, A14 and A22: who is offline after a crash is shown by any server's `/jsz`, and by the CLI,
/// with since when. Row A18: nobody is taken out without whom there would be no majority. Streams that only the offline
/// server has are said to be offline, until it is back.
#[test]
fn a05_a09_a11_a12_a14_a18_a22_who_is_offline_is_shown() {
    run(Kind::Linnet, async |trio| {
        let leader = trio.meta_leader().await;
        let away = trio.another(&[&leader]);
        let other = trio.another(&[&leader, &away]);
        let has_cli = nats_cli().is_some();
        if has_cli {
            eventually("all members, current and online", async || {
                let rows = trio.names().into_iter().map(|name| (trio.reported(&leader, &name), name));
                rows.map(|(cells, name)| (cells.unwrap_or_default(), name))
                    .all(|(cells, name)| {
                        cells.get(3..6).is_some_and(|cells| {
                            (cells[0] == "yes") == (name == leader)
                                && cells[1] == "true"
                                && cells[2] == "true"
                        })
                    })
                    .then_some(())
            })
            .await;
        }
        let alone = alone_on(trio, &away).await;
        trio.kill(&away);
        let left = trio.running();
        trio.show_offline(&left, &away, true).await;
        for name in &left {
            let page = trio.see(name, "/jsz");
            assert_eq!(
                (&page["meta_leader"], &page["meta_cluster"]["leader"]),
                (&json!(leader), &json!(leader))
            );
            let since = trio.replica(name, &away).unwrap()["offline_since"].clone();
            assert!(since.as_str().is_some_and(|since| since.starts_with("20")), "{since}");
        }
        if has_cli {
            eventually("the member that is offline", async || {
                trio.reported(&leader, &away)?[5].contains("false").then_some(())
            })
            .await;
            assert!(trio.lists(&leader, &other) && !trio.lists(&leader, &away));
        }
        let refused = trio.try_system("SERVER.REMOVE", &json!({"peer": other})).await.unwrap();
        assert_eq!(refused["error"]["err_code"], json!(10041), "{refused}");
        let why = refused["error"]["description"].as_str().unwrap();
        assert!(why.contains("reachable majority") && why.contains(&away), "{why}");
        is_said_to_be_offline(trio, &alone, &away).await;
        trio.restart(&away);
        trio.show_offline(&left, &away, false).await;
        trio.shows(&alone, "the stream", |info| info["cluster"]["leader"] == json!(away)).await;
    });
}
