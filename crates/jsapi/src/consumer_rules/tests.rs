use super::*;
use crate::consumer_config::ConsumerConfig;
use crate::errors::ApiError;
use crate::info::AccountLimits;
use crate::limits::Limits;
use crate::policies::RetentionPolicy;
use crate::requests::CreateConsumerRequest;
use crate::stream_config::{ConsumerLimits, StreamConfig};
use crate::subjects::ApiRequest;
use crate::testdata::rows;
use crate::time::Nanos;
use crate::{decode_strict, to_json};

fn stream(name: &str) -> StreamConfig {
    let base = StreamConfig {
        name: name.to_owned(),
        subjects: vec![format!("{}.>", name.to_lowercase())],
        max_consumers: -1,
        num_replicas: 1,
        ..StreamConfig::default()
    };
    match name {
        "S" => base,
        "W" => StreamConfig { retention: RetentionPolicy::WorkQueue, ..base },
        "I" => StreamConfig { retention: RetentionPolicy::Interest, ..base },
        "MC" => StreamConfig { max_consumers: 1, ..base },
        "LIM" => StreamConfig {
            consumer_limits: ConsumerLimits { inactive_threshold: Nanos::from_secs(10), max_ack_pending: 20 },
            ..base
        },
        other => panic!("no stream {other}"),
    }
}

/// Runs a request the way a handler does; the result is the configuration the consumer then has.
fn run(
    subject: &str,
    request: &CreateConsumerRequest,
    stream: &StreamConfig,
    consumers: &[ConsumerConfig],
    limits: &Limits,
) -> Result<ConsumerConfig, ApiError> {
    let subject = format!("$JS.API.CONSUMER.{subject}");
    let call = ApiRequest::parse(&subject);
    let mut request = request.clone();
    apply_subject_form(&mut request, call.stream().unwrap(), SubjectForm::of(&call).unwrap())?;
    let existing = consumers.iter().find(|c| c.name == request.config.name);
    let existing_consumer = existing.map(|config| ExistingConsumer { config, has_interest: false });
    Ok(match check_create(&request, existing_consumer, stream, consumers, limits)? {
        ConsumerCreate::New(config) | ConsumerCreate::Update(config) => *config,
        ConsumerCreate::Same => existing.unwrap().clone(),
    })
}

#[test]
fn requests_end_as_on_the_reference_server() {
    let table = rows(include_str!("../../testdata/consumer_rules.txt"));
    assert!(table.len() > 200);
    let limits = Limits::unlimited();
    for row in &table {
        let stream = stream(&row[1]);
        let mut consumers: Vec<ConsumerConfig> = Vec::new();
        for config in serde_json::from_str::<Vec<ConsumerConfig>>(&row[2]).unwrap() {
            let request = CreateConsumerRequest {
                stream: stream.name.clone(),
                config,
                ..CreateConsumerRequest::default()
            };
            let subject = format!("CREATE.{}.{}", stream.name, request.config.name);
            consumers.push(run(&subject, &request, &stream, &consumers, &limits).unwrap());
        }
        let request: CreateConsumerRequest = decode_strict(row[3].as_bytes()).unwrap();
        match run(&row[0], &request, &stream, &consumers, &limits) {
            Ok(config) => {
                let json = String::from_utf8(to_json(&config)).unwrap().replace("\\u003e", ">");
                assert_eq!(row[4..], ["ok".to_owned(), json], "{row:?}");
            }
            Err(error) => {
                let outcome = [error.err_code.to_string(), error.description.to_string()];
                assert_eq!(row[4..], outcome, "{row:?}");
            }
        }
    }
}

fn code(json: &str, stream: &StreamConfig, consumers: &[ConsumerConfig], limits: &Limits) -> (u16, String) {
    let request = CreateConsumerRequest {
        stream: stream.name.clone(),
        config: decode_strict(json.as_bytes()).unwrap(),
        ..CreateConsumerRequest::default()
    };
    let result = run(&format!("CREATE.{}.c", stream.name), &request, stream, consumers, limits);
    result.err().map(|e| (e.err_code, e.description.into_owned())).unwrap_or_default()
}

/// The limits and results of an account on the reference server.
#[test]
fn server_and_account_limits_are_kept() {
    let account = AccountLimits { max_consumers: 3, max_ack_pending: 50, ..AccountLimits::default() };
    let limits =
        Limits { max_request_batch: 100, max_ack_pending: 70, account: Some(account), ..Limits::unlimited() };
    let s = stream("S");
    let excess = |bound| (10121, format!("consumer max ack pending exceeds system limit of {bound}"));
    let code_of = |json: &str| code(json, &s, &[], &limits);
    assert_eq!(code_of(r#"{"ack_policy":"explicit","max_ack_pending":60}"#), excess(50));
    assert_eq!(code_of(r#"{"ack_policy":"explicit","max_ack_pending":80}"#), excess(70));
    assert_eq!(code_of(r#"{"max_ack_pending":80}"#), excess(70));
    assert_eq!(code_of(r#"{"ack_policy":"explicit","max_ack_pending":-1}"#).0, 0);
    assert_eq!(
        code_of(r#"{"max_batch":101}"#),
        (10125, "consumer max request batch exceeds server limit of 100".to_owned())
    );
    let config = decode_strict(br#"{"ack_policy":"explicit"}"#).unwrap();
    let normalised = normalize_and_check(&config, &s, &limits, false).unwrap();
    assert_eq!((normalised.max_ack_pending, normalised.max_batch), (50, 100));

    let three = vec![ConsumerConfig::default(); 3];
    assert_eq!(code("{}", &s, &three, &limits).0, 10026);
    assert_eq!(code("{}", &s, &three[..2], &limits).0, 0);
    assert_eq!(code("{}", &s, &[], &Limits { account: None, ..limits }).0, 10120);
}

/// No limit is inherited as it stands, and a pedantic request need not name it (seen on nats-server 2.15.1).
#[test]
fn a_stream_may_take_limits_away() {
    let consumer_limits = ConsumerLimits { inactive_threshold: Nanos(-1), max_ack_pending: -5 };
    let s = StreamConfig { consumer_limits, ..stream("S") };
    let config = decode_strict(br#"{"ack_policy":"explicit"}"#).unwrap();
    for pedantic in [false, true] {
        let normalised = normalize_and_check(&config, &s, &Limits::unlimited(), pedantic).unwrap();
        assert_eq!(
            (normalised.max_ack_pending, normalised.inactive_threshold),
            (-5, Nanos(-1)),
            "{pedantic}"
        );
    }
}

/// A stream without a limit of its own takes what the server allows by default (seen on nats-server 2.15.1).
#[test]
fn a_stream_without_a_limit_of_consumers_has_the_servers() {
    let limits = Limits { default_max_consumers: 2, ..Limits::unlimited() };
    let two = vec![ConsumerConfig::default(); 2];
    let of = |max_consumers| StreamConfig { max_consumers, ..stream("S") };
    assert_eq!(code("{}", &of(-1), &two, &limits).0, 10026);
    assert_eq!(code("{}", &of(-1), &two[..1], &limits).0, 0);
    assert_eq!(code("{}", &of(3), &two, &limits).0, 0);
    assert_eq!(code("{}", &of(-1), &vec![ConsumerConfig::default(); 5000], &Limits::unlimited()).0, 0);
    let account = AccountLimits { max_consumers: 4, ..AccountLimits::default() };
    let with_account = Limits { account: Some(account), ..limits };
    assert_eq!(code("{}", &of(-1), &vec![ConsumerConfig::default(); 3], &with_account).0, 0);
    assert_eq!(code("{}", &of(-1), &vec![ConsumerConfig::default(); 4], &with_account).0, 10026);
}

#[test]
fn replicas_follow_the_stream() {
    let clustered = Limits { clustered: true, ..Limits::unlimited() };
    let three = |name| StreamConfig { num_replicas: 3, ..stream(name) };
    let code_of = |json: &str, stream: &StreamConfig| code(json, stream, &[], &clustered).0;
    assert_eq!(code_of(r#"{"num_replicas":3}"#, &stream("S")), 10126);
    assert_eq!(code_of(r#"{"num_replicas":1}"#, &three("S")), 0);
    assert_eq!(code_of(r#"{"num_replicas":1}"#, &three("I")), 10134);
    assert_eq!(code_of(r#"{"num_replicas":3}"#, &three("I")), 0);
}

#[test]
fn rules_that_subjects_and_defaults_hide() {
    let s = stream("S");
    let refused = |json: &str| {
        let config = decode_strict(json.as_bytes()).unwrap();
        let error = normalize_and_check(&config, &s, &Limits::unlimited(), false).unwrap_err();
        (error.err_code, error.description.into_owned())
    };
    assert_eq!(refused(r#"{"durable_name":"a","name":"b"}"#).0, 10132);
    assert_eq!(
        refused(r#"{"durable_name":"a.b"}"#),
        (10052, r"consumer durable name can not contain '.', '*', '>', '\', '/'".to_owned())
    );
    assert_eq!(refused(r#"{"rate_limit_bps":5}"#).0, 10086);
    assert_eq!(refused(r#"{"direct":true}"#).0, 10090);
    assert_eq!(refused(r#"{"direct":true,"deliver_subject":"d","durable_name":"a"}"#).0, 10091);
}

#[test]
fn deliver_subject_moves_only_away_from_nobody() {
    let s = stream("S");
    let config = decode_strict(br#"{"durable_name":"c","name":"c","deliver_subject":"d"}"#).unwrap();
    let old = normalize_and_check(&config, &s, &Limits::unlimited(), false).unwrap();
    let request = CreateConsumerRequest {
        stream: "S".to_owned(),
        config: ConsumerConfig { deliver_subject: "e".to_owned(), ..config },
        ..CreateConsumerRequest::default()
    };
    let check = |has_interest| {
        let existing = Some(ExistingConsumer { config: &old, has_interest });
        check_create(&request, existing, &s, std::slice::from_ref(&old), &Limits::unlimited())
    };
    assert_eq!(check(true).unwrap_err().err_code, 10013);
    assert!(matches!(check(false), Ok(ConsumerCreate::Update(config)) if config.deliver_subject == "e"));
}
