/// A distinguished name as a list of its parts. Two names are equal if they have the same parts in any order: the
/// text form reads backwards, and tools differ in what they write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dn {
    /// Each part with its attributes in order; the parts in order.
    parts: Vec<Vec<(String, String)>>,
}

impl Dn {
    /// From the attributes of each part, types as in the text form.
    pub fn new(parts: impl IntoIterator<Item = Vec<(String, String)>>) -> Self {
        let mut parts: Vec<Vec<(String, String)>> = parts
            .into_iter()
            .map(|part| {
                let mut part: Vec<_> =
                    part.into_iter().map(|(kind, value)| (kind.to_ascii_uppercase(), value)).collect();
                part.sort();
                part
            })
            .collect();
        parts.sort();
        Self { parts }
    }

    /// Reads the text form of RFC 4514, with spaces allowed around separators. `None` if the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut part = Vec::new();
        let mut rest = text;
        loop {
            let (kind, value) = rest.split_once('=')?;
            let kind = kind.trim();
            if kind.is_empty() || !kind.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-') {
                return None;
            }
            let (value, end) = read_value(value)?;
            part.push((kind.to_owned(), value));
            match end {
                None => break,
                Some((separator, after)) => {
                    rest = after;
                    if separator != '+' {
                        parts.push(std::mem::take(&mut part));
                    }
                }
            }
        }
        parts.push(part);
        Some(Self::new(parts))
    }
}

/// A value up to its separator, without escapes; then the separator and what follows it.
fn read_value(text: &str) -> Option<(String, Option<(char, &str)>)> {
    let mut value = Vec::new();
    // Spaces at the end count only if they are escaped.
    let mut kept = 0;
    let mut chars = text.trim_start().char_indices();
    let text = text.trim_start();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                let (_, escaped) = chars.next()?;
                if let Some(high) = escaped.to_digit(16) {
                    let low = chars.next()?.1.to_digit(16)?;
                    value.push(u8::try_from(high * 16 + low).ok()?);
                } else {
                    push(&mut value, escaped);
                }
                kept = value.len();
            }
            ',' | ';' | '+' => {
                value.truncate(kept);
                let after = text.get(at + c.len_utf8()..)?;
                return Some((String::from_utf8(value).ok()?, Some((c, after))));
            }
            _ => {
                push(&mut value, c);
                if c != ' ' {
                    kept = value.len();
                }
            }
        }
    }
    value.truncate(kept);
    Some((String::from_utf8(value).ok()?, None))
}

fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        Dn::parse(a).unwrap() == Dn::parse(b).unwrap()
    }

    #[test]
    fn order_case_of_types_and_spaces_do_not_matter() {
        assert!(same("CN=joe,OU=dev,O=Acme", "O=Acme, OU = dev , cn=joe"));
        assert!(same("CN=joe+OU=dev,O=Acme", "O=Acme,OU=dev+CN=joe"));
    }

    #[test]
    fn parts_values_and_their_number_matter() {
        assert!(!same("CN=joe,O=Acme", "CN=Joe,O=Acme"));
        assert!(!same("CN=joe,OU=a", "CN=joe,OU=a,OU=a"));
        assert!(!same("CN=joe,OU=a,OU=b", "CN=joe,OU=a+OU=b"));
        assert!(!same("CN=joe,OU=a", "CN=joe,OU=a,OU=b"));
    }

    #[test]
    fn escapes_are_resolved_and_nonsense_is_no_name() {
        let dn = Dn::parse("CN=a\\,b\\2Bc\\ ,O=x").unwrap();
        let parts =
            vec![vec![("O".to_owned(), "x".to_owned())], vec![("CN".to_owned(), "a,b+c ".to_owned())]];
        assert_eq!(dn, Dn::new(parts));
        for text in ["", "joe", "=x", "CN=a,", "CN=a\\", "CN=a,O", "C N=a", "CN=\\zz\\4"] {
            assert_eq!(Dn::parse(text), None, "{text}");
        }
    }
}
