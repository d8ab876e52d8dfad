//! A server that others cannot hear, and one that is not let run.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use linnet_launch::{Cluster, ClusterSpec, JetStream, Login, Member};
use parking_lot::{Condvar, Mutex};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::trio::{publish, run};
use crate::harness::{Kind, LONG, eventually, program, run as run_async, within};

/// What passes through here stands still while it is cut, as if the wire had gone and nobody had told.
#[derive(Clone, Default)]
struct Wire {
    is_cut: Arc<(Mutex<bool>, Condvar)>,
}

impl Wire {
    fn set(&self, is_cut: bool) {
        *self.is_cut.0.lock() = is_cut;
        self.is_cut.1.notify_all();
    }

    fn wait(&self) {
        let mut is_cut = self.is_cut.0.lock();
        while *is_cut {
            self.is_cut.1.wait(&mut is_cut);
        }
    }

    /// A port from which this wire leads to another one.
    fn to(&self, target: u16) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let wire = self.clone();
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let Ok(near) = near else { return };
                wire.wait();
                let Ok(far) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], target))) else {
                    continue;
                };
                wire.pass(near.try_clone().unwrap(), far.try_clone().unwrap());
                wire.pass(far, near);
            }
        });
        port
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let wire = self.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 64 * 1024];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                wire.wait();
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            // Whoever is still there is told.
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
    }
}

/// Nobody listens there: servers reach each other only where they are told to.
const NOWHERE: &str = "advertise: \"127.0.0.1:1\"";

fn page(member: &Member, path: &str) -> Option<(u16, String)> {
    member.server().monitor_get(path).ok().map(|answer| (answer.status, answer.body))
}

fn meta(member: &Member) -> Option<Value> {
    let page: Value = serde_json::from_str(&page(member, "/jsz")?.1).ok()?;
    Some(page["meta_cluster"].clone())
}

async fn is_healthy(members: &[&Member]) {
    for member in members {
        eventually(&format!("that {} is healthy", member.name()), async || {
            (page(member, "/healthz")?.0 == 200).then_some(())
        })
        .await;
    }
}

fn shows_offline(member: &Member, name: &str) -> Option<bool> {
    let meta = meta(member)?;
    let replica = meta["replicas"].as_array()?.iter().find(|replica| replica["name"] == json!(name))?.clone();
    Some(replica["offline"].as_bool().unwrap_or(false))
}

/// Two servers, and a third that reaches them by a wire.
fn cut_off(wire: &Wire) -> (Cluster, Cluster) {
    let linnet = program(Kind::Linnet).unwrap();
    let system = || Login { user: "sys".to_owned(), password: "sys".to_owned() };
    let spec = || ClusterSpec::new("C").system_user(system()).cluster_extra(NOWHERE).timeout(LONG);
    let pair = spec().server("n0", &linnet).server("n1", &linnet).jetstream(JetStream::default());
    let pair = pair.start().unwrap();
    let ports: Vec<u16> = pair.members().iter().map(|member| wire.to(member.ports().cluster)).collect();
    let single = ports.into_iter().fold(spec().server("n2", &linnet), ClusterSpec::route);
    let single = single.extra("jetstream { store_dir: \"$DIR/store\" }").start().unwrap();
    (pair, single)
}

/// Row A06: a server that is cut off says within ten seconds whom it cannot hear, and that it leads no more; the others
/// show it as offline and go on. Afterwards all is as before.
/// Row A15: the line that operators look for in its log.
#[test]
fn a06_a15_a_server_that_is_cut_off_says_whom_it_cannot_hear() {
    run_async(async || {
        let wire = Wire::default();
        let (pair, single) = cut_off(&wire);
        let (n0, n1, n2) = (&pair[0], &pair[1], &single[0]);
        eventually("three members", async || (meta(n0)?["cluster_size"] == json!(3)).then_some(())).await;
        is_healthy(&[n0, n1, n2]).await;
        let url = n0.server().client_url().unwrap();
        let client = async_nats::connect(&url).await.unwrap();
        let system = async_nats::ConnectOptions::with_user_and_password("sys".to_owned(), "sys".to_owned());
        let system = system.connect(&url).await.unwrap();
        let config = json!({"name": "S", "subjects": ["s"], "num_replicas": 3}).to_string();
        let created = within("a stream", client.request("$JS.API.STREAM.CREATE.S", config.into())).await;
        assert!(!String::from_utf8_lossy(&created.unwrap().payload).contains("error"));
        let body = json!({"placement": {"preferred": "n2"}}).to_string();
        eventually("that n2 leads everything", async || {
            let asked = [
                client.request("$JS.API.STREAM.LEADER.STEPDOWN.S", body.clone().into()),
                system.request("$JS.API.META.LEADER.STEPDOWN", body.clone().into()),
            ];
            let _ = tokio::time::timeout(Duration::from_secs(1), futures_util::future::join_all(asked)).await;
            let page: Value = serde_json::from_str(&page(n2, "/jsz?streams=1&raft=1")?.1).ok()?;
            (page["meta_leader"] == json!("n2") && page["streams_leader"] == json!(1)).then_some(())
        })
        .await;

        wire.set(true);
        let cut = Instant::now();
        eventually("whom it cannot hear", async || {
            let (status, body) = page(n2, "/healthz?details=true")?;
            let says = ["cannot be heard", "n0 (for", "n1 (for", "2 of 3 are needed"];
            (status == 503 && says.iter().all(|text| body.contains(text))).then_some(())
        })
        .await;
        assert!(cut.elapsed() < Duration::from_secs(10), "{:?}", cut.elapsed());
        assert_eq!(publish(&client, "s", "without n2").await, 1);
        for member in [n0, n1] {
            eventually("that n2 is offline", async || shows_offline(member, "n2").filter(|is| *is)).await;
        }
        let log = eventually("that it steps down", async || {
            let log = std::fs::read_to_string(n2.server().log_file()).ok()?;
            log.contains("Raft heartbeat timeout").then_some(log)
        })
        .await;
        let line = log.lines().find(|line| line.contains("Raft heartbeat timeout")).unwrap();
        assert!(
            line.contains("[WRN] Raft heartbeat timeout, stepping down: n0, n1 cannot be heard"),
            "{line}"
        );

        wire.set(false);
        is_healthy(&[n0, n1, n2]).await;
        for member in [n0, n1] {
            eventually("that n2 is back", async || shows_offline(member, "n2").filter(|is| !*is)).await;
        }
    });
}

/// Row A08: a server that is not let run for a while does not cost others their leader, and one that led leads no more
/// when it goes on; it says itself that it did not run.
#[test]
fn a08_a_server_that_is_not_let_run_changes_no_leader() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        trio.all_current("S").await;
        let term = |trio: &super::Trio, name: &str| {
            trio.see(name, "/raftz")["$SYS"]["_meta_"]["term"].as_u64().unwrap()
        };
        let leader = trio.meta_leader().await;
        let starved = trio.another(&[&leader]);
        let other = trio.another(&[&leader, &starved]);
        let before = term(trio, &leader);
        // Longer than a server may be silent, and not as long as one that is offline.
        for _ in 0..3 {
            trio.signal(&starved, Signal::STOP);
            tokio::time::sleep(Duration::from_millis(1300)).await;
            trio.signal(&starved, Signal::CONT);
            eventually("a healthy server", async || {
                (trio.get(&starved, "/healthz")?.status == 200).then_some(())
            })
            .await;
        }
        let said = trio.get(&starved, "/healthz?details=true").unwrap().body;
        assert!(said.contains("This server did not run for "), "{said}");
        trio.logs(&starved, "[WRN] This server did not run for ").await;
        // Unless this machine did not let others run either.
        if [&leader, &other].iter().all(|name| !trio.has_logged(name, "did not run for")) {
            assert_eq!((term(trio, &leader), trio.meta_leader().await), (before, leader.clone()));
        }

        trio.signal(&leader, Signal::STOP);
        let next = eventually("another leader", async || {
            let shown = trio.try_see(&other, "/jsz")?["meta_leader"].as_str()?.to_owned();
            (shown != leader).then_some(shown)
        })
        .await;
        trio.signal(&leader, Signal::CONT);
        eventually("the same leader everywhere", async || {
            let shown = trio.names().into_iter().map(|name| trio.try_see(&name, "/jsz"));
            shown
                .into_iter()
                .all(|page| page.is_some_and(|page| page["meta_leader"] == json!(next)))
                .then_some(())
        })
        .await;
        let after = term(trio, &next);
        eventually("a healthy server", async || (trio.get(&leader, "/healthz")?.status == 200).then_some(()))
            .await;
        if !trio.has_logged(&other, "did not run for") {
            assert_eq!((term(trio, &next), trio.meta_leader().await), (after, next));
        }
    });
}
