//! Real server processes as one cluster: found by each other, disturbed one by one, found again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use linnet_launch::{ClusterSpec, Error, JetStream, Login, MemberPorts, State, free_port, poll_until};

const LONG: Duration = Duration::from_secs(20);

/// The reference server, or `None` with a note that the test did not run; that is a failure in CI.
#[allow(clippy::print_stdout, reason = "a test that did not run says so")]
fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("NATS_SERVER").map(PathBuf::from)
        && path.exists()
    {
        return Some(path);
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "NATS_SERVER must name a server in CI");
    println!("NOT RUN: NATS_SERVER does not name a server");
    None
}

fn three(program: &PathBuf) -> ClusterSpec {
    ClusterSpec::new("C").server("a", program).server("b", program).server("c", program).timeout(LONG)
}

#[test]
fn servers_find_each_other_again_on_the_same_ports_after_every_fault() {
    let Some(program) = program() else { return };
    let login = Login { user: "sys".into(), password: "secret".into() };
    let quick = "ping_interval: \"200ms\", ping_max: 1";
    let mut cluster = three(&program).system_user(login).pool_size(1).cluster_extra(quick).start().unwrap();
    let ports: Vec<MemberPorts> = cluster.members().iter().map(|member| member.ports()).collect();
    assert!(cluster[2].server().dir().ends_with("c") && cluster[2].server().dir().exists());

    cluster.kill("b").unwrap();
    let State::Ended(Some(status)) = cluster.member("b").unwrap().state() else { panic!("it has ended") };
    assert_eq!(status.code(), None, "killed by a signal");
    cluster.wait_formed(LONG).unwrap();
    assert!(matches!(cluster.kill("b"), Err(Error::Member { .. })), "it is not running");
    cluster.restart("b", LONG).unwrap();
    cluster.wait_formed(LONG).unwrap();

    cluster.pause("c").unwrap();
    assert_eq!(cluster.member("c").unwrap().state(), State::Paused);
    let routes_of_a = |cluster: &linnet_launch::Cluster| {
        let page = cluster[0].server().monitor_get("/routez").unwrap().body;
        page.matches("\"remote_name\": \"c\"").count()
    };
    assert!(poll_until(LONG, || routes_of_a(&cluster) == 0), "a silent server is given up");
    cluster.resume("c").unwrap();
    assert_eq!(cluster.member("c").unwrap().state(), State::Running);
    cluster.wait_formed(LONG).unwrap();

    assert!(cluster.terminate("a", LONG).is_ok());
    cluster.restart("a", LONG).unwrap();
    cluster.restart("c", LONG).unwrap();
    cluster.wait_formed(LONG).unwrap();
    let now: Vec<MemberPorts> = cluster.members().iter().map(|member| member.ports()).collect();
    assert_eq!(now, ports);
    for member in cluster.members() {
        assert_eq!(member.server().client_addr().unwrap().port(), member.ports().client);
    }

    // One that is paused stops, too.
    cluster.pause("b").unwrap();
    assert!(cluster.stop(LONG).is_empty(), "nobody had to be killed");
    assert!(cluster.members_mut().iter_mut().all(|member| matches!(member.state(), State::Ended(_))));
    let dir = cluster.dir().to_owned();
    drop(cluster);
    assert!(!dir.exists(), "the temporary directory is gone");
}

#[test]
fn what_is_wrong_is_named() {
    let Some(program) = program() else { return };
    let mut cluster = ClusterSpec::new("C").server("a", &program).start().unwrap();
    let error = cluster.pause("x").unwrap_err().to_string();
    assert_eq!(error, "there is no server \"x\"; there are a");
    let taken = cluster[0].ports();
    let error = ClusterSpec::new("C").server_at("b", &program, taken).start().unwrap_err().to_string();
    let expected = format!("b: port {} for clients cannot be used: ", taken.client);
    assert!(error.starts_with(&expected), "{error}");
    let error = three(&program).extra("nonsense: {").start().unwrap_err().to_string();
    assert!(error.starts_with("a: ") && error.contains("its log ends with"), "{error}");
    let nobody = ClusterSpec::new("C").server("a", "/no/such/server").start().unwrap_err();
    assert!(nobody.to_string().starts_with("a: cannot start /no/such/server"), "{nobody}");
}

#[test]
fn servers_that_do_not_find_each_other_are_an_error_that_says_which() {
    let Some(program) = program() else { return };
    let never = ClusterSpec::new("C").server("a", &program).server("b", &program);
    // Their listeners are told to others at a port where nobody is.
    let nobody = free_port().unwrap();
    let login = format!("authorization {{ user: r, password: s }}\nadvertise: \"127.0.0.1:{nobody}\"");
    let error = never.cluster_extra(login).timeout(Duration::from_secs(2)).start().unwrap_err();
    let Error::NotFormed { missing, .. } = &error else { panic!("{error}") };
    assert_eq!(missing, "a has 0 to b, wanted are 4");
}

#[test]
fn waiting_is_given_up_when_asked() {
    let Some(program) = program() else { return };
    let flag = Arc::new(AtomicBool::new(true));
    let error = three(&program).give_up_when(flag).start().unwrap_err();
    assert_eq!(error.to_string(), "a: interrupted");
}

#[test]
fn a_server_with_jetstream_is_alone() {
    let Some(program) = program() else { return };
    let cluster =
        ClusterSpec::new("C").server("a", &program).jetstream(JetStream::default()).start().unwrap();
    assert!(cluster[0].server().dir().join("store").is_dir());
    assert!(cluster[0].server().monitor_get("/jsz").unwrap().body.contains("store"));
}
