//! New streams: who is suitable, and why nobody is.

use linnet_assets::placement::{Fleet, FleetLimits, Origin};

use crate::harness::{HOME, created, fleet, plain, stream, zoned};

#[test]
fn refusals_name_what_was_wrong_with_servers() {
    let tagged = "n1 az:1 ssd x; n2 az:1 hdd; n3 az:2 hdd !jetstream";
    let excluded = ", exclude tag set";
    for (fields, reasons) in [
        (r#""num_replicas":2"#, ", exclude tag set, server tag not unique"),
        (r#""num_replicas":5"#, ", exclude tag set, server tag not unique"),
        (r#""num_replicas":2,"placement":{"tags":["AZ:1"]}"#, ", exclude tag set, server tag not unique"),
        (r#""num_replicas":2,"placement":{"tags":["!AZ:3"]}"#, ", exclude tag set, server tag not unique"),
        (r#""placement":{"tags":["zz","yy"]}"#, ", exclude tag set, tags not matched ['zz']"),
        (r#""placement":{"tags":["Hdd","yy"]}"#, ", exclude tag set, tags not matched ['Hdd', 'yy']"),
        (r#""placement":{"tags":["!hdd","!ssd"]}"#, ", exclude tag set, tags excluded ['hdd', 'ssd']"),
        (
            r#""placement":{"tags":["!HDD","zz"]}"#,
            ", exclude tag set, tags not matched ['zz'], tags excluded ['HDD']",
        ),
        (r#""placement":{"tags":[""]}"#, ", exclude tag set, tags not matched ['']"),
        (r#""placement":{"cluster":"NOPE"}"#, ""),
        (r#""placement":{"cluster":"c1"}"#, ""),
        (r#""max_bytes":1099511627776"#, ", exclude tag set, insufficient storage"),
        (r#""storage":"memory","max_bytes":1099511627776"#, ", exclude tag set, insufficient storage"),
        (
            r#""max_bytes":1099511627776,"placement":{"tags":["ssd"]}"#,
            ", exclude tag set, insufficient storage, tags not matched ['ssd']",
        ),
    ] {
        assert_eq!(created(&zoned(tagged), &stream(fields), HOME), [reasons], "{fields}");
    }
    assert_eq!(created(&plain("n1 !jetstream"), &stream(""), HOME), [excluded]);
}

#[test]
fn servers_that_fit_are_found() {
    let tagged = "n1 az:1 ssd x; n2 AZ:1 hdd; n3 az:2 hdd !jetstream";
    for (fields, outcomes) in [
        ("", &["n1", "n2"][..]),
        (r#""num_replicas":0"#, &["n1", "n2"]),
        (r#""num_replicas":2,"placement":{"tags":["az:1"]}"#, &["n1 n2"]),
        (r#""num_replicas":2,"placement":{"tags":["!az:3"]}"#, &["n1 n2"]),
        (r#""placement":{"tags":[" SSD "]}"#, &["n1"]),
        (r#""placement":{"tags":["!ssd"]}"#, &["n2"]),
        (r#""placement":{"tags":["!"]}"#, &["n1", "n2"]),
        (r#""placement":{"tags":["!!jetstream"]}"#, &["n1", "n2"]),
        (r#""max_bytes":1073741824"#, &["n1", "n2"]),
        (r#""max_bytes":-1"#, &["n1", "n2"]),
    ] {
        assert_eq!(created(&zoned(tagged), &stream(fields), HOME), outcomes, "{fields}");
    }
}

#[test]
fn too_few_servers_are_no_reason_of_their_own() {
    assert_eq!(created(&plain("n1; n2; n3"), &stream(r#""num_replicas":5"#), HOME), [""]);
    let none = Fleet::new(FleetLimits::default());
    assert_eq!(created(&none, &stream(""), HOME), [", jetstream not enabled in cluster"]);
    let nowhere = Origin { cluster: "", alternates: &[] };
    assert_eq!(created(&plain("n1"), &stream(""), nowhere), [", miscellaneous issue"]);
}

#[test]
fn a_majority_of_the_replicas_has_to_be_online() {
    for (fleet, fields, outcomes) in [
        ("n1; n2; n3 offline", r#""num_replicas":3"#, &["n1 n2 n3"][..]),
        ("n1; n2 offline; n3 offline", r#""num_replicas":3"#, &[", peer offline"]),
        ("n1; n2 offline", r#""num_replicas":2"#, &[", peer offline"]),
        ("n1; n2; n3; n4 offline; n5 offline", r#""num_replicas":5"#, &["n1 n2 n3 n4 n5"]),
        ("n1; n2; n3; n4 offline; n5 offline", r#""num_replicas":4"#, &["n1 n2 n3 n4", "n1 n2 n3 n5"]),
        ("n1; n2; n3; n4 offline; n5 offline", r#""num_replicas":3"#, &["n1 n2 n3"]),
        ("n1 offline", "", &[", peer offline"]),
    ] {
        assert_eq!(created(&plain(fleet), &stream(fields), HOME), outcomes, "{fleet} {fields}");
    }
    let halves = plain("n1 h; n2; n3; n4 h offline; n5 h offline");
    let config = stream(r#""num_replicas":3,"placement":{"tags":["h"]}"#);
    assert_eq!(created(&halves, &config, HOME), [", peer offline, tags not matched ['h']"]);
}

#[test]
fn servers_that_never_reported_are_not_chosen() {
    let unheard = plain("n1; n2 unheard");
    assert_eq!(created(&unheard, &stream(""), HOME), ["n1"]);
    assert_eq!(created(&unheard, &stream(r#""num_replicas":2"#), HOME), [", peer offline"]);
    let unknown = plain("n1; n2 unknown");
    assert_eq!(created(&unknown, &stream(r#""num_replicas":2"#), HOME), [", miscellaneous issue"]);
}

#[test]
fn unique_tags_leave_no_solution_out() {
    let zones = zoned("n1 az:1; n2 az:2; n3 az:3; n4 az:1 offline; n5 az:2 offline");
    assert_eq!(created(&zones, &stream(r#""num_replicas":3"#), HOME), ["n1 n2 n3"]);
    let dark = zoned("n1 az:1; n2 az:2 offline; n3 az:3 offline; n4 az:1");
    let reasons = ", peer offline, server tag not unique";
    assert_eq!(created(&dark, &stream(r#""num_replicas":3"#), HOME), [reasons]);
    let without = zoned("n1 az:1; n2; n3 rack:1");
    assert_eq!(created(&without, &stream(r#""num_replicas":2"#), HOME), [", server tag not unique"]);
    assert_eq!(created(&without, &stream(""), HOME), ["n1"]);
    let double = zoned("n1 az:1 az:2; n2 az:2; n3 az:1");
    assert_eq!(created(&double, &stream(r#""num_replicas":2"#), HOME), ["n1 n2", "n2 n3"]);
}

#[test]
fn room_is_that_of_the_storage_asked_for() {
    let uneven = plain("n1 free=10 mem=100; n2 free=100 mem=10");
    assert_eq!(created(&uneven, &stream(r#""max_bytes":11"#), HOME), ["n2"]);
    assert_eq!(created(&uneven, &stream(r#""max_bytes":11,"storage":"memory""#), HOME), ["n1"]);
    assert_eq!(created(&uneven, &stream(r#""max_bytes":10,"num_replicas":2"#), HOME), ["n1 n2"]);
}

#[test]
fn servers_with_all_the_replicated_assets_they_may_have_get_no_further_one() {
    let full = fleet(FleetLimits::new(2, ""), "n1 ha=3; n2 ha=2; n3 ha=3 t");
    assert_eq!(created(&full, &stream(r#""num_replicas":2"#), HOME), [", miscellaneous issue"]);
    assert_eq!(created(&full, &stream(r#""placement":{"tags":["t"]}"#), HOME), ["n3"]);
    assert_eq!(created(&plain("n1 ha=3; n2 ha=9"), &stream(r#""num_replicas":2"#), HOME), ["n1 n2"]);
}

#[test]
fn clusters_are_tried_from_the_nearest_on() {
    let alternates = ["C2".to_owned(), "C3".to_owned()];
    let origin = Origin { cluster: "C1", alternates: &alternates };
    let wide = plain("n1 a; n2 @C2 a b; n3 @C2 b; n4 @C3; n5 @C3; n6 @C3 offline");
    for (fields, outcomes) in [
        ("", &["n1"][..]),
        (r#""num_replicas":2"#, &["n2 n3"]),
        (r#""num_replicas":3"#, &["n4 n5 n6"]),
        (r#""num_replicas":4"#, &[""]),
        (r#""placement":{"tags":["b"]}"#, &["n2", "n3"]),
        (r#""placement":{"cluster":"C3"}"#, &["n4", "n5"]),
        (r#""num_replicas":2,"placement":{"cluster":"C1"}"#, &[""]),
        (r#""num_replicas":2,"placement":{"tags":["!a"]}"#, &["n4 n5"]),
        (r#""num_replicas":2,"placement":{"tags":["a","c"]}"#, &[", tags not matched ['a', 'c']"]),
    ] {
        assert_eq!(created(&wide, &stream(fields), origin), outcomes, "{fields}");
    }
}
