//! Servers that come back.

use serde_json::{Value, json};

use super::super::trio::{Trio, publish, run};
use crate::harness::{Kind, eventually, nats_cli};

/// How far a member of a stream is behind, as its leader knows.
fn lag(info: &Value, name: &str) -> u64 {
    let replicas = info["cluster"]["replicas"].as_array().unwrap();
    let replica = replicas.iter().find(|replica| replica["name"] == json!(name));
    replica.map_or(0, |replica| replica["lag"].as_u64().unwrap_or(0))
}

impl Trio {
    async fn publishes(&self, what: &str, count: u64) {
        let client = self.roaming().await;
        let sent = (0..count).map(|n| {
            let client = client.clone();
            async move { publish(&client, "s", &format!("{what} {n} {}", "x".repeat(1000))).await }
        });
        futures_util::future::join_all(sent).await;
    }
}

/// Rows A16 and A29: a server that was away catches up by itself; how far it is behind is shown, and that it is not
/// any more. Row A25: so does one that comes back with nothing.
/// Row A23: what streams may take leaves a fifth of the disk.
#[test]
fn a16_a23_a25_a29_a_server_comes_back_with_what_it_had_or_nothing() {
    run(Kind::Linnet, async |trio| {
        let page = trio.see("n0", "/varz");
        let free = rustix::fs::statvfs(trio.cluster.dir()).unwrap();
        let free = free.f_bavail * free.f_frsize;
        let may_take = page["jetstream"]["config"]["max_storage"].as_u64().unwrap();
        assert!(may_take > 0 && may_take <= free / 5 * 4 + (1 << 30), "{may_take} of {free}");

        trio.stream("S", 3, json!({})).await;
        trio.all_current("S").await;
        let (leader, stream_leader) = (trio.meta_leader().await, trio.leader("S").await);
        let away = trio.another(&[&leader, &stream_leader]);
        for has_lost_its_disk in [false, true] {
            trio.kill(&away);
            trio.publishes(if has_lost_its_disk { "more" } else { "some" }, 200).await;
            trio.shows("S", "how far it is behind", |info| lag(info, &away) > 0).await;
            if has_lost_its_disk {
                std::fs::remove_dir_all(trio.store_of(&away)).unwrap();
            }
            trio.restart(&away);
            trio.shows("S", "that it has everything", |info| lag(info, &away) == 0).await;
            trio.all_current("S").await;
            eventually("a healthy server", async || {
                (trio.get(&away, "/healthz")?.status == 200).then_some(())
            })
            .await;
            eventually("a member that has everything", async || {
                let leader = trio.meta_leader().await;
                let shown = trio.replica(&leader, &away)?;
                let is_well = shown["current"] == json!(true) && shown["offline"].is_null();
                (is_well && shown["lag"].is_null()).then_some(())
            })
            .await;
        }
        if nats_cli().is_none() {
            return;
        }
        let leader = trio.meta_leader().await;
        let cells = trio.reported(&leader, &away).unwrap();
        assert_eq!(
            (cells[4].as_str(), cells[5].as_str(), cells[7].as_str()),
            ("true", "true", "0"),
            "{cells:?}"
        );
        let report = trio.cli_of_user(&leader, &["stream", "report"]).unwrap();
        let row = report.lines().find(|row| row.split('│').any(|cell| cell.trim() == "S"));
        let row = row.unwrap_or_else(|| panic!("{report}"));
        for name in trio.names() {
            // The CLI marks those that are behind with an exclamation mark.
            assert!(row.contains(&name) && !row.contains(&format!("{name}!")), "{report}");
        }
    });
}
