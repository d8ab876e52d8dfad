//! Every key nats-server accepts is accepted or refused as not supported yet; none is unknown.

use std::collections::BTreeSet;
use std::io;

use linnet_conf::{Options, Rejected, Source, Support, diff, interpret, lang, options};

struct Nothing;

impl Source for Nothing {
    fn read(&self, _: &str) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

/// Block in the table, name of the section in the code, and how a pair gets there.
const BLOCKS: &[(&str, &str, &str)] = &[
    ("top", "", "@"),
    ("tls", "tls", "tls {cert_file: c, key_file: k, @ }"),
    ("authorization", "authorization", "authorization { @ }"),
    ("user", "user", "authorization { users: [ {user: a, @} ] }"),
    ("permissions", "permissions", "authorization { permissions: {@} }"),
    ("subjects", "subject permissions", "authorization { permissions: {publish: {@}} }"),
    ("responses", "allow_responses", "authorization { permissions: {allow_responses: {@}} }"),
    ("account", "account", "accounts { A { @ } }"),
    ("limits", "account limits", "accounts { A { limits { @ } } }"),
    ("account_jetstream", "account jetstream", "accounts { A { jetstream { @ } } }"),
    ("jetstream", "jetstream", "jetstream { @ }"),
    ("jetstream_limits", "jetstream.limits", "jetstream { limits { @ } }"),
    ("batch", "jetstream.limits.batch", "jetstream { limits { batch { @ } } }"),
    ("cluster", "cluster", "cluster { @ }"),
    ("cluster_authorization", "cluster.authorization", "cluster { authorization { @ } }"),
    ("compression", "compression", "cluster { compression { @ } }"),
    ("linnet", "linnet", "linnet { @ }"),
    ("scrub", "linnet.scrub", "linnet { scrub { @ } }"),
];

fn rows() -> impl Iterator<Item = (&'static str, &'static str, &'static str, &'static str)> {
    include_str!("../testdata/keys.tsv").lines().filter(|l| !l.starts_with('#')).map(|line| {
        let mut cells = line.split('\t');
        let mut cell = || cells.next().expect("four cells");
        (cell(), cell(), cell(), cell())
    })
}

#[test]
fn every_key_is_known() {
    for (block, key, value, when) in rows() {
        let (_, _, around) = BLOCKS.iter().find(|b| b.0 == block).expect("known block");
        let text = around.replace('@', &format!("{key}: {value}"));
        let tree = lang::parse_text(text.as_bytes(), "t.conf", &Nothing).expect(&text);
        let result = interpret(&tree, "t.conf");
        match when {
            "now" => assert!(result.is_ok(), "{text}: {result:?}"),
            "later" => {
                let Err(Rejected { errors, .. }) = result else { panic!("{text} is accepted") };
                let column = text.find(key).unwrap();
                let expected = format!("t.conf:1:{column}: {key} is not supported yet");
                let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
                assert_eq!(texts, [expected]);
            }
            _ => panic!("{when}?"),
        }
    }
}

#[test]
fn table_and_code_have_the_same_keys() {
    for section in options::sections() {
        let (block, _, _) = BLOCKS.iter().find(|b| b.1 == section.path).expect(section.path);
        let coded: BTreeSet<(&str, bool)> = section
            .keys
            .iter()
            .flat_map(|key| key.spellings().map(|s| (s, key.support == Support::Now)))
            .collect();
        let listed: BTreeSet<(&str, bool)> =
            rows().filter(|r| r.0 == *block).map(|r| (r.1, r.3 == "now")).collect();
        assert_eq!(coded, listed, "{}", section.path);
    }
}

#[test]
fn every_key_is_documented() {
    for section in options::sections() {
        for key in section.keys {
            assert!(key.doc.ends_with('.'), "{}.{}", section.path, key.name);
        }
    }
}

#[test]
fn documented_defaults_are_the_defaults() {
    let with_defaults =
        ["", "cluster", "jetstream", "jetstream.limits", "jetstream.limits.batch", "linnet.scrub"];
    for section in options::sections().iter().filter(|s| with_defaults.contains(&s.path)) {
        let (_, _, around) = BLOCKS.iter().find(|b| b.1 == section.path).expect(section.path);
        for key in &section.keys {
            if key.default.is_empty() || key.default.starts_with('(') {
                continue;
            }
            let quote = if key.kind.starts_with("duration") { "\"" } else { "" };
            let text = around.replace('@', &format!("{}: {quote}{}{quote}", key.name, key.default));
            let tree = lang::parse_text(text.as_bytes(), "t.conf", &Nothing).expect(&text);
            let parsed = interpret(&tree, "t.conf").expect(&text);
            let mut changes = diff(&Options::default(), &parsed.options);
            // The block alone switches JetStream on.
            changes.retain(|change| change.key != "jetstream.enabled");
            assert_eq!(changes, [], "{text}");
        }
    }
}
