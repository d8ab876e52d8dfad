//! What clients of any account may ask about themselves.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{SYSTEM, ask, is_silent};
use crate::harness::{Inside as _, Kind, mesh, round_trip, run, within};

on_both_servers! { SYSTEM;
    async fn clients_ask_who_they_are(s) {
        for (user, account, permissions) in [
            ("a", "A", Value::Null),
            ("sys", "SYS", Value::Null),
            ("limited", "A", json!({
                "publish": {"allow": ["$SYS.REQ.USER.INFO", "x.>"], "deny": ["x.no"]},
                "subscribe": {"allow": ["_INBOX.>"]},
                "responses": {"max": 5, "ttl": 3_000_000_000_i64},
            })),
        ] {
            let client = s.user(user).await;
            let mut answer = ask(&client, "$SYS.REQ.USER.INFO", "").await;
            // In no order on nats-server.
            if let Some(allowed) = answer["data"].pointer_mut("/permissions/publish/allow") {
                allowed.as_array_mut().unwrap().sort_by_key(Value::to_string);
            }
            let mut expected = json!({"user": user, "account": account, "account_name": account});
            if !permissions.is_null() {
                expected["permissions"] = permissions;
            }
            assert_eq!(answer["data"], expected);
            assert_eq!(answer["server"]["name"], "S1");
        }
    }

    async fn clients_ask_about_their_account_and_no_other(s) {
        let (a, _b) = (s.user("a").await, s.user("b").await);
        for subject in ["$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.SERVER.PING.CONNZ"] {
            let answer = ask(&a, subject, r#"{"acc":"B","auth":true}"#).await;
            assert_eq!(answer["data"]["num_connections"], 1, "{answer}");
            assert_eq!(answer["data"]["connections"][0]["account"], "A");
        }
        let answer = ask(&a, "$SYS.REQ.ACCOUNT.PING.STATZ", r#"{"accounts":["B"]}"#).await;
        assert_eq!(answer["data"]["account_statz"][0]["acc"], "A");
        let bad = ask(&a, "$SYS.REQ.ACCOUNT.PING.CONNZ", r#"{"sort":"zzz"}"#).await;
        assert_eq!(bad["error"]["description"], "invalid sorting option: zzz");
    }

    async fn nothing_else_is_open_to_clients(s) {
        let a = s.user("a").await;
        for subject in ["$SYS.REQ.SERVER.PING.VARZ", "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.A.INFO", "$SYS.REQ.ACCOUNT.B.CONNZ"] {
            let refused = a.request(subject, "".into()).await.unwrap_err();
            assert_eq!(refused.kind(), async_nats::RequestErrorKind::NoResponders, "{subject}");
        }
        let mut events = a.subscribe("$SYS.>").await.unwrap();
        round_trip(&a).await;
        let _b = s.user("b").await;
        let mut nothing = s.user("sys").await;
        ask(&nothing, "$SYS.REQ.SERVER.PING", "").await;
        round_trip(&a).await;
        assert!(futures_util::FutureExt::now_or_never(events.next()).is_none());
        assert!(is_silent(&a, "$SYS.REQ.ACCOUNT.A.CONNS", "").await);
        nothing = s.user("limited").await;
        assert!(is_silent(&nothing, "$SYS.REQ.ACCOUNT.PING.CONNZ", "").await, "not permitted");
    }
}

/// The servers that answer a request, by name.
async fn who_answers(client: &async_nats::Client, subject: &str, count: usize) -> Vec<String> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.unwrap();
    client.publish_with_reply(subject.to_owned(), inbox, "".into()).await.unwrap();
    let mut names = Vec::new();
    while names.len() < count {
        let answer = within(subject, answers.next()).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(answer["data"]["num_connections"], 1, "{answer}");
        names.push(answer["server"]["name"].as_str().unwrap().to_owned());
    }
    names.sort_unstable();
    names
}

#[test]
fn all_servers_of_a_cluster_answer_about_an_account() {
    for kinds in [[Kind::Linnet, Kind::Linnet, Kind::Linnet], [Kind::Linnet, Kind::Peer, Kind::Linnet]] {
        let Some(spec) = mesh(&kinds) else { return };
        let cluster = spec.start().unwrap();
        run(async || {
            let mut clients = Vec::new();
            for member in cluster.members() {
                let url = member.server().client_url().unwrap();
                clients.push(within("connect", async_nats::connect(url)).await.unwrap());
            }
            // Who listens to everything brings requests to the other servers once more.
            let mut all = clients[2].subscribe(">").await.unwrap();
            ask(&clients[2], "$SYS.REQ.USER.INFO", "").await;
            cluster.members()[0].knows(">", true);
            for client in &clients {
                let names = who_answers(client, "$SYS.REQ.ACCOUNT.PING.CONNZ", 3).await;
                assert_eq!(names, ["n0", "n1", "n2"]);
            }
            let mut answers = 0;
            let late = tokio::time::Duration::from_millis(400);
            while let Ok(Some(message)) = tokio::time::timeout(late, all.next()).await {
                answers += usize::from(message.subject.starts_with("_INBOX"));
            }
            assert_eq!(answers, 10, "three for each, and one for the question before");
        });
    }
}
