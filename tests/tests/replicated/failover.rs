//! Servers end, and what was acknowledged is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::trio::{Trio, publish, run};
use crate::harness::{Kind, eventually};

/// A client that publishes one message after the other.
pub(super) struct Publisher {
    has_ended: Arc<AtomicBool>,
    task: JoinHandle<Published>,
}

/// What was acknowledged.
#[derive(Default)]
pub(super) struct Published {
    /// Id by sequence.
    messages: BTreeMap<u64, String>,
    /// The longest time between two acknowledgements.
    pub(super) longest_gap: Duration,
}

impl Publisher {
    pub(super) async fn begin(trio: &Trio, subject: &'static str) -> Self {
        let client = trio.roaming().await;
        let has_ended = Arc::new(AtomicBool::new(false));
        let end = has_ended.clone();
        let task = tokio::spawn(async move {
            let mut published = Published::default();
            let mut last = Instant::now();
            let mut n = 0;
            while !end.load(Ordering::Relaxed) {
                let id = format!("m{n}");
                let seq = publish(&client, subject, &id).await;
                published.longest_gap = published.longest_gap.max(last.elapsed());
                last = Instant::now();
                let twice = published.messages.insert(seq, id);
                assert_eq!(twice, None, "sequence {seq} is used twice");
                n += 1;
            }
            published
        });
        Self { has_ended, task }
    }

    pub(super) async fn end(self) -> Published {
        self.has_ended.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

impl Published {
    /// Every acknowledged message is at its sequence.
    pub(super) async fn is_in(&self, trio: &mut Trio, stream: &str) {
        assert!(!self.messages.is_empty());
        let at = trio.running().remove(0);
        for (seq, id) in &self.messages {
            let got = trio.api(&at, &format!("STREAM.MSG.GET.{stream}"), json!({"seq": seq})).await;
            let data = got["message"]["data"].as_str().unwrap();
            assert_eq!(data_encoding::BASE64.decode(data.as_bytes()).unwrap(), id.as_bytes(), "at {seq}");
        }
    }

    /// Waits until so many more are acknowledged than `before`: for the count use a stream's own state.
    pub(super) fn count(&self) -> usize {
        self.messages.len()
    }
}

/// Waits until a stream has more messages than now.
pub(super) async fn goes_on(trio: &mut Trio, stream: &str) {
    let before = trio.info(stream).await["state"]["last_seq"].as_u64().unwrap();
    trio.shows(stream, "more messages", |info| info["state"]["last_seq"].as_u64().unwrap() > before + 5)
        .await;
}

#[test]
fn the_leader_of_a_stream_is_killed_again_and_again() {
    for storage in ["file", "memory"] {
        run(Kind::Linnet, async |trio| {
            trio.stream("S", 3, json!({"storage": storage})).await;
            let publisher = Publisher::begin(trio, "s").await;
            for _ in 0..3 {
                goes_on(trio, "S").await;
                let leader = trio.leader("S").await;
                trio.kill(&leader);
                goes_on(trio, "S").await;
                trio.restart(&leader);
                trio.all_current("S").await;
            }
            let published = publisher.end().await;
            assert!(published.longest_gap < Duration::from_secs(5), "{:?}", published.longest_gap);
            assert!(published.count() > 30);
            published.is_in(trio, "S").await;
        });
    }
}

#[test]
fn a_rolling_restart_loses_nothing() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let publisher = Publisher::begin(trio, "s").await;
        for name in trio.names() {
            goes_on(trio, "S").await;
            trio.terminate(&name);
            goes_on(trio, "S").await;
            trio.restart(&name);
            trio.all_current("S").await;
        }
        let published = publisher.end().await;
        assert!(published.longest_gap < Duration::from_secs(5), "{:?}", published.longest_gap);
        published.is_in(trio, "S").await;
    });
}

#[test]
fn a_server_that_lost_its_disk_gets_everything_back() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let publisher = Publisher::begin(trio, "s").await;
        goes_on(trio, "S").await;
        for name in trio.names() {
            trio.kill(&name);
            std::fs::remove_dir_all(trio.store_of(&name)).unwrap();
            goes_on(trio, "S").await;
            trio.restart(&name);
            trio.all_current("S").await;
        }
        let published = publisher.end().await;
        published.is_in(trio, "S").await;
        // Each of them has been the only one that never lost its disk.
        let info = trio.info("S").await;
        assert_eq!(info["state"]["messages"], info["state"]["last_seq"], "{info}");
    });
}

#[test]
fn the_leader_of_the_meta_group_is_killed_and_streams_can_be_created_soon() {
    run(Kind::Linnet, async |trio| {
        let leader = trio.meta_leader().await;
        trio.kill(&leader);
        let killed = Instant::now();
        trio.stream("S", 1, json!({})).await;
        assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
        trio.restart(&leader);
        trio.stream("T", 3, json!({})).await;
        trio.all_current("T").await;
    });
}

#[test]
fn a_consumer_goes_on_at_the_next_leader_where_it_was() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let client = trio.roaming().await;
        for n in 0..100 {
            publish(&client, "s", &n.to_string()).await;
        }
        let js = async_nats::jetstream::new(client.clone());
        let stream = js.get_stream("S").await.unwrap();
        let config = async_nats::jetstream::consumer::pull::Config {
            durable_name: Some("D".to_owned()),
            ack_wait: Duration::from_secs(2),
            ..Default::default()
        };
        let consumer = stream.create_consumer(config).await.unwrap();
        let mut seen = std::collections::BTreeSet::new();
        let mut kills = 0;
        eventually("all messages", async || {
            use futures_util::StreamExt as _;
            let batch =
                consumer.fetch().max_messages(10).expires(Duration::from_millis(300)).messages().await;
            if let Ok(mut batch) = batch {
                while let Some(Ok(message)) = batch.next().await {
                    let seq = message.info().unwrap().stream_sequence;
                    let reply = message.reply.clone().unwrap();
                    // What says that nobody is there is an error here.
                    if client.request(reply, "+ACK".into()).await.is_ok() {
                        assert!(seen.insert(seq), "{seq} was confirmed before");
                    }
                }
            }
            if seen.len() > 30 * (kills + 1) && kills < 2 {
                let leader = trio.leader("S").await;
                trio.kill(&leader);
                trio.leader("S").await;
                trio.restart(&leader);
                kills += 1;
            }
            (seen.len() == 100).then_some(())
        })
        .await;
        let info = trio.api("n0", "CONSUMER.INFO.S.D", Value::Null).await;
        assert_eq!(info["ack_floor"]["stream_seq"], json!(100), "{info}");
    });
}
