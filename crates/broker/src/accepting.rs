//! Listeners when descriptors run out.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Descriptors that clients leave to the store, routes and monitoring: this part of what there may be, and not more than so
/// many.
const LEFT_PART: u64 = 4;
const LEFT_MAX: u64 = 256;

/// Pauses after errors such as "too many open files", longer each time: they keep neither the processor nor the log busy.
#[derive(Debug, Default)]
pub struct AcceptPause(Duration);

impl AcceptPause {
    /// Says what could not be accepted, and waits.
    pub async fn after(&mut self, what: &str, error: &io::Error) {
        tracing::error!("Error accepting a {what} connection: {error}");
        tokio::time::sleep(self.longer()).await;
    }

    fn longer(&mut self) -> Duration {
        self.0 = (self.0 * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.0
    }

    /// A connection was accepted.
    pub fn end(&mut self) {
        self.0 = Duration::ZERO;
    }
}

/// Lets this process have as many files open as its hard limit allows; many systems set a soft limit of 1024.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return Ok(());
    }
    Ok(setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit })?)
}

/// True if a connection is to be refused, so that descriptors stay for what must not fail for want of them. The kernel gives
/// the lowest free number: so many at least are in use.
pub(crate) fn takes_one_of_the_last(connection: &impl std::os::fd::AsFd) -> bool {
    let limit = getrlimit(Resource::Nofile).current;
    limit.is_some_and(|limit| is_one_of_the_last(connection.as_fd().as_raw_fd(), limit))
}

fn is_one_of_the_last(descriptor: RawFd, limit: u64) -> bool {
    let left = (limit / LEFT_PART).min(LEFT_MAX);
    u64::try_from(descriptor).is_ok_and(|number| number >= limit - left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_left_and_not_more_than_256() {
        assert!(!is_one_of_the_last(74, 100) && is_one_of_the_last(75, 100) && is_one_of_the_last(99, 100));
        assert!(!is_one_of_the_last(19_743, 20_000) && is_one_of_the_last(19_744, 20_000));
    }

    #[test]
    fn pauses_grow_until_something_is_accepted() {
        let mut pause = AcceptPause::default();
        let waited: Vec<Duration> = (0..9).map(|_| pause.longer()).collect();
        assert_eq!((&waited[..2], waited[8]), (&[PAUSE_MIN, PAUSE_MIN * 2][..], PAUSE_MAX));
        pause.end();
        assert_eq!(pause.longer(), PAUSE_MIN);
    }
}
