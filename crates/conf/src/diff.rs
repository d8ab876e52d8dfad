use crate::options::{JETSTREAM, JETSTREAM_BATCH, JETSTREAM_LIMITS, Options, TOP};
use crate::table::{Reload, Support, Table};

/// A key whose value differs between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Path of the key: main spellings joined by dots.
    pub key: String,
    /// What a reload may do about it. For [`Reload::GrowOnly`] the decision is in the numbers.
    pub reload: Reload,
    /// Value before, for reading, secrets hidden.
    pub old: String,
    /// Value after.
    pub new: String,
}

/// The keys in which two configurations differ, in table order. `authorization` and `accounts` count as one key
/// each, JetStream's keys are `jetstream.…`.
pub fn diff(old: &Options, new: &Options) -> Vec<Change> {
    let mut changes = Vec::new();
    collect(&TOP, old, new, &mut changes);
    let (old, new) = (&old.jetstream, &new.jetstream);
    collect(&JETSTREAM, old, new, &mut changes);
    collect(&JETSTREAM_LIMITS, &old.limits, &new.limits, &mut changes);
    collect(&JETSTREAM_BATCH, &old.limits.batch, &new.limits.batch, &mut changes);
    changes
}

fn collect<T>(table: &Table<T>, old: &T, new: &T, changes: &mut Vec<Change>) {
    let dot = if table.section.is_empty() { "" } else { "." };
    for row in table.rows() {
        if row.key.support == Support::Now && !(row.same)(old, new) {
            changes.push(Change {
                key: format!("{}{dot}{}", table.section, row.key.name),
                reload: row.key.reload,
                old: (row.show)(old),
                new: (row.show)(new),
            });
        }
    }
}
