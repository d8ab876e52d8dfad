//! Who leads next.

use linnet_assets::placement::StepDown;
use linnet_ids::PeerId;
use linnet_jsapi::stream_config::Placement;

use crate::harness::{answers, names, peers, plain};

const SERVERS: &str = "n1 az:1 h; n2 az:2; n3 az:3 g @C2; n4 h g offline; n5; a\"b; other";

/// Outcomes when `n1` leads, `heard` answered, and the request has this placement (`null` for none).
fn outcomes(members: &str, heard: &str, placement: &str) -> Vec<String> {
    let fleet = plain(SERVERS);
    let (members, heard) = (peers(members), peers(heard));
    let placement: Option<Placement> = serde_json::from_str(placement).unwrap();
    answers(&fleet, |planner| {
        let request = StepDown {
            peers: &members,
            leader: PeerId::of_name("n1"),
            heard: &heard,
            placement: placement.as_ref(),
        };
        match planner.step_down(&request) {
            Ok(next) => next.map_or_else(|| "election".to_owned(), |p| names(&fleet, &[p])),
            Err(error) => error.to_string(),
        }
    })
}

#[test]
fn leadership_goes_where_the_request_wants_it() {
    for (placement, expected) in [
        ("null", &["n2", "n3"][..]),
        ("{}", &["n2", "n3"]),
        (r#"{"preferred":"n2"}"#, &["n2"]),
        (r#"{"preferred":"n2","cluster":"C9","tags":["zz"]}"#, &["n2"]),
        (r#"{"cluster":"C2"}"#, &["n3"]),
        (r#"{"tags":[" AZ:2 "]}"#, &["n2"]),
        (r#"{"cluster":"C2","tags":["az:3","G"]}"#, &["n3"]),
        (r#"{"preferred":"n1"}"#, &["preferred server \"n1\" is already leader (10005)"]),
        (r#"{"preferred":"N2"}"#, &["preferred server \"N2\" not known (10005)"]),
        (r#"{"preferred":"other"}"#, &["preferred server \"other\" not known (10005)"]),
        (r#"{"preferred":"a\"b"}"#, &["preferred server \"a\\\"b\" not known (10005)"]),
        (r#"{"cluster":"C9"}"#, &["no replacement peer connected (10005)"]),
        (r#"{"tags":["h"]}"#, &["no replacement peer connected (10005)"]),
        (r#"{"tags":["!x"]}"#, &["no replacement peer connected (10005)"]),
        (r#"{"tags":["az:2","az:3"]}"#, &["no replacement peer connected (10005)"]),
    ] {
        assert_eq!(outcomes("n1 n2 n3 n4", "n2 n3 n4", placement), expected, "{placement}");
    }
}

#[test]
fn a_member_that_is_not_healthy_is_passed_over() {
    assert_eq!(outcomes("n1 n2 n3 n4", "n2 n3", r#"{"preferred":"n4"}"#), ["n2", "n3"]);
    assert_eq!(outcomes("n1 n2 n3 n4", "n3 n4", r#"{"preferred":"n2"}"#), ["n3"]);
    assert_eq!(outcomes("n1 n2 n3", "n3", r#"{"cluster":"C1"}"#), ["n3"]);
    assert_eq!(outcomes("n1 n2 n3", "n3", "{}"), ["n3"]);
    assert_eq!(outcomes("n1 n2 n3 n5", "n3 n5", r#"{"cluster":"C1"}"#), ["n5"]);
    assert_eq!(outcomes("n1 n2 n3", "n1", "{}"), ["election"]);
    assert_eq!(outcomes("n1 n2 n3", "", "null"), ["election"]);
    assert_eq!(outcomes("n1 n4", "n4", "null"), ["election"]);
    assert_eq!(outcomes("n1 n4", "n4", "{}"), ["no replacement peer connected (10005)"]);
    assert_eq!(outcomes("n1", "n1 other", "null"), ["election"]);
}
