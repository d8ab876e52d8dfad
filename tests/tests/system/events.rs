//! What is told of connections and of the server.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{SYSTEM, ask, keys, next};
use crate::harness::{LONG, round_trip, within};

on_both_servers! { SYSTEM;
    async fn a_client_comes_and_goes(s) {
        let sys = s.user("sys").await;
        let mut events = sys.subscribe("$SYS.ACCOUNT.A.>").await.unwrap();
        let mut old = sys.subscribe("$SYS.SERVER.ACCOUNT.A.CONNS").await.unwrap();
        round_trip(&sys).await;
        let a = s.user("a").await;
        let (subject, conns) = next(&mut events).await;
        assert_eq!(subject, "$SYS.ACCOUNT.A.SERVER.CONNS");
        assert_eq!(conns["type"], "io.nats.server.advisory.v1.account_connections");
        assert_eq!((&conns["acc"], &conns["name"], &conns["conns"]), (&json!("A"), &json!("A"), &json!(1)));
        for key in ["leafnodes", "total_conns", "num_subscriptions", "sent", "received", "slow_consumers", "id", "timestamp"] {
            assert!(!conns[key].is_null(), "{key}: {conns}");
        }
        assert_eq!(next(&mut old).await.1["conns"], 1);
        let (subject, event) = next(&mut events).await;
        assert_eq!(subject, "$SYS.ACCOUNT.A.CONNECT");
        assert_eq!(keys(&event), ["client", "id", "server", "timestamp", "type"]);
        assert_eq!(event["type"], "io.nats.server.advisory.v1.client_connect");
        assert_eq!(event["server"]["name"], "S1");
        let client = &event["client"];
        let fixed = |client: &Value| {
            ["acc", "user", "name", "lang", "kind", "client_type", "host", "name_tag", "id"].map(|key| client[key].clone())
        };
        let cid = json!(a.server_info().client_id);
        let expected = [json!("A"), json!("a"), json!("client of a"), json!("rust"), json!("Client"), json!("nats"),
                        json!("127.0.0.1"), json!("A"), cid];
        assert_eq!(fixed(client), expected);
        assert!(!client["start"].is_null() && !client["ver"].is_null() && client.get("stop").is_none());

        let mut sub = a.subscribe("x").await.unwrap();
        a.publish("x", "12345".into()).await.unwrap();
        within("a message", sub.next()).await.unwrap();
        drop(sub);
        a.drain().await.unwrap();
        let (subject, conns) = next(&mut events).await;
        assert_eq!((subject.as_str(), &conns["conns"]), ("$SYS.ACCOUNT.A.SERVER.CONNS", &json!(0)));
        let (subject, event) = next(&mut events).await;
        assert_eq!(subject, "$SYS.ACCOUNT.A.DISCONNECT");
        assert_eq!(keys(&event), ["client", "id", "reason", "received", "sent", "server", "timestamp", "type"]);
        assert_eq!((&event["reason"], &event["type"]),
                   (&json!("Client Closed"), &json!("io.nats.server.advisory.v1.client_disconnect")));
        assert_eq!(fixed(&event["client"]), expected);
        assert!(!event["client"]["stop"].is_null());
        assert_eq!((&event["sent"], &event["received"]),
                   (&json!({"msgs": 1, "bytes": 5}), &json!({"msgs": 1, "bytes": 5})));
    }

    async fn a_refused_login_is_told(s) {
        let sys = s.user("sys").await;
        let id = s.server_id(&sys).await;
        let mut events = sys.subscribe("$SYS.SERVER.*.CLIENT.AUTH.ERR").await.unwrap();
        let mut gone = sys.subscribe("$SYS.ACCOUNT.*.DISCONNECT").await.unwrap();
        round_trip(&sys).await;
        let mut raw = s.raw();
        raw.send(b"CONNECT {\"user\":\"a\",\"pass\":\"no\",\"lang\":\"test\",\"name\":\"guest\"}\r\n");
        let (subject, event) = next(&mut events).await;
        assert_eq!(subject, format!("$SYS.SERVER.{id}.CLIENT.AUTH.ERR"));
        assert_eq!(event["type"], "io.nats.server.advisory.v1.client_disconnect");
        assert_eq!(event["reason"], "Authentication Failure");
        let client = &event["client"];
        assert_eq!((&client["user"], &client["acc"], &client["lang"], &client["name"]),
                   (&json!("a"), &json!("$G"), &json!("test"), &json!("guest")));
        assert!(raw.until_closed().contains(&"-ERR 'Authorization Violation'".to_owned()));
        let (subject, event) = next(&mut gone).await;
        assert_eq!((subject.as_str(), &event["reason"]), ("$SYS.ACCOUNT.$G.DISCONNECT", &json!("Authentication Failure")));
    }

    async fn numbers_are_broadcast_to_those_who_listen(s) {
        let sys = s.user("sys").await;
        let id = s.server_id(&sys).await;
        let mut broadcasts = sys.subscribe("$SYS.SERVER.*.STATSZ").await.unwrap();
        round_trip(&sys).await;
        // A request that wants no answer asks for a broadcast.
        sys.publish("$SYS.REQ.SERVER.PING.STATSZ", "".into()).await.unwrap();
        let (subject, numbers) = next(&mut broadcasts).await;
        assert_eq!(subject, format!("$SYS.SERVER.{id}.STATSZ"));
        assert_eq!(keys(&numbers), ["server", "statsz"]);
        assert_eq!(numbers["statsz"]["connections"], 1);
    }

    async fn a_stop_is_told(s) {
        let sys = s.user("sys").await;
        let id = s.server_id(&sys).await;
        let mut events = sys.subscribe("$SYS.SERVER.*.SHUTDOWN").await.unwrap();
        round_trip(&sys).await;
        s.server.signal(rustix::process::Signal::TERM).unwrap();
        let (subject, event) = next(&mut events).await;
        assert_eq!(subject, format!("$SYS.SERVER.{id}.SHUTDOWN"));
        assert_eq!((&event["name"], &event["id"]), (&json!("S1"), &json!(id)));
        s.server.wait_end(LONG).unwrap();
    }

    async fn draining_is_told(s) {
        let sys = s.user("sys").await;
        let id = s.server_id(&sys).await;
        let mut events = sys.subscribe("$SYS.SERVER.*.LAMEDUCK").await.unwrap();
        round_trip(&sys).await;
        s.server.signal(rustix::process::Signal::USR2).unwrap();
        let (subject, event) = next(&mut events).await;
        assert_eq!(subject, format!("$SYS.SERVER.{id}.LAMEDUCK"));
        assert_eq!(event["name"], "S1");
    }
}

/// The other server falls silent.
#[test]
fn services_answer_while_the_server_drains() {
    crate::harness::run_with(crate::harness::Kind::Linnet, SYSTEM, async |s| {
        let sys = s.user("sys").await;
        let mut events = sys.subscribe("$SYS.SERVER.*.LAMEDUCK").await.unwrap();
        round_trip(&sys).await;
        s.server.signal(rustix::process::Signal::USR2).unwrap();
        next(&mut events).await;
        assert_eq!(ask(&sys, "$SYS.REQ.SERVER.PING.VARZ", "").await["data"]["server_name"], "S1");
        assert_eq!(ask(&sys, "$SYS.REQ.USER.INFO", "").await["data"]["user"], "sys");
    });
}
