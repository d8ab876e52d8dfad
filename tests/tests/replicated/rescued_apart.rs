//! What a rescued group knows nothing of comes back, and gives way to what was decided since.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::repaired::leads;
use super::trio::{Trio, publish, run};
use crate::harness::{Kind, eventually};

impl Trio {
    /// Waits until a server that cannot hear a majority is allowed to go on, and does.
    async fn goes_on_alone(&self, server: &str) {
        eventually("a rescue", async || self.rescue(server, 1).await["error"].is_null().then_some(())).await;
        self.is_led_by(server).await;
    }

    /// What a server's store keeps aside, by name.
    pub(super) fn kept_aside(&self, server: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.store_of(server).join("jetstream/quarantine")) else {
            return Vec::new();
        };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// Every answer to one publish within a moment.
async fn answers(client: &async_nats::Client, subject: &str) -> Vec<Value> {
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.unwrap();
    client.publish_with_reply(subject.to_owned(), inbox, "x".into()).await.unwrap();
    let mut answers = Vec::new();
    while let Ok(Some(reply)) = tokio::time::timeout(Duration::from_millis(500), replies.next()).await {
        answers.push(serde_json::from_slice(&reply.payload).unwrap());
    }
    answers
}

#[test]
fn a_stream_that_was_not_rescued_is_set_aside_for_a_later_one_of_its_name() {
    run(Kind::Linnet, async |trio| {
        let survivor = "n0";
        let lost = trio.split(survivor);
        trio.stream("BASE", 3, json!({})).await;
        trio.all_current("BASE").await;
        trio.kill(survivor);
        // The catalogue that is lost gets longer than the rescued one is when it gets a stream of the same name.
        for n in 0..4 {
            trio.stream(&format!("J{n}"), 1, json!({})).await;
        }
        trio.stream("S", 1, json!({})).await;
        let holder = trio.leader("S").await;
        let client = trio.at(&lost[0]).await;
        for id in ["lost 1", "lost 2"] {
            publish(&client, "s", id).await;
        }
        for server in &lost {
            trio.kill(server);
        }
        trio.restart(survivor);
        trio.goes_on_alone(survivor).await;
        trio.stream("S", 1, json!({})).await;
        let client = trio.at(survivor).await;
        assert_eq!(publish(&client, "s", "anew").await, 1);
        for server in &lost {
            trio.restart(server);
        }
        trio.logs(&holder, "is kept and not served: another stream has the name of stream '$G > S'").await;
        let mut last = 1;
        eventually("one acknowledgement of one publish", async || {
            let answers = answers(&client, "s").await;
            last += 1;
            let [ack] = &answers[..] else { return None };
            (ack["seq"] == json!(last)).then_some(())
        })
        .await;
        let info = trio.info("S").await;
        assert_eq!(info["cluster"]["leader"], json!(survivor), "{info}");
        assert_eq!(info["state"]["last_seq"], json!(last), "{info}");
    });
}

#[test]
fn an_old_disk_of_a_rescued_stream_is_kept_aside_and_its_server_begins_anew() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let client = trio.at("n0").await;
        for n in 1..=10 {
            assert_eq!(publish(&client, "s", &format!("m{n}")).await, n);
        }
        trio.all_current("S").await;
        trio.kill("n1");
        // Everything is in its files.
        trio.terminate("n2");
        let (store, old) = (trio.store_of("n2"), trio.cluster.dir().join("old disk"));
        std::fs::rename(&store, &old).unwrap();
        std::fs::remove_dir_all(trio.store_of("n1")).unwrap();
        for server in ["n1", "n2"] {
            trio.restart(server);
        }
        trio.goes_on_alone("n0").await;
        trio.all_current("S").await;
        assert_eq!(publish(&client, "s", "after the rescue").await, 11);
        trio.all_current("S").await;
        trio.kill("n2");
        std::fs::remove_dir_all(&store).unwrap();
        std::fs::rename(&old, &store).unwrap();
        trio.restart("n2");
        let catalogue = linnet_ids::GroupId::META.to_string();
        eventually("the old replica in the quarantine", async || {
            trio.kept_aside("n2").iter().any(|name| !name.starts_with(&catalogue)).then_some(())
        })
        .await;
        trio.is_healthy("n2").await;
        trio.all_current("S").await;
        leads(trio, "n2").await;
        let info = trio.info("S").await;
        assert_eq!(info["state"]["messages"], json!(11), "{info}");
        assert_eq!(publish(&client, "s", "m10").await, 10, "ids are remembered");
        assert_eq!(publish(&client, "s", "next").await, 12);
    });
}

on_both_kinds! {
    fn who_asks_for_a_rescue_says_how_many_are_to_go_on(kind) {
        run(kind, async |trio| {
            let refused = trio.try_system("META.RESCUE", &json!({})).await.unwrap();
            assert_eq!(refused["error"]["err_code"], json!(10003), "{refused}");
        });
    }
}
