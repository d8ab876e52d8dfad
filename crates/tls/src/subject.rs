//! The subject of a certificate: as the texts nats-server has for it, and as a name to compare.

use std::fmt::Write as _;

use linnet_auth::Dn;

/// One attribute of a subject.
#[derive(Clone, Debug)]
pub(crate) struct Attribute {
    /// Its type, in numbers.
    pub(crate) oid: String,
    /// Its value as text.
    pub(crate) value: String,
}

/// A subject: its parts in order, each with its attributes.
pub(crate) struct Subject(pub(crate) Vec<Vec<Attribute>>);

/// A type of attributes that Go's `pkix.Name` has a field for.
struct Known {
    oid: &'static str,
    name: &'static str,
    /// Of several values the last counts.
    is_single: bool,
}

/// In the order in which nats-server 2.15.1 shows them, whatever their order in the certificate (seen).
const KNOWN: &[Known] = &[
    Known { oid: "2.5.4.5", name: "SERIALNUMBER", is_single: true },
    Known { oid: "2.5.4.3", name: "CN", is_single: true },
    Known { oid: "2.5.4.11", name: "OU", is_single: false },
    Known { oid: "2.5.4.10", name: "O", is_single: false },
    Known { oid: "2.5.4.17", name: "POSTALCODE", is_single: false },
    Known { oid: "2.5.4.9", name: "STREET", is_single: false },
    Known { oid: "2.5.4.7", name: "L", is_single: false },
    Known { oid: "2.5.4.8", name: "ST", is_single: false },
    Known { oid: "2.5.4.6", name: "C", is_single: false },
];

/// Known to names that are compared, and shown in numbers.
const DOMAIN_COMPONENT: (&str, &str) = ("0.9.2342.19200300.100.1.25", "DC");

impl Subject {
    /// The attributes that have names, which users are looked up by.
    pub(crate) fn named_text(&self) -> String {
        let mut out = String::new();
        for known in KNOWN {
            let mut values: Vec<&str> = self.values_of(known.oid).collect();
            if known.is_single {
                values.drain(..values.len().saturating_sub(1));
            }
            for (n, value) in values.into_iter().enumerate() {
                push(&mut out, if n > 0 { '+' } else { ',' }, known.name, value);
            }
        }
        out
    }

    /// All attributes, as monitoring shows them: those without names come last, in numbers, the last one first.
    pub(crate) fn full_text(&self) -> String {
        let mut out = self.named_text();
        for attribute in self.attributes().rev() {
            if KNOWN.iter().all(|known| known.oid != attribute.oid) {
                push(&mut out, ',', &attribute.oid, &attribute.value);
            }
        }
        out
    }

    /// The name to be compared in any order; `None` if it is empty or has attributes that names of users cannot have.
    pub(crate) fn dn(&self) -> Option<Dn> {
        let part = |part: &Vec<Attribute>| {
            part.iter().map(|a| Some((name(&a.oid)?.to_owned(), a.value.clone()))).collect()
        };
        let parts: Vec<Vec<(String, String)>> = self.0.iter().map(part).collect::<Option<_>>()?;
        (!parts.is_empty()).then(|| Dn::new(parts))
    }

    fn attributes(&self) -> impl DoubleEndedIterator<Item = &Attribute> {
        self.0.iter().flatten()
    }

    fn values_of(&self, oid: &str) -> impl Iterator<Item = &str> {
        self.attributes().filter(move |a| a.oid == oid).map(|a| a.value.as_str())
    }
}

fn name(oid: &str) -> Option<&'static str> {
    let known = KNOWN.iter().map(|known| (known.oid, known.name)).chain([DOMAIN_COMPONENT]);
    known.into_iter().find(|(known, _)| *known == oid).map(|(_, name)| name)
}

fn push(out: &mut String, separator: char, name: &str, value: &str) {
    if !out.is_empty() {
        out.push(separator);
    }
    let _ = write!(out, "{name}=");
    escape(value, out);
}

/// Special characters go behind a backslash.
fn escape(value: &str, out: &mut String) {
    let last = value.len().saturating_sub(1);
    for (at, c) in value.char_indices() {
        let is_special = match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            ' ' => at == 0 || at == last,
            '#' => at == 0,
            _ => false,
        };
        if is_special {
            out.push('\\');
        }
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0.9.2342.19200300.100.1.1";

    fn oid(name: &str) -> &str {
        let known = KNOWN.iter().find(|known| known.name == name).map(|known| known.oid);
        known.unwrap_or(if name == "DC" { DOMAIN_COMPONENT.0 } else { name })
    }

    /// One part per attribute; `+` before a name adds to the part before.
    fn subject(attributes: &[(&str, &str)]) -> Subject {
        let mut parts: Vec<Vec<Attribute>> = Vec::new();
        for (name, value) in attributes {
            let bare = name.trim_start_matches('+');
            let attribute = Attribute { oid: oid(bare).to_owned(), value: (*value).to_owned() };
            match parts.last_mut() {
                Some(part) if *name != bare => part.push(attribute),
                _ => parts.push(vec![attribute]),
            }
        }
        Subject(parts)
    }

    /// Subjects and what nats-server 2.15.1 showed and looked for.
    #[test]
    fn texts_are_those_of_the_reference_server() {
        let all = [
            ("2.5.4.13", "de"),
            ("SERIALNUMBER", "7"),
            ("POSTALCODE", "p"),
            ("C", "DE"),
            ("STREET", "st"),
            ("O", "Z"),
            ("OU", "u"),
            ("L", "Loc"),
            ("DC", "dc"),
            ("ST", "S"),
            ("CN", "x"),
            (UID, "u7"),
        ];
        let named = "SERIALNUMBER=7,CN=x,OU=u,O=Z,POSTALCODE=p,STREET=st,L=Loc,ST=S,C=DE";
        let others = format!("{UID}=u7,{}=dc,2.5.4.13=de", oid("DC"));
        assert_eq!(subject(&all).named_text(), named);
        assert_eq!(subject(&all).full_text(), format!("{named},{others}"));
        let several = [
            ("L", "l"),
            ("+O", "Z"),
            ("+OU", "m"),
            ("O", "Y"),
            ("CN", "a"),
            ("CN", "b"),
            ("L", "a"),
            ("SERIALNUMBER", "a"),
            ("SERIALNUMBER", "b"),
        ];
        assert_eq!(subject(&several).full_text(), "SERIALNUMBER=b,CN=b,OU=m,O=Z+O=Y,L=l+L=a");
        let special =
            [("O", ";a<b>\"q\"\\\\=x"), ("OU", " sp "), ("CN", "#h"), ("2.5.4.12", "#t+,"), ("L", "jös ")];
        let shown = "CN=\\#h,OU=\\ sp\\ ,O=\\;a\\<b\\>\\\"q\\\"\\\\\\\\=x,L=jös\\ ,2.5.4.12=\\#t\\+\\,";
        assert_eq!(subject(&special).full_text(), shown);
        let unnamed = subject(&[("DC", "com")]);
        assert_eq!(
            (unnamed.named_text(), unnamed.full_text()),
            (String::new(), format!("{}=com", oid("DC")))
        );
    }

    #[test]
    fn names_to_compare_have_domain_components_and_nothing_unknown() {
        let carol = subject(&[("DC", "com"), ("DC", "acme"), ("CN", "carol")]);
        assert_eq!(carol.dn(), Dn::parse("CN=carol,DC=acme,DC=com"));
        assert_eq!(subject(&[("CN", "x"), ("+OU", "m")]).dn(), Dn::parse("CN=x+OU=m"));
        assert_eq!(subject(&[("CN", "x"), (UID, "u")]).dn(), None);
        assert_eq!(subject(&[]).dn(), None);
    }
}
