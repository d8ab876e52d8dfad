//! Rules for the text of the files.

/// A file longer than this has two subjects.
const LINES_MAX: usize = 1200;

/// Files in which `unsafe` is allowed, each with its reason.
const UNSAFE_ALLOWED: &[(&str, &str)] = &[];

/// Absolute directories of one machine. Split, so that this file does not name them.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tm", "p/")];

/// Configuration texts that only parse a path and never use it.
const MACHINE_PATHS_ALLOWED: &[&str] = &["crates/conf/testdata/options.txt"];

/// What is wrong with this file.
pub(crate) fn findings(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let is_rust = path.ends_with(".rs");
    let may_be_unsafe = UNSAFE_ALLOWED.iter().any(|(allowed, _)| *allowed == path);
    let may_name_paths = MACHINE_PATHS_ALLOWED.contains(&path);
    for (line, number) in text.lines().zip(1..) {
        if is_rust && !may_be_unsafe && is_unsafe(line) {
            found.push(format!(
                "{path}:{number}: unsafe code in a file that is not on the list (xtask/src/text.rs)"
            ));
        }
        if lacks_reason(line) {
            found.push(format!("{path}:{number}: a to-do says what and why: `{}: <text>`", todo()));
        }
        if !may_name_paths && let Some(word) = MACHINE_PATHS.iter().find(|word| line.contains(**word)) {
            found.push(format!("{path}:{number}: {word} is a directory of one machine"));
        }
    }
    let lines = text.lines().count();
    if is_rust && lines > LINES_MAX {
        found.push(format!("{path}: {lines} lines, more than {LINES_MAX}"));
    }
    found
}

/// Whether code (not a comment) opens something unsafe.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let opens = ["unsafe {", "unsafe fn ", "unsafe impl ", "unsafe trait ", "unsafe extern "];
    // The words of this list stand in quotes, code does not.
    opens.iter().any(|o| code.contains(o) && !code.contains(&format!("\"{o}")))
        || code.contains("allow(unsafe_code") && !code.contains("\"allow(unsafe_code")
}

fn lacks_reason(line: &str) -> bool {
    let Some(at) = line.find(todo()) else { return false };
    let rest = &line[at + todo().len()..];
    let is_word = !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
        && !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let reason = rest.strip_prefix(':').unwrap_or_default().trim();
    is_word && reason.split_whitespace().count() < 3
}

const fn todo() -> &'static str {
    concat!("TO", "DO")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_clean(text: &str) -> bool {
        findings("crates/x/src/lib.rs", text).is_empty()
    }

    #[test]
    fn unsafe_code_is_found_and_the_word_in_a_comment_is_not() {
        assert!(!is_clean(concat!("    uns", "afe { read() }")));
        assert!(is_clean("// nothing unsafe { here }"));
        assert!(is_clean("unsafe_code = \"forbid\""));
    }

    #[test]
    fn todo_needs_a_reason() {
        assert!(!is_clean(&format!("// {} later", todo())));
        assert!(is_clean(&format!("// {}: ask the peer before sending", todo())));
    }

    #[test]
    fn directories_of_one_machine_are_found() {
        assert!(!is_clean(&format!("let x = \"{}a\";", MACHINE_PATHS[0])));
        assert!(is_clean("let x = dir.join(\"work\");"));
    }

    #[test]
    fn long_files_are_reported() {
        assert!(!is_clean(&"\n".repeat(LINES_MAX + 1)));
        assert!(is_clean(&"\n".repeat(LINES_MAX)));
    }
}
