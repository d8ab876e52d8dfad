use hashbrown::HashMap;
use linnet_subject::{is_any, is_rest, tokens};

use crate::matches::Matches;

type Children<S> = HashMap<Vec<u8>, Node<S>, foldhash::fast::RandomState>;

/// The subscriptions of one account. `S` is a cheap handle whose equality is identity.
#[derive(Debug)]
pub struct Interest<S> {
    root: Level<S>,
    stats: Stats,
}

/// Counts for monitoring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Subscriptions now.
    pub subscriptions: u64,
    /// Subscriptions ever inserted.
    pub inserts: u64,
    /// Subscriptions ever removed.
    pub removes: u64,
}

/// The nodes that one more token can lead to.
#[derive(Debug)]
struct Level<S> {
    literal: Children<S>,
    any: Option<Box<Node<S>>>,
    rest: Option<Box<Node<S>>>,
}

#[derive(Debug)]
struct Node<S> {
    plain: Vec<S>,
    queues: Vec<(Box<[u8]>, Vec<S>)>,
    next: Option<Box<Level<S>>>,
}

impl<S> Default for Interest<S> {
    fn default() -> Self {
        Self { root: Level::default(), stats: Stats::default() }
    }
}

impl<S> Default for Level<S> {
    fn default() -> Self {
        Self { literal: HashMap::default(), any: None, rest: None }
    }
}

impl<S> Default for Node<S> {
    fn default() -> Self {
        Self { plain: Vec::new(), queues: Vec::new(), next: None }
    }
}

impl<S> Level<S> {
    fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.any.is_none() && self.rest.is_none()
    }

    fn child(&self, token: &[u8]) -> Option<&Node<S>> {
        if is_any(token) {
            self.any.as_deref()
        } else if is_rest(token) {
            self.rest.as_deref()
        } else {
            self.literal.get(token)
        }
    }
}

impl<S> Node<S> {
    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.queues.is_empty() && self.next.is_none()
    }
}

impl<S: Clone + PartialEq> Interest<S> {
    /// Adds a subscription. The subject must be well formed; the same handle may not be inserted twice under the
    /// same subject and queue.
    pub fn insert(&mut self, subject: &[u8], queue: Option<&[u8]>, sub: S) {
        let mut level = &mut self.root;
        let mut path = tokens(subject).peekable();
        while let Some(token) = path.next() {
            let node = if is_any(token) {
                level.any.get_or_insert_default()
            } else if is_rest(token) {
                level.rest.get_or_insert_default()
            } else {
                level.literal.entry_ref(token).or_default()
            };
            if path.peek().is_some() {
                level = node.next.get_or_insert_default();
                continue;
            }
            match queue {
                None => node.plain.push(sub),
                Some(name) => match node.queues.iter_mut().find(|(n, _)| **n == *name) {
                    Some((_, members)) => members.push(sub),
                    None => node.queues.push((name.into(), vec![sub])),
                },
            }
            self.stats.subscriptions += 1;
            self.stats.inserts += 1;
            return;
        }
    }

    /// Removes a subscription; false if it was not there.
    pub fn remove(&mut self, subject: &[u8], queue: Option<&[u8]>, sub: &S) -> bool {
        let removed = remove_from(&mut self.root, &mut tokens(subject).peekable(), queue, sub);
        if removed {
            self.stats.subscriptions -= 1;
            self.stats.removes += 1;
        }
        removed
    }

    /// Collects into `out` (cleared first) everybody whom a message on the literal `subject` reaches.
    pub fn matches(&self, subject: &[u8], out: &mut Matches<S>) {
        out.clear();
        if tokens(subject).any(<[u8]>::is_empty) {
            return;
        }
        collect(&self.root, Some(subject), out);
    }

    /// True if a message on the literal `subject` reaches anybody for whom `wanted` holds.
    pub fn reaches(&self, subject: &[u8], mut wanted: impl FnMut(&S, Option<&[u8]>) -> bool) -> bool {
        !tokens(subject).any(<[u8]>::is_empty) && reaches(&self.root, Some(subject), &mut wanted)
    }

    /// The subscriptions to exactly this subject text.
    pub fn exact(&self, subject: &[u8]) -> Vec<S> {
        let mut level = &self.root;
        let mut path = tokens(subject).peekable();
        while let Some(token) = path.next() {
            let Some(node) = level.child(token) else { return Vec::new() };
            if path.peek().is_none() {
                let queued = node.queues.iter().flat_map(|(_, members)| members);
                return node.plain.iter().chain(queued).cloned().collect();
            }
            match &node.next {
                Some(next) => level = next,
                None => return Vec::new(),
            }
        }
        Vec::new()
    }

    /// Calls `visit` for every subscription, in no order.
    pub fn for_each(&self, mut visit: impl FnMut(&S)) {
        walk(&self.root, &mut visit);
    }

    /// Counts for monitoring.
    pub fn stats(&self) -> Stats {
        self.stats
    }
}

/// Splits off the first token; the rest is `None` after the last one.
fn split(subject: &[u8]) -> (&[u8], Option<&[u8]>) {
    match subject.iter().position(|b| *b == linnet_subject::SEPARATOR) {
        Some(dot) => (&subject[..dot], Some(&subject[dot + 1..])),
        None => (subject, None),
    }
}

fn collect<S: Clone>(level: &Level<S>, subject: Option<&[u8]>, out: &mut Matches<S>) {
    let Some(subject) = subject else { return };
    let (token, rest) = split(subject);
    if let Some(node) = &level.rest {
        take(node, out);
    }
    for node in level.literal.get(token).into_iter().chain(level.any.as_deref()) {
        match rest {
            None => take(node, out),
            Some(_) => {
                if let Some(next) = &node.next {
                    collect(next, rest, out);
                }
            }
        }
    }
}

fn take<S: Clone>(node: &Node<S>, out: &mut Matches<S>) {
    out.add_plain(&node.plain);
    for (name, members) in &node.queues {
        out.add_queue(name, members);
    }
}

fn reaches<S>(
    level: &Level<S>,
    subject: Option<&[u8]>,
    wanted: &mut impl FnMut(&S, Option<&[u8]>) -> bool,
) -> bool {
    let Some(subject) = subject else { return false };
    let (token, rest) = split(subject);
    let mut any_in = |node: &Node<S>| {
        node.plain.iter().any(|s| wanted(s, None))
            || node.queues.iter().any(|(name, members)| members.iter().any(|s| wanted(s, Some(name))))
    };
    if level.rest.as_deref().is_some_and(&mut any_in) {
        return true;
    }
    for node in level.literal.get(token).into_iter().chain(level.any.as_deref()) {
        let found = match rest {
            None => any_in(node),
            Some(_) => false,
        };
        if found {
            return true;
        }
    }
    rest.is_some()
        && level
            .literal
            .get(token)
            .into_iter()
            .chain(level.any.as_deref())
            .filter_map(|node| node.next.as_deref())
            .any(|next| reaches(next, rest, wanted))
}

fn walk<S>(level: &Level<S>, visit: &mut impl FnMut(&S)) {
    for node in level.literal.values().chain(level.any.as_deref()).chain(level.rest.as_deref()) {
        node.plain.iter().for_each(&mut *visit);
        node.queues.iter().flat_map(|(_, members)| members).for_each(&mut *visit);
        if let Some(next) = &node.next {
            walk(next, visit);
        }
    }
}

/// Removes below `level` and prunes what became empty on the way back.
fn remove_from<'a, S: PartialEq>(
    level: &mut Level<S>,
    path: &mut std::iter::Peekable<impl Iterator<Item = &'a [u8]>>,
    queue: Option<&[u8]>,
    sub: &S,
) -> bool {
    let Some(token) = path.next() else { return false };
    let is_last = path.peek().is_none();
    let node = if is_any(token) {
        level.any.as_deref_mut()
    } else if is_rest(token) {
        level.rest.as_deref_mut()
    } else {
        level.literal.get_mut(token)
    };
    let Some(node) = node else { return false };
    let removed = if is_last {
        remove_here(node, queue, sub)
    } else {
        let Some(next) = node.next.as_deref_mut() else { return false };
        let removed = remove_from(next, path, queue, sub);
        if next.is_empty() {
            node.next = None;
        }
        removed
    };
    if node.is_empty() {
        if is_any(token) {
            level.any = None;
        } else if is_rest(token) {
            level.rest = None;
        } else {
            level.literal.remove(token);
        }
    }
    removed
}

fn remove_here<S: PartialEq>(node: &mut Node<S>, queue: Option<&[u8]>, sub: &S) -> bool {
    let drop_from = |members: &mut Vec<S>| match members.iter().position(|s| s == sub) {
        Some(at) => {
            members.swap_remove(at);
            true
        }
        None => false,
    };
    match queue {
        None => drop_from(&mut node.plain),
        Some(name) => {
            let Some(at) = node.queues.iter().position(|(n, _)| **n == *name) else { return false };
            let removed = drop_from(&mut node.queues[at].1);
            if node.queues[at].1.is_empty() {
                node.queues.swap_remove(at);
            }
            removed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Interest;
    use crate::Matches;
    use proptest::prelude::*;

    #[test]
    fn groups_of_one_name_from_different_patterns_are_one_group() {
        let mut interest = Interest::default();
        interest.insert(b"a.*", Some(b"q"), 1);
        interest.insert(b"a.>", Some(b"q"), 2);
        interest.insert(b"a.b", Some(b"r"), 3);
        let mut out = Matches::default();
        interest.matches(b"a.b", &mut out);
        assert!(out.plain().is_empty());
        let mut groups: Vec<_> = out.queues().iter().map(|q| (q.name.clone(), q.members.len())).collect();
        groups.sort();
        assert_eq!(groups, [(b"q".to_vec(), 2), (b"r".to_vec(), 1)]);
    }

    #[test]
    fn removing_the_last_subscription_prunes_the_path() {
        let mut interest = Interest::default();
        interest.insert(b"a.b.c.*.>", None, 1);
        interest.insert(b"a.b", Some(b"q"), 2);
        assert!(!interest.remove(b"a.b.c", None, &1));
        assert!(interest.remove(b"a.b.c.*.>", None, &1));
        assert!(interest.remove(b"a.b", Some(b"q"), &2));
        assert!(!interest.remove(b"a.b", Some(b"q"), &2));
        assert!(interest.root.is_empty());
        assert_eq!(interest.stats().subscriptions, 0);
    }

    proptest! {
        #[test]
        fn trie_agrees_with_a_list(
            subs in proptest::collection::vec(("(a|b|\\*)(\\.(a|b|\\*)){0,3}(\\.>)?", 0..3_usize), 0..40),
            removed in proptest::collection::vec(any::<bool>(), 40),
            subject in "(a|b|c)(\\.(a|b|c)){0,4}",
        ) {
            let queue = |n: usize| [None, Some(b"x".as_slice()), Some(b"y".as_slice())][n];
            let mut interest = Interest::default();
            for (id, (pattern, q)) in subs.iter().enumerate() {
                interest.insert(pattern.as_bytes(), queue(*q), id);
            }
            let mut kept = Vec::new();
            for (id, (pattern, q)) in subs.iter().enumerate() {
                if removed[id] {
                    prop_assert!(interest.remove(pattern.as_bytes(), queue(*q), &id));
                } else if linnet_subject::matches(subject.as_bytes(), pattern.as_bytes()) {
                    kept.push(id);
                }
            }
            let mut out = Matches::default();
            interest.matches(subject.as_bytes(), &mut out);
            let mut found: Vec<usize> = out.plain().to_vec();
            out.queues().iter().for_each(|q| found.extend_from_slice(&q.members));
            found.sort_unstable();
            prop_assert_eq!(&found, &kept);
            prop_assert_eq!(interest.reaches(subject.as_bytes(), |_, _| true), !kept.is_empty());
        }
    }
}
