//! The subscriptions of a stream and its consumers.

use std::collections::HashMap;
use std::sync::Arc;

use linnet_assets::{Link, Stream};
use linnet_broker::{Account, InterestSink as _, InterestWatch, InternalSubscription};
use linnet_replication::StreamGroup;

use crate::inbox::{InboxSink, LetterKind, ListenerSink, StreamInbox};

/// Subscriptions that follow what a stream and its consumers are. Dropping them unsubscribes.
#[derive(Default)]
pub(crate) struct ConsumerServices {
    domain: String,
    is_internal: bool,
    stream: HashMap<String, InternalSubscription>,
    consumers: HashMap<String, Vec<InternalSubscription>>,
    /// For push consumers, whose receivers may come later than they.
    listeners: HashMap<String, InterestWatch>,
    /// For what origins send.
    origins: HashMap<Link, [InternalSubscription; 2]>,
    /// A follower's: whether it may answer, and the revision of the configuration that it answers by.
    followed: Option<(bool, u64)>,
}

impl ConsumerServices {
    /// Services of a stream of the given domain (empty for none).
    pub(crate) fn new(domain: &str) -> Self {
        Self { domain: domain.to_owned(), ..Self::default() }
    }

    /// A stream of the server itself, which nobody reaches by subject.
    pub(crate) fn internal() -> Self {
        Self { is_internal: true, ..Self::default() }
    }

    /// Subscribes for the stream and all its consumers, and follows a change of the stream's configuration.
    pub(crate) fn sync(&mut self, group: &StreamGroup, account: &Arc<Account>, inbox: &Arc<StreamInbox>) {
        if self.is_internal {
            return;
        }
        let stream = group.stream();
        if !stream.is_leading() {
            self.follow(group, account, inbox);
            return;
        }
        self.followed = None;
        let config = stream.config();
        let name = &config.name;
        let mut wanted: Vec<(String, LetterKind)> =
            config.subjects.iter().map(|s| (s.clone(), LetterKind::Publish)).collect();
        if let Some(domain) = self.domain_prefix() {
            let buckets = config.subjects.iter().filter(|s| s.starts_with("$KV.") || s.starts_with("$OBJ."));
            wanted.extend(buckets.map(|s| (format!("{domain}.{s}"), LetterKind::Publish)));
        }
        wanted.push((format!("$JS.ACK.{name}.>"), LetterKind::Ack));
        wanted.push((format!("$JS.ACK.*.*.{name}.>"), LetterKind::Ack));
        wanted.push((format!("$JS.FC.{name}.>"), LetterKind::FlowAnswer));
        let direct = config.allow_direct.then_some(name.as_str()).into_iter().chain(stream.answers_for());
        for name in direct {
            wanted.extend(self.direct_subjects(name).map(|subject| (subject, LetterKind::DirectGet)));
        }
        self.stream.retain(|subject, _| wanted.iter().any(|(s, _)| s == subject));
        let domain = self.domain_prefix();
        for (subject, kind) in wanted {
            let prefix =
                domain.as_ref().filter(|prefix| kind == LetterKind::Publish && subject.starts_with(*prefix));
            let cut = prefix.map_or(0, |prefix| prefix.len() + 1);
            self.stream
                .entry(subject)
                .or_insert_with_key(|subject| subscribe(account, inbox, subject, kind, cut));
        }
        for consumer in stream.consumer_names() {
            self.add_consumer(stream, &consumer, account, inbox);
        }
    }

    /// Another replica leads: this one is asked for single messages and nothing else, and only while it has everything
    /// that it knows to be committed.
    fn follow(&mut self, group: &StreamGroup, account: &Arc<Account>, inbox: &Arc<StreamInbox>) {
        self.consumers.clear();
        self.listeners.clear();
        self.origins.clear();
        let config = group.stream().config();
        let may_answer = group.may_answer();
        self.followed = Some((may_answer, group.stream().revision()));
        let name = (may_answer && config.allow_direct).then_some(&config.name);
        let wanted: Vec<String> =
            name.into_iter().flat_map(|name| self.direct_subjects(name).collect::<Vec<_>>()).collect();
        self.stream.retain(|subject, _| wanted.contains(subject));
        for subject in wanted {
            self.stream
                .entry(subject)
                .or_insert_with_key(|subject| subscribe(account, inbox, subject, LetterKind::DirectGet, 0));
        }
    }

    /// After a turn: a follower may have caught up or fallen behind, or have another configuration.
    pub(crate) fn keep_up(&mut self, group: &StreamGroup, account: &Arc<Account>, inbox: &Arc<StreamInbox>) {
        let stream = group.stream();
        if !stream.is_leading() && self.followed != Some((group.may_answer(), stream.revision())) {
            self.sync(group, account, inbox);
        }
    }

    fn direct_subjects(&self, stream: &str) -> impl Iterator<Item = String> + use<> {
        let subject =
            |api: String| [format!("{api}.DIRECT.GET.{stream}"), format!("{api}.DIRECT.GET.{stream}.>")];
        let subjects: Vec<String> = self.api_prefixes().into_iter().flat_map(subject).collect();
        subjects.into_iter()
    }

    /// A consumer came into being or changed.
    pub(crate) fn add_consumer(
        &mut self,
        stream: &Stream,
        consumer: &str,
        account: &Arc<Account>,
        inbox: &Arc<StreamInbox>,
    ) {
        if self.is_internal {
            return;
        }
        self.watch_listeners(stream.deliver_subject(consumer), consumer, account, inbox);
        if self.consumers.contains_key(consumer) {
            return;
        }
        let stream = &stream.config().name;
        let requests = self.api_prefixes().into_iter().map(|api| {
            let subject = format!("{api}.CONSUMER.MSG.NEXT.{stream}.{consumer}");
            subscribe(account, inbox, &subject, LetterKind::NextRequest, 0)
        });
        self.consumers.insert(consumer.to_owned(), requests.collect());
    }

    /// Has the stream told of those who begin to listen to what the consumer delivers.
    fn watch_listeners(
        &mut self,
        deliver_subject: Option<&str>,
        consumer: &str,
        account: &Arc<Account>,
        inbox: &Arc<StreamInbox>,
    ) {
        let Some(subject) = deliver_subject.map(str::as_bytes) else { return };
        if self.listeners.get(consumer).is_some_and(|watch| watch.subject() == subject) {
            return;
        }
        let sink = Arc::new(ListenerSink { inbox: inbox.clone(), consumer: consumer.to_owned() });
        self.listeners.insert(consumer.to_owned(), account.watch_interest(subject, sink.clone()));
        // Somebody may have come since the consumer last looked.
        if account.has_interest(subject) {
            sink.appeared();
        }
    }

    /// The stream listens to an origin.
    pub(crate) fn add_origin(&mut self, link: Link, subscriptions: [InternalSubscription; 2]) {
        self.origins.insert(link, subscriptions);
    }

    /// The stream does not listen any more.
    pub(crate) fn remove_origin(&mut self, link: Link) {
        self.origins.remove(&link);
    }

    /// A consumer is gone.
    pub(crate) fn remove_consumer(&mut self, consumer: &str) {
        self.consumers.remove(consumer);
        self.listeners.remove(consumer);
    }

    fn api_prefixes(&self) -> Vec<String> {
        ["$JS.API".to_owned()].into_iter().chain(self.domain_prefix()).collect()
    }

    /// Where the API of the domain is, through which clients that name the domain publish to buckets, too.
    fn domain_prefix(&self) -> Option<String> {
        (!self.domain.is_empty()).then(|| format!("$JS.{}.API", self.domain))
    }
}

/// Of the subjects of what comes, the first `cut` bytes are left out.
fn subscribe(
    account: &Arc<Account>,
    inbox: &Arc<StreamInbox>,
    subject: &str,
    kind: LetterKind,
    cut: usize,
) -> InternalSubscription {
    // One of the stream and its mirrors answers.
    let queue: Option<&[u8]> = (kind == LetterKind::DirectGet).then_some(b"_sys_");
    account.subscribe(subject.as_bytes(), queue, Arc::new(InboxSink { inbox: inbox.clone(), kind, cut }))
}
