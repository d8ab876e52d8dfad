//! The server's command line: flags with one or two dashes, a value after `=` or a space.

mod parse;
mod signal;
mod table;
mod usage;

use std::fmt;

pub use parse::{FlagError, parse};
pub use signal::{Signal, SignalError, SignalRequest, SignalTarget};
pub use table::{Flag, flags};
pub use usage::{check_outcome, help_tls, usage};

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

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::load::load;
    use crate::source::Source;

    struct Text(&'static str);

    impl Source for Text {
        fn read(&self, _: &str) -> io::Result<Vec<u8>> {
            Ok(self.0.as_bytes().to_vec())
        }

        fn env(&self, _: &str) -> Option<String> {
            None
        }
    }

    fn over(file: &'static str, arguments: &[&str]) -> Options {
        let mut options = load("t.conf", &Text(file)).unwrap().options;
        parse(arguments).unwrap().overrides.apply(&mut options);
        options
    }

    #[test]
    fn a_flag_beats_the_file_in_both_directions() {
        let options = over("debug: true\nlisten: \"a:1\"", &["-D=false", "-a", "b"]);
        assert!(!options.logging.debug);
        assert_eq!((options.client.host.as_str(), options.client.port.number()), ("b", 1));
        assert!(options.explicit.contains("listen") && options.explicit.contains("host"));
    }

    #[test]
    fn what_no_flag_names_stays_as_in_the_file() {
        let options = over("logtime: false\ntrace_verbose: true", &["-D"]);
        assert!(!options.logging.logtime && options.logging.trace && options.logging.trace_verbose);
    }

    #[test]
    fn trace_switched_off_is_off_altogether() {
        let logging = over("trace_verbose: true", &["-V=false"]).logging;
        assert!(!logging.trace && !logging.trace_verbose);
    }

    #[test]
    fn a_login_from_flags_beside_users_of_the_file_is_refused() {
        let options = over("accounts {A {users: [{user: x}]}}", &["--user", "a", "--pass", "b"]);
        let errors = crate::check(&options).unwrap_err();
        assert_eq!(errors[0].to_string(), "Can not have a single user/pass and accounts");
    }

    #[test]
    fn the_usage_text_has_every_flag() {
        let text = usage("nats-server");
        for name in flags().flat_map(|flag| flag.names) {
            assert!(text.contains(&format!("-{name}")), "{name}");
        }
    }
}
