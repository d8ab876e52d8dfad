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
pub(crate) use fixture::{Fixture, JETSTREAM, PLAIN, run, run_with};
pub(crate) use jetstream::{Stored, err_code, sequences};
pub(crate) use programs::{Kind, nats_cli, node, program, python};
pub(crate) use raw::Raw;
pub(crate) use secure::{Secure, TlsClient};
pub(crate) use wait::{LONG, eventually, round_trip, within};

/// A number from the environment, for longer runs.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
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
                $crate::harness::run_with($crate::harness::Kind::Peer, super::OPTIONS, super::$name);
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
            $(#[test] fn $name() { super::$name($crate::harness::Kind::Peer); })+
        }
    };
}
