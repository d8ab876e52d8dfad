use std::io;

use super::value::Position;

/// Why a configuration text is not a tree, and where. The display form is nats-server's text without the positions it
/// has in some messages: [`SyntaxError::at`] is the one to print.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct SyntaxError {
    /// Where reading stopped; in the included file if that is where the problem is.
    pub at: Position,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

impl SyntaxError {
    /// True if the main file, not an included one, could not be opened.
    pub fn is_missing_file(&self) -> bool {
        matches!(self.problem, Problem::Open { .. })
    }
}

/// What is wrong with a configuration text.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The characters do not follow the grammar.
    #[error("Parse error: '{0}'")]
    Grammar(Grammar),
    /// The text ends after a key.
    #[error("config is invalid")]
    KeyWithoutValue,
    /// A number beyond 64 bits.
    #[error("integer '{0}' is out of the range")]
    IntegerRange(String),
    /// A number followed by letters that look like a size and are none.
    #[error("'{0}' is not a size: known suffixes are k, m, g, t, p, e and kb, ki, kib and so on")]
    SizeSuffix(String),
    /// A date with an impossible month, day, hour, minute or second.
    #[error("expected Zulu formatted DateTime, but got '{0}'")]
    Date(String),
    /// A variable that neither the file nor the environment defines.
    #[error("variable reference for '{0}' can not be found")]
    VariableMissing(String),
    /// An environment variable whose text is no value.
    #[error("variable reference for '{name}' could not be parsed: {source}")]
    VariableUnparsable {
        /// Name without `$`.
        name: String,
        /// Why the text is no value.
        source: Box<SyntaxError>,
    },
    /// An environment variable that refers to itself, directly or through others.
    #[error("variable reference cycle for '{0}'")]
    VariableCycle(String),
    /// A file that cannot be read.
    #[error("open {path}: {}", os_text(.source))]
    Open {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A problem in an included file.
    #[error("error parsing include file '{path}', {source}")]
    Include {
        /// The path as written after `include`.
        path: String,
        /// The problem.
        source: Box<SyntaxError>,
    },
    /// A bound of this implementation.
    #[error("{0}")]
    Limit(Limit),
}

/// Bounds that keep any input from exhausting stack or memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// Arrays and maps, one in the other.
    #[error("values are nested more than {} levels deep", super::MAX_DEPTH)]
    Depth,
    /// Includes, one in the other: most likely a file that includes itself.
    #[error("includes are nested more than {} levels deep", super::MAX_INCLUDE_DEPTH)]
    IncludeDepth,
    /// Included files in total.
    #[error("more than {} includes", super::MAX_INCLUDES)]
    Includes,
    /// Bytes of one file.
    #[error("file is larger than {} bytes", super::MAX_FILE_BYTES)]
    FileBytes,
    /// Values in total, copies through variables counted.
    #[error("configuration expands to more than {} bytes", super::MAX_TREE_BYTES)]
    TreeBytes,
}

/// Departures from the grammar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Grammar {
    /// The text ends inside a quoted string or right after an opening.
    #[error("Unexpected EOF.")]
    Eof,
    /// The text ends inside `( … )`.
    #[error("Unexpected EOF processing block.")]
    EofInBlock,
    /// The text ends inside `{ … }`.
    #[error("Unexpected EOF processing map.")]
    EofInMap,
    /// The text ends inside `[ … ]`.
    #[error("Unexpected EOF processing array.")]
    EofInArray,
    /// A pair begins with `=` or `:`.
    #[error("Unexpected key separator '{0}'")]
    KeySeparator(char),
    /// A separator and then the end of the line.
    #[error("Expected value but found new line")]
    NewLineForValue,
    /// A separator and then the end of the pair.
    #[error("Expected value but found '{0}'")]
    NoValue(Found),
    /// `include` and then something that is no path.
    #[error("Expected include value but found {0}")]
    NoInclude(&'static str),
    /// Text after a value at top level.
    #[error("Expected a top-level value to end with a new line, comment or EOF, but got '{0}' instead.")]
    TopTerminator(Found),
    /// Text after a value in a map.
    #[error("Expected a map value terminator \",\" or a map terminator \"}}\", but got '{0}' instead.")]
    MapTerminator(Found),
    /// Text after a value in an array.
    #[error("Expected an array value terminator \",\" or an array terminator \"]\", but got '{0}' instead.")]
    ArrayTerminator(Found),
    /// A `]` where a key should be.
    #[error("Unexpected array end ']' processing map.")]
    ArrayEndInMap,
    /// A comma without a value before it in an array.
    #[error("Unexpected array value terminator ','.")]
    ArrayComma,
    /// A backslash with an unknown letter.
    #[error(
        "Invalid escape character '{0}'. Only the following escape characters are allowed: \\xXX, \\t, \\n, \\r, \\\", \\\\."
    )]
    Escape(Found),
    /// `\x` without two hexadecimal digits.
    #[error("Expected two hexadecimal digits after '\\x', but got '{0}'")]
    HexEscape(String),
    /// A value that begins with a dot.
    #[error("Floats must start with a digit")]
    FloatDot,
    /// A negative number that begins with a dot.
    #[error("Floats must start with a digit, not '.'.")]
    NegativeFloatDot,
    /// A float that ends with its dot.
    #[error("Floats must have a digit after the '.', but got '{0}' instead.")]
    FloatFraction(Found),
    /// A minus sign without a number.
    #[error("Expected a digit but got '{0}'.")]
    NegativeDigit(Found),
    /// A number followed by a minus sign that is no year.
    #[error("All ISO8601 dates must be in full Zulu form.")]
    DateForm,
    /// A date that breaks off.
    #[error("Expected {expected} in ISO8601 datetime, but found '{found}' instead.")]
    DatePart {
        /// `digit`, or the character in quotes.
        expected: &'static str,
        /// What is there.
        found: Found,
    },
    /// A byte that text does not contain: a binary file, or UTF-16.
    #[error("Unexpected NUL byte, the file is not UTF-8 text.")]
    Nul,
}

/// A character of the input, or its end, in a form that fits on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found(pub(super) Option<char>);

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            None => f.write_str("EOF"),
            Some('\n') => f.write_str("\\n"),
            Some(c) if c.is_control() => write!(f, "{}", c.escape_default()),
            Some(c) => write!(f, "{c}"),
        }
    }
}

/// The operating system's words without Rust's additions.
fn os_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}
