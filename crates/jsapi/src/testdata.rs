//! Reading of the recorded tables in `testdata`.

/// The tab-separated fields of each line that is no comment, with `@x<n>@` expanded to n times `x`.
pub(crate) fn rows(table: &str) -> Vec<Vec<String>> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split('\t').map(expand).collect()).collect()
}

fn expand(field: &str) -> String {
    let mut out = String::new();
    for (at, part) in field.split('@').enumerate() {
        match part.strip_prefix('x').and_then(|n| n.parse().ok()) {
            Some(n) if at % 2 == 1 => out.push_str(&"x".repeat(n)),
            _ => out.push_str(part),
        }
    }
    out
}
