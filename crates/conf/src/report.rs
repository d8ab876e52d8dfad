use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::Diagnostic;
use crate::lang::Position;
use crate::table::Field;

/// What reading a tree has found so far, besides the values.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
    pub(crate) explicit: Explicit,
    /// Users of all blocks: a name may occur once in the whole configuration.
    users: BTreeMap<String, Position>,
}

/// Which keys a configuration sets, as opposed to leaving them at their default. Keys of blocks that occur several
/// times, such as users, are recorded once for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explicit(BTreeSet<String>);

impl Explicit {
    /// True if the key was set. The path has main spellings joined by dots: `port`, `jetstream.max_mem`.
    pub fn contains(&self, path: &str) -> bool {
        self.0.contains(path)
    }

    /// Adds a key, for settings that come from flags.
    pub fn insert(&mut self, path: &str) {
        self.0.insert(path.to_owned());
    }
}

impl Report {
    pub(crate) fn error(&mut self, at: &Position, message: impl Into<String>) {
        self.errors.push(Diagnostic { at: Some(at.clone()), message: message.into() });
    }

    pub(crate) fn warning(&mut self, at: &Position, message: impl Into<String>) {
        self.warnings.push(Diagnostic { at: Some(at.clone()), message: message.into() });
    }

    /// Reports a value of the wrong type.
    pub(crate) fn mismatch(&mut self, field: &Field<'_>, expected: &str) {
        let message = format!("{}: expected {expected}, found {}", field.name, field.value.kind());
        self.error(field.at, message);
    }

    pub(crate) fn mark_set(&mut self, section: &str, key: &str) {
        let dot = if section.is_empty() { "" } else { "." };
        self.explicit.0.insert(format!("{section}{dot}{key}"));
    }

    /// Reports a user that another entry of the configuration already defines.
    pub(crate) fn claim_user(&mut self, name: &str, at: &Position) {
        if let Some(first) = self.users.get(name) {
            let message = format!("Duplicate user {name:?} detected (first defined at {first})");
            self.error(at, message);
        } else {
            self.users.insert(name.to_owned(), at.clone());
        }
    }
}
