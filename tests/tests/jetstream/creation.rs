//! Which of several mistakes of a stream's configuration is told.

use serde_json::{Value, json};

use crate::harness::JETSTREAM;

/// One mistake by its name.
fn mistake(name: &str) -> Value {
    let source = |more: Value| {
        let mut source = json!({"name": "O"});
        source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        source
    };
    let external = |api: &str, deliver: &str| source(json!({"external": {"api": api, "deliver": deliver}}));
    let both = source(json!({"filter_subject": "a", "subject_transforms": [{"src": "b", "dest": "c"}]}));
    let transform = source(json!({"subject_transforms": [{"src": "a..b", "dest": "c"}]}));
    let consumer = source(json!({"consumer": {"name": "", "deliver_subject": ""}}));
    match name {
        "mirror" => json!({"mirror": {"name": "O"}, "subjects": []}),
        "mirror of itself" => json!({"mirror": {"name": "T"}, "subjects": []}),
        "mirror of large" => json!({"mirror": {"name": "LARGE"}, "subjects": [], "max_msg_size": 5}),
        "mirror name" => json!({"mirror": {"name": "a.b"}, "subjects": []}),
        "mirror filter" => json!({"mirror": {"name": "O", "filter_subject": "a..b"}, "subjects": []}),
        "mirror both" => json!({"mirror": both, "subjects": []}),
        "mirror external" => json!({"mirror": external("$JS.API", "d"), "subjects": []}),
        "marker" => json!({"subject_delete_marker_ttl": 1_000_000_000}),
        "short marker" => json!({"subject_delete_marker_ttl": 1}),
        "schedules" => json!({"allow_msg_schedules": true}),
        "atomic" => json!({"allow_atomic": true}),
        "async in memory" => json!({"persist_mode": "async", "storage": "memory"}),
        "first" => json!({"first_seq": 5}),
        "subject" => json!({"subjects": ["a..b"]}),
        "transform" => json!({"subject_transform": {"src": "a..b", "dest": "x"}}),
        "replicas" => json!({"num_replicas": 3}),
        "age" => json!({"max_age": -1}),
        "size" => json!({"max_bytes": 1_000_000_000_000_000_u64}),
        "size in files" => json!({"max_bytes": 1_000_000_000_000_000_u64, "storage": "file"}),
        "itself" => json!({"sources": [{"name": "T"}]}),
        "large" => json!({"sources": [{"name": "LARGE"}], "max_msg_size": 5}),
        "large and bad" => json!({"sources": [{"name": "LARGE"}, {"name": "a.b"}], "max_msg_size": 5}),
        "twice and bad" => json!({"sources": [{"name": "O"}, {"name": "O"}, {"name": "a.b"}]}),
        "bad and twice" => json!({"sources": [{"name": "a.b"}, {"name": "O"}, {"name": "O"}]}),
        "external and bad" => json!({"sources": [external("$JS.API", "d"), {"name": "a.b"}]}),
        "externals" => json!({"sources": [external("$JS.API", "d"), external("$JS.x.API", "d.*")]}),
        "filter" => json!({"sources": [{"name": "O", "filter_subject": "a..b"}]}),
        "filter and bad" => json!({"sources": [{"name": "O", "filter_subject": "a..b"}, {"name": "a.b"}]}),
        "transform of source" => json!({"sources": [transform, consumer]}),
        "consumer of source" => json!({"sources": [consumer]}),
        _ => panic!("{name}"),
    }
}

/// Mistakes together, and the error that is told.
const TOLD: &[(&[&str], u64)] = &[
    (&["mirror", "first", "subject"], 10143),
    (&["mirror", "subject", "atomic"], 10034),
    (&["mirror", "schedules"], 10186),
    (&["mirror", "schedules", "atomic"], 10198),
    (&["mirror", "schedules", "marker"], 10186),
    (&["mirror", "async in memory", "atomic"], 10052),
    (&["mirror", "marker"], 10052),
    (&["mirror both", "marker"], 10150),
    (&["mirror external", "marker"], 10052),
    (&["mirror", "short marker"], 10052),
    (&["mirror name", "replicas"], 10142),
    (&["mirror of itself", "replicas"], 10052),
    (&["mirror of large", "transform"], 10030),
    (&["mirror filter"], 10049),
    (&["mirror filter", "transform"], 10155),
    (&["mirror filter", "replicas"], 10074),
    (&["mirror filter", "size"], 10047),
    (&["itself", "subject"], 10052),
    (&["itself", "replicas"], 10052),
    (&["itself", "age"], 10052),
    (&["large", "subject"], 10046),
    (&["large", "replicas"], 10046),
    (&["large and bad"], 10046),
    (&["twice and bad"], 10140),
    (&["bad and twice"], 10141),
    (&["external and bad"], 10141),
    (&["externals"], 10024),
    (&["filter"], 10049),
    (&["filter", "subject"], 10052),
    (&["filter and bad"], 10141),
    (&["transform of source"], 10145),
    (&["consumer of source", "schedules"], 10187),
    (&["size", "age"], 10052),
    (&["size", "subject"], 10052),
    (&["size in files", "age"], 10047),
    (&["size in files", "subject"], 10047),
];

on_both_servers! { JETSTREAM;
    async fn of_several_mistakes_the_same_one_is_told(s) {
        s.stream(json!({"name": "O", "subjects": ["o.*"]})).await;
        s.stream(json!({"name": "LARGE", "subjects": ["l"], "max_msg_size": 1000})).await;
        for (names, code) in TOLD {
            let mut config = json!({"name": "T", "subjects": ["t"]});
            for name in *names {
                config.as_object_mut().unwrap().extend(mistake(name).as_object().unwrap().clone());
            }
            let (told, text) = s.refused_stream(config).await;
            assert_eq!(told, *code, "{names:?}: {text}");
        }
        let both = json!({
            "name": "T", "mirror": {"name": "O"}, "subject_delete_marker_ttl": 1,
        });
        assert!(s.refused_stream(both).await.1.contains("at least 1 second"));
        let filter = json!({"name": "T", "sources": [{"name": "O", "filter_subject": "a..b"}]});
        let text = "subject filter 'a..b' for the source: invalid subject";
        assert_eq!(s.refused_stream(filter).await, (10049, text.to_owned()));
    }
}
