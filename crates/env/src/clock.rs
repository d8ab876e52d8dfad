use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use linnet_ids::{Mono, Wall};

/// The source of time. `mono` never goes back; `wall` may be stepped by the operator.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic time, for timers and ages.
    fn mono(&self) -> Mono;
    /// Real time, for timestamps that leave the process.
    fn wall(&self) -> Wall;
}

/// The operating system's clocks.
#[derive(Debug)]
pub struct RealClock {
    start: std::time::Instant,
}

impl RealClock {
    /// A clock whose monotonic zero is now.
    #[allow(clippy::new_without_default, reason = "reading the clock is not a default value")]
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Clock for RealClock {
    fn mono(&self) -> Mono {
        Mono(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn wall(&self) -> Wall {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Wall(since_epoch.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)))
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug, Default)]
pub struct ManualClock {
    mono: AtomicU64,
    wall: AtomicI64,
}

impl ManualClock {
    /// A clock at monotonic zero and the given real time.
    pub fn at(wall: Wall) -> Self {
        Self { mono: AtomicU64::new(0), wall: AtomicI64::new(wall.0) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.mono.fetch_add(nanos, Ordering::SeqCst);
        self.wall.fetch_add(i64::try_from(nanos).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Steps real time only, as an operator or NTP may, in nanoseconds.
    pub fn step_wall(&self, by: i64) {
        self.wall.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn mono(&self) -> Mono {
        Mono(self.mono.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Wall {
        Wall(self.wall.load(Ordering::SeqCst))
    }
}
