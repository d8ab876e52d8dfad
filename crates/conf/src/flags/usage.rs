use super::table::{Effect, Flag, GROUPS};
use crate::load::{Parsed, Rejected};

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
    "TLS for clients needs a certificate and its private key, both as PEM:\n\n    \
     linnet --tls --tlscert server.pem --tlskey server-key.pem\n\n\
     To refuse clients without a certificate of an authority, name the authority's certificate:\n\n    \
     linnet --tlsverify --tlscert server.pem --tlskey server-key.pem --tlscacert ca.pem\n\n\
     A self-signed pair for tests:\n\n    \
     openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \\\n        \
     -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \\\n        \
     -keyout server-key.pem -out server.pem\n"
}

/// What `-t` prints about a configuration file: `Ok` for exit code 0, `Err` for 1. Warnings are failures here.
pub fn check_outcome(config: &str, loaded: &Result<Parsed, Rejected>) -> Result<String, String> {
    let (warnings, errors) = match loaded {
        Ok(parsed) if parsed.warnings.is_empty() => {
            let digest = &parsed.digest;
            return Ok(format!("nats-server: configuration file {config} is valid ({digest})"));
        }
        Ok(parsed) => (&parsed.warnings, &[][..]),
        Err(rejected) => (&rejected.warnings, &rejected.errors[..]),
    };
    let lines: Vec<String> = warnings.iter().chain(errors).map(ToString::to_string).collect();
    Err(format!("nats-server: {}\n", lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Diagnostic;
    use crate::options::Options;

    #[test]
    fn a_file_with_warnings_fails_the_check() {
        let warning = Diagnostic { at: None, message: "odd".to_owned() };
        let mut parsed =
            Parsed { options: Options::default(), warnings: vec![], digest: "sha256:0".to_owned() };
        let good = check_outcome("a.conf", &Ok(parsed.clone()));
        assert_eq!(good, Ok("nats-server: configuration file a.conf is valid (sha256:0)".to_owned()));
        parsed.warnings.push(warning);
        assert_eq!(check_outcome("a.conf", &Ok(parsed)), Err("nats-server: odd\n".to_owned()));
    }
}
