//! Times and durations in JSON: durations are integer nanoseconds, times RFC 3339 text in UTC, and an unset time is
//! the text of year 1.

use std::fmt;
use std::time::Duration;

use linnet_ids::Wall;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A duration as configurations hold it: signed, because a negative value must survive until a rule refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename = "time.Duration")]
pub struct Nanos(pub i64);

impl Nanos {
    /// No time at all; in most fields it means "unset".
    pub const ZERO: Self = Self(0);

    /// Whole milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Whole seconds.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Whether it is zero.
    pub const fn is_zero(&self) -> bool {
        self.0 == 0
    }

    /// As a std duration; negative values become zero.
    pub fn to_duration(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl From<Duration> for Nanos {
    fn from(d: Duration) -> Self {
        Self(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Nanos {
    /// Go's duration text, which error messages quote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::go_duration::format(*self))
    }
}

/// `#[serde(with = "time::always")]`: a time that is always known.
pub(crate) mod always {
    use super::{Deserializer, Serializer, Wall, parse_text};

    pub(crate) fn serialize<S: Serializer>(time: &Wall, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&time.rfc3339())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Wall, D::Error> {
        parse_text(d).map(Option::unwrap_or_default)
    }
}

/// `#[serde(with = "time::or_zero")]`: an optional time; unset is the zero text. Fields that are omitted when unset
/// add `skip_serializing_if = "Option::is_none"`.
pub(crate) mod or_zero {
    use super::{Deserializer, Serializer, Wall, parse_text};

    pub(crate) fn serialize<S: Serializer>(time: &Option<Wall>, s: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => s.serialize_str(&time.rfc3339()),
            None => s.serialize_str(Wall::ZERO_TEXT),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Wall>, D::Error> {
        parse_text(d)
    }
}

fn parse_text<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Wall>, D::Error> {
    struct TimeVisitor;

    impl Visitor<'_> for TimeVisitor {
        type Value = Option<Wall>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an RFC 3339 time")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            if text == Wall::ZERO_TEXT {
                return Ok(None);
            }
            Wall::parse_rfc3339(text).map(Some).ok_or_else(|| {
                E::custom(format_args!(
                    "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""
                ))
            })
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }

    d.deserialize_str(TimeVisitor)
}

#[cfg(test)]
mod tests {
    use super::{Wall, or_zero};

    #[derive(serde::Deserialize)]
    struct Until(#[serde(with = "or_zero")] Option<Wall>);

    fn read(json: &str) -> Result<Option<Wall>, String> {
        serde_json::from_str::<Until>(json).map(|until| until.0).map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_zero_time_is_no_time() {
        assert_eq!(read(&format!("{:?}", Wall::ZERO_TEXT)), Ok(None));
        assert_eq!(read(r#""1970-01-01T00:00:00Z""#), Ok(Some(Wall(0))));
        for text in ["", "soon", "1970-01-01 00:00:00Z"] {
            assert!(read(&format!("{text:?}")).unwrap_err().starts_with("parsing time"), "{text}");
        }
    }
}
