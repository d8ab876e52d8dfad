//! Which interest is exchanged between servers (cluster protocols, "Cluster permissions").

use linnet_auth::{Permissions, SubscribeVerdict};
use linnet_subject::is_subset;

/// True if other servers are told of interest in the subject. One with wildcards must be wholly within what is allowed.
pub(super) fn may_tell(permissions: Option<&Permissions>, subject: &[u8]) -> bool {
    permissions.is_none_or(|permissions| {
        let rules = &permissions.publish;
        let is_in = |list: &[String]| list.iter().any(|allowed| is_subset(subject, allowed.as_bytes()));
        rules.allow.as_deref().is_none_or(is_in) && !is_in(&rules.deny)
    })
}

/// True if the interest of other servers in the subject counts.
pub(super) fn may_hear(permissions: Option<&Permissions>, subject: &[u8]) -> bool {
    permissions.is_none_or(|permissions| permissions.may_subscribe(subject, None) != SubscribeVerdict::Denied)
}

#[cfg(test)]
mod tests {
    use linnet_auth::Rules;

    use super::*;

    #[test]
    fn wildcards_must_be_within_what_is_allowed() {
        let rules =
            Rules { allow: Some(vec!["in.>".to_owned(), "b.>".to_owned()]), deny: vec!["in.no".to_owned()] };
        let both = Permissions { publish: rules.clone(), subscribe: rules, responses: None };
        let rows =
            [("in.a", true), ("in.*", true), ("in.no", false), (">", false), ("c", false), ("b.>", true)];
        for (subject, is_allowed) in rows {
            assert_eq!(may_tell(Some(&both), subject.as_bytes()), is_allowed, "{subject}");
            assert_eq!(may_hear(Some(&both), subject.as_bytes()), is_allowed, "{subject}");
            assert!(may_tell(None, subject.as_bytes()) && may_hear(None, subject.as_bytes()));
        }
    }
}
