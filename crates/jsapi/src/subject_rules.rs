//! The little subject algebra the rules need: which subjects are valid, and how they relate.

/// Whether it is a subject, with or without wildcards: no empty tokens, no blanks, `>` only at the end.
pub(crate) fn is_valid(subject: &str) -> bool {
    if subject.contains([' ', '\t', '\n', '\r', '\x0c']) {
        return false;
    }
    let mut full_wildcard = false;
    subject.split('.').all(|token| {
        let fine = !token.is_empty() && !full_wildcard;
        full_wildcard = token == ">";
        fine
    })
}

/// Whether no token is a wildcard.
pub(crate) fn is_literal(subject: &str) -> bool {
    subject.split('.').all(|token| !matches!(token, "*" | ">"))
}

/// Whether some literal subject matches both.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(x), Some(y)) if x == y || x == "*" || y == "*" => {}
            _ => return false,
        }
    }
}

/// Whether every literal subject that matches `inner` matches `outer`.
pub(crate) fn is_subset(inner: &str, outer: &str) -> bool {
    let (mut inner, mut outer) = (inner.split('.'), outer.split('.'));
    loop {
        match (inner.next(), outer.next()) {
            (None, None) => return true,
            (Some(_), Some(">")) => return true,
            (Some(">"), _) => return false,
            (Some(_), Some("*")) => {}
            (Some(x), Some(y)) if x == y => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn validity() {
        for good in ["a", "a.b", "*", ">", "a.*.>", "a*", "a>", "$KV.b.>", "é.ü"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a.>.b", ">.>", "a b", "a\tb", "a\nb"] {
            assert!(!is_valid(bad), "{bad}");
        }
        assert!(is_literal("a.b*.c>") && !is_literal("a.*") && !is_literal(">"));
    }

    #[test]
    fn relations() {
        for (a, b, overlapping, subset) in [
            ("a", "a", true, true),
            ("a", "b", false, false),
            ("a.b", "a.*", true, true),
            ("a.*", "a.b", true, false),
            ("a.*", "*.b", true, false),
            ("a.>", "a", false, false),
            ("a", "a.>", false, false),
            ("a.b.c", "a.>", true, true),
            ("a.*", "a.>", true, true),
            ("a.>", "a.*", true, false),
            ("a.>", ">", true, true),
            (">", ">", true, true),
            ("a.b", "a.b.c", false, false),
            ("*.b", "a.*.c", false, false),
        ] {
            assert_eq!(overlap(a, b), overlapping, "{a} {b}");
            assert_eq!(overlap(b, a), overlapping, "{b} {a}");
            assert_eq!(is_subset(a, b), subset, "{a} {b}");
        }
    }

    proptest! {
        /// Against matching of all literal subjects of up to three tokens over a two-letter alphabet.
        #[test]
        fn relations_agree_with_matching(
            a in "(a|b|\\*)(\\.(a|b|\\*)){0,1}(\\.>)?", b in "(a|b|\\*)(\\.(a|b|\\*)){0,1}(\\.>)?"
        ) {
            let mut literals: Vec<String> = vec!["a".to_owned(), "b".to_owned()];
            for depth in 0..3 {
                let longer: Vec<String> = literals
                    .iter()
                    .filter(|l| l.split('.').count() == depth + 1)
                    .flat_map(|l| [format!("{l}.a"), format!("{l}.b")])
                    .collect();
                literals.extend(longer);
            }
            let matches = |literal: &str, pattern: &str| is_subset(literal, pattern);
            let both = literals.iter().any(|l| matches(l, &a) && matches(l, &b));
            let all = literals.iter().filter(|l| matches(l, &a)).all(|l| matches(l, &b));
            prop_assert_eq!(overlap(&a, &b), both);
            prop_assert_eq!(is_subset(&a, &b), all);
        }
    }
}
