//! Servers that come back to what others decided meanwhile, and groups that go on without those that do not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use linnet_launch::Deadline;
use serde_json::{Value, json};

use super::offline::alone_on;
use super::trio::{Trio, publish, run, run_with_accounts};
use crate::harness::{Kind, LONG, eventually, within};

impl Trio {
    /// A server and two others.
    pub(super) fn split(&self, one: &str) -> [String; 2] {
        let others: Vec<String> = self.names().into_iter().filter(|name| name != one).collect();
        others.try_into().unwrap()
    }

    /// Waits until a server is a member that has everything.
    pub(super) async fn is_healthy(&self, server: &str) {
        let deadline = Deadline::after(LONG);
        loop {
            let page = self.get(server, "/healthz?details=true");
            if page.as_ref().is_some_and(|page| page.status == 200) {
                return;
            }
            let said = page.map(|page| page.body).unwrap_or_default();
            assert!(
                !deadline.has_passed(),
                "{server} is not healthy within {LONG:?}: {said}\n{}",
                self.all_logs()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks a server to let so many go on without the others.
    pub(super) async fn rescue(&self, server: &str, needed: i64) -> Value {
        let options = async_nats::ConnectOptions::with_user_and_password("sys".to_owned(), "sys".to_owned());
        let client = options.connect(self.url(server)).await.unwrap();
        eventually("an answer", async || {
            let body = json!({"quorum_needed": needed}).to_string();
            let answer = client.request("$JS.API.META.RESCUE", body.into()).await.ok()?;
            let answer = serde_json::from_slice::<Value>(&answer.payload).ok()?;
            // Who has only just lost its leader does not go on without the others.
            let text = answer["error"]["description"].as_str().unwrap_or_default();
            (!text.contains("may be known elsewhere")).then_some(answer)
        })
        .await
    }

    /// A server leads the meta group.
    pub(super) async fn is_led_by(&self, server: &str) {
        eventually(&format!("{server} leads the meta group"), async || {
            let page: Value = serde_json::from_str(&self.get(server, "/jsz")?.body).ok()?;
            (page["meta_cluster"]["leader"] == json!(server)).then_some(())
        })
        .await;
    }

    /// Deletes a stream, whose servers may be away.
    pub(super) async fn ends(&mut self, at: &str, stream: &str) {
        eventually("the end of a stream", async || {
            let answer = self.try_api(at, &format!("STREAM.DELETE.{stream}"), &Value::Null).await?;
            let is_gone = answer["error"]["err_code"] == json!(10059);
            (is_gone || answer["success"] == json!(true)).then_some(())
        })
        .await;
    }

    /// A server refuses API calls and says so of the reason, which it may have to find out first.
    async fn explains(&mut self, at: &str, expected: &str) {
        let deadline = Deadline::after(LONG);
        loop {
            let answer = self.try_api(at, "STREAM.NAMES", &Value::Null).await.unwrap_or_default();
            let text = answer["error"]["description"].as_str().unwrap_or_default();
            if text.contains(expected) {
                return;
            }
            assert!(!deadline.has_passed(), "{at} does not say {expected:?} within {LONG:?}: {answer}");
        }
    }

    /// A message that is stored, read through the API.
    pub(super) async fn has(&mut self, at: &str, stream: &str, seq: u64) {
        let got = self.api(at, &format!("STREAM.MSG.GET.{stream}"), json!({"seq": seq})).await;
        assert!(got["message"]["data"].is_string(), "{got}");
    }
}

#[test]
fn a_request_that_waited_for_a_paused_server_takes_no_group_apart() {
    run(Kind::Linnet, async |trio| {
        let leader = trio.meta_leader().await;
        let paused = ["n0", "n1", "n2"].into_iter().find(|name| *name != leader).unwrap();
        let options = async_nats::ConnectOptions::with_user_and_password("sys".to_owned(), "sys".to_owned());
        let client = options.connect(trio.url(paused)).await.unwrap();
        trio.pause(paused);
        let asked = tokio::spawn(async move {
            let body = json!({"quorum_needed": 1}).to_string();
            let request = async_nats::Request::new().payload(body.into()).timeout(None);
            client.send_request("$JS.API.META.RESCUE", request).await
        });
        eventually("the others do without it", async || {
            let page: Value = serde_json::from_str(&trio.get(&leader, "/jsz")?.body).ok()?;
            let replicas = page["meta_cluster"]["replicas"].as_array()?.clone();
            replicas.iter().any(|r| r["name"] == json!(paused) && r["current"] == json!(false)).then_some(())
        })
        .await;
        trio.resume(paused);
        let answer = within("an answer", asked).await.unwrap().unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(answer["error"]["err_code"], json!(10224), "{answer}");
        trio.stream("AFTER", 3, json!({})).await;
    });
}

#[test]
fn a_meta_group_that_lost_its_majority_is_rescued() {
    run(Kind::Linnet, async |trio| {
        let survivor = "n1";
        let lost = trio.split(survivor);
        let name = alone_on(trio, survivor).await;
        let client = trio.at(survivor).await;
        let seq = publish(&client, &name.to_lowercase(), "kept").await;
        let refused = trio.rescue(survivor, 1).await;
        assert_eq!(refused["error"]["err_code"], json!(10224), "{refused}");
        let text = refused["error"]["description"].as_str().unwrap();
        assert_eq!(text, "JetStream system rescue not applied: raft: leader is known");
        for server in &lost {
            trio.kill(server);
        }
        eventually("no leader", async || {
            let page: Value = serde_json::from_str(&trio.get(survivor, "/jsz")?.body).ok()?;
            page["meta_cluster"]["leader"].is_null().then_some(())
        })
        .await;
        let refused = trio.rescue(survivor, 3).await;
        let text = refused["error"]["description"].as_str().unwrap();
        assert_eq!(
            text,
            "JetStream system rescue not applied: raft: rescue quorum must be between 1 and current quorum"
        );
        let answer = trio.rescue(survivor, 1).await;
        assert_eq!((&answer["prev_quorum"], &answer["new_quorum"]), (&json!(2), &json!(1)), "{answer}");
        assert_eq!(answer["server"], json!(survivor));
        trio.is_led_by(survivor).await;
        trio.logs(survivor, "Unsafe quorum rescue").await;
        trio.has(survivor, &name, seq).await;
        trio.stream("AFTER", 1, json!({})).await;
        trio.removes_server(&lost[0]).await;
        // What was lost comes back, one with what it knew and one that was taken out: both are members again.
        for server in &lost {
            trio.restart(server);
        }
        for server in &lost {
            trio.is_healthy(server).await;
        }
        trio.stream("R3", 3, json!({})).await;
        trio.all_current("R3").await;
        for server in trio.names() {
            trio.has(&server, &name, seq).await;
            trio.info("AFTER").await;
        }
    });
}

/// The survivor is the leader, which still leads for some time and may begin to take the others in.
#[test]
fn two_of_three_disks_are_lost_and_the_third_one_goes_on() {
    run(Kind::Linnet, async |trio| {
        let survivor = &trio.meta_leader().await;
        let lost = trio.split(survivor);
        let name = alone_on(trio, survivor).await;
        let client = trio.at(survivor).await;
        let seq = publish(&client, &name.to_lowercase(), "kept").await;
        for server in &lost {
            trio.kill(server);
            std::fs::remove_dir_all(trio.store_of(server)).unwrap();
        }
        for server in &lost {
            trio.restart(server);
        }
        // What the survivor leads it shows, and it says what lacks for the rest; the others are silent.
        trio.has(&lost[0], &name, seq).await;
        let expected =
            format!("{}, {} lost what they had of the meta group, 2 of 3 servers", lost[0], lost[1]);
        trio.explains(&lost[0], &expected).await;
        trio.rescue(survivor, 1).await;
        trio.is_led_by(survivor).await;
        for server in trio.names() {
            trio.is_healthy(&server).await;
            trio.has(&server, &name, seq).await;
        }
        trio.stream("R3", 3, json!({})).await;
        trio.all_current("R3").await;
    });
}

#[test]
fn a_server_that_was_taken_out_comes_back_with_what_it_holds() {
    run(Kind::Linnet, async |trio| {
        let leader = trio.meta_leader().await;
        let [gone, other] = trio.split(&leader);
        let name = alone_on(trio, &gone).await;
        trio.stream("S", 3, json!({})).await;
        let client = trio.at(&leader).await;
        let seq = publish(&client, &name.to_lowercase(), "kept").await;
        trio.removes_server(&gone).await;
        trio.logs(&gone, "JetStream being DISABLED").await;
        trio.terminate(&gone);
        trio.restart(&gone);
        trio.is_healthy(&gone).await;
        trio.has(&other, &name, seq).await;
        trio.all_current("S").await;
        // The same for one that was away when it was taken out.
        trio.kill(&gone);
        trio.removes_server(&gone).await;
        trio.restart(&gone);
        trio.is_healthy(&gone).await;
        trio.has(&other, &name, seq).await;
        trio.all_current("S").await;
    });
}

#[test]
fn a_server_that_does_not_belong_to_the_meta_group_does_not_speak_for_it() {
    run(Kind::Linnet, async |trio| {
        let leader = trio.meta_leader().await;
        let [joins, other] = trio.split(&leader);
        trio.kill(&joins);
        trio.removes_server(&joins).await;
        std::fs::remove_dir_all(trio.store_of(&joins)).unwrap();
        // Nobody takes it in while its first step into the group cannot be committed.
        trio.kill(&other);
        trio.restart(&joins);
        let expected = format!("{other} cannot be heard, 2 of 2 servers are needed");
        trio.explains(&joins, &expected).await;
        trio.restart(&other);
        trio.is_healthy(&joins).await;
        trio.stream("S", 3, json!({})).await;
    });
}

/// Has the servers read their configurations with `from` replaced by `to`.
fn reconfigure(trio: &Trio, from: &str, to: &str) {
    for server in trio.names() {
        let file = trio.cluster.dir().join(&server).join("server.conf");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
        trio.signal(&server, rustix::process::Signal::HUP);
    }
}

#[test]
fn an_account_gets_its_streams_back_with_its_jetstream() {
    let accounts = "accounts { A { jetstream: enabled, users: [{user: a, password: a}] }, \
                    $SYS { users: [{user: sys, password: sys}] } }\nno_auth_user: a\n";
    run_with_accounts(Kind::Linnet, accounts, async |trio| {
        trio.stream("S", 3, json!({})).await;
        trio.stream("R", 1, json!({})).await;
        let client = trio.roaming().await;
        let seq = publish(&client, "s", "kept").await;
        publish(&client, "r", "kept").await;
        trio.all_current("S").await;
        let (with, without) = ("A { jetstream: enabled,", "A { ");
        reconfigure(trio, with, without);
        for server in trio.names() {
            trio.logs(&server, "is not served: its account has no JetStream").await;
        }
        reconfigure(trio, without, with);
        for server in trio.names() {
            trio.has(&server, "S", seq).await;
            trio.has(&server, "R", 1).await;
        }
        trio.all_current("S").await;
    });
}

/// The catalogue's files on a server that does not run.
pub(super) fn catalogue(trio: &Trio, server: &str) -> PathBuf {
    let groups = trio.store_of(server).join("jetstream/groups");
    let all = std::fs::read_dir(&groups).unwrap().map(|entry| entry.unwrap().path());
    let is_catalogue =
        |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().bytes().all(|b| b == b'0');
    all.into_iter().find(is_catalogue).unwrap()
}

/// Flips a byte of a stream's entry in every file of a directory that has it; how many.
fn damage_entry(dir: &Path, stream: &str) -> usize {
    let needle = format!("\"name\":\"{stream}\"");
    let mut damaged = 0;
    for file in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(bytes) = std::fs::read(&file) else { continue };
        let places =
            bytes.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle.as_bytes());
        for (at, _) in places {
            crate::scrub::flip_byte(&file, at as u64 + 9);
            damaged += 1;
        }
    }
    damaged
}

#[test]
fn what_cannot_be_read_of_the_catalogue_is_not_missing() {
    run(Kind::Linnet, async |trio| {
        let name = alone_on(trio, "n0").await;
        let client = trio.at("n0").await;
        let seq = publish(&client, &name.to_lowercase(), "kept").await;
        for server in trio.names() {
            trio.terminate(&server);
        }
        for server in ["n0", "n1"] {
            assert!(damage_entry(&catalogue(trio, server), &name) > 0);
            trio.restart(server);
        }
        trio.has_leader().await;
        let config = json!({"name": name, "subjects": [name.to_lowercase()], "num_replicas": 1});
        let answer = eventually("an answer", async || {
            trio.try_api("n0", &format!("STREAM.CREATE.{name}"), &config).await
        })
        .await;
        assert_eq!(answer["error"]["err_code"], json!(10008), "{answer}");
        let answer = eventually("an answer", async || {
            trio.try_api("n0", &format!("STREAM.DELETE.{name}"), &Value::Null).await
        })
        .await;
        assert_eq!(answer["error"]["err_code"], json!(10008), "{answer}");
        trio.restart("n2");
        trio.has("n0", &name, seq).await;
        trio.stream("ANOTHER", 1, json!({})).await;
    });
}

#[test]
fn a_stream_that_ended_does_not_come_back_with_its_server() {
    run(Kind::Linnet, async |trio| {
        let leader = trio.meta_leader().await;
        let [away, other] = trio.split(&leader);
        let name = alone_on(trio, &away).await;
        let client = trio.at(&other).await;
        publish(&client, &name.to_lowercase(), "over").await;
        trio.kill(&away);
        let subjects = json!({"subjects": [name.to_lowercase()]});
        // Another stream has its name and ends, too; a third one has its subject.
        trio.ends(&leader, &name).await;
        trio.stream(&name, 1, subjects.clone()).await;
        trio.ends(&leader, &name).await;
        trio.stream("T", 1, subjects).await;
        trio.restart(&away);
        trio.is_healthy(&away).await;
        trio.has_no_streams(&away).await;
        let page: Value = serde_json::from_str(&trio.get(&away, "/jsz?accounts=true").unwrap().body).unwrap();
        assert!(page["linnet_orphans"].is_null(), "{page}");
    });
}

#[test]
fn a_group_whose_assignment_is_damaged_is_opened_and_not_begun_anew() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let client = trio.roaming().await;
        let mut last = 0;
        for n in 0..50 {
            last = publish(&client, "s", &format!("m{n}")).await;
        }
        trio.all_current("S").await;
        for server in trio.names() {
            trio.terminate(&server);
        }
        for server in ["n0", "n1"] {
            let dir = trio.store_of(server).join("jetstream/assigned");
            for file in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
                crate::scrub::flip_byte(&file, 1);
            }
        }
        for server in trio.names() {
            trio.restart(&server);
        }
        for server in trio.names() {
            trio.has(&server, "S", last).await;
        }
        trio.all_current("S").await;
    });
}

#[test]
fn a_stream_is_created_on_a_server_that_is_away_if_there_is_no_other() {
    run(Kind::Linnet, async |trio| {
        let leader = trio.meta_leader().await;
        let [away, _] = trio.split(&leader);
        trio.stream("ONE", 1, json!({})).await;
        trio.kill(&away);
        trio.stream("S", 3, json!({})).await;
        let info = trio.info("S").await;
        let replicas = info["cluster"]["replicas"].as_array().unwrap();
        assert!(replicas.iter().any(|replica| replica["name"] == json!(away)), "{info}");
        let client = trio.at(&leader).await;
        publish(&client, "s", "1").await;
        trio.restart(&away);
        trio.all_current("S").await;
    });
}

/// Rule R8: what a minority remembers of a stream in memory is all there is, once the others said that they forgot.
#[test]
fn a_stream_in_memory_goes_on_with_what_one_server_remembers() {
    run(Kind::Linnet, async |trio| {
        trio.stream("M", 3, json!({"storage": "memory"})).await;
        let client = trio.at("n2").await;
        let mut last = 0;
        for n in 0..50 {
            last = publish(&client, "m", &format!("m{n}")).await;
        }
        trio.all_current("M").await;
        for server in ["n0", "n1"] {
            trio.kill(server);
        }
        for server in ["n0", "n1"] {
            trio.restart(server);
        }
        trio.all_current("M").await;
        for server in trio.names() {
            trio.has(&server, "M", last).await;
        }
        assert_eq!(publish(&client, "m", "next").await, last + 1);
    });
}

#[test]
fn streams_in_files_go_on_with_what_a_rescue_left() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let client = trio.at("n0").await;
        let mut last = 0;
        for n in 0..50 {
            last = publish(&client, "s", &format!("m{n}")).await;
        }
        trio.all_current("S").await;
        for server in ["n1", "n2"] {
            trio.kill(server);
            std::fs::remove_dir_all(trio.store_of(server)).unwrap();
        }
        for server in ["n1", "n2"] {
            trio.restart(server);
        }
        eventually("no leader", async || {
            let page: Value = serde_json::from_str(&trio.get("n0", "/jsz")?.body).ok()?;
            page["meta_cluster"]["leader"].is_null().then_some(())
        })
        .await;
        trio.rescue("n0", 1).await;
        trio.all_current("S").await;
        for server in trio.names() {
            trio.has(&server, "S", last).await;
        }
        assert_eq!(publish(&client, "s", "next").await, last + 1);
    });
}
