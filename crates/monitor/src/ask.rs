use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use linnet_ids::GroupId;
use linnet_jetstream::{Engine, StreamHandle};
use linnet_jsapi::info::{ConsumerInfo, StreamState};
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How long a stream may take to answer.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);

/// Asks streams about themselves without ever waiting long. A stream that owes an answer is not asked again, so that
/// polling does not pile requests up in its inbox.
#[derive(Default)]
pub(crate) struct Asker {
    /// The oldest question a stream has not answered, and when it was put.
    asked: Mutex<HashMap<GroupId, (Instant, AbortHandle)>>,
}

/// What a stream said.
pub(crate) struct Said {
    pub(crate) state: StreamState,
    /// Empty unless asked for.
    pub(crate) consumers: Vec<ConsumerInfo>,
}

impl Asker {
    /// The state of a stream, with its consumers if wanted; `None` when it does not answer before `deadline`.
    pub(crate) async fn ask(
        &self,
        engine: &Arc<Engine>,
        stream: &Arc<StreamHandle>,
        with_consumers: bool,
        deadline: Instant,
    ) -> Option<Said> {
        if self.is_owing(stream.group()) {
            return None;
        }
        let (engine, handle) = (engine.clone(), stream.clone());
        let mut asking = tokio::spawn(async move {
            let state = engine.stream_state(&handle).await?;
            let consumers = if with_consumers { engine.consumer_infos(&handle).await } else { Vec::new() };
            Some(Said { state, consumers })
        });
        let now = Instant::now();
        // Noted before waiting: whoever asks may go away meanwhile.
        self.asked.lock().entry(stream.group()).or_insert_with(|| (now, asking.abort_handle()));
        let deadline = deadline.min(now + ANSWER_TIME_MAX);
        tokio::time::timeout_at(deadline, &mut asking).await.ok()?.ok().flatten()
    }

    /// True if the stream has had its time for an earlier question.
    fn is_owing(&self, group: GroupId) -> bool {
        let mut asked = self.asked.lock();
        asked.retain(|_, (_, asking)| !asking.is_finished());
        asked.get(&group).is_some_and(|(since, _)| since.elapsed() >= ANSWER_TIME_MAX)
    }
}
