/// Tags of a server as they are compared: without spaces around them, in lower case, each once, in the order of the
/// configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<String>);

/// How a tag is compared (nats-server's tag lists).
pub(super) fn normal(tag: &str) -> String {
    tag.trim().to_lowercase()
}

impl Tags {
    /// Tags as configured; empty ones are left out.
    pub fn new<S: AsRef<str>>(tags: impl IntoIterator<Item = S>) -> Self {
        let mut kept: Vec<String> = Vec::new();
        for tag in tags {
            let tag = normal(tag.as_ref());
            if !tag.is_empty() && !kept.contains(&tag) {
                kept.push(tag);
            }
        }
        Self(kept)
    }

    /// Whether `tag` is one of them.
    pub fn contains(&self, tag: &str) -> bool {
        self.contains_normal(&normal(tag))
    }

    /// [`Tags::contains`] for a tag that went through [`normal`].
    pub(super) fn contains_normal(&self, tag: &str) -> bool {
        self.0.iter().any(|t| t == tag)
    }

    /// The first tag that starts with `prefix`.
    pub(super) fn first_with_prefix(&self, prefix: &str) -> Option<&str> {
        self.0.iter().find(|t| t.starts_with(prefix)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::Tags;

    #[test]
    fn tags_compare_without_case_and_spaces() {
        let tags = Tags::new([" AZ:1 ", "az:1", "", "SSD"]);
        assert_eq!(tags, Tags::new(["az:1", "ssd"]));
        assert!(tags.contains("Az:1") && tags.contains(" ssd"));
        assert!(!tags.contains("az:") && !tags.contains(""));
    }
}
