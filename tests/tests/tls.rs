//! TLS for clients and monitoring pages. Everything runs against both servers.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use futures_util::StreamExt as _;
use linnet_launch::{Options, Ready, Server, Spec, poll_until};
use rcgen::DnType;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    Authority, Kind, LONG, Raw, Secure, TlsClient, nats_cli, program, round_trip, run, within,
};

/// A directory with certificates of an authority that clients trust, and of one that nobody knows.
struct Certificates {
    dir: TempDir,
    ours: Authority,
}

impl Certificates {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ours = Authority::new(dir.path(), "ca");
        ours.server("server");
        ours.client("joe", &["joe@acme.com"]);
        ours.client("amy", &[]);
        ours.expired("old");
        Authority::new(dir.path(), "other").client("stranger", &[]);
        Self { dir, ours }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn client(&self, shown: Option<&str>) -> TlsClient {
        TlsClient::new(&self.ours.file(), shown.map(|name| (self.path(), name)))
    }
}

const PAIR: &str = "cert_file: \"$DIR/server.pem\", key_file: \"$DIR/server.key\"";

/// A server with this inside its `tls` block, and this beside it.
fn start(kind: Kind, certificates: &Certificates, block: &str, beside: &str) -> Option<Server> {
    let extra = format!("tls {{ {PAIR}, {block} }}\n{beside}");
    let options = Options { extra, ..Options::default() };
    let spec = Spec::new(program(kind)?).options(options).dir(certificates.path());
    Some(spec.ready(Ready::Listening, LONG).start().unwrap_or_else(|error| panic!("{error}")))
}

fn page(server: &Server, path: &str) -> Value {
    serde_json::from_str(&server.monitor_get(path).unwrap().body).unwrap()
}

/// Whether a connection was closed for this reason.
fn closed_for(server: &Server, reason: &str) -> bool {
    poll_until(LONG, || {
        let closed = page(server, "/connz?state=closed");
        closed["connections"].as_array().unwrap().iter().any(|c| c["reason"] == reason)
    })
}

/// What a client that shows this certificate is told after its login; `None` if it does not get that far.
fn served(server: &Server, client: &TlsClient) -> Option<String> {
    let (_, mut secure) = client.connect(server.client_addr().unwrap()).ok()?;
    secure.login("").ok().flatten()
}

on_both_kinds! {
    fn info_comes_in_plain_text_and_the_rest_is_encrypted(kind) {
        let certificates = Certificates::new();
        let Some(server) = start(kind, &certificates, "timeout: 3", "") else { return };
        let (info, mut secure) = certificates.client(None).connect(server.client_addr().unwrap()).unwrap();
        let info: Value = serde_json::from_str(info.strip_prefix("INFO ").unwrap()).unwrap();
        assert_eq!((&info["tls_required"], &info["tls_verify"], &info["tls_available"]), (&true.into(), &Value::Null, &Value::Null));
        assert_eq!(secure.login("").unwrap().as_deref(), Some("PONG"));
        let conn = page(&server, "/connz?auth=1")["connections"][0].clone();
        assert_eq!((&conn["tls_version"], &conn["tls_cipher_suite"]), (&"1.3".into(), &"TLS_AES_128_GCM_SHA256".into()));
        assert_eq!((&conn["tls_first"], &conn["tls_peer_certs"]), (&Value::Null, &Value::Null));
        let varz = page(&server, "/varz");
        assert_eq!((&varz["tls_required"], &varz["tls_verify"]), (&true.into(), &Value::Null));
        assert_eq!((varz["tls_timeout"].as_f64(), varz["auth_timeout"].as_f64()), (Some(3.0), Some(4.0)));
        assert!(varz["tls_cert_not_after"].as_str().unwrap().ends_with('Z'), "{varz}");
        // Whoever breaks the protocol is told so and closed.
        secure.send(b"NOPE\r\n").unwrap();
        assert_eq!(secure.rest(), "-ERR 'Unknown Protocol Operation'\r\n");
    }

    fn who_does_not_shake_hands_is_closed_without_a_word(kind) {
        let certificates = Certificates::new();
        let Some(server) = start(kind, &certificates, "timeout: \"300ms\"", "") else { return };
        let mut plain = Raw::connect(server.client_addr().unwrap());
        assert!(plain.line().unwrap().contains("\"tls_required\":true"));
        plain.send(b"CONNECT {}\r\nPING\r\n");
        assert_eq!(plain.until_closed(), Vec::<String>::new());
        // Whoever waits longer than a handshake may take.
        let mut stalling = Raw::connect(server.client_addr().unwrap());
        stalling.line();
        // The length of a record, of which nothing comes.
        stalling.send(&[22, 3, 1, 2, 0]);
        assert_eq!(stalling.until_closed(), Vec::<String>::new());
        assert!(closed_for(&server, "TLS Handshake Failure"));
        assert_eq!(served(&server, &certificates.client(None)).as_deref(), Some("PONG"));
    }

    fn who_begins_a_handshake_with_nonsense_gets_an_alert(kind) {
        let certificates = Certificates::new();
        let Some(server) = start(kind, &certificates, "", "") else { return };
        for (record, alert) in [
            // A message that says it is far larger than any: internal error.
            (b"\x16\x03\x01\0\x05hello", 80),
            // A server's greeting: nothing that can be decoded.
            (b"\x16\x03\x01\0\x05\x02\0\0\x01x", 50),
        ] {
            let mut raw = Raw::connect(server.client_addr().unwrap());
            raw.line();
            raw.send_as_it_is(record);
            assert_eq!(raw.bytes(7)[5..], [2, alert], "{record:?}");
            assert_eq!(raw.until_closed(), Vec::<String>::new());
        }
    }

    fn clients_do_not_trust_a_server_of_an_unknown_authority(kind) {
        let certificates = Certificates::new();
        let Some(server) = start(kind, &certificates, "", "") else { return };
        let wary = TlsClient::new(&certificates.path().join("other.pem"), None);
        assert!(wary.connect(server.client_addr().unwrap()).is_err());
        assert!(closed_for(&server, "TLS Handshake Failure"));
    }

    fn only_clients_with_a_valid_certificate_are_let_in(kind) {
        let certificates = Certificates::new();
        let block = "ca_file: \"$DIR/ca.pem\", verify: true";
        let Some(server) = start(kind, &certificates, block, "") else { return };
        for (shown, is_let_in) in
            [(None, false), (Some("stranger"), false), (Some("old"), false), (Some("joe"), true)]
        {
            let answer = served(&server, &certificates.client(shown));
            assert_eq!(answer.is_some(), is_let_in, "{shown:?}: {answer:?}");
        }
        let (info, mut secure) = certificates.client(Some("joe")).connect(server.client_addr().unwrap()).unwrap();
        assert!(info.contains("\"tls_verify\":true"), "{info}");
        secure.login("").unwrap();
        assert_eq!(page(&server, "/varz")["tls_verify"], true);
        let conn = page(&server, "/connz?auth=1")["connections"][0].clone();
        let shown = &conn["tls_peer_certs"][0];
        assert_eq!(shown["subject"], "CN=joe,OU=dev,O=Acme");
        assert_eq!(shown["spki_sha256"].as_str().unwrap().len(), 64);
        assert_eq!(page(&server, "/connz")["connections"][0]["tls_peer_certs"], Value::Null);
    }

    fn a_certificate_says_which_user_a_client_is(kind) {
        let certificates = Certificates::new();
        let block = "ca_file: \"$DIR/ca.pem\", verify_and_map: true";
        let users = "authorization { users: [ \
            {user: \"joe@acme.com\", permissions: {publish: joe}}, \
            {user: \"O=Acme, OU=dev, CN=amy\", permissions: {publish: amy}} ] }";
        certificates.ours.client("eve", &["eve@acme.com"]);
        let Some(server) = start(kind, &certificates, block, users) else { return };
        for (shown, user) in [("joe", "joe@acme.com"), ("amy", "O=Acme, OU=dev, CN=amy")] {
            let (_, mut secure) = certificates.client(Some(shown)).connect(server.client_addr().unwrap()).unwrap();
            assert_eq!(secure.login("").unwrap().as_deref(), Some("PONG"), "{shown}");
            secure.send(b"PUB other 0\r\n\r\n").unwrap();
            let refused = "-ERR 'Permissions Violation for Publish to \"other\"'";
            assert_eq!(secure.line().unwrap().as_deref(), Some(refused));
            assert_eq!(page(&server, "/connz?auth=1")["connections"][0]["authorized_user"], user);
        }
        // A name and a password do not stand in for the certificate of a user.
        let (_, mut eve) = certificates.client(Some("eve")).connect(server.client_addr().unwrap()).unwrap();
        let said = eve.login(",\"user\":\"joe@acme.com\"").unwrap();
        assert_eq!(said.as_deref(), Some("-ERR 'Authorization Violation'"));
    }

    fn a_subject_is_shown_in_an_order_of_its_own_and_looked_up_without_what_has_no_name(kind) {
        let certificates = Certificates::new();
        let domain = || DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 25]);
        let user_id = DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 1]);
        let (name, organization) = (DnType::CommonName, DnType::OrganizationName);
        certificates.ours.client_called("bob", &[(name.clone(), "bob,x"), (organization, "Z")]);
        certificates.ours.client_called("carol", &[(domain(), "acme"), (name.clone(), "carol")]);
        certificates.ours.client_called("dave", &[(domain(), "acme"), (user_id.clone(), "d"), (name.clone(), "dave")]);
        certificates.ours.client_called("erin", &[(user_id, "e"), (name, "erin")]);
        let block = "ca_file: \"$DIR/ca.pem\", verify_and_map: true";
        let users = "authorization { users: [ {user: \"CN=bob\\\\,x,O=Z\"}, {user: \"CN=carol, DC=acme\"}, {user: \"CN=dave\"}, \
            {user: \"UID=e,CN=erin\"} ] }";
        let Some(server) = start(kind, &certificates, block, users) else { return };
        const PREFIX: &str = "0.9.2342.19200300.100.1";
        for (shown, user, subject) in [
            ("bob", "CN=bob\\,x,O=Z", "CN=bob\\,x,O=Z".to_owned()),
            ("carol", "CN=carol, DC=acme", format!("CN=carol,{PREFIX}.25=acme")),
            ("dave", "CN=dave", format!("CN=dave,{PREFIX}.1=d,{PREFIX}.25=acme")),
        ] {
            let (_, mut secure) = certificates.client(Some(shown)).connect(server.client_addr().unwrap()).unwrap();
            assert_eq!(secure.login("").unwrap().as_deref(), Some("PONG"), "{shown}");
            let conn = page(&server, "/connz?auth=1")["connections"][0].clone();
            assert_eq!((&conn["authorized_user"], &conn["tls_peer_certs"][0]["subject"]), (&user.into(), &subject.into()));
        }
        // What has no name cannot be compared.
        let refused = Some("-ERR 'Authorization Violation'");
        assert_eq!(served(&server, &certificates.client(Some("erin"))).as_deref(), refused);
    }

    fn beside_a_certificate_a_user_counts_for_nothing_and_a_password_has_to_fit(kind) {
        let certificates = Certificates::new();
        certificates.ours.client("eve", &["eve@acme.com"]);
        let block = "ca_file: \"$DIR/ca.pem\", verify_and_map: true";
        let users = "authorization { users: [ {user: \"joe@acme.com\"}, {user: \"eve@acme.com\", password: e}, {user: u, password: p} ] }";
        let Some(server) = start(kind, &certificates, block, users) else { return };
        for (shown, fields, is_let_in) in [
            ("joe", "", true),
            ("joe", ",\"user\":\"u\"", true),
            ("joe", ",\"user\":\"u\",\"pass\":\"p\"", false),
            ("joe", ",\"user\":\"nobody\",\"pass\":\"x\"", false),
            ("joe", ",\"auth_token\":\"x\"", true),
            ("eve", "", false),
            ("eve", ",\"pass\":\"p\"", false),
            ("eve", ",\"user\":\"u\",\"pass\":\"e\"", true),
        ] {
            let (_, mut secure) = certificates.client(Some(shown)).connect(server.client_addr().unwrap()).unwrap();
            let expected = if is_let_in { "PONG" } else { "-ERR 'Authorization Violation'" };
            assert_eq!(secure.login(fields).unwrap().as_deref(), Some(expected), "{shown} {fields}");
            if is_let_in {
                let user = &page(&server, "/connz?auth=1")["connections"][0]["authorized_user"];
                assert_eq!(*user, format!("{shown}@acme.com"), "{fields}");
            }
        }
        let log = server.log_tail();
        assert!(log.contains("User \"nobody\" found in connect proto, but user required from cert"), "{log}");
        assert!(log.contains("authentication error - User \"joe@acme.com\""), "{log}");
    }

    fn the_handshake_comes_first_if_that_is_configured(kind) {
        let certificates = Certificates::new();
        let Some(server) = start(kind, &certificates, "handshake_first: true, timeout: \"500ms\"", "") else { return };
        let mut secure = certificates.client(None).connect_first(server.client_addr().unwrap()).unwrap();
        assert!(secure.line().unwrap().unwrap().starts_with("INFO "));
        assert_eq!(secure.login("").unwrap().as_deref(), Some("PONG"));
        assert_eq!(page(&server, "/connz")["connections"][0]["tls_first"], true);
        // Whoever waits for INFO waits in vain.
        assert_eq!(Raw::connect(server.client_addr().unwrap()).until_closed(), Vec::<String>::new());
    }

    fn both_orders_are_served_if_that_is_configured(kind) {
        let certificates = Certificates::new();
        let Some(server) = start(kind, &certificates, "handshake_first: \"200ms\"", "") else { return };
        let mut first = certificates.client(None).connect_first(server.client_addr().unwrap()).unwrap();
        assert!(first.line().unwrap().unwrap().starts_with("INFO "));
        assert_eq!(first.login("").unwrap().as_deref(), Some("PONG"));
        assert_eq!(served(&server, &certificates.client(None)).as_deref(), Some("PONG"));
    }

    fn clients_may_do_without_tls_if_that_is_configured(kind) {
        let certificates = Certificates::new();
        let Some(server) = start(kind, &certificates, "", "allow_non_tls: true") else { return };
        let mut plain = Raw::connect(server.client_addr().unwrap());
        let info = plain.line().unwrap();
        assert!(info.contains("\"tls_available\":true") && !info.contains("tls_required"), "{info}");
        plain.send(b"CONNECT {\"verbose\":false}\r\n");
        plain.ping();
        let (_, mut secure) = certificates.client(None).connect(server.client_addr().unwrap()).unwrap();
        assert_eq!(secure.login("").unwrap().as_deref(), Some("PONG"));
        secure.send(b"SUB a 1\r\nPING\r\n").unwrap();
        assert_eq!(secure.line().unwrap().as_deref(), Some("PONG"));
        plain.send(b"PUB a 2\r\nhi\r\n");
        assert_eq!(secure.line().unwrap().as_deref(), Some("MSG a 1 2"));
        assert_eq!(page(&server, "/varz")["tls_required"], Value::Null);
    }

    fn only_pinned_keys_are_let_in(kind) {
        let certificates = Certificates::new();
        let pin = {
            let Some(server) = start(kind, &certificates, "ca_file: \"$DIR/ca.pem\", verify: true", "") else { return };
            let (_, mut secure) = certificates.client(Some("joe")).connect(server.client_addr().unwrap()).unwrap();
            secure.login("").unwrap();
            let conn = page(&server, "/connz?auth=1")["connections"][0].clone();
            conn["tls_peer_certs"][0]["spki_sha256"].as_str().unwrap().to_owned()
        };
        let block = format!("ca_file: \"$DIR/ca.pem\", verify: true, pinned_certs: [\"{pin}\"]");
        let Some(server) = start(kind, &certificates, &block, "") else { return };
        assert_eq!(served(&server, &certificates.client(Some("joe"))).as_deref(), Some("PONG"));
        assert_eq!(served(&server, &certificates.client(Some("amy"))), None);
        drop(server);
        // An empty list pins nothing.
        let block = "ca_file: \"$DIR/ca.pem\", verify: true, pinned_certs: []";
        let Some(server) = start(kind, &certificates, block, "") else { return };
        assert_eq!(served(&server, &certificates.client(Some("amy"))).as_deref(), Some("PONG"));
    }

    fn versions_and_suites_are_as_configured(kind) {
        let certificates = Certificates::new();
        let old = TlsClient::speaking(&[&rustls::version::TLS12], &certificates.ours.file(), None);
        {
            let Some(server) = start(kind, &certificates, "min_version: \"1.3\"", "") else { return };
            assert_eq!(served(&server, &old), None);
            let (_, secure) = certificates.client(None).connect(server.client_addr().unwrap()).unwrap();
            assert_eq!(secure.version(), rustls::ProtocolVersion::TLSv1_3);
        }
        let block = "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384], curve_preferences: [CurveP256]";
        let Some(server) = start(kind, &certificates, block, "") else { return };
        let (_, secure) = old.connect(server.client_addr().unwrap()).unwrap();
        assert_eq!(secure.version(), rustls::ProtocolVersion::TLSv1_2);
        assert_eq!(secure.suite(), rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384);
    }

    fn the_name_a_client_asks_for_chooses_the_certificate(kind) {
        let certificates = Certificates::new();
        let other = certificates.ours.client("elsewhere", &[]);
        let wanted = certificates.ours.server("here");
        let extra = "tls { certs: [{cert_file: \"$DIR/elsewhere.pem\", key_file: \"$DIR/elsewhere.key\"}, \
                     {cert_file: \"$DIR/here.pem\", key_file: \"$DIR/here.key\"}] }";
        let Some(program) = program(kind) else { return };
        let options = Options { extra: extra.into(), ..Options::default() };
        let server = Spec::new(program).options(options).dir(certificates.path()).start().unwrap();
        let (_, secure) = certificates.client(None).connect(server.client_addr().unwrap()).unwrap();
        assert_ne!(secure.certificate(), other.der().to_vec());
        assert_eq!(secure.certificate(), wanted.der().to_vec());
    }

    fn a_second_admits_as_many_connections_as_configured(kind) {
        let certificates = Certificates::new();
        let Some(server) = start(kind, &certificates, "connection_rate_limit: 2, timeout: \"100ms\"", "") else { return };
        let refused = poll_until(LONG, || {
            let mut raw = Raw::connect(server.client_addr().unwrap());
            raw.line();
            // Those that are let in say nothing more until the time for their handshake is over.
            raw.line().is_some_and(|line| line.starts_with("-ERR 'Connection throttling is active."))
        });
        assert!(refused, "{}", server.log_tail());
        let is_served = poll_until(LONG, || served(&server, &certificates.client(None)).is_some());
        assert!(is_served, "a later second admits again");
    }

    fn flags_ask_for_tls_too(kind) {
        let certificates = Certificates::new();
        let Some(program) = program(kind) else { return };
        let file = |name: &str| certificates.path().join(name).into_os_string();
        let server = Spec::new(program)
            .dir(certificates.path())
            .arg("--tlsverify")
            .arg("--tlscert").arg(file("server.pem"))
            .arg("--tlskey").arg(file("server.key"))
            .arg("--tlscacert").arg(file("ca.pem"))
            .start()
            .unwrap();
        assert_eq!(served(&server, &certificates.client(None)), None);
        assert_eq!(served(&server, &certificates.client(Some("joe"))).as_deref(), Some("PONG"));
    }

    fn monitoring_pages_come_over_tls(kind) {
        let certificates = Certificates::new();
        let Some(program) = program(kind) else { return };
        let extra = format!("tls {{ {PAIR}, ca_file: \"$DIR/ca.pem\", verify: true }}\nhttps: \"127.0.0.1:-1\"");
        let options = Options { extra, monitor: false, ..Options::default() };
        let server = Spec::new(program).options(options).dir(certificates.path()).start().unwrap();
        let at = server.monitor_addr().unwrap();
        // Nobody is asked for a certificate here.
        let mut secure = certificates.client(None).connect_first(at).unwrap();
        secure.send(b"GET /varz HTTP/1.0\r\n\r\n").unwrap();
        let answer = secure.rest();
        let varz: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(varz["http_port"], 0);
        // nats-server shows what is configured.
        let port = if kind == Kind::Linnet { at.port().into() } else { -1 };
        assert_eq!(varz["https_port"], port);
        let mut plain = Raw::connect(at);
        plain.send(b"GET /varz HTTP/1.0\r\n\r\n");
        assert_eq!(plain.until_closed(), ["HTTP/1.0 400 Bad Request", "", "Client sent an HTTP request to an HTTPS server."]);
    }

    fn messages_of_all_sizes_pass_in_both_directions(kind) {
        let certificates = Certificates::new();
        let Some(server) = start(kind, &certificates, "", "") else { return };
        run(async || {
            let connect = || {
                let options = async_nats::ConnectOptions::new().add_root_certificates(certificates.ours.file());
                options.connect(format!("tls://localhost:{}", server.client_addr().unwrap().port()))
            };
            let (sender, receiver) = (connect().await.unwrap(), connect().await.unwrap());
            let mut messages = receiver.subscribe("size.*").await.unwrap();
            round_trip(&receiver).await;
            let sizes: Vec<usize> = (0..400).map(|n| n * 7 % 300).chain([4095, 4096, 16_384, 70_000, 1 << 20, 1, 1 << 20]).collect();
            for (n, size) in sizes.iter().enumerate() {
                let body = vec![u8::try_from(n % 251).unwrap(); *size];
                sender.publish(format!("size.{n}"), body.into()).await.unwrap();
            }
            for (n, size) in sizes.iter().enumerate() {
                let message = within("a message", messages.next()).await.unwrap();
                assert_eq!((message.subject.as_str(), message.payload.len()), (format!("size.{n}").as_str(), *size));
                assert!(message.payload.iter().all(|b| usize::from(*b) == n % 251));
            }
        });
    }

    fn who_does_not_read_is_a_slow_consumer(kind) {
        let certificates = Certificates::new();
        let Some(server) = start(kind, &certificates, "", "max_pending: 2MB") else { return };
        let addr = server.client_addr().unwrap();
        let (_, mut deaf) = certificates.client(None).connect(addr).unwrap();
        deaf.login("").unwrap();
        deaf.send(b"SUB flood 1\r\nPING\r\n").unwrap();
        assert_eq!(deaf.line().unwrap().as_deref(), Some("PONG"));
        let (_, mut publisher) = certificates.client(None).connect(addr).unwrap();
        publisher.login("").unwrap();
        let message = [b"PUB flood 524288\r\n".as_slice(), &[b'x'; 524_288], b"\r\n"].concat();
        for _ in 0..64 {
            publisher.send(&message).unwrap();
        }
        publisher.send(b"PING\r\n").unwrap();
        assert_eq!(publisher.line().unwrap().as_deref(), Some("PONG"));
        assert!(closed_for(&server, "Slow Consumer (Pending Bytes)"));
    }

    fn openssl_and_the_cli_connect(kind) {
        let certificates = Certificates::new();
        let Some(server) = start(kind, &certificates, "handshake_first: \"1s\"", "") else { return };
        let addr = server.client_addr().unwrap();
        let output = Command::new("openssl")
            .args(["s_client", "-brief", "-verify_return_error", "-connect", &addr.to_string(), "-CAfile"])
            .arg(certificates.ours.file())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("Verification: OK") && said.contains("TLSv1.3"), "{said}");
        let Some(cli) = nats_cli() else { return };
        let output = Command::new(cli)
            .args(["--server", &format!("tls://localhost:{}", addr.port()), "--tlsca"])
            .arg(certificates.ours.file())
            .args(["pub", "a", "b"])
            .env("HOME", certificates.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn a_server_that_stops_says_so_within_the_session(kind) {
        let certificates = Certificates::new();
        let Some(mut server) = start(kind, &certificates, "", "") else { return };
        let (_, mut secure) = certificates.client(None).connect(server.client_addr().unwrap()).unwrap();
        secure.login("").unwrap();
        server.terminate(LONG).unwrap();
        // An end that is not announced would be an error here.
        assert_eq!(secure.line().unwrap(), None);
    }
}

/// Handshakes that do not go on take nothing away from other clients.
#[test]
fn many_stalled_handshakes_do_not_keep_others_out() {
    let certificates = Certificates::new();
    let Some(server) = start(Kind::Linnet, &certificates, "timeout: 30", "") else { return };
    let addr = server.client_addr().unwrap();
    let mut stalled: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(addr).unwrap()).collect();
    for stream in &mut stalled {
        std::io::Write::write_all(stream, &[22, 3, 1, 2, 0, 1]).unwrap();
    }
    let mut secure: Vec<Secure> =
        (0..20).map(|_| certificates.client(None).connect(addr).unwrap().1).collect();
    for secure in &mut secure {
        assert_eq!(secure.login("").unwrap().as_deref(), Some("PONG"));
    }
    let varz = page(&server, "/varz");
    assert_eq!(varz["connections"].as_u64(), Some(320));
}
