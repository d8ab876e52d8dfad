use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A place in a configuration file, printed `file:line:column`.
///
/// Columns count bytes, from 0 on the first line and from 1 on every other: nats-server numbers them so, and
/// tools that jump to a reported error rely on it. The position of anything with an opening, such as a quoted
/// key or a map, is the one after the opening.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The file as named on the command line, or as an `include` resolved it. Empty inside a variable.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in bytes.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A value with the place where it begins (of a variable: where the variable is used).
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What was written.
    pub value: Value,
    /// Where.
    pub at: Position,
}

/// A value of the configuration language, after variables, includes and size suffixes.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string. Bytes that are not UTF-8 have become U+FFFD.
    String(String),
    /// A number without a fraction, its size suffix applied.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// `true yes on`, `false no off`.
    Bool(bool),
    /// A valid date in the one accepted form, `2024-01-02T03:04:05Z`.
    Date(String),
    /// `[ … ]`
    Array(Vec<Node>),
    /// `{ … }`
    Map(Map),
}

impl Value {
    /// What it is, with an article, for error texts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a boolean",
            Self::Date(_) => "a date",
            Self::Array(_) => "an array",
            Self::Map(_) => "a map",
        }
    }

    /// Levels of nesting below this value: 0 for scalars and empty containers.
    pub(super) fn depth(&self) -> usize {
        match self {
            Self::Array(items) => items.iter().map(|n| n.value.depth() + 1).max().unwrap_or(0),
            Self::Map(map) => map.entries.values().map(|e| e.node.value.depth() + 1).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key as written.
    pub key: String,
    /// Where the key begins.
    pub at: Position,
    /// Its value.
    pub node: Node,
    /// True if a variable reference named this key; such keys are never unknown fields.
    pub used: bool,
    order: u32,
}

/// Keys with their values. A repeated key keeps its last value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    entries: BTreeMap<String, Entry>,
    next: u32,
}

impl Map {
    /// Adds an entry, replacing one of the same key.
    pub fn insert(&mut self, key: String, at: Position, node: Node) {
        self.insert_entry(Entry { key, at, node, used: false, order: 0 });
    }

    pub(super) fn insert_entry(&mut self, mut entry: Entry) {
        entry.order = self.next;
        self.next = self.next.saturating_add(1);
        self.entries.insert(entry.key.clone(), entry);
    }

    /// The entry with exactly this key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.entries.get_mut(key)
    }

    /// Entries as written, first to last.
    pub fn in_order(&self) -> Vec<&Entry> {
        let mut all: Vec<&Entry> = self.entries.values().collect();
        all.sort_by_key(|e| e.order);
        all
    }

    /// Entries by key, bytewise.
    pub fn sorted(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
