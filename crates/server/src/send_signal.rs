//! `-sl`: signals to a running server (configuration, "Signals").

use anyhow::{Context, bail};
use linnet_conf::flags::{Signal, SignalRequest, SignalTarget};
use rustix::process::{Pid, kill_process};

use crate::running::{named, running};

/// Sends the signal; the error is what to tell the operator.
pub fn send_signal(request: &SignalRequest) -> anyhow::Result<()> {
    let signal = match request.signal {
        Signal::Stop => rustix::process::Signal::KILL,
        Signal::Quit => rustix::process::Signal::INT,
        Signal::Term => rustix::process::Signal::TERM,
        Signal::Reopen => rustix::process::Signal::USR1,
        Signal::Reload => rustix::process::Signal::HUP,
        Signal::LameDuck => rustix::process::Signal::USR2,
    };
    let name = format!("{:?}", request.signal).to_lowercase();
    for pid in targets(&request.target)? {
        let process =
            i32::try_from(pid).ok().and_then(Pid::from_raw).with_context(|| format!("invalid pid: {pid}"))?;
        kill_process(process, signal)
            .map_err(|e| anyhow::anyhow!("\nsignal {name:?} {pid}: {}", reason(e)))?;
    }
    Ok(())
}

fn reason(error: rustix::io::Errno) -> String {
    match error {
        rustix::io::Errno::SRCH => "no such process".to_owned(),
        rustix::io::Errno::PERM => "operation not permitted".to_owned(),
        other => other.to_string(),
    }
}

fn targets(target: &SignalTarget) -> anyhow::Result<Vec<u32>> {
    match target {
        SignalTarget::Pid(pid) => Ok(vec![*pid]),
        SignalTarget::PidFile(path) => {
            let Ok(text) = std::fs::read_to_string(path) else { return by_name(path) };
            let pid = text.trim().parse().map_err(|_| anyhow::anyhow!("invalid pid: {text}"))?;
            Ok(vec![pid])
        }
        SignalTarget::Any => {
            let running = running()?;
            match running.as_slice() {
                [] => bail!("no nats-server processes running"),
                [_] => Ok(running),
                several => bail!("multiple nats-server processes running:\n{}", list(several)),
            }
        }
        SignalTarget::Prefix(prefix) => {
            let matching: Vec<u32> =
                running()?.into_iter().filter(|pid| pid.to_string().starts_with(prefix.as_str())).collect();
            if matching.is_empty() {
                bail!("no nats-server processes running");
            }
            Ok(matching)
        }
    }
}

/// The server of this name.
fn by_name(name: &str) -> anyhow::Result<Vec<u32>> {
    let found = named(name)?;
    match found.as_slice() {
        [] => bail!("invalid pid: {name}: neither a file nor the name of a server that runs here"),
        [_] => Ok(found),
        several => bail!("multiple servers of the name {name:?} running:\n{}", list(several)),
    }
}

fn list(pids: &[u32]) -> String {
    pids.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
