//! Which interest servers tell each other, and which of it counts.

use linnet_launch::poll_until;

use super::{Node, PER_PAIR, Setup, formed, message};
use crate::harness::{Kind, LONG, Raw};

const PAIRS: [[Kind; 2]; 2] = [[Kind::Linnet, Kind::Peer], [Kind::Peer, Kind::Linnet]];
const RULES: &str = "permissions { import: { allow: [\"in.>\", \"b.>\"], deny: [\"in.no\"] },\n\
                     export: { allow: [\"out.>\", \"b.>\"], deny: [\"out.no\"] } }";

/// The first server has the rules, the other one none.
fn pair(kinds: [Kind; 2], rules: &str) -> Option<[Node; 2]> {
    let first = Setup::new(kinds[0], "first").cluster(rules).start()?;
    let second = Setup::new(kinds[1], "second").dialling(&[first.setup.port]).start()?;
    let nodes = [first, second];
    formed(&nodes, PER_PAIR);
    Some(nodes)
}

/// Subjects of `all` that the other server knows of, once it knows of `last`.
fn known(node: &Node, all: &[&str], last: &str) -> Vec<String> {
    node.knows(last, true);
    let interests = node.interests();
    all.iter().filter(|subject| interests.contains(**subject)).map(|s| (*s).to_owned()).collect()
}

#[test]
fn only_interest_that_is_allowed_crosses() {
    // In their place, and in that of old.
    let of_old = format!("authorization {{ {RULES} }}");
    for (kinds, rules) in PAIRS.iter().flat_map(|kinds| [(*kinds, RULES), (*kinds, of_old.as_str())]) {
        let Some(nodes) = pair(kinds, rules) else { return };
        let subjects = ["in.a", "in.*", "in.no", "out.a", ">", "b.a", "c"];
        let mut near = nodes[0].client();
        for (sid, subject) in subjects.iter().enumerate() {
            near.send(format!("SUB {subject} {sid}\r\n").as_bytes());
        }
        near.send(b"SUB b.last 99\r\n");
        assert_eq!(known(&nodes[1], &subjects, "b.last"), ["in.a", "in.*", "b.a"], "{kinds:?}");

        let subjects = ["out.a", "out.*", "out.no", "in.a", ">", "b.a", "c"];
        let mut far = nodes[1].client();
        for (sid, subject) in subjects.iter().enumerate() {
            far.send(format!("SUB {subject} {sid}\r\n").as_bytes());
        }
        far.send(b"SUB b.last 99\r\n");
        let expected = ["out.a", "out.*", "b.a"];
        assert_eq!(known(&nodes[0], &subjects, "b.last"), expected, "{kinds:?}");

        // Messages are not judged where they arrive.
        nodes[1].client().send(b"PUB in.a 1\r\nx\r\n");
        let mut heads = vec![message(&mut near).0, message(&mut near).0, message(&mut near).0];
        heads.sort();
        assert_eq!(heads, ["MSG in.a 0", "MSG in.a 1", "MSG in.a 4"]);
    }
}

/// The next messages up to the one on `last`, by their subjects.
fn heard(client: &mut Raw, last: &str) -> Vec<String> {
    let mut subjects = Vec::new();
    loop {
        let subject = message(client).0.split(' ').nth(1).unwrap().to_owned();
        if subject == last {
            return subjects;
        }
        subjects.push(subject);
    }
}

#[test]
fn messages_that_nobody_may_be_interested_in_do_not_cross() {
    for kinds in [[Kind::Linnet, Kind::Peer], [Kind::Peer, Kind::Linnet], [Kind::Linnet, Kind::Linnet]] {
        let Some(mut nodes) = pair(kinds, RULES) else { return };
        let mut far = nodes[1].client();
        far.send(b"SUB out.> 1\r\n");
        nodes[0].knows("out.>", true);
        let mut publisher = nodes[0].client();
        let mut cross = || {
            publisher
                .send(b"PUB out.a 1\r\nx\r\nPUB out.no 1\r\nx\r\nPUB out.b 1\r\nx\r\nPUB out.end 1\r\nx\r\n");
            heard(&mut far, "out.end")
        };
        assert_eq!(cross(), ["out.a", "out.b"], "{kinds:?}");
        nodes[0].reload(|setup| setup.cluster = RULES.replace("out.no", "out.b"));
        if kinds[0] == Kind::Linnet {
            assert!(poll_until(LONG, || cross() == ["out.a", "out.no"]), "{kinds:?}");
        }
    }
}

#[test]
fn rules_are_published() {
    for kind in [Kind::Linnet, Kind::Peer] {
        let Some(node) = Setup::new(kind, "n").cluster(RULES).start() else { return };
        let line = node.stranger().line().unwrap();
        let info: serde_json::Value = serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap();
        assert_eq!(info["import"], serde_json::json!({"allow": ["in.>", "b.>"], "deny": ["in.no"]}));
        assert_eq!(info["export"], serde_json::json!({"allow": ["out.>", "b.>"], "deny": ["out.no"]}));
    }
}

#[test]
fn rules_stand_on_the_page_of_routes() {
    for kinds in [[Kind::Linnet; 2], [Kind::Peer; 2], [Kind::Linnet, Kind::Peer], [Kind::Peer, Kind::Linnet]]
    {
        let Some(nodes) = pair(kinds, RULES) else { return };
        let import = serde_json::json!({"allow": ["in.>", "b.>"], "deny": ["in.no"]});
        let export = serde_json::json!({"allow": ["out.>", "b.>"], "deny": ["out.no"]});
        let [own, other] = [nodes[0].page("/routez"), nodes[1].page("/routez")];
        assert_eq!((&own["import"], &own["export"]), (&import, &export), "{kinds:?}: {own}");
        assert_eq!((&own["routes"][0].get("import"), other.get("import")), (&None, None), "{kinds:?}");
        let route = &other["routes"][0];
        assert_eq!((&route["import"], &route["export"]), (&import, &export), "{kinds:?}: {other}");
    }
}

#[test]
fn a_reload_changes_what_is_known() {
    for kinds in [[Kind::Linnet, Kind::Peer], [Kind::Peer, Kind::Linnet], [Kind::Linnet, Kind::Linnet]] {
        let Some(mut nodes) = pair(kinds, "permissions { import: \"x.>\", export: \"y.>\" }") else { return };
        let (mut near, mut far) = (nodes[0].client(), nodes[1].client());
        near.send(b"SUB x.1 1\r\nSUB z.1 2\r\n");
        far.send(b"SUB y.1 1\r\nSUB z.2 2\r\n");
        nodes[1].knows("x.1", true);
        nodes[0].knows("y.1", true);
        nodes[1].knows("z.1", false);
        nodes[0].knows("z.2", false);
        nodes[0]
            .reload(|setup| setup.cluster = "permissions { import: \"z.>\", export: \"z.>\" }".to_owned());
        nodes[1].knows("z.1", true);
        nodes[1].knows("x.1", false);
        nodes[0].knows("z.2", true);
        nodes[0].knows("y.1", false);
        nodes[0].reload(|setup| setup.cluster = String::new());
        nodes[1].knows("x.1", true);
        nodes[0].knows("y.1", true);
        assert_eq!(nodes[0].logged("Router connection closed"), 0);
    }
}
