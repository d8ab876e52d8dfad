use crate::diagnostic::Diagnostic;
use crate::lang::{self, Map};
use crate::options::{Options, TOP};
use crate::report::Report;
use crate::source::Source;

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What it says.
    pub options: Options,
    /// What deserves attention, in file order. nats-server's `-t` fails on these, its start does not.
    pub warnings: Vec<Diagnostic>,
    /// Name of its content, `sha256:…`.
    pub digest: String,
}

/// Everything wrong with a configuration that cannot be used, and what else deserves attention.
#[derive(Clone, Debug, Default, thiserror::Error)]
#[error("{}", self.report())]
pub struct Rejected {
    /// At least one error, in file order.
    pub errors: Vec<Diagnostic>,
    /// Warnings, in file order.
    pub warnings: Vec<Diagnostic>,
}

impl Rejected {
    /// One line per warning and error, warnings first.
    pub fn report(&self) -> String {
        let lines: Vec<String> = self.warnings.iter().chain(&self.errors).map(ToString::to_string).collect();
        lines.join("\n")
    }
}

/// Reads a configuration file and everything it includes.
///
/// All errors are collected, except that a departure from the grammar ends reading. The checks across sections
/// are [`crate::check`]'s, for once flags are applied.
pub fn load(path: &str, source: &dyn Source) -> Result<Parsed, Rejected> {
    let tree = lang::parse_file(path, source)
        .map_err(|error| Rejected { errors: vec![error.into()], warnings: Vec::new() })?;
    interpret(&tree, path)
}

/// Turns a tree into options. `path` names the file in messages about it as a whole.
pub fn interpret(tree: &Map, path: &str) -> Result<Parsed, Rejected> {
    let mut report = Report::default();
    let mut options = Options::default();
    if tree.is_empty() {
        let message = format!("{path}: config has no values or is empty");
        report.warnings.push(Diagnostic { at: None, message });
    }
    TOP.read(tree, &mut options, &mut report);
    options.logging.complete();
    users_beside_login(tree, &options, &mut report);
    let Report { mut errors, mut warnings, explicit, .. } = report;
    errors.sort_by(|a, b| a.at.cmp(&b.at));
    warnings.sort_by(|a, b| a.at.cmp(&b.at));
    if !errors.is_empty() {
        return Err(Rejected { errors, warnings });
    }
    options.explicit = explicit;
    Ok(Parsed { options, warnings, digest: lang::digest(tree) })
}

/// A login for everyone and users in accounts exclude each other.
fn users_beside_login(tree: &Map, options: &Options, report: &mut Report) {
    let with_users = options.accounts.accounts.iter().flatten().find(|a| !a.users.is_empty());
    let Some((problem, account)) = options.authorization.conflict_with_accounts().zip(with_users) else {
        return;
    };
    let accounts = tree.in_order().into_iter().find(|e| e.key.eq_ignore_ascii_case("accounts"));
    let Some(entry) = accounts else { return };
    let at = match &entry.node.value {
        lang::Value::Map(map) => map.get(&account.name).map_or(&entry.at, |e| &e.at),
        _ => &entry.at,
    };
    report.error(at, problem);
}
