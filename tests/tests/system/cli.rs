//! The unmodified `nats` CLI as an operator's tool, on clusters of both programs.

use std::path::PathBuf;
use std::process::Command;

use linnet_launch::{Cluster, Login, poll_until};
use serde_json::Value;

use crate::harness::{Inside as _, Kind, LONG, mesh, nats_cli};

const NAMES: [&str; 3] = ["n0", "n1", "n2"];

struct Operator {
    cli: PathBuf,
    cluster: Cluster,
}

impl Operator {
    /// A cluster of these servers, formed.
    fn of(kinds: &[Kind]) -> Option<Self> {
        let login = Login { user: "sys".to_owned(), password: "sys".to_owned() };
        Some(Self { cli: nats_cli()?, cluster: mesh(kinds)?.system_user(login).start().unwrap() })
    }

    /// What the CLI prints as the system user, connected to the server of this number.
    fn ask(&self, at: usize, words: &[&str]) -> String {
        let url = self.cluster.members()[at].server().client_url().unwrap();
        let output = Command::new(&self.cli)
            .args(["-s", &url, "--user", "sys", "--password", "sys", "--no-context"])
            .args(words)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(output.status.success(), "{words:?}: {text}");
        text
    }

    /// The names that the list has, and how many servers the first one, which is ours, thinks that there are.
    fn list(&self) -> (Vec<String>, u64) {
        let list: Vec<Value> = serde_json::from_str(&self.ask(0, &["server", "list", "--json"])).unwrap();
        let name = |server: &Value| server["server"]["name"].as_str().unwrap().to_owned();
        let first = list.iter().find(|server| name(server) == "n0").unwrap();
        let mut names: Vec<String> = list.iter().map(name).collect();
        names.sort_unstable();
        (names, first["statsz"]["active_servers"].as_u64().unwrap())
    }

    /// Waits until every server knows as many others as the CLI then waits for.
    fn knows_all(&self, count: usize) {
        let counts = |text: String| -> Vec<Value> {
            let answers = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            answers.map(|answer| answer["statsz"]["active_servers"].clone()).collect()
        };
        let all_know = || {
            (0..count).all(|at| {
                let text = self.ask(
                    at,
                    &["request", "$SYS.REQ.SERVER.PING", "", "--raw", "--replies", "3", "--timeout", "1s"],
                );
                let known = counts(text);
                known.len() == count && known.iter().all(|known| *known == count)
            })
        };
        assert!(poll_until(LONG, all_know), "the servers do not know each other");
    }
}

const MIXES: [&[Kind]; 2] =
    [&[Kind::Linnet, Kind::Linnet, Kind::Linnet], &[Kind::Linnet, Kind::Peer, Kind::Linnet]];

#[test]
fn reports_show_every_server() {
    for kinds in MIXES {
        let Some(operator) = Operator::of(kinds) else { return };
        operator.knows_all(3);
        for at in 0..3 {
            for words in [
                &["server", "list"][..],
                &["server", "ping", "3"],
                &["server", "report", "cpu"],
                &["server", "report", "mem"],
                &["server", "report", "routes"],
                &["server", "report", "health"],
                &["server", "request", "variables"],
                &["server", "request", "connections"],
                &["server", "request", "subscriptions"],
                &["server", "request", "routes"],
                &["server", "request", "accounts"],
                &["server", "request", "gateways"],
                &["server", "request", "leafnodes"],
                &["server", "request", "jetstream"],
            ] {
                let text = operator.ask(at, words);
                for name in NAMES {
                    assert!(text.contains(name), "{words:?} at {at} lacks {name}: {text}");
                }
                assert!(!text.contains("Missing"), "{words:?}: {text}");
            }
            let info = operator.ask(at, &["server", "info", "n2"]);
            assert!(info.contains("Server information for n2") && info.contains("Name: C"), "{info}");
            let account = operator.ask(at, &["account", "info"]);
            assert!(account.contains("System Account: true"), "{account}");
            for words in [&["server", "report", "connections"], &["server", "report", "accounts"]] {
                let text = operator.ask(at, words);
                assert!(text.contains("SYS"), "{words:?}: {text}");
            }
        }
    }
}

/// Operator contract, row A12.
#[test]
fn a12_the_list_shows_who_can_be_reached() {
    for kinds in MIXES {
        let Some(mut operator) = Operator::of(kinds) else { return };
        operator.knows_all(3);
        operator.cluster.kill("n2").unwrap();
        let members = operator.cluster.members();
        assert!(poll_until(LONG, || !members[0].peers().contains(&"n2".to_owned())));
        let (names, active) = operator.list();
        assert_eq!(names, ["n0", "n1"]);
        // A server that is gone is not waited for.
        assert_eq!(active, 2);
        operator.cluster.restart("n2", LONG).unwrap();
        let is_back = || operator.list() == (NAMES.map(str::to_owned).to_vec(), 3);
        assert!(poll_until(LONG, is_back), "{:?}", operator.list());
    }
}

/// Operator contract, row B01 as far as there are clusters: routes are enough, nothing else stands between servers.
#[test]
fn b01_servers_form_a_cluster_by_routes() {
    for kinds in MIXES {
        let Some(operator) = Operator::of(kinds) else { return };
        operator.knows_all(3);
        for member in operator.cluster.members() {
            let varz = member.page("/varz");
            assert_eq!(varz["cluster"]["name"], "C");
            let mut peers = member.peers();
            peers.sort_unstable();
            peers.dedup();
            assert_eq!(peers.len(), 2, "{peers:?}");
        }
    }
}
