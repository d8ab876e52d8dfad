//! What an operator can do to a server and its clients.

use std::fs;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{SYSTEM, ask, is_silent, keys, next};
use crate::harness::{Raw, eventually, within};

/// The next line, which is an INFO.
fn info(raw: &mut Raw) -> Value {
    serde_json::from_str(raw.line().unwrap().strip_prefix("INFO ").unwrap()).unwrap()
}

on_both_servers! { SYSTEM;
    async fn a_client_is_kicked(s) {
        let sys = s.user("sys").await;
        let id = s.server_id(&sys).await;
        let mut gone = sys.subscribe("$SYS.ACCOUNT.A.DISCONNECT").await.unwrap();
        let a = s.user("a").await;
        let cid = a.server_info().client_id;
        let done = ask(&sys, &format!("$SYS.REQ.SERVER.{id}.KICK"), json!({"cid": cid}).to_string()).await;
        assert_eq!(keys(&done), ["server"]);
        let (_, event) = next(&mut gone).await;
        assert_eq!((&event["reason"], &event["client"]["id"]), (&json!("Kicked"), &json!(cid)));
        let unknown = ask(&sys, &format!("$SYS.REQ.SERVER.{id}.KICK"), r#"{"cid":99999}"#).await;
        assert_eq!(unknown["error"], json!({"code": 500, "description": "no such client or leafnode id"}));
        assert_eq!(keys(&unknown), ["error", "server"]);
        for body in ["{}", r#"{"id":7}"#] {
            let nobody = ask(&sys, &format!("$SYS.REQ.SERVER.{id}.KICK"), body).await;
            assert_eq!(nobody["error"], unknown["error"], "{body}");
        }
        for body in ["", "{}x"] {
            assert!(is_silent(&sys, &format!("$SYS.REQ.SERVER.{id}.KICK"), body).await);
        }
        assert!(is_silent(&sys, "$SYS.REQ.SERVER.PING.KICK", "{}").await);
    }

    async fn one_client_is_sent_elsewhere(s) {
        let sys = s.user("sys").await;
        let id = s.server_id(&sys).await;
        let subject = format!("$SYS.REQ.SERVER.{id}.LDM");
        let mut raw = s.raw();
        let cid = info(&mut raw)["client_id"].clone();
        raw.send(b"CONNECT {\"user\":\"a\",\"pass\":\"a\",\"verbose\":false,\"protocol\":1}\r\n");
        // Until the server has read CONNECT, no client has the number.
        let early = eventually("a client with this number", async || {
            let answer = ask(&sys, &subject, json!({"cid": cid}).to_string()).await;
            (answer["error"]["description"] != "no such client id").then_some(answer)
        })
        .await;
        let text = "client does not support Lame Duck Mode or is not ready to receive the notification";
        assert_eq!(early["error"], json!({"code": 500, "description": text}));
        raw.send(b"PING\r\n");
        assert_eq!(raw.line().as_deref(), Some("PONG"));
        assert_eq!(info(&mut raw)["connect_info"], true);
        let done = ask(&sys, &subject, json!({"cid": cid}).to_string()).await;
        assert_eq!(keys(&done), ["server"]);
        assert_eq!(info(&mut raw)["ldm"], true);
        let unknown = ask(&sys, &subject, r#"{"cid":99999}"#).await;
        assert_eq!(unknown["error"]["description"], "no such client id");
    }

    async fn the_configuration_is_read_again(s) {
        let sys = s.user("sys").await;
        let id = s.server_id(&sys).await;
        let subject = format!("$SYS.REQ.SERVER.{id}.RELOAD");
        let file = s.server.dir().join("server.conf");
        let config = fs::read_to_string(&file).unwrap();
        fs::write(&file, config.replace("ssd", "hdd")).unwrap();
        assert!(is_silent(&sys, &subject, r#"{"server_name":"other"}"#).await);
        let done = ask(&sys, &subject, "").await;
        assert_eq!(keys(&done), ["server"]);
        eventually("the new tags", async || {
            let tags = ask(&sys, "$SYS.REQ.SERVER.PING", "").await["server"]["tags"].clone();
            (tags == json!(["region:eu", "hdd"])).then_some(())
        })
        .await;
        fs::write(&file, format!("{config}\nbad bad bad {{")).unwrap();
        let refused = ask(&sys, &subject, "").await;
        assert_eq!(refused["error"]["code"], 500);
        assert!(!refused["error"]["description"].as_str().unwrap().is_empty());
        // What is there goes on.
        assert_eq!(ask(&sys, "$SYS.REQ.SERVER.PING", "").await["server"]["tags"], json!(["region:eu", "hdd"]));
    }

    async fn new_accounts_have_the_services_too(s) {
        let sys = s.user("sys").await;
        let id = s.server_id(&sys).await;
        let file = s.server.dir().join("server.conf");
        let config = fs::read_to_string(&file).unwrap();
        fs::write(&file, config.replace("B { users", "N { users: [{user: n, password: n}] }\nB { users")).unwrap();
        ask(&sys, &format!("$SYS.REQ.SERVER.{id}.RELOAD"), "").await;
        let n = s.user("n").await;
        assert_eq!(ask(&n, "$SYS.REQ.USER.INFO", "").await["data"]["account"], "N");
        assert_eq!(ask(&n, "$SYS.REQ.ACCOUNT.PING.STATZ", "").await["data"]["account_statz"][0]["acc"], "N");
        let mut raw = within("another answer", n.subscribe("x")).await.unwrap();
        n.publish("x", "1".into()).await.unwrap();
        assert_eq!(within("a message", raw.next()).await.unwrap().payload, "1");
    }
}
