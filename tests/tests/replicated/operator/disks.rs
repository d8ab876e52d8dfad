//! A server whose disk is full or fails.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt as _;
use linnet_launch::Deadline;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use super::super::failover::Publisher;
use super::super::faults::led_by;
use super::super::offline::alone_on;
use super::super::trio::{Trio, publish, run_with};
use crate::harness::{Kind, LONG, eventually, nats_cli, within};

/// Starts a server with a small disk of its own, which goes when the process does; it survives a file that is larger than
/// it may be. Arguments: the size, the program, `-c`, the configuration, more.
const SMALL_DISK: &str = r#"
    size=$1
    shift
    trap '' XFSZ
    store=$(dirname "$3")/store
    mkdir -p "$store" && mount -t tmpfs -o size=$size tmpfs "$store" || exit 1
    exec "$@"
"#;

/// Runs a command that may mount, for itself and its children only.
fn launcher(size: &str) -> Vec<std::ffi::OsString> {
    let user = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    ["unshare", user, "sh", "-c", SMALL_DISK, "sh", size].map(Into::into).to_vec()
}

impl Trio {
    pub(super) fn pid(&self, name: &str) -> u32 {
        self.cluster.members().iter().find(|member| member.name() == name).unwrap().server().pid()
    }

    /// A file on the small disk, as it is seen from outside.
    fn filler(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid("n0")));
        root.join(self.store_of("n0").strip_prefix("/").unwrap()).join("filler")
    }

    /// Leaves nothing of the small disk.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.filler()).unwrap();
        let some = vec![1; 64 << 10];
        while file.write_all(&some).is_ok() {}
    }

    /// How large files of a server may be from now on.
    fn limit_files(&self, name: &str, bytes: Option<u64>) {
        let pid = Pid::from_raw(i32::try_from(self.pid(name)).unwrap());
        prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    }

    /// Publishes to a stream until something is so.
    pub(super) async fn publishes_until(
        &self,
        subject: &str,
        what: &str,
        mut is_so: impl FnMut(&Self) -> bool,
    ) {
        let client = self.roaming().await;
        let body = bytes::Bytes::from(vec![7; 64 << 10]);
        let deadline = Deadline::after(LONG);
        while !is_so(self) {
            assert!(!deadline.has_passed(), "not within {LONG:?}: {what}");
            let some = (0..32).map(|_| client.request(subject.to_owned(), body.clone()));
            let all = futures_util::future::join_all(some);
            let _ = tokio::time::timeout(Duration::from_secs(1), all).await;
        }
    }

    pub(super) async fn health(&self, name: &str, status: u16, text: &str) {
        let deadline = Deadline::after(LONG);
        loop {
            let answer = self.get(name, "/healthz").map(|answer| (answer.status, answer.body));
            if answer.as_ref().is_some_and(|(found, body)| *found == status && body.contains(text)) {
                return;
            }
            assert!(!deadline.has_passed(), "not within {LONG:?}: {status} {text:?} of {name}: {answer:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Messages go from one client to another by this server.
    pub(super) async fn passes_on(&mut self, name: &str) {
        let client = self.at(name).await;
        let mut heard = client.subscribe("core").await.unwrap();
        client.publish("core", "x".into()).await.unwrap();
        within("a message", heard.next()).await.unwrap();
    }
}

/// Rows A07, A12, A15 and A17: a server whose disk is full, or takes no writes, says so in its health, its log and an
/// advisory, and is shown as offline, though it is there; others lead; messages that are not stored pass it as before;
/// on a full disk messages can be removed, not added; once it can write it comes back by itself.
#[test]
fn a07_a12_a15_a17_a_server_that_cannot_write_is_offline_until_it_can() {
    run_with(
        Kind::Linnet,
        3,
        |spec| spec.launcher(launcher("300m")),
        async |trio| {
            trio.stream("S", 3, json!({"max_bytes": 8 << 20})).await;
            let alone = alone_on(trio, "n0").await;
            let there = trio.at("n0").await;
            let subject = alone.to_lowercase();
            for n in 1..=3 {
                assert_eq!(publish(&there, &subject, &n.to_string()).await, n);
            }
            trio.all_current("S").await;
            trio.lets_lead("n0", "S").await;
            let system = trio.system().await;
            let mut told = system.subscribe("$JS.EVENT.ADVISORY.SERVER.OUT_OF_STORAGE").await.unwrap();
            system.flush().await.unwrap();

            trio.fill();
            let full = "[ERR] Disk full, JetStream disabled: no space left on the disk";
            trio.publishes_until(&subject, "a full disk", |trio| {
                trio.fill();
                trio.has_logged("n0", full)
            })
            .await;
            let advisory: Value =
                serde_json::from_slice(&within("the advisory", told.next()).await.unwrap().payload).unwrap();
            assert_eq!(
                (&advisory["server"], &advisory["cluster"]),
                (&json!("n0"), &json!("C")),
                "{advisory}"
            );
            trio.health("n0", 503, "JetStream meta layer write error: no space left on device").await;
            trio.show_offline(&["n1".to_owned(), "n2".to_owned()], "n0", true).await;
            eventually("that others lead", async || {
                let page = trio.try_see("n1", "/jsz")?;
                (page["meta_leader"] != json!("n0")).then_some(())
            })
            .await;
            trio.shows("S", "another leader", |info| {
                info["cluster"]["leader"].is_string() && info["cluster"]["leader"] != json!("n0")
            })
            .await;
            trio.passes_on("n0").await;
            publish(&trio.at("n1").await, "s", "on two servers").await;
            eventually("that messages are refused", async || {
                let answer = there.request(subject.clone(), "4".into());
                let answer = tokio::time::timeout(Duration::from_secs(1), answer).await.ok()?.ok()?;
                let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
                (answer["error"]["err_code"] == json!(10047)).then_some(())
            })
            .await;
            let gone = trio.api("n0", &format!("STREAM.MSG.DELETE.{alone}"), json!({"seq": 2})).await;
            assert_eq!(gone["success"], json!(true), "{gone}");
            let purged = trio.api("n0", &format!("STREAM.PURGE.{alone}"), json!({"keep": 1})).await;
            assert!(purged["purged"].as_u64() >= Some(1), "{purged}");

            std::fs::remove_file(trio.filler()).unwrap();
            trio.logs("n0", "there is space on the disk again").await;
            trio.health("n0", 200, "ok").await;
            trio.show_offline(&["n1".to_owned(), "n2".to_owned()], "n0", false).await;
            publish(&there, &subject, "there is space").await;
            trio.all_current("S").await;

            // Another one's log takes no more bytes.
            trio.lets_lead("n1", "S").await;
            trio.limit_files("n1", Some(256 << 10));
            let failed = "[ERR] JetStream cluster unable to write to WAL: ";
            trio.publishes_until("s", "a failing disk", |trio| trio.has_logged("n1", failed)).await;
            trio.show_offline(&["n0".to_owned(), "n2".to_owned()], "n1", true).await;
            trio.passes_on("n1").await;
            if nats_cli().is_some() {
                assert!(trio.lists("n2", "n1"), "it is offline, and it is there");
            }
            publish(&trio.at("n2").await, "s", "on two servers again").await;
            trio.limit_files("n1", None);
            trio.health("n1", 200, "ok").await;
            trio.show_offline(&["n0".to_owned(), "n2".to_owned()], "n1", false).await;
            trio.all_current("S").await;
        },
    );
}

/// Row A07: a disk with space for what the log has, and not for more: it comes back once others have removed what they
/// had there.
#[test]
fn a07_a_log_that_takes_most_of_its_disk_comes_back_when_there_is_space() {
    run_with(
        Kind::Linnet,
        3,
        |spec| spec.launcher(launcher("176m")),
        async |trio| {
            trio.stream("S", 3, json!({"max_bytes": 8 << 20})).await;
            let alone = alone_on(trio, "n0").await;
            let subject = alone.to_lowercase();
            trio.all_current("S").await;
            trio.fill();
            trio.publishes_until(&subject, "a full disk", |trio| {
                trio.fill();
                trio.has_logged("n0", "[ERR] Disk full, JetStream disabled: ")
            })
            .await;
            let purged = trio.api("n0", &format!("STREAM.PURGE.{alone}"), json!({"keep": 1})).await;
            assert_eq!(purged["success"], json!(true), "{purged}");
            std::fs::remove_file(trio.filler()).unwrap();
            trio.logs("n0", "there is space on the disk again").await;
            trio.health("n0", 200, "ok").await;
            let there = trio.at("n0").await;
            publish(&there, &subject, "there is space").await;
            trio.all_current("S").await;
        },
    );
}

/// Row A17: a disk that takes no more files, though it has space, is like one that is full.
#[test]
fn a17_a_server_whose_disk_has_no_inodes_left_is_offline_until_it_has() {
    run_with(
        Kind::Linnet,
        3,
        |spec| spec.launcher(launcher("400m,nr_inodes=200")),
        async |trio| {
            trio.stream("S", 3, json!({"max_bytes": 8 << 20})).await;
            let alone = alone_on(trio, "n0").await;
            let subject = alone.to_lowercase();
            let there = trio.at("n0").await;
            publish(&there, &subject, "first").await;
            trio.all_current("S").await;
            trio.lets_lead("n0", "S").await;
            let publisher = Publisher::begin(trio, "s").await;

            let fillers = trio.filler();
            std::fs::create_dir(&fillers).unwrap();
            for n in 0.. {
                if File::create(fillers.join(n.to_string())).is_err() {
                    break;
                }
            }
            let full = "[ERR] Disk full, JetStream disabled: no space left on the disk";
            trio.publishes_until(&subject, "a disk without inodes", |trio| trio.has_logged("n0", full)).await;
            trio.health("n0", 503, "JetStream meta layer write error: no space left on device").await;
            trio.show_offline(&["n1".to_owned(), "n2".to_owned()], "n0", true).await;
            trio.shows("S", "another leader", |info| {
                info["cluster"]["leader"].is_string() && info["cluster"]["leader"] != json!("n0")
            })
            .await;
            trio.passes_on("n0").await;
            let purged = trio.api("n0", &format!("STREAM.PURGE.{alone}"), json!({"keep": 1})).await;
            assert!(purged["purged"].as_u64() >= Some(1), "{purged}");

            std::fs::remove_dir_all(&fillers).unwrap();
            trio.logs("n0", "there is space on the disk again").await;
            trio.health("n0", 200, "ok").await;
            trio.show_offline(&["n1".to_owned(), "n2".to_owned()], "n0", false).await;
            publish(&there, &subject, "there are inodes").await;
            let published = publisher.end().await;
            trio.all_current("S").await;
            for server in trio.names() {
                led_by(trio, "S", &server).await;
                published.is_in(trio, "S").await;
            }
        },
    );
}
