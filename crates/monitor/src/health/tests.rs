use std::time::Duration;

use linnet_ids::PeerId;
use linnet_jetstream::{MetaLeader, MetaPeer, MetaPhase, Stall};

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
        js_meta_only: switches.contains("meta"),
        details: switches.contains("details"),
    }
}

fn told(snapshot: &Snapshot, text: &str) -> (u16, String) {
    let answer = evaluate(snapshot, &query(text));
    (answer.code, serde_json::to_string(&answer.body).unwrap())
}

const OK: &str = "{\"status\":\"ok\"}";

#[test]
fn streams_that_the_cluster_does_not_know_are_a_warning() {
    let mut snapshot = healthy();
    snapshot.orphans = vec!["JetStream stream 'A > S' is alone".to_owned()];
    let query = |details| Query { details, ..Query::default() };
    let answer = evaluate(&snapshot, &query(true));
    assert_eq!((answer.code, answer.body.warnings), (200, snapshot.orphans.clone()));
    assert!(evaluate(&snapshot, &query(false)).body.warnings.is_empty());
}

#[test]
fn every_branch_answers_in_nats_servers_words() {
    let starting = with(|s| s.closed_listeners = vec!["server".to_owned(), "route(in use)".to_owned()]);
    let off = with(|s| (s.jetstream_configured, s.jetstream_running) = (false, false));
    let not_running = with(|s| s.jetstream_running = false);
    let lost = with(|s| s.accounts[0].streams[1].not_recovered = true);
    let failed = with(|s| s.accounts[0].streams[0].write_error = Some("no space".to_owned()));
    let behind = with(|s| s.accounts[0].streams[1].not_current = Some("stream catching up".to_owned()));
    let absent_here = with(|s| {
        s.accounts[0].streams[0].not_current = Some("stream not found".to_owned());
        s.accounts[0].streams[1].not_current = Some("group node unhealthy".to_owned());
    });
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
        // Replicas of a cluster's streams.
        (
            &behind,
            "",
            503,
            r#"{"status":"unavailable","error":"JetStream stream 'A > T' is not current: stream catching up"}"#,
        ),
        (&behind, "A/S", 200, OK),
        (&behind, " server", 200, OK),
        (
            &absent_here,
            "",
            503,
            r#"{"status":"unavailable","error":"JetStream stream 'A > S' is not current: stream not found"}"#,
        ),
        (
            &absent_here,
            " details",
            503,
            r#"{"status":"error","errors":[{"type":"STREAM","account":"A","stream":"S","error":"JetStream stream 'A > S' is not current: stream not found"},{"type":"STREAM","account":"A","stream":"T","error":"JetStream stream 'A > T' is not current: group node unhealthy"}]}"#,
        ),
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

/// A server of a healthy cluster of three.
fn clustered(change: impl FnOnce(&mut MetaStatus)) -> Snapshot {
    let peer = |name: &str| MetaPeer {
        name: name.to_owned(),
        peer: PeerId::of_name(name),
        is_current: true,
        is_offline: false,
        is_reachable: true,
        active: Duration::ZERO,
        unheard: Duration::from_millis(7_200),
        lag: 0,
        is_pending: false,
    };
    let mut status = MetaStatus {
        phase: MetaPhase::Member,
        hears_somebody: true,
        leader: Some(MetaLeader { name: "n2".to_owned(), peer: PeerId::of_name("n2") }),
        is_current: true,
        peers: vec![peer("n2"), peer("n3")],
        size: 3,
        quorum: 2,
        ..MetaStatus::default()
    };
    change(&mut status);
    with(|s| s.meta = Some(Arc::new(status)))
}

#[test]
fn the_meta_group_is_judged_before_assets_and_in_nats_servers_words() {
    let recovering = clustered(|m| *m = MetaStatus::default());
    let waiting = clustered(|m| {
        *m = MetaStatus::default();
        m.hears_somebody = true;
        m.missing = vec![("n3".to_owned(), Duration::from_millis(12_900))];
    });
    let leaderless = clustered(|m| (m.leader, m.is_current) = (None, false));
    let behind = clustered(|m| m.is_current = false);
    let apart = clustered(|m| m.strangers = vec!["n8".to_owned(), "n9".to_owned()]);
    let (code, said) = told(&apart, " details");
    assert_eq!(code, 200, "what was there before is served");
    assert!(said.contains(
        "another JetStream meta group are connected, which was founded apart from this one: n8, n9"
    ));
    let joining = clustered(|m| (m.phase, m.is_current) = (MetaPhase::Joining, false));
    let stopped = clustered(|m| m.phase = MetaPhase::Stopped);
    let unwritable = clustered(|m| {
        m.write_error = Some("no space".to_owned());
        m.apply_error = Some("odd".to_owned());
        m.phase = MetaPhase::Stopped;
    });
    let odd = clustered(|m| (m.apply_error, m.leader) = (Some("odd".to_owned()), None));
    let leading = clustered(|m| (m.is_leader, m.is_current) = (true, true));
    let table: &[(&Snapshot, Option<&str>)] = &[
        (&clustered(|_| {}), None),
        (&leading, None),
        (&recovering, Some("JetStream is still recovering meta layer")),
        (&waiting, Some("JetStream has not established contact with a meta leader")),
        (&leaderless, Some("JetStream has not established contact with a meta leader")),
        (&behind, Some("JetStream is not current with the meta leader")),
        (&joining, Some("JetStream is not current with the meta leader")),
        (&stopped, Some("JetStream meta layer is not running")),
        (&unwritable, Some("JetStream meta layer write error: no space")),
        (&odd, Some("JetStream meta layer apply error: odd")),
    ];
    for (snapshot, problem) in table {
        let expected = match problem {
            None => (200, OK.to_owned()),
            Some(text) => (503, format!("{{\"status\":\"unavailable\",\"error\":\"{text}\"}}")),
        };
        for asked in ["", "A/S", " meta"] {
            assert_eq!(told(snapshot, asked), expected, "{asked:?}");
        }
        for asked in [" server", " enabled"] {
            assert_eq!(told(snapshot, asked), (200, OK.to_owned()), "{asked:?}");
        }
    }
    let mut lost = clustered(|_| {});
    lost.accounts[0].streams[0].not_recovered = true;
    assert_eq!(told(&lost, "").0, 503);
    assert_eq!(told(&lost, " meta"), (200, OK.to_owned()), "assets are not asked about");
    lost.meta = None;
    assert_eq!(told(&lost, " meta").0, 503, "without a cluster there is nothing to stop at");
}

#[test]
fn details_say_who_is_not_there() {
    let waiting = clustered(|m| {
        *m = MetaStatus::default();
        m.missing = vec![
            ("n3".to_owned(), Duration::from_millis(12_900)),
            ("the server at h:1".to_owned(), Duration::from_secs(2)),
        ];
    });
    assert_eq!(
        told(&waiting, " details").1,
        concat!(
            r#"{"status":"error","errors":[{"type":"JETSTREAM","error":"JetStream is still recovering meta layer"}],"#,
            r#""warnings":["Waiting for n3 (12 s), the server at h:1 (2 s) before the JetStream meta group is founded"]}"#,
        )
    );
    let alone = clustered(|m| {
        (m.leader, m.is_current) = (None, false);
        m.peers.iter_mut().for_each(|peer| peer.is_reachable = false);
    });
    assert_eq!(
        told(&alone, " details").1,
        concat!(
            r#"{"status":"error","errors":[{"type":"JETSTREAM","error":"#,
            r#""JetStream has not established contact with a meta leader"}],"#,
            r#""warnings":["Members of the JetStream meta group that cannot be heard: n2 (for 7 s), n3 (for 7 s); 2 of 3 are needed"]}"#,
        )
    );
    let joining = clustered(|m| (m.phase, m.is_current) = (MetaPhase::Joining, false));
    let said = told(&joining, " details").1;
    assert!(said.contains("This server waits to be added to the JetStream meta group"), "{said}");
    let one_away = clustered(|m| m.peers[1].is_reachable = false);
    let (code, said) = told(&one_away, " details");
    assert_eq!(code, 200);
    assert!(said.contains("cannot be heard: n3 (for 7 s); 2 of 3"), "{said}");
    assert_eq!(told(&one_away, ""), (200, OK.to_owned()));
    let stalled = |ago| {
        let lasted = Duration::from_millis(2_300);
        clustered(|m| m.stall = Some(Stall { lasted, ago: Duration::from_secs(ago) }))
    };
    let said = told(&stalled(12), " details").1;
    assert!(said.contains("This server did not run for 2.3 s, 12 s ago"), "{said}");
    assert_eq!(told(&stalled(300), " details"), (200, OK.to_owned()), "it is over");
}
