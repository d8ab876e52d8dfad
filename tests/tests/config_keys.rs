//! Every configuration key acts: each is set to something that is not its default, and what it changes is looked at.
//! Each row runs against both servers. A key that is accepted and neither proven here nor listed with the test that
//! proves it fails [`every_key_is_proven`].

mod accounts;
mod connections;
mod jetstream;
mod monitoring;
mod running;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use linnet_conf::{Support, options};
use linnet_launch::Spec;

use self::accounts::ACCOUNTS;
use self::connections::CONNECTIONS;
use self::jetstream::{ACCOUNT_JETSTREAM, IN_AN_ACCOUNT, JETSTREAM};
use self::monitoring::MONITORING_AND_LOG;
use self::running::{Case, Running};
use crate::harness::{Kind, LONG, program};

/// Keys whose effect another test shows.
const ELSEWHERE: &[(&str, &str)] = &[
    ("client_advertise", "processes::clients_are_told_the_advertised_address"),
    ("ping_interval", "errors.txt: client that does not answer PING"),
    ("ping_max", "errors.txt: client that does not answer PING"),
    ("max_connections", "errors.txt: connections over the maximum"),
    ("max_subscriptions", "errors.txt: subscriptions over the maximum"),
    ("max_sub_tokens", "errors.txt: too many tokens in a subscription"),
    ("max_control_line", "errors.txt: control line over a configured maximum"),
    ("max_payload", "errors.txt: payload over a configured maximum"),
    ("lame_duck_duration", "linnet-server: lame_duck_duration_is_both_phases_together"),
    ("lame_duck_quorum_guard", "leaving::a10_a20_a_server_leaves_when_others_can_do_without_it"),
    ("trace_headers", "processes::trace_headers_shows_no_payload"),
    ("logtime", "processes::log_lines_may_come_without_a_time"),
    ("logtime_utc", "processes::the_log_may_tell_the_time_in_utc"),
    ("log_size_limit", "processes::a_log_at_its_limit_is_put_aside_and_old_ones_go"),
    ("log_max_num", "processes::a_log_at_its_limit_is_put_aside_and_old_ones_go"),
    ("ports_file_dir", "processes::pid_file_and_ports_file_are_as_the_tools_expect_them"),
    ("authorization.user", "logins.txt: right password"),
    ("authorization.pass", "logins.txt: wrong password"),
    ("authorization.token", "logins.txt: wrong token"),
    ("authorization.timeout", "logins.txt: no login at all"),
    ("user.permissions", "logins.txt: publish permissions"),
    ("permissions.publish", "logins.txt: publish permissions"),
    ("permissions.subscribe", "logins.txt: subscribe permissions"),
    ("permissions.allow_responses", "logins.txt: answers are allowed by the request"),
    ("subject permissions.allow", "logins.txt: publish permissions"),
    ("subject permissions.deny", "logins.txt: publish permissions"),
    ("tls", "tls::info_comes_in_plain_text_and_the_rest_is_encrypted"),
    ("allow_non_tls", "tls::clients_may_do_without_tls_if_that_is_configured"),
    ("https", "tls::monitoring_pages_come_over_tls"),
    ("tls.cert_file", "tls::clients_do_not_trust_a_server_of_an_unknown_authority"),
    ("tls.key_file", "tls::clients_do_not_trust_a_server_of_an_unknown_authority"),
    ("tls.certs", "tls::the_name_a_client_asks_for_chooses_the_certificate"),
    ("tls.ca_file", "tls::only_clients_with_a_valid_certificate_are_let_in"),
    ("tls.verify", "tls::only_clients_with_a_valid_certificate_are_let_in"),
    ("tls.verify_and_map", "tls::a_certificate_says_which_user_a_client_is"),
    ("tls.cipher_suites", "tls::versions_and_suites_are_as_configured"),
    ("tls.curve_preferences", "tls::versions_and_suites_are_as_configured"),
    ("tls.min_version", "tls::versions_and_suites_are_as_configured"),
    ("tls.timeout", "tls::who_does_not_shake_hands_is_closed_without_a_word"),
    ("tls.handshake_first", "tls::the_handshake_comes_first_if_that_is_configured"),
    ("tls.connection_rate_limit", "tls::a_second_admits_as_many_connections_as_configured"),
    ("tls.pinned_certs", "tls::only_pinned_keys_are_let_in"),
    ("https_port", "tls::monitoring_pages_come_over_tls"),
    ("linnet", "scrub::damage_is_found_before_somebody_reads_it"),
    ("linnet.scrub", "scrub::damage_is_found_before_somebody_reads_it"),
    ("linnet.scrub.interval", "scrub::damage_is_found_before_somebody_reads_it"),
    ("linnet.scrub.rate", "linnet-server: how_fast_stored_messages_are_verified_reaches_jetstream"),
    ("cluster", "cluster::servers_meet_through_a_third"),
    ("cluster.name", "cluster::servers_of_other_clusters_and_of_the_same_name_stay_out"),
    ("cluster.listen", "cluster::messages_cross_in_every_direction"),
    ("cluster.host", "cluster::a_route_listener_of_host_and_port_and_other_settings_take_effect"),
    ("cluster.port", "cluster::a_route_listener_of_host_and_port_and_other_settings_take_effect"),
    ("cluster.routes", "cluster::messages_cross_in_every_direction"),
    ("cluster.authorization", "cluster::a_cluster_with_a_password_lets_only_those_in_who_know_it"),
    ("cluster.advertise", "cluster::a_route_listener_of_host_and_port_and_other_settings_take_effect"),
    ("cluster.no_advertise", "cluster::clients_are_told_of_all_servers_unless_that_is_not_wanted"),
    ("cluster.connect_retries", "cluster::a_server_that_was_told_of_is_dialled_as_often_as_configured"),
    ("cluster.connect_backoff", "linnet-broker: pauses_grow_up_to_half_a_minute"),
    ("cluster.pool_size", "cluster::pool_sizes_of_both_programs_fit"),
    ("cluster.accounts", "cluster::accounts_stay_apart"),
    ("cluster.compression", "routes::the_wire_carries_frames_only_if_that_was_agreed_on"),
    ("compression.mode", "routes::automatic_levels_are_those_of_the_configured_times"),
    ("compression.rtt_thresholds", "routes::automatic_levels_are_those_of_the_configured_times"),
    ("cluster.permissions", "routes::only_interest_that_is_allowed_crosses"),
    ("cluster.authorization.permissions", "routes::only_interest_that_is_allowed_crosses"),
    ("cluster.tls", "routes::servers_that_trust_each_other_meet_over_tls"),
    ("tls.insecure", "routes::an_insecure_server_dials_whoever_it_is_told_to"),
    ("cluster.write_deadline", "routes::a_server_that_reads_nothing_is_closed_and_publishers_go_on"),
    ("write_timeout", "bad_input::a_client_that_reads_slowly_is_closed_if_that_is_wanted"),
    ("cluster.write_timeout", "routes::a_slow_server_is_closed_if_that_is_wanted"),
    ("cluster.ping_interval", "cluster::a_route_listener_of_host_and_port_and_other_settings_take_effect"),
    ("cluster.ping_max", "cluster::a_route_whose_other_side_is_silent_is_closed"),
    ("cluster.authorization.user", "cluster::a_cluster_with_a_password_lets_only_those_in_who_know_it"),
    ("cluster.authorization.pass", "cluster::a_cluster_with_a_password_lets_only_those_in_who_know_it"),
    (
        "cluster.authorization.timeout",
        "cluster::a_route_listener_of_host_and_port_and_other_settings_take_effect",
    ),
    ("allow_responses.max", "logins.txt: answers are allowed by the request"),
    ("jetstream.limits.max_ha_assets", "rules: a_server_takes_as_many_replicated_assets_as_it_may"),
    ("jetstream.unique_tag", "rules: replicas_differ_in_the_tag_that_is_to_be_unique"),
];

/// Keys of which `docs/operations/differences.md` says that they have no effect, or none beside the default's.
const WITHOUT_EFFECT: &[&str] = &[
    "tls.allow_insecure_cipher_suites",
    "disable_sublist_cache",
    "connect_error_reports",
    "reconnect_error_reports",
    "account limits.max_leafnodes",
    "account jetstream.cluster_traffic",
    "jetstream.limits.batch",
];

#[test]
fn tests_elsewhere_exist() {
    for (key, test) in ELSEWHERE {
        let there = match test.split_once(": ").or_else(|| test.split_once("::")) {
            Some(("errors.txt", title)) => {
                include_str!("../testdata/errors.txt").contains(&format!("== {title}\n"))
            }
            Some(("logins.txt", title)) => {
                include_str!("../testdata/logins.txt").contains(&format!("== {title}\n"))
            }
            Some(("bad_input", name)) => include_str!("bad_input.rs").contains(&format!("fn {name}()")),
            Some(("processes", name)) => include_str!("processes.rs").contains(&format!("fn {name}()")),
            Some(("tls", name)) => {
                let text = include_str!("tls.rs");
                text.contains(&format!("fn {name}(kind)")) || text.contains(&format!("fn {name}()"))
            }
            Some(("linnet-broker", name)) => {
                include_str!("../../crates/broker/src/cluster/dial.rs").contains(&format!("fn {name}()"))
            }
            Some(("cluster", name)) => include_str!("cluster.rs").contains(&format!("fn {name}()")),
            Some(("routes", name)) => {
                let texts = [
                    include_str!("routes/compression.rs"),
                    include_str!("routes/limits.rs"),
                    include_str!("routes/permissions.rs"),
                    include_str!("routes/tls.rs"),
                ];
                texts.iter().any(|text| text.contains(&format!("fn {name}()")))
            }
            Some(("leaving", name)) => {
                include_str!("replicated/operator/leaving.rs").contains(&format!("fn {name}()"))
            }
            Some(("scrub", name)) => include_str!("scrub.rs").contains(&format!("fn {name}()")),
            Some(("rules", name)) => include_str!("replicated/rules.rs").contains(&format!("fn {name}(")),
            Some(("linnet-server", name)) => {
                include_str!("../../crates/server/src/build.rs").contains(&format!("fn {name}()"))
            }
            _ => false,
        };
        assert!(there, "{key}: {test}");
    }
}

#[test]
fn every_key_is_proven() {
    let tables = [CONNECTIONS, MONITORING_AND_LOG, ACCOUNTS, ACCOUNT_JETSTREAM, JETSTREAM];
    let mut proven: BTreeSet<&str> = tables.iter().copied().flatten().flat_map(|c| c.keys).copied().collect();
    proven.extend(ELSEWHERE.iter().map(|(key, _)| key));
    proven.extend(WITHOUT_EFFECT);
    let accepted: BTreeSet<String> = options::sections()
        .iter()
        // Its keys go with the block, which has no effect.
        .filter(|section| section.path != "jetstream.limits.batch")
        .flat_map(|section| {
            let dot = if section.path.is_empty() { "" } else { "." };
            let now = section.keys.iter().filter(|key| key.support == Support::Now);
            now.map(move |key| format!("{}{dot}{}", section.path, key.name)).collect::<Vec<_>>()
        })
        .collect();
    let missing: Vec<_> = accepted.iter().filter(|key| !proven.contains(key.as_str())).collect();
    let unknown: Vec<_> = proven.iter().filter(|key| !accepted.contains(**key)).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "not proven: {missing:?}\nnot accepted: {unknown:?}");
}

fn run(kind: Kind, cases: &[Case], around: &str) {
    let Some(program) = program(kind) else { return };
    let mut failed = Vec::new();
    for case in cases {
        let mut text = around.replace('@', case.config);
        if !text.contains("port: -1") && !text.contains("listen:") {
            text += "\nlisten: \"127.0.0.1:-1\"";
        }
        if !text.contains("http:") && !text.contains("http_port:") {
            text += "\nhttp: \"127.0.0.1:-1\"";
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let spec = Spec::new(&program).config(text).ready(linnet_launch::Ready::Info, LONG);
            (case.look)(&mut Running { server: spec.start().unwrap_or_else(|error| panic!("{error}")) });
        }));
        if outcome.is_err() {
            failed.push(case.config);
        }
    }
    assert!(failed.is_empty(), "on {kind:?}, without the effect seen above:\n{}", failed.join("\n"));
}

macro_rules! tables {
    ($($name:ident: $cases:ident in $around:expr;)+) => {
        mod linnet {
            $(#[test] fn $name() { super::run(super::Kind::Linnet, super::$cases, $around); })+
        }
        mod peer {
            $(#[test] fn $name() { super::run(super::Kind::Peer, super::$cases, $around); })+
        }
    };
}

tables! {
    connections: CONNECTIONS in "@";
    monitoring_and_log: MONITORING_AND_LOG in "@";
    accounts: ACCOUNTS in "@";
    account_jetstream: ACCOUNT_JETSTREAM in super::IN_AN_ACCOUNT;
    jetstream: JETSTREAM in "@";
}
