use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use linnet_wire::encode;

use crate::broker::Shared;
use crate::close::CloseReason;
use crate::conn::Conn;
use crate::router::{close_with_text, push_and_flush};

/// How often connections are looked at. One pass over all of them is cheaper than a timer for each.
const SWEEP: Duration = Duration::from_millis(250);
/// A client whose round-trip time is older than this is pinged although it is busy.
const RTT_MAX_AGE: Duration = Duration::from_secs(3600);

/// Watches login deadlines and keep-alives until aborted.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = shared.clock.mono().0;
        for conn in shared.registry.all() {
            sweep(&shared, &conn, now);
        }
    }
}

fn sweep(shared: &Arc<Shared>, conn: &Arc<Conn>, now: u64) {
    let timers = &conn.timers;
    let deadline = timers.login_deadline.load(Ordering::Relaxed);
    if deadline != 0 {
        if now >= deadline {
            timers.login_deadline.store(0, Ordering::Relaxed);
            tracing::debug!("{} - Authentication Timeout", conn.log_prefix());
            close_with_text(shared, conn, CloseReason::AuthenticationTimeout, "Authentication Timeout");
        }
        return;
    }
    let next_ping = timers.next_ping.load(Ordering::Relaxed);
    // Unset: the connection has not been greeted, and INFO comes before everything else.
    if next_ping == 0 || now < next_ping {
        return;
    }
    let config = shared.config.load();
    let interval = nanos(config.ping_interval);
    timers.next_ping.store(now + interval, Ordering::Relaxed);
    let idle = now.saturating_sub(timers.last_activity.load(Ordering::Relaxed));
    let rtt_age = now.saturating_sub(timers.ping_sent.load(Ordering::Relaxed));
    let never_pinged = timers.ping_sent.load(Ordering::Relaxed) == 0;
    let is_due = never_pinged || idle >= interval || rtt_age > nanos(RTT_MAX_AGE);
    if !is_due {
        return;
    }
    if timers.pings_out.load(Ordering::Relaxed) >= config.ping_max {
        shared.stats.stale_connections.fetch_add(1, Ordering::Relaxed);
        tracing::debug!("{} - Stale Client Connection - Closing", conn.log_prefix());
        close_with_text(shared, conn, CloseReason::StaleConnection, "Stale Connection");
        return;
    }
    timers.pings_out.fetch_add(1, Ordering::Relaxed);
    timers.ping_sent.store(now, Ordering::Relaxed);
    push_and_flush(shared, conn, encode::PING);
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
