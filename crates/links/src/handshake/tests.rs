use std::collections::VecDeque;

use linnet_wire::route::{Form, Parsed, parse};

use super::*;
use crate::peers::{Admission, Local};
use crate::pool_index;

const FORM: Form = Form { has_account: true, has_origin_in_removal: true, max_line: 65_536 };

fn local(id: &str, cluster: &str) -> Local {
    let info = ServerInfo {
        server_id: format!("ID-{id}"),
        server_name: id.to_owned(),
        headers: true,
        lnoc: true,
        lnocu: true,
        ln: true,
        ..ServerInfo::default()
    };
    Local {
        cluster: ClusterName { name: cluster.to_owned(), is_dynamic: false },
        info,
        pool_size: Some(3),
        accounts: vec!["$SYS".to_owned()],
        compression: Mode::Accept,
        credentials: None,
        tls: false,
    }
}

fn dialled() -> Role {
    Role::Dialled { account: None, credentials: None, gossip: GossipMode::Default }
}

/// One side of a connection and what came of it.
struct Side {
    peers: Peers,
    handshake: Handshake,
    established: Option<Established>,
    closed: Option<Closing>,
    is_compressing: bool,
    /// What was sent, and whether it was compressed.
    sent: VecDeque<(Vec<u8>, bool)>,
    said: Vec<String>,
}

impl Side {
    fn new(local: Local, role: Role) -> Self {
        let handshake = Handshake::new(role, "nonce".to_owned());
        Self {
            peers: Peers::new(local),
            handshake,
            established: None,
            closed: None,
            is_compressing: false,
            sent: VecDeque::new(),
            said: Vec::new(),
        }
    }

    fn begin(&mut self) {
        let effects = self.handshake.begin(&self.peers);
        self.follow(effects);
    }

    fn follow(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(bytes) => {
                    let verb = bytes.split(|b| *b == b' ').next().unwrap_or_default();
                    let mark = if self.is_compressing { "s2 " } else { "" };
                    self.said.push(format!("{mark}{}", String::from_utf8_lossy(verb)));
                    self.sent.push_back((bytes, self.is_compressing));
                }
                Effect::Compress(_) => self.is_compressing = true,
                Effect::Adopt(name) => {
                    self.peers.adopt(name, "");
                }
                Effect::Established(established) => self.established = Some(*established),
                Effect::Close(closing) => self.closed = Some(closing),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], is_compressed: bool) {
        assert_eq!(is_compressed, self.is_compressing, "the reader has switched when the writer has");
        let Parsed::Op(op, _) = parse(bytes, &FORM) else { panic!("not an operation") };
        let effects = self.handshake.on_op(op, &self.peers);
        self.follow(effects);
    }
}

/// Lets two servers talk until neither has anything to say.
fn talk(dialling: &mut Side, accepting: &mut Side) {
    dialling.begin();
    accepting.begin();
    loop {
        let (from, to) = match (dialling.sent.is_empty(), accepting.sent.is_empty()) {
            (false, _) => (&mut *dialling, &mut *accepting),
            (true, false) => (&mut *accepting, &mut *dialling),
            (true, true) => return,
        };
        if let Some((bytes, is_compressed)) = from.sent.pop_front()
            && to.closed.is_none()
        {
            to.take(&bytes, is_compressed);
        }
    }
}

/// Two servers, changed by the caller, talk.
fn outcome(change: impl FnOnce(&mut Local, &mut Local, &mut Role)) -> (Side, Side) {
    let (mut ours, mut theirs, mut role) = (local("S", "C"), local("A", "C"), dialled());
    change(&mut ours, &mut theirs, &mut role);
    let (mut dialling, mut accepting) = (Side::new(ours, role), Side::new(theirs, Role::Accepted));
    talk(&mut dialling, &mut accepting);
    (dialling, accepting)
}

fn slots(dialling: &Side, accepting: &Side) -> (Option<Slot>, Option<Slot>) {
    let slot = |side: &Side| side.established.as_ref().map(|established| established.slot.clone());
    (slot(dialling), slot(accepting))
}

#[test]
fn two_servers_agree_on_what_the_connection_carries() {
    let both = |slot: Slot| (Some(slot.clone()), Some(slot));
    let (s, a) = outcome(|_, _, _| ());
    assert_eq!(slots(&s, &a), both(Slot::Pool(0)));
    assert_eq!(
        (s.said.as_slice(), a.said.as_slice()),
        (&["CONNECT".to_owned(), "INFO".to_owned()][..], &["INFO".to_owned()][..])
    );
    let (s, a) = outcome(|ours, _, _| ours.pool_size = None);
    assert_eq!(slots(&s, &a), both(Slot::Only));
    let (s, a) = outcome(|_, theirs, _| theirs.pool_size = None);
    assert_eq!(slots(&s, &a), both(Slot::Only));
    let (s, a) = outcome(|_, _, role| {
        *role = Role::Dialled {
            account: Some("$SYS".to_owned()),
            credentials: None,
            gossip: GossipMode::Default,
        };
    });
    assert_eq!(slots(&s, &a), both(Slot::Account("$SYS".to_owned())));
}

#[test]
fn both_compress_or_neither_and_switch_at_the_same_place() {
    let modes = ["off", "accept", "s2_fast", "s2_best", "s2_auto", "not supported"];
    for ours_mode in modes {
        for theirs_mode in modes {
            let (ours_mode, theirs_mode) =
                (Mode::parse(ours_mode).unwrap(), Mode::parse(theirs_mode).unwrap());
            let (s, a) = outcome(|ours, theirs, _| {
                ours.compression = ours_mode;
                theirs.compression = theirs_mode;
            });
            let (s_has, a_has) = (s.established.unwrap().compression, a.established.unwrap().compression);
            let is_on = ours_mode.negotiate(theirs_mode).is_on();
            assert_eq!((s_has.is_on(), a_has.is_on()), (is_on, is_on), "{ours_mode:?} {theirs_mode:?}");
            let off = if theirs_mode == Mode::NotSupported { Mode::NotSupported } else { Mode::Off };
            assert_eq!(s_has, if is_on { ours_mode.negotiate(theirs_mode) } else { off });
        }
    }
    let (s, a) = outcome(|ours, theirs, _| {
        (ours.compression, theirs.compression) = (Mode::Auto, Mode::Accept);
    });
    assert_eq!(s.said, ["CONNECT", "INFO", "s2 INFO"]);
    assert_eq!(a.said, ["INFO", "s2 INFO"]);
}

#[test]
fn refusals_say_why() {
    let said = |text: &str| Some(Closing::Said(text.to_owned()));
    let (s, _) = outcome(|ours, _, _| ours.cluster.name = "ZZ".to_owned());
    assert_eq!(s.closed, Some(Closing::ClusterNameConflict));
    let (_, a) = outcome(|_, theirs, _| theirs.credentials = Some(("u".to_owned(), "p".to_owned())));
    assert_eq!(a.closed, said("Authorization Violation"));
    let (s, a) = outcome(|_, theirs, role| {
        theirs.credentials = Some(("u".to_owned(), "p".to_owned()));
        let credentials = Some(("u".to_owned(), "p".to_owned()));
        *role = Role::Dialled { account: None, credentials, gossip: GossipMode::Default };
    });
    assert!(s.established.is_some() && a.established.is_some());
    let (s, _) = outcome(|ours, theirs, _| ours.info.server_id.clone_from(&theirs.info.server_id));
    assert_eq!(s.closed, Some(Closing::DuplicateRoute));
    let (_, a) = outcome(|ours, theirs, _| ours.info.server_name.clone_from(&theirs.info.server_name));
    assert_eq!(a.closed, Some(Closing::DuplicateServerName));
    let account = |account: &str| Role::Dialled {
        account: Some(account.to_owned()),
        credentials: None,
        gossip: GossipMode::Default,
    };
    let (_, a) = outcome(|ours, _, role| {
        ours.accounts.push("N".to_owned());
        *role = account("N");
    });
    assert_eq!(a.closed, said("No route for account \"N\""));
    let (s, _) = outcome(|_, theirs, role| {
        theirs.pool_size = None;
        *role = account("$SYS");
    });
    let text = "Not possible to have a dedicated route for account \"$SYS\" between those servers";
    assert_eq!(s.closed, said(text));
}

#[test]
fn an_accepting_side_refuses_what_does_not_belong_there() {
    let rows: [(&[u8], Closing); 6] = [
        (b"PING\r\n", Closing::Said("Authorization Violation".to_owned())),
        (b"CONNECT {\"lang\":\"go\"}\r\n", Closing::Said("attempted to connect to route port".to_owned())),
        (
            b"CONNECT {\"gateway\":\"G\"}\r\n",
            Closing::Said("Rejecting connection from gateway \"G\" on the Route port".to_owned()),
        ),
        (
            b"CONNECT {\"cluster\":\"ZZ\"}\r\n",
            Closing::Said("Rejecting connection, cluster name \"ZZ\" does not match \"C\"".to_owned()),
        ),
        (b"CONNECT {\r\n", Closing::ProtocolViolation),
        (b"-ERR 'no'\r\n", Closing::Told("no".to_owned())),
    ];
    for (line, closing) in rows {
        let mut side = Side::new(local("A", "C"), Role::Accepted);
        side.begin();
        side.take(line, false);
        assert_eq!(side.closed, Some(closing), "{}", String::from_utf8_lossy(line));
    }
    let infos: [(&[u8], Closing); 3] = [
        (
            b"INFO {\"server_id\":\"X\",\"cluster\":\"C\",\"route_pool_size\":2,\"route_pool_idx\":5}\r\n",
            Closing::Said("Invalid route pool index: 5 - pool size is 3".to_owned()),
        ),
        (
            b"INFO {\"server_id\":\"X\",\"cluster\":\"C\",\"compression\":\"x\"}\r\n",
            Closing::Said("unsupported route compression mode \"x\"".to_owned()),
        ),
        (b"RS+ X foo\r\n", Closing::ProtocolViolation),
    ];
    for (line, closing) in infos {
        let mut side = Side::new(local("A", "C"), Role::Accepted);
        side.begin();
        side.take(b"CONNECT {\"cluster\":\"C\"}\r\n", false);
        side.take(line, false);
        assert_eq!(side.closed, Some(closing), "{}", String::from_utf8_lossy(line));
    }
}

#[test]
fn a_dialling_side_refuses_an_index_that_only_it_may_set() {
    let mut side = Side::new(local("S", "C"), dialled());
    side.begin();
    side.take(
        b"INFO {\"server_id\":\"X\",\"cluster\":\"C\",\"route_pool_size\":3,\"route_pool_idx\":2}\r\n",
        false,
    );
    let text = "Route pool index should not be set but is set to 2";
    assert_eq!(side.closed, Some(Closing::Said(text.to_owned())));
}

#[test]
fn a_made_up_cluster_name_gives_way() {
    let (s, a) = outcome(|ours, _, _| {
        ours.cluster = ClusterName { name: "made-up".to_owned(), is_dynamic: true };
    });
    // The one that accepts has judged the old name by then; dialling again succeeds.
    assert!(a.closed.is_some());
    assert_eq!(s.peers.local().cluster, ClusterName { name: "C".to_owned(), is_dynamic: false });
    let (s, a) = outcome(|_, theirs, _| {
        theirs.cluster = ClusterName { name: "made-up".to_owned(), is_dynamic: true };
    });
    assert_eq!(a.peers.local().cluster.name, "C");
    assert_eq!(s.closed, Some(Closing::ClusterNameConflict));
}

#[test]
fn pools_fill_up_place_by_place() {
    let (mut ours, mut theirs) = (Peers::new(local("S", "C")), Peers::new(local("A", "C")));
    let mut places = Vec::new();
    for conn in 0..4 {
        let mut dialling = Side::new(local("S", "C"), dialled());
        let mut accepting = Side::new(local("A", "C"), Role::Accepted);
        dialling.peers = ours;
        accepting.peers = theirs;
        talk(&mut dialling, &mut accepting);
        (ours, theirs) = (dialling.peers, accepting.peers);
        let Some(established) = dialling.established else {
            assert_eq!(dialling.closed, Some(Closing::DuplicateRoute));
            continue;
        };
        let admission = ours.admit(conn, &established);
        assert_eq!(admission, if conn == 0 { Admission::First } else { Admission::Another });
        assert_eq!(theirs.admit(conn, &accepting.established.unwrap()), admission);
        places.push(established.slot);
    }
    assert_eq!(places, [Slot::Pool(0), Slot::Pool(1), Slot::Pool(2)]);
    assert!(!ours.lacks("ID-A", None) && ours.lacks("ID-A", Some("$SYS")) && ours.lacks("ID-B", None));
    // An account goes by the connection of its hash, whoever asks.
    let told = |peers: &Peers, account: &str| {
        let slots = [Slot::Pool(0), Slot::Pool(1), Slot::Pool(2), Slot::Account("$SYS".to_owned())];
        slots.map(|slot| peers.tells("ID-A", &slot, account))
    };
    assert_eq!(told(&ours, "ORDERS"), [false, true, false, false]);
    assert_eq!(told(&ours, "$G"), [false, false, true, false]);
    assert_eq!(told(&ours, "$SYS"), [false, false, false, true]);
    assert!(ours.tells("ID-A", &Slot::Only, "$SYS"));
    assert_eq!(
        ours.leave(1).map(|(info, is_last)| (info.server_name, is_last)),
        Some(("A".to_owned(), false))
    );
    assert!(ours.lacks("ID-A", None));
    assert!(ours.leave(1).is_none());
    assert!(ours.leave(0).is_some_and(|(_, is_last)| !is_last));
    assert!(ours.leave(2).is_some_and(|(_, is_last)| is_last));
    assert!(!ours.is_known("ID-A"));
}

#[test]
fn accounts_move_when_others_ask_for_it_and_back_when_the_settings_say_so() {
    let established = |server: &str, slot: Slot| {
        let mut info = local(server, "C").info;
        info.route_pool_size = 4;
        Established { info, slot, compression: Mode::Off }
    };
    let mut peers = Peers::new(local("S", "C"));
    let place = Slot::Pool(pool_index(b"ORDERS", 4));
    for (conn, server) in ["A", "B"].into_iter().enumerate() {
        peers.admit(conn as u64, &established(server, place.clone()));
    }
    let tells = |peers: &Peers| ["ID-A", "ID-B"].map(|id| peers.tells(id, &place, "ORDERS"));
    assert_eq!((tells(&peers), peers.is_dedicated("ORDERS")), ([true, true], false));
    assert_eq!(peers.places("ID-A", "ORDERS"), [Some(pool_index(b"ORDERS", 4)), None]);
    peers.move_account("ID-A", "ORDERS");
    assert_eq!((tells(&peers), peers.is_dedicated("ORDERS")), ([false, true], true));
    assert!(peers.has_moved("ID-A", "ORDERS") && !peers.has_moved("ID-B", "ORDERS"));
    // Whoever comes with a connection for it has moved it, too.
    peers.admit(9, &established("B", Slot::Account("ORDERS".to_owned())));
    assert_eq!(tells(&peers), [false, false]);
    let with = |accounts: &[&str]| {
        let accounts = accounts.iter().map(|account| (*account).to_owned()).collect();
        Local { accounts, ..local("S", "C") }
    };
    peers.set_local(with(&["$SYS", "ORDERS"]));
    assert!(!peers.has_moved("ID-A", "ORDERS"), "others may have moved it back before");
    peers.set_local(with(&["$SYS"]));
    assert_eq!((tells(&peers), peers.is_dedicated("ORDERS")), ([true, true], false));
}

/// Each of the two by the same connection as the other, however large they want the pool to be.
#[test]
fn both_sides_tell_of_an_account_by_the_same_place() {
    for ours in 1..6 {
        for theirs in 1..6 {
            let side = |id: &str, size, other: &str, other_size: usize| {
                let mut peers = Peers::new(Local { pool_size: Some(size), ..local(id, "C") });
                let mut info = local(other, "C").info;
                info.route_pool_size = i64::try_from(other_size).unwrap();
                peers.admit(1, &Established { info, slot: Slot::Pool(0), compression: Mode::Off });
                peers
            };
            let (a, b) = (side("A", ours, "B", theirs), side("B", theirs, "A", ours));
            for account in ["$G", "A", "B", "ORDERS", "x", "y", "z"] {
                let place = |peers: &Peers, to: &str| {
                    let places =
                        (0..ours.max(theirs)).filter(|at| peers.tells(to, &Slot::Pool(*at), account));
                    places.collect::<Vec<_>>()
                };
                let told = place(&a, "ID-B");
                assert_eq!((told.len(), &told), (1, &place(&b, "ID-A")), "{account} {ours} {theirs}");
                assert!(a.places("ID-B", account).contains(&Some(told[0])));
                assert!(a.places("ID-B", account).contains(&Some(pool_index(account.as_bytes(), theirs))));
            }
        }
    }
}
