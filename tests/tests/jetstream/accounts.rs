//! Account information, and the limits of accounts and of the server.

use linnet_launch::{JetStream, Options};
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, err_code, eventually};

/// One account with small limits, whose user everybody is.
const LIMITED: fn() -> Options = || Options {
    extra: "accounts { A { users: [{user: u, password: p}], jetstream { max_memory: 2000, max_store: 4000, \
            max_streams: 3, max_consumers: 2 } } }\nno_auth_user: u"
        .to_owned(),
    ..JETSTREAM()
};

/// Nobody's account is limited, the server is.
const SMALL_SERVER: fn() -> Options = || Options {
    jetstream: Some(JetStream { extra: "max_mem: 1000, max_file: 1000".to_owned(), ..JetStream::default() }),
    ..JETSTREAM()
};

/// Everybody is in an account without JetStream.
const WITHOUT: fn() -> Options = || {
    Options {
    extra: "accounts { A { users: [{user: a, password: p}], jetstream: enabled }, B { users: [{user: u, password: p}] } }\n\
            no_auth_user: u"
        .to_owned(),
    ..JETSTREAM()
}
};

/// Publishes until the answer is an error; how often it was none, and the error.
async fn fill(s: &mut Fixture, subject: &str, body: &str) -> (usize, u64) {
    for stored in 0..1000 {
        let answer = s.publish(subject, body).await;
        if err_code(&answer) != 0 {
            return (stored, err_code(&answer));
        }
    }
    panic!("there is no limit");
}

mod of_the_account {
    use super::*;

    on_both_servers! { LIMITED;
        async fn information_counts_what_is_there_and_what_is_reserved(s) {
            let info = s.api("INFO", Value::Null).await;
            assert_eq!(info["limits"], json!({"max_memory": 2000, "max_storage": 4000, "max_streams": 3, "max_consumers": 2,
                "max_ack_pending": -1, "memory_max_stream_bytes": -1, "storage_max_stream_bytes": -1, "max_bytes_required": false}));
            s.stream(json!({"name": "F", "subjects": ["f"], "max_bytes": 1000})).await;
            s.stream(json!({"name": "M", "subjects": ["m"], "max_bytes": 500, "storage": "memory"})).await;
            s.consumer("F", json!({"durable_name": "C"})).await;
            s.publish("f", "12345").await;
            s.publish("m", "12345").await;
            let info = eventually("the messages are counted", async || {
                let info = s.api("INFO", Value::Null).await;
                (info["storage"] == 36 && info["memory"] == 22).then_some(info)
            }).await;
            for (field, value) in [("streams", 2), ("consumers", 1), ("reserved_storage", 1000), ("reserved_memory", 500)] {
                assert_eq!(info[field], value, "{field}");
            }
            assert_eq!(info["api"]["level"], 5);
        }

        async fn calls_and_refusals_are_counted_but_not_all(s) {
            let counts = async |s: &mut Fixture| {
                let api = s.api("INFO", Value::Null).await["api"].clone();
                ["total", "errors"].map(|field| api.get(field).and_then(Value::as_u64).unwrap_or(0))
            };
            assert_eq!(counts(s).await, [0, 0]);
            s.stream(json!({"name": "F", "subjects": ["f"]})).await;
            s.stream(json!({"name": "D", "subjects": ["d"], "deny_delete": true})).await;
            s.consumer("F", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
            s.publish("f", "x").await;
            s.publish("d", "x").await;
            let (none, first, last) = (Value::Null, json!({"seq": 1}), json!({"seq": 9}));
            for (call, body, counted) in [
                ("STREAM.INFO.NO", &none, [1, 1]),
                ("STREAM.MSG.GET.F", &first, [0, 0]),
                ("STREAM.MSG.GET.F", &last, [1, 1]),
                ("CONSUMER.RESET.F.C", &none, [0, 0]),
                ("CONSUMER.RESET.F.C", &json!({"seq": "x"}), [0, 0]),
                ("STREAM.MSG.DELETE.F", &last, [1, 0]),
                ("STREAM.MSG.DELETE.F", &first, [1, 0]),
                ("STREAM.MSG.DELETE.D", &first, [1, 1]),
            ] {
                let [total, errors] = counts(s).await;
                s.api(call, body.clone()).await;
                let [total_after, errors_after] = counts(s).await;
                // The question before is counted, too.
                assert_eq!([total_after - total - 1, errors_after - errors], counted, "{call} {body}");
            }
        }

        async fn what_streams_may_hold_together_is_bounded(s) {
            for (storage, limit, code) in [("file", 4000, 10047), ("memory", 2000, 10028)] {
                let config = |name: &str, max_bytes: i64| {
                    let name = format!("{name}{storage}");
                    json!({"name": name, "subjects": [name], "storage": storage, "max_bytes": max_bytes})
                };
                let (first, second) = (format!("A{storage}"), format!("B{storage}"));
                s.stream(config("A", limit - 500)).await;
                assert_eq!(s.refused_stream(config("B", 501)).await.0, code);
                let larger = s.api(&format!("STREAM.UPDATE.{first}"), config("A", limit + 1)).await;
                assert_eq!(err_code(&larger), code);
                assert_eq!(s.api(&format!("STREAM.UPDATE.{first}"), config("A", limit)).await["error"], Value::Null);
                assert_eq!(s.refused_stream(config("B", 1)).await.0, code);
                s.api(&format!("STREAM.DELETE.{first}"), Value::Null).await;
                s.stream(config("B", limit)).await;
                s.api(&format!("STREAM.DELETE.{second}"), Value::Null).await;
            }
        }

        async fn what_is_stored_is_bounded(s) {
            for (storage, name) in [("file", "F"), ("memory", "M")] {
                s.stream(json!({"name": name, "subjects": [name], "storage": storage})).await;
                let (stored, code) = fill(s, name, &"x".repeat(69)).await;
                // 22 + 1 + 69 + 8 bytes in a file, 1 + 69 + 16 in memory.
                assert_eq!((stored, code), (if storage == "file" { 40 } else { 23 }, 10002), "{storage}");
                s.api(&format!("STREAM.PURGE.{name}"), Value::Null).await;
                eventually("there is room again", async || {
                    s.publish(name, "x").await["error"].is_null().then_some(())
                }).await;
            }
        }

        async fn streams_and_consumers_are_counted(s) {
            s.stream(json!({"name": "A", "subjects": ["a"], "max_consumers": 1})).await;
            s.stream(json!({"name": "B", "subjects": ["b"]})).await;
            let much = json!({"name": "C", "subjects": ["c"], "max_consumers": 3});
            assert_eq!(s.refused_stream(much).await.0, 10026);
            let much = json!({"name": "B", "subjects": ["b"], "max_consumers": 3});
            assert_eq!(err_code(&s.api("STREAM.UPDATE.B", much).await), 10026);
            s.stream(json!({"name": "C", "subjects": ["c"]})).await;
            assert_eq!(s.refused_stream(json!({"name": "D", "subjects": ["d"]})).await, (10027, "maximum number of streams reached".to_owned()));
            // One that is there is no new one.
            s.stream(json!({"name": "C", "subjects": ["c"]})).await;
            s.consumer("A", json!({"durable_name": "X"})).await;
            let refused = s.try_consumer("A", json!({"durable_name": "Y"})).await;
            assert_eq!(refused["error"], json!({"code": 400, "err_code": 10026, "description": "maximum consumers limit reached"}));
            for name in ["X", "Y"] {
                s.consumer("B", json!({"durable_name": name})).await;
            }
            assert_eq!(err_code(&s.try_consumer("B", json!({"durable_name": "Z"})).await), 10026);
            // An update of one that is there needs no room.
            s.consumer("B", json!({"durable_name": "Y", "description": "d"})).await;
        }
    }
}

mod of_the_server {
    use super::*;

    on_both_servers! { SMALL_SERVER;
        async fn what_is_stored_is_bounded(s) {
            for (storage, name) in [("file", "F"), ("memory", "M")] {
                s.stream(json!({"name": name, "subjects": [name], "storage": storage})).await;
                let (stored, code) = fill(s, name, &"x".repeat(69)).await;
                assert_eq!(code, 10023, "{storage} {stored}");
                // A message counts 100 bytes in a file and 86 in memory.
                assert!((10..=12).contains(&stored), "{storage} {stored}");
                // Who is full can still remove streams, which makes room.
                assert_eq!(s.api(&format!("STREAM.DELETE.{name}"), Value::Null).await["success"], true);
                let next = format!("{name}.next");
                s.stream(json!({"name": format!("{name}2"), "subjects": [next], "storage": storage})).await;
                eventually("there is room again", async || {
                    s.publish(&next, "x").await["error"].is_null().then_some(())
                }).await;
            }
        }
    }
}

mod without_jetstream {
    use super::*;

    on_both_servers! { WITHOUT;
        async fn every_call_is_refused(s) {
            for (call, kind) in [
                ("INFO", "account_info"), ("STREAM.NAMES", "stream_names"), ("STREAM.CREATE.S", "stream_create"),
                ("CONSUMER.INFO.S.C", "consumer_info"),
            ] {
                let answer = s.api(call, Value::Null).await;
                assert_eq!(answer["error"], json!({"code": 503, "err_code": 10039, "description": "JetStream not enabled for account"}), "{call}");
                assert_eq!(answer["type"], format!("io.nats.jetstream.api.v1.{kind}_response"));
            }
        }
    }
}

/// Nothing but the system account is configured.
const ONLY_SYSTEM: fn() -> Options =
    || Options { extra: "accounts { $SYS { users: [{user: sys, password: p}] } }".to_owned(), ..JETSTREAM() };

mod beside_the_system {
    use super::*;

    on_both_servers! { ONLY_SYSTEM;
        async fn clients_without_credentials_are_in_the_global_account(s) {
            s.stream(json!({"name": "S", "subjects": ["s"]})).await;
            assert_eq!(s.publish("s", "x").await["seq"], 1);
            let mut raw = s.raw();
            let info: Value = serde_json::from_str(raw.line().unwrap().strip_prefix("INFO ").unwrap()).unwrap();
            assert_eq!(info["auth_required"], true);
            for (user, pass, answer) in
                [("sys", "p", "PONG"), ("sys", "x", "-ERR 'Authorization Violation'"), ("x", "", "-ERR 'Authorization Violation'")]
            {
                let mut raw = s.raw();
                raw.line();
                raw.send(format!("CONNECT {{\"verbose\":false,\"user\":\"{user}\",\"pass\":\"{pass}\"}}\r\nPING\r\n").as_bytes());
                assert_eq!(raw.line().as_deref(), Some(answer), "{user} {pass}");
            }
        }
    }
}

/// Nothing but the system account is configured, and who may log in.
const WITH_LOGIN: fn() -> Options = || Options {
    extra: "accounts { $SYS { users: [{user: sys, password: p}] } }\nauthorization { timeout: 3 }".to_owned(),
    ..JETSTREAM()
};

mod beside_the_system_with_a_login {
    use super::*;

    on_both_servers! { WITH_LOGIN;
        async fn clients_without_credentials_are_refused(s) {
            let mut raw = s.raw();
            raw.line();
            raw.send(b"CONNECT {\"verbose\":false}\r\n");
            assert_eq!(raw.line().as_deref(), Some("-ERR 'Authorization Violation'"));
        }
    }
}
