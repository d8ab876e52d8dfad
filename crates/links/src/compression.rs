use std::time::Duration;

use thiserror::Error;

/// How a link is configured to compress (cluster protocols, "Compression").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The server knows nothing of compression.
    NotSupported,
    /// Never.
    Off,
    /// If the other side wants it.
    Accept,
    /// At this level.
    At(Level),
    /// At a level that follows the round-trip time.
    Auto,
}

/// How much work compression is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// None: frames without compression.
    Uncompressed,
    /// Little.
    Fast,
    /// More.
    Better,
    /// Most.
    Best,
}

/// Round-trip times up to which `s2_uncompressed`, `s2_fast`, `s2_better` and `s2_best` are used, at most four. Zero leaves
/// a level out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds(pub Vec<Duration>);

impl Default for Thresholds {
    fn default() -> Self {
        Self([10, 50, 100].map(Duration::from_millis).to_vec())
    }
}

/// A mode that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unsupported route compression mode {0:?}")]
pub struct UnknownMode(pub String);

impl Mode {
    /// The mode that an INFO names. Empty means that the server knows none.
    ///
    /// # Errors
    /// There is no such mode.
    pub fn parse(text: &str) -> Result<Self, UnknownMode> {
        Ok(match text {
            "" | "not supported" => Self::NotSupported,
            "off" => Self::Off,
            "accept" => Self::Accept,
            "s2_uncompressed" => Self::At(Level::Uncompressed),
            "s2_fast" => Self::At(Level::Fast),
            "s2_better" => Self::At(Level::Better),
            "s2_best" => Self::At(Level::Best),
            "s2_auto" => Self::Auto,
            other => return Err(UnknownMode(other.to_owned())),
        })
    }

    /// As an INFO names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSupported => "not supported",
            Self::Off => "off",
            Self::Accept => "accept",
            Self::Auto => "s2_auto",
            Self::At(level) => level.as_str(),
        }
    }

    /// What to send with towards a server of this mode: [`Mode::Off`], [`Mode::Auto`] or a level. Both sides come to
    /// the same conclusion whether to compress.
    #[must_use]
    pub fn negotiate(self, theirs: Self) -> Self {
        match (self, theirs) {
            (Self::NotSupported | Self::Off, _) | (_, Self::NotSupported | Self::Off) => Self::Off,
            (Self::Accept, Self::Accept) => Self::Off,
            (Self::Accept, Self::Auto) => Self::At(Level::Fast),
            (Self::Accept, level) => level,
            (own, _) => own,
        }
    }

    /// True if frames are sent.
    pub fn is_on(self) -> bool {
        matches!(self, Self::At(_) | Self::Auto)
    }
}

impl Level {
    /// As an INFO names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uncompressed => "s2_uncompressed",
            Self::Fast => "s2_fast",
            Self::Better => "s2_better",
            Self::Best => "s2_best",
        }
    }
}

impl Thresholds {
    /// The level for a round-trip time. What takes longer than all of them is compressed as well as possible, unless there
    /// are so few that the last of them names another level.
    pub fn level(&self, rtt: Duration) -> Level {
        const LEVELS: [Level; 4] = [Level::Uncompressed, Level::Fast, Level::Better, Level::Best];
        let found = self.0.iter().position(|up_to| !up_to.is_zero() && rtt <= *up_to);
        let beyond =
            if self.0.len() < LEVELS.len() - 1 { self.0.len().saturating_sub(1) } else { LEVELS.len() - 1 };
        LEVELS.get(found.unwrap_or(beyond)).copied().unwrap_or(Level::Best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: [&str; 8] =
        ["not supported", "off", "accept", "s2_uncompressed", "s2_fast", "s2_better", "s2_best", "s2_auto"];

    #[test]
    fn both_sides_come_to_the_same_conclusion() {
        for own in MODES {
            for theirs in MODES {
                let (own, theirs) = (Mode::parse(own).unwrap(), Mode::parse(theirs).unwrap());
                assert_eq!(
                    own.negotiate(theirs).is_on(),
                    theirs.negotiate(own).is_on(),
                    "{own:?} {theirs:?}"
                );
            }
        }
    }

    #[test]
    fn the_table_of_modes() {
        let rows = [
            ("accept", "accept", "off"),
            ("accept", "s2_auto", "s2_fast"),
            ("accept", "s2_best", "s2_best"),
            ("accept", "", "off"),
            ("s2_fast", "accept", "s2_fast"),
            ("s2_fast", "s2_best", "s2_fast"),
            ("s2_auto", "s2_best", "s2_auto"),
            ("s2_fast", "off", "off"),
            ("off", "s2_fast", "off"),
        ];
        for (own, theirs, outcome) in rows {
            let negotiated = Mode::parse(own).unwrap().negotiate(Mode::parse(theirs).unwrap());
            assert_eq!(negotiated.as_str(), outcome, "{own} {theirs}");
        }
        assert_eq!(Mode::parse("x").unwrap_err().to_string(), "unsupported route compression mode \"x\"");
        assert!(MODES.iter().all(|text| Mode::parse(text).unwrap().as_str() == *text));
    }

    #[test]
    fn levels_follow_the_round_trip_time() {
        let default = Thresholds::default();
        let rows = [
            (1, Level::Uncompressed),
            (10, Level::Uncompressed),
            (11, Level::Fast),
            (100, Level::Better),
            (101, Level::Best),
        ];
        for (ms, level) in rows {
            assert_eq!(default.level(Duration::from_millis(ms)), level, "{ms} ms");
        }
        let level = |thresholds: &[u64], rtt| {
            Thresholds(thresholds.iter().copied().map(Duration::from_millis).collect())
                .level(Duration::from_millis(rtt))
        };
        assert_eq!(level(&[0, 50, 100], 1), Level::Fast);
        assert_eq!(level(&[10], 5000), Level::Uncompressed, "the only level there is");
        assert_eq!(level(&[10, 20], 5000), Level::Fast);
        assert_eq!(level(&[0, 0, 0, 10], 1), Level::Best);
    }
}
