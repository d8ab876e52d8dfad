use std::sync::atomic::Ordering::Relaxed;

use linnet_ids::GroupId;
use linnet_raft::{Body, Entry, Replica};
use linnet_replication::raft::{HistoryContent, Outbox};

use super::*;
use crate::cluster::FrameSender;
use crate::cluster::testing::{
    LONG, Recorder, STRANGE_GROUP, Server, Setup, broker, broker_for, eventually, place, servers,
};

const GROUP: GroupId = GroupId { epoch: 0, meta_index: 1, random: 2 };

fn peer(name: &str) -> PeerId {
    PeerId::of_name(name)
}

/// A message of a group whose number is its term.
fn message(from: &str, to: &str, number: u64, body: Body) -> linnet_raft::Message {
    let replica = |name| Replica { peer: peer(name), incarnation: 1 };
    linnet_raft::Message { from: replica(from), to: replica(to), term: number, body }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_a_cluster_hear_each_other_and_who_stops_says_so() {
    let [(a, at_a, heard_a), (b, at_b, heard_b), (c, at_c, heard_c)] = servers(["a", "b", "c"]).await;
    for (heard, others) in [(&heard_a, ["b", "c"]), (&heard_b, ["a", "c"]), (&heard_c, ["a", "b"])] {
        for other in others {
            heard.reaches(other).await;
        }
    }
    assert!(at_a.hears(peer("b")) && at_b.hears(peer("a")));
    let views = at_a.peers();
    assert_eq!(views.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    assert!(views.iter().all(|v| v.is_reachable && v.is_connected && !v.is_offline && v.cluster == "C"));
    assert_eq!(at_a.name_of(peer("c")).as_deref(), Some("c"));
    assert_eq!(at_a.name_of(peer("a")).as_deref(), Some("a"));

    at_c.stop().await;
    let gone = PeerChange::Unreachable(peer("c"));
    eventually("C is gone at A and B", || heard_a.has_heard(gone) && heard_b.has_heard(gone)).await;
    let view = |link: &Link| link.peers().into_iter().find(|v| v.id == peer("c")).unwrap();
    eventually("C is offline", || view(&at_a).is_offline).await;
    assert!(view(&at_a).silence.unwrap() < Duration::from_secs(1), "nobody waited for silence");

    // It opens its store again.
    heard_a.changes.lock().clear();
    let (at_c, heard_c) = c.link("", 2);
    heard_a.reaches("c").await;
    heard_c.reaches("a").await;
    assert!(heard_a.has_heard(PeerChange::Restarted(peer("c"))) && !view(&at_a).is_offline);
    for link in [&at_a, &at_b, &at_c] {
        link.stop().await;
    }
    [&a, &b, &c].into_iter().for_each(Server::stop);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_groups_say_arrives_in_order_however_large_it_is() {
    const COUNT: u64 = 40;
    let [(a, at_a, heard_a), (b, at_b, heard_b)] = servers(["a", "b"]).await;
    heard_a.reaches("b").await;
    heard_b.reaches("a").await;
    let mut sender = FrameSender::new(&at_a);
    let mut outbox = Outbox::default();
    let entry = Entry::new(1, vec![7; 300_000].into());
    for number in 0..COUNT {
        let append = linnet_raft::Append {
            previous: linnet_raft::LogPoint::default(),
            commit: 0,
            entries: vec![entry.clone()],
            round: 0,
        };
        outbox.send(GROUP, message("a", "b", number, Body::Append(append)));
    }
    outbox.send(STRANGE_GROUP, message("a", "b", COUNT, Body::GiveWay));
    outbox.send(GROUP, message("a", "b", COUNT, Body::GiveWay));
    sender.send(&mut outbox);
    assert!(outbox.is_empty());
    let terms = || heard_b.messages.lock().iter().map(|(_, m)| m.term).collect::<Vec<_>>();
    eventually("all have come", || terms() == (0..=COUNT).collect::<Vec<_>>()).await;
    assert!(heard_b.messages.lock().iter().all(|(group, _)| *group == GROUP));
    assert_eq!(at_b.counts.unknown_groups.load(Relaxed), 1);
    let frames = at_a.counts.sent.load(Relaxed);
    assert!((3..=5).contains(&frames), "12 MB in {frames} frames of at most 4 MiB");
    at_a.stop().await;
    outbox.send(GROUP, message("a", "b", 0, Body::GiveWay));
    sender.send(&mut outbox);
    assert!(outbox.is_empty() && at_a.counts.sent.load(Relaxed) == frames, "who has stopped is silent");
    at_b.stop().await;
    [&a, &b].into_iter().for_each(Server::stop);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_clusters_that_were_founded_apart_have_nothing_to_say_to_each_others_groups() {
    let [(a, at_a, heard_a), (b, at_b, heard_b)] = servers(["a", "b"]).await;
    heard_a.reaches("b").await;
    heard_b.reaches("a").await;
    let of = |id: u8| Some(History { cluster: [id; 16], content: HistoryContent::Streams });
    at_a.set_history(of(1));
    assert!(at_a.hears(peer("b")), "it may come to any cluster");
    at_b.set_history(of(2));
    let gone = PeerChange::Unreachable(peer("b"));
    eventually("B is a stranger", || heard_a.has_heard(gone) && at_a.is_stranger(peer("b"))).await;
    eventually("and so is A", || !at_b.hears(peer("a")) && at_b.strangers().len() == 1).await;
    assert!(at_a.peers().is_empty() && at_a.strangers()[0].name == "b");
    let mut outbox = Outbox::default();
    outbox.send(GROUP, message("a", "b", 7, Body::GiveWay));
    let before = at_b.counts.strangers.load(Relaxed);
    FrameSender::new(&at_a).send(&mut outbox);
    eventually("it is not taken", || at_b.counts.strangers.load(Relaxed) > before).await;
    assert!(heard_b.messages.lock().is_empty());
    heard_a.changes.lock().clear();
    at_b.set_history(of(1));
    heard_a.reaches("b").await;
    heard_b.reaches("a").await;
    assert!(at_a.strangers().is_empty() && at_a.peers().len() == 1);
    at_a.stop().await;
    at_b.stop().await;
    [&a, &b].into_iter().for_each(Server::stop);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_route_is_noticed_at_once() {
    let [(a, at_a, heard_a), (b, at_b, heard_b)] = servers(["a", "b"]).await;
    heard_a.reaches("b").await;
    heard_b.reaches("a").await;
    b.stop();
    eventually("what was on its way may be lost", || heard_a.has_heard(PeerChange::Lossy(peer("b")))).await;
    let gone = PeerChange::Unreachable(peer("b"));
    eventually("B is unreachable", || heard_a.has_heard(gone)).await;
    let view = &at_a.peers()[0];
    assert!(!view.is_connected && !view.is_reachable && view.silence.unwrap() < Duration::from_secs(1));
    a.stop();
    at_a.stop().await;
    at_b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn domains_do_not_hear_each_other() {
    let places = [place().await, place().await, place().await, place().await];
    let addrs = [places[0].addr];
    let [one, two, other, core] = places;
    let setup = |name, domain, has_jetstream| Setup { name, domain, has_jetstream, routes: &addrs };
    let a = Server::start(&setup("a", "hub", true), one);
    let b = Server::start(&setup("b", "hub", true), two);
    let c = Server::start(&setup("c", "edge", true), other);
    let d = Server::start(&setup("d", "hub", false), core);
    let (at_a, heard_a) = a.link("hub", 1);
    let (at_b, heard_b) = b.link("hub", 1);
    let (at_c, heard_c) = c.link("edge", 1);
    heard_a.reaches("b").await;
    heard_b.reaches("a").await;
    eventually("all routes are there", || c.broker.routed_servers().len() == 3).await;
    eventually("D is there", || a.broker.routed_servers().iter().any(|s| s.name == "d")).await;
    assert_eq!(at_a.peers().len(), 1);
    assert!(at_c.peers().is_empty() && heard_c.changes.lock().is_empty());
    for link in [&at_a, &at_b, &at_c] {
        link.stop().await;
    }
    [&a, &b, &c, &d].into_iter().for_each(Server::stop);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_log_hangs_is_not_reachable() {
    let [(a, at_a, heard_a), (b, at_b, heard_b)] = servers(["a", "b"]).await;
    heard_a.reaches("b").await;
    heard_b.reaches("a").await;
    *heard_a.oldest_write.lock() = Duration::from_secs(4);
    let gone = PeerChange::Unreachable(peer("a"));
    eventually("A is useless to B", || heard_b.has_heard(gone)).await;
    assert!(at_a.hears(peer("b")), "nothing is wrong with B");
    heard_b.changes.lock().clear();
    *heard_a.oldest_write.lock() = Duration::ZERO;
    heard_b.reaches("a").await;
    at_a.stop().await;
    at_b.stop().await;
    [&a, &b].into_iter().for_each(Server::stop);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_of_a_connected_server_is_noticed_and_old_frames_are_dropped() {
    let [(a, at_a, heard_a), (b, at_b, heard_b)] = servers(["a", "b"]).await;
    heard_a.reaches("b").await;
    heard_b.reaches("a").await;
    drop((at_b, heard_b));
    let gone = PeerChange::Unreachable(peer("b"));
    eventually("B is silent", || heard_a.has_heard(gone)).await;
    let is_silent = |view: &PeerView| view.silence.is_some_and(|silence| silence >= Duration::from_secs(1));
    eventually("its silence is shown", || at_a.peers().iter().any(|v| v.is_connected && is_silent(v))).await;
    // What an earlier process said comes late.
    let late = Frame { from: peer("b"), boot: 0, history: None, beat: None, messages: Vec::new() };
    let mut publisher = b.broker.publisher();
    let subject = Subjects::of_domain("").to(peer("a"), Kind::Frame);
    let publish = |publisher: &mut Publisher, body: &[u8]| {
        let message =
            Message { subject: subject.as_bytes(), shown_subject: b"", reply: b"", header_len: 0, body };
        assert_eq!(publisher.publish(&b.broker.account("$SYS").unwrap(), &message), 1);
        publisher.flush();
    };
    publish(&mut publisher, &late.encode());
    eventually("it is dropped", || at_a.counts.outdated.load(Relaxed) == 1).await;
    publish(&mut publisher, b"\x01garbage");
    eventually("it is not understood", || at_a.counts.malformed.load(Relaxed) == 1).await;
    at_a.stop().await;
    [&a, &b].into_iter().for_each(Server::stop);
}

#[tokio::test]
async fn nothing_is_said_without_a_system_account() {
    let broker = broker("a");
    let config = LinkConfig { domain: String::new(), boot: 1 };
    let loops: Arc<dyn Loops> = Arc::new(Recorder::default());
    let link = Link::start(&broker, &config, loops.clone()).unwrap();
    tokio::time::timeout(LONG, link.stop()).await.unwrap();
    let alone = Broker::new(
        broker.identity().clone(),
        linnet_broker::Config::default(),
        linnet_auth::Authenticator::open("$G"),
        [Account::new("$G", false, linnet_broker::AccountLimits::default())],
        broker.clock().clone(),
        Arc::new(linnet_env::OsRng),
        tokio::runtime::Handle::current(),
    );
    assert!(matches!(Link::start(&alone, &config, loops), Err(LinkError::NoSystemAccount)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_of_the_system_account_says_is_no_servers_word() {
    use tokio::io::AsyncWriteExt as _;

    let broker = broker_for("a", "$SYS");
    let loops: Arc<dyn Loops> = Arc::new(Recorder::default());
    let link = Link::start(&broker, &LinkConfig { domain: String::new(), boot: 1 }, loops).unwrap();
    let (listener, addr) = broker.bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let (stop, stopped) = watch::channel(false);
    let serving = broker.clone();
    tokio::spawn(async move { serving.serve(listener, stopped).await });
    let frame = Frame { from: peer("b"), boot: 5, history: None, beat: None, messages: Vec::new() }.encode();
    let subject = Subjects::of_domain("").to(peer("a"), Kind::Frame);
    let mut client = tokio::net::TcpStream::connect(addr).await.unwrap();
    let line = format!("CONNECT {{\"verbose\":false}}\r\nPUB {subject} {}\r\n", frame.len());
    client.write_all(&[line.as_bytes(), &frame, b"\r\n"].concat()).await.unwrap();
    eventually("the client's frame is dropped", || link.counts.malformed.load(Relaxed) == 1).await;
    assert_eq!(link.counts.taken.load(Relaxed), 0);
    link.publish(&mut broker.publisher(), peer("a"), Kind::Frame, &frame);
    eventually("a server's is not", || link.counts.taken.load(Relaxed) == 1).await;
    let _ = stop.send(true);
    broker.close_clients();
    link.stop().await;
}
