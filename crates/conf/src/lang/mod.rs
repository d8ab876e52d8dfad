//! The configuration language: text in, a tree with positions out.
//!
//! A superset of JSON with unquoted keys and strings, sizes, comments, variables and includes, read exactly as
//! nats-server 2.15 reads it so that the [`digest`] of a file is the same. Where nats-server would silently lose
//! or change something, this parser refuses the text instead: a size with an unknown suffix or beyond 64 bits, a
//! separator without a value, a `{` around the whole file that never closes, a `/` alone where a pair should end, a
//! NUL byte. Three things it reads better: a number right before `]` is a number, the `)` that
//! ends a block may be the last byte of the file, a key may begin with `/`.
//!
//! Bounds on nesting, includes and size hold for every input, trusted or not.

mod cursor;
mod digest;
mod error;
mod parser;
mod scalar;
mod value;

pub use digest::{digest, to_json};
pub use error::{Found, Grammar, Limit, Problem, SyntaxError};
pub use parser::{parse_file, parse_text};
pub use value::{Entry, Map, Node, Position, Value};

/// Arrays and maps, one in the other.
pub const MAX_DEPTH: usize = 128;
/// Included files, one in the other.
pub const MAX_INCLUDE_DEPTH: usize = 16;
/// Included files in total.
pub const MAX_INCLUDES: usize = 1000;
/// Size of one file.
pub const MAX_FILE_BYTES: usize = 16 << 20;
/// Memory for the tree, roughly, with every use of a variable counted again.
pub const MAX_TREE_BYTES: usize = 256 << 20;
