//! Rows of the operator contract about a peer of the meta group that is away.

use std::process::Command;

use serde_json::{Value, json};

use super::trio::{Trio, publish, run};
use crate::harness::{Kind, eventually, nats_cli};

impl Trio {
    /// What a server shows of another one as a member of the meta group.
    fn replica(&self, at: &str, name: &str) -> Option<Value> {
        let page = self.see(at, "/jsz");
        let replicas = page["meta_cluster"]["replicas"].as_array()?;
        replicas.iter().find(|replica| replica["name"] == json!(name)).cloned()
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
        let away = trio.names().into_iter().find(|name| *name != meta && *name != leader).unwrap();
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

/// Rows A05, A14 and A22: any server's `/jsz` shows who leads and, soon after a crash, who is offline.
#[test]
fn a22_any_server_shows_who_is_offline() {
    run(Kind::Linnet, async |trio| {
        let leader = trio.meta_leader().await;
        let away = trio.names().into_iter().find(|name| *name != leader).unwrap();
        trio.kill(&away);
        for name in trio.running() {
            eventually("the member that is offline", async || {
                (trio.replica(&name, &away)?["offline"] == json!(true)).then_some(())
            })
            .await;
            let page = trio.see(&name, "/jsz");
            assert_eq!(
                (&page["meta_leader"], &page["meta_cluster"]["leader"]),
                (&json!(leader), &json!(leader))
            );
        }
        trio.restart(&away);
        for name in trio.names().into_iter().filter(|name| *name != away) {
            eventually("the member that is back", async || {
                trio.replica(&name, &away)?["offline"].is_null().then_some(())
            })
            .await;
        }
    });
}

/// Row A11: the CLI's report shows the members, and who is away.
#[test]
fn a11_the_report_shows_the_meta_group() {
    let Some(cli) = nats_cli() else { return };
    run(Kind::Linnet, async |trio| {
        let leader = trio.meta_leader().await;
        let away = trio.names().into_iter().find(|name| *name != leader).unwrap();
        let url = trio.url(&leader);
        let report = || {
            let words =
                ["--user", "sys", "--password", "sys", "--no-context", "server", "report", "jetstream"];
            let output = Command::new(&cli).args(["-s", &url]).args(words).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        // Name, id, leader, current, online, active, lag, each behind a bar.
        let row = |text: &str, name: &str| -> Option<Vec<String>> {
            let rows = text.split("RAFT Meta Group").nth(1)?.lines();
            let cells = rows.map(|row| row.split('│').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
            cells.into_iter().find(|cells| cells.get(1).is_some_and(|cell| cell == name))
        };
        eventually("all members, current and online", async || {
            let text = report();
            trio.names()
                .into_iter()
                .all(|name| {
                    row(&text, &name).is_some_and(|cells| {
                        (cells[3] == "yes") == (name == leader) && cells[4] == "true" && cells[5] == "true"
                    })
                })
                .then_some(())
        })
        .await;
        trio.kill(&away);
        eventually("the member that is offline", async || {
            row(&report(), &away).is_some_and(|cells| cells[5].contains("false")).then_some(())
        })
        .await;
    });
}
