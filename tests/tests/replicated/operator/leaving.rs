//! Servers that are told to stop.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;

use super::super::failover::Publisher;
use super::super::trio::{Trio, publish, run, run_with};
use crate::harness::{Kind, LONG, eventually};

impl Trio {
    /// Waits until a server has ended; its code.
    async fn ended(&mut self, name: &str) -> Option<i32> {
        self.cluster.member(name).unwrap().server_mut().wait_end(LONG).unwrap().code()
    }

    /// Makes a server the leader of a stream and of the meta group.
    pub(super) async fn lets_lead(&mut self, name: &str, stream: &str) {
        let body = json!({"placement": {"preferred": name}});
        if self.leader(stream).await != name {
            self.api("n0", &format!("STREAM.LEADER.STEPDOWN.{stream}"), body.clone()).await;
            self.shows(stream, "its leader", |info| info["cluster"]["leader"] == json!(name)).await;
        }
        if self.meta_leader().await != name {
            let answer = self.try_system("META.LEADER.STEPDOWN", &body).await.unwrap();
            assert_eq!(answer["success"], json!(true), "{answer}");
            eventually("the meta leader", async || (self.meta_leader().await == name).then_some(())).await;
        }
    }

    /// Replaces something in the configuration of a server that runs, and has it read again.
    async fn reconfigure(&self, name: &str, from: &str, to: &str) {
        let path = self.cluster.dir().join(name).join("server.conf");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        self.signal(name, Signal::HUP);
        self.logs(name, "Reloaded server configuration").await;
    }
}

/// Row A20: leaders move away before a server stops, so that publishing hardly notices.
/// Row A10: a server says which others could not do without it, and with `lame_duck_quorum_guard` waits for them.
#[test]
fn a10_a20_a_server_leaves_when_others_can_do_without_it() {
    const GUARD: &str = "lame_duck_quorum_guard: true";
    run_with(
        Kind::Linnet,
        3,
        |spec| spec.extra(GUARD),
        async |trio| {
            trio.stream("S", 3, json!({})).await;
            trio.all_current("S").await;
            let (leaver, away) = ("n0", "n1");
            trio.lets_lead(leaver, "S").await;
            let publisher = Publisher::begin(trio, "s").await;
            trio.kills(away).await;
            trio.signal(leaver, Signal::TERM);
            trio.logs(leaver, "n1 in stream '$G > S', n1 in the meta group").await;
            trio.logs(leaver, "; waiting for them").await;
            assert_eq!(trio.leader("S").await, leaver, "it serves as before");
            trio.restart(away);
            let asked = Instant::now();
            assert_eq!(trio.ended(leaver).await, Some(0));
            // Others led before it was gone.
            trio.logs("n2", "JetStream cluster new metadata leader: ").await;
            assert_ne!(trio.leader("S").await, leaver);
            assert!(asked.elapsed() < LONG, "{:?}", asked.elapsed());
            trio.restart(leaver);
            trio.all_current("S").await;
            let published = publisher.end().await;
            published.is_in(trio, "S").await;

            // A second interrupt ends the wait.
            trio.kills(away).await;
            trio.signal(leaver, Signal::USR2);
            trio.logs_again(leaver, "; waiting for them", 2).await;
            trio.signal(leaver, Signal::INT);
            assert_eq!(trio.ended(leaver).await, Some(0));

            // Without the key it is only said.
            trio.restart(away);
            trio.restart(leaver);
            trio.all_current("S").await;
            trio.reconfigure(leaver, GUARD, "lame_duck_quorum_guard: false").await;
            trio.kills(away).await;
            for name in [leaver, "n2"] {
                eventually("that n1 cannot be heard", async || {
                    trio.get(name, "/healthz?details=1")?.body.contains("cannot be heard: n1").then_some(())
                })
                .await;
            }
            trio.signal(leaver, Signal::INT);
            trio.logs(leaver, "; their quorum may be lost without this server").await;
            assert_eq!(trio.ended(leaver).await, Some(0));
        },
    );
}

/// Row A20: a planned stop costs publishers less than a crash, and the last server to stop does not wait for others.
#[test]
fn a20_leaders_move_before_a_server_stops() {
    run_with(
        Kind::Linnet,
        3,
        |spec| spec,
        async |trio| {
            trio.stream("S", 3, json!({})).await;
            trio.all_current("S").await;
            for (name, signal) in [("n0", Signal::INT), ("n1", Signal::TERM)] {
                trio.lets_lead(name, "S").await;
                let publisher = Publisher::begin(trio, "s").await;
                let asked = Instant::now();
                trio.signal(name, signal);
                assert_eq!(trio.ended(name).await, Some(0));
                assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
                // Others lead already.
                assert_ne!(trio.see("n2", "/jsz")["meta_leader"], json!(name));
                let published = publisher.end().await;
                assert!(published.longest_gap < Duration::from_secs(2), "{:?}", published.longest_gap);
                trio.restart(name);
                trio.all_current("S").await;
            }
            for name in trio.names() {
                let asked = Instant::now();
                trio.signal(&name, Signal::TERM);
                assert_eq!(trio.ended(&name).await, Some(0));
                assert!(asked.elapsed() < Duration::from_secs(4), "{name}: {:?}", asked.elapsed());
            }
        },
    );
}

/// While a server hands over what it leads, which it cannot here, a second signal may end the wait, and nothing else: it
/// stops in order.
#[test]
fn a_second_signal_while_leaders_move_does_not_cut_a_stop_short() {
    for (first, second) in [(Signal::INT, Signal::TERM), (Signal::TERM, Signal::INT)] {
        run(Kind::Linnet, async |trio| {
            trio.stream("S", 3, json!({})).await;
            trio.all_current("S").await;
            trio.lets_lead("n0", "S").await;
            let client = trio.at("n0").await;
            assert_eq!(publish(&client, "s", "first").await, 1);
            // Nobody takes over.
            trio.pause("n1");
            trio.pause("n2");
            trio.signal("n0", first);
            trio.logs("n0", "Initiating JetStream Shutdown...").await;
            trio.signal("n0", second);
            assert_eq!(trio.ended("n0").await, Some(0));
            let log = std::fs::read_to_string(trio.cluster[0].server().log_file()).unwrap();
            let said = ["JetStream Shutdown", "Server Exiting.."].map(|text| log.matches(text).count());
            assert_eq!(said, [2, 1], "it begins and ends once: {log}");
            trio.resume("n1");
            trio.resume("n2");
            trio.restart("n0");
            trio.all_current("S").await;
            let client = trio.at("n0").await;
            assert_eq!(publish(&client, "s", "first").await, 1, "it is known");
        });
    }
}
