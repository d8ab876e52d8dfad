use std::time::Duration;

use linnet_launch::Deadline;

/// How long anything may take that should take a moment.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Asks again and again until there is an answer; fails with `what` after [`LONG`].
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Deadline::after(LONG);
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    loop {
        ticks.tick().await;
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(!deadline.has_passed(), "not within {LONG:?}: {what}");
    }
}

/// Awaits something that has to happen; fails with `what` after [`LONG`].
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LONG, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {LONG:?}: {what}"),
    }
}

/// Waits until the server has worked off everything this connection has sent.
pub(crate) async fn round_trip(client: &async_nats::Client) {
    let nobody = within("a round trip", client.request("nobody.is.there", "".into())).await;
    assert_eq!(nobody.unwrap_err().kind(), async_nats::RequestErrorKind::NoResponders);
}
