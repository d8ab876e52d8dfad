//! Servers that may not have more files open.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::json;

use super::super::failover::Publisher;
use super::super::faults::led_by;
use super::super::offline::alone_on;
use super::super::trio::{Trio, publish, run, run_with};
use crate::harness::{Kind, LONG, eventually};

impl Trio {
    /// How many files a server may have open from now on: no more than it is allowed, which is what this process is.
    fn limit_descriptors(&self, name: &str, count: Option<u64>) {
        let pid = Pid::from_raw(i32::try_from(self.pid(name)).unwrap());
        let maximum = getrlimit(Resource::Nofile).maximum;
        prlimit(pid, Resource::Nofile, Rlimit { current: count.or(maximum), maximum }).unwrap();
    }

    fn descriptors(&self, name: &str) -> u64 {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid(name))).unwrap();
        open.count() as u64
    }
}

/// A server that can open nothing says so, and what it has stored goes on once it can, without being started again.
#[test]
fn a_server_without_descriptors_goes_on_once_there_are_some() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({"max_bytes": 8 << 20})).await;
        let alone = alone_on(trio, "n0").await;
        let subject = alone.to_lowercase();
        let there = trio.at("n0").await;
        publish(&there, &subject, "before").await;
        trio.all_current("S").await;
        led_by(trio, "S", "n0").await;
        let publisher = Publisher::begin(trio, "s").await;
        let pid = trio.pid("n0");

        trio.limit_descriptors("n0", Some(3));
        // The blocks of a stream first, which the log can do without.
        trio.publishes_until(&subject, "blocks that are not written", |trio| {
            trio.has_logged("n0", "Too many open files")
        })
        .await;
        trio.limit_descriptors("n0", None);
        trio.health("n0", 200, "ok").await;
        publish(&there, &subject, "with blocks").await;

        trio.limit_descriptors("n0", Some(3));
        let down = "JetStream cannot be started again: ";
        trio.publishes_until(&subject, "a log that cannot go on", |trio| trio.has_logged("n0", down)).await;
        trio.show_offline(&["n1".to_owned(), "n2".to_owned()], "n0", true).await;
        trio.passes_on("n0").await;
        trio.limit_descriptors("n0", None);
        trio.health("n0", 200, "ok").await;
        trio.show_offline(&["n1".to_owned(), "n2".to_owned()], "n0", false).await;
        assert_eq!(publish(&there, &subject, "before").await, 1, "what was stored is there");
        publish(&there, &subject, "after").await;
        let published = publisher.end().await;
        trio.all_current("S").await;
        for server in trio.names() {
            led_by(trio, "S", &server).await;
            published.is_in(trio, "S").await;
        }
        assert_eq!(trio.pid("n0"), pid);
    });
}

/// Clients cannot take the descriptors that the store, routes and monitoring need.
#[test]
fn clients_do_not_take_the_last_descriptors() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let alone = alone_on(trio, "n0").await;
        let there = trio.at("n0").await;
        let limit = trio.descriptors("n0") + 64;
        trio.limit_descriptors("n0", Some(limit));
        let address = trio.url("n0").trim_start_matches("nats://").to_owned();
        let greeted = |client: &mut TcpStream| {
            client.set_read_timeout(Some(LONG)).unwrap();
            client.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").unwrap();
            let mut said = Vec::new();
            let mut byte = [0];
            while !said.ends_with(b"PONG\r\n") && client.read(&mut byte).is_ok_and(|count| count == 1) {
                said.push(byte[0]);
            }
            String::from_utf8(said).unwrap()
        };
        let mut clients: Vec<TcpStream> = (0..limit).map(|_| TcpStream::connect(&address).unwrap()).collect();
        let said: Vec<String> = clients.iter_mut().map(greeted).collect();
        let refused = |said: &&String| said.contains("-ERR 'maximum connections exceeded'");
        let served = said.iter().filter(|said| said.ends_with("PONG\r\n")).count();
        assert!(served > 10, "{served} were served");
        assert_eq!(served + said.iter().filter(refused).count(), said.len());
        assert!(trio.descriptors("n0") <= limit - limit / 4 + 8);
        assert!(trio.has_logged("n0", "maximum connections exceeded: few file descriptors are left"));

        trio.health("n0", 200, "ok").await;
        for _ in 0..100 {
            let body = vec![7; 64 << 10].into();
            let answer = there.request(alone.to_lowercase(), body).await.unwrap();
            assert!(answer.payload.starts_with(b"{\"stream\""), "{answer:?}");
        }
        trio.stream("T", 3, json!({})).await;
        assert!(!trio.has_logged("n0", "Too many open files"));
        drop(clients);
        eventually("a client more", async || {
            let mut client = TcpStream::connect(&address).unwrap();
            greeted(&mut client).ends_with("PONG\r\n").then_some(())
        })
        .await;
    });
}

/// Systems set a soft limit that is meant for other programs.
#[test]
fn a_server_may_have_as_many_files_open_as_the_hard_limit_says() {
    let launcher = ["prlimit", "--nofile=256:512"].map(Into::into).to_vec();
    run_with(
        Kind::Linnet,
        3,
        |spec| spec.launcher(launcher),
        async |trio| {
            let pid = Pid::from_raw(i32::try_from(trio.pid("n0")).unwrap());
            let limit = prlimit(pid, Resource::Nofile, Rlimit { current: Some(512), maximum: Some(512) });
            assert_eq!(limit.unwrap().current, Some(512));
        },
    );
}
