//! Runs the scripts of `testdata`: commands with their expected output. `UPDATE=1` writes what comes out.
//!
//! A case is a command line, its input up to a line `----`, and its output up to an empty line. Commands:
//! `tree` parses a text and prints it as JSON with its digest; `load` reads it as a configuration and prints
//! warnings and errors, or every option that differs from the default; `flags` parses one argument per line;
//! `file NAME` defines a file for `include` in the cases below. `NAME=VALUE` after `tree` or `load` sets an
//! environment variable, `noeol` takes the last line end away.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use linnet_conf::{Options, Source, check, diff, flags, interpret, lang};

#[derive(Default)]
struct Memory {
    files: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
}

impl Source for Memory {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.files.get(path).map(|t| t.clone().into_bytes()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }
}

fn tree(text: &str, source: &Memory) -> String {
    match lang::parse_text(text.as_bytes(), "t.conf", source) {
        Ok(tree) => format!("{}\n{}\n", lang::to_json(&tree), lang::digest(&tree)),
        Err(error) => format!("{}: {error}\n", error.at),
    }
}

fn load(text: &str, source: &Memory) -> String {
    let tree = match lang::parse_text(text.as_bytes(), "t.conf", source) {
        Ok(tree) => tree,
        Err(error) => return format!("error {}: {error}\n", error.at),
    };
    let mut out = String::new();
    match interpret(&tree, "t.conf") {
        Ok(parsed) => {
            for warning in &parsed.warnings {
                out += &format!("warning {warning}\n");
            }
            show(&mut out, &parsed.options);
        }
        Err(rejected) => {
            for warning in &rejected.warnings {
                out += &format!("warning {warning}\n");
            }
            for error in &rejected.errors {
                out += &format!("error {error}\n");
            }
        }
    }
    out
}

fn show(out: &mut String, options: &Options) {
    for change in diff(&Options::default(), options) {
        *out += &format!("{} = {}\n", change.key, change.new);
    }
    for error in check(options).err().unwrap_or_default() {
        *out += &format!("check: {error}\n");
    }
}

fn parse_flags(text: &str) -> String {
    let arguments: Vec<&str> = text.lines().collect();
    match flags::parse(&arguments) {
        Ok(invocation) => {
            let mut out = format!("{:?}\n", invocation.action);
            if let Some(config) = &invocation.config {
                out += &format!("config {config}\n");
            }
            let mut options = Options::default();
            invocation.overrides.apply(&mut options);
            show(&mut out, &options);
            out
        }
        Err(error) => format!("error {error}\n"),
    }
}

fn run(command: &str, input: &str, files: &mut BTreeMap<String, String>) -> String {
    let mut words = command.split(' ');
    let verb = words.next().unwrap_or_default();
    let mut text = input.to_owned();
    let mut source = Memory { files: files.clone(), env: BTreeMap::new() };
    if verb == "file" {
        files.insert(words.next().expect("name of the file").to_owned(), text);
        return String::new();
    }
    let mut rest = words.collect::<Vec<_>>().join(" ");
    if rest == "noeol" {
        text.pop();
        rest.clear();
    }
    if let Some((name, value)) = rest.split_once('=') {
        source.env.insert(name.to_owned(), value.to_owned());
    }
    match verb {
        "tree" => tree(&text, &source),
        "load" => load(&text, &source),
        "flags" => parse_flags(&text),
        _ => panic!("unknown command {verb}"),
    }
}

/// Runs one script and returns what it should look like.
fn rerun(script: &str) -> String {
    let mut files = BTreeMap::new();
    let mut out = String::new();
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        out += &format!("{line}\n");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut input = String::new();
        for line in lines.by_ref().take_while(|l| *l != "----") {
            input += &format!("{line}\n");
        }
        while lines.next_if(|l| !l.is_empty()).is_some() {}
        out += &format!("{input}----\n{}", run(line, &input, &mut files));
    }
    out
}

#[test]
fn scripts_give_what_they_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut ran = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "txt") {
            continue;
        }
        let expected = std::fs::read_to_string(&path).unwrap();
        let actual = rerun(&expected);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, actual).unwrap();
        } else {
            for (number, (is, should)) in actual.lines().zip(expected.lines()).enumerate() {
                assert_eq!(is, should, "{}:{}: UPDATE=1 accepts", path.display(), number + 1);
            }
            assert_eq!(actual.len(), expected.len(), "{}: UPDATE=1 accepts", path.display());
        }
        ran += 1;
    }
    assert!(ran > 0, "no scripts found");
}
