use proptest::prelude::*;

use super::*;
use crate::policies::{DeliverPolicy, DiscardPolicy};
use crate::requests::{
    ConsumerUnpinRequest, CreateConsumerRequest, MsgGetRequest, StreamListRequest, StreamPurgeRequest,
};
use crate::to_json;

fn stream_error(body: &str) -> String {
    let error = stream_config_request(body.as_bytes(), Strictness::Strict).unwrap_err();
    assert_eq!((error.code, error.err_code), (400, 10025), "{body}");
    error.description.strip_prefix("invalid JSON: ").unwrap().to_owned()
}

fn consumer_error(body: &str) -> String {
    let error = decode_strict::<CreateConsumerRequest>(body.as_bytes()).unwrap_err();
    error.description.strip_prefix("invalid JSON: ").unwrap().to_owned()
}

/// Every text was seen on nats-server 2.15.1 as an answer to `CONSUMER.UNPIN`.
#[test]
fn some_errors_have_other_words() {
    for (body, text) in [
        ("", "unexpected end of JSON input"),
        (r#"{"group":"A""#, "unexpected end of JSON input"),
        ("{bad", "invalid character 'b' looking for beginning of object key string"),
        (r#"{"group":"A"} x"#, "invalid character 'x' after top-level value"),
        (r#"{"group":tru}"#, "invalid character '}' in literal true (expecting 'e')"),
        ("[]", "json: cannot unmarshal array into Go value of type server.JSApiConsumerUnpinRequest"),
    ] {
        let error = decode_whole::<ConsumerUnpinRequest>(body.as_bytes()).unwrap_err();
        assert_eq!((error.err_code, error.description), (10025, format!("invalid JSON: {text}").into()));
    }
    let group = decode_whole::<ConsumerUnpinRequest>(br#"{"group":"A","unknown":1}"#).unwrap().group;
    assert_eq!(group, "A");
}

/// Every text was seen on nats-server 2.15.1.
#[test]
fn errors_have_the_words_of_the_reference_server() {
    for (body, text) in [
        (r#"{"name":"Z","bogus":1}"#, r#"json: unknown field "bogus""#),
        (r#"{"name":"Z","placement":{"bogus":1}}"#, r#"json: unknown field "bogus""#),
        (r#"{"name":"Z","sources":[{"bogus":1}]}"#, r#"json: unknown field "bogus""#),
        (r#"{"name":"Z","consumer_limits":{"bogus":1}}"#, r#"json: unknown field "bogus""#),
        (r#"{"name":"Z","bogus":{"x":[1,2]},"max_msgs":"x"}"#, r#"json: unknown field "bogus""#),
        (
            r#"{"name":"Z","max_msgs":"x","bogus":1}"#,
            "json: cannot unmarshal string into Go struct field StreamConfigRequest.max_msgs of type int64",
        ),
        (r#"{"name":"Z",}"#, "invalid character '}' looking for beginning of object key string at offset 13"),
        (r#"{"name":"Z""#, "unexpected EOF"),
        (r#"{"seq":01}"#, "invalid character '1' after object key:value pair at offset 9"),
        (r#"{"seq":-}"#, "invalid character '}' in numeric literal at offset 9"),
        (r#"{"seq":1.}"#, "invalid character '}' in numeric literal at offset 10"),
        (r#"{"seq":tru}"#, "invalid character '}' in literal true (expecting 'e') at offset 11"),
        (r#"{"seq":"\x"}"#, r"invalid escape sequence `\x` in string at offset 10"),
        (r#"{"seq":"\u12"}"#, "invalid escape sequence `\\u12\"}` in string at offset 14"),
        (r#"{"seq" 1}"#, "invalid character '1' after object key at offset 8"),
        (r#"{"a":[1 2]}"#, "invalid character '2' after array element at offset 9"),
        (r#"{"a":"#, "unexpected EOF"),
        (r#"{"name":"Z"} x"#, "invalid character 'x' looking for beginning of value at offset 14"),
        ("xyz", "invalid character 'x' looking for beginning of value at offset 1"),
        ("{'a'}", r"invalid character '\'' looking for beginning of object key string at offset 2"),
        ("{\"name\":\"a\nb\"}", r"invalid character '\n' in string at offset 11"),
        ("[]", "json: cannot unmarshal array into Go value of type server.StreamConfigRequest"),
        (r#""x""#, "json: cannot unmarshal string into Go value of type server.StreamConfigRequest"),
        (
            r#"{"name":5}"#,
            "json: cannot unmarshal number into Go struct field StreamConfigRequest.name of type string",
        ),
        (
            r#"{"max_msgs":1.5}"#,
            "json: cannot unmarshal number 1.5 into Go struct field StreamConfigRequest.max_msgs of type int64",
        ),
        (
            r#"{"max_msgs":1e3}"#,
            "json: cannot unmarshal number 1e3 into Go struct field StreamConfigRequest.max_msgs of type int64",
        ),
        (
            r#"{"max_msg_size":3000000000}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field \
             StreamConfigRequest.max_msg_size of type int32",
        ),
        (
            r#"{"first_seq":-1}"#,
            "json: cannot unmarshal number -1 into Go struct field StreamConfigRequest.first_seq of type uint64",
        ),
        (
            r#"{"placement":{"cluster":1}}"#,
            "json: cannot unmarshal number into Go struct field \
             StreamConfigRequest.placement.cluster of type string",
        ),
        (
            r#"{"subjects":[1]}"#,
            "json: cannot unmarshal number into StreamConfigRequest.subjects.0 of type string",
        ),
        (
            r#"{"subjects":"x"}"#,
            "json: cannot unmarshal string into Go struct field StreamConfigRequest.subjects of type []string",
        ),
        (
            r#"{"metadata":{"a":1}}"#,
            "json: cannot unmarshal number into Go struct field StreamConfigRequest.metadata.a of type string",
        ),
        (
            r#"{"sources":[{"name":1}]}"#,
            "json: cannot unmarshal number into Go struct field StreamConfigRequest.sources.0.name of type string",
        ),
        (
            r#"{"no_ack":1}"#,
            "json: cannot unmarshal number into Go struct field StreamConfigRequest.no_ack of type bool",
        ),
        (
            r#"{"max_age":"1s"}"#,
            "json: cannot unmarshal string into Go struct field StreamConfigRequest.max_age of type time.Duration",
        ),
        (r#"{"retention":"foo"}"#, r#"can not unmarshal "\"foo\"""#),
        (r#"{"retention":"Limits"}"#, r#"can not unmarshal "\"Limits\"""#),
        (r#"{"retention":5}"#, r#"can not unmarshal "5""#),
        (r#"{"retention":null}"#, r#"can not unmarshal "null""#),
        (r#"{"storage":"FILE"}"#, r#"can not unmarshal "\"FILE\"""#),
        (r#"{"discard":"disk"}"#, r#"can not unmarshal "\"disk\"""#),
        (r#"{"compression":"S2"}"#, "unknown compression algorithm"),
        (r#"{"persist_mode":"zz"}"#, r#"can not unmarshal "\"zz\"""#),
        (
            r#"{"sources":[{"opt_start_time":"x"}]}"#,
            r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#,
        ),
    ] {
        assert_eq!(stream_error(body), text, "{body}");
    }
    for (body, text) in [
        (r#"{"config":{"ack_policy":"foo"}}"#, r#"can not unmarshal "\"foo\"""#),
        (r#"{"config":{"deliver_policy":""}}"#, r#"can not unmarshal "\"\"""#),
        (r#"{"config":{"deliver_policy":"All"}}"#, r#"can not unmarshal "\"All\"""#),
        (r#"{"config":{"priority_policy":"foo"}}"#, r#"unknown priority policy: "foo""#),
        (r#"{"action":"zap"}"#, r#"unknown consumer action: "zap""#),
        (r#"{"action":5}"#, "unknown consumer action: 5"),
        (
            r#"{"config":{"ack_wait":"x"}}"#,
            "json: cannot unmarshal string into Go struct field \
             CreateConsumerRequest.config.ack_wait of type time.Duration",
        ),
        (
            r#"{"config":{"backoff":[1,"x"]}}"#,
            "json: cannot unmarshal string into CreateConsumerRequest.config.backoff.1 of type time.Duration",
        ),
    ] {
        assert_eq!(consumer_error(body), text, "{body}");
    }
}

#[test]
fn fields_match_in_any_case_the_last_wins_and_null_is_unset() {
    let decode = |body: &str| stream_config_request(body.as_bytes(), Strictness::Strict).unwrap().value;
    assert_eq!(decode(r#"{"NAME":"Z","Max_Msgs":5}"#).config.max_msgs, 5);
    assert_eq!(decode(r#"{"max_msgs":1,"max_msgs":2}"#).config.max_msgs, 2);
    assert_eq!(decode(r#"{"subjects":null,"max_msgs":null,"placement":null}"#), decode("{}"));
    assert_eq!(decode(r#"{"discard":"NEW"}"#).config.discard, DiscardPolicy::New);
    assert!(decode(r#"{"name":"Z","Pedantic":true}"#).pedantic);
    assert_eq!(decode("null"), decode(" "));
    let consumer: CreateConsumerRequest =
        decode_strict(br#"{"config":{"deliver_policy":"undefined","opt_start_seq":18446744073709551615}}"#)
            .unwrap();
    assert_eq!(consumer.config.deliver_policy, DeliverPolicy::All);
    assert_eq!(consumer.config.opt_start_seq, u64::MAX);
}

#[test]
fn strings_are_unescaped_and_repaired() {
    let subject = |body: &[u8]| decode_strict::<StreamListRequest>(body).unwrap().subject;
    assert_eq!(subject(br#"{"subject":"a\u003e\"\\\/\b\f\n\r\t\ud83d\ude00"}"#), "a>\"\\/\u{8}\u{c}\n\r\t😀");
    assert_eq!(subject(br#"{"subject":"\ud83dx\ude00"}"#), "\u{fffd}x\u{fffd}");
    assert_eq!(subject(b"{\"subject\":\"\xff\"}"), "\u{fffd}");
}

#[test]
fn unknown_fields_are_collected_when_lenient() {
    let decoded =
        stream_config_request(br#"{"name":"Z","x":{"y":1},"sources":[{"z":1}]}"#, Strictness::Lenient)
            .unwrap();
    assert_eq!(decoded.unknown, ["x", "z"]);
    assert_eq!(decoded.value.config.name, "Z");
}

#[test]
fn depth_and_size_are_bounded() {
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    assert_eq!(stream_error(&deep), "exceeded max depth");
    let large = format!("\"{}\"", "x".repeat(BODY_MAX));
    assert_eq!(stream_error(&large), "request too large");
    assert!(!is_empty_request(large.as_bytes()));
}

#[test]
fn bodies_that_may_be_absent_are_ignored_unless_they_are_json() {
    let decode = |body: &str| {
        decode_optional::<StreamPurgeRequest>(body.as_bytes(), Strictness::Strict).map(|d| d.value)
    };
    for body in ["", " ", "x", "5", "\"\"", "null"] {
        assert_eq!(decode(body).unwrap(), StreamPurgeRequest::default(), "{body}");
    }
    assert_eq!(decode(" {\"keep\":3}").unwrap().keep, 3);
    assert_eq!(decode("[]").unwrap_err().err_code, 10025);
    assert_eq!(decode("{").unwrap_err().err_code, 10025);
}

#[test]
fn emptiness_of_bodies() {
    for body in ["", "{}", " { } "] {
        assert!(require_empty(body.as_bytes()).is_ok(), "{body}");
        assert_eq!(require_body(body.as_bytes()), Err(errors::BAD_REQUEST), "{body}");
    }
    for body in ["x", "  ", "[]", "{\"a\":1}", "{", "null"] {
        assert_eq!(require_empty(body.as_bytes()), Err(errors::NOT_EMPTY_REQUEST), "{body}");
        assert!(require_body(body.as_bytes()).is_ok(), "{body}");
    }
}

#[test]
fn next_requests_are_numbers_or_json_or_one() {
    let batch = |body: &str| next_request(body.as_bytes()).unwrap().batch;
    for (body, expected) in
        [("", 1), ("7", 7), (" 7 ", 7), ("zz", 1), ("-3", -3), ("{}", 0), ("{\"batch\":9,\"bogus\":1}", 9)]
    {
        assert_eq!(batch(body), expected, "{body}");
    }
    assert_eq!(
        next_request(b"{\"batch\":\"x\"}").unwrap_err(),
        "json: cannot unmarshal string into Go struct field .batch of type int"
    );
}

#[test]
fn api_levels_are_compared() {
    for ok in [None, Some("0"), Some("5"), Some("-1"), Some("")] {
        assert!(check_required_api_level(ok).is_ok(), "{ok:?}");
    }
    for bad in ["6", "x"] {
        assert_eq!(check_required_api_level(Some(bad)), Err(errors::REQUIRED_API_LEVEL), "{bad}");
    }
}

proptest! {
    #[test]
    fn any_body_is_decoded_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = stream_config_request(&body, Strictness::Strict);
        let _ = decode_strict::<CreateConsumerRequest>(&body);
        let _ = next_request(&body);
        let _ = is_empty_request(&body);
    }

    #[test]
    fn any_json_like_body_is_decoded_or_refused(
        body in r#"(\{|\[|\}|\]|"|:|,|\\|u00|name|max_msgs|config|null|true|1|-|e|\.| ){0,60}"#
    ) {
        let _ = stream_config_request(body.as_bytes(), Strictness::Lenient);
        let _ = decode_strict::<CreateConsumerRequest>(body.as_bytes());
    }

    /// What serde_json reads, this reads; both agree on what is JSON.
    #[test]
    fn the_scanner_agrees_with_serde_json(
        body in r#"[ \[\]{}:,"0-9a-e.+\-\\untrfals]{0,40}"#
    ) {
        let reference = serde_json::from_str::<serde_json::Value>(&body);
        let lone_surrogate_or_huge = body.contains("\\u") || body.contains('e');
        prop_assume!(!lone_surrogate_or_huge);
        prop_assert_eq!(scan::parse(body.as_bytes()).is_ok(), reference.is_ok(), "{}", body);
    }

    #[test]
    fn requests_round_trip(seq: u64, subject in ".*", no_hdr: bool, batch: i64) {
        let request = MsgGetRequest { seq, last_by_subj: subject, no_hdr, batch, ..MsgGetRequest::default() };
        prop_assert_eq!(decode_strict::<MsgGetRequest>(&to_json(&request)).unwrap(), request);
    }
}
