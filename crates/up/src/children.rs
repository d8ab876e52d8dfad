use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Pid, Signal};

/// Becomes the program of a server that is killed when the thread of `parent` that started this process ends. Returns only
/// if that fails.
///
/// A process can set this for itself only, before it executes the program, which keeps it.
pub fn become_server(parent: u32, program: &mut Command) -> io::Error {
    if let Err(errno) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return errno.into();
    }
    // A parent that had ended before would not be noticed.
    let is_child = rustix::process::getppid().map(Pid::as_raw_pid) == i32::try_from(parent).ok();
    if !is_child {
        return io::Error::other(format!("process {parent} has ended"));
    }
    program.exec()
}
