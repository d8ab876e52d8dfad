/// What API subjects start with once the domain is taken out.
pub const API_PREFIX: &str = "$JS.API.";

/// A call of the JetStream API, as its subject says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiRequest<'a> {
    /// `INFO`
    AccountInfo,
    /// `STREAM.CREATE.<stream>`
    StreamCreate {
        /// Name of the stream.
        stream: &'a str,
    },
    /// `STREAM.UPDATE.<stream>`
    StreamUpdate {
        /// Name of the stream.
        stream: &'a str,
    },
    /// `STREAM.NAMES`
    StreamNames,
    /// `STREAM.LIST`
    StreamList,
    /// `STREAM.INFO.<stream>`
    StreamInfo {
        /// Name of the stream.
        stream: &'a str,
    },
    /// `STREAM.DELETE.<stream>`
    StreamDelete {
        /// Name of the stream.
        stream: &'a str,
    },
    /// `STREAM.PURGE.<stream>`
    StreamPurge {
        /// Name of the stream.
        stream: &'a str,
    },
    /// `STREAM.MSG.GET.<stream>`
    MsgGet {
        /// Name of the stream.
        stream: &'a str,
    },
    /// `STREAM.MSG.DELETE.<stream>`
    MsgDelete {
        /// Name of the stream.
        stream: &'a str,
    },
    /// `STREAM.SNAPSHOT.<stream>`
    StreamSnapshot {
        /// Name of the stream.
        stream: &'a str,
    },
    /// `STREAM.RESTORE.<stream>`
    StreamRestore {
        /// Name of the stream.
        stream: &'a str,
    },
    /// `STREAM.PEER.REMOVE.<stream>`
    StreamPeerRemove {
        /// Name of the stream.
        stream: &'a str,
    },
    /// `STREAM.PEER.EVACUATE.<stream>`
    StreamPeerEvacuate {
        /// Name of the stream.
        stream: &'a str,
    },
    /// `STREAM.CANCEL_MOVE.<stream>`
    StreamCancelMove {
        /// Name of the stream.
        stream: &'a str,
    },
    /// `STREAM.LEADER.STEPDOWN.<stream>`
    StreamLeaderStepdown {
        /// Name of the stream.
        stream: &'a str,
    },
    /// `CONSUMER.CREATE.<stream>[.<consumer>[.<filter>]]`
    ConsumerCreate {
        /// Name of the stream.
        stream: &'a str,
        /// Name of the consumer, in the longer forms.
        consumer: Option<&'a str>,
        /// The filter subject, in the longest form.
        filter: Option<&'a str>,
    },
    /// `CONSUMER.DURABLE.CREATE.<stream>.<consumer>`
    ConsumerDurableCreate {
        /// Name of the stream.
        stream: &'a str,
        /// Name of the consumer.
        consumer: &'a str,
    },
    /// `CONSUMER.NAMES.<stream>`
    ConsumerNames {
        /// Name of the stream.
        stream: &'a str,
    },
    /// `CONSUMER.LIST.<stream>`
    ConsumerList {
        /// Name of the stream.
        stream: &'a str,
    },
    /// `CONSUMER.INFO.<stream>.<consumer>`
    ConsumerInfo {
        /// Name of the stream.
        stream: &'a str,
        /// Name of the consumer.
        consumer: &'a str,
    },
    /// `CONSUMER.DELETE.<stream>.<consumer>`
    ConsumerDelete {
        /// Name of the stream.
        stream: &'a str,
        /// Name of the consumer.
        consumer: &'a str,
    },
    /// `CONSUMER.PAUSE.<stream>.<consumer>`
    ConsumerPause {
        /// Name of the stream.
        stream: &'a str,
        /// Name of the consumer.
        consumer: &'a str,
    },
    /// `CONSUMER.UNPIN.<stream>.<consumer>`
    ConsumerUnpin {
        /// Name of the stream.
        stream: &'a str,
        /// Name of the consumer.
        consumer: &'a str,
    },
    /// `CONSUMER.RESET.<stream>.<consumer>`
    ConsumerReset {
        /// Name of the stream.
        stream: &'a str,
        /// Name of the consumer.
        consumer: &'a str,
    },
    /// `CONSUMER.MSG.NEXT.<stream>.<consumer>`
    MsgNext {
        /// Name of the stream.
        stream: &'a str,
        /// Name of the consumer.
        consumer: &'a str,
    },
    /// `CONSUMER.LEADER.STEPDOWN.<stream>.<consumer>`
    ConsumerLeaderStepdown {
        /// Name of the stream.
        stream: &'a str,
        /// Name of the consumer.
        consumer: &'a str,
    },
    /// `CONSUMER.PEER.REMOVE.<stream>.<consumer>`
    ConsumerPeerRemove {
        /// Name of the stream.
        stream: &'a str,
        /// Name of the consumer.
        consumer: &'a str,
    },
    /// `CONSUMER.PEER.EVACUATE.<stream>.<consumer>`
    ConsumerPeerEvacuate {
        /// Name of the stream.
        stream: &'a str,
        /// Name of the consumer.
        consumer: &'a str,
    },
    /// `DIRECT.GET.<stream>[.<subject>]`
    DirectGet {
        /// Name of the stream.
        stream: &'a str,
        /// The subject whose last message is wanted, in the longer form.
        subject: Option<&'a str>,
    },
    /// `META.LEADER.STEPDOWN`
    MetaLeaderStepdown,
    /// `META.RESCUE`
    MetaRescue,
    /// `SERVER.REMOVE`
    ServerRemove,
    /// `SERVER.EVACUATE`
    ServerEvacuate,
    /// `ACCOUNT.PURGE.<account>`
    AccountPurge {
        /// Name of the account.
        account: &'a str,
    },
    /// `ACCOUNT.STREAM.MOVE.<account>.<stream>`
    AccountStreamMove {
        /// Name of the account.
        account: &'a str,
        /// Name of the stream.
        stream: &'a str,
    },
    /// `ACCOUNT.STREAM.CANCEL_MOVE.<account>.<stream>`
    AccountStreamCancelMove {
        /// Name of the account.
        account: &'a str,
        /// Name of the stream.
        stream: &'a str,
    },
    /// Anything else: no server answers it.
    Unknown,
}

impl<'a> ApiRequest<'a> {
    /// Reads a subject that starts with [`API_PREFIX`] (a domain has been taken out by [`strip_domain`]).
    pub fn parse(subject: &'a str) -> Self {
        let known = subject.strip_prefix(API_PREFIX).and_then(|rest| {
            let (area, rest) = split_token(rest);
            match area {
                "INFO" => rest.is_none().then_some(Self::AccountInfo),
                "STREAM" => Self::parse_stream(rest?),
                "CONSUMER" => Self::parse_consumer(rest?),
                "DIRECT" => Self::parse_direct(rest?),
                _ => Self::parse_system(area, rest?),
            }
        });
        known.unwrap_or(Self::Unknown)
    }

    fn parse_stream(rest: &'a str) -> Option<Self> {
        let (verb, rest) = split_token(rest);
        Some(match verb {
            "NAMES" if rest.is_none() => Self::StreamNames,
            "LIST" if rest.is_none() => Self::StreamList,
            "CREATE" => Self::StreamCreate { stream: one(rest?)? },
            "UPDATE" => Self::StreamUpdate { stream: one(rest?)? },
            "INFO" => Self::StreamInfo { stream: one(rest?)? },
            "DELETE" => Self::StreamDelete { stream: one(rest?)? },
            "PURGE" => Self::StreamPurge { stream: one(rest?)? },
            "SNAPSHOT" => Self::StreamSnapshot { stream: one(rest?)? },
            "RESTORE" => Self::StreamRestore { stream: one(rest?)? },
            "CANCEL_MOVE" => Self::StreamCancelMove { stream: one(rest?)? },
            "MSG" | "PEER" | "LEADER" => {
                let (action, stream) = two(rest?)?;
                match (verb, action) {
                    ("MSG", "GET") => Self::MsgGet { stream },
                    ("MSG", "DELETE") => Self::MsgDelete { stream },
                    ("PEER", "REMOVE") => Self::StreamPeerRemove { stream },
                    ("PEER", "EVACUATE") => Self::StreamPeerEvacuate { stream },
                    ("LEADER", "STEPDOWN") => Self::StreamLeaderStepdown { stream },
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    fn parse_consumer(rest: &'a str) -> Option<Self> {
        let (verb, rest) = split_token(rest);
        let rest = rest?;
        if verb == "CREATE" {
            return Self::parse_consumer_create(rest);
        }
        if let "NAMES" | "LIST" = verb {
            let stream = one(rest)?;
            return Some(match verb {
                "NAMES" => Self::ConsumerNames { stream },
                _ => Self::ConsumerList { stream },
            });
        }
        if let "DURABLE" | "MSG" | "LEADER" | "PEER" = verb {
            let (action, names) = split_token(rest);
            let (stream, consumer) = two(names?)?;
            return Some(match (verb, action) {
                ("DURABLE", "CREATE") => Self::ConsumerDurableCreate { stream, consumer },
                ("MSG", "NEXT") => Self::MsgNext { stream, consumer },
                ("LEADER", "STEPDOWN") => Self::ConsumerLeaderStepdown { stream, consumer },
                ("PEER", "REMOVE") => Self::ConsumerPeerRemove { stream, consumer },
                ("PEER", "EVACUATE") => Self::ConsumerPeerEvacuate { stream, consumer },
                _ => return None,
            });
        }
        let (stream, consumer) = two(rest)?;
        Some(match verb {
            "INFO" => Self::ConsumerInfo { stream, consumer },
            "DELETE" => Self::ConsumerDelete { stream, consumer },
            "PAUSE" => Self::ConsumerPause { stream, consumer },
            "UNPIN" => Self::ConsumerUnpin { stream, consumer },
            "RESET" => Self::ConsumerReset { stream, consumer },
            _ => return None,
        })
    }

    fn parse_consumer_create(rest: &'a str) -> Option<Self> {
        let (stream, rest) = split_token(rest);
        let (consumer, filter) = match rest.map(split_token) {
            None => (None, None),
            Some((consumer, filter)) => (Some(consumer), filter),
        };
        let no_empty_token = !stream.is_empty() && consumer != Some("") && filter != Some("");
        no_empty_token.then_some(Self::ConsumerCreate { stream, consumer, filter })
    }

    fn parse_direct(rest: &'a str) -> Option<Self> {
        let (stream, subject) = split_token(rest.strip_prefix("GET.")?);
        let no_empty_token = !stream.is_empty() && subject != Some("");
        no_empty_token.then_some(Self::DirectGet { stream, subject })
    }

    fn parse_system(area: &'a str, rest: &'a str) -> Option<Self> {
        Some(match (area, rest) {
            ("META", "LEADER.STEPDOWN") => Self::MetaLeaderStepdown,
            ("META", "RESCUE") => Self::MetaRescue,
            ("SERVER", "REMOVE") => Self::ServerRemove,
            ("SERVER", "EVACUATE") => Self::ServerEvacuate,
            ("ACCOUNT", _) => {
                if let Some(account) = rest.strip_prefix("PURGE.") {
                    Self::AccountPurge { account: one(account)? }
                } else if let Some(names) = rest.strip_prefix("STREAM.MOVE.") {
                    let (account, stream) = two(names)?;
                    Self::AccountStreamMove { account, stream }
                } else {
                    let (account, stream) = two(rest.strip_prefix("STREAM.CANCEL_MOVE.")?)?;
                    Self::AccountStreamCancelMove { account, stream }
                }
            }
            _ => return None,
        })
    }

    /// Whether it is one of the calls that only read, which wait in a queue of their own behind the others.
    pub fn is_info(&self) -> bool {
        matches!(
            self,
            Self::AccountInfo
                | Self::StreamNames
                | Self::StreamList
                | Self::StreamInfo { .. }
                | Self::ConsumerNames { .. }
                | Self::ConsumerList { .. }
                | Self::ConsumerInfo { .. }
        )
    }

    /// Whether only the system account may call it.
    pub fn is_system_only(&self) -> bool {
        matches!(
            self,
            Self::MetaLeaderStepdown
                | Self::MetaRescue
                | Self::ServerRemove
                | Self::ServerEvacuate
                | Self::AccountPurge { .. }
                | Self::AccountStreamMove { .. }
                | Self::AccountStreamCancelMove { .. }
        )
    }

    /// The stream it is about.
    pub fn stream(&self) -> Option<&'a str> {
        match *self {
            Self::StreamCreate { stream }
            | Self::StreamUpdate { stream }
            | Self::StreamInfo { stream }
            | Self::StreamDelete { stream }
            | Self::StreamPurge { stream }
            | Self::MsgGet { stream }
            | Self::MsgDelete { stream }
            | Self::StreamSnapshot { stream }
            | Self::StreamRestore { stream }
            | Self::StreamPeerRemove { stream }
            | Self::StreamPeerEvacuate { stream }
            | Self::StreamCancelMove { stream }
            | Self::StreamLeaderStepdown { stream }
            | Self::ConsumerCreate { stream, .. }
            | Self::ConsumerDurableCreate { stream, .. }
            | Self::ConsumerNames { stream }
            | Self::ConsumerList { stream }
            | Self::ConsumerInfo { stream, .. }
            | Self::ConsumerDelete { stream, .. }
            | Self::ConsumerPause { stream, .. }
            | Self::ConsumerUnpin { stream, .. }
            | Self::ConsumerReset { stream, .. }
            | Self::MsgNext { stream, .. }
            | Self::ConsumerLeaderStepdown { stream, .. }
            | Self::ConsumerPeerRemove { stream, .. }
            | Self::ConsumerPeerEvacuate { stream, .. }
            | Self::DirectGet { stream, .. }
            | Self::AccountStreamMove { stream, .. }
            | Self::AccountStreamCancelMove { stream, .. } => Some(stream),
            Self::AccountInfo
            | Self::StreamNames
            | Self::StreamList
            | Self::MetaLeaderStepdown
            | Self::MetaRescue
            | Self::ServerRemove
            | Self::ServerEvacuate
            | Self::AccountPurge { .. }
            | Self::Unknown => None,
        }
    }
}

/// The first token, and what follows its dot.
fn split_token(text: &str) -> (&str, Option<&str>) {
    match text.split_once('.') {
        Some((token, rest)) => (token, Some(rest)),
        None => (text, None),
    }
}

/// The only token.
fn one(text: &str) -> Option<&str> {
    (!text.is_empty() && !text.contains('.')).then_some(text)
}

/// The only two tokens.
fn two(text: &str) -> Option<(&str, &str)> {
    let (first, second) = text.split_once('.')?;
    (!first.is_empty()).then_some((first, one(second)?))
}

/// Splits `$JS.<domain>.API.X` into the domain and what `X` is reached as without it: `$JS.API.X`, except that keys
/// and objects (`$KV.…`, `$O.…`) are addressed directly. `None` if the subject has no domain or one that exports
/// nothing under that name.
pub fn strip_domain(subject: &str) -> Option<(&str, std::borrow::Cow<'_, str>)> {
    let (domain, rest) = subject.strip_prefix("$JS.")?.split_once('.')?;
    let suffix = rest.strip_prefix("API.")?;
    if domain == "API" || domain.is_empty() {
        return None;
    }
    if suffix.starts_with("$KV.") || suffix.starts_with("$OBJ.") {
        return Some((domain, suffix.into()));
    }
    let exported = ["STREAM.", "CONSUMER.", "DIRECT.", "META.", "SERVER.", "ACCOUNT."]
        .iter()
        .any(|p| suffix.starts_with(p));
    (exported || suffix == "INFO").then(|| (domain, format!("{API_PREFIX}{suffix}").into()))
}

#[cfg(test)]
mod tests {
    use super::ApiRequest::*;
    use super::*;

    #[test]
    fn every_call_is_known_by_its_subject() {
        let (stream, consumer, account) = ("S", "C", "A");
        for (subject, expected) in [
            ("INFO", AccountInfo),
            ("STREAM.CREATE.S", StreamCreate { stream }),
            ("STREAM.UPDATE.S", StreamUpdate { stream }),
            ("STREAM.NAMES", StreamNames),
            ("STREAM.LIST", StreamList),
            ("STREAM.INFO.S", StreamInfo { stream }),
            ("STREAM.DELETE.S", StreamDelete { stream }),
            ("STREAM.PURGE.S", StreamPurge { stream }),
            ("STREAM.MSG.GET.S", MsgGet { stream }),
            ("STREAM.MSG.DELETE.S", MsgDelete { stream }),
            ("STREAM.SNAPSHOT.S", StreamSnapshot { stream }),
            ("STREAM.RESTORE.S", StreamRestore { stream }),
            ("STREAM.PEER.REMOVE.S", StreamPeerRemove { stream }),
            ("STREAM.PEER.EVACUATE.S", StreamPeerEvacuate { stream }),
            ("STREAM.CANCEL_MOVE.S", StreamCancelMove { stream }),
            ("STREAM.LEADER.STEPDOWN.S", StreamLeaderStepdown { stream }),
            ("CONSUMER.CREATE.S", ConsumerCreate { stream, consumer: None, filter: None }),
            ("CONSUMER.CREATE.S.C", ConsumerCreate { stream, consumer: Some("C"), filter: None }),
            (
                "CONSUMER.CREATE.S.C.a.*.>",
                ConsumerCreate { stream, consumer: Some("C"), filter: Some("a.*.>") },
            ),
            ("CONSUMER.DURABLE.CREATE.S.C", ConsumerDurableCreate { stream, consumer }),
            ("CONSUMER.NAMES.S", ConsumerNames { stream }),
            ("CONSUMER.LIST.S", ConsumerList { stream }),
            ("CONSUMER.INFO.S.C", ConsumerInfo { stream, consumer }),
            ("CONSUMER.DELETE.S.C", ConsumerDelete { stream, consumer }),
            ("CONSUMER.PAUSE.S.C", ConsumerPause { stream, consumer }),
            ("CONSUMER.UNPIN.S.C", ConsumerUnpin { stream, consumer }),
            ("CONSUMER.RESET.S.C", ConsumerReset { stream, consumer }),
            ("CONSUMER.MSG.NEXT.S.C", MsgNext { stream, consumer }),
            ("CONSUMER.LEADER.STEPDOWN.S.C", ConsumerLeaderStepdown { stream, consumer }),
            ("CONSUMER.PEER.REMOVE.S.C", ConsumerPeerRemove { stream, consumer }),
            ("CONSUMER.PEER.EVACUATE.S.C", ConsumerPeerEvacuate { stream, consumer }),
            ("DIRECT.GET.S", DirectGet { stream, subject: None }),
            ("DIRECT.GET.S.$KV.b.k", DirectGet { stream, subject: Some("$KV.b.k") }),
            ("META.LEADER.STEPDOWN", MetaLeaderStepdown),
            ("META.RESCUE", MetaRescue),
            ("SERVER.REMOVE", ServerRemove),
            ("SERVER.EVACUATE", ServerEvacuate),
            ("ACCOUNT.PURGE.A", AccountPurge { account }),
            ("ACCOUNT.STREAM.MOVE.A.S", AccountStreamMove { account, stream }),
            ("ACCOUNT.STREAM.CANCEL_MOVE.A.S", AccountStreamCancelMove { account, stream }),
            ("STREAM.FOO.S", Unknown),
            ("STREAM.CREATE", Unknown),
            ("STREAM.CREATE.", Unknown),
            ("STREAM.CREATE.a.b", Unknown),
            ("STREAM.NAMES.x", Unknown),
            ("STREAM.MSG.GET", Unknown),
            ("CONSUMER.CREATE", Unknown),
            ("CONSUMER.CREATE.S.", Unknown),
            ("CONSUMER.CREATE.S.C.", Unknown),
            ("CONSUMER.INFO.S", Unknown),
            ("CONSUMER.INFO.S.C.D", Unknown),
            ("CONSUMER.MSG.NEXT.S", Unknown),
            ("DIRECT.GET", Unknown),
            ("INFO.x", Unknown),
            ("", Unknown),
        ] {
            let subject = format!("{API_PREFIX}{subject}");
            assert_eq!(ApiRequest::parse(&subject), expected, "{subject}");
        }
        assert_eq!(ApiRequest::parse("foo"), Unknown);
    }

    #[test]
    fn domains_are_taken_out() {
        let strip = |subject| strip_domain(subject).map(|(domain, rest)| (domain, rest.into_owned()));
        assert_eq!(strip("$JS.hub.API.STREAM.INFO.S"), Some(("hub", "$JS.API.STREAM.INFO.S".to_owned())));
        assert_eq!(strip("$JS.hub.API.INFO"), Some(("hub", "$JS.API.INFO".to_owned())));
        assert_eq!(strip("$JS.hub.API.$KV.b.k"), Some(("hub", "$KV.b.k".to_owned())));
        for other in
            ["$JS.API.INFO", "$JS.API.API.INFO", "$JS.hub.API.FOO", "$JS.hub.ACK.x", "$JS..API.INFO", "x"]
        {
            assert_eq!(strip(other), None, "{other}");
        }
    }
}
