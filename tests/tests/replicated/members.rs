//! Who is in the meta group, and who leads it.

use serde_json::json;

use super::trio::run;
use crate::harness::{Kind, eventually};

#[test]
fn leadership_of_the_meta_group_is_handed_to_whom_an_operator_wants() {
    run(Kind::Linnet, async |trio| {
        let system = trio.system().await;
        let leader = trio.meta_leader().await;
        let other = trio.names().into_iter().find(|name| *name != leader).unwrap();
        let body = json!({"placement": {"preferred": other}}).to_string();
        let answer = system.request("$JS.API.META.LEADER.STEPDOWN", body.into()).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(answer["success"], json!(true), "{answer}");
        eventually("the new leader", async || (trio.meta_leader().await == other).then_some(())).await;
        trio.stream("S", 3, json!({})).await;
        let body = json!({"placement": {"preferred": "zz"}}).to_string();
        let answer = system.request("$JS.API.META.LEADER.STEPDOWN", body.into()).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(answer["error"]["err_code"], json!(10005), "{answer}");
    });
}

#[test]
fn a_dead_server_is_taken_out() {
    run(Kind::Linnet, async |trio| {
        let leader = trio.meta_leader().await;
        let dead = trio.names().into_iter().find(|name| *name != leader).unwrap();
        trio.kill(&dead);
        let system = trio.system().await;
        let remove = async |peer: &str| {
            let body = json!({"peer": peer}).to_string();
            let answer = system.request("$JS.API.SERVER.REMOVE", body.into()).await.ok()?;
            serde_json::from_slice::<serde_json::Value>(&answer.payload).ok()
        };
        let unknown = remove("nobody").await.unwrap();
        assert_eq!(unknown["error"]["err_code"], json!(10044), "{unknown}");
        eventually("the removal", async || (remove(&dead).await?["success"] == json!(true)).then_some(()))
            .await;
        let again = remove(&dead).await.unwrap();
        assert_eq!(again["error"]["err_code"], json!(10044), "{again}");
        trio.stream("S", 1, json!({})).await;
    });
}
