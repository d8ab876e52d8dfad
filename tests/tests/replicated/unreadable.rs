//! Replicas and catalogues that cannot be read are kept aside, and come from the other servers.

use std::path::Path;

use serde_json::{Value, json};

use super::returning::catalogue;
use super::trio::{Trio, publish, run};
use crate::harness::{Kind, eventually};

const MSGS: u64 = 20;

/// Makes every state file in a group's directory unreadable.
fn damage_state(group: &Path) {
    let files = std::fs::read_dir(group).unwrap().map(|entry| entry.unwrap().path());
    let states = files.filter(|f| f.file_name().unwrap().to_str().unwrap().starts_with("state."));
    let states: Vec<_> = states.collect();
    assert!(!states.is_empty(), "no state in {}", group.display());
    for file in states {
        let bytes: Vec<u8> = std::fs::read(&file).unwrap().iter().map(|byte| byte ^ 0x55).collect();
        std::fs::write(&file, bytes).unwrap();
    }
}

/// A server that is not the leader of the catalogue's group, nor of the stream.
async fn follower(trio: &mut Trio, stream: &str) -> String {
    let leaders = [trio.meta_leader().await, trio.leader(stream).await];
    trio.names().into_iter().find(|name| !leaders.contains(name)).unwrap()
}

#[test]
fn a_replica_that_cannot_be_read_does_not_speak_for_its_stream() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let client = trio.roaming().await;
        for n in 1..=MSGS {
            publish(&client, "s", &n.to_string()).await;
        }
        trio.all_current("S").await;
        let victim = follower(trio, "S").await;
        trio.terminate(&victim);
        let groups = std::fs::read_dir(trio.store_of(&victim).join("jetstream/groups")).unwrap();
        let is_catalogue = |path: &Path| path == catalogue(trio, &victim);
        let groups: Vec<_> = groups.map(|entry| entry.unwrap().path()).filter(|p| !is_catalogue(p)).collect();
        assert_eq!(groups.len(), 1);
        damage_state(&groups[0]);
        trio.restart(&victim);
        let mut last = MSGS;
        for _ in 0..20 {
            for server in trio.names() {
                let client = trio.at(&server).await;
                // A server that has just come back may not know yet who listens.
                let ack = eventually("an answer", async || client.request("s", "x".into()).await.ok()).await;
                let ack: Value = serde_json::from_slice(&ack.payload).unwrap();
                last += 1;
                assert_eq!((&ack["seq"], &ack["error"]), (&json!(last), &Value::Null), "{server}");
            }
        }
        for server in trio.names() {
            let info = trio.try_api(&server, "STREAM.INFO.S", &Value::Null).await.unwrap();
            assert_eq!((&info["state"]["messages"], &info["error"]), (&json!(last), &Value::Null));
        }
        trio.all_current("S").await;
        trio.is_healthy(&victim).await;
        let group = groups[0].file_name().unwrap().to_str().unwrap();
        assert!(trio.kept_aside(&victim).iter().any(|name| name.starts_with(group)));
        // What the others had is there again after one more restart.
        trio.terminate(&victim);
        trio.restart(&victim);
        trio.all_current("S").await;
        trio.is_healthy(&victim).await;
    });
}

#[test]
fn a_catalogue_that_cannot_be_read_comes_from_the_others() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        trio.all_current("S").await;
        let victim = follower(trio, "S").await;
        trio.terminate(&victim);
        let dir = catalogue(trio, &victim);
        damage_state(&dir);
        trio.restart(&victim);
        trio.is_healthy(&victim).await;
        let group = dir.file_name().unwrap().to_str().unwrap();
        assert!(trio.kept_aside(&victim).iter().any(|name| name.starts_with(group)));
        trio.all_current("S").await;
        eventually("the stream", async || {
            let names = trio.try_api(&victim, "STREAM.NAMES", &json!({})).await?;
            (names["streams"] == json!(["S"])).then_some(())
        })
        .await;
        let client = trio.at(&victim).await;
        assert_eq!(publish(&client, "s", "1").await, 1);
    });
}
