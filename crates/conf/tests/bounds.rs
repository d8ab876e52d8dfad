//! Inputs made to exhaust the parser end in an error.

use std::io;

use linnet_conf::lang::{self, Limit, Problem, SyntaxError};
use linnet_conf::{ProcessSource, Source, load};

struct Files<F>(F);

impl<F: Fn(&str) -> Option<String>> Source for Files<F> {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        (self.0)(path).map(String::into_bytes).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn env(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }
}

fn parse(text: &str) -> Result<lang::Map, SyntaxError> {
    lang::parse_text(text.as_bytes(), "t.conf", &Files(|_: &str| None))
}

fn limit(error: SyntaxError) -> Limit {
    match error.problem {
        Problem::Limit(limit) => limit,
        Problem::Include { source, .. } | Problem::VariableUnparsable { source, .. } => limit(*source),
        other => panic!("{other}"),
    }
}

#[test]
fn deep_nesting_is_refused() {
    for open in ["[", "{a:", "[{a:"] {
        assert_eq!(limit(parse(&format!("a: {}", open.repeat(100_000))).unwrap_err()), Limit::Depth);
    }
    assert!(parse(&format!("a: {}{}", "[".repeat(lang::MAX_DEPTH), "]".repeat(lang::MAX_DEPTH))).is_ok());
}

#[test]
fn nesting_through_variables_is_refused() {
    let mut text = "a0: [1]\n".to_owned();
    for i in 1..200 {
        text.push_str(&format!("a{i}: [$a{}]\n", i - 1));
    }
    assert_eq!(limit(parse(&text).unwrap_err()), Limit::Depth);
}

#[test]
fn growth_through_variables_is_refused() {
    let mut text = "a0: [1, 2, 3, 4]\n".to_owned();
    for i in 1..100 {
        let last = i - 1;
        text.push_str(&format!("a{i}: [$a{last}, $a{last}, $a{last}, $a{last}]\n"));
    }
    assert_eq!(limit(parse(&text).unwrap_err()), Limit::TreeBytes);
}

#[test]
fn a_file_that_includes_itself_is_refused() {
    let source = Files(|path: &str| (path == "t.conf").then(|| "include t.conf\n".to_owned()));
    assert_eq!(limit(lang::parse_file("t.conf", &source).unwrap_err()), Limit::IncludeDepth);
}

#[test]
fn includes_that_double_are_refused() {
    let source = Files(|path: &str| {
        let level: u32 = path.parse().ok()?;
        Some(if level < 12 {
            format!("include \"{0}\"\ninclude \"{0}\"\n", level + 1)
        } else {
            String::new()
        })
    });
    assert_eq!(limit(lang::parse_file("0", &source).unwrap_err()), Limit::Includes);
}

#[test]
fn a_huge_file_is_refused() {
    let text = " ".repeat(lang::MAX_FILE_BYTES + 1);
    assert_eq!(limit(parse(&text).unwrap_err()), Limit::FileBytes);
}

#[test]
fn real_files_are_read_with_their_includes() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("main.conf"), "port: 1\ninclude ./sub.conf\n").unwrap();
    std::fs::write(path("sub.conf"), "\nnope: 1\n").unwrap();
    let rejected = load(&path("main.conf"), &ProcessSource).unwrap_err();
    assert_eq!(rejected.report(), format!("{}:2:1: unknown field \"nope\"", path("sub.conf")));
    let rejected = load(&path("none.conf"), &ProcessSource).unwrap_err();
    assert_eq!(rejected.report(), format!("open {}: no such file or directory", path("none.conf")));
}
