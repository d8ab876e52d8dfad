//! What an operator does while a server is cut off.

use serde_json::{Value, json};

use super::super::trio::{Trio, publish, run_with};
use super::network::{Network, Way};
use crate::harness::{Kind, eventually};

const CUT: Way = Way { is_cut: true, loss: 0, rate: None, delay: std::time::Duration::ZERO, is_reset: false };

/// A server that led and is cut off refuses changes, and takes over what the others did: the stream that it had is another
/// one of the same name.
#[test]
fn a_server_that_was_cut_off_takes_over_what_others_changed() {
    let network = Network::of_namespaces(3).unwrap_or_else(|why| {
        eprintln!("proxies in place of the kernel: {why}");
        Network::of_proxies(3)
    });
    run_with(
        Kind::Linnet,
        3,
        |spec| network.describe(spec),
        async |trio| {
            trio.stream("S", 3, json!({})).await;
            for n in 1..=5 {
                assert_eq!(publish(&trio.at("n1").await, "s", &format!("old {n}")).await, n);
            }
            trio.all_current("S").await;
            for other in ["n1", "n2"] {
                network.set_both("n0", other, CUT);
            }
            refuses(trio, "n0").await;
            // Two servers have no place for three replicas.
            let new = json!({"name": "S", "subjects": ["s"], "num_replicas": 1});
            for (call, body) in [("STREAM.DELETE.S", Value::Null), ("STREAM.CREATE.S", new)] {
                let answer = trio.api("n1", call, body).await;
                assert!(answer["error"].is_null(), "{call}: {answer}");
            }
            assert_eq!(publish(&trio.at("n2").await, "s", "new").await, 1);
            network.heal(&trio.names());
            let more = json!({"name": "S", "subjects": ["s"], "num_replicas": 3});
            trio.api("n1", "STREAM.UPDATE.S", more).await;
            trio.all_current("S").await;
            super::checks::led_by(trio, "S", "n0").await;
            let info = trio.all_current("S").await;
            assert_eq!((&info["state"]["messages"], &info["state"]["last_seq"]), (&json!(1), &json!(1)));
            let got = trio.api("n0", "STREAM.MSG.GET.S", json!({"seq": 1})).await;
            assert_eq!(got["message"]["data"], json!(data_encoding::BASE64.encode(b"new")), "{got}");
        },
    );
}

/// Waits until a server refuses what takes a majority, and who is to be taken out.
async fn refuses(trio: &mut Trio, name: &str) {
    // What was refused is on its way to the others, too: it must change nothing of what comes later.
    let config = json!({"name": "U", "subjects": ["u"], "num_replicas": 3});
    for (call, body) in [("STREAM.CREATE.U", config), ("STREAM.DELETE.NONE", Value::Null)] {
        eventually(&format!("that {call} is refused"), async || {
            let answer = trio.try_api(name, call, &body).await?;
            assert!(answer["success"].is_null() && answer["config"].is_null(), "{answer}");
            (answer["error"]["err_code"] == json!(10_008)).then_some(())
        })
        .await;
    }
    let url = trio.url(name);
    let system = async_nats::ConnectOptions::with_user_and_password("sys".to_owned(), "sys".to_owned());
    let system = system.ignore_discovered_servers().connect(url).await.unwrap();
    eventually("that the removal of a server is refused", async || {
        let body = json!({"peer": "n7"}).to_string();
        let asked = system.request("$JS.API.SERVER.REMOVE", body.into());
        let answer = tokio::time::timeout(std::time::Duration::from_secs(5), asked).await.ok()?.ok()?;
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert!(answer["success"] != json!(true), "{answer}");
        (answer["error"]["err_code"] == json!(10_008)).then_some(())
    })
    .await;
}
