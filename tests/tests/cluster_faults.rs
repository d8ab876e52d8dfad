//! Each server of a cluster in turn is killed, paused and restarted while clients use all of them. Afterwards clients are
//! back, every server knows the same, and each subscriber hears each publisher exactly once.

mod load;

use std::collections::BTreeSet;
use std::sync::Arc;

use linnet_launch::{Cluster, Deadline, Dial, Member, poll_until};

use crate::harness::{Inside as _, Kind, LONG, eventually, mesh, setting};
use load::{Actor, Counts};

/// So that a silent server is noticed within three seconds.
const PINGS: &str = "ping_interval: \"1s\"\nping_max: 2";

struct Scene {
    cluster: Cluster,
    kinds: Vec<Kind>,
    urls: Vec<String>,
    /// Two for each server, the first of which stays with it.
    actors: Vec<Actor>,
    started: usize,
    counts: Arc<Counts>,
    /// What was heard exactly once by these clients, and has to stay so.
    markers: Vec<(String, Vec<usize>)>,
}

/// Runs a test beside clients that run at the same time.
fn run(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test());
}

impl Scene {
    /// For each server a client that stays with it, and one that goes to others when it is lost.
    async fn set(kinds: &[Kind]) -> Option<Self> {
        let cluster = mesh(kinds)?.dial(Dial::Others).cluster_extra(PINGS).start().unwrap();
        let urls: Vec<String> =
            cluster.members().iter().map(|member| member.server().client_url().unwrap()).collect();
        let counts = Arc::new(Counts::default());
        let mut scene = Self {
            cluster,
            kinds: kinds.to_vec(),
            urls,
            actors: Vec::new(),
            started: 0,
            counts,
            markers: Vec::new(),
        };
        for at in 0..kinds.len() {
            let (stays, roams) = (scene.client(at, 1).await, scene.client(at, kinds.len()).await);
            scene.actors.extend([stays, roams]);
        }
        Some(scene)
    }

    /// A client of this server, which knows so many servers.
    async fn client(&mut self, at: usize, known: usize) -> Actor {
        let mut servers = self.urls.clone();
        servers.rotate_left(at);
        self.started += 1;
        Actor::start(self.started, &servers[..known], &self.counts).await
    }

    /// Puts a new client in the place of the one that was at this server and may have gone to another one.
    async fn renew(&mut self, at: usize) {
        self.actors[2 * at + 1] = self.client(at, self.urls.len()).await;
    }

    /// Fails unless everything is as it was before a fault, soon.
    async fn heals(&mut self, what: &str) {
        self.cluster.wait_formed(LONG).unwrap_or_else(|error| panic!("{what}: {error}"));
        let (patience, deadline) = (Deadline::after(LONG / 4), Deadline::after(LONG));
        let mut is_told_again = false;
        for attempt in 0.. {
            let Err(missing) = self.try_exchange(&format!("{what}, {attempt}")).await else { break };
            assert!(!deadline.has_passed(), "{what}: {missing}");
            if patience.has_passed() && !std::mem::replace(&mut is_told_again, true) {
                self.tell_again().await;
            }
        }
        for actor in &self.actors {
            let before = actor.answered();
            eventually("an answer", async || (actor.answered() > before).then_some(())).await;
        }
        assert_eq!(self.counts.repeated(), [], "{what}: heard twice");
    }

    /// Lets nats-servers lose all their clients and get new ones, whose subscriptions they then tell of.
    ///
    /// If a subscription comes and another one of the same subject goes at the moment when a route is set up, nats-server
    /// 2.15 may leave that route without the interest as long as there is any (`updateRouteSubscriptionMap` chooses the
    /// routes before it settles which of the two changes is sent).
    async fn tell_again(&mut self) {
        let peers = (0..self.kinds.len()).filter(|at| self.kinds[*at] == Kind::Peer);
        for at in peers.collect::<Vec<_>>() {
            let is_there = |actor: &Actor| actor.client.server_info().server_name == format!("n{at}");
            let there: Vec<usize> = (0..self.actors.len()).filter(|i| is_there(&self.actors[*i])).collect();
            let count = self.kinds.len();
            for place in &there {
                self.actors[*place] = self.client((at + 1) % count, 1).await;
            }
            eventually("no clients", async || own_interest(&self.cluster[at]).is_empty().then_some(())).await;
            for place in there {
                self.actors[place] = self.client(place / 2, if place % 2 == 0 { 1 } else { count }).await;
            }
        }
    }

    /// Lets each client publish once; an error says what is not as it should be yet.
    async fn try_exchange(&mut self, round: &str) -> Result<(), String> {
        let connects = || self.actors.iter().map(Actor::connects).sum::<u64>();
        let before = connects();
        for actor in &self.actors {
            if !actor.is_served().await {
                return Err(format!("client {} is not served", actor.number()));
            }
        }
        same_interest(&self.cluster)?;
        let marker = |actor: &Actor| format!("{round}, {}", actor.number());
        for actor in &self.actors {
            actor.client.publish("check", marker(actor).into()).await.map_err(|error| error.to_string())?;
        }
        let markers: Vec<String> = self.actors.iter().map(marker).collect();
        let (counts, actors) = (&self.counts, &self.actors);
        let numbers: Vec<usize> = actors.iter().map(Actor::number).collect();
        let unheard = |marker: &String| {
            let by = numbers.iter().find(|number| counts.heard(**number, marker) == 0);
            let by = by.map(|number| format!("{marker:?} was not heard by client {number}"));
            by.or_else(|| {
                (counts.grouped(marker) == 0).then(|| format!("{marker:?} was not heard by the group"))
            })
        };
        let first_unheard = || markers.iter().find_map(unheard);
        poll_until(LONG, || first_unheard().is_none() || connects() != before);
        if connects() != before {
            return Err("a client has connected again".to_owned());
        }
        assert_eq!(first_unheard(), None);
        self.markers.extend(markers.into_iter().map(|marker| (marker, numbers.clone())));
        self.all_heard_once();
        Ok(())
    }

    fn all_heard_once(&self) {
        for (marker, clients) in &self.markers {
            let heard: Vec<usize> = clients.iter().map(|client| self.counts.heard(*client, marker)).collect();
            assert!(heard.iter().all(|count| *count == 1), "{marker:?} was heard {heard:?} times");
            assert_eq!(self.counts.grouped(marker), 1, "{marker:?} by the group");
        }
    }
}

/// Subjects and queue groups that a page lists, without those of the server itself.
fn listed(list: &serde_json::Value) -> BTreeSet<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let pairs =
        list.as_array().into_iter().flatten().map(|sub| (text(&sub["subject"]), text(&sub["qgroup"])));
    pairs.filter(|(subject, _)| !subject.starts_with('$')).collect()
}

/// What clients of this server are interested in.
fn own_interest(member: &Member) -> BTreeSet<(String, String)> {
    listed(&member.page("/subsz?subs=1&acc=$G&limit=10000")["subscriptions_list"])
}

/// Whether what clients of each server are interested in is what all others know of it.
fn same_interest(cluster: &Cluster) -> Result<(), String> {
    let members = cluster.members();
    let pages: Vec<_> = members.iter().map(|member| member.page("/routez?subs=detail")).collect();
    for member in members {
        let own = own_interest(member);
        let known = |page: &serde_json::Value| -> BTreeSet<(String, String)> {
            let routes = page["routes"].as_array().unwrap().iter();
            let of_member = routes.filter(|route| route["remote_name"] == member.name());
            of_member.flat_map(|route| listed(&route["subscriptions_list_detail"])).collect()
        };
        for (other, page) in members.iter().zip(&pages).filter(|(other, _)| other.name() != member.name()) {
            if known(page) != own {
                let (name, known) = (other.name(), known(page));
                return Err(format!("{name} knows {known:?} of {}, which has {own:?}", member.name()));
            }
        }
    }
    Ok(())
}

/// Waits until no other server has a route to the one of this name.
fn is_given_up(members: &[Member], name: &str) {
    for other in members.iter().filter(|member| member.name() != name) {
        assert!(poll_until(LONG, || !other.peers().iter().any(|peer| peer == name)), "{:?}", other.peers());
    }
}

async fn each_server_in_turn(kinds: &[Kind]) {
    let Some(mut scene) = Scene::set(kinds).await else { return };
    scene.heals("start").await;
    for round in 0..setting("LINNET_FAULT_ROUNDS", 1) {
        for at in 0..kinds.len() {
            let name = format!("n{at}");
            let what = |fault: &str| format!("round {round}, {fault} {name}");
            scene.cluster.kill(&name).unwrap();
            is_given_up(scene.cluster.members(), &name);
            scene.cluster.restart(&name, LONG).unwrap();
            scene.heals(&what("kill")).await;

            scene.renew(at).await;
            scene.cluster.pause(&name).unwrap();
            is_given_up(scene.cluster.members(), &name);
            scene.cluster.resume(&name).unwrap();
            scene.heals(&what("pause")).await;

            // Its clients notice, and other servers do not.
            scene.renew(at).await;
            let clients = &scene.actors[2 * at..2 * at + 2];
            let connects: Vec<u64> = clients.iter().map(Actor::connects).collect();
            scene.cluster.pause(&name).unwrap();
            let have_left = || clients.iter().zip(&connects).all(|(client, before)| client.has_left(*before));
            eventually("lost clients", async || have_left().then_some(())).await;
            scene.cluster.resume(&name).unwrap();
            scene.heals(&what("short pause")).await;

            scene.renew(at).await;
            scene.cluster.restart(&name, LONG).unwrap();
            scene.heals(&what("restart")).await;
        }
    }
    scene.all_heard_once();
}

#[test]
fn clients_of_a_cluster_survive_what_happens_to_each_server() {
    run(async || each_server_in_turn(&[Kind::Linnet; 3]).await);
}

#[test]
fn clients_of_a_mixed_cluster_survive_what_happens_to_each_server() {
    run(async || each_server_in_turn(&[Kind::Linnet, Kind::Linnet, Kind::Peer]).await);
}
