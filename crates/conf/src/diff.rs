use crate::options::{JETSTREAM, JETSTREAM_BATCH, JETSTREAM_LIMITS, JetStream, Options, TOP};
use crate::table::{Reload, Support, Table};

/// A key whose value differs between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Path of the key: main spellings joined by dots.
    pub key: String,
    /// What a reload may do about it: [`Reload::Live`] or [`Reload::Refused`].
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
    for change in changes.iter_mut().filter(|c| c.reload == Reload::GrowOnly) {
        change.reload = growth(&change.key, old, new);
    }
    changes
}

/// Storage in use can be given more room, and none that was promised is taken away.
fn growth(key: &str, old: &JetStream, new: &JetStream) -> Reload {
    let sizes = match key {
        "jetstream.max_mem" => old.max_memory.zip(new.max_memory),
        _ => old.max_file.zip(new.max_file),
    };
    let grows = sizes.is_some_and(|(old, new)| new >= old);
    if grows || !old.enabled || !new.enabled { Reload::Live } else { Reload::Refused }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn jetstream(max_memory: Option<u64>) -> Options {
        let mut options = Options::default();
        options.jetstream.enabled = true;
        options.jetstream.max_memory = max_memory;
        options
    }

    #[test]
    fn equal_options_have_no_changes() {
        assert_eq!(diff(&Options::default(), &Options::default()), []);
    }

    #[test]
    fn a_change_has_its_key_rule_and_values() {
        let mut new = Options::default();
        new.limits.max_payload = 5;
        new.client.host = "h".to_owned();
        let changes = diff(&Options::default(), &new);
        let shown: Vec<_> =
            changes.iter().map(|c| (c.key.as_str(), c.reload, c.old.as_str(), c.new.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("host", Reload::Refused, "\"0.0.0.0\"", "\"h\""),
                ("max_payload", Reload::Live, "1048576", "5"),
            ]
        );
    }

    #[test]
    fn another_password_is_a_change_that_does_not_show_it() {
        let mut new = Options::default();
        new.authorization.password = Some(Secret::new("hunter2"));
        let changes = diff(&Options::default(), &new);
        assert_eq!(changes.len(), 1);
        assert!(!changes[0].new.contains("hunter2"));
    }

    #[test]
    fn storage_limits_grow_only_and_only_if_they_were_set() {
        let rule = |old, new| diff(&jetstream(old), &jetstream(new))[0].reload;
        assert_eq!(rule(Some(5), Some(6)), Reload::Live);
        assert_eq!(rule(Some(6), Some(5)), Reload::Refused);
        assert_eq!(rule(None, Some(5)), Reload::Refused);
        assert_eq!(rule(Some(5), None), Reload::Refused);
        let off = Options::default();
        assert!(diff(&off, &jetstream(Some(5))).iter().all(|c| c.reload == Reload::Live));
        assert!(diff(&jetstream(Some(5)), &off).iter().all(|c| c.reload == Reload::Live));
    }
}
