use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use linnet_ids::GroupId;
use linnet_jetstream::{Engine, GroupStatus, StreamHandle, StreamReport};
use linnet_jsapi::info::{ClusterInfo, ConsumerInfo};
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
    pub(crate) report: StreamReport,
    /// Its replicas, in a cluster.
    pub(crate) cluster: Option<ClusterInfo>,
    /// Empty unless asked for.
    pub(crate) consumers: Vec<ConsumerInfo>,
}

impl Asker {
    /// Where a stream stands, with its consumers if wanted; `None` when it does not answer before `deadline`.
    pub(crate) async fn ask(
        &self,
        engine: &Arc<Engine>,
        stream: &Arc<StreamHandle>,
        with_consumers: bool,
        deadline: Instant,
    ) -> Option<Said> {
        let (engine, handle) = (engine.clone(), stream.clone());
        let question = async move {
            let report = engine.stream_report(&handle).await?;
            let consumers = if with_consumers { engine.consumer_infos(&handle).await } else { Vec::new() };
            let cluster = engine.cluster_info(&handle).await;
            Some(Said { report, cluster, consumers })
        };
        self.put(stream.group(), question, deadline).await
    }

    /// The replica of a stream here; `None` for one that is alone, or does not answer before `deadline`.
    pub(crate) async fn ask_replica(
        &self,
        engine: &Arc<Engine>,
        stream: &Arc<StreamHandle>,
        deadline: Instant,
    ) -> Option<GroupStatus> {
        let (engine, handle) = (engine.clone(), stream.clone());
        self.put(stream.group(), async move { engine.replica_status(&handle).await }, deadline).await
    }

    /// The answer to a question put to a group. The question stays open after the deadline: only its answer shows that
    /// the group can be asked again.
    async fn put<T: Send + 'static>(
        &self,
        group: GroupId,
        question: impl Future<Output = Option<T>> + Send + 'static,
        deadline: Instant,
    ) -> Option<T> {
        if self.is_owing(group) {
            return None;
        }
        let now = Instant::now();
        let mut asking = tokio::spawn(question);
        // Noted before waiting: whoever asks may go away meanwhile.
        self.asked.lock().entry(group).or_insert_with(|| (now, asking.abort_handle()));
        let deadline = deadline.min(now + ANSWER_TIME_MAX);
        tokio::time::timeout_at(deadline, &mut asking).await.ok()?.ok().flatten()
    }

    /// True if the group has had its time for an earlier question.
    fn is_owing(&self, group: GroupId) -> bool {
        let mut asked = self.asked.lock();
        asked.retain(|_, (_, asking)| !asking.is_finished());
        asked.get(&group).is_some_and(|(since, _)| since.elapsed() >= ANSWER_TIME_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn group_that_owes_an_answer_is_asked_again_only_after_it() {
        let asker = Asker::default();
        let far = Instant::now() + Duration::from_secs(3600);
        let count = Arc::new(AtomicUsize::new(0));
        let (answer, answered) = oneshot::channel();
        let first = asker.put(GroupId::META, async move { answered.await.ok() }, far).await;
        assert_eq!(first, None::<u32>);
        let ask = || {
            let count = count.clone();
            asker.put(GroupId::META, async move { Some(count.fetch_add(1, Ordering::SeqCst)) }, far)
        };
        assert_eq!(ask().await, None);
        assert_eq!(count.load(Ordering::SeqCst), 0, "the question was not put");
        answer.send(7).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while ask().await.is_none() {
            assert!(Instant::now() < deadline, "still not asked");
            tokio::task::yield_now().await;
        }
    }
}
