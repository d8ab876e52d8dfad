//! Keys and types against those of nats-server 2.15.1.

use crate::fixture::Server;
use crate::shape::shape;

/// True for fields only this server has and for counters of what this test asked before.
fn is_own(line: &str) -> bool {
    ["linnet_version ", "linnet_scrub", "http_req_stats."].iter().any(|own| line.starts_with(own))
}

async fn check(server: &Server, target: &str, file: &str) {
    let page = server.get(target).await.json();
    let ours: Vec<String> = shape(&page).into_iter().filter(|l| !is_own(l)).collect();
    let path = format!("{}/testdata/{file}.txt", env!("CARGO_MANIFEST_DIR"));
    let theirs: Vec<String> = std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    let missing: Vec<_> = theirs.iter().filter(|l| !ours.contains(l)).collect();
    let added: Vec<_> = ours.iter().filter(|l| !theirs.contains(l)).collect();
    assert!(missing.is_empty() && added.is_empty(), "{target}: missing {missing:?}, added {added:?}");
    assert_eq!(ours, theirs, "{target}: order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_have_nats_servers_keys_types_and_order() {
    let server = Server::start().await;
    server.start_jetstream().await;
    let _alice = server.populate().await;
    check(&server, "/varz", "varz").await;
    check(&server, "/connz?subs=detail&auth=1&acc=A", "connz").await;
    check(&server, "/connz?state=closed&subs=detail&auth=1&acc=A", "connz_closed").await;
    check(&server, "/subsz?subs=1&test=foo.1&acc=A", "subsz").await;
    check(&server, "/jsz?acc=A&consumers=1&config=1&raft=1", "jsz").await;
    check(&server, "/accountz", "accountz").await;
    check(&server, "/accountz?acc=A", "accountz_detail").await;
    check(&server, "/routez", "routez").await;
    check(&server, "/gatewayz", "gatewayz").await;
    check(&server, "/leafz", "leafz").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jsz_without_jetstream_says_so() {
    let server = Server::with(|options| {
        options.monitoring.base_path = "/".to_owned();
        options.jetstream.enabled = false;
    })
    .await;
    check(&server, "/jsz?streams=1", "jsz_disabled").await;
    let refused = server.get("/jsz?leader-only=1").await;
    assert_eq!((refused.status, refused.body.as_str()), (400, "filtered response: not leader"));
    assert_eq!(server.get("/healthz").await.body, "{\"status\":\"ok\"}");
    assert_eq!(server.get("/varz").await.json()["jetstream"], serde_json::json!({}));
}
