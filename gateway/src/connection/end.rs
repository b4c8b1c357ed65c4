//! The reasons for which streams end.

use super::line::Gone;

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Client,
    Drain,
    Complete,
    Overflow,
    WriteTimeout,
    Lifetime,
    /// A back end asked for it.
    Control,
    /// The pod has more than its share.
    Rebalance,
}

impl End {
    pub const ALL: [Self; 8] = [
        Self::Client,
        Self::Drain,
        Self::Complete,
        Self::Overflow,
        Self::WriteTimeout,
        Self::Lifetime,
        Self::Control,
        Self::Rebalance,
    ];

    /// The reason in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Drain => "drain",
            Self::Complete => "complete",
            Self::Overflow => "overflow",
            Self::WriteTimeout => "write_timeout",
            Self::Lifetime => "lifetime",
            Self::Control => "control",
            Self::Rebalance => "rebalance",
        }
    }
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Client
    }
}
