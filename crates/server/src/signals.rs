//! Signals of the operating system as events.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What an operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SIGINT: stop, also while draining.
    Interrupt,
    /// SIGTERM: stop, ignored while draining.
    Terminate,
    /// SIGUSR1: open the log file anew.
    Reopen,
    /// SIGUSR2: drain.
    LameDuck,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The signals the server listens to.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    reopen: Signal,
    lame_duck: Signal,
    reload: Signal,
}

impl Signals {
    /// Starts listening.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            reopen: signal(SignalKind::user_defined1())?,
            lame_duck: signal(SignalKind::user_defined2())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal, with its line in the log.
    pub(crate) async fn next(&mut self) -> Asked {
        let (asked, name) = tokio::select! {
            _ = self.interrupt.recv() => (Asked::Interrupt, "interrupt"),
            _ = self.terminate.recv() => (Asked::Terminate, "terminated"),
            _ = self.reopen.recv() => (Asked::Reopen, "user defined signal 1"),
            _ = self.lame_duck.recv() => (Asked::LameDuck, "user defined signal 2"),
            _ = self.reload.recv() => (Asked::Reload, "hangup"),
        };
        tracing::info!("Trapped \"{name}\" signal");
        asked
    }
}
