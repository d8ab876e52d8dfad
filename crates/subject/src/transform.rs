//! Renaming of subjects: account mappings, and the transforms of streams (jetstream, "Subject transform and
//! republish").

mod error;
mod function;

use crate::{SEPARATOR, is_any, is_rest, is_valid, matches, tokens};
use function::Function;

pub use error::{FunctionError, TransformError};

/// Turns every subject that a pattern covers into another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform {
    source: Vec<u8>,
    parts: Vec<Part>,
    /// Tokens of the source before its `>`, if the destination ends with what that stands for.
    rest_from: Option<usize>,
}

/// What becomes of one token of the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Function(Function),
}

impl Transform {
    /// A transform of what `source` covers (everything if it is empty) into `destination`, whose tokens may be
    /// functions of the source's `*` tokens.
    pub fn new(source: &str, destination: &str) -> Result<Self, TransformError> {
        check_destination(destination)?;
        let source = if source.is_empty() { ">" } else { source };
        let wildcards: Vec<usize> =
            tokens(source.as_bytes()).enumerate().filter(|(_, t)| is_any(t)).map(|(at, _)| at).collect();
        let ends_with_rest = |subject: &str| tokens(subject.as_bytes()).any(is_rest);
        let has_rest = ends_with_rest(source);
        let well_formed = is_valid(source.as_bytes())
            && !tokens(destination.as_bytes()).any(is_any)
            && has_rest == ends_with_rest(destination);
        if !well_formed {
            return Err(TransformError::InvalidSubject);
        }
        let mut parts = Vec::new();
        for token in destination.split('.').filter(|token| *token != ">") {
            parts.push(match Function::parse(token)? {
                None => Part::Literal(token.as_bytes().to_vec()),
                Some(function) => {
                    Part::Function(function.resolve(token, &wildcards, wildcards.is_empty() && !has_rest)?)
                }
            });
        }
        let rest_from = has_rest.then(|| tokens(source.as_bytes()).count() - 1);
        Ok(Self { source: source.as_bytes().to_vec(), parts, rest_from })
    }

    /// Appends what becomes of a literal subject. False, and nothing appended, if the source does not cover it.
    /// `random` decides where chance does.
    pub fn apply(&self, subject: &[u8], random: u64, out: &mut Vec<u8>) -> bool {
        if !matches(subject, &self.source) {
            return false;
        }
        for (at, part) in self.parts.iter().enumerate() {
            if at > 0 {
                out.push(SEPARATOR);
            }
            match part {
                Part::Literal(text) => out.extend_from_slice(text),
                Part::Function(function) => function.append(subject, random, out),
            }
        }
        for (at, token) in tokens(subject).skip(self.rest_from.unwrap_or(usize::MAX)).enumerate() {
            if at > 0 || !self.parts.is_empty() {
                out.push(SEPARATOR);
            }
            out.extend_from_slice(token);
        }
        true
    }
}

/// Judges a destination by itself.
fn check_destination(destination: &str) -> Result<(), TransformError> {
    let mut after_rest = false;
    for token in destination.split('.') {
        if token.is_empty() || after_rest {
            return Err(TransformError::BadToken(token.to_owned()));
        }
        if Function::parse(token)?.is_none() && token.contains([' ', '\t', '\r', '\n', '\x0c']) {
            return Err(TransformError::BadToken(String::new()));
        }
        after_rest = token == ">";
    }
    Ok(())
}

#[cfg(test)]
mod tests;
