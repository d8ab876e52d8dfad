use super::*;
use crate::consumer_config::ConsumerConfig;
use crate::decode::{Strictness, stream_config_request};
use crate::policies::PersistMode;
use crate::stream_config::{ConsumerLimits, StreamSource};
use crate::testdata::rows;
use crate::to_json;

fn request(json: &str) -> StreamConfigRequest {
    stream_config_request(json.as_bytes(), Strictness::Strict).unwrap().value
}

fn other() -> StreamConfig {
    let wanted = request(r#"{"name":"OTHER","subjects":["other.>","o.*.x"]}"#);
    normalize_and_check(&wanted.config, &[][..] as &[StreamConfig], &limits(), false).unwrap()
}

fn limits() -> Limits {
    Limits { server: Amounts { memory: 1 << 40, storage: 1 << 40 }, ..Limits::unlimited() }
}

fn create(
    name: &str,
    json: &str,
    existing: Option<&StreamConfig>,
    limits: &Limits,
) -> Result<StreamConfig, ApiError> {
    match check_create(name, &request(json), existing, &[other()][..], limits)? {
        StreamCreate::New(config) => Ok(*config),
        StreamCreate::Same => Ok(existing.cloned().unwrap()),
    }
}

fn update(
    name: &str,
    old: Option<&StreamConfig>,
    json: &str,
    limits: &Limits,
) -> Result<StreamConfig, ApiError> {
    check_update(name, &request(json), old, [], &[other()][..], limits)
}

fn assert_result(actual: Result<StreamConfig, ApiError>, outcome: &[String], row: &[String]) {
    match actual {
        Ok(config) => {
            let json = String::from_utf8(to_json(&config)).unwrap().replace("\\u003e", ">");
            assert_eq!(outcome, ["ok".to_owned(), json], "{row:?}");
        }
        Err(error) => {
            assert_eq!(outcome, [error.err_code.to_string(), error.description.to_string()], "{row:?}");
        }
    }
}

#[test]
fn requests_end_as_on_the_reference_server() {
    let table = rows(include_str!("../../testdata/stream_rules.txt"));
    assert!(table.len() > 100);
    let known = other();
    for row in &table {
        match row[0].split_once(' ').unwrap() {
            ("create", name) => {
                let existing = (name == "OTHER").then_some(&known);
                assert_result(create(name, &row[1], existing, &limits()), &row[2..], row);
            }
            ("update", name) => {
                let old = create("Z", &row[1], None, &limits()).unwrap();
                let existing = (name == "Z").then_some(&old);
                assert_result(update(name, existing, &row[2], &limits()), &row[3..], row);
            }
            other => panic!("{other:?}"),
        }
    }
}

fn code<T>(result: Result<T, ApiError>) -> (u16, String) {
    result.err().map(|e| (e.err_code, e.description.into_owned())).unwrap_or_default()
}

/// The limits and results of an account on the reference server.
#[test]
fn account_limits_are_kept() {
    let account = AccountLimits {
        max_memory: 1000,
        max_storage: 100_000,
        max_streams: 2,
        max_consumers: 3,
        max_ack_pending: 50,
        memory_max_stream_bytes: 500,
        storage_max_stream_bytes: 50_000,
        max_bytes_required: true,
    };
    let limits = Limits {
        duplicate_window: Nanos::from_secs(300),
        account: Some(account),
        streams: 1,
        account_reserved: Amounts { memory: 600, storage: 60_000 },
        ..Limits::unlimited()
    };
    let full = Limits { streams: 2, ..limits };
    let create_code = |fields: &str, limits: &Limits| {
        code(create("Z", &format!("{{\"name\":\"Z\"{fields}}}"), None, limits)).0
    };
    assert_eq!(create_code("", &limits), 10113);
    assert_eq!(create_code(r#","num_replicas":3"#, &limits), 10113);
    assert_eq!(create_code(r#","subjects":["a b"]"#, &limits), 10052);
    assert_eq!(create_code(r#","max_bytes":60000"#, &limits), 10122);
    let empty = Limits { account_reserved: Amounts::default(), ..limits };
    assert_eq!(create_code(r#","max_bytes":600,"storage":"memory""#, &empty), 10122);
    // Where the kind of storage is named, what it takes is judged first.
    assert_eq!(create_code(r#","max_bytes":600,"storage":"memory""#, &limits), 10028);
    assert_eq!(create_code(r#","max_bytes":60000,"storage":"file","max_age":-1"#, &limits), 10047);
    assert_eq!(create_code(r#","max_bytes":400,"storage":"memory","max_consumers":9"#, &limits), 10026);
    assert_eq!(create_code(r#","max_bytes":400,"storage":"memory","max_consumers":3"#, &limits), 0);
    assert_eq!(create_code(r#","max_bytes":401,"storage":"memory""#, &limits), 10028);
    assert_eq!(create_code(r#","max_bytes":40001"#, &limits), 10047);
    assert_eq!(create_code(r#","max_bytes":40001,"subjects":["other.a"]"#, &limits), 10047);
    assert_eq!(create_code(r#","max_bytes":400,"max_age":1"#, &full), 10027);
    assert_eq!(create_code(r#","max_bytes":400,"duplicate_window":360000000000"#, &limits), 10052);
    assert_eq!(create_code(r#","max_bytes":400"#, &Limits { account: None, ..limits }), 10120);

    let json = r#"{"name":"Z","max_bytes":40000}"#;
    let old = create("Z", json, None, &limits).unwrap();
    assert_eq!(code(create("Z", json, Some(&old), &full)).0, 0);
    let reserved = Limits { account_reserved: Amounts { memory: 0, storage: 100_000 }, ..full };
    let update =
        |fields: &str| code(update("Z", Some(&old), &format!("{{\"name\":\"Z\"{fields}}}"), &reserved)).0;
    assert_eq!(update(r#","max_bytes":40000"#), 0);
    assert_eq!(update(r#","max_bytes":40001"#), 10047);
    assert_eq!(update(r#","max_bytes":500,"max_consumers":9"#), 10026);
}

#[test]
fn server_bound_of_the_duplicate_window_is_named_and_is_the_default() {
    let limits = Limits { duplicate_window: Nanos::from_secs(60), ..limits() };
    let error = create("Z", r#"{"name":"Z","duplicate_window":360000000000}"#, None, &limits);
    assert_eq!(
        code(error),
        (10052, "duplicates window can not be larger then server limit of 1m0s".to_owned())
    );
    assert_eq!(
        create("Z", r#"{"name":"Z"}"#, None, &limits).unwrap().duplicate_window,
        limits.duplicate_window
    );
}

#[test]
fn clusters_replicate_and_look_at_overlap_before_limits() {
    let account = AccountLimits { max_streams: 1, ..AccountLimits::default() };
    let limits = Limits { clustered: true, streams: 1, account: Some(account), ..limits() };
    let create_code =
        |fields: &str| code(create("Z", &format!("{{\"name\":\"Z\"{fields}}}"), None, &limits)).0;
    assert_eq!(create_code(r#","subjects":["other.a"]"#), 10065);
    assert_eq!(create_code(r#","max_age":1"#), 10052);
    assert_eq!(create_code(r#","num_replicas":3"#), 10027);
    let roomy = Limits { streams: 0, ..limits };
    assert_eq!(create("Z", r#"{"name":"Z","num_replicas":3}"#, None, &roomy).unwrap().num_replicas, 3);
}

#[test]
fn sealed_streams_stay_sealed() {
    let old = create("Z", r#"{"name":"Z","max_age":10000000000}"#, None, &limits()).unwrap();
    let sealed = update("Z", Some(&old), r#"{"name":"Z","sealed":true}"#, &limits()).unwrap();
    assert!(sealed.deny_delete && sealed.deny_purge && sealed.max_age.is_zero());
    for (json, text) in [
        (r#"{"name":"Z"}"#, "stream configuration update can not unseal a sealed stream"),
        (
            r#"{"name":"Z","sealed":true,"max_msgs":5}"#,
            "stream configuration update can not cancel deny message deletes",
        ),
        (
            r#"{"name":"Z","sealed":true,"deny_delete":true,"deny_purge":true,"allow_rollup_hdrs":true}"#,
            "roll-ups require the purge permission",
        ),
    ] {
        assert_eq!(code(update("Z", Some(&sealed), json, &limits())), (10052, text.to_owned()), "{json}");
    }
}

#[test]
fn consumers_above_new_limits_are_named() {
    let old = create("Z", r#"{"name":"Z"}"#, None, &limits()).unwrap();
    let consumer = |max_ack_pending, inactive_secs| ConsumerConfig {
        max_ack_pending,
        inactive_threshold: Nanos::from_secs(inactive_secs),
        ..ConsumerConfig::default()
    };
    let consumers = [("c2", consumer(1000, 0)), ("c1", consumer(1000, 5)), ("c3", consumer(0, 0))];
    let with_limits = |consumer_limits: ConsumerLimits| {
        let request = StreamConfigRequest {
            config: StreamConfig { consumer_limits, ..old.clone() },
            ..StreamConfigRequest::default()
        };
        let each = consumers.iter().map(|(name, config)| (*name, config));
        code(check_update("Z", &request, Some(&old), each, &[][..] as &[StreamConfig], &limits()))
    };
    assert_eq!(
        with_limits(ConsumerLimits { max_ack_pending: 5, ..ConsumerLimits::default() }),
        (10069, "change to limits violates consumers: c1, c2".to_owned())
    );
    assert_eq!(
        with_limits(ConsumerLimits { inactive_threshold: Nanos::from_secs(1), ..ConsumerLimits::default() }),
        (10069, "change to limits violates consumers: c1".to_owned())
    );
    assert_eq!(with_limits(ConsumerLimits::default()), (0, String::new()));
}

/// Features that are refused at create can only be changed by a stream that has them.
#[test]
fn features_can_not_be_switched_off() {
    let old = create("Z", r#"{"name":"Z"}"#, None, &limits()).unwrap();
    for (before, text) in [
        (
            StreamConfig { retention: RetentionPolicy::WorkQueue, ..old.clone() },
            "stream configuration update can not change retention policy to/from workqueue",
        ),
        (StreamConfig { allow_msg_ttl: true, ..old.clone() }, "message TTL status can not be disabled"),
        (StreamConfig { allow_msg_schedules: true, ..old.clone() }, "message schedules can not be disabled"),
        (
            StreamConfig { allow_msg_counter: true, ..old.clone() },
            "stream configuration update can not change message counter setting",
        ),
        (
            StreamConfig { persist_mode: PersistMode::Async, ..old.clone() },
            "stream configuration update can not change persist mode",
        ),
    ] {
        let result = update("Z", Some(&before), r#"{"name":"Z"}"#, &limits());
        assert_eq!(code(result), (10052, text.to_owned()));
    }
    let promoted = StreamConfig { mirror: Some(StreamSource::default()), ..old };
    assert_eq!(code(update("Z", Some(&promoted), r#"{"name":"Z"}"#, &limits())).0, 0);
}

#[test]
fn a_stream_begins_where_sequences_can_follow() {
    let wanted = |seq: u64| format!(r#"{{"name":"S","subjects":["s"],"first_seq":{seq}}}"#);
    assert!(create("S", &wanted(FIRST_SEQ_MAX), None, &limits()).is_ok());
    let refused = create("S", &wanted(FIRST_SEQ_MAX + 1), None, &limits()).unwrap_err();
    assert_eq!(refused, invalid("first sequence is too large"));
}

/// Every stream of a layer takes from every one of the next: there are 20^12 ways through.
#[test]
fn many_ways_through_the_origins_are_followed_in_no_time() {
    let names = |layer: u32| (0..20).map(move |n| format!("L{layer}_{n}"));
    let sources = |layer: u32| {
        names(layer).map(|name| StreamSource { name, ..StreamSource::default() }).collect::<Vec<_>>()
    };
    let layered = (1..12).flat_map(|layer| names(layer).map(move |name| (name, layer)));
    let stream = |name: String, sources| StreamConfig { name, sources, ..StreamConfig::default() };
    let mut others: Vec<StreamConfig> =
        layered.map(|(name, layer)| stream(name, sources(layer + 1))).collect();
    others.extend(names(12).map(|name| stream(name, Vec::new())));
    let request =
        StreamConfigRequest { config: stream("T".to_owned(), sources(1)), ..StreamConfigRequest::default() };
    let judged = |others: &[StreamConfig]| code(check_create("T", &request, None, others, &limits()));
    assert_eq!(judged(&others), (0, String::new()));
    others.last_mut().unwrap().sources =
        vec![StreamSource { name: "T".to_owned(), ..StreamSource::default() }];
    assert_eq!(judged(&others), (10052, "detected cycle".to_owned()));
}
