use serde_json::{Value, json};

use super::{Fixture, sequences};

impl Fixture {
    /// The stream `S` on `s.*` with this retention.
    pub(crate) async fn queue(&mut self, retention: &str) {
        self.stream(json!({"name": "S", "subjects": ["s.*"], "retention": retention})).await;
    }

    /// A consumer of `S` that acknowledges each message.
    pub(crate) async fn reader(&mut self, name: &str, filter: &str) {
        let config = json!({"durable_name": name, "ack_policy": "explicit", "filter_subject": filter});
        self.consumer("S", config).await;
    }

    /// Publishes a message on each subject.
    pub(crate) async fn publish_all(&mut self, subjects: &[&str]) {
        for subject in subjects {
            let answer = self.publish(subject, "x").await;
            assert_eq!(answer["error"], Value::Null, "{answer}");
        }
    }

    /// Pulls this many and acknowledges each.
    pub(crate) async fn work(&mut self, consumer: &str, batch: u64) -> Vec<u64> {
        let pulled = self.pull("S", consumer, json!({"batch": batch})).await;
        for message in &pulled.messages {
            self.ack(message, "+ACK").await;
        }
        sequences(&pulled)
    }

    /// Waits until the stream `S` shows these counts.
    pub(crate) async fn holds(&mut self, messages: u64, first_seq: u64, last_seq: u64) {
        self.stream_shows(
            "S",
            &[("/messages", messages), ("/first_seq", first_seq), ("/last_seq", last_seq)],
        )
        .await;
    }
}
