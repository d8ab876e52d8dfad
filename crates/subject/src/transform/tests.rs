use super::*;

fn renamed(source: &str, destination: &str, subject: &str) -> String {
    let transform = Transform::new(source, destination).unwrap_or_else(|e| panic!("{destination}: {e}"));
    let mut out = Vec::new();
    if !transform.apply(subject.as_bytes(), 17, &mut out) {
        assert!(out.is_empty());
        return "-".to_owned();
    }
    String::from_utf8(out).unwrap()
}

/// What nats-server makes of the same.
#[test]
fn subjects_are_renamed() {
    for (source, destination, subject, expected) in [
        ("", "x.>", "a.q", "x.a.q"),
        ("a.*.*", "x.$2.$1", "a.q.r", "x.r.q"),
        ("a.*.*", "x.$2.$1", "a.q", "-"),
        ("a.*", "x.{{ Wildcard( 1 ) }}", "a.q", "x.q"),
        ("a.*.>", "x.$1.>", "a.q.r.s", "x.q.r.s"),
        ("a.*.>", ">", "a.q.r.s", "r.s"),
        ("b", "c", "b", "c"),
        ("a.*", "x.$0", "a.q", "x.a"),
        ("a.*", "x.y{{wildcard(1)}}z", "a.q", "x.y{{wildcard(1)}}z"),
        ("a.*", "x.$1x", "a.q", "x.$1x"),
        ("a.*", "x.{{}}", "a.q", "x.{{}}"),
        ("a.*.*", "p.{{partition(7,1,2)}}.{{partition(3, 2 )}}", "a.q.r", "p.3.0"),
        ("a.*.*", "p.{{partition(7,1,2)}}.{{partition(3, 2 )}}", "a.foo.bar", "p.0.2"),
        ("a.*.*", "p.{{partition(7,1,2)}}.{{partition(3, 2 )}}", "a.1.2", "p.1.1"),
        ("a.*", "p.{{partition(7)}}", "a.foo", "p.4"),
        ("b", "p.{{partition(7)}}", "b", "p.6"),
        ("b", "p.{{partition(3,1)}}", "b", "p.1"),
        ("a.>", "p.{{partition(7)}}.>", "a.foo.z", "p.5.foo.z"),
        ("a.*", "p.{{partition(0,1)}}", "a.q", "p.0"),
        ("a.*", "x.{{splitfromleft(1,2)}}", "a.abcdef", "x.ab.cdef"),
        ("a.*", "x.{{splitfromleft(1,2)}}", "a.q", "x.q"),
        ("a.*", "x.{{splitfromleft(1,-2)}}", "a.qqqqq", "x.qqqqq"),
        ("a.*", "x.{{SplitFromRight(1,2)}}", "a.abcdef", "x.abcd.ef"),
        ("a.*", "x.{{slicefromleft(1,3)}}", "a.abcdefgh", "x.abc.def.gh"),
        ("a.*", "x.{{slicefromleft(1,3)}}", "a.abc", "x.abc"),
        ("a.*", "x.{{slicefromright(1,3)}}", "a.abcdefgh", "x.ab.cde.fgh"),
        ("a.*", "x.{{slicefromright(1,3)}}", "a.abcdef", "x.abc.def"),
        ("a.*", "x.{{split(1,-)}}", "a.-b--c-", "x.b.c"),
        ("a.*", "x.{{split(1, --)}}", "a.b--c", "x.b.c"),
        ("a.*", "x.{{left(1,2)}}", "a.abc", "x.ab"),
        ("a.*", "x.{{right(1,2)}}", "a.abc", "x.bc"),
        ("a.*", "x.{{left(1,0)}}", "a.abc", "x.abc"),
        ("a.*", "x.{{random(5)}}", "a.abc", "x.2"),
        ("a.*", "x.{{random(0)}}", "a.abc", "x.0"),
    ] {
        assert_eq!(renamed(source, destination, subject), expected, "{source} {destination} {subject}");
    }
}

/// What nats-server answers to the same.
#[test]
fn what_is_no_transform_is_refused() {
    for (source, destination, expected) in [
        ("a.*", "x..y", "invalid mapping destination: invalid transform"),
        ("a.*", "x y", "invalid mapping destination: invalid transform"),
        ("a.*.>", ">.x", "invalid mapping destination: invalid transform in x"),
        ("a.*", "x.*", "invalid subject"),
        ("a.>", "x", "invalid subject"),
        ("a.*", "x.>", "invalid subject"),
        ("a b", "x", "invalid subject"),
        ("a.*", "x.$2", "invalid mapping destination: wildcard index out of range in $2: [2]"),
        ("b", "x.$1", "invalid mapping destination: wildcard index out of range in $1"),
        ("a.*", "x.{{foo(1)}}", "invalid mapping destination: unknown function in {{foo(1)}}"),
        ("a.*", "x.{{WildCard(1)}}", "invalid mapping destination: unknown function in {{WildCard(1)}}"),
        ("a.*", "x.{{wildcard(1}}", "invalid mapping destination: unknown function in {{wildcard(1}}"),
        (
            "a.*",
            "x.{{wildcard()}}",
            "invalid mapping destination: not enough arguments passed to the function in {{wildcard()}}",
        ),
        (
            "a.*",
            "x.{{random(3,4)}}",
            "invalid mapping destination: not enough arguments passed to the function in {{random(3,4)}}",
        ),
        (
            "a.*",
            "x.{{left(1)}}",
            "invalid mapping destination: not enough arguments passed to the function in {{left(1)}}",
        ),
        (
            "a.*",
            "x.{{split(1,-,3)}}",
            "invalid mapping destination: too many arguments passed to the function in {{split(1,-,3)}}",
        ),
        (
            "a.*",
            "x.{{left(1,3000000000)}}",
            "invalid mapping destination: function argument is invalid or in the wrong format in \
             {{left(1,3000000000)}}",
        ),
        (
            "a.*",
            "x.{{split(1,a b)}}",
            "invalid mapping destination: function argument is invalid or in the wrong format in \
             {{split(1,a b)}}",
        ),
        (
            "a.*",
            "{{wildcard(1)}}{{wildcard(1)}}",
            "invalid mapping destination: function argument is invalid or in the wrong format in \
             {{wildcard(1)}}{{wildcard(1)}}",
        ),
        (
            "a.>",
            "x.{{partition(3,1)}}.>",
            "invalid mapping destination: wildcard index out of range in {{partition(3,1)}}: [1]",
        ),
    ] {
        let error = Transform::new(source, destination).unwrap_err();
        assert_eq!(error.to_string(), expected, "{source} {destination}");
    }
}
