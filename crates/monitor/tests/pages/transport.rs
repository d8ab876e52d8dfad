//! Methods, headers, paths, errors.

use crate::fixture::Server;
use crate::http::request;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_method_reads_and_head_has_no_body() {
    let server = Server::start().await;
    for method in ["GET", "POST", "OPTIONS", "DELETE"] {
        let answer = request(server.http, method, "/leafz").await;
        assert_eq!(answer.status, 200, "{method}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert!(answer.body.starts_with("{\n  \"server_id\": \"NTEST\",\n"), "{}", answer.body);
        assert!(answer.body.ends_with("\n  \"leafs\": []\n}"), "{}", answer.body);
    }
    let head = request(server.http, "HEAD", "/leafz").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_ne!(head.header("content-length"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_with_too_many_slashes_is_sent_on_to_the_clean_one() {
    let server = Server::start().await;
    for (target, location) in [
        ("//varz", "/varz"),
        ("//connz?subs=1&sort=cid", "/connz?subs=1&sort=cid"),
        ("/a/../varz", "/varz"),
        ("//\\x", "/%5Cx"),
    ] {
        let answer = server.get(target).await;
        assert_eq!((answer.status, answer.header("location")), (307, location), "{target}");
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    }
    let answer = server.get("//varz?a&b").await;
    assert_eq!(answer.body, "<a href=\"/varz?a&amp;b\">Temporary Redirect</a>.\n\n");
    let post = request(server.http, "POST", "//varz").await;
    assert_eq!((post.status, post.header("location"), post.body.as_str()), (307, "/varz", ""));
    assert_eq!(server.get("/varz").await.json()["http_req_stats"], serde_json::json!({"/varz": 1}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_bare_text() {
    let server = Server::start().await;
    for (target, status, text) in [
        ("/nope", 404, "404 page not found\n"),
        ("/varz/", 404, "404 page not found\n"),
        ("/raftz?acc=x", 404, "No Raft nodes registered"),
        ("/accountz?acc=NO", 400, "Account NO does not exist"),
        ("/connz?sort=zzz", 400, "invalid sorting option: zzz"),
        ("/subsz?test=a.*", 400, "invalid test subject, must be valid publish subject: a.*"),
        (
            "/leafz?subs=detail",
            400,
            "Error decoding boolean for 'subs': strconv.ParseBool: parsing \"detail\": invalid syntax",
        ),
        (
            "/healthz?details=x",
            400,
            "Error decoding boolean for 'details': strconv.ParseBool: parsing \"x\": invalid syntax",
        ),
    ] {
        let answer = server.get(target).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, text), "{target}");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn base_path_moves_every_page_and_no_counter() {
    let server = Server::with(|_| {}).await;
    for target in ["/", "/varz", "/foo/", "/foo/varz/"] {
        assert_eq!(server.get(target).await.status, 404, "{target}");
    }
    let root = server.get("/foo").await;
    assert_eq!(root.header("content-type"), "text/html; charset=utf-8");
    assert!(root.body.contains("href=\"./foo/varz\""));
    server.get("/foo/subscriptionsz").await;
    let varz = server.get("/foo/varz").await.json();
    assert_eq!(varz["http_req_stats"], serde_json::json!({"/": 1, "/subsz": 1, "/varz": 1}));
    assert_eq!(varz["http_base_path"], "/foo");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_the_process_itself() {
    let server = Server::start().await;
    let stacks = server.get("/stacksz").await;
    assert!(stacks.body.starts_with("thread "), "{}", stacks.body);
    assert_eq!(stacks.header("content-type"), "application/json");
    let vars = server.get("/debug/vars").await;
    assert_eq!(vars.header("content-type"), "application/json; charset=utf-8");
    assert!(vars.json()["memstats"]["Resident"].as_u64().unwrap() > 0);
    let accstatz = server.get("/accstatz").await;
    assert_eq!(accstatz.json()["account_statz"], serde_json::json!([]));
    let unused = server.get("/accstatz?unused=1").await.json();
    let count = |n: u64| serde_json::json!({"msgs": n, "bytes": n});
    let none = serde_json::json!({"msgs": 0, "bytes": 0, "gateways": count(0), "routes": count(0), "leafs": count(0)});
    let first = &unused["account_statz"][0];
    assert_eq!((&first["sent"], &first["received"], &first["total_conns"]), (&none, &none, &0.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_are_bounded_in_size() {
    let server = Server::start().await;
    let answer = server.get(&format!("/varz?x={}", "y".repeat(20_000))).await;
    assert_eq!(answer.status, 200);
    let answer = server.get(&format!("/varz?x={}", "y".repeat(2 << 20))).await;
    assert!(matches!(answer.status, 414 | 431), "{}", answer.status);
}
