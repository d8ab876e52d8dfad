//! Subject grammar: what is a subject, what matches what, what overlaps what.
//!
//! Subjects are bytes. Tokens are separated by `.`; `*` alone stands for exactly one token, `>` alone and last for
//! one or more (cluster protocols, "Subject grammar"). Everything here is pure; nothing that is done per message
//! allocates, except that a [`Transform`] appends to what it is given.

mod transform;

pub use transform::{FunctionError, Transform, TransformError};

/// Token separator.
pub const SEPARATOR: u8 = b'.';

/// The tokens of a subject, in order.
pub fn tokens(subject: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    subject.split(|b| *b == SEPARATOR)
}

/// True if the token is the wildcard `*`.
pub fn is_any(token: &[u8]) -> bool {
    token == b"*"
}

/// True if the token is the wildcard `>`.
pub fn is_rest(token: &[u8]) -> bool {
    token == b">"
}

/// True for a subject that may be subscribed to: no empty token, `>` only as the last token, no white space.
pub fn is_valid(subject: &[u8]) -> bool {
    !subject.iter().any(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | 0x0c)) && is_well_formed(subject)
}

/// True if no token is empty and nothing follows a `>` token. This is all that the client protocol checks.
pub fn is_well_formed(subject: &[u8]) -> bool {
    let mut after_rest = false;
    !subject.is_empty()
        && tokens(subject).all(|t| {
            let ok = !t.is_empty() && !after_rest;
            after_rest = is_rest(t);
            ok
        })
}

/// True if the subject has no wildcard token.
pub fn is_literal(subject: &[u8]) -> bool {
    if !subject.iter().any(|b| matches!(b, b'*' | b'>')) {
        return true;
    }
    !tokens(subject).any(|t| is_any(t) || is_rest(t))
}

/// True for a valid subject without wildcards.
pub fn is_valid_literal(subject: &[u8]) -> bool {
    is_valid(subject) && is_literal(subject)
}

/// True if the literal `subject` is covered by `pattern`. A subject with an empty token is covered by nothing.
pub fn matches(subject: &[u8], pattern: &[u8]) -> bool {
    let mut wanted = tokens(pattern);
    let mut rest = false;
    for token in tokens(subject) {
        if token.is_empty() {
            return false;
        }
        if rest {
            continue;
        }
        match wanted.next() {
            Some(w) if is_rest(w) => rest = true,
            Some(w) if is_any(w) || w == token => {}
            _ => return false,
        }
    }
    rest || wanted.next().is_none()
}

/// True if every subject that `subset` covers is covered by `set` too. Both may have wildcards.
pub fn is_subset(subset: &[u8], set: &[u8]) -> bool {
    let mut inner = tokens(subset);
    let mut outer = tokens(set);
    loop {
        match (inner.next(), outer.next()) {
            (Some(_), Some(o)) if is_rest(o) => return true,
            (Some(i), Some(_)) if is_rest(i) => return false,
            (Some(_), Some(o)) if is_any(o) => {}
            (Some(i), Some(o)) if i == o => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// True if some subject is covered by both patterns.
pub fn overlaps(a: &[u8], b: &[u8]) -> bool {
    let mut left = tokens(a);
    let mut right = tokens(b);
    loop {
        match (left.next(), right.next()) {
            (Some(x), Some(y)) if is_rest(x) || is_rest(y) => return true,
            (Some(x), Some(y)) if is_any(x) || is_any(y) || x == y => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// The part of a pattern before its first wildcard token, without the separator: every subject that the pattern
/// covers starts with it.
pub fn literal_prefix(pattern: &[u8]) -> &[u8] {
    let mut end = 0;
    for token in tokens(pattern) {
        if is_any(token) || is_rest(token) {
            return pattern.get(..end.max(1) - 1).unwrap_or_default();
        }
        end += token.len() + 1;
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn validity() {
        for good in ["a", "a.b", "*", ">", "a.*.b", "a.>", "foo*", "a>b", "$SYS.x", "*.>"] {
            assert!(is_valid(good.as_bytes()), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", ">.a", "a.>.b", "a b", "a\tb", "a\r"] {
            assert!(!is_valid(bad.as_bytes()), "{bad}");
        }
        assert!(is_literal(b"foo*.a>b"));
        assert!(!is_literal(b"foo.*"));
    }

    #[test]
    fn matching() {
        for (subject, pattern, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.*", true),
            ("a.b", "*.*", true),
            ("a.b", ">", true),
            ("a.b", "a.>", true),
            ("a", "a.>", false),
            ("a.b.c", "a.*", false),
            ("a.b", "a.b.c", false),
            ("a..b", ">", false),
            ("a.foo*", "a.foo*", true),
        ] {
            assert_eq!(matches(subject.as_bytes(), pattern.as_bytes()), expected, "{subject} {pattern}");
        }
    }

    #[test]
    fn subset_and_overlap() {
        for (a, b, subset, overlap) in [
            ("a.b", "a.*", true, true),
            ("a.*", "a.b", false, true),
            ("a.*", "*.b", false, true),
            ("a.>", ">", true, true),
            (">", "a.>", false, true),
            ("a.*", "a.>", true, true),
            ("a.>", "a.*", false, true),
            ("a", "a.>", false, false),
            ("a.b", "a.c", false, false),
            ("*", "a.b", false, false),
        ] {
            assert_eq!(is_subset(a.as_bytes(), b.as_bytes()), subset, "{a} in {b}");
            assert_eq!(overlaps(a.as_bytes(), b.as_bytes()), overlap, "{a} and {b}");
        }
    }

    #[test]
    fn literal_prefixes() {
        for (pattern, prefix) in [("a.b.*", "a.b"), (">", ""), ("a.b", "a.b"), ("a.*.c", "a"), ("*.a", "")] {
            assert_eq!(literal_prefix(pattern.as_bytes()), prefix.as_bytes(), "{pattern}");
        }
    }

    fn pattern() -> impl Strategy<Value = String> {
        (proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("*")], 1..4), any::<bool>())
            .prop_map(|(t, rest)| if rest { format!("{}.>", t.join(".")) } else { t.join(".") })
    }

    proptest! {
        #[test]
        fn subset_and_overlap_agree_with_matching(a in pattern(), b in pattern(), s in "[ab](\\.[ab]){0,4}") {
            let (a, b, s) = (a.as_bytes(), b.as_bytes(), s.as_bytes());
            if is_subset(a, b) && matches(s, a) {
                prop_assert!(matches(s, b));
            }
            if matches(s, a) && matches(s, b) {
                prop_assert!(overlaps(a, b));
            }
            prop_assert_eq!(overlaps(a, b), overlaps(b, a));
            if matches(s, a) {
                prop_assert!(s.starts_with(literal_prefix(a)));
            }
        }
    }
}
