//! The server's command line: flags with one or two dashes, a value after `=` or a space.

mod parse;
mod signal;
mod table;
mod usage;

use std::fmt;

pub use parse::{FlagError, parse};
pub use signal::{Signal, SignalError, SignalRequest, SignalTarget};
pub use table::{Flag, flags};
pub use usage::{check_failed, check_succeeded, help_tls, usage};

use crate::options::Options;

/// What a command line asks for.
#[derive(Debug, Default)]
pub struct Invocation {
    /// What to do.
    pub action: Action,
    /// Configuration file.
    pub config: Option<String>,
    /// Options to set over those of the file.
    pub overrides: Overrides,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Run the server.
    #[default]
    Serve,
    /// Check the configuration file and exit, flags aside. [`Invocation::config`] is set.
    Check,
    /// Send a signal to a running server.
    Signal(SignalRequest),
    /// Print [`usage`].
    Help,
    /// Print [`help_tls`].
    HelpTls,
    /// Print the version.
    Version,
}

/// Settings from flags. They are laid over a file's options at start and again at every reload.
#[derive(Default)]
pub struct Overrides {
    settings: Vec<(&'static str, table::Override)>,
}

impl Overrides {
    /// Sets the options, later flags over earlier ones.
    pub fn apply(&self, options: &mut Options) {
        for (key, setting) in &self.settings {
            setting(options);
            options.explicit.insert(key);
        }
    }

    /// Keys of the options that are set, in the order given.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.settings.iter().map(|(key, _)| *key)
    }
}

impl fmt::Debug for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys()).finish()
    }
}
