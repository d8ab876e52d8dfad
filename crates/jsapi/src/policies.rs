//! The enumerations of stream and consumer configurations. The first variant of each is the default, and the text in
//! JSON is exact (only `discard` ignores case).

use serde::{Deserialize, Serialize};

macro_rules! policies {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal $(| $alias:literal)?,)+ })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
            pub enum $name {
                $($(#[$vdoc])* #[serde(rename = $text $(, alias = $alias)?)] $variant,)+
            }

            impl $name {
                /// Every value, the default first.
                pub const ALL: &[Self] = &[$(Self::$variant),+];

                /// The text in JSON.
                pub const fn as_str(self) -> &'static str {
                    match self { $(Self::$variant => $text),+ }
                }
            }

            impl Default for $name {
                fn default() -> Self {
                    Self::ALL[0]
                }
            }

            impl std::fmt::Display for $name {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str(self.as_str())
                }
            }
        )+
    };
}

policies! {
    /// When messages of a stream are removed.
    RetentionPolicy {
        /// By limits only.
        Limits = "limits",
        /// When every interested consumer has acknowledged.
        Interest = "interest",
        /// On the first acknowledgement.
        WorkQueue = "workqueue",
    }
    /// What happens to a publish when a limit is reached.
    DiscardPolicy {
        /// The oldest messages go.
        Old = "old",
        /// The publish is refused.
        New = "new",
    }
    /// Where messages are kept.
    StorageType {
        /// On disk.
        File = "file",
        /// In memory.
        Memory = "memory",
    }
    /// How blocks on disk are compressed.
    Compression {
        /// Not at all.
        None = "none",
        /// With S2.
        S2 = "s2",
    }
    /// When a publish is acknowledged relative to the disk.
    PersistMode {
        /// After the data is safe.
        Default = "default" | "",
        /// Possibly before.
        Async = "async",
    }
    /// Where a consumer starts.
    DeliverPolicy {
        /// At the first message.
        All = "all" | "undefined",
        /// At the newest message.
        Last = "last",
        /// After the newest message.
        New = "new",
        /// At `opt_start_seq`.
        ByStartSequence = "by_start_sequence",
        /// At `opt_start_time`.
        ByStartTime = "by_start_time",
        /// At the newest message of every matching subject.
        LastPerSubject = "last_per_subject",
    }
    /// What an acknowledgement covers.
    AckPolicy {
        /// Nothing: messages count as acknowledged on delivery.
        None = "none",
        /// Everything up to the message.
        All = "all",
        /// The one message.
        Explicit = "explicit",
        /// What flow control answers say was stored.
        FlowControl = "flow_control",
    }
    /// How fast stored messages are delivered.
    ReplayPolicy {
        /// At once.
        Instant = "instant",
        /// With the time between them that they were stored with.
        Original = "original",
    }
    /// How pull requests of a priority group are chosen.
    PriorityPolicy {
        /// No groups.
        None = "none",
        /// Requests wait until the consumer lags.
        Overflow = "overflow",
        /// One client at a time.
        PinnedClient = "pinned_client",
        /// By the number in the request.
        Prioritized = "prioritized",
    }
    /// What a consumer create request may do.
    ConsumerAction {
        /// Create or update.
        CreateOrUpdate = "",
        /// Create only; an equal existing consumer is fine.
        Create = "create",
        /// Update only.
        Update = "update",
    }
}

impl PersistMode {
    /// Whether it is left out of JSON.
    pub fn is_default(&self) -> bool {
        *self == Self::Default
    }
}

impl PriorityPolicy {
    /// Whether it is left out of JSON.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl ConsumerAction {
    /// Whether it is left out of JSON.
    pub fn is_default(&self) -> bool {
        *self == Self::CreateOrUpdate
    }
}
