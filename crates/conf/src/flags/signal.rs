/// A command to a running server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGKILL
    Stop,
    /// SIGINT: stop in order.
    Quit,
    /// SIGTERM: stop in order, unless in lame duck mode.
    Term,
    /// SIGUSR1: open the log file again.
    Reopen,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR2: lame duck mode.
    LameDuck,
}

/// Which server to signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalTarget {
    /// The only one running.
    Any,
    /// The process with this id.
    Pid(u32),
    /// All running servers whose process id begins with these digits; written with a final `*`.
    Prefix(String),
    /// The process whose id is the content of this file, white space around it being harmless; if there is no such
    /// file, the server of this name.
    PidFile(String),
}

/// What `-sl command[=target]` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalRequest {
    /// The command.
    pub signal: Signal,
    /// Its receiver.
    pub target: SignalTarget,
}

/// What is wrong with a `-sl` value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// No such command.
    #[error("unknown signal {0:?}")]
    Unknown(String),
    /// More than one `=`.
    #[error("invalid signal parameters: [{0}]")]
    Parameters(String),
}

impl SignalRequest {
    pub(super) fn parse(text: &str) -> Result<Self, SignalError> {
        let (command, target) = text.split_once('=').unwrap_or((text, ""));
        if target.contains('=') {
            let rest: Vec<&str> = target.split('=').skip(1).collect();
            return Err(SignalError::Parameters(rest.join(" ")));
        }
        let signal = match command {
            "stop" => Signal::Stop,
            "quit" => Signal::Quit,
            "term" => Signal::Term,
            "reopen" => Signal::Reopen,
            "reload" => Signal::Reload,
            "ldm" => Signal::LameDuck,
            _ => return Err(SignalError::Unknown(command.to_owned())),
        };
        Ok(Self { signal, target: SignalTarget::parse(target) })
    }
}

impl SignalTarget {
    fn parse(text: &str) -> Self {
        if text.is_empty() {
            return Self::Any;
        }
        if let Ok(pid) = text.parse() {
            return Self::Pid(pid);
        }
        match text.strip_suffix('*') {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Self::Prefix(digits.to_owned()),
            _ => Self::PidFile(text.to_owned()),
        }
    }
}
