//! Object stores with async-nats.

use async_nats::jetstream::{self, object_store};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncReadExt as _;

use crate::harness::{JETSTREAM, within};

/// More than one chunk, and no repetition that would hide a chunk in the wrong place.
fn several_megabytes() -> Vec<u8> {
    (0..3_000_000_u32).map(|n| (n.wrapping_mul(7919) >> 8).to_le_bytes()[0]).collect()
}

async fn read(store: &object_store::ObjectStore, name: &str) -> Vec<u8> {
    let mut object = within("the object", store.get(name)).await.unwrap();
    let mut data = Vec::new();
    // The client compares the digest at the end.
    within("its data", object.read_to_end(&mut data)).await.unwrap();
    data
}

on_both_servers! { JETSTREAM;
    async fn objects_are_stored_listed_linked_and_removed(s) {
        let js = jetstream::new(s.client().await);
        let config = object_store::Config { bucket: "B".into(), ..Default::default() };
        let store = js.create_object_store(config).await.unwrap();
        let mut watch = store.watch().await.unwrap();
        let large = several_megabytes();
        let info = store.put("large", &mut large.as_slice()).await.unwrap();
        assert_eq!(info.size, large.len());
        assert!(info.chunks > 1, "{info:?}");
        assert!(info.digest.is_some_and(|digest| digest.starts_with("SHA-256=")));
        assert!(read(&store, "large").await == large);
        store.put("small", &mut "old".as_bytes()).await.unwrap();
        store.put("small", &mut "new".as_bytes()).await.unwrap();
        assert_eq!(read(&store, "small").await, b"new");
        store.put("empty", &mut "".as_bytes()).await.unwrap();
        assert_eq!(store.info("empty").await.unwrap().size, 0);
        let small = store.info("small").await.unwrap();
        store.add_link("alias", &small).await.unwrap();
        assert_eq!(read(&store, "alias").await, b"new");
        let mut names: Vec<String> =
            store.list().await.unwrap().map_ok(|object| object.name).try_collect().await.unwrap();
        names.sort_unstable();
        assert_eq!(names, ["alias", "empty", "large", "small"]);
        store.delete("large").await.unwrap();
        assert!(store.info("large").await.unwrap().deleted);
        let mut changes = Vec::new();
        for _ in 0..6 {
            let change = within("a change", watch.next()).await.unwrap().unwrap();
            changes.push((change.name, change.deleted));
        }
        let expected = [("large", false), ("small", false), ("small", false), ("empty", false), ("alias", false), ("large", true)];
        assert_eq!(changes, expected.map(|(name, deleted)| (name.to_owned(), deleted)));
        // Chunks of what was replaced or removed are gone.
        let chunks = s.api("STREAM.INFO.OBJ_B", serde_json::json!({"subjects_filter": "$O.B.C.>"})).await;
        assert_eq!(chunks["state"]["subjects"].as_object().unwrap().len(), 1, "{chunks}");
    }

    async fn a_sealed_store_takes_nothing(s) {
        let js = jetstream::new(s.client().await);
        let config = object_store::Config { bucket: "B".into(), ..Default::default() };
        let mut store = js.create_object_store(config).await.unwrap();
        store.put("kept", &mut "x".as_bytes()).await.unwrap();
        store.seal().await.unwrap();
        assert_eq!(s.api("STREAM.INFO.OBJ_B", serde_json::Value::Null).await["config"]["sealed"], true);
        assert!(within("the refusal", store.put("late", &mut "x".as_bytes())).await.is_err());
        assert_eq!(read(&store, "kept").await, b"x");
        js.delete_object_store("B").await.unwrap();
        assert!(js.get_object_store("B").await.is_err());
    }
}
