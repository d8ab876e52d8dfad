use std::fmt::Write as _;

use super::{ClusterSpec, Dial, MemberPorts};

/// The configuration of the server at this place; all of them have `ports`.
pub(super) fn render(spec: &ClusterSpec, at: usize, ports: &[MemberPorts]) -> String {
    let mut text = String::new();
    let own = ports[at];
    let _ = writeln!(text, "server_name: \"{}\"", spec.servers[at].name);
    let host = spec.servers[at].place.host;
    let _ = writeln!(text, "listen: \"{host}:{}\"", own.client);
    let _ = writeln!(text, "http: \"{host}:{}\"", own.monitor);
    if let Some(login) = &spec.system_user {
        let (user, password) = (&login.user, &login.password);
        let _ = writeln!(
            text,
            "accounts {{ $SYS {{ users: [{{ user: \"{user}\", password: \"{password}\" }}] }} }}"
        );
    }
    if let Some(jetstream) = &spec.jetstream {
        let _ = writeln!(text, "{}", jetstream.render("$DIR/store"));
    }
    if spec.jetstream.is_none() || spec.servers.len() > 1 {
        cluster_block(&mut text, spec, at, ports);
    }
    text.push_str(&spec.extra);
    text.push('\n');
    text
}

fn cluster_block(text: &mut String, spec: &ClusterSpec, at: usize, ports: &[MemberPorts]) {
    let _ = writeln!(
        text,
        "cluster {{\n  name: \"{}\"\n  listen: \"{}:{}\"",
        spec.name, spec.servers[at].place.host, ports[at].cluster
    );
    let all = ports.iter().map(|ports| ports.cluster).enumerate();
    let is_dialled = |other: usize| match spec.dial {
        Dial::Others => other != at,
        Dial::All => true,
        Dial::Earlier => other < at,
        Dial::First => other == 0 && at != 0,
    };
    let dialled =
        all.filter(|(other, _)| is_dialled(*other)).map(|(other, port)| address(spec, at, other, port));
    let outside = spec.outside.iter().map(|port| format!("127.0.0.1:{port}"));
    let routes: Vec<String> = dialled.chain(outside).map(|address| format!("\"nats://{address}\"")).collect();
    let _ = writeln!(text, "  routes: [{}]", routes.join(", "));
    if let Some(size) = spec.pool_size {
        let _ = writeln!(text, "  pool_size: {size}");
    }
    if let Some(mode) = &spec.compression {
        let _ = writeln!(text, "  compression: {mode}");
    }
    if !spec.accounts.is_empty() {
        let _ = writeln!(text, "  accounts: [{}]", spec.accounts.join(", "));
    }
    let _ = writeln!(text, "{}}}", indented(&spec.cluster_extra));
}

/// Where one server dials another one, which listens on this port.
fn address(spec: &ClusterSpec, from: usize, to: usize, port: u16) -> String {
    let (from, to) = (&spec.servers[from], &spec.servers[to]);
    match spec.detours.iter().find(|detour| detour.from == from.name && detour.to == to.name) {
        Some(detour) => format!("127.0.0.1:{}", detour.port),
        None => format!("{}:{port}", to.place.host),
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JetStream, Login, Place};

    fn ports() -> [MemberPorts; 2] {
        [1, 2].map(|n| MemberPorts { client: n, cluster: 10 + n, monitor: 20 + n })
    }

    #[test]
    fn everything_described_is_in_the_configuration() {
        let spec = ClusterSpec::new("C")
            .server("a", "x")
            .server("b", "x")
            .route(99)
            .pool_size(2)
            .compression("accept")
            .account("A")
            .system_user(Login { user: "sys".into(), password: "secret".into() })
            .cluster_extra("ping_max: 2")
            .extra("max_payload: 5");
        assert_eq!(
            render(&spec, 1, &ports()),
            "server_name: \"b\"\nlisten: \"127.0.0.1:2\"\nhttp: \"127.0.0.1:22\"\n\
             accounts { $SYS { users: [{ user: \"sys\", password: \"secret\" }] } }\n\
             cluster {\n  name: \"C\"\n  listen: \"127.0.0.1:12\"\n  \
             routes: [\"nats://127.0.0.1:11\", \"nats://127.0.0.1:99\"]\n  pool_size: 2\n  compression: accept\n  \
             accounts: [A]\n  ping_max: 2\n}\nmax_payload: 5\n"
        );
    }

    #[test]
    fn whom_a_server_dials_is_chosen() {
        let routes = |dial: Dial, at: usize| {
            let spec = ClusterSpec::new("C").server("a", "x").server("b", "x").dial(dial);
            let text = render(&spec, at, &ports());
            let line = text.lines().find(|line| line.trim_start().starts_with("routes:")).unwrap();
            [11, 12].map(|port| line.contains(&format!(":{port}\"")))
        };
        assert_eq!([routes(Dial::Others, 0), routes(Dial::Others, 1)], [[false, true], [true, false]]);
        assert_eq!([routes(Dial::All, 0), routes(Dial::All, 1)], [[true, true], [true, true]]);
        assert_eq!([routes(Dial::Earlier, 0), routes(Dial::Earlier, 1)], [[false, false], [true, false]]);
        assert_eq!([routes(Dial::First, 0), routes(Dial::First, 1)], [[false, false], [true, false]]);
    }

    #[test]
    fn servers_are_dialled_where_they_are_or_by_a_detour() {
        let spec = ClusterSpec::new("C").server("a", "x").server("b", "x");
        let place =
            |at: usize| Place { host: [10, 0, 0, u8::try_from(at).unwrap()].into(), ..Place::default() };
        let text = render(&spec.clone().places(place), 1, &ports());
        for line in [
            "listen: \"10.0.0.1:2\"",
            "http: \"10.0.0.1:22\"",
            "listen: \"10.0.0.1:12\"",
            "nats://10.0.0.0:11",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let text = render(&spec.detour("b", "a", 77), 1, &ports());
        assert!(text.contains("[\"nats://127.0.0.1:77\"]"), "{text}");
    }

    #[test]
    fn several_servers_with_jetstream_are_a_cluster() {
        let spec = ClusterSpec::new("C").server("a", "x").server("b", "x").jetstream(JetStream::default());
        let text = render(&spec, 0, &ports());
        assert!(text.contains("jetstream { store_dir") && text.contains("cluster {"), "{text}");
    }

    #[test]
    fn a_single_server_with_jetstream_is_no_cluster() {
        let spec = ClusterSpec::new("C").server("a", "x").jetstream(JetStream::default());
        let text = render(&spec, 0, &ports()[..1]);
        assert!(
            text.contains("jetstream { store_dir: \"$DIR/store\" }") && !text.contains("cluster"),
            "{text}"
        );
    }
}
