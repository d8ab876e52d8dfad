use super::*;

fn stream(name: &str) -> StreamHealth {
    StreamHealth { name: name.to_owned(), ..StreamHealth::default() }
}

/// A server with JetStream on which everything is well: account `A` with `S` and `T`, account `E` without streams.
fn healthy() -> Snapshot {
    Snapshot {
        jetstream_configured: true,
        jetstream_running: true,
        accounts: vec![
            AccountHealth { name: "A".to_owned(), streams: vec![stream("S"), stream("T")] },
            AccountHealth { name: "E".to_owned(), streams: Vec::new() },
        ],
        ..Snapshot::default()
    }
}

fn with(change: impl FnOnce(&mut Snapshot)) -> Snapshot {
    let mut snapshot = healthy();
    change(&mut snapshot);
    snapshot
}

/// `account/stream/consumer` and switches after a blank.
fn query(text: &str) -> Query {
    let (names, switches) = text.split_once(' ').unwrap_or((text, ""));
    let mut names = names.split('/').map(str::to_owned);
    let mut name = || names.next().unwrap_or_default();
    Query {
        account: name(),
        stream: name(),
        consumer: name(),
        js_enabled_only: switches.contains("enabled"),
        js_server_only: switches.contains("server"),
        details: switches.contains("details"),
    }
}

fn told(snapshot: &Snapshot, text: &str) -> (u16, String) {
    let answer = evaluate(snapshot, &query(text));
    (answer.code, serde_json::to_string(&answer.body).unwrap())
}

const OK: &str = "{\"status\":\"ok\"}";

#[test]
fn every_branch_answers_in_nats_servers_words() {
    let starting = with(|s| s.closed_listeners = vec!["server".to_owned(), "route(in use)".to_owned()]);
    let off = with(|s| (s.jetstream_configured, s.jetstream_running) = (false, false));
    let not_running = with(|s| s.jetstream_running = false);
    let lost = with(|s| s.accounts[0].streams[1].not_recovered = true);
    let failed = with(|s| s.accounts[0].streams[0].write_error = Some("no space".to_owned()));
    let unnamed = with(|s| s.unnamed_groups = vec!["G1".to_owned()]);
    let present = with(|s| s.consumer = Presence::Present);
    let absent = with(|s| s.consumer = Presence::Absent);
    let silent = with(|s| s.consumer = Presence::Unknown);
    let both = with(|s| {
        s.accounts[0].streams[0].write_error = Some("no space".to_owned());
        s.accounts[0].streams[1].not_recovered = true;
    });
    let table: &[(&Snapshot, &str, u16, &str)] = &[
        (&healthy(), "", 200, OK),
        (&healthy(), " details", 200, OK),
        // The question itself comes first.
        (
            &starting,
            "/S server",
            400,
            r#"{"status":"error","error":"\"account\" must not be empty when checking stream health"}"#,
        ),
        (
            &healthy(),
            "/S details",
            400,
            r#"{"status":"error","errors":[{"type":"BAD_REQUEST","error":"\"account\" must not be empty when checking stream health"}]}"#,
        ),
        (
            &healthy(),
            "A//C",
            400,
            r#"{"status":"error","error":"\"stream\" must not be empty when checking consumer health"}"#,
        ),
        // Listeners.
        (
            &starting,
            " server",
            500,
            r#"{"status":"error","error":"failed to be ready for connections after 1ms: server, route(in use)"}"#,
        ),
        (
            &starting,
            " details",
            500,
            r#"{"status":"error","errors":[{"type":"CONNECTION","error":"failed to be ready for connections after 1ms: server, route(in use)"}]}"#,
        ),
        (&not_running, " server", 200, OK),
        // JetStream.
        (&off, "", 200, OK),
        (&off, "A/NO", 200, OK),
        (&not_running, "", 503, r#"{"status":"unavailable","error":"JetStream not enabled (10076)"}"#),
        (
            &not_running,
            " enabled details",
            503,
            r#"{"status":"error","errors":[{"type":"JETSTREAM","error":"JetStream not enabled (10076)"}]}"#,
        ),
        (&both, " enabled", 200, OK),
        (
            &unnamed,
            "",
            503,
            r#"{"status":"unavailable","error":"JetStream group G1 could not be recovered: no catalogue entry names its stream"}"#,
        ),
        (
            &unnamed,
            " details",
            503,
            r#"{"status":"error","errors":[{"type":"JETSTREAM","error":"JetStream group G1 could not be recovered: no catalogue entry names its stream"}]}"#,
        ),
        (&unnamed, " enabled", 200, OK),
        (&unnamed, "A/S", 200, OK),
        // Names.
        (&healthy(), "E", 200, OK),
        (&healthy(), "A/S", 200, OK),
        (
            &healthy(),
            "NOPE",
            404,
            r#"{"status":"unavailable","error":"JetStream account \"NOPE\" not found"}"#,
        ),
        (
            &healthy(),
            "NOPE/S details",
            404,
            r#"{"status":"error","errors":[{"type":"ACCOUNT","account":"NOPE","error":"JetStream account \"NOPE\" not found"}]}"#,
        ),
        (
            &healthy(),
            "A/NO/C",
            404,
            r#"{"status":"unavailable","error":"JetStream stream \"NO\" not found on account \"A\""}"#,
        ),
        (&present, "A/S/C", 200, OK),
        (
            &absent,
            "A/S/C",
            404,
            r#"{"status":"unavailable","error":"JetStream consumer \"C\" not found for stream \"S\" on account \"A\""}"#,
        ),
        (
            &absent,
            "A/S/C details",
            404,
            r#"{"status":"error","errors":[{"type":"CONSUMER","account":"A","stream":"S","consumer":"C","error":"JetStream consumer \"C\" not found for stream \"S\" on account \"A\""}]}"#,
        ),
        (
            &silent,
            "A/S/C",
            503,
            r#"{"status":"unavailable","error":"JetStream consumer 'A > S > C' is not current: stream does not answer"}"#,
        ),
        // Streams.
        (
            &lost,
            "",
            503,
            r#"{"status":"unavailable","error":"JetStream stream 'A > T' could not be recovered"}"#,
        ),
        (&lost, "A/S", 200, OK),
        (&lost, "E", 200, OK),
        (
            &lost,
            "A/T/C",
            503,
            r#"{"status":"unavailable","error":"JetStream stream 'A > T' could not be recovered"}"#,
        ),
        (
            &failed,
            "A",
            503,
            r#"{"status":"unavailable","error":"JetStream stream 'A > S' write error: no space"}"#,
        ),
        (
            &both,
            " details",
            503,
            r#"{"status":"error","errors":[{"type":"STREAM","account":"A","stream":"S","error":"JetStream stream 'A > S' write error: no space"},{"type":"STREAM","account":"A","stream":"T","error":"JetStream stream 'A > T' could not be recovered"}]}"#,
        ),
    ];
    for (snapshot, query, code, body) in table {
        assert_eq!(told(snapshot, query), (*code, (*body).to_owned()), "query {query:?} on {snapshot:?}");
    }
}

#[test]
fn damaged_messages_are_told_and_leave_the_server_healthy() {
    let damaged = with(|s| {
        s.accounts[0].streams[0].damaged = 3;
        s.accounts[0].streams[0].damaged_seqs = vec![5, 9];
    });
    assert_eq!(told(&damaged, ""), (200, OK.to_owned()));
    assert_eq!(told(&damaged, "A/T details"), (200, OK.to_owned()));
    assert_eq!(
        told(&damaged, "A/S details"),
        (
            200,
            r#"{"status":"ok","damaged":[{"account":"A","stream":"S","messages":3,"sequences":[5,9]}]}"#
                .to_owned()
        )
    );
}

#[test]
fn what_logs_have_lost_is_told_and_leaves_the_server_healthy() {
    let damaged = with(|s| {
        s.accounts[0].streams[0].losses = vec!["entry 5".to_owned()];
        s.may_lack_streams = Some("/store/note".to_owned());
    });
    assert_eq!(told(&damaged, ""), (200, OK.to_owned()));
    let lost = r#""lost":[{"account":"A","stream":"S","reasons":["entry 5"]}]"#;
    let warnings = r#""warnings":["JetStream streams may be missing of which nothing is left; remove /store/note when that is dealt with"]"#;
    assert_eq!(told(&damaged, "A/S details"), (200, format!(r#"{{"status":"ok",{lost}}}"#)));
    assert_eq!(told(&damaged, " details"), (200, format!(r#"{{"status":"ok",{lost},{warnings}}}"#)));
}
