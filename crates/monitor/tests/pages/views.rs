//! What the pages say about connections, subscriptions, JetStream and health.

use linnet_monitor::ListenerKind;
use serde_json::json;

use crate::fixture::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connz_filters_sorts_and_pages() {
    let server = Server::start().await;
    let mut alice = server.client("alice", Some("u")).await;
    alice.send("SUB foo.> 1\r\nSUB bar q 2\r\n").await;
    let mut bob = server.client("bob", None).await;
    bob.send("PUB x 3\r\nabc\r\n").await;
    let cids = |page: &serde_json::Value| -> Vec<u64> {
        page["connections"].as_array().unwrap().iter().map(|c| c["cid"].as_u64().unwrap()).collect()
    };
    for (target, total, rows) in [
        ("/connz", 2, vec![1, 2]),
        ("/connz?sort=subs", 2, vec![1, 2]),
        ("/connz?sort=msgs_from", 2, vec![2, 1]),
        ("/connz?offset=1", 2, vec![2]),
        ("/connz?limit=1", 2, vec![1]),
        ("/connz?offset=10", 2, vec![]),
        ("/connz?cid=2", 2, vec![2]),
        ("/connz?cid=999", 2, vec![]),
        ("/connz?user=u", 2, vec![1]),
        ("/connz?user=u&acc=B", 1, vec![]),
        ("/connz?acc=A", 1, vec![1]),
        ("/connz?acc=$G", 0, vec![]),
        ("/connz?state=closed", 0, vec![]),
        ("/connz?state=any&filter_subject=x", 2, vec![1, 2]),
        ("/connz?mqtt_client=x", 2, vec![]),
    ] {
        let page = server.get(target).await.json();
        assert_eq!((page["total"].as_u64(), cids(&page)), (Some(total), rows), "{target}");
        assert_eq!(page["num_connections"], page["connections"].as_array().unwrap().len(), "{target}");
    }
    assert_eq!(server.get("/connz?cid=2").await.json()["limit"], 1);
    let subs = server.get("/connz?subs=1&cid=1").await.json();
    assert_eq!(subs["connections"][0]["subscriptions_list"], json!(["foo.>", "bar"]));
    let plain = server.get("/connz?cid=1").await.json();
    assert_eq!(plain["connections"][0].get("authorized_user"), None);
    let auth = server.get("/connz?cid=1&auth=1").await.json();
    assert_eq!(auth["connections"][0]["authorized_user"], "u");
    assert_eq!(auth["connections"][0]["account"], "A");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connz_of_an_unknown_account_is_empty_and_unsigned() {
    let server = Server::start().await;
    let page = server.get("/connz?acc=NOPE&offset=3").await;
    assert_eq!(page.status, 200);
    let page = page.json();
    assert_eq!((&page["server_id"], &page["connections"]), (&json!(""), &json!(null)));
    assert_eq!((&page["total"], &page["offset"]), (&json!(0), &json!(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_connections_keep_reason_and_subscriptions() {
    let server = Server::start().await;
    let mut carol = server.client("carol", Some("u")).await;
    carol.send("SUB x.y 1\r\n").await;
    drop(carol);
    server.eventually("/connz?state=closed", |page| page["total"] == 1).await;
    let page = server.get("/connz?state=closed&subs=detail&sort=stop").await.json();
    let row = &page["connections"][0];
    assert!(row["stop"].is_string());
    assert!(row["reason"] == "Client Closed" || row["reason"] == "Read Error", "{row}");
    assert_eq!(
        row["subscriptions_list_detail"],
        json!([{"account": "A", "account_tag": "A", "subject": "x.y", "sid": "1", "msgs": 0, "cid": 1}])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subsz_counts_and_tests_subjects() {
    let server = Server::start().await;
    let mut alice = server.client("alice", Some("u")).await;
    alice.send("SUB foo.* 1\r\nSUB foo.1 2\r\nSUB bar 3\r\n").await;
    let page = server.get("/subsz").await.json();
    assert_eq!(
        (&page["num_subscriptions"], &page["total"], &page["limit"]),
        (&json!(3), &json!(0), &json!(1024))
    );
    assert_eq!(page.get("subscriptions_list"), None);
    let page = server.get("/subscriptionsz?subs=1&test=foo.1").await.json();
    assert_eq!(page["total"], 2);
    let page = server.get("/subsz?subs=1&offset=1&limit=1").await.json();
    assert_eq!((&page["total"], page["subscriptions_list"].as_array().unwrap().len()), (&json!(3), 1));
    let page = server.get("/subsz?subs=1&acc=B").await.json();
    assert_eq!((&page["num_subscriptions"], &page["total"]), (&json!(0), &json!(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jsz_shows_as_much_as_is_asked_for() {
    let server = Server::start().await;
    assert_eq!(server.get("/jsz").await.json()["disabled"], true);
    server.start_jetstream().await;
    let _alice = server.populate().await;
    server.eventually("/jsz", |page| page["messages"] == 2).await;
    let page = server.get("/jsz").await.json();
    assert_eq!((&page["streams"], &page["consumers"], &page["total"]), (&json!(1), &json!(1), &json!(2)));
    assert_eq!(page.get("account_details"), None);
    let names = |page: &serde_json::Value| -> Vec<String> {
        let details = page["account_details"].as_array().cloned().unwrap_or_default();
        details.iter().map(|d| d["name"].as_str().unwrap().to_owned()).collect()
    };
    for (target, expected) in [
        ("/jsz?accounts=1", vec!["A", "EMPTY"]),
        ("/jsz?accounts=1&offset=1&limit=1", vec!["EMPTY"]),
        ("/jsz?accounts=1&offset=5", vec![]),
        ("/jsz?accounts=1&limit=-1", vec!["A", "EMPTY"]),
        ("/jsz?acc=EMPTY&limit=1&offset=9", vec!["EMPTY"]),
        ("/jsz?acc=B", vec![]),
        ("/jsz?leader-only=1", vec![]),
    ] {
        assert_eq!(names(&server.get(target).await.json()), expected, "{target}");
    }
    let account = &server.get("/jsz?accounts=1").await.json()["account_details"][0];
    assert_eq!(
        (&account["reserved_memory"], &account["reserved_storage"]),
        (&json!(1_000_000), &json!(u64::MAX))
    );
    assert_eq!(account.get("stream_detail"), None);
    assert_eq!((&account["storage"], &page["storage"]), (&page["bytes"], &page["bytes"]));
    let stream = &server.get("/jsz?streams=1").await.json()["account_details"][0]["stream_detail"][0];
    assert_eq!((&stream["name"], &stream["state"]["messages"]), (&json!("ORDERS"), &json!(2)));
    assert_eq!((stream.get("config"), stream.get("consumer_detail")), (None, None));
    let stream = &server.get("/jsz?consumers=1").await.json()["account_details"][0]["stream_detail"][0];
    assert_eq!(
        (&stream["consumer_detail"][0]["name"], stream["consumer_detail"][0].get("config")),
        (&json!("C"), None)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healthz_follows_the_server_from_start_to_lame_duck() {
    let server = Server::start().await;
    server.state.listeners.closed(ListenerKind::Server);
    let starting = server.get("/healthz").await;
    assert_eq!(
        (starting.status, starting.body.as_str()),
        (500, r#"{"status":"error","error":"failed to be ready for connections after 1ms: server"}"#)
    );
    server.state.listeners.opened(ListenerKind::Server, server.nats);
    assert_eq!(server.get("/healthz?js-server-only=1").await.status, 200);
    let not_running = server.get("/healthz").await;
    assert_eq!(
        (not_running.status, not_running.body.as_str()),
        (503, r#"{"status":"unavailable","error":"JetStream not enabled (10076)"}"#)
    );
    assert_eq!(not_running.header("access-control-allow-origin"), "*");
    server.start_jetstream().await;
    let _alice = server.populate().await;
    for (target, status) in [
        ("/healthz", 200),
        ("/healthz?details=1", 200),
        ("/healthz?account=A&stream=ORDERS&consumer=C", 200),
        ("/healthz?account=A&stream=ORDERS&consumer=NO", 404),
        ("/healthz?account=A&stream=NO", 404),
        ("/healthz?account=B", 404),
        ("/healthz?stream=ORDERS", 400),
    ] {
        assert_eq!(server.settled(target).await, status, "{target}");
    }
    server.state.listeners.closed(ListenerKind::Server);
    assert_eq!(server.get("/healthz").await.status, 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_are_listed_by_stream() {
    let server = Server::start().await;
    server.start_jetstream().await;
    let _alice = server.populate().await;
    assert_eq!(
        server.get("/ipqueuesz?all=1").await.body,
        "{\n   \"[ACC:A] stream 'ORDERS' messages\": {\n      \"pending\": 0\n   }\n}"
    );
    assert_eq!(server.get("/ipqueuesz?all=1&queues=zzz").await.body, "{}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_message_leaves_the_server_healthy_and_is_named() {
    let server = Server::start().await;
    server.start_jetstream().await;
    let mut alice = server.populate().await;
    server
        .restart_jetstream(|file| {
            if file.extension().is_some_and(|e| e == "blk") {
                let mut bytes = std::fs::read(file).unwrap();
                let at = bytes.windows(3).position(|w| w == b"abc").expect("the first message");
                bytes[at] ^= 1;
                std::fs::write(file, bytes).unwrap();
            }
        })
        .await;
    alice.request("$JS.API.STREAM.MSG.GET.ORDERS", r#"{"seq":1}"#).await;
    server.eventually("/healthz?details=1", |page| page["damaged"] != json!(null)).await;
    let details = server.get("/healthz?details=1").await;
    let damaged = &details.json()["damaged"][0];
    assert_eq!((details.status, &details.json()["status"]), (200, &json!("ok")));
    assert_eq!((&damaged["account"], &damaged["stream"]), (&json!("A"), &json!("ORDERS")));
    assert_eq!(damaged["messages"], 1);
    assert_eq!(server.get("/healthz").await.body, r#"{"status":"ok"}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_that_is_not_recovered_makes_the_server_unavailable() {
    let server = Server::start().await;
    server.start_jetstream().await;
    let _alice = server.populate().await;
    server
        .restart_jetstream(|file| {
            if file.file_name().is_some_and(|n| n.to_string_lossy().starts_with("state.")) {
                std::fs::remove_file(file).unwrap();
            }
        })
        .await;
    let answer = server.get("/healthz?account=A&stream=ORDERS").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (
            503,
            r#"{"status":"unavailable","error":"JetStream stream 'A \u003e ORDERS' could not be recovered"}"#
        )
    );
    assert_eq!(server.get("/healthz?js-enabled-only=1").await.status, 200);
    assert_eq!(server.get("/healthz?account=EMPTY").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_shows_its_meta_group_from_the_start() {
    let server = Server::start().await;
    let cluster = linnet_jetstream::ClusterSettings {
        name: "C".to_owned(),
        tags: Vec::new(),
        max_ha_assets: None,
        unique_tag: String::new(),
    };
    server.start_jetstream_in(Some(cluster)).await;
    let jsz = server.get("/jsz").await.json();
    assert_eq!(jsz["meta_cluster"]["name"], "C");
    assert!(jsz.get("meta_leader").is_none(), "nobody leads yet");
    assert_eq!(server.get("/varz").await.json()["jetstream"]["meta"], jsz["meta_cluster"]);
    let refused = server.get("/jsz?leader-only=1").await;
    assert_eq!((refused.status, refused.body.as_str()), (400, "filtered response: not leader"));
    let raftz = server.get("/raftz").await;
    assert_eq!((raftz.status, raftz.body.as_str()), (200, "{}"));
    let recovering = r#"{"status":"unavailable","error":"JetStream is still recovering meta layer"}"#;
    for target in ["/healthz", "/healthz?js-meta-only=1"] {
        let health = server.get(target).await;
        assert_eq!((health.status, health.body.as_str()), (503, recovering), "{target}");
    }
    for target in ["/healthz?js-enabled-only=1", "/healthz?js-server-only=1"] {
        assert_eq!(server.get(target).await.status, 200, "{target}");
    }
}
