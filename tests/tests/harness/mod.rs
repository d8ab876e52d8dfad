//! Programs, running servers, waiting, and raw connections.

mod certificates;
mod cluster;
mod fixture;
mod jetstream;
mod programs;
mod queues;
mod raw;
mod secure;
mod wait;

pub(crate) use certificates::Authority;
pub(crate) use cluster::{Inside, PER_PAIR, mesh, single};
pub(crate) use fixture::{ENDS, End, Fixture, JETSTREAM, PLAIN, run, run_with};
pub(crate) use jetstream::{Stored, err_code, sequences};
pub(crate) use programs::{Kind, nats_cli, node, not_allowed, program, python};
pub(crate) use raw::Raw;
pub(crate) use secure::{Secure, TlsClient};
pub(crate) use wait::{LONG, eventually, round_trip, within};

/// A number from the environment, for longer runs.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Runs a test of nats-server, and once more if it fails.
///
/// These tests show that what the suite expects of Linnet is what nats-server does. Where it does so only mostly, on a
/// busy machine, that is nothing that Linnet could mend; a wrong expectation fails both times.
pub(crate) fn at_most_twice(test: impl Fn()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(&test)).is_err() {
        test();
    }
}

/// Defines tests once and runs each against both servers, as `linnet::name` and `peer::name`.
macro_rules! on_both_servers {
    ($options:expr; $($(#[doc = $doc:literal])* async fn $name:ident($server:ident) $body:block)+) => {
        const OPTIONS: fn() -> linnet_launch::Options = $options;

        $($(#[doc = $doc])* async fn $name($server: &mut $crate::harness::Fixture) $body)+

        mod linnet {
            $(#[test] fn $name() {
                $crate::harness::run_with($crate::harness::Kind::Linnet, super::OPTIONS, super::$name);
            })+
        }

        mod peer {
            $(#[test] fn $name() {
                $crate::harness::at_most_twice(|| {
                    $crate::harness::run_with($crate::harness::Kind::Peer, super::OPTIONS, super::$name);
                });
            })+
        }
    };
}

/// Defines tests once that start servers of the kind that they are given, and runs each for both kinds.
macro_rules! on_both_kinds {
    ($($(#[doc = $doc:literal])* fn $name:ident($kind:ident) $body:block)+) => {
        $($(#[doc = $doc])* fn $name($kind: $crate::harness::Kind) $body)+

        mod linnet {
            $(#[test] fn $name() { super::$name($crate::harness::Kind::Linnet); })+
        }

        mod peer {
            $(#[test] fn $name() {
                $crate::harness::at_most_twice(|| super::$name($crate::harness::Kind::Peer));
            })+
        }
    };
}
