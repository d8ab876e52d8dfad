//! What a cluster says of its streams and accounts.

use serde_json::{Value, json};

use super::trio::run;
use crate::harness::eventually;

on_both_kinds! {
    fn the_mirrors_of_a_stream_are_named_and_what_is_reserved_is_counted_once(kind) {
        run(kind, async |trio| {
            trio.stream("S", 3, json!({"max_bytes": 100_000})).await;
            assert!(trio.info("S").await["alternates"].is_null());
            let mirror = json!({"name": "M", "num_replicas": 1, "mirror": {"name": "S"}});
            trio.api("n0", "STREAM.CREATE.M", mirror).await;
            let alternates = eventually("alternates", async || {
                let info = trio.info("S").await;
                let mut all = info["alternates"].as_array()?.clone();
                all.sort_by_key(|alternate| alternate["name"].to_string());
                Some(all)
            })
            .await;
            let cluster = trio.info("S").await["cluster"]["name"].clone();
            assert_eq!(alternates, ["M", "S"].map(|name| json!({"name": name, "cluster": cluster})));
            assert!(trio.info("M").await["alternates"].is_null());
            let account = trio.api("n0", "INFO", Value::Null).await;
            assert_eq!(account["reserved_storage"], json!(100_000), "{account}");
        });
    }
}
