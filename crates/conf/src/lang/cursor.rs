use std::sync::Arc;

use super::error::{Found, Grammar, Problem, SyntaxError};
use super::value::Position;

/// A place in a text that moves forward, counting lines.
pub(super) struct Cursor<'a> {
    text: &'a str,
    file: Arc<str>,
    at: usize,
    line: u32,
    line_start: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str, file: Arc<str>) -> Self {
        Self { text, file, at: 0, line: 1, line_start: 0 }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        if c == '\n' {
            self.line = self.line.saturating_add(1);
            self.line_start = self.at;
        }
        Some(c)
    }

    /// Moves past `c` if it is next.
    pub(super) fn eat(&mut self, c: char) -> bool {
        let next = self.peek() == Some(c);
        if next {
            self.bump();
        }
        next
    }

    /// Moves past every character that `wanted` accepts and returns them.
    pub(super) fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(&wanted) {
            self.bump();
        }
        &self.text[start..self.at]
    }

    /// Offset to give to [`Self::since`] later.
    pub(super) fn mark(&self) -> usize {
        self.at
    }

    pub(super) fn since(&self, mark: usize) -> &'a str {
        &self.text[mark..self.at]
    }

    pub(super) fn position(&self) -> Position {
        let column = self.at - self.line_start + usize::from(self.line > 1);
        Position {
            file: Arc::clone(&self.file),
            line: self.line,
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn fail(&self, problem: Problem) -> SyntaxError {
        SyntaxError { at: self.position(), problem }
    }

    /// An error about the next character.
    pub(super) fn unexpected(&self, what: impl FnOnce(Found) -> Grammar) -> SyntaxError {
        self.fail(Problem::Grammar(what(Found(self.peek()))))
    }

    /// Skips spaces and tabs.
    pub(super) fn skip_blanks(&mut self) {
        self.take_while(|c| matches!(c, ' ' | '\t'));
    }

    /// Skips white space of any kind, line ends included.
    pub(super) fn skip_space(&mut self) {
        self.take_while(char::is_whitespace);
    }

    /// Skips a comment, up to the end of its line, if one begins here.
    pub(super) fn skip_comment(&mut self) -> bool {
        let found = self.rest().starts_with('#') || self.rest().starts_with("//");
        if found {
            self.take_while(|c| !matches!(c, '\n' | '\r'));
        }
        found
    }

    /// Skips white space and comments.
    pub(super) fn skip_to_item(&mut self) {
        loop {
            self.skip_space();
            if !self.skip_comment() {
                return;
            }
        }
    }
}
