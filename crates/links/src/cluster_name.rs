/// The name of a server's cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterName {
    /// The name.
    pub name: String,
    /// Nobody configured it: it gives way to a name that somebody did, or to a larger one.
    pub is_dynamic: bool,
}

/// What to do about the name another server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is ours.
    Same,
    /// Ours gives way.
    Adopt,
    /// The servers are of different clusters.
    Conflict,
}

impl ClusterName {
    /// Judges the name of another server. Both sides judge, so that one of two made-up names wins everywhere (cluster
    /// protocols, "Cluster name").
    pub fn judge(&self, theirs: &Self) -> Verdict {
        if self.name == theirs.name {
            Verdict::Same
        } else if self.is_dynamic && (!theirs.is_dynamic || self.name < theirs.name) {
            Verdict::Adopt
        } else {
            Verdict::Conflict
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str, is_dynamic: bool) -> ClusterName {
        ClusterName { name: name.to_owned(), is_dynamic }
    }

    #[test]
    fn made_up_names_give_way() {
        let rows = [
            (name("A", false), name("A", false), Verdict::Same),
            (name("A", false), name("A", true), Verdict::Same),
            (name("A", false), name("B", false), Verdict::Conflict),
            (name("A", false), name("B", true), Verdict::Conflict),
            (name("B", true), name("A", false), Verdict::Adopt),
            (name("A", true), name("B", true), Verdict::Adopt),
            (name("B", true), name("A", true), Verdict::Conflict),
        ];
        for (ours, theirs, verdict) in rows {
            assert_eq!(ours.judge(&theirs), verdict, "{ours:?} {theirs:?}");
        }
    }
}
