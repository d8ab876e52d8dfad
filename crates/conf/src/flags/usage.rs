use super::table::{Effect, Flag, GROUPS};
use crate::diagnostic::Diagnostic;

/// The text `-h` prints.
pub fn usage(program: &str) -> String {
    let mut out = format!(
        "Usage: {program} [flags]\n\nA flag may have one dash or two, its value follows = or a space.\n"
    );
    for (heading, flags) in GROUPS {
        out.push_str(&format!("\n{heading}:\n"));
        for flag in *flags {
            out.push_str(&line(flag));
        }
    }
    out
}

fn line(flag: &Flag) -> String {
    let dashed =
        |name: &&str| if name.len() > 2 && *name != "DVV" { format!("--{name}") } else { format!("-{name}") };
    let names: Vec<String> = flag.names.iter().map(dashed).collect();
    let mut left = names.join(", ");
    if !flag.value.is_empty() {
        left.push(' ');
        left.push_str(flag.value);
    }
    let note = if matches!(flag.effect, Effect::NotYet) { " (not supported yet)" } else { "" };
    format!("    {left:<34} {}{note}\n", flag.doc)
}

/// The text `--help_tls` prints.
pub fn help_tls() -> &'static str {
    "TLS is not supported yet: the flags --tls, --tlscert, --tlskey, --tlsverify and --tlscacert are refused.\n"
}

/// What `-t` says about a good file.
pub fn check_succeeded(config: &str, digest: &str) -> String {
    format!("nats-server: configuration file {config} is valid ({digest})")
}

/// What `-t` says about a bad file, or one with warnings.
pub fn check_failed(warnings: &[Diagnostic], errors: &[Diagnostic]) -> String {
    let lines: Vec<String> = warnings.iter().chain(errors).map(ToString::to_string).collect();
    format!("nats-server: {}\n", lines.join("\n"))
}
