use std::net::SocketAddr;

use linnet_env::FaultyDisk;
use linnet_ids::PeerId;
use linnet_raft::Replica;

use super::*;
use crate::cluster::testing::{LONG, Server, Setup, eventually, place, servers};

const DIR: &str = "/store";

fn disk() -> FaultyDisk {
    let disk = FaultyDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk
}

fn found(link: &Arc<Link>, disk: &FaultyDisk) -> Founder {
    Founder::start(link, "", Arc::new(disk.clone()), Path::new(DIR))
}

async fn settles(founder: &Founder) -> Foundation {
    let mut state = founder.watch();
    let settled = async { state.wait_for(|state| *state != Foundation::Waiting).await.unwrap().clone() };
    tokio::time::timeout(LONG, settled).await.expect("something is founded")
}

fn founding_of(foundation: &Foundation) -> &Founding {
    match foundation {
        Foundation::Founded { founding, .. } | Foundation::Joins(founding) => founding,
        Foundation::Waiting => panic!("nothing is founded"),
    }
}

fn names(founding: &Founding, all: &[&str]) -> Vec<String> {
    let is_voter = |name: &&&str| founding.voters.iter().any(|v| v.peer == PeerId::of_name(name));
    all.iter().filter(is_voter).map(|name| (*name).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_founded_once_everybody_is_there_and_whoever_forgot_it_joins() {
    let places = [place().await, place().await, place().await];
    let addrs: Vec<SocketAddr> = places.iter().map(|place| place.addr).collect();
    let setup = |name| Setup { name, domain: "", has_jetstream: true, routes: &addrs };
    let [one, two, three] = places;
    let disks = [disk(), disk(), disk()];
    let (a, b) = (Server::start(&setup("a"), one), Server::start(&setup("b"), two));
    let (at_a, _) = a.link("", 1);
    let (at_b, _) = b.link("", 1);
    let (of_a, of_b) = (found(&at_a, &disks[0]), found(&at_b, &disks[1]));
    let third = format!("the server at {}", addrs[2]);
    let waits_for_third = |founder: &Founder| {
        let missing = founder.missing();
        missing.len() == 1 && missing[0].who == third && missing[0].since > LOOKS_OF_A_BALLOT
    };
    eventually("A waits for the third", || waits_for_third(&of_a)).await;
    eventually("B waits for the third", || waits_for_third(&of_b)).await;
    assert_eq!((of_a.state(), of_b.state()), (Foundation::Waiting, Foundation::Waiting));

    let c = Server::start(&setup("c"), three);
    eventually("C is there and has no JetStream yet", || {
        of_a.missing().iter().map(|m| m.who.as_str()).collect::<Vec<_>>() == ["c"]
    })
    .await;
    let (at_c, _) = c.link("", 1);
    let of_c = found(&at_c, &disks[2]);
    let founded = [settles(&of_a).await, settles(&of_b).await, settles(&of_c).await];
    let founding = founding_of(&founded[0]).clone();
    assert_eq!(names(&founding, &["a", "b", "c"]), ["a", "b", "c"]);
    for (founder, foundation) in [&of_a, &of_b, &of_c].into_iter().zip(&founded) {
        assert_eq!(*foundation, Foundation::Founded { founding: founding.clone(), has_begun: false });
        assert!(founding.voters.iter().any(|voter| voter.incarnation == founder.life()));
        eventually("nobody is missing", || founder.missing().is_empty()).await;
    }
    assert!(of_a.begun().await);

    // A crash forgets nothing, and asks nobody.
    at_a.stop().await;
    disks[0].crash(3);
    let (at_a, _) = a.link("", 2);
    let of_a = found(&at_a, &disks[0]);
    assert_eq!(of_a.state(), Foundation::Founded { founding: founding.clone(), has_begun: true });

    // A lost disk does: the server is another life, which the group may take in.
    at_c.stop().await;
    let (at_c, _) = c.link("", 2);
    let new_disk = disk();
    let of_c = found(&at_c, &new_disk);
    assert_eq!(settles(&of_c).await, Foundation::Joins(founding.clone()));
    assert!(!founding.voters.contains(&Replica { peer: PeerId::of_name("c"), incarnation: of_c.life() }));
    assert!(of_c.belongs_to(founding.clone()).await);
    at_c.stop().await;
    new_disk.crash(5);
    let (at_c, _) = c.link("", 3);
    let of_c = found(&at_c, &new_disk);
    assert_eq!(of_c.state(), Foundation::Joins(founding.clone()), "it knows that without the others");

    // As a member it keeps others from founding another group, when all who founded this one have forgotten it.
    at_a.stop().await;
    at_b.stop().await;
    let (at_a, _) = a.link("", 3);
    let (at_b, _) = b.link("", 3);
    let (of_a, of_b) = (found(&at_a, &disk()), found(&at_b, &disk()));
    assert_eq!(settles(&of_a).await, Foundation::Joins(founding.clone()));
    assert_eq!(settles(&of_b).await, Foundation::Joins(founding));
    for link in [&at_a, &at_b, &at_c] {
        link.stop().await;
    }
    [&a, &b, &c].into_iter().for_each(Server::stop);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_when_its_cluster_was_dissolved_is_told_and_founds_another_one_with_the_rest() {
    let places = [place().await, place().await, place().await];
    let addrs: Vec<SocketAddr> = places.iter().map(|place| place.addr).collect();
    let setup = |name| Setup { name, domain: "", has_jetstream: true, routes: &addrs };
    let [one, two, three] = places;
    let disks = [disk(), disk(), disk()];
    let (a, b, c) =
        (Server::start(&setup("a"), one), Server::start(&setup("b"), two), Server::start(&setup("c"), three));
    let (at_a, at_b, at_c) = (a.link("", 1).0, b.link("", 1).0, c.link("", 1).0);
    let (of_a, of_b) = (found(&at_a, &disks[0]), found(&at_b, &disks[1]));
    let of_c = found(&at_c, &disks[2]);
    let former = founding_of(&settles(&of_a).await).cluster;
    settles(&of_b).await;
    settles(&of_c).await;
    assert_eq!((of_a.cluster(), of_c.cluster()), (Some(former), Some(former)));
    assert!(of_c.begun().await);
    at_c.stop().await;

    let before = of_a.life();
    assert!(of_a.leave(former).await && of_a.leave(former).await, "once more is the same");
    assert!(of_b.leave(former).await);
    assert!(of_a.cluster() != Some(former) && of_a.life() != before);
    at_a.stop().await;
    disks[0].crash(7);
    let at_a = a.link("", 2).0;
    let of_a = found(&at_a, &disks[0]);
    assert_ne!(of_a.cluster(), Some(former), "that is for ever");

    let at_c = c.link("", 2).0;
    let of_c = found(&at_c, &disks[2]);
    assert_eq!(of_c.cluster(), Some(former), "it does not know");
    let all = [&of_a, &of_b, &of_c];
    eventually("another cluster", || {
        let clusters = all.map(Founder::cluster);
        clusters[0].is_some_and(|cluster| cluster != former) && clusters.iter().all(|c| *c == clusters[0])
    })
    .await;
    for link in [&at_a, &at_b, &at_c] {
        link.stop().await;
    }
    [&a, &b, &c].into_iter().for_each(Server::stop);
}

/// Time in which a ballot without anybody missing would have been through.
const LOOKS_OF_A_BALLOT: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_founds_alone_only_what_consists_of_it_alone() {
    let places = [place().await, place().await, place().await];
    let [own, with_core, core] = places;
    let own_addr = [own.addr];
    let addrs = [with_core.addr, core.addr];
    let setup = |name, has_jetstream, routes| Setup { name, domain: "", has_jetstream, routes };
    let alone = Server::start(&setup("alone", true, &own_addr), own);
    let waiting = Server::start(&setup("waiting", true, &addrs), with_core);
    let core = Server::start(&setup("core", false, &addrs), core);
    let (at_alone, _) = alone.link("", 1);
    let (at_waiting, _) = waiting.link("", 1);
    let of_waiting = found(&at_waiting, &disk());
    let founded = settles(&found(&at_alone, &disk())).await;
    assert_eq!(names(founding_of(&founded), &["alone", "waiting"]), ["alone"]);
    eventually("another one is wanted", || {
        let missing = of_waiting.missing();
        missing.len() == 1
            && missing[0].who == "another server with JetStream"
            && missing[0].since > LOOKS_OF_A_BALLOT
    })
    .await;
    assert_eq!(of_waiting.state(), Foundation::Waiting);
    assert!(!of_waiting.begun().await, "nothing has begun");
    at_alone.stop().await;
    at_waiting.stop().await;
    [&alone, &waiting, &core].into_iter().for_each(Server::stop);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_not_said_and_tried_again() {
    let [(a, at_a, _), (b, at_b, _)] = servers(["a", "b"]).await;
    let (failing, other) = (disk(), disk());
    failing.set_capacity(Some(failing.used()));
    let (of_a, of_b) = (found(&at_a, &failing), found(&at_b, &other));
    eventually("A is missing, whose disk takes nothing", || {
        let missing = of_b.missing();
        missing.len() == 1 && missing[0].who == "a" && missing[0].since > LOOKS_OF_A_BALLOT
    })
    .await;
    assert_eq!(of_a.life(), 0);
    failing.set_capacity(None);
    let (founded_a, founded_b) = (settles(&of_a).await, settles(&of_b).await);
    assert_eq!(founding_of(&founded_a), founding_of(&founded_b));
    at_a.stop().await;
    at_b.stop().await;
    [&a, &b].into_iter().for_each(Server::stop);
}
