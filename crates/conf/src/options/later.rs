//! Top-level keys of nats-server that are refused for now.

use super::Options;
use crate::table::{Row, not_yet};

pub(super) const KEYS: &[Row<Options>] = &[
    not_yet!(["proxy_protocol"], Refused, "Expect the PROXY protocol on the client listener."),
    not_yet!(["proxies"], Live, "Keys of trusted proxies."),
    not_yet!(["ocsp"], Live, "OCSP stapling."),
    not_yet!(["ocsp_cache"], Live, "Cache of OCSP responses of peers."),
    not_yet!(["mappings", "maps"], Live, "Subject mappings of the global account."),
    not_yet!(["default_sentinel"], Live, "User JWT for clients without credentials."),
    not_yet!(
        ["operator", "operators", "root", "roots", "root_operator", "root_operators"],
        Refused,
        "Operators whose accounts are trusted."
    ),
    not_yet!(["trusted", "trusted_keys"], Refused, "Keys of trusted operators."),
    not_yet!(["resolver", "account_resolver", "accounts_resolver"], Live, "Where account JWTs come from."),
    not_yet!(["resolver_preload"], Live, "Account JWTs known from the start."),
    not_yet!(["resolver_tls"], Live, "TLS towards the account resolver."),
    not_yet!(["resolver_pinned_accounts"], Live, "Accounts users may log in from."),
    not_yet!(["default_js_domain"], Refused, "JetStream domain by account."),
    not_yet!(["gateway"], Refused, "Gateways to other clusters."),
    not_yet!(["leafnodes", "leaf"], Live, "Leafnode connections, in and out."),
    not_yet!(["websocket", "ws"], Refused, "The WebSocket listener."),
    not_yet!(["mqtt"], Refused, "The MQTT listener."),
];
