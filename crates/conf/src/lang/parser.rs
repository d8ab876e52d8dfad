use std::sync::Arc;

use super::cursor::Cursor;
use super::error::{Grammar, Limit, Problem, SyntaxError};
use super::scalar::{self, Scalar};
use super::value::{Entry, Map, Node, Position, Value};
use super::{MAX_DEPTH, MAX_FILE_BYTES, MAX_INCLUDE_DEPTH, MAX_INCLUDES, MAX_TREE_BYTES};
use crate::source::Source;

/// Reads and parses a file with everything it includes.
pub fn parse_file(path: &str, source: &dyn Source) -> Result<Map, SyntaxError> {
    read_and_parse(path, &mut Context::new(source), 0)
}

/// Parses a text. `file` names it in positions, and its directory is where relative includes are looked for.
pub fn parse_text(text: &[u8], file: &str, source: &dyn Source) -> Result<Map, SyntaxError> {
    parse_bytes(text, file, &mut Context::new(source), 0)
}

/// What all files of one configuration share.
struct Context<'s> {
    source: &'s dyn Source,
    /// Environment variables being parsed, outermost first.
    variables: Vec<String>,
    include_depth: usize,
    includes: usize,
    tree_bytes: usize,
}

impl<'s> Context<'s> {
    fn new(source: &'s dyn Source) -> Self {
        Self { source, variables: Vec::new(), include_depth: 0, includes: 0, tree_bytes: 0 }
    }

    /// Accounts for a value with everything in it.
    fn charge(&mut self, value: &Value) -> Result<(), Limit> {
        match value {
            Value::String(text) | Value::Date(text) => self.charge_bytes(text.len())?,
            Value::Array(items) => items.iter().try_for_each(|n| self.charge(&n.value))?,
            Value::Map(map) => map.sorted().try_for_each(|e| {
                self.charge_bytes(e.key.len())?;
                self.charge(&e.node.value)
            })?,
            Value::Integer(_) | Value::Float(_) | Value::Bool(_) => {}
        }
        self.charge_bytes(size_of::<Entry>())
    }

    fn charge_bytes(&mut self, bytes: usize) -> Result<(), Limit> {
        self.tree_bytes = self.tree_bytes.saturating_add(bytes);
        if self.tree_bytes > MAX_TREE_BYTES { Err(Limit::TreeBytes) } else { Ok(()) }
    }
}

fn start_of(file: &str) -> Position {
    Position { file: Arc::from(file), line: 1, column: 0 }
}

fn read_and_parse(path: &str, context: &mut Context<'_>, depth: usize) -> Result<Map, SyntaxError> {
    let bytes = context.source.read(path).map_err(|source| SyntaxError {
        at: start_of(path),
        problem: Problem::Open { path: path.to_owned(), source },
    })?;
    parse_bytes(&bytes, path, context, depth)
}

fn parse_bytes(
    bytes: &[u8],
    file: &str,
    context: &mut Context<'_>,
    depth: usize,
) -> Result<Map, SyntaxError> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(SyntaxError { at: start_of(file), problem: Problem::Limit(Limit::FileBytes) });
    }
    let text = scalar::lossy(bytes);
    let mut cursor = Cursor::new(&text, Arc::from(file));
    if text.contains('\0') {
        cursor.take_while(|c| c != '\0');
        return Err(cursor.unexpected(|_| Grammar::Nul));
    }
    Parser { cur: cursor, context, directory: directory(file), open: Vec::new(), depth }.file()
}

/// What encloses a pair or an element, and so decides how it may end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    /// The file, or the `{ … }` around all of it.
    Top,
    Map,
    Array,
}

struct Parser<'a, 'c, 's> {
    cur: Cursor<'a>,
    context: &'c mut Context<'s>,
    directory: &'c str,
    /// The maps being filled, outermost first: where variables are looked up.
    open: Vec<Map>,
    /// Arrays and maps around the cursor, in including files too.
    depth: usize,
}

impl Parser<'_, '_, '_> {
    fn file(mut self) -> Result<Map, SyntaxError> {
        self.open.push(Map::default());
        self.cur.skip_to_item();
        let mut wrapped = self.cur.eat('{');
        loop {
            self.cur.skip_to_item();
            // One brace too many at the very end is common, and nats-server does not mind.
            let extra_brace = || self.cur.rest().strip_prefix('}').is_some_and(|r| r.trim_start().is_empty());
            if self.cur.peek().is_none() || (!wrapped && extra_brace()) {
                break;
            }
            if wrapped && self.cur.eat('}') {
                wrapped = false;
            } else {
                self.pair(Level::Top)?;
                if self.end_of_top_value()? {
                    wrapped = false;
                }
            }
        }
        if wrapped {
            return Err(self.cur.unexpected(|_| Grammar::EofInMap));
        }
        Ok(self.open.pop().unwrap_or_default())
    }

    /// Moves past what ends a pair at top level. True if that was a `}`, which closes the braces around the
    /// whole file, and means nothing if there are none.
    fn end_of_top_value(&mut self) -> Result<bool, SyntaxError> {
        self.cur.skip_blanks();
        if self.cur.skip_comment() {
            return Ok(false);
        }
        match self.cur.peek() {
            None | Some('\n' | '\r' | ',' | ';') => {
                self.cur.bump();
                Ok(false)
            }
            Some('}') => {
                self.cur.bump();
                Ok(true)
            }
            Some(_) => Err(self.cur.unexpected(Grammar::TopTerminator)),
        }
    }

    /// One `key value` or `include path`, without what ends it.
    fn pair(&mut self, level: Level) -> Result<(), SyntaxError> {
        let (key, at, is_bare) = self.key(level)?;
        if is_bare
            && key.eq_ignore_ascii_case("include")
            && !matches!(self.cur.peek(), Some('=' | ':'))
            && self.cur.peek().is_some()
        {
            return self.include();
        }
        self.separator(level)?;
        let node = self.value(level)?;
        self.charge_bytes(key.len() + size_of::<Entry>())?;
        self.innermost().insert(key, at, node);
        Ok(())
    }

    fn key(&mut self, level: Level) -> Result<(String, Position, bool), SyntaxError> {
        if let Some(quote @ ('"' | '\'')) = self.cur.peek() {
            self.cur.bump();
            let at = self.cur.position();
            return Ok((scalar::quoted(&mut self.cur, quote)?, at, false));
        }
        let at = self.cur.position();
        let key = self.cur.take_while(|c| !c.is_whitespace() && !matches!(c, '=' | ':')).to_owned();
        match self.cur.peek() {
            None if level == Level::Map => Err(self.cur.unexpected(|_| Grammar::EofInMap)),
            None => Err(self.cur.fail(Problem::KeyWithoutValue)),
            Some(c) if key.is_empty() => Err(self.cur.unexpected(|_| Grammar::KeySeparator(c))),
            Some(_) => Ok((key, at, true)),
        }
    }

    /// Moves from the end of a key to the beginning of its value.
    fn separator(&mut self, level: Level) -> Result<(), SyntaxError> {
        self.cur.skip_space();
        if !(self.cur.eat('=') || self.cur.eat(':')) {
            return match self.cur.peek() {
                None if level == Level::Map => Err(self.cur.unexpected(|_| Grammar::EofInMap)),
                None => Err(self.cur.fail(Problem::KeyWithoutValue)),
                Some(_) => Ok(()),
            };
        }
        if level == Level::Map {
            self.cur.skip_space();
        } else {
            self.cur.take_while(|c| c.is_whitespace() && !matches!(c, '\n' | '\r'));
        }
        match self.cur.peek() {
            Some('\n' | '\r') => Err(self.cur.unexpected(|_| Grammar::NewLineForValue)),
            _ => Ok(()),
        }
    }

    fn value(&mut self, level: Level) -> Result<Node, SyntaxError> {
        let mut at = self.cur.position();
        if matches!(self.cur.peek(), Some('"' | '\'' | '(' | '[' | '{')) {
            at.column = at.column.saturating_add(1);
        }
        let value = match self.cur.peek() {
            Some('[') => self.nested(Self::array)?,
            Some('{') => self.nested(Self::map)?,
            None if level == Level::Map => return Err(self.cur.unexpected(|_| Grammar::EofInMap)),
            None | Some(',' | ';' | '}') => return Err(self.cur.unexpected(Grammar::NoValue)),
            Some(_) => match scalar::scalar(&mut self.cur)? {
                Scalar::Value(value) => {
                    self.charge(&value)?;
                    value
                }
                Scalar::Variable(name) => self.variable(&name, &at)?,
            },
        };
        Ok(Node { value, at })
    }

    /// Moves into an array or a map and back out.
    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Value, SyntaxError>,
    ) -> Result<Value, SyntaxError> {
        if self.depth == MAX_DEPTH {
            return Err(self.limit(Limit::Depth));
        }
        self.cur.bump();
        self.depth += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn map(&mut self) -> Result<Value, SyntaxError> {
        self.open.push(Map::default());
        loop {
            self.cur.skip_to_item();
            if self.cur.eat('}') {
                break;
            }
            match self.cur.peek() {
                None => return Err(self.cur.unexpected(|_| Grammar::EofInMap)),
                Some(']') => return Err(self.cur.unexpected(|_| Grammar::ArrayEndInMap)),
                Some(_) => self.pair(Level::Map)?,
            }
            self.cur.skip_blanks();
            if self.cur.skip_comment() {
                continue;
            }
            match self.cur.peek() {
                Some('\n' | '\r' | ',' | ';') => {
                    self.cur.bump();
                }
                Some('}') => {}
                None => return Err(self.cur.unexpected(|_| Grammar::EofInMap)),
                Some(_) => return Err(self.cur.unexpected(Grammar::MapTerminator)),
            }
        }
        Ok(Value::Map(self.open.pop().unwrap_or_default()))
    }

    fn array(&mut self) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        loop {
            self.cur.skip_to_item();
            match self.cur.peek() {
                Some(']') => {
                    self.cur.bump();
                    return Ok(Value::Array(items));
                }
                Some(',') => return Err(self.cur.unexpected(|_| Grammar::ArrayComma)),
                Some(';' | '}') => return Err(self.cur.unexpected(Grammar::ArrayTerminator)),
                None => return Err(self.cur.unexpected(|_| Grammar::EofInArray)),
                Some(_) => {}
            }
            let item = self.value(Level::Array)?;
            self.charge_bytes(size_of::<Node>())?;
            items.push(item);
            self.cur.skip_blanks();
            if self.cur.skip_comment() {
                continue;
            }
            match self.cur.peek() {
                Some('\n' | '\r' | ',') => {
                    self.cur.bump();
                }
                Some(']') => {}
                None => return Err(self.cur.unexpected(|_| Grammar::EofInArray)),
                Some(_) => return Err(self.cur.unexpected(Grammar::ArrayTerminator)),
            }
        }
    }

    /// The value a variable stands for: that of a key above it in this map or one around it, else what the
    /// environment has.
    fn variable(&mut self, name: &str, at: &Position) -> Result<Value, SyntaxError> {
        let value = match self.open.iter_mut().rev().find_map(|map| map.get_mut(name)) {
            Some(entry) => {
                entry.used = true;
                entry.node.value.clone()
            }
            None => self.environment(name, at)?,
        };
        if self.depth + value.depth() > MAX_DEPTH {
            return Err(self.limit(Limit::Depth));
        }
        self.charge(&value)?;
        Ok(value)
    }

    /// The text of an environment variable, read as if it stood after a `key =`.
    fn environment(&mut self, name: &str, at: &Position) -> Result<Value, SyntaxError> {
        let fail = |problem| SyntaxError { at: at.clone(), problem };
        if self.context.variables.iter().any(|n| n == name) {
            return Err(fail(Problem::VariableCycle(name.to_owned())));
        }
        let Some(text) = self.context.source.env(name) else {
            return Err(fail(Problem::VariableMissing(name.to_owned())));
        };
        if text.trim_matches([' ', '\t']).is_empty() {
            return Ok(Value::String(String::new()));
        }
        if self.context.variables.len() == MAX_INCLUDE_DEPTH {
            return Err(self.limit(Limit::IncludeDepth));
        }
        self.context.variables.push(name.to_owned());
        let parsed = parse_bytes(format!("value={text}").as_bytes(), "", self.context, self.depth);
        self.context.variables.pop();
        let unparsable = |source| Problem::VariableUnparsable { name: name.to_owned(), source };
        let map = parsed.map_err(|inner| fail(unparsable(Box::new(inner))))?;
        match map.get("value") {
            Some(entry) => Ok(entry.node.value.clone()),
            None => Ok(Value::String(String::new())),
        }
    }

    /// The rest of `include path`: adds what the file has to the innermost map.
    fn include(&mut self) -> Result<(), SyntaxError> {
        self.cur.skip_blanks();
        let at = self.cur.position();
        let written = self.include_path()?;
        if self.context.include_depth == MAX_INCLUDE_DEPTH {
            return Err(self.limit(Limit::IncludeDepth));
        }
        if self.context.includes == MAX_INCLUDES {
            return Err(self.limit(Limit::Includes));
        }
        self.context.includes += 1;
        self.context.include_depth += 1;
        let included = read_and_parse(&resolve(self.directory, &written), self.context, self.depth);
        self.context.include_depth -= 1;
        let included = included.map_err(|source| SyntaxError {
            at: if matches!(source.problem, Problem::Open { .. }) { at } else { source.at.clone() },
            problem: Problem::Include { path: written, source: Box::new(source) },
        })?;
        let map = self.innermost();
        for entry in included.in_order() {
            map.insert_entry(entry.clone());
        }
        Ok(())
    }

    fn include_path(&mut self) -> Result<String, SyntaxError> {
        let nothing = match self.cur.peek() {
            Some(quote @ ('"' | '\'')) => {
                self.cur.bump();
                return scalar::quoted(&mut self.cur, quote);
            }
            None => "end of file",
            Some('\n' | '\r') => "new line",
            Some('0'..='9' | '-') => "start of a number",
            Some('[') => "start of an array",
            Some('{') => "start of a map",
            Some('(') => "start of a block",
            Some('\\') => "start of an escape sequence",
            Some(_) => {
                let path = self.cur.take_while(|c| !c.is_whitespace() && !matches!(c, ';' | '}'));
                return Ok(path.to_owned());
            }
        };
        Err(self.cur.unexpected(|_| Grammar::NoInclude(nothing)))
    }

    fn innermost(&mut self) -> &mut Map {
        if self.open.is_empty() {
            self.open.push(Map::default());
        }
        let last = self.open.len() - 1;
        &mut self.open[last]
    }

    fn limit(&self, limit: Limit) -> SyntaxError {
        self.cur.fail(Problem::Limit(limit))
    }

    fn charge(&mut self, value: &Value) -> Result<(), SyntaxError> {
        self.context.charge(value).map_err(|limit| self.limit(limit))
    }

    fn charge_bytes(&mut self, bytes: usize) -> Result<(), SyntaxError> {
        self.context.charge_bytes(bytes).map_err(|limit| self.limit(limit))
    }
}

/// The part of a path up to its last `/`; empty for a bare file name.
fn directory(file: &str) -> &str {
    file.rfind('/').map_or("", |slash| &file[..=slash])
}

/// Where `path` leads from `directory`, without `.` and with `..` taken lexically.
fn resolve(directory: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{directory}{path}") };
    let root = if joined.starts_with('/') { "/" } else { "" };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            ".." if !root.is_empty() => {}
            _ => parts.push(part),
        }
    }
    format!("{root}{}", parts.join("/"))
}
