//! Streams that the catalogue does not name.

use serde_json::json;

use super::trio::{Trio, publish, run_on};
use crate::harness::{Kind, eventually};

/// True if a server's store names a stream.
fn has(trio: &Trio, server: &str) -> bool {
    let assigned = std::fs::read_dir(trio.store_of(server).join("jetstream/assigned"));
    assigned.is_ok_and(|mut files| files.next().is_some())
}

/// Servers that come back with a stream that was deleted are a majority of its group, and do not serve it all the same.
#[test]
fn a_deleted_stream_that_comes_back_with_removed_servers_is_not_served() {
    run_on(Kind::Linnet, 5, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let client = trio.roaming().await;
        publish(&client, "s", "over").await;
        trio.all_current("S").await;
        let members = trio.members("S").await;
        let (away, other) = (&members[..2], members[2].clone());
        for server in away {
            trio.kill(server);
        }
        let at = trio.running().remove(0);
        trio.ends(&at, "S").await;
        for server in away {
            trio.removes_server(server).await;
        }
        eventually("that the other one lets go", async || (!has(trio, &other)).then_some(())).await;
        for server in away {
            trio.restart(server);
        }
        for server in away {
            // One that hears in time that the stream has ended lets go of it.
            eventually("an orphan", async || {
                let page = trio.try_see(server, "/jsz")?;
                let orphans = page["linnet_orphans"].as_array().cloned().unwrap_or_default();
                (orphans.iter().any(|o| o["stream"] == json!("S")) || !has(trio, server)).then_some(())
            })
            .await;
        }
        let client = trio.at(&at).await;
        let nobody = eventually("an answer", async || client.request("s", "x".into()).await.err()).await;
        assert_eq!(nobody.kind(), async_nats::RequestErrorKind::NoResponders);
        // The name is free.
        trio.stream("S", 3, json!({})).await;
        assert_eq!(publish(&client, "s", "anew").await, 1);
    });
}
