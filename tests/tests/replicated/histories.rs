//! Clusters that were founded apart, and whose servers meet.

use linnet_launch::{Ready, Server, Spec, lasting_ports};
use serde_json::{Value, json};

use super::trio::{Trio, publish, run};
use crate::harness::{Kind, LONG, eventually, program};

/// A server that founds a cluster of the same name alone.
struct Lone {
    dir: tempfile::TempDir,
    ports: Vec<u16>,
    server: Option<Server>,
}

impl Lone {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut lone = Self { dir, ports: lasting_ports(3).unwrap(), server: None };
        // A cluster needs a route, which may lead to the server itself.
        let own = lone.ports[2];
        lone.run(&[own]);
        lone
    }

    /// It knows these routes from now on.
    fn run(&mut self, routes: &[u16]) {
        if let Some(mut before) = self.server.take() {
            before.terminate(LONG).unwrap();
        }
        let [client, monitor, cluster] = self.ports[..] else { unreachable!() };
        let urls = routes.iter().map(|port| format!("nats-route://127.0.0.1:{port}")).collect::<Vec<_>>();
        let config = format!(
            "server_name: n9\nlisten: 127.0.0.1:{client}\nhttp: 127.0.0.1:{monitor}\n\
             jetstream {{ store_dir: {:?} }}\n\
             cluster {{ name: C, listen: 127.0.0.1:{cluster}, routes: [{}] }}\n\
             accounts {{ $SYS {{ users: [{{user: sys, password: sys}}] }} }}\n",
            self.dir.path().join("store"),
            urls.join(", "),
        );
        let spec = Spec::new(program(Kind::Linnet).unwrap()).config(config).dir(self.dir.path());
        self.server = Some(spec.ready(Ready::Info, LONG).start().unwrap());
    }

    fn meets(&mut self, trio: &Trio) {
        let routes: Vec<u16> = trio.cluster.members().iter().map(|member| member.ports().cluster).collect();
        self.run(&routes);
    }

    fn page(&self, path: &str) -> Value {
        let page = self.server.as_ref().unwrap().monitor_get(path).unwrap();
        serde_json::from_str(&page.body).unwrap()
    }

    async fn client(&self) -> async_nats::Client {
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        options.ignore_discovered_servers().connect(format!("127.0.0.1:{}", self.ports[0])).await.unwrap()
    }

    fn leads_alone(&self) -> bool {
        self.page("/jsz")["meta_cluster"]["leader"] == json!("n9")
    }
}

/// Calls the API until it succeeds.
async fn call(client: &async_nats::Client, call: &str, body: Value) -> Value {
    let body = serde_json::to_vec(&body).unwrap();
    eventually(call, async || {
        let answer = client.request(format!("$JS.API.{call}"), body.clone().into()).await.ok()?;
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        answer["error"].is_null().then_some(answer)
    })
    .await
}

async fn names(client: &async_nats::Client) -> Value {
    call(client, "STREAM.NAMES", json!({})).await["streams"].clone()
}

/// Waits until the meta group has so many members, and all servers know one leader.
async fn is_one(trio: &Trio, lone: &Lone, size: u64) -> String {
    eventually("one meta group", async || {
        let pages = ["n0", "n1", "n2"].map(|server| trio.try_see(server, "/jsz"));
        let mut pages: Vec<Value> = pages.into_iter().collect::<Option<_>>()?;
        pages.push(lone.page("/jsz"));
        let leader = pages[0]["meta_cluster"]["leader"].as_str()?.to_owned();
        let is_so = |page: &Value| {
            page["meta_cluster"]["leader"] == json!(leader)
                && page["meta_cluster"]["cluster_size"] == json!(size)
        };
        pages.iter().all(is_so).then_some(leader)
    })
    .await
}

#[test]
fn a_server_that_founded_a_cluster_alone_takes_no_streams_away() {
    run(Kind::Linnet, async |trio| {
        trio.stream("A", 3, json!({})).await;
        let client = trio.at("n0").await;
        assert_eq!(publish(&client, "a", "one").await, 1);
        let mut lone = Lone::start();
        eventually("a cluster of its own", async || lone.leads_alone().then_some(())).await;
        lone.meets(trio);
        let leader = is_one(trio, &lone, 4).await;
        assert_ne!(leader, "n9", "those with streams went on");
        assert_eq!(names(&lone.client().await).await, json!(["A"]));
        assert_eq!(publish(&client, "a", "two").await, 2);
        let log = lone.server.as_ref().unwrap().log_tail();
        assert!(log.contains("has no stream and gave itself up for that of n"), "{log}");
    });
}

#[test]
fn of_two_clusters_without_streams_one_goes_on() {
    run(Kind::Linnet, async |trio| {
        let mut lone = Lone::start();
        eventually("a cluster of its own", async || lone.leads_alone().then_some(())).await;
        lone.meets(trio);
        is_one(trio, &lone, 4).await;
        // Whichever it was: it works.
        let client = lone.client().await;
        call(&client, "STREAM.CREATE.A", json!({"name": "A", "subjects": ["a"], "num_replicas": 3})).await;
        let client = trio.at("n1").await;
        assert_eq!(names(&client).await, json!(["A"]));
    });
}

#[test]
fn clusters_that_both_have_streams_stay_apart_and_say_so() {
    run(Kind::Linnet, async |trio| {
        trio.stream("A", 3, json!({})).await;
        let mut lone = Lone::start();
        call(&lone.client().await, "STREAM.CREATE.B", json!({"name": "B", "subjects": ["b"]})).await;
        lone.meets(trio);
        let says = |page: &Value, who: &str| {
            let texts = page["warnings"].as_array().cloned().unwrap_or_default();
            let text = format!(
                "another JetStream meta group are connected, which was founded apart from this one: {who}"
            );
            texts.iter().any(|said| said.as_str().is_some_and(|said| said.contains(&text)))
        };
        eventually("both say so", async || {
            let theirs = trio.try_see("n0", "/healthz?details=true")?;
            (says(&theirs, "n9") && says(&lone.page("/healthz?details=true"), "n0, n1, n2")).then_some(())
        })
        .await;
        // Each answers for itself, and only what it is asked.
        let (near, far) = (trio.at("n1").await, lone.client().await);
        call(&near, "STREAM.CREATE.C", json!({"name": "C", "subjects": ["c"], "num_replicas": 3})).await;
        assert_eq!((names(&near).await, names(&far).await), (json!(["A", "C"]), json!(["B"])));
        assert_eq!(publish(&near, "a", "x").await, 1);
        assert_eq!(publish(&far, "b", "x").await, 1);
        let size = |page: &Value| page["meta_cluster"]["cluster_size"].as_u64();
        assert_eq!((size(&trio.see("n0", "/jsz")), size(&lone.page("/jsz"))), (Some(3), Some(1)));
    });
}
