use crate::lang::{Entry, Map, Position, Value};
use crate::report::Report;
use crate::suggest::nearest;

/// What a reload does with a changed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The new value is applied.
    Live,
    /// The whole reload is refused.
    Refused,
    /// A larger value is applied; a smaller one, or one where the size was automatic, refuses the reload.
    GrowOnly,
}

/// Whether this release acts on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It does.
    Now,
    /// nats-server knows the key; a configuration that has it is refused.
    NotYet,
}

/// A configuration key, as the reference manual describes it.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The name used in reports.
    pub name: &'static str,
    /// Other accepted spellings.
    pub aliases: &'static [&'static str],
    /// What its value must be.
    pub kind: &'static str,
    /// Its value when absent; in parentheses if derived, empty if none.
    pub default: &'static str,
    /// Whether a reload can change it.
    pub reload: Reload,
    /// Whether it works yet.
    pub support: Support,
    /// What it does.
    pub doc: &'static str,
}

impl Key {
    /// All accepted spellings, the main one first.
    pub fn spellings(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

/// A key with its value, as a reader gets it.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    /// The key, lower-cased.
    pub(crate) name: &'a str,
    pub(crate) at: &'a Position,
    pub(crate) value: &'a Value,
}

/// A key together with what connects it to a field of its section `T`.
pub(crate) struct Row<T> {
    pub(crate) key: Key,
    /// Takes the value over into the section, or reports why not.
    pub(crate) read: fn(&mut T, &Field<'_>, &mut Report),
    /// Whether two sections agree in this key.
    pub(crate) same: fn(&T, &T) -> bool,
    /// The section's value for this key, without secrets.
    pub(crate) show: fn(&T) -> String,
}

/// All keys of a block.
pub(crate) struct Table<T: 'static> {
    /// Path of the block, empty for the top level.
    pub(crate) section: &'static str,
    pub(crate) rows: &'static [&'static [Row<T>]],
    /// The text about a key that is not in the table.
    pub(crate) unknown: fn(&str) -> String,
}

/// The usual text about an unknown key.
pub(crate) fn unknown_field(key: &str) -> String {
    format!("unknown field {key:?}")
}

/// A row whose value goes into a field: `key!(names, kind, default, reload, field = reader, doc)` where the
/// reader returns the value if it is good, or with `=>` writes into the section itself. Without a field the row
/// is another way to set what other rows describe, and never a difference of its own.
macro_rules! key {
    ([$name:literal $(, $alias:literal)*], $kind:literal, $default:literal, $reload:ident,
     => $reader:expr, $doc:literal) => {
        crate::table::Row {
            key: crate::table::Key {
                name: $name,
                aliases: &[$($alias),*],
                kind: $kind,
                default: $default,
                reload: crate::table::Reload::$reload,
                support: crate::table::Support::Now,
                doc: $doc,
            },
            read: $reader,
            same: |_, _| true,
            show: |_| String::new(),
        }
    };
    ([$name:literal $(, $alias:literal)*], $kind:literal, $default:literal, $reload:ident,
     $($field:ident).+ = $reader:expr, $doc:literal) => {
        crate::table::key!([$name $(, $alias)*], $kind, $default, $reload, $($field).+ => |section, field, report| {
            if let Some(value) = ($reader)(field, report) {
                section.$($field).+ = value.into();
            }
        }, $doc)
    };
    ([$name:literal $(, $alias:literal)*], $kind:literal, $default:literal, $reload:ident,
     $($field:ident).+ => $reader:expr, $doc:literal) => {
        crate::table::Row {
            key: crate::table::Key {
                name: $name,
                aliases: &[$($alias),*],
                kind: $kind,
                default: $default,
                reload: crate::table::Reload::$reload,
                support: crate::table::Support::Now,
                doc: $doc,
            },
            read: $reader,
            same: |a, b| a.$($field).+ == b.$($field).+,
            show: |section| format!("{:?}", section.$($field).+),
        }
    };
}
pub(crate) use key;

/// A row for a key that is refused for now.
macro_rules! not_yet {
    ([$name:literal $(, $alias:literal)*], $reload:ident, $doc:literal) => {
        crate::table::Row {
            key: crate::table::Key {
                name: $name,
                aliases: &[$($alias),*],
                kind: "",
                default: "",
                reload: crate::table::Reload::$reload,
                support: crate::table::Support::NotYet,
                doc: $doc,
            },
            read: |_, _, _| {},
            same: |_, _| true,
            show: |_| String::new(),
        }
    };
}
pub(crate) use not_yet;

/// Errors after which unknown keys are reported without a suggestion.
const SUGGESTIONS_MAX: usize = 100;

impl<T> Table<T> {
    pub(crate) fn rows(&self) -> impl Iterator<Item = &'static Row<T>> {
        self.rows.iter().flat_map(|part| part.iter())
    }

    pub(crate) fn keys(&self) -> Vec<&'static Key> {
        self.rows().map(|row| &row.key).collect()
    }

    /// Takes a block over into its section. Keys are read in the order written, so that of two spellings of
    /// the same key the later one counts.
    pub(crate) fn read(&self, map: &Map, section: &mut T, report: &mut Report) {
        for entry in map.in_order() {
            let name = entry.key.to_lowercase();
            let row = self.rows().find(|row| row.key.spellings().any(|s| s == name));
            match row {
                Some(row) if row.key.support == Support::Now => {
                    report.mark_set(self.section, row.key.name);
                    let field = Field { name: &name, at: &entry.at, value: &entry.node.value };
                    (row.read)(section, &field, report);
                }
                Some(_) => report.error(&entry.at, format!("{name} is not supported yet")),
                None => self.unknown(entry, report),
            }
        }
    }

    fn unknown(&self, entry: &Entry, report: &mut Report) {
        if entry.used {
            return;
        }
        let mut text = (self.unknown)(&entry.key);
        let spellings = self.rows().flat_map(|row| row.key.spellings());
        // Looking for similar names takes long enough to matter if a whole file is not a configuration.
        if report.errors.len() < SUGGESTIONS_MAX
            && let Some(near) = nearest(&entry.key.to_lowercase(), spellings)
        {
            text.push_str(&format!(" (did you mean {near:?}?)"));
        }
        report.error(&entry.at, text);
    }
}
