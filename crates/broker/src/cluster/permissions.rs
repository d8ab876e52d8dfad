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

/// Whether the interest of other servers in the subject counts, and for all messages on subjects that it matches.
pub(super) fn hearing(permissions: Option<&Permissions>, subject: &[u8]) -> SubscribeVerdict {
    permissions.map_or(SubscribeVerdict::Allowed, |permissions| permissions.may_subscribe(subject, None))
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
            let is_heard = hearing(Some(&both), subject.as_bytes()) != SubscribeVerdict::Denied;
            assert_eq!(is_heard, is_allowed, "{subject}");
            assert!(may_tell(None, subject.as_bytes()));
            assert_eq!(hearing(None, subject.as_bytes()), SubscribeVerdict::Allowed);
        }
    }
}
