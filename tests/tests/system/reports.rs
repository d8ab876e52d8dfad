//! Reports: every server answers, in an envelope, if it is meant.

use std::io::Read as _;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{SYSTEM, ask, is_silent, keys};
use crate::harness::{round_trip, within};

on_both_servers! { SYSTEM;
    async fn an_answer_says_who_gives_it(s) {
        let sys = s.user("sys").await;
        let first = ask(&sys, "$SYS.REQ.SERVER.PING.VARZ", "").await;
        assert_eq!(keys(&first), ["data", "server"]);
        let server = &first["server"];
        assert_eq!(
            keys(server),
            ["domain", "feature_flags", "flags", "host", "id", "jetstream", "name", "seq", "tags", "time", "ver"]
        );
        assert_eq!(
            (&server["name"], &server["host"], &server["domain"], &server["jetstream"]),
            (&json!("S1"), &json!("127.0.0.1"), &json!("hub"), &json!(true))
        );
        assert_eq!(server["tags"], json!(["region:eu", "ssd"]));
        assert_eq!(first["data"]["server_id"], server["id"]);
        assert_eq!(first["data"]["feature_flags"], server["feature_flags"]);
        let second = ask(&sys, "$SYS.REQ.SERVER.PING.VARZ", "").await;
        assert!(second["server"]["seq"].as_u64() > server["seq"].as_u64());
    }

    async fn a_server_is_asked_by_its_id_or_with_all_others(s) {
        let sys = s.user("sys").await;
        let id = s.server_id(&sys).await;
        for verb in ["STATSZ", "VARZ", "CONNZ", "ROUTEZ", "GATEWAYZ", "LEAFZ", "SUBSZ", "ACCOUNTZ", "JSZ", "HEALTHZ", "RAFTZ",
                     "IPQUEUESZ", "EXPVARZ", "PROFILEZ"] {
            for who in ["PING", &id] {
                let answer = ask(&sys, &format!("$SYS.REQ.SERVER.{who}.{verb}"), "{}").await;
                let report = if verb == "STATSZ" { "statsz" } else { "data" };
                assert_eq!(keys(&answer), if verb == "STATSZ" { ["server", report] } else { [report, "server"] }, "{verb}");
                assert!(answer[report].is_object(), "{verb}: {answer}");
            }
        }
        let identity = ask(&sys, &format!("$SYS.REQ.SERVER.{id}.IDZ"), "").await;
        assert_eq!(identity, json!({"name": "S1", "host": "127.0.0.1", "id": id}));
        assert!(is_silent(&sys, "$SYS.REQ.SERVER.NOBODY.VARZ", "").await);
        assert!(is_silent(&sys, "$SYS.REQ.SERVER.PING.NOTHING", "").await);
    }

    async fn a_ping_is_answered_with_the_server_in_numbers(s) {
        let sys = s.user("sys").await;
        let answer = ask(&sys, "$SYS.REQ.SERVER.PING", "").await;
        let statsz = &answer["statsz"];
        for key in ["start", "mem", "cores", "cpu", "connections", "total_connections", "active_accounts", "subscriptions",
                    "sent", "sent_to_clients", "received", "received_from_clients", "slow_consumers", "gomaxprocs"] {
            assert!(!statsz[key].is_null(), "{key}: {statsz}");
        }
        assert_eq!((&statsz["connections"], &statsz["active_servers"]), (&json!(1), &json!(1)));
        assert_eq!(keys(&statsz["jetstream"]), ["config", "limits", "stats"]);
        assert!(statsz["jetstream"]["config"].get("store_dir").is_none());
    }

    async fn only_servers_that_are_meant_answer(s) {
        let sys = s.user("sys").await;
        for (filter, is_meant) in [
            (r#"{"server_name":"S"}"#, true),
            (r#"{"server_name":"S","exact_match":true}"#, false),
            (r#"{"server_name":"S1","exact_match":true}"#, true),
            (r#"{"cluster":"C"}"#, false),
            (r#"{"host":"127"}"#, true),
            (r#"{"domain":"hub"}"#, true),
            (r#"{"domain":"hu"}"#, false),
            (r#"{"tags":["ssd","region:eu"]}"#, true),
            (r#"{"tags":["ssd","hdd"]}"#, false),
            (r#"{"unknown":1}"#, true),
        ] {
            for verb in ["VARZ", "STATSZ", "HEALTHZ"] {
                let subject = format!("$SYS.REQ.SERVER.PING.{verb}");
                if is_meant {
                    assert_eq!(ask(&sys, &subject, filter).await["server"]["name"], "S1", "{verb} {filter}");
                } else {
                    assert!(is_silent(&sys, &subject, filter).await, "{verb} {filter}");
                }
            }
        }
    }

    async fn what_cannot_be_reported_is_an_error(s) {
        let sys = s.user("sys").await;
        for (subject, body, code, text) in [
            ("SERVER.PING.CONNZ", "{bad", 400, ""),
            ("SERVER.PING.STATSZ", "{bad", 400, ""),
            ("SERVER.PING.CONNZ", r#"{"limit":"x"}"#, 400, ""),
            ("SERVER.PING.CONNZ", r#"{"sort":"zzz"}"#, 500, "invalid sorting option: zzz"),
            ("SERVER.PING.CONNZ", r#"{"filter_subject":"x"}"#, 500, "filter by subject only valid with account filtering"),
            ("SERVER.PING.SUBSZ", r#"{"test":"a.*"}"#, 500, "invalid test subject, must be valid publish subject: a.*"),
            ("SERVER.PING.ACCOUNTZ", r#"{"account":"NOPE"}"#, 500, "Account NOPE does not exist"),
            ("ACCOUNT.NOPE.INFO", "", 500, "Account NOPE does not exist"),
            ("ACCOUNT.NOPE.JSZ", "", 500, "account \"NOPE\" not found"),
            ("ACCOUNT.B.JSZ", "", 500, "account \"B\" not jetstream enabled"),
        ] {
            let answer = ask(&sys, &format!("$SYS.REQ.{subject}"), body).await;
            assert_eq!(answer["error"]["code"], code, "{subject} {body}: {answer}");
            if code == 400 {
                assert_eq!(keys(&answer), ["error", "server"]);
                assert!(!answer["error"]["description"].as_str().unwrap().is_empty());
            } else {
                assert_eq!(answer["data"], Value::Null);
                assert_eq!(keys(&answer), ["data", "error", "server"]);
                assert_eq!(answer["error"]["description"], text);
            }
        }
    }

    async fn reports_take_the_options_of_the_pages(s) {
        let (sys, a) = (s.user("sys").await, s.user("a").await);
        let _orders = a.subscribe("orders.*").await.unwrap();
        round_trip(&a).await;
        let connz = async |body: &'static str| ask(&sys, "$SYS.REQ.SERVER.PING.CONNZ", body).await["data"].clone();
        let all = connz("").await;
        assert_eq!((&all["total"], &all["num_connections"], &all["limit"]), (&json!(2), &json!(2), &json!(1024)));
        let one = connz(r#"{"acc":"A","subscriptions":true,"auth":true}"#).await;
        assert_eq!(one["connections"].as_array().unwrap().len(), 1);
        assert_eq!(one["connections"][0]["authorized_user"], "a");
        let subjects = one["connections"][0]["subscriptions_list"].as_array().unwrap();
        assert!(subjects.contains(&json!("orders.*")), "{subjects:?}");
        let detail = connz(r#"{"acc":"A","subscriptions_detail":true}"#).await;
        let details = detail["connections"][0]["subscriptions_list_detail"].as_array().unwrap();
        assert!(details.iter().any(|sub| sub["subject"] == "orders.*" && sub["msgs"] == 0), "{details:?}");
        for (filter, count) in [("orders.1", 1), ("orders.>", 1), ("*.*", 1), ("other", 0), (">", 1)] {
            let body = json!({"acc": "A", "filter_subject": filter}).to_string();
            let found = ask(&sys, "$SYS.REQ.SERVER.PING.CONNZ", body).await;
            assert_eq!(found["data"]["num_connections"], count, "{filter}");
        }
        let cut = connz(r#"{"limit":1,"offset":1,"state":0}"#).await;
        assert_eq!((&cut["num_connections"], &cut["offset"], &cut["limit"]), (&json!(1), &json!(1), &json!(1)));
        assert_eq!(connz(r#"{"state":1,"acc":"B"}"#).await["num_connections"], 0);
        let subs = ask(&sys, "$SYS.REQ.SERVER.PING.SUBSZ", r#"{"subscriptions":true,"account":"A","test":"orders.1"}"#).await;
        assert_eq!(subs["data"]["subscriptions_list"][0]["subject"], "orders.*");
        let health = ask(&sys, "$SYS.REQ.SERVER.PING.HEALTHZ", r#"{"js-enabled-only":true,"details":true}"#).await;
        assert_eq!(health["data"], json!({"status": "ok", "status_code": 200}));
        let body = r#"{"account":"A","stream":"NOPE"}"#;
        let health = ask(&sys, "$SYS.REQ.SERVER.PING.HEALTHZ", body).await;
        assert_eq!(health["data"]["status_code"], 404, "{health}");
        assert!(health.get("error").is_none());
    }

    async fn jetstream_is_reported_of_the_server_and_of_an_account(s) {
        let (sys, a) = (s.user("sys").await, s.user("a").await);
        let stream = json!({"name": "S", "subjects": ["s"]}).to_string();
        ask(&a, "$JS.API.STREAM.CREATE.S", stream).await;
        let consumer = json!({"stream_name": "S", "config": {"durable_name": "C", "ack_policy": "explicit"}}).to_string();
        ask(&a, "$JS.API.CONSUMER.DURABLE.CREATE.S.C", consumer).await;
        let jsz = async |body: &'static str| ask(&sys, "$SYS.REQ.SERVER.PING.JSZ", body).await["data"].clone();
        let plain = jsz("").await;
        assert_eq!((&plain["streams"], &plain["consumers"]), (&json!(1), &json!(1)));
        assert!(plain.get("account_details").is_none());
        let detail = jsz(r#"{"consumer":true,"config":true}"#).await;
        let stream = &detail["account_details"][0]["stream_detail"][0];
        assert_eq!((&stream["name"], &stream["consumer_detail"][0]["name"]), (&json!("S"), &json!("C")));
        assert_eq!(stream["config"]["subjects"], json!(["s"]));
        assert_eq!(jsz(r#"{"leader_only":true}"#).await["streams"], 1);

        let account = ask(&sys, "$SYS.REQ.ACCOUNT.A.JSZ", "").await["data"].clone();
        assert_eq!(account["name"], "A");
        assert!(account.get("stream_detail").is_none() && account.get("server_id").is_none(), "{account}");
        let account = ask(&sys, "$SYS.REQ.ACCOUNT.A.JSZ", r#"{"streams":true,"consumer":true}"#).await;
        assert_eq!(account["data"]["stream_detail"][0]["consumer_detail"][0]["name"], "C");
    }

    async fn accounts_are_asked_by_name(s) {
        let (sys, a) = (s.user("sys").await, s.user("a").await);
        let mut sub = a.subscribe("x").await.unwrap();
        a.publish("x", "12345".into()).await.unwrap();
        within("a message", sub.next()).await.unwrap();
        let connz = ask(&sys, "$SYS.REQ.ACCOUNT.A.CONNZ", r#"{"acc":"B"}"#).await;
        assert_eq!((&connz["data"]["num_connections"], &connz["data"]["connections"][0]["name"]), (&json!(1), &json!("client of a")));
        let nobody = ask(&sys, "$SYS.REQ.ACCOUNT.NOPE.CONNZ", "").await;
        assert_eq!((&nobody["data"]["server_id"], &nobody["data"]["connections"]), (&json!(""), &Value::Null));
        let subs = ask(&sys, "$SYS.REQ.ACCOUNT.A.SUBSZ", "").await["data"]["subscriptions_list"].clone();
        assert!(subs.as_array().unwrap().iter().any(|sub| sub["subject"] == "x" && sub["account"] == "A"), "{subs}");
        let leafs = ask(&sys, "$SYS.REQ.ACCOUNT.A.LEAFZ", "").await;
        assert_eq!(leafs["data"]["leafnodes"], 0);
        let info = ask(&sys, "$SYS.REQ.ACCOUNT.A.INFO", "").await;
        assert_eq!((&info["data"]["account_name"], &info["data"]["client_connections"]), (&json!("A"), &json!(1)));

        let statz = ask(&sys, "$SYS.REQ.ACCOUNT.A.STATZ", "").await["data"].clone();
        let stat = &statz["account_statz"][0];
        assert_eq!((&stat["acc"], &stat["conns"], &stat["total_conns"]), (&json!("A"), &json!(1), &json!(1)));
        for direction in ["sent", "received"] {
            assert_eq!((&stat[direction]["msgs"], &stat[direction]["bytes"]), (&json!(1), &json!(5)), "{stat}");
        }
        assert!(is_silent(&sys, "$SYS.REQ.ACCOUNT.B.STATZ", "").await);
        let unused = ask(&sys, "$SYS.REQ.ACCOUNT.B.STATZ", r#"{"include_unused":true}"#).await;
        assert_eq!(unused["data"]["account_statz"][0]["conns"], 0);
        let inbox = sys.new_inbox();
        let mut answers = sys.subscribe(inbox.clone()).await.unwrap();
        sys.publish_with_reply("$SYS.REQ.ACCOUNT.PING.STATZ", inbox, "".into()).await.unwrap();
        super::next(&mut answers).await;
        let again = tokio::time::timeout(Duration::from_millis(300), answers.next());
        assert!(again.await.is_err(), "a server answers twice");
        let all = ask(&sys, "$SYS.REQ.ACCOUNT.PING.STATZ", "").await;
        let mut names: Vec<_> = all["data"]["account_statz"].as_array().unwrap().iter().map(|stat| &stat["acc"]).collect();
        names.sort_by_key(|name| name.to_string());
        assert_eq!(names, ["A", "SYS"]);
        let some = ask(&sys, "$SYS.REQ.ACCOUNT.PING.STATZ", r#"{"accounts":["B"],"include_unused":true}"#).await;
        assert_eq!(some["data"]["account_statz"][0]["acc"], "B");

        let conns = ask(&sys, "$SYS.REQ.ACCOUNT.A.CONNS", "").await;
        assert_eq!((&conns["acc"], &conns["conns"]), (&json!("A"), &json!(1)));
        assert_eq!(conns["type"], "io.nats.server.advisory.v1.account_connections");
        assert!(is_silent(&sys, "$SYS.REQ.ACCOUNT.B.CONNS", "").await);
    }

    async fn reports_are_packed_as_the_asker_likes(s) {
        let sys = s.user("sys").await;
        for (accepted, name) in [("snappy", "snappy"), ("gzip, s2", "snappy"), ("gzip", "gzip"), ("zz", "identity")] {
            for (subject, body) in [("$SYS.REQ.SERVER.PING.VARZ", ""), ("$SYS.REQ.SERVER.PING.CONNZ", r#"{"sort":"zzz"}"#)] {
                let mut headers = async_nats::HeaderMap::new();
                headers.insert("Accept-Encoding", accepted);
                let answer = sys.request_with_headers(subject, headers, body.into());
                let answer = within(subject, answer).await.unwrap();
                let is_error = !body.is_empty();
                let encoding = answer.headers.as_ref().and_then(|headers| headers.get("Content-Encoding"));
                assert_eq!(encoding.map(|e| e.as_str()), (!is_error).then_some(name), "{accepted}");
                let mut json = Vec::new();
                match name {
                    _ if is_error => json.extend_from_slice(&answer.payload),
                    "snappy" => _ = snap::read::FrameDecoder::new(&answer.payload[..]).read_to_end(&mut json).unwrap(),
                    "gzip" => _ = flate2::read::GzDecoder::new(&answer.payload[..]).read_to_end(&mut json).unwrap(),
                    _ => json.extend_from_slice(&answer.payload),
                }
                let json: Value = serde_json::from_slice(&json).unwrap();
                assert_eq!(json["server"]["name"], "S1");
            }
        }
    }
}
