//! When what is not acknowledged comes again: after changes of the consumer and restarts of the server, each rule
//! against both servers.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::harness::{ENDS, End, Fixture, JETSTREAM, Kind, program, run, sequences, within};

/// Longer than any test takes.
const NEVER: u64 = 600_000_000_000;

impl Fixture {
    /// A stream with `messages` messages and a consumer.
    async fn several_messages(&mut self, messages: usize, config: Value) {
        self.stream(json!({"name": "S", "subjects": ["s"]})).await;
        for _ in 0..messages {
            self.publish("s", "x").await;
        }
        self.consumer("S", config).await;
    }

    /// What a pull request gets within a second and a half.
    async fn pull_briefly(&mut self) -> Vec<u64> {
        sequences(&self.pull("S", "C", json!({"batch": 20, "expires": 1_500_000_000})).await)
    }
}

fn explicit(ack_wait: u64) -> Value {
    json!({"durable_name": "C", "ack_policy": "explicit", "ack_wait": ack_wait})
}

mod changes {
    use super::*;

    on_both_servers! { JETSTREAM;
        async fn a_shorter_wait_counts_for_what_is_pending(s) {
            s.several_messages(3, explicit(NEVER)).await;
            assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 2})).await), [1, 2]);
            s.consumer("S", explicit(200_000_000)).await;
            assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 3})).await), [3, 1, 2]);
        }

        async fn a_longer_wait_counts_for_what_is_pending(s) {
            s.several_messages(1, explicit(1_000_000_000)).await;
            assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 1})).await), [1]);
            s.consumer("S", explicit(NEVER)).await;
            assert!(s.pull_briefly().await.is_empty());
        }

        async fn other_steps_of_backoff_count_for_what_is_pending(s) {
            let with = |first: u64| json!({"durable_name": "C", "ack_policy": "explicit", "max_deliver": 5,
                "backoff": [first, NEVER]});
            s.several_messages(1, with(NEVER)).await;
            assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 1})).await), [1]);
            s.consumer("S", with(200_000_000)).await;
            assert_eq!(s.pull_briefly().await, [1], "once, and then the second step counts");
        }

        async fn what_is_pending_goes_to_a_new_deliver_subject_at_once(s) {
            let to = |subject: &str| json!({"durable_name": "C", "ack_policy": "explicit", "ack_wait": NEVER,
                "max_ack_pending": 2, "deliver_subject": subject});
            let client = s.client().await;
            let mut old = client.subscribe("push.old").await.unwrap();
            s.several_messages(3, to("push.old")).await;
            for _ in 0..2 {
                within("the first delivery", old.next()).await.unwrap();
            }
            old.unsubscribe().await.unwrap();
            let mut new = client.subscribe("push.new").await.unwrap();
            s.consumer("S", to("push.new")).await;
            for seq in 1..=2 {
                let message = within("the second delivery", new.next()).await.unwrap();
                let reply = message.reply.unwrap();
                assert!(reply.starts_with(&format!("$JS.ACK.S.C.2.{seq}.")), "{reply}");
                client.publish(reply, "".into()).await.unwrap();
            }
            let reply = within("what is left", new.next()).await.unwrap().reply.unwrap();
            assert!(reply.starts_with("$JS.ACK.S.C.1.3."), "{reply}");
        }

        async fn an_exhausted_message_that_is_deleted_is_not_told_of_again(s) {
            s.several_messages(2, json!({"durable_name": "C", "ack_policy": "explicit", "max_deliver": 1,
                "ack_wait": 100_000_000})).await;
            let client = s.client().await;
            let mut exhausted = client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.C").await.unwrap();
            let mut told = client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.C").await.unwrap();
            s.pull("S", "C", json!({"batch": 1})).await;
            within("the message is given up", exhausted.next()).await.unwrap();
            s.api("STREAM.MSG.DELETE.S", json!({"seq": 1})).await;
            let second = s.pull("S", "C", json!({"batch": 1})).await;
            s.ack(&second.messages[0], "+TERM").await;
            let advisory = within("the advisory", told.next()).await.unwrap();
            let advisory: Value = serde_json::from_slice(&advisory.payload).unwrap();
            assert_eq!(advisory["stream_seq"], 2, "{advisory}");
        }
    }
}

mod restarts {
    use super::*;

    async fn after_each_end(kind: Kind, test: impl AsyncFn(&mut Fixture, End)) {
        // nats-server forgets what it delivered just before it is killed.
        let ends = if kind == Kind::Peer { vec![End::Orderly] } else { ENDS.to_vec() };
        for end in ends {
            let Some(program) = program(kind) else { return };
            let mut s = Fixture::start(kind, linnet_launch::Spec::new(program).options(JETSTREAM()));
            test(&mut s, end).await;
        }
    }

    on_both_kinds! {
        fn a_wait_that_was_over_meanwhile_is_over(kind) {
            run(async || after_each_end(kind, async |s, end| {
                s.several_messages(1, explicit(3_000_000_000)).await;
                let began = tokio::time::Instant::now();
                let pulled = s.pull("S", "C", json!({"batch": 1})).await;
                s.ack(&pulled.messages[0], "+WPI").await;
                s.restart_after(end);
                assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 1})).await), [1]);
                let took = began.elapsed();
                // nats-server keeps whole seconds.
                assert!((2..6).contains(&took.as_secs()), "{took:?}");
            }).await);
        }
    }

    /// Delays that clients asked for are kept in whole seconds by nats-server, and not always if it is killed soon after.
    fn on_linnet(test: impl AsyncFn(&mut Fixture, End)) {
        run(async || after_each_end(Kind::Linnet, test).await);
    }

    #[test]
    fn a_longer_delay_is_kept() {
        on_linnet(async |s, end| {
            s.several_messages(2, explicit(1_000_000_000)).await;
            let pulled = s.pull("S", "C", json!({"batch": 2})).await;
            s.ack(&pulled.messages[0], "-NAK {\"delay\": 600000000000}").await;
            s.restart_after(end);
            let again = s.pull("S", "C", json!({"batch": 2, "expires": 2_500_000_000_u64})).await;
            assert!(!again.messages.is_empty() && again.messages.iter().all(|m| m.stream_seq == 2));
        });
    }

    #[test]
    fn a_shorter_delay_is_kept() {
        on_linnet(async |s, end| {
            s.several_messages(2, explicit(NEVER)).await;
            let pulled = s.pull("S", "C", json!({"batch": 2})).await;
            s.ack(&pulled.messages[0], "-NAK {\"delay\": 1000000000}").await;
            s.restart_after(end);
            assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 1})).await), [1]);
        });
    }
}
