//! async-nats against the server.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, AckKind, consumer, kv, stream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use linnet_launch::{JetStream, Options, Spec, free_port};

use crate::harness::{Fixture, JETSTREAM, Kind, LONG, eventually, program, round_trip, run, within};

on_both_servers! { JETSTREAM;
    async fn messages_reach_their_subscribers(s) {
        let (publisher, subscriber) = (s.connect().await, s.connect().await);
        let mut exact = subscriber.subscribe("orders.new").await.unwrap();
        let mut all = subscriber.subscribe("orders.>").await.unwrap();
        round_trip(&subscriber).await;
        publisher.publish("orders.new", "one".into()).await.unwrap();
        publisher.publish("orders.old", "two".into()).await.unwrap();
        publisher.publish("other", "three".into()).await.unwrap();
        assert_eq!(within("exact", exact.next()).await.unwrap().payload, "one");
        assert_eq!(within("first", all.next()).await.unwrap().payload, "one");
        assert_eq!(within("second", all.next()).await.unwrap().payload, "two");
    }

    async fn requests_are_answered_or_nobody_is_there(s) {
        let (client, service) = (s.connect().await, s.connect().await);
        let mut requests = service.subscribe("double").await.unwrap();
        round_trip(&service).await;
        let answering = tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let twice = [request.payload.as_ref(), request.payload.as_ref()].concat();
                service.publish(request.reply.unwrap(), twice.into()).await.unwrap();
            }
        });
        let answers = (0..50).map(|n| client.request("double", n.to_string().into()));
        let answers = within("answers", futures_util::future::try_join_all(answers)).await.unwrap();
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!(answer.payload, format!("{n}{n}"));
        }
        let nobody = within("nobody", client.request("nobody", "x".into())).await.unwrap_err();
        assert_eq!(nobody.kind(), async_nats::RequestErrorKind::NoResponders);
        answering.abort();
    }

    async fn a_queue_group_shares_messages(s) {
        let publisher = s.connect().await;
        let mut members = Vec::new();
        for _ in 0..3 {
            let client = s.connect().await;
            members.push(client.queue_subscribe("work", "workers".into()).await.unwrap());
            round_trip(&client).await;
        }
        for n in 0..300 {
            publisher.publish("work", n.to_string().into()).await.unwrap();
        }
        round_trip(&publisher).await;
        let mut merged = futures_util::stream::select_all(members.into_iter().enumerate().map(|(member, messages)| {
            messages.map(move |message| (member, message))
        }));
        let (mut seen, mut shares) = (Vec::new(), [0; 3]);
        while seen.len() < 300 {
            let (member, message) = within("a message", merged.next()).await.unwrap();
            seen.push(std::str::from_utf8(&message.payload).unwrap().parse::<u32>().unwrap());
            shares[member] += 1;
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..300).collect::<Vec<_>>(), "each once");
        assert!(shares.iter().all(|n| *n > 30), "{shares:?}");
    }

    async fn headers_arrive_as_they_were_sent(s) {
        let client = s.client().await;
        let mut messages = client.subscribe("h").await.unwrap();
        let mut headers = HeaderMap::new();
        headers.append("A", "1");
        headers.append("A", "2");
        headers.insert("B", "three four");
        client.publish_with_headers("h", headers.clone(), "x".into()).await.unwrap();
        let message = within("message", messages.next()).await.unwrap();
        assert_eq!(message.headers, Some(headers));
    }

    async fn a_drained_subscription_gets_what_was_sent_before(s) {
        let (publisher, subscriber) = (s.connect().await, s.connect().await);
        let mut messages = subscriber.subscribe("d").await.unwrap();
        round_trip(&subscriber).await;
        for n in 0..1000 {
            publisher.publish("d", n.to_string().into()).await.unwrap();
        }
        round_trip(&publisher).await;
        messages.drain().await.unwrap();
        let mut got = 0;
        while within("message or end", messages.next()).await.is_some() {
            got += 1;
        }
        assert_eq!(got, 1000);
        within("drain", subscriber.drain()).await.unwrap();
        eventually("the connection is closed", async || {
            subscriber.publish("d", "x".into()).await.is_err().then_some(())
        }).await;
    }

    async fn large_messages_pass_unchanged(s) {
        let client = s.client().await;
        let mut messages = client.subscribe("large").await.unwrap();
        for size in [0, 1, 4095, 4096, 65_535, 65_536, 300_000, 1_048_576] {
            let body: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            client.publish("large", body.clone().into()).await.unwrap();
            let message = within("message", messages.next()).await.unwrap();
            assert!(message.payload == body, "{size} bytes");
        }
    }

    async fn a_stream_stores_and_a_pull_consumer_delivers(s) {
        let js = jetstream::new(s.client().await);
        let config = stream::Config { name: "S".into(), subjects: vec!["s.*".into()], ..Default::default() };
        let stream = js.create_stream(config).await.unwrap();
        for n in 0..200_u64 {
            let ack = js.publish(format!("s.{}", n % 3), n.to_string().into()).await.unwrap().await.unwrap();
            assert_eq!(ack.sequence, n + 1);
        }
        let config = consumer::pull::Config { durable_name: Some("C".into()), ..Default::default() };
        let mut pull = stream.create_consumer(config).await.unwrap();
        let mut messages = pull.messages().await.unwrap();
        for n in 0..200_u64 {
            let message = within("message", messages.next()).await.unwrap().unwrap();
            assert_eq!(message.payload, n.to_string());
            assert_eq!(message.info().unwrap().stream_sequence, n + 1);
            message.double_ack().await.unwrap();
        }
        let info = pull.info().await.unwrap();
        assert_eq!((info.ack_floor.stream_sequence, info.num_ack_pending, info.num_pending), (200, 0, 0));
        assert_eq!(stream.get_raw_message(7).await.unwrap().payload, "6");
        assert_eq!(stream.get_last_raw_message_by_subject("s.0").await.unwrap().sequence, 199);
        stream.delete_message(7).await.unwrap();
        assert!(stream.get_raw_message(7).await.is_err());
        let names: Vec<String> = js.stream_names().try_collect().await.unwrap();
        assert_eq!(names, ["S"]);
        stream.delete_consumer("C").await.unwrap();
        js.delete_stream("S").await.unwrap();
        assert!(js.get_stream("S").await.is_err());
    }

    async fn a_refused_message_comes_again(s) {
        let js = jetstream::new(s.client().await);
        let config = stream::Config { name: "S".into(), subjects: vec!["s".into()], ..Default::default() };
        let stream = js.create_stream(config).await.unwrap();
        js.publish("s", "x".into()).await.unwrap().await.unwrap();
        let config = consumer::pull::Config { durable_name: Some("C".into()), ..Default::default() };
        let pull = stream.create_consumer(config).await.unwrap();
        let mut messages = pull.messages().await.unwrap();
        for delivery in 1..=3 {
            let message = within("message", messages.next()).await.unwrap().unwrap();
            assert_eq!(message.info().unwrap().delivered, delivery);
            message.ack_with(AckKind::Nak(None)).await.unwrap();
        }
        let message = within("message", messages.next()).await.unwrap().unwrap();
        message.ack_with(AckKind::Nak(Some(Duration::from_millis(200)))).await.unwrap();
        let message = within("message", messages.next()).await.unwrap().unwrap();
        message.ack_with(AckKind::Term).await.unwrap();
        assert_eq!(message.info().unwrap().delivered, 5);
    }

    async fn push_and_ordered_consumers_deliver_everything(s) {
        let js = jetstream::new(s.client().await);
        let config = stream::Config { name: "S".into(), subjects: vec!["s".into()], ..Default::default() };
        let stream = js.create_stream(config).await.unwrap();
        for n in 0..500_u64 {
            js.publish("s", n.to_string().into()).await.unwrap().await.unwrap();
        }
        let config = consumer::push::Config {
            durable_name: Some("P".into()),
            deliver_subject: "deliver.p".into(),
            idle_heartbeat: Duration::from_secs(1),
            flow_control: true,
            ..Default::default()
        };
        let push = stream.create_consumer(config).await.unwrap();
        let mut messages = push.messages().await.unwrap();
        for n in 0..500_u64 {
            let message = within("message", messages.next()).await.unwrap().unwrap();
            assert_eq!(message.payload, n.to_string());
            message.ack().await.unwrap();
        }
        let config = consumer::pull::OrderedConfig { ..Default::default() };
        let ordered = stream.create_consumer(config).await.unwrap();
        let mut messages = ordered.messages().await.unwrap();
        for n in 0..500_u64 {
            assert_eq!(within("message", messages.next()).await.unwrap().unwrap().payload, n.to_string());
        }
        let config = consumer::push::OrderedConfig { deliver_subject: "deliver.o".into(), ..Default::default() };
        let ordered = stream.create_consumer(config).await.unwrap();
        let mut messages = ordered.messages().await.unwrap();
        for n in 0..500_u64 {
            assert_eq!(within("message", messages.next()).await.unwrap().unwrap().payload, n.to_string());
        }
    }

    async fn a_bucket_keeps_values_and_their_history(s) {
        let js = jetstream::new(s.client().await);
        let config = kv::Config { bucket: "B".into(), history: 5, ..Default::default() };
        let bucket = js.create_key_value(config).await.unwrap();
        let mut watch = bucket.watch_all().await.unwrap();
        assert_eq!(bucket.put("a", "1".into()).await.unwrap(), 1);
        assert_eq!(bucket.put("a", "2".into()).await.unwrap(), 2);
        assert_eq!(bucket.create("b", "3".into()).await.unwrap(), 3);
        assert!(bucket.create("b", "4".into()).await.is_err(), "it exists");
        assert_eq!(bucket.update("b", "5".into(), 3).await.unwrap(), 4);
        assert!(bucket.update("b", "6".into(), 3).await.is_err(), "it has changed");
        assert_eq!(bucket.get("a").await.unwrap().unwrap(), "2");
        assert_eq!(bucket.get("none").await.unwrap(), None);
        bucket.delete("a").await.unwrap();
        assert_eq!(bucket.get("a").await.unwrap(), None);
        let history: Vec<kv::Entry> = bucket.history("a").await.unwrap().try_collect().await.unwrap();
        let told: Vec<(u64, kv::Operation)> = history.iter().map(|e| (e.revision, e.operation)).collect();
        assert_eq!(told, [(1, kv::Operation::Put), (2, kv::Operation::Put), (5, kv::Operation::Delete)]);
        for (key, revision) in [("a", 1), ("a", 2), ("b", 3), ("b", 4), ("a", 5)] {
            let entry = within("a change", watch.next()).await.unwrap().unwrap();
            assert_eq!((entry.key.as_str(), entry.revision), (key, revision));
        }
        bucket.purge("b").await.unwrap();
        let history: Vec<kv::Entry> = bucket.history("b").await.unwrap().try_collect().await.unwrap();
        assert_eq!(history.len(), 1);
        assert_eq!(history[0].operation, kv::Operation::Purge);
        bucket.put("c", "7".into()).await.unwrap();
        let keys: Vec<String> = bucket.keys().await.unwrap().try_collect().await.unwrap();
        assert_eq!(keys, ["c"]);
        js.delete_key_value("B").await.unwrap();
        assert!(js.get_key_value("B").await.is_err());
    }

    async fn a_key_lives_as_long_as_it_was_told(s) {
        let js = jetstream::new(s.client().await);
        let second = Duration::from_secs(1);
        let config = kv::Config { bucket: "B".into(), limit_markers: Some(second), ..Default::default() };
        let bucket = js.create_key_value(config).await.unwrap();
        let mut watch = bucket.watch_all().await.unwrap();
        bucket.create_with_ttl("short", "x".into(), second).await.unwrap();
        assert_eq!(bucket.get("short").await.unwrap().unwrap(), "x");
        bucket.put("kept", "y".into()).await.unwrap();
        bucket.purge_with_ttl("kept", second).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..4 {
            let entry = within("a change", watch.next()).await.unwrap().unwrap();
            seen.push((entry.key, entry.operation));
        }
        let expected = [
            ("short", kv::Operation::Put), ("kept", kv::Operation::Put), ("kept", kv::Operation::Purge),
            ("short", kv::Operation::Purge),
        ];
        assert_eq!(seen, expected.map(|(key, operation)| (key.to_owned(), operation)));
        assert_eq!(bucket.get("short").await.unwrap(), None);
        s.stream_shows("KV_B", &[("/messages", 0), ("/last_seq", 4)]).await;
    }

    async fn messages_are_fetched_in_batches_and_ordered_consumers_begin_anew(s) {
        let js = jetstream::new(s.client().await);
        let config = stream::Config { name: "S".into(), subjects: vec!["s".into()], ..Default::default() };
        let stream = js.create_stream(config).await.unwrap();
        for n in 1..=60_u64 {
            js.publish("s", n.to_string().into()).await.unwrap().await.unwrap();
        }
        let config = consumer::pull::Config { durable_name: Some("C".into()), ..Default::default() };
        let pull = stream.create_consumer(config).await.unwrap();
        let mut next = 1;
        for count in [10, 25] {
            let mut batch = pull.fetch().max_messages(count).messages().await.unwrap();
            while let Some(message) = within("a message or the end", batch.next()).await {
                let message = message.unwrap();
                assert_eq!(message.info().unwrap().stream_sequence, next);
                message.ack().await.unwrap();
                next += 1;
            }
        }
        assert_eq!(next, 36);
        let ordered = stream.create_consumer(consumer::pull::OrderedConfig::default()).await.unwrap();
        let mut messages = ordered.messages().await.unwrap();
        for n in 1..=60_u64 {
            let message = within("a message", messages.next()).await.unwrap().unwrap();
            assert_eq!(message.info().unwrap().stream_sequence, n);
        }
        // The client makes another one when its consumer is gone, and goes on behind what it has seen.
        let names: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
        for name in names.iter().filter(|name| *name != "C") {
            stream.delete_consumer(name).await.unwrap();
        }
        js.publish("s", "61".into()).await.unwrap().await.unwrap();
        let message = within("the next one", messages.next()).await.unwrap().unwrap();
        assert_eq!(message.info().unwrap().stream_sequence, 61);
    }
}

/// A server that keeps its port, restarted under a connected client.
async fn restart_under_clients(kind: Kind) {
    let Some(program) = program(kind) else { return };
    let options =
        Options { port: Some(free_port().unwrap()), jetstream: Some(JetStream::default()), ..JETSTREAM() };
    let mut s = Fixture::start(kind, Spec::new(program).options(options));
    let client = s.connect().await;
    let mut messages = client.subscribe("again").await.unwrap();
    let js = jetstream::new(client.clone());
    let config = stream::Config { name: "S".into(), subjects: vec!["s".into()], ..Default::default() };
    js.create_stream(config).await.unwrap();
    let bucket = js.create_key_value(kv::Config { bucket: "B".into(), ..Default::default() }).await.unwrap();
    bucket.put("k", "v".into()).await.unwrap();
    for n in 0..100_u64 {
        assert_eq!(js.publish("s", n.to_string().into()).await.unwrap().await.unwrap().sequence, n + 1);
    }
    s.server.terminate(LONG).unwrap();
    s.server.restart().unwrap();
    eventually("the client is back", async || {
        let flushed = tokio::time::timeout(Duration::from_secs(1), client.flush()).await;
        (client.connection_state() == async_nats::connection::State::Connected
            && flushed.is_ok_and(|f| f.is_ok()))
        .then_some(())
    })
    .await;
    client.publish("again", "x".into()).await.unwrap();
    assert_eq!(within("the subscription is back", messages.next()).await.unwrap().payload, "x");
    let mut stream = js.get_stream("S").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 100);
    assert_eq!(js.publish("s", "x".into()).await.unwrap().await.unwrap().sequence, 101);
    assert_eq!(js.get_key_value("B").await.unwrap().get("k").await.unwrap().unwrap(), "v");
}

mod restarts {
    #[test]
    fn clients_come_back_after_a_restart_of_linnet() {
        super::run(async || super::restart_under_clients(super::Kind::Linnet).await);
    }

    #[test]
    fn clients_come_back_after_a_restart_of_the_peer() {
        super::run(async || super::restart_under_clients(super::Kind::Peer).await);
    }
}
