use super::table::{Effect, Flag, flags, truth};
use super::{Action, Invocation, SignalError, SignalRequest};
use crate::suggest::nearest;

/// What is wrong with a command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// No such flag.
    #[error("flag provided but not defined: -{flag}{}", hint(.near.as_deref()))]
    Unknown {
        /// As given, without dashes.
        flag: String,
        /// The flag that may be meant.
        near: Option<String>,
    },
    /// The flag's feature does not exist yet.
    #[error("flag -{0} is not supported yet")]
    NotYet(String),
    /// The last word is a flag that needs a value.
    #[error("flag needs an argument: -{0}")]
    NoValue(String),
    /// The value is not of the kind the flag takes.
    #[error("invalid value {value:?} for flag -{flag}: parse error")]
    BadValue {
        /// As given, without dashes.
        flag: String,
        /// As given.
        value: String,
    },
    /// A word of dashes, or with three of them.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// A word that is neither a flag nor a command.
    #[error("unrecognized command: {0:?}")]
    Command(String),
    /// `-t` alone.
    #[error("must specify [-c, --config] option to check configuration file syntax")]
    CheckWithoutConfig,
    /// `-sl` with something it does not know.
    #[error(transparent)]
    Signal(#[from] SignalError),
}

fn hint(near: Option<&str>) -> String {
    near.map(|name| format!(" (did you mean -{name}?)")).unwrap_or_default()
}

/// Understands the words after the program's name. Flags end at the first word that is none; `--` ends them too.
pub fn parse<S: AsRef<str>>(arguments: &[S]) -> Result<Invocation, FlagError> {
    let mut words = arguments.iter().map(AsRef::as_ref);
    let mut found = Found::default();
    let mut command = None;
    while let Some(word) = words.next() {
        if word == "--" {
            command = words.next();
            break;
        }
        // A lone dash is a word, as for most programs.
        if !word.starts_with('-') || word == "-" {
            command = Some(word);
            break;
        }
        let body = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).unwrap_or(word);
        if body.is_empty() || body.starts_with(['-', '=']) {
            return Err(FlagError::Syntax(word.to_owned()));
        }
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let flag = find(name)?;
        let value = match inline {
            Some(value) => value,
            None if flag.value.is_empty() => "true",
            None if matches!(flag.effect, Effect::NotYet) => "",
            None => words.next().ok_or_else(|| FlagError::NoValue(name.to_owned()))?,
        };
        found.take(flag, name, value)?;
    }
    found.finish(command)
}

fn find(name: &str) -> Result<&'static Flag, FlagError> {
    flags().find(|flag| flag.names.contains(&name)).ok_or_else(|| {
        let near = nearest(name, flags().flat_map(|flag| flag.names.iter().copied()));
        FlagError::Unknown { flag: name.to_owned(), near: near.map(str::to_owned) }
    })
}

/// Flags seen so far.
#[derive(Default)]
struct Found {
    invocation: Invocation,
    check: bool,
    help: bool,
    help_tls: bool,
    version: bool,
    signal: Option<String>,
}

impl Found {
    fn take(&mut self, flag: &Flag, name: &str, value: &str) -> Result<(), FlagError> {
        let bad = || FlagError::BadValue { flag: name.to_owned(), value: value.to_owned() };
        let on = || truth(value).ok_or_else(bad);
        match &flag.effect {
            Effect::Help => self.help = on()?,
            Effect::HelpTls => self.help_tls = on()?,
            Effect::Version => self.version = on()?,
            Effect::Check => self.check = on()?,
            Effect::Config => self.invocation.config = Some(value.to_owned()).filter(|c| !c.is_empty()),
            Effect::Signal => self.signal = Some(value.to_owned()),
            Effect::Set(key, read) => self.invocation.overrides.push(key, read(value).ok_or_else(bad)?),
            // Saying that one does not want it is fine.
            Effect::NotYet if flag.value.is_empty() && truth(value) == Some(false) => {}
            Effect::NotYet => return Err(FlagError::NotYet(name.to_owned())),
        }
        Ok(())
    }

    fn finish(self, command: Option<&str>) -> Result<Invocation, FlagError> {
        let mut invocation = self.invocation;
        let command = command.map(|word| (word, word.to_ascii_lowercase()));
        invocation.action = match command.as_ref().map(|(_, lower)| lower.as_str()) {
            _ if self.version => Action::Version,
            _ if self.help => Action::Help,
            _ if self.help_tls => Action::HelpTls,
            Some("version") => Action::Version,
            Some("help") => Action::Help,
            Some(_) => {
                let word = command.map_or("", |(word, _)| word);
                return Err(FlagError::Command(word.to_owned()));
            }
            None => match self.signal.filter(|s| !s.is_empty()) {
                Some(text) => Action::Signal(SignalRequest::parse(&text)?),
                None if self.check && invocation.config.is_none() => {
                    return Err(FlagError::CheckWithoutConfig);
                }
                None if self.check => Action::Check,
                None => Action::Serve,
            },
        };
        Ok(invocation)
    }
}
