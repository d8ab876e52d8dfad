/// The known name closest to a mistyped one, if any is close enough to be meant.
pub(crate) fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Names are short; longer input is not a typing mistake.
    if typed.len() > 64 {
        return None;
    }
    let tolerated = (typed.chars().count() / 3).max(1);
    known
        .map(|name| (distance(typed, name), name))
        .filter(|(d, _)| *d <= tolerated)
        .min_by_key(|(d, _)| *d)
        .map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["port", "host", "max_payload", "ping_interval"];
        let find = |typed| nearest(typed, known.into_iter());
        assert_eq!(find("prot"), Some("port"));
        assert_eq!(find("max_paylod"), Some("max_payload"));
        assert_eq!(find("ping_intreval"), Some("ping_interval"));
        assert_eq!(find("cluster"), None);
        assert_eq!(find(""), None);
    }
}
