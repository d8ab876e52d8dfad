//! The program as operators see it: flags, exit codes, files, log, signals.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use linnet_launch::{Options, Server, Spec, poll_until};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{JETSTREAM, Kind, LONG, PLAIN, Raw, program};

fn linnet() -> PathBuf {
    program(Kind::Linnet).unwrap()
}

fn output(arguments: &[&str]) -> Output {
    Command::new(linnet()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn config_file(dir: &TempDir, text: &str) -> String {
    let path = dir.path().join("server.conf");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn start(options: Options) -> Server {
    start_with(options, &[])
}

fn start_with(options: Options, arguments: &[&str]) -> Server {
    let spec = Spec::new(linnet()).options(options);
    arguments
        .iter()
        .fold(spec, |spec, argument| spec.arg(*argument))
        .start()
        .unwrap_or_else(|e| panic!("{e}"))
}

/// Waits for a line in a file that contains the text.
fn wait_for(file: &Path, text: &str) {
    let seen = || fs::read_to_string(file).unwrap_or_default();
    assert!(poll_until(LONG, || seen().contains(text)), "no {text:?} in:\n{}", seen());
}

fn log_of(server: &Server) -> String {
    fs::read_to_string(server.log_file()).unwrap()
}

/// The text of a log line after process id, time and level, whose form is checked.
fn text_of(line: &str, pid: u32, with_time: bool) -> (&str, &str) {
    let rest = line.strip_prefix(&format!("[{pid}] ")).unwrap_or_else(|| panic!("no [pid]: {line}"));
    let rest = if with_time {
        let (time, rest) = rest.split_at("2006/01/02 15:04:05.000000".len());
        let form: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(form, "0000/00/00 00:00:00.000000", "{line}");
        rest.strip_prefix(' ').unwrap()
    } else {
        rest
    };
    let (level, text) = rest.split_at(5);
    assert!(["[INF]", "[DBG]", "[WRN]", "[ERR]", "[FTL]", "[TRC]"].contains(&level), "{line}");
    (level, text.strip_prefix(' ').unwrap())
}

#[test]
fn version_is_printed_and_names_both() {
    for arguments in [["-v"].as_slice(), &["--version"], &["version"]] {
        let printed = output(arguments);
        assert_eq!(code(&printed), 0);
        assert!(out(&printed).starts_with("nats-server: v2.15.1"), "{}", out(&printed));
        assert!(out(&printed).contains("linnet "), "{}", out(&printed));
    }
}

#[test]
fn help_is_printed() {
    for arguments in [["-h"].as_slice(), &["--help"], &["help"]] {
        let printed = output(arguments);
        assert_eq!(code(&printed), 0);
        assert!(out(&printed).contains("--jetstream"), "{}", out(&printed));
    }
}

#[test]
fn unknown_flags_are_errors_that_name_the_nearest() {
    let refused = output(&["--jetstraem"]);
    assert_eq!(code(&refused), 1);
    assert!(err(&refused).contains("jetstraem") && err(&refused).contains("jetstream"), "{}", err(&refused));
    let refused = output(&["-p", "abc"]);
    assert_eq!(code(&refused), 1);
    assert!(err(&refused).contains("abc"), "{}", err(&refused));
    let refused = output(&["frobnicate"]);
    assert_eq!(code(&refused), 1);
    assert!(err(&refused).contains("unrecognized command: \"frobnicate\""), "{}", err(&refused));
}

#[test]
fn a_good_configuration_passes_its_check() {
    let dir = tempfile::tempdir().unwrap();
    let path = config_file(&dir, "port: 4222\njetstream { store_dir: \"x\" }\n");
    let checked = output(&["-t", "-c", &path]);
    assert_eq!(code(&checked), 0, "{}", err(&checked));
    let said = format!("nats-server: configuration file {path} is valid (sha256:");
    assert!(err(&checked).starts_with(&said), "{}", err(&checked));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a check makes nothing");
}

#[test]
fn a_bad_configuration_fails_with_its_position() {
    let dir = tempfile::tempdir().unwrap();
    for (text, expected) in [
        ("port: 4222\nprot: 4223\n", vec!["server.conf:2:", "unknown field \"prot\""]),
        ("port: 4222\njetstream { nothing: 1 }\n", vec!["server.conf:2:", "nothing"]),
        ("port: {\n", vec!["Parse error"]),
        ("port: \"x\n", vec!["Parse error"]),
        ("max_payload: lots\n", vec!["server.conf:1:"]),
        ("tls { cert_file: \"a\" }\n", vec!["server.conf:1:", "missing 'key_file'"]),
        (
            "tls { cert_file: \"a\", key_file: \"b\" }\n",
            vec![
                "server.conf:1:",
                "error parsing X509 certificate/key pair: open a: no such file or directory",
            ],
        ),
    ] {
        let path = config_file(&dir, text);
        for arguments in [["-t", "-c", &path].as_slice(), &["-c", &path]] {
            let refused = output(arguments);
            assert_eq!(code(&refused), 1, "{text}");
            for part in &expected {
                assert!(err(&refused).contains(part), "{part:?} not in {:?}", err(&refused));
            }
        }
    }
    let refused = output(&["-t", "-c", "no/such/file.conf"]);
    assert_eq!(code(&refused), 1);
    assert!(err(&refused).contains("no/such/file.conf"), "{}", err(&refused));
}

#[test]
fn a_port_in_use_ends_the_start_with_a_reason() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let refused = output(&["-a", "127.0.0.1", "-p", &port]);
    assert_eq!(code(&refused), 1);
    assert!(
        err(&refused).contains(&port) && err(&refused).to_lowercase().contains("in use"),
        "{}",
        err(&refused)
    );
    assert!(err(&refused).contains("[FTL] Error listening on port: "), "{}", err(&refused));
}

#[test]
fn a_file_that_cannot_be_written_ends_the_start_with_a_reason() {
    let at = ["-a", "127.0.0.1", "-p", "-1"];
    for (flag, expected) in [
        ("-l", " error opening file: open no/such/dir/x: "),
        ("-P", "[FTL] Could not write pidfile: open no/such/dir/x: "),
    ] {
        let refused = output(&[at.as_slice(), &[flag, "no/such/dir/x"]].concat());
        assert_eq!(code(&refused), 1, "{flag}");
        assert!(err(&refused).contains(expected), "{flag}: {}", err(&refused));
    }
}

#[test]
fn pid_file_and_ports_file_are_as_the_tools_expect_them() {
    let options = Options { extra: "pid_file: \"$DIR/pid\"".into(), monitor: true, ..PLAIN() };
    let mut server = start(options);
    assert_eq!(fs::read_to_string(server.dir().join("pid")).unwrap(), server.pid().to_string());
    let ports = server.dir().join(format!("linnet_{}.ports", server.pid()));
    let text = fs::read_to_string(&ports).unwrap();
    let expected = format!(
        "{{\"nats\":[\"nats://{}\"],\"monitoring\":[\"http://{}\"]}}",
        server.client_addr().unwrap(),
        server.monitor_addr().unwrap()
    );
    assert_eq!(text, expected);
    assert_eq!(server.terminate(LONG).unwrap().code(), Some(0));
    assert!(!ports.exists(), "it goes with the server");
}

#[test]
fn started_as_nats_server_it_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("nats-server");
    std::os::unix::fs::symlink(linnet(), &link).unwrap();
    let mut server = Spec::new(&link).options(PLAIN()).start().unwrap();
    assert!(server.dir().join(format!("nats-server_{}.ports", server.pid())).exists());
    assert_eq!(server.terminate(LONG).unwrap().code(), Some(0));
}

#[test]
fn start_up_lines_come_in_order() {
    let options = Options { name: Some("n1".into()), extra: "http: \"127.0.0.1:-1\"".into(), ..JETSTREAM() };
    let mut server = start(options);
    wait_for(server.log_file(), "Server is ready");
    server.terminate(LONG).unwrap();
    let log = log_of(&server);
    let texts: Vec<&str> = log.lines().map(|line| text_of(line, server.pid(), true).1).collect();
    let config = format!("Using configuration file: {} (sha256:", server.dir().join("server.conf").display());
    let store = format!("  Store Directory: \"{}\"", server.dir().join("store/jetstream").display());
    let client = format!("Listening for client connections on {}", server.client_addr().unwrap());
    let monitor = format!("Starting http monitor on {}", server.monitor_addr().unwrap());
    let expected = [
        "Starting nats-server",
        "  Version:  2.15.1",
        "  Git:      [",
        "  Name:     n1",
        "  Node:     ",
        "  ID:       N",
        &config,
        &monitor,
        "Starting JetStream",
        "---------------- JETSTREAM ----------------",
        "  Strict:          true",
        "  Max Memory:      ",
        "  Max Storage:     ",
        &store,
        "  API Level:       5",
        "-------------------------------------------",
        &client,
        "Server is ready",
        "Trapped \"terminated\" signal",
        "Initiating Shutdown...",
        "Initiating JetStream Shutdown...",
        "JetStream Shutdown",
        "Server Exiting..",
    ];
    let mut rest = texts.iter();
    for line in expected {
        assert!(rest.any(|text| text.starts_with(line)), "{line:?} is missing or too early in:\n{log}");
    }
}

#[test]
fn log_lines_may_come_without_a_time() {
    let options = Options { extra: "logtime: false".into(), ..PLAIN() };
    let mut server = start(options);
    server.terminate(LONG).unwrap();
    for line in log_of(&server).lines() {
        text_of(line, server.pid(), false);
    }
}

#[test]
fn debug_and_trace_show_connections_and_protocol_without_passwords() {
    let options = Options { extra: "authorization { user: a, password: geheim }".into(), ..PLAIN() };
    let mut server = start_with(options, &["-D", "-V"]);
    let mut raw = Raw::connect(server.client_addr().unwrap());
    raw.line();
    raw.send(b"CONNECT {\"verbose\":false,\"user\":\"a\",\"pass\":\"geheim\",\"name\":\"nm\",\"lang\":\"x\",\"version\":\"1\"}\r\n");
    raw.send(b"SUB foo.> 1\r\nPUB foo.x 12\r\nhello\r\nworld\r\n");
    raw.send(b"PING\r\n");
    for line in ["MSG foo.x 1 12", "hello", "world", "PONG"] {
        assert_eq!(raw.line().as_deref(), Some(line));
    }
    drop(raw);
    wait_for(server.log_file(), "Client connection closed: Client Closed");
    server.terminate(LONG).unwrap();
    let log = log_of(&server);
    for part in [
        " - Client connection created",
        "\"v1:x:nm\"",
        "<<- [CONNECT {\"verbose\":false,\"user\":\"a\",\"pass\":\"[REDACTED]\"",
        "<<- [SUB foo.> 1]",
        "<<- [PUB foo.x 12]",
        "<<- MSG_PAYLOAD: [\"hello\\r\\nworld\"]",
        "->> [MSG foo.x 1 12]",
        "->> [PONG]",
    ] {
        assert!(log.contains(part), "{part:?} is missing in:\n{log}");
    }
    assert!(log.lines().any(|l| l.contains("[DBG]")) && log.lines().any(|l| l.contains("[TRC]")));
    assert!(!log.contains("geheim"), "{log}");
}

#[test]
fn trace_headers_shows_no_payload() {
    let options = Options { extra: "trace_headers: true".into(), ..PLAIN() };
    let mut server = start(options);
    let mut raw = Raw::connect(server.client_addr().unwrap());
    raw.line();
    raw.send(b"CONNECT {\"verbose\":false,\"headers\":true}\r\nPUB a 6\r\nsecret\r\n");
    raw.send(b"HPUB a 22 28\r\nNATS/1.0\r\nA: bcdef\r\n\r\nsecret\r\nPING\r\n");
    assert_eq!(raw.line().as_deref(), Some("PONG"));
    server.terminate(LONG).unwrap();
    let log = log_of(&server);
    assert!(log.contains(r#"<<- MSG_PAYLOAD: ["NATS/1.0\r\nA: bcdef"]"#), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn clients_are_told_the_advertised_address() {
    for (advertised, host, port) in
        [("example.org:7777", "example.org", Some(7777)), ("example.org", "example.org", None)]
    {
        let options = Options { extra: format!("client_advertise: \"{advertised}\""), ..PLAIN() };
        let server = start(options);
        let address = server.client_addr().unwrap();
        let info = Raw::connect(address).line().unwrap();
        let info: serde_json::Value = serde_json::from_str(info.strip_prefix("INFO ").unwrap()).unwrap();
        let wanted = serde_json::json!([host, port.unwrap_or_else(|| address.port())]);
        assert_eq!(serde_json::json!([info["host"], info["port"]]), wanted);
    }
}

#[test]
fn a_moved_log_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("linnet.log");
    let mut server = start_with(PLAIN(), &["-l", file.to_str().unwrap()]);
    wait_for(&file, "Server is ready");
    let moved = dir.path().join("moved.log");
    fs::rename(&file, &moved).unwrap();
    server.signal(Signal::USR1).unwrap();
    wait_for(&file, "File log re-opened");
    assert!(fs::read_to_string(&moved).unwrap().contains("Trapped \"user defined signal 1\" signal"));
    server.terminate(LONG).unwrap();
    assert!(fs::read_to_string(&file).unwrap().contains("Server Exiting.."));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_log_at_its_limit_is_put_aside_and_old_ones_go() {
    let extra = "log_file: \"$DIR/the.log\"\nlog_size_limit: 3000\nlog_max_num: 3\ndebug: true";
    let server = start(Options { extra: extra.into(), ..PLAIN() });
    let live = server.dir().join("the.log");
    fs::write(server.dir().join("the.log.1.gz"), "").unwrap();
    let logs = || -> Vec<String> {
        let files =
            fs::read_dir(server.dir()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        files.filter(|name| name.starts_with("the.log")).collect()
    };
    let rotated_twice = || {
        Raw::login(server.client_addr().unwrap());
        fs::read_to_string(&live).unwrap().contains("Purged log file \"the.log.")
    };
    assert!(poll_until(LONG, rotated_twice), "{:?}", logs());
    assert_eq!(logs().len(), 4, "the live one, two backups, and somebody else's: {:?}", logs());
    let text = fs::read_to_string(&live).unwrap();
    let (level, first) = text_of(text.lines().next().unwrap(), server.pid(), true);
    assert!(level == "[INF]" && first.starts_with("Rotated log, backup saved as \""), "{text}");
    for name in logs().iter().filter(|name| name.starts_with("the.log.20")) {
        let size = fs::metadata(server.dir().join(name)).unwrap().len();
        assert!((3000..4000).contains(&size), "{name}: {size} bytes");
    }
}

#[test]
fn the_log_may_tell_the_time_in_utc() {
    let hour = |zone: &str, extra: &str| -> u32 {
        let spec = Spec::new(linnet()).options(Options { extra: extra.into(), ..PLAIN() }).env("TZ", zone);
        let mut server = spec.start().unwrap();
        server.terminate(LONG).unwrap();
        let line = log_of(&server).lines().next().unwrap().to_owned();
        line.split([' ', ':']).nth(2).unwrap().parse().unwrap()
    };
    let utc = hour("UTC0", "");
    let apart = |hour: u32| (hour + 24 - utc) % 24;
    // The hour may pass between one start and the next.
    assert!(apart(hour("XYZ-9", "")) >= 9, "local time is not the zone's");
    assert!(apart(hour("XYZ-9", "logtime_utc: true")) <= 1);
}

#[test]
fn a_second_interrupt_does_not_cut_a_stop_short() {
    let mut server = start(JETSTREAM());
    let mut raw = Raw::login(server.client_addr().unwrap());
    let create = r#"{"name":"S","subjects":["s"]}"#;
    raw.send(format!("SUB i 1\r\nPUB $JS.API.STREAM.CREATE.S i {}\r\n{create}\r\n", create.len()).as_bytes());
    assert!(raw.line().unwrap().starts_with("MSG i 1 "));
    server.signal(Signal::INT).unwrap();
    // The second finds the first at work or the process gone; neither may end it by the signal.
    let _ = server.signal(Signal::INT);
    let _ = server.signal(Signal::TERM);
    assert_eq!(server.wait_end(LONG).unwrap().code(), Some(0));
    let log = log_of(&server);
    assert!(log.contains("JetStream Shutdown") && log.trim_end().ends_with("Server Exiting.."), "{log}");
}

#[test]
fn interrupt_and_terminate_end_it_with_zero() {
    for (signal, name) in [(Signal::INT, "interrupt"), (Signal::TERM, "terminated")] {
        let mut server = start(JETSTREAM());
        server.signal(signal).unwrap();
        assert_eq!(server.wait_end(LONG).unwrap().code(), Some(0));
        assert!(log_of(&server).contains(&format!("Trapped \"{name}\" signal")));
    }
}

#[test]
fn clients_are_disconnected_at_a_stop() {
    let mut server = start(PLAIN());
    let mut raw = Raw::login(server.client_addr().unwrap());
    server.terminate(LONG).unwrap();
    assert_eq!(raw.until_closed(), Vec::<String>::new());
}

#[test]
fn a_lame_duck_tells_its_clients_and_ends() {
    let options = Options {
        extra: "lame_duck_grace_period: \"300ms\"\nlame_duck_duration: \"31s\"".into(),
        ..JETSTREAM()
    };
    let mut server = start(options);
    let addr = server.client_addr().unwrap();
    let mut raw = Raw::connect(addr);
    raw.line();
    raw.send(b"CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n");
    assert_eq!(raw.line().as_deref(), Some("PONG"));
    assert!(raw.line().unwrap().contains("\"connect_info\":true"));
    server.signal(Signal::USR2).unwrap();
    let info = raw.line().unwrap();
    assert!(info.starts_with("INFO ") && info.contains("\"ldm\":true"), "{info}");
    assert!(std::net::TcpStream::connect(addr).is_err(), "new clients are refused");
    server.signal(Signal::TERM).unwrap();
    assert_eq!(raw.until_closed(), Vec::<String>::new());
    assert_eq!(server.wait_end(LONG).unwrap().code(), Some(0));
    let log = log_of(&server);
    for line in [
        "Entering lame duck mode, stop accepting new clients",
        "JetStream Shutdown",
        "Closing existing clients",
    ] {
        assert!(log.contains(line), "{line:?} is missing in:\n{log}");
    }
}

#[test]
fn a_lame_duck_without_clients_ends_at_once() {
    let mut server = start(PLAIN());
    server.signal(Signal::USR2).unwrap();
    assert_eq!(server.wait_end(LONG).unwrap().code(), Some(0));
}

#[test]
fn a_hangup_reads_the_configuration_and_says_what_is_wrong_with_it() {
    let mut server = start(PLAIN());
    server.signal(Signal::HUP).unwrap();
    wait_for(server.log_file(), "Reloaded server configuration");
    let path = server.dir().join("server.conf");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}\nmax_payload: 1000\n")).unwrap();
    server.signal(Signal::HUP).unwrap();
    wait_for(server.log_file(), "max_payload");
    fs::write(&path, "port: {").unwrap();
    server.signal(Signal::HUP).unwrap();
    wait_for(server.log_file(), "Parse error");
    let log = log_of(&server);
    let place = format!("Failed to reload server configuration: {}:1:7: Parse error: '", path.display());
    assert!(log.contains(&place), "{place:?} is missing in:\n{log}");
    assert!(server.is_running());
    Raw::login(server.client_addr().unwrap()).ping();
}

#[test]
fn signals_are_sent_by_the_program_itself() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("linnet.log");
    let mut server = start_with(PLAIN(), &["-l", file.to_str().unwrap()]);
    let pid = server.pid();
    assert_eq!(code(&output(&["--signal", &format!("reopen={pid}")])), 0);
    wait_for(&file, "File log re-opened");
    let pid_file = dir.path().join("pid");
    fs::write(&pid_file, pid.to_string()).unwrap();
    assert_eq!(code(&output(&["-sl", &format!("quit={}", pid_file.display())])), 0);
    assert_eq!(server.wait_end(LONG).unwrap().code(), Some(0));
}

#[test]
fn every_signal_reaches_the_process_of_a_pid_file() {
    for (name, logged, code_at_end) in [
        ("reload", "Trapped \"hangup\" signal", None),
        ("reopen", "Trapped \"user defined signal 1\" signal", None),
        ("ldm", "Trapped \"user defined signal 2\" signal", Some(0)),
        ("quit", "Trapped \"interrupt\" signal", Some(0)),
        ("term", "Trapped \"terminated\" signal", Some(0)),
    ] {
        let mut server = start(Options { extra: "pid_file: \"$DIR/pid\"".into(), ..PLAIN() });
        let argument = format!("{name}={}", server.dir().join("pid").display());
        let sent = output(&["--signal", &argument]);
        assert_eq!((code(&sent), out(&sent), err(&sent)), (0, String::new(), String::new()), "{name}");
        wait_for(server.log_file(), logged);
        match code_at_end {
            Some(expected) => assert_eq!(server.wait_end(LONG).unwrap().code(), Some(expected), "{name}"),
            None => assert!(server.is_running(), "{name}"),
        }
    }
    let mut server = start(Options { extra: "pid_file: \"$DIR/pid\"".into(), ..PLAIN() });
    let argument = format!("stop={}", server.dir().join("pid").display());
    assert_eq!(code(&output(&["-sl", &argument])), 0);
    let killed = std::os::unix::process::ExitStatusExt::signal(&server.wait_end(LONG).unwrap());
    assert_eq!(killed, Some(Signal::KILL.as_raw()));
}

/// Operator contract, row A19.
#[test]
fn a19_a_server_is_drained_by_its_name() {
    let name = |n: u32| format!("duck-{}-{n}", std::process::id());
    let mut by_file = start(Options { name: Some(name(1)), ..PLAIN() });
    let mut by_flag = start_with(PLAIN(), &["--server_name", &name(2)]);
    assert_eq!(code(&output(&["--signal", &format!("ldm={}", name(2))])), 0);
    assert_eq!(by_flag.wait_end(LONG).unwrap().code(), Some(0));
    assert!(by_file.is_running());
    assert_eq!(code(&output(&["-sl", &format!("ldm={}", name(1))])), 0);
    assert_eq!(by_file.wait_end(LONG).unwrap().code(), Some(0));
    let twins = [
        start(Options { name: Some(name(3)), ..PLAIN() }),
        start(Options { name: Some(name(3)), ..PLAIN() }),
    ];
    let refused = output(&["--signal", &format!("ldm={}", name(3))]);
    assert_eq!(code(&refused), 1);
    for twin in &twins {
        assert!(err(&refused).contains(&twin.pid().to_string()), "{:?}", err(&refused));
    }
}

#[test]
fn signals_to_nobody_are_refused_with_the_reason() {
    for (argument, expected) in [
        ("bogus=1", "unknown signal \"bogus\""),
        ("reload=abc", "invalid pid: abc"),
        ("reload=1=2", "invalid signal parameters"),
        ("reload=99999999", "signal \"reload\" 99999999: no such process"),
    ] {
        let refused = output(&["--signal", argument]);
        assert_eq!(code(&refused), 1, "{argument}");
        assert!(err(&refused).contains(expected), "{expected:?} not in {:?}", err(&refused));
    }
}

#[test]
fn flags_win_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { name: Some("file".into()), ..PLAIN() };
    let store = dir.path().join("store");
    let server = start_with(options, &["-n", "flag", "-js", "-sd", store.to_str().unwrap()]);
    let info = Raw::connect(server.client_addr().unwrap()).line().unwrap();
    assert!(info.contains("\"server_name\":\"flag\"") && info.contains("\"jetstream\":true"), "{info}");
    assert!(store.join("jetstream").is_dir());
}

#[test]
fn a_cluster_is_advertised_at_an_address() {
    let dir = TempDir::new().unwrap();
    for advertised in ["foo:", "foo:x", "foo:70000"] {
        let text = format!("port: -1\ncluster {{ name: C, port: -1, advertise: \"{advertised}\" }}\n");
        let refused = output(&["-c", &config_file(&dir, &text)]);
        assert_eq!(code(&refused), 1, "{advertised}: {}", err(&refused));
        let said = [out(&refused), err(&refused)].concat();
        assert!(said.contains(&format!("invalid Cluster.Advertise value of {advertised}")), "{said}");
    }
}
