use std::collections::BTreeSet;
use std::fmt;

use linnet_jsapi::ApiError;
use linnet_jsapi::errors::cluster_no_peers;

/// Why no placement was found. Its text is what clients of nats-server get with error 10005, the reasons of every
/// server and of every cluster tried in one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) is_offline: bool,
    pub(super) is_excluded: bool,
    pub(super) lacks_storage: bool,
    pub(super) is_not_unique: bool,
    pub(super) has_other_reason: bool,
    pub(super) is_without_jetstream: bool,
    /// In the words of the request.
    pub(super) tags_missing: BTreeSet<String>,
    /// In the words of the request, without the `!`.
    pub(super) tags_excluded: BTreeSet<String>,
}

impl Refusal {
    /// Adds the reasons of another attempt.
    pub(super) fn add(&mut self, other: Self) {
        self.is_offline |= other.is_offline;
        self.is_excluded |= other.is_excluded;
        self.lacks_storage |= other.lacks_storage;
        self.is_not_unique |= other.is_not_unique;
        self.has_other_reason |= other.has_other_reason;
        self.is_without_jetstream |= other.is_without_jetstream;
        self.tags_missing.extend(other.tags_missing);
        self.tags_excluded.extend(other.tags_excluded);
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no suitable peers for placement")?;
        let reasons = [
            (self.is_offline, "peer offline"),
            (self.is_excluded, "exclude tag set"),
            (self.lacks_storage, "insufficient storage"),
            (self.is_not_unique, "server tag not unique"),
            (self.has_other_reason, "miscellaneous issue"),
            (self.is_without_jetstream, "jetstream not enabled in cluster"),
        ];
        for (_, text) in reasons.iter().filter(|(applies, _)| *applies) {
            write!(f, ", {text}")?;
        }
        let lists = [("tags not matched", &self.tags_missing), ("tags excluded", &self.tags_excluded)];
        for (text, tags) in lists.iter().filter(|(_, tags)| !tags.is_empty()) {
            let quoted: Vec<String> = tags.iter().map(|tag| format!("'{tag}'")).collect();
            write!(f, ", {text} [{}]", quoted.join(", "))?;
        }
        Ok(())
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        cluster_no_peers(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::{ApiError, Refusal};

    #[test]
    fn text_has_every_reason_in_the_order_of_nats_server() {
        let tags = |tags: &[&str]| tags.iter().map(|t| (*t).to_owned()).collect();
        let mut all = Refusal { lacks_storage: true, tags_missing: tags(&["y", "x"]), ..Refusal::default() };
        all.add(Refusal {
            is_offline: true,
            is_excluded: true,
            is_not_unique: true,
            has_other_reason: true,
            is_without_jetstream: true,
            tags_missing: tags(&["x"]),
            tags_excluded: tags(&["z"]),
            ..Refusal::default()
        });
        let error = ApiError::from(all);
        assert_eq!((error.code, error.err_code), (400, 10005));
        assert_eq!(
            error.description,
            "no suitable peers for placement, peer offline, exclude tag set, insufficient storage, \
             server tag not unique, miscellaneous issue, jetstream not enabled in cluster, \
             tags not matched ['x', 'y'], tags excluded ['z']"
        );
        assert_eq!(Refusal::default().to_string(), "no suitable peers for placement");
    }
}
