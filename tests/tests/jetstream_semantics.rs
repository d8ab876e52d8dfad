//! What JetStream does in the cases people get wrong, one test per rule, each against both servers.

use std::time::Duration;

use async_nats::HeaderMap;
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, Kind, LONG, err_code, eventually, round_trip, sequences, within};

mod sequences_and_storage {
    use super::*;

    on_both_servers! { JETSTREAM;
        async fn r01_sequences_are_never_reused(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            assert_eq!(s.state("S").await["first_seq"], 0);
            for seq in 1..=3 {
                assert_eq!(s.publish("a", "x").await["seq"], seq);
            }
            assert_eq!(s.api("STREAM.PURGE.S", Value::Null).await["purged"], 3);
            let state = s.state("S").await;
            assert_eq!((&state["messages"], &state["first_seq"], &state["last_seq"]), (&json!(0), &json!(4), &json!(3)));
            assert_eq!(s.publish("a", "x").await["seq"], 4);
            s.api("STREAM.MSG.DELETE.S", json!({"seq": 4})).await;
            let state = s.state("S").await;
            assert_eq!((&state["first_seq"], &state["last_seq"]), (&json!(5), &json!(4)));
            assert_eq!(s.publish("a", "x").await["seq"], 5);
        }

        async fn r03_a_message_over_max_bytes_is_acked_and_gone(s) {
            s.stream(json!({"name": "S", "subjects": ["a"], "max_bytes": 200})).await;
            let ack = s.publish("a", &"x".repeat(400)).await;
            assert_eq!(ack, json!({"stream": "S", "seq": 1}));
            let state = s.state("S").await;
            assert_eq!((&state["messages"], &state["first_seq"], &state["last_seq"]), (&json!(0), &json!(2), &json!(1)));
        }

        async fn r04_replacing_a_subject_does_not_push_out_others(s) {
            s.stream(json!({"name": "S", "subjects": ["s.*"], "max_msgs": 2, "max_msgs_per_subject": 1})).await;
            s.publish("s.a", "1").await;
            s.publish("s.b", "2").await;
            s.publish("s.b", "3").await;
            let subjects = s.api("STREAM.INFO.S", json!({"subjects_filter": ">"})).await["state"]["subjects"].clone();
            assert_eq!(subjects, json!({"s.a": 1, "s.b": 1}));
        }

        async fn r05_a_refused_publish_does_not_use_up_its_id(s) {
            s.stream(json!({"name": "S", "subjects": ["a"], "max_msgs": 1, "discard": "new"})).await;
            s.publish("a", "1").await;
            let id = [("Nats-Msg-Id", "i")];
            let refused = s.publish_with("a", &id, "2").await;
            assert_eq!(refused["error"]["description"], "maximum messages exceeded");
            assert_eq!(err_code(&refused), 10077);
            s.api("STREAM.MSG.DELETE.S", json!({"seq": 1})).await;
            assert_eq!(s.publish_with("a", &id, "2").await, json!({"stream": "S", "seq": 2}));
            assert_eq!(s.publish_with("a", &id, "2").await, json!({"stream": "S", "seq": 2, "duplicate": true}));
        }

        async fn r05_the_id_of_a_deleted_message_stays_known(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.publish_with("a", &[("Nats-Msg-Id", "i")], "1").await;
            s.api("STREAM.MSG.DELETE.S", json!({"seq": 1})).await;
            let again = s.publish_with("a", &[("Nats-Msg-Id", "i")], "1").await;
            assert_eq!(again, json!({"stream": "S", "seq": 1, "duplicate": true}));
        }

        async fn r06_expected_subject_sequence_zero_means_no_message(s) {
            s.stream(json!({"name": "S", "subjects": ["a", "b"]})).await;
            let zero = [("Nats-Expected-Last-Subject-Sequence", "0")];
            assert_eq!(s.publish_with("a", &zero, "1").await["seq"], 1);
            let refused = s.publish_with("a", &zero, "2").await;
            assert_eq!(err_code(&refused), 10071);
            assert_eq!(refused["error"]["description"], "wrong last sequence: 1");
            assert_eq!(s.publish_with("b", &zero, "3").await["seq"], 2);
            s.api("STREAM.PURGE.S", json!({"filter": "a"})).await;
            assert_eq!(s.publish_with("a", &zero, "4").await["seq"], 3);
        }

        async fn r07_a_stale_expected_sequence_wins_over_a_duplicate(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            let id = ("Nats-Msg-Id", "i");
            s.publish_with("a", &[id], "1").await;
            s.publish("a", "2").await;
            let stale = s.publish_with("a", &[id, ("Nats-Expected-Last-Sequence", "1")], "1").await;
            // Linnet judges every publish as the peer judges one of a replicated stream.
            match s.kind {
                Kind::Linnet => assert_eq!(stale["duplicate"], true),
                Kind::Peer => assert_eq!(err_code(&stale), 10071),
            }
            let again = s.publish_with("a", &[id, ("Nats-Expected-Last-Sequence", "2")], "1").await;
            assert_eq!(again["duplicate"], true);
        }

        async fn r08_a_duplicate_names_the_first_sequence_and_an_error_zero(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.publish_with("a", &[("Nats-Msg-Id", "i")], "1").await;
            s.publish("a", "2").await;
            let client = s.client().await;
            let mut headers = HeaderMap::new();
            headers.append("Nats-Msg-Id", "i");
            let raw = within("ack", client.request_with_headers("a", headers, "1".into())).await.unwrap();
            assert_eq!(raw.payload, r#"{"stream":"S","seq":1,"duplicate": true}"#);
            let mut headers = HeaderMap::new();
            headers.append("Nats-Expected-Last-Sequence", "9");
            let raw = within("ack", client.request_with_headers("a", headers, "1".into())).await.unwrap();
            let text = r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 2"},"stream":"S","seq":0}"#;
            assert_eq!(raw.payload, text);
            let raw = within("ack", client.request("a", "3".into())).await.unwrap();
            assert_eq!(raw.payload, r#"{"stream":"S","seq":3}"#);
        }

        async fn r09_a_rollup_keeps_the_new_message_only(s) {
            s.stream(json!({"name": "S", "subjects": ["s.*"], "allow_rollup_hdrs": true})).await;
            for subject in ["s.a", "s.a", "s.b"] {
                s.publish(subject, "x").await;
            }
            assert_eq!(s.publish_with("s.a", &[("Nats-Rollup", "sub")], "x").await["seq"], 4);
            let subjects = s.api("STREAM.INFO.S", json!({"subjects_filter": ">"})).await["state"]["subjects"].clone();
            assert_eq!(subjects, json!({"s.a": 1, "s.b": 1}));
            assert_eq!(s.publish_with("s.b", &[("Nats-Rollup", "all")], "x").await["seq"], 5);
            let state = s.state("S").await;
            assert_eq!((&state["messages"], &state["first_seq"]), (&json!(1), &json!(5)));
        }

        async fn r10_num_deleted_counts_the_holes(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            for _ in 0..6 {
                s.publish("a", "x").await;
            }
            for seq in [2, 4, 1] {
                s.api("STREAM.MSG.DELETE.S", json!({"seq": seq})).await;
            }
            let state = s.api("STREAM.INFO.S", json!({"deleted_details": true})).await["state"].clone();
            assert_eq!(state["first_seq"], 3);
            assert_eq!(state["num_deleted"], 1);
            assert_eq!(state["deleted"], json!([4]));
        }

        async fn r11_names_that_differ_in_case_are_two_streams(s) {
            s.stream(json!({"name": "orders", "subjects": ["a"]})).await;
            s.stream(json!({"name": "ORDERS", "subjects": ["b"]})).await;
            s.publish("a", "x").await;
            assert_eq!((&s.state("orders").await["messages"], &s.state("ORDERS").await["messages"]),
                (&json!(1), &json!(0)));
            assert_eq!(err_code(&s.api("STREAM.INFO.Orders", Value::Null).await), 10059);
            assert_eq!(s.api("STREAM.DELETE.ORDERS", Value::Null).await["success"], true);
            assert_eq!(s.state("orders").await["messages"], 1);
        }
    }
}

mod num_pending {
    use super::*;

    on_both_servers! { JETSTREAM;
        async fn r12_it_excludes_delivered_messages_and_ignores_max_ack_pending(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "max_ack_pending": 2})).await;
            for _ in 0..7 {
                s.publish("a", "x").await;
            }
            assert_eq!(s.pull("S", "C", json!({"batch": 2})).await.messages.len(), 2);
            s.consumer_shows("S", "C", &[("/num_pending", 5), ("/num_ack_pending", 2)]).await;
        }

        async fn r13_the_ack_subject_tells_what_is_left_after_this_message(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
            for _ in 0..3 {
                s.publish("a", "x").await;
            }
            s.consumer_shows("S", "C", &[("/num_pending", 3)]).await;
            let pulled = s.pull("S", "C", json!({"batch": 3})).await;
            assert_eq!(pulled.messages.iter().map(|m| m.pending).collect::<Vec<_>>(), [2, 1, 0]);
            s.ack(&pulled.messages[0], "-NAK").await;
            let again = s.pull("S", "C", json!({"batch": 1})).await;
            assert_eq!((again.messages[0].stream_seq, again.messages[0].pending), (1, 0));
        }

        async fn r14_deleting_a_message_lowers_what_it_is_counted_in(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
            for _ in 0..4 {
                s.publish("a", "x").await;
            }
            s.pull("S", "C", json!({"batch": 1})).await;
            s.api("STREAM.MSG.DELETE.S", json!({"seq": 3})).await;
            s.consumer_shows("S", "C", &[("/num_pending", 2)]).await;
            s.api("STREAM.MSG.DELETE.S", json!({"seq": 1})).await;
            let info = eventually("the floor moves", async || {
                let info = s.consumer_info("S", "C").await;
                (info["num_ack_pending"] == 0).then_some(info)
            }).await;
            assert_eq!(info["ack_floor"]["stream_seq"], 1);
            assert_eq!(info["num_pending"], 2);
        }

        async fn r15_last_per_subject_counts_subjects_and_delivers_in_order(s) {
            s.stream(json!({"name": "S", "subjects": ["s.*"]})).await;
            for subject in ["s.d", "s.a", "s.b", "s.c", "s.a", "s.d"] {
                s.publish(subject, "x").await;
            }
            let created = s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit",
                "deliver_policy": "last_per_subject", "filter_subject": "s.*"})).await;
            assert_eq!(created["num_pending"], 4);
            let pulled = s.pull("S", "C", json!({"batch": 4})).await;
            assert_eq!(sequences(&pulled), [3, 4, 5, 6]);
            s.publish("s.a", "x").await;
            assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 1})).await), [7]);
        }

        async fn r16_a_start_beyond_the_end_is_kept_and_new_is_not(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            for _ in 0..3 {
                s.publish("a", "x").await;
            }
            let far = s.consumer("S", json!({"durable_name": "FAR", "ack_policy": "explicit",
                "deliver_policy": "by_start_sequence", "opt_start_seq": 50})).await;
            assert_eq!(far["delivered"]["stream_seq"], 49);
            assert_eq!(far["num_pending"], 0);
            let new = s.consumer("S", json!({"durable_name": "NEW", "ack_policy": "explicit",
                "deliver_policy": "new"})).await;
            assert_eq!(new["delivered"]["stream_seq"], 3);
            let last = s.consumer("S", json!({"durable_name": "LAST", "ack_policy": "explicit",
                "deliver_policy": "last"})).await;
            assert_eq!((&last["delivered"]["stream_seq"], &last["num_pending"]), (&json!(2), &json!(1)));
        }

        async fn r17_a_purge_leaves_nothing_pending(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
            for _ in 0..5 {
                s.publish("a", "x").await;
            }
            s.pull("S", "C", json!({"batch": 2})).await;
            s.api("STREAM.PURGE.S", Value::Null).await;
            s.consumer_shows("S", "C", &[("/num_pending", 0), ("/num_ack_pending", 0)]).await;
            s.consumer_shows("S", "C", &[("/ack_floor/stream_seq", 5)]).await;
            s.publish("a", "x").await;
            s.consumer_shows("S", "C", &[("/num_pending", 1)]).await;
            assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 1})).await), [6]);
        }
    }
}

mod delivery_and_acks {
    use super::*;

    on_both_servers! { JETSTREAM;
        async fn r18_the_default_ack_policy_is_none_and_replicas_are_zero(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            let created = s.consumer("S", json!({"durable_name": "C"})).await;
            assert_eq!(created["config"]["ack_policy"], "none");
            assert_eq!(created["config"]["num_replicas"], 0);
            assert_eq!(created["config"]["max_waiting"], 512);
        }

        async fn r19_max_ack_pending_stops_new_messages_only(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "max_ack_pending": 1})).await;
            s.publish("a", "1").await;
            s.publish("a", "2").await;
            let first = s.pull("S", "C", json!({"batch": 1})).await;
            let none = s.pull("S", "C", json!({"batch": 1, "expires": 100_000_000})).await;
            assert_eq!((none.messages.len(), none.status.as_deref()), (0, Some("408 Request Timeout")));
            s.ack(&first.messages[0], "-NAK").await;
            assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 1})).await), [1]);
        }

        async fn r20_naks_come_back_in_their_order_before_new_messages(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
            for _ in 0..4 {
                s.publish("a", "x").await;
            }
            let pulled = s.pull("S", "C", json!({"batch": 3})).await;
            s.ack(&pulled.messages[1], "-NAK").await;
            s.ack(&pulled.messages[0], "-NAK").await;
            assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 3})).await), [2, 1, 4]);
        }

        async fn r20_expired_messages_come_back_by_sequence(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "ack_wait": 150_000_000})).await;
            for _ in 0..3 {
                s.publish("a", "x").await;
            }
            assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 3})).await), [1, 2, 3]);
            let again = s.pull("S", "C", json!({"batch": 3})).await;
            assert_eq!(sequences(&again), [1, 2, 3]);
            assert!(again.messages.iter().all(|m| m.delivered == 2), "{:?}", again.messages);
        }

        async fn r21_the_consumer_sequence_grows_with_redeliveries(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
            s.publish("a", "1").await;
            s.publish("a", "2").await;
            let pulled = s.pull("S", "C", json!({"batch": 2})).await;
            s.ack(&pulled.messages[0], "-NAK").await;
            let again = s.pull("S", "C", json!({"batch": 1})).await;
            assert_eq!((again.messages[0].consumer_seq, again.messages[0].delivered), (3, 2));
            s.ack(&again.messages[0], "+ACK").await;
            let info = s.consumer_info("S", "C").await;
            assert_eq!(info["ack_floor"]["stream_seq"], 1);
            assert_eq!(info["ack_floor"]["consumer_seq"], 1);
            assert_eq!((&info["delivered"]["consumer_seq"], &info["delivered"]["stream_seq"]), (&json!(3), &json!(2)));
        }

        async fn r22_after_max_deliver_a_message_is_not_pending_and_below_the_floor(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "max_deliver": 2,
                "ack_wait": 150_000_000})).await;
            s.publish("a", "x").await;
            s.pull("S", "C", json!({"batch": 1})).await;
            let second = s.pull("S", "C", json!({"batch": 1})).await;
            assert_eq!(second.messages[0].delivered, 2);
            let info = eventually("it is given up", async || {
                let none = s.pull("S", "C", json!({"batch": 1, "no_wait": true})).await;
                assert_eq!(none.status.as_deref(), Some("404 No Messages"));
                let info = s.consumer_info("S", "C").await;
                (info["num_ack_pending"] == 0).then_some(info)
            }).await;
            assert_eq!(info["ack_floor"]["stream_seq"], 0);
            assert_eq!(s.state("S").await["messages"], 1);
        }

        async fn r23_max_deliveries_is_told_after_the_wait(s) {
            use futures_util::StreamExt as _;
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "max_deliver": 1,
                "ack_wait": 200_000_000})).await;
            let client = s.client().await;
            let mut told = client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.C").await.unwrap();
            round_trip(&client).await;
            s.publish("a", "x").await;
            s.pull("S", "C", json!({"batch": 1})).await;
            let advisory = within("the advisory", told.next()).await.unwrap();
            let advisory: Value = serde_json::from_slice(&advisory.payload).unwrap();
            assert_eq!(advisory["type"], "io.nats.jetstream.advisory.v1.max_deliver");
            assert_eq!((&advisory["deliveries"], &advisory["stream_seq"]), (&json!(1), &json!(1)));
        }

        async fn r24_ack_all_acks_by_stream_sequence(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "all"})).await;
            for _ in 0..5 {
                s.publish("a", "x").await;
            }
            let pulled = s.pull("S", "C", json!({"batch": 4})).await;
            s.ack(&pulled.messages[2], "+ACK").await;
            s.consumer_shows("S", "C", &[("/num_ack_pending", 1), ("/ack_floor/stream_seq", 3)]).await;
            s.ack(&pulled.messages[0], "+ACK").await;
            s.consumer_shows("S", "C", &[("/num_ack_pending", 1)]).await;
        }

        async fn r26_no_wait_ends_with_404_and_a_batch_without_an_end(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
            let none = s.pull("S", "C", json!({"batch": 1, "no_wait": true})).await;
            assert_eq!(none.status.as_deref(), Some("404 No Messages"));
            let none = s.pull("S", "C", json!({"batch": 1, "no_wait": true, "expires": 100_000_000})).await;
            assert_eq!(none.status.as_deref(), Some("408 Request Timeout"));
            s.publish("a", "x").await;
            s.publish("a", "x").await;
            let some = s.pull("S", "C", json!({"batch": 5, "no_wait": true})).await;
            assert_eq!((sequences(&some), some.status.as_deref()), (vec![1, 2], Some("404 No Messages")));
            s.publish("a", "x").await;
            let some = s.pull("S", "C", json!({"batch": 5, "no_wait": true, "expires": 5_000_000_000_u64})).await;
            assert_eq!((sequences(&some), some.status.as_deref()), (vec![3], Some("404 No Messages")));
        }

        async fn r28_too_many_pulls_are_told_so_unless_they_ask_for_heartbeats(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "max_waiting": 1})).await;
            let client = s.client().await;
            let inbox = client.new_inbox();
            let _waiting = client.subscribe(inbox.clone()).await.unwrap();
            let subject = "$JS.API.CONSUMER.MSG.NEXT.S.C";
            client.publish_with_reply(subject, inbox, "1".into()).await.unwrap();
            eventually("the first pull waits", async || {
                (s.consumer_info("S", "C").await["num_waiting"] == 1).then_some(())
            }).await;
            let refused = s.pull("S", "C", json!({"batch": 1, "expires": 400_000_000})).await;
            assert_eq!(refused.status.as_deref(), Some("409 Exceeded MaxWaiting"));
        }

        async fn r29_the_last_backoff_repeats(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            let backoff = json!([100_000_000, 300_000_000]);
            let created = s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "max_deliver": 4,
                "backoff": backoff})).await;
            assert_eq!(created["config"]["ack_wait"], 100_000_000);
            s.publish("a", "x").await;
            for delivery in 1..=4 {
                let pulled = s.pull("S", "C", json!({"batch": 1})).await;
                assert_eq!((pulled.messages[0].stream_seq, pulled.messages[0].delivered), (1, delivery));
            }
            let none = s.pull("S", "C", json!({"batch": 1, "expires": 600_000_000})).await;
            assert_eq!(none.status.as_deref(), Some("408 Request Timeout"));
        }

        async fn r30_term_tells_and_a_plain_ack_does_not(s) {
            use futures_util::StreamExt as _;
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
            let client = s.client().await;
            let mut told = client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.*.S.C").await.unwrap();
            round_trip(&client).await;
            s.publish("a", "1").await;
            s.publish("a", "2").await;
            let pulled = s.pull("S", "C", json!({"batch": 2})).await;
            s.ack(&pulled.messages[0], "+ACK").await;
            s.ack(&pulled.messages[1], "+TERM no use").await;
            let advisory = within("the advisory", told.next()).await.unwrap();
            assert_eq!(advisory.subject.as_str(), "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.C");
            let advisory: Value = serde_json::from_slice(&advisory.payload).unwrap();
            assert_eq!(advisory["type"], "io.nats.jetstream.advisory.v1.terminated");
            assert_eq!((&advisory["stream_seq"], &advisory["reason"]), (&json!(2), &json!("no use")));
            s.consumer_shows("S", "C", &[("/num_ack_pending", 0), ("/ack_floor/stream_seq", 2)]).await;
        }

        async fn r31_a_filter_beside_the_stream_is_accepted(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            let created = s.consumer("S", json!({"durable_name": "C", "filter_subject": "zzz"})).await;
            assert_eq!(created["num_pending"], 0);
        }

        async fn r32_overlapping_filters_deliver_once_and_subsets_are_refused(s) {
            s.stream(json!({"name": "S", "subjects": ["a.*", "c.*"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit",
                "filter_subjects": ["a.*", "*.b"]})).await;
            for subject in ["a.b", "a.c", "c.c", "c.b"] {
                s.publish(subject, "x").await;
            }
            let pulled = s.pull("S", "C", json!({"batch": 9, "no_wait": true})).await;
            assert_eq!(sequences(&pulled), [1, 2, 4]);
            let refused = s.try_consumer("S", json!({"durable_name": "D", "filter_subjects": ["a.*", "a.b"]})).await;
            assert_eq!(err_code(&refused), 10138);
            let refused = s.try_consumer("S", json!({"durable_name": "D", "filter_subject": "a",
                "filter_subjects": ["b"]})).await;
            assert_eq!(err_code(&refused), 10136);
        }
    }
}

mod api {
    use super::*;

    on_both_servers! { JETSTREAM;
        async fn r38_no_names_are_null_and_no_lists_are_empty(s) {
            assert_eq!(s.api("STREAM.NAMES", Value::Null).await["streams"], Value::Null);
            assert_eq!(s.api("STREAM.LIST", Value::Null).await["streams"], json!([]));
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            assert_eq!(s.api("CONSUMER.NAMES.S", Value::Null).await["consumers"], json!([]));
            assert_eq!(s.api("CONSUMER.LIST.S", Value::Null).await["consumers"], json!([]));
            assert_eq!(s.api("STREAM.NAMES", Value::Null).await["streams"], json!(["S"]));
        }

        async fn r39_errors_of_paged_calls_have_the_page(s) {
            let answer = s.api("CONSUMER.NAMES.S", Value::Null).await;
            assert_eq!(err_code(&answer), 10059);
            assert_eq!((&answer["total"], &answer["offset"], &answer["limit"]), (&json!(0), &json!(0), &json!(0)));
        }

        async fn r40_a_list_leaves_out_version_and_level(s) {
            let created = s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            assert_eq!(created["did_create"], true);
            assert_eq!(created["config"]["metadata"],
                json!({"_nats.level": "5", "_nats.req.level": "0", "_nats.ver": "2.15.1"}));
            let listed = s.api("STREAM.LIST", Value::Null).await;
            assert_eq!(listed["streams"][0]["config"]["metadata"], json!({"_nats.req.level": "0"}));
        }

        async fn r41_a_config_error_is_a_500(s) {
            let answer = s.api("STREAM.CREATE.S", json!({"name": "S", "subjects": ["a"], "max_msgs_per_subject": 1,
                "discard_new_per_subject": true})).await;
            assert_eq!((&answer["error"]["code"], err_code(&answer)), (&json!(500), 10052));
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
            let answer = s.try_consumer("S", json!({"durable_name": "C", "ack_policy": "all"})).await;
            assert_eq!((&answer["error"]["code"], err_code(&answer)), (&json!(500), 10012));
            assert_eq!(answer["error"]["description"], "ack policy can not be updated");
        }

        async fn r42_an_update_is_judged_before_the_stream_is_looked_up(s) {
            let answer = s.api("STREAM.UPDATE.S", json!({"name": "S", "max_age": -5})).await;
            assert_eq!(err_code(&answer), 10052);
            let answer = s.api("STREAM.UPDATE.S", json!({"name": "S", "subjects": ["a"]})).await;
            assert_eq!(err_code(&answer), 10059);
        }

        async fn r43_an_identical_create_says_it_created(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            assert_eq!(s.stream(json!({"name": "S", "subjects": ["a"]})).await["did_create"], true);
            let other = s.api("STREAM.CREATE.S", json!({"name": "S", "subjects": ["b"]})).await;
            assert_eq!(err_code(&other), 10058);
        }

        async fn r44_deleting_what_is_not_there_depends_on_the_storage(s) {
            s.stream(json!({"name": "F", "subjects": ["f"]})).await;
            s.stream(json!({"name": "M", "subjects": ["m"], "storage": "memory"})).await;
            s.publish("f", "x").await;
            s.publish("m", "x").await;
            let answer = s.api("STREAM.MSG.DELETE.F", json!({"seq": 9})).await;
            assert_eq!(err_code(&answer), 10057, "{answer}");
            let answer = s.api("STREAM.MSG.DELETE.M", json!({"seq": 9})).await;
            assert_eq!(err_code(&answer), 10043, "{answer}");
        }

        async fn r47_an_unknown_call_times_out_and_a_pull_from_nobody_fails(s) {
            let client = s.client().await;
            let unknown = client.request("$JS.API.STREAM.FOO.S", "".into());
            let waited = tokio::time::timeout(Duration::from_millis(300), unknown).await;
            assert!(waited.is_err(), "{waited:?}");
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            let error = within("no responders", client.request("$JS.API.CONSUMER.MSG.NEXT.S.NO", "".into())).await;
            assert_eq!(error.unwrap_err().kind(), async_nats::RequestErrorKind::NoResponders);
            let error = within("no responders", client.request("$JS.API.DIRECT.GET.S", "{\"seq\":1}".into())).await;
            assert_eq!(error.unwrap_err().kind(), async_nats::RequestErrorKind::NoResponders);
        }

        async fn r48_sequences_are_64_bits(s) {
            s.stream(json!({"name": "S", "subjects": ["a"], "first_seq": 9_007_199_254_740_993_u64})).await;
            assert_eq!(s.publish("a", "x").await["seq"], 9_007_199_254_740_993_u64);
            assert_eq!(s.state("S").await["last_seq"], 9_007_199_254_740_993_u64);
        }

        async fn r45_deletes_and_purges_have_no_advisory_of_the_stream(s) {
            use futures_util::StreamExt as _;
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.publish("a", "1").await;
            s.publish("a", "2").await;
            let client = s.client().await;
            let mut told = client.subscribe("$JS.EVENT.ADVISORY.>").await.unwrap();
            round_trip(&client).await;
            assert_eq!(s.api("STREAM.MSG.DELETE.S", json!({"seq": 1})).await["success"], true);
            assert_eq!(s.api("STREAM.PURGE.S", Value::Null).await["success"], true);
            s.api("STREAM.UPDATE.S", json!({"name": "S", "subjects": ["a"], "description": "d"})).await;
            // Besides the audits of the calls, what the server tells about streams comes in order.
            let told_first = loop {
                let advisory = within("the advisory of the update", told.next()).await.unwrap();
                if advisory.subject.as_str() != "$JS.EVENT.ADVISORY.API" {
                    break advisory.subject;
                }
            };
            assert_eq!(told_first.as_str(), "$JS.EVENT.ADVISORY.STREAM.UPDATED.S");
        }

        async fn r46_calls_are_in_order_for_those_who_wait_for_the_answer(s) {
            use futures_util::StreamExt as _;
            let client = s.client().await;
            let mut answers = client.subscribe("i.*").await.unwrap();
            let create = json!({"name": "P", "subjects": ["p"]}).to_string();
            client.publish_with_reply("$JS.API.STREAM.CREATE.P", "i.create", create.into()).await.unwrap();
            client.publish_with_reply("$JS.API.STREAM.INFO.P", "i.info", "".into()).await.unwrap();
            for _ in 0..2 {
                let message = within("an answer", answers.next()).await.unwrap();
                let answer: Value = serde_json::from_slice(&message.payload).unwrap();
                // Which of the two is looked at first is nobody's promise.
                let may_be_early = message.subject.as_str() == "i.info" && err_code(&answer) == 10059;
                assert!(may_be_early || answer["config"]["name"] == "P", "{answer}");
            }
            for n in 0..20 {
                let name = format!("S{n}");
                s.stream(json!({"name": name, "subjects": [name]})).await;
                assert_eq!(s.api(&format!("STREAM.INFO.{name}"), Value::Null).await["config"]["name"], json!(name));
                assert_eq!(s.api(&format!("STREAM.DELETE.{name}"), Value::Null).await["success"], true);
                assert_eq!(err_code(&s.api(&format!("STREAM.INFO.{name}"), Value::Null).await), 10059);
            }
        }

        async fn r49_reserved_subjects_are_refused(s) {
            s.stream(json!({"name": "KV_x", "subjects": ["$KV.x.>"]})).await;
            for subjects in [json!(["$JS.API.>"]), json!(["$JS.>"]), json!([">"])] {
                let answer = s.api("STREAM.CREATE.S", json!({"name": "S", "subjects": subjects})).await;
                assert_ne!(answer["error"], Value::Null, "{subjects}: {answer}");
            }
            s.stream(json!({"name": "E", "subjects": ["$JS.EVENT.ADVISORY.>"]})).await;
        }
    }
}

mod reading {
    use super::*;

    async fn eight(s: &mut Fixture) {
        s.stream(json!({"name": "S", "subjects": ["p.*"], "allow_direct": true})).await;
        for n in 0..8 {
            s.publish(&format!("p.{}", n % 2), &n.to_string()).await;
        }
    }

    async fn direct(s: &mut Fixture, subject: &str, body: Value) -> async_nats::Message {
        let client = s.client().await;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        within(subject, client.request(format!("$JS.API.DIRECT.GET.{subject}"), body.into())).await.unwrap()
    }

    on_both_servers! { JETSTREAM;
        async fn purges_remove_what_they_say(s) {
            eight(s).await;
            assert_eq!(s.api("STREAM.PURGE.S", json!({"filter": "p.0", "keep": 2})).await["purged"], 2);
            assert_eq!(s.api("STREAM.PURGE.S", json!({"filter": "p.1", "seq": 5})).await["purged"], 2);
            assert_eq!(s.api("STREAM.PURGE.S", json!({"filter": "none"})).await["purged"], 0);
            assert_eq!(err_code(&s.api("STREAM.PURGE.S", json!({"seq": 2, "keep": 2})).await), 10003);
            assert_eq!(s.state("S").await["messages"], 4);
            assert_eq!(s.api("STREAM.PURGE.S", json!({"seq": 7})).await["purged"], 2);
            assert_eq!(s.state("S").await["first_seq"], 7);
            assert_eq!(s.api("STREAM.PURGE.S", json!({"keep": 1})).await["purged"], 1);
            let state = s.state("S").await;
            assert_eq!((&state["first_seq"], &state["last_seq"]), (&json!(8), &json!(8)));
        }

        async fn messages_are_found_by_each_selector(s) {
            eight(s).await;
            let get = s.api("STREAM.MSG.GET.S", json!({"seq": 3})).await;
            assert_eq!((&get["message"]["subject"], &get["message"]["data"]), (&json!("p.0"), &json!("Mg==")));
            let get = s.api("STREAM.MSG.GET.S", json!({"last_by_subj": "p.1"})).await;
            assert_eq!(get["message"]["seq"], 8);
            let get = s.api("STREAM.MSG.GET.S", json!({"next_by_subj": "p.1", "seq": 3})).await;
            assert_eq!(get["message"]["seq"], 4);
            assert_eq!(err_code(&s.api("STREAM.MSG.GET.S", json!({"seq": 99})).await), 10037);
            assert_eq!(err_code(&s.api("STREAM.MSG.GET.S", json!({"seq": 1, "last_by_subj": "p.0"})).await), 10003);
            assert_eq!(err_code(&s.api("STREAM.MSG.GET.S", Value::Null).await), 10003);
        }

        async fn direct_gets_answer_with_headers(s) {
            eight(s).await;
            let message = direct(s, "S", json!({"seq": 2})).await;
            assert_eq!(message.payload, "1");
            let headers = message.headers.unwrap();
            assert_eq!(headers.get("Nats-Stream").unwrap().as_str(), "S");
            assert_eq!(headers.get("Nats-Subject").unwrap().as_str(), "p.1");
            assert_eq!(headers.get("Nats-Sequence").unwrap().as_str(), "2");
            assert!(headers.get("Nats-Time-Stamp").is_some());
            let message = direct(s, "S.p.0", Value::Null).await;
            assert_eq!(message.headers.unwrap().get("Nats-Sequence").unwrap().as_str(), "7");
            let message = direct(s, "S", json!({"seq": 2, "no_hdr": true})).await;
            assert!(message.headers.is_none());
        }

        async fn direct_gets_say_what_is_wrong(s) {
            eight(s).await;
            for (body, expected) in [
                (json!({"seq": 99}), "404 Message Not Found"),
                (Value::Null, "408 Empty Request"),
                (json!({"seq": 1, "last_by_subj": "p.0"}), "408 Bad Request"),
            ] {
                let message = direct(s, "S", body.clone()).await;
                let status = format!("{} {}", message.status.unwrap().as_u16(), message.description.unwrap());
                assert_eq!(status, expected, "{body}");
            }
        }

        async fn a_pull_over_max_bytes_is_told_so(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
            s.publish("a", &"x".repeat(1000)).await;
            let pulled = s.pull("S", "C", json!({"batch": 1, "max_bytes": 100, "expires": 5_000_000_000_u64})).await;
            assert_eq!(pulled.status.as_deref(), Some("409 Message Size Exceeds MaxBytes"));
            let pulled = s.pull("S", "C", json!({"batch": 1, "idle_heartbeat": 900, "expires": 1000})).await;
            assert_eq!(pulled.status.as_deref(), Some("400 Bad Request - heartbeat value too large"));
        }

        async fn a_deleted_consumer_tells_those_who_wait(s) {
            use futures_util::StreamExt as _;
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
            let client = s.client().await;
            let inbox = client.new_inbox();
            let mut answers = client.subscribe(inbox.clone()).await.unwrap();
            client.publish_with_reply("$JS.API.CONSUMER.MSG.NEXT.S.C", inbox, "1".into()).await.unwrap();
            eventually("the pull waits", async || {
                (s.consumer_info("S", "C").await["num_waiting"] == 1).then_some(())
            }).await;
            assert_eq!(s.api("CONSUMER.DELETE.S.C", Value::Null).await["success"], true);
            let status = within("the end", answers.next()).await.unwrap();
            assert_eq!(status.status.unwrap().as_u16(), 409);
            assert_eq!(status.description.as_deref(), Some("Consumer Deleted"));
        }

        async fn updates_that_cannot_be_are_refused(s) {
            s.stream(json!({"name": "S", "subjects": ["a"], "max_msgs": 5})).await;
            for _ in 0..5 {
                s.publish("a", "x").await;
            }
            let answer = s.api("STREAM.UPDATE.S", json!({"name": "S", "subjects": ["a"], "storage": "memory"})).await;
            assert_eq!(err_code(&answer), 10052);
            assert_eq!(answer["error"]["description"], "stream configuration update can not change storage type");
            let answer = s.api("STREAM.UPDATE.S", json!({"name": "S", "subjects": ["a"], "max_msgs": 2})).await;
            assert_eq!(answer["error"], Value::Null);
            assert_eq!((&answer["config"]["max_msgs"], &answer["state"]["messages"]), (&json!(2), &json!(2)));
            let answer = s.api("STREAM.UPDATE.S", json!({"name": "S", "subjects": ["a"], "sealed": true})).await;
            assert_eq!(answer["config"]["discard"], "new");
            assert_eq!(err_code(&s.publish("a", "x").await), 10109);
        }

        async fn max_age_removes_messages(s) {
            s.stream(json!({"name": "S", "subjects": ["a"], "max_age": 300_000_000, "duplicate_window": 300_000_000})).await;
            s.publish("a", "x").await;
            let state = eventually("it is gone", async || {
                let state = s.state("S").await;
                (state["messages"] == 0).then_some(state)
            }).await;
            assert_eq!((&state["first_seq"], &state["last_seq"]), (&json!(2), &json!(1)));
        }

        async fn a_push_consumer_delivers_as_soon_as_somebody_listens(s) {
            use futures_util::StreamExt as _;
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.publish("a", "x").await;
            let client = s.client().await;
            let mut shortest = LONG;
            for n in 0..5 {
                let (name, subject) = (format!("C{n}"), format!("push.{n}"));
                s.consumer("S", json!({"durable_name": name, "deliver_subject": subject})).await;
                let began = tokio::time::Instant::now();
                let mut messages = client.subscribe(subject).await.unwrap();
                within("the message", messages.next()).await.unwrap();
                shortest = shortest.min(began.elapsed());
                messages.unsubscribe().await.unwrap();
                s.api(&format!("CONSUMER.DELETE.S.{name}"), Value::Null).await;
            }
            assert!(shortest < Duration::from_millis(500), "{shortest:?}");
        }

        async fn a_push_consumer_follows_its_deliver_subject(s) {
            use futures_util::StreamExt as _;
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.publish("a", "x").await;
            s.consumer("S", json!({"durable_name": "C", "deliver_subject": "push.old"})).await;
            let answer = s.try_consumer("S", json!({"durable_name": "C", "deliver_subject": "push.new"})).await;
            assert_eq!(answer["error"], Value::Null, "{answer}");
            let client = s.client().await;
            let began = tokio::time::Instant::now();
            let mut messages = client.subscribe("push.new").await.unwrap();
            within("the message", messages.next()).await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        }

        async fn strict_requests_refuse_unknown_fields(s) {
            let answer = s.api("STREAM.CREATE.S", json!({"name": "S", "bogus": 1})).await;
            assert_eq!(err_code(&answer), 10025);
            assert_eq!(answer["error"]["description"], "invalid JSON: json: unknown field \"bogus\"");
        }
    }
}

mod odd_requests {
    use super::*;

    impl Fixture {
        /// A direct get that is answered with one status: its code, `Nats-Num-Pending` and `Nats-Last-Sequence`.
        async fn direct_status(&mut self, stream: &str, request: Value) -> (u16, String, String) {
            let client = self.client().await;
            let subject = format!("$JS.API.DIRECT.GET.{stream}");
            let answer = client.request(subject, request.to_string().into());
            let answer = within("an answer to a direct get", answer).await.unwrap();
            let headers = answer.headers.unwrap_or_default();
            let header = |name: &str| headers.get(name).map(ToString::to_string).unwrap_or_default();
            let code = answer.status.map_or(200, |status| status.as_u16());
            (code, header("Nats-Num-Pending"), header("Nats-Last-Sequence"))
        }

        async fn ack_sync(
            &mut self,
            subject: String,
            payload: &str,
        ) -> Result<(), async_nats::client::RequestErrorKind> {
            let client = self.client().await;
            let answer =
                within("an answer to an ack", client.request(subject, payload.to_owned().into())).await;
            answer.map(|_| ()).map_err(|error| error.kind())
        }
    }

    on_both_servers! { JETSTREAM;
        async fn max_expires_bounds_only_requests_that_say_how_long_they_wait(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "max_expires": 10_000_000_000_i64})).await;
            let bodies = ["", "1", "{}", r#"{"batch":1}"#, r#"{"batch":1,"no_wait":true}"#, r#"{"expires":10000000000}"#];
            for (n, body) in bodies.into_iter().enumerate() {
                s.publish("a", "x").await;
                let pulled = s.pull_with("S", "C", body, 1).await;
                assert_eq!((sequences(&pulled), &pulled.status), (vec![n as u64 + 1], &None), "{body}");
            }
            let pulled = s.pull("S", "C", json!({"batch": 1, "expires": 10_100_000_000_i64})).await;
            assert_eq!(pulled.status.as_deref(), Some("409 Exceeded MaxRequestExpires of 10s"));
            let pulled = s.pull("S", "C", json!({"batch": 1, "no_wait": true})).await;
            assert_eq!(pulled.status.as_deref(), Some("404 No Messages"));
        }

        async fn pulls_that_ask_for_what_a_plain_consumer_has_not_are_refused(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C"})).await;
            s.publish("a", "x").await;
            for (body, status) in [
                (json!({"min_pending": 1}), "400 Bad Request - Not a Overflow Priority consumer"),
                (json!({"min_pending": -1}), "400 Bad Request - Not a Overflow Priority consumer"),
                (json!({"min_ack_pending": 1}), "400 Bad Request - Not a Overflow Priority consumer"),
                (json!({"id": "x"}), "400 Bad Request - Not a Pinned Client Priority consumer"),
                (json!({"priority": 10}), "400 Bad Request - Priority must be between 0 and 9"),
                (json!({"idle_heartbeat": 2, "expires": 3}), "400 Bad Request - heartbeat value too large"),
                (
                    json!({"batch": "x"}),
                    "400 Bad Request - json: cannot unmarshal string into Go struct field .batch of type int",
                ),
                (
                    json!({"min_pending": "x"}),
                    "400 Bad Request - json: cannot unmarshal string into Go struct field .min_pending of type int64",
                ),
            ] {
                let pulled = s.pull("S", "C", body.clone()).await;
                assert_eq!((sequences(&pulled), pulled.status.as_deref()), (vec![], Some(status)), "{body}");
            }
            let pulled = s.pull("S", "C", json!({"group": "x", "priority": 9})).await;
            assert_eq!(sequences(&pulled), [1]);
        }

        async fn a_request_that_ends_unserved_is_told_what_it_named(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C"})).await;
            let short = 1_000_000;
            for (body, unserved) in [
                (json!({"expires": short}), "0"),
                (json!({"expires": short, "batch": 0}), "0"),
                (json!({"expires": short, "batch": 1}), "1"),
                (json!({"expires": short, "batch": 3}), "3"),
            ] {
                let pulled = s.pull("S", "C", body.clone()).await;
                assert_eq!(pulled.status.as_deref(), Some("408 Request Timeout"), "{body}");
                assert_eq!(pulled.unserved.as_deref(), Some(unserved), "{body}");
            }
            s.publish("a", "x").await;
            for (body, unserved) in [
                (json!({"expires": -1}), "0"),
                (json!({"expires": -1, "batch": 3}), "3"),
                (json!({"expires": -1, "no_wait": true}), "0"),
            ] {
                let pulled = s.pull("S", "C", body.clone()).await;
                assert_eq!((sequences(&pulled), pulled.status.as_deref()), (vec![], Some("408 Request Timeout")), "{body}");
                assert_eq!(pulled.unserved.as_deref(), Some(unserved), "{body}");
            }
            for body in ["-3", "0", r#"{"batch":-1,"expires":1000000000}"#] {
                assert_eq!(sequences(&s.pull_with("S", "C", body, 1).await).len(), 1, "{body}");
                s.publish("a", "x").await;
            }
        }

        async fn publish_headers_without_a_value_ask_for_nothing(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            for (n, header) in [
                "Nats-Stream-Source",
                "Nats-Rollup",
                "Nats-Expected-Stream",
                "Nats-Expected-Last-Sequence",
                "Nats-Expected-Last-Subject-Sequence",
                "Nats-Expected-Last-Subject-Sequence-Subject",
                "Nats-Expected-Last-Msg-Id",
                "Nats-Msg-Id",
                "Nats-TTL",
                "Nats-Incr",
                "Nats-Batch-Id",
                "Nats-Schedule",
            ].into_iter().enumerate() {
                let ack = s.publish_with("a", &[(header, "")], "x").await;
                assert_eq!(ack, json!({"stream": "S", "seq": n + 1}), "{header}");
            }
            let expects = [("Nats-Expected-Last-Subject-Sequence", ""), ("Nats-Expected-Last-Subject-Sequence-Subject", "b")];
            assert_eq!(err_code(&s.publish_with("a", &expects, "x").await), 10193);
        }

        async fn clients_may_not_say_where_a_message_was_sourced_from(s) {
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            let refused = s.publish_with("a", &[("Nats-Stream-Source", "O 4 > > o")], "x").await;
            assert_eq!(err_code(&refused), 10227);
            assert_eq!(refused["error"]["description"], "message stream source header is not allowed");
            let refused = s.publish_with("a", &[("Nats-Rollup", "x")], "x").await;
            assert_eq!(refused["error"]["description"], "rollup not permitted");
            assert_eq!(s.state("S").await["messages"], 0);
        }

        async fn a_purge_up_to_a_sequence_behind_the_end_moves_the_stream_there(s) {
            for (n, (storage, messages, request, moves)) in [
                ("file", 0, json!({"seq": 100}), true),
                ("file", 3, json!({"seq": 100}), true),
                ("file", 3, json!({"seq": 4}), false),
                ("file", 0, json!({"seq": 100, "filter": ">"}), true),
                ("file", 0, json!({"seq": 100, "filter": "a.x"}), false),
                ("memory", 0, json!({"seq": 100}), true),
                ("memory", 3, json!({"seq": 100}), true),
                ("memory", 3, json!({"seq": 100, "filter": ">"}), true),
                ("memory", 3, json!({"seq": 100, "filter": "n7.*"}), false),
            ].into_iter().enumerate() {
                let (name, subject) = (format!("S{n}"), format!("n{n}.x"));
                s.stream(json!({"name": name, "subjects": [format!("n{n}.*")], "storage": storage})).await;
                for _ in 0..messages {
                    s.publish(&subject, "x").await;
                }
                let answer = s.api(&format!("STREAM.PURGE.{name}"), request.clone()).await;
                assert_eq!(answer["purged"], if request["filter"] == "n7.*" { 0 } else { messages }, "{n} {request}");
                if moves {
                    let state = s.state(&name).await;
                    assert_eq!((&state["messages"], &state["first_seq"], &state["last_seq"]), (&json!(0), &json!(100), &json!(99)), "{n} {request}");
                }
                let next = if moves { 100 } else { messages + 1 };
                assert_eq!(s.publish(&subject, "x").await["seq"], next, "{n} {request}");
            }
        }

        async fn first_seq_counts_when_a_stream_is_created_only(s) {
            s.stream(json!({"name": "S", "subjects": ["s"]})).await;
            s.stream(json!({"name": "T", "subjects": ["t"], "first_seq": 9})).await;
            for (name, subject, seq) in [("S", "s", 1), ("T", "t", 9)] {
                let update = json!({"name": name, "subjects": [subject], "first_seq": 20});
                let answer = s.api(&format!("STREAM.UPDATE.{name}"), update).await;
                assert_eq!(answer["config"]["first_seq"], 20, "{answer}");
                assert_eq!(answer["state"]["last_seq"], seq - 1, "{answer}");
                assert_eq!(s.publish(subject, "x").await["seq"], seq);
            }
        }

        async fn a_first_sequence_that_was_chosen_shows_at_once(s) {
            for storage in ["file", "memory"] {
                for (chosen, purge, shown, after) in
                    [(0, json!({"seq": 1}), 0, 0), (0, Value::Null, 0, 1), (1, json!({"seq": 1}), 1, 1), (7, Value::Null, 7, 7)]
                {
                    let config = json!({"name": "S", "subjects": ["s"], "first_seq": chosen, "storage": storage});
                    let created = s.stream(config).await;
                    assert_eq!(created["state"]["first_seq"], shown, "{storage} {created}");
                    assert_eq!(s.state("S").await["first_seq"], shown, "{storage} {chosen}");
                    s.api("STREAM.PURGE.S", purge).await;
                    assert_eq!(s.state("S").await["first_seq"], after, "{storage} {chosen}");
                    s.api("STREAM.DELETE.S", Value::Null).await;
                }
            }
        }

        async fn paging_of_subjects_tells_the_offset_asked_for(s) {
            s.stream(json!({"name": "S", "subjects": ["s.*"]})).await;
            for subject in ["s.0", "s.1", "s.2"] {
                s.publish(subject, "x").await;
            }
            for (filter, offset, expected) in [
                (">", 0, (3, 0, 100_000, 3)),
                (">", 2, (3, 2, 100_000, 1)),
                (">", 9, (3, 9, 100_000, 0)),
                (">", -3, (3, 0, 100_000, 3)),
                ("s.1", 0, (1, 0, 100_000, 1)),
                ("s.1", 3, (1, 3, 100_000, 0)),
                ("zz", 0, (0, 0, 0, 0)),
                ("zz", 1, (0, 0, 0, 0)),
            ] {
                let answer = s.api("STREAM.INFO.S", json!({"subjects_filter": filter, "offset": offset})).await;
                let number = |key: &str| answer[key].as_i64().unwrap();
                let shown = answer["state"]["subjects"].as_object().map_or(0, serde_json::Map::len);
                assert_eq!((number("total"), number("offset"), number("limit"), shown), expected, "{filter} {offset}");
            }
        }

        async fn a_direct_get_of_less_than_nothing_tells_how_much_there_is(s) {
            s.stream(json!({"name": "S", "subjects": ["s.*"], "allow_direct": true})).await;
            for subject in ["s.0", "s.1", "s.0"] {
                s.publish(subject, "x").await;
            }
            for (request, pending) in [
                (json!({"seq": 1, "batch": -1}), "3"),
                (json!({"seq": 3, "batch": -1}), "1"),
                (json!({"seq": 9, "batch": -1}), "0"),
                (json!({"next_by_subj": "s.0", "batch": -5}), "2"),
                (json!({"start_time": "2020-01-01T00:00:00Z", "batch": -1}), "3"),
                (json!({"start_time": "2100-01-01T00:00:00Z", "batch": -1}), "0"),
                (json!({"last_by_subj": "s.0", "batch": -1}), "3"),
            ] {
                let answer = s.direct_status("S", request.clone()).await;
                assert_eq!(answer, (204, pending.to_owned(), "0".to_owned()), "{request}");
            }
            let first = s.direct_status("S", json!({"seq": 1, "max_bytes": -1})).await;
            assert_eq!(first.0, 200);
            let empty = s.direct_status("S", json!({"batch": -1})).await;
            assert_eq!(empty.0, 408);
        }

        async fn values_of_the_wrong_type_are_named_as_go_names_them(s) {
            s.stream(json!({"name": "S", "subjects": ["s"]})).await;
            let consumer = |field: &str| json!({"stream_name": "S", "config": {"name": "C", field: "x"}});
            for (api, body, place) in [
                ("STREAM.INFO.S", json!({"offset": "x"}), "JSApiStreamInfoRequest.offset of type int"),
                ("STREAM.CREATE.Q", json!({"max_msgs": "x"}), "StreamConfigRequest.max_msgs of type int64"),
                ("STREAM.CREATE.Q", json!({"max_consumers": "x"}), "StreamConfigRequest.max_consumers of type int"),
                ("STREAM.CREATE.Q", json!({"num_replicas": "x"}), "StreamConfigRequest.num_replicas of type int"),
                ("STREAM.MSG.GET.S", json!({"batch": "x"}), "JSApiMsgGetRequest.batch of type int"),
                ("CONSUMER.NAMES.S", json!({"offset": "x"}), "JSApiConsumersRequest.offset of type int"),
                ("CONSUMER.CREATE.S.C", consumer("max_deliver"), "CreateConsumerRequest.config.max_deliver of type int"),
                ("CONSUMER.CREATE.S.C", consumer("max_waiting"), "CreateConsumerRequest.config.max_waiting of type int"),
                (
                    "CONSUMER.CREATE.S.C",
                    consumer("backoff"),
                    "CreateConsumerRequest.config.backoff of type []time.Duration",
                ),
                ("CONSUMER.CREATE.S.C", consumer("ack_wait"), "CreateConsumerRequest.config.ack_wait of type time.Duration"),
                ("CONSUMER.CREATE.S.C", consumer("opt_start_seq"), "CreateConsumerRequest.config.opt_start_seq of type uint64"),
            ] {
                let answer = s.api(api, body).await;
                let text = format!("invalid JSON: json: cannot unmarshal string into Go struct field {place}");
                assert_eq!(answer["error"]["description"], text, "{api}");
            }
        }

        async fn an_acknowledgement_to_nobody_is_answered_at_once(s) {
            use async_nats::client::RequestErrorKind::NoResponders;
            s.stream(json!({"name": "S", "subjects": ["a"]})).await;
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
            s.publish("a", "1").await;
            s.publish("a", "2").await;
            let pulled = s.pull("S", "C", json!({"batch": 2})).await;
            let [first, second] = [&pulled.messages[0].ack, &pulled.messages[1].ack];
            assert_eq!(s.ack_sync(first.clone(), "").await, Ok(()));
            for malformed in ["$JS.ACK.S.C.x", "$JS.ACK.S.C", "$JS.ACK.S.C.x.y.z.v.w.u"] {
                assert_eq!(s.ack_sync(malformed.to_owned(), "").await, Err(NoResponders), "{malformed}");
            }
            s.api("CONSUMER.DELETE.S.C", Value::Null).await;
            for payload in ["", "+ACK", "-NAK", "+WPI", "+TERM", "+NXT"] {
                assert_eq!(s.ack_sync(second.clone(), payload).await, Err(NoResponders), "{payload}");
            }
            s.api("STREAM.DELETE.S", Value::Null).await;
            assert_eq!(s.ack_sync(second.clone(), "").await, Err(NoResponders));
        }
    }
}
