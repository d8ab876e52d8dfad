//! Links of pages to files of this repository.

use std::path::Path;

/// Links in a page that lead to no file, one line each. `path` is the page's, from the root.
pub(crate) fn findings(root: &Path, path: &str, content: &str) -> Vec<String> {
    if !path.ends_with(".md") {
        return Vec::new();
    }
    let folder = Path::new(path).parent().unwrap_or_else(|| Path::new(""));
    targets(content)
        .filter(|target| !root.join(folder).join(target).exists())
        .map(|target| format!("{path}: the link to {target} leads nowhere"))
        .collect()
}

/// Relative targets of inline links, without their anchors.
fn targets(content: &str) -> impl Iterator<Item = &str> {
    content.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', '#', ' ']).next()?;
        (!target.is_empty() && !target.contains("://") && !target.starts_with("mailto:")).then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_that_lead_nowhere_are_found() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let page =
            "[a](../Cargo.toml), [b](main.rs#L1), [c](https://example.org/x), [d](#here), [e](gone.md#x).";
        assert_eq!(findings(root, "src/page.md", page), ["src/page.md: the link to gone.md leads nowhere"]);
        assert!(findings(root, "src/page.rs", page).is_empty());
    }
}
