//! Servers that hear of each other from others.

use super::{PER_PAIR, Setup, formed};
use crate::harness::Kind;

/// Both programs tell of the pool and of accounts with connections of their own, in whatever order these come.
#[test]
fn every_place_is_taken_whoever_tells_of_whom() {
    for kinds in [
        [Kind::Linnet, Kind::Peer, Kind::Peer],
        [Kind::Peer, Kind::Linnet, Kind::Peer],
        [Kind::Linnet, Kind::Linnet, Kind::Peer],
        [Kind::Peer, Kind::Linnet, Kind::Linnet],
    ] {
        let accounts = "accounts { A {}, $SYS {} }";
        let setup = |kind, name| Setup::new(kind, name).cluster("accounts: [A]").top(accounts);
        let Some(seed) = setup(kinds[0], "seed").start() else { return };
        let mut nodes = vec![seed];
        for (name, kind) in [("second", kinds[1]), ("third", kinds[2])] {
            let port = nodes[0].setup.port;
            nodes.push(setup(kind, name).dialling(&[port]).start().unwrap());
        }
        formed(&nodes, PER_PAIR + 1);
    }
}
