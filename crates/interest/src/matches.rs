/// The subscriptions that a subject reaches. Reused between look-ups: clearing keeps the memory.
#[derive(Debug)]
pub struct Matches<S> {
    plain: Vec<S>,
    queues: Vec<QueueMatch<S>>,
    queues_used: usize,
}

/// The members of one queue group that a subject reaches. Groups of one name from different patterns are one
/// group.
#[derive(Debug)]
pub struct QueueMatch<S> {
    /// Name of the group.
    pub name: Vec<u8>,
    /// Members.
    pub members: Vec<S>,
}

impl<S> Default for Matches<S> {
    fn default() -> Self {
        Self { plain: Vec::new(), queues: Vec::new(), queues_used: 0 }
    }
}

impl<S> Matches<S> {
    /// Every subscription without a queue group.
    pub fn plain(&self) -> &[S] {
        &self.plain
    }

    /// The queue groups, each to be served once.
    pub fn queues(&self) -> &[QueueMatch<S>] {
        &self.queues[..self.queues_used]
    }

    /// True if nobody is reached.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.queues_used == 0
    }

    /// Forgets all matches.
    pub fn clear(&mut self) {
        self.plain.clear();
        for queue in &mut self.queues[..self.queues_used] {
            queue.members.clear();
        }
        self.queues_used = 0;
    }

    /// Keeps only the subscriptions for which `keep` holds, in queue groups too; groups may become empty.
    pub fn retain(&mut self, mut keep: impl FnMut(&S) -> bool) {
        self.plain.retain(&mut keep);
        for queue in &mut self.queues[..self.queues_used] {
            queue.members.retain(&mut keep);
        }
    }

    /// Calls `change` with the members of every queue group.
    pub fn for_each_queue(&mut self, mut change: impl FnMut(&mut Vec<S>)) {
        for queue in &mut self.queues[..self.queues_used] {
            change(&mut queue.members);
        }
    }

    pub(crate) fn add_plain(&mut self, subs: &[S])
    where
        S: Clone,
    {
        self.plain.extend_from_slice(subs);
    }

    pub(crate) fn add_queue(&mut self, name: &[u8], members: &[S])
    where
        S: Clone,
    {
        if let Some(known) = self.queues[..self.queues_used].iter_mut().find(|q| q.name == name) {
            known.members.extend_from_slice(members);
            return;
        }
        if self.queues_used == self.queues.len() {
            self.queues.push(QueueMatch { name: Vec::new(), members: Vec::new() });
        }
        let queue = &mut self.queues[self.queues_used];
        self.queues_used += 1;
        queue.name.clear();
        queue.name.extend_from_slice(name);
        queue.members.extend_from_slice(members);
    }
}
