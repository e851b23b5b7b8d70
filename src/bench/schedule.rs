//! What is asked of a race: how long it is, in which order, and how long a start may take.

use std::time::Duration;

/// How long a race is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many rounds.
    Rounds(u32),
    /// Until the time is over, in whole rounds.
    Time(Duration),
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// When it ends.
    pub length: Length,
    /// Rounds before it that do not count.
    pub warmup: u32,
    /// Decides the order.
    pub seed: u64,
    /// How long a single start may take.
    pub limit: Duration,
    /// Whether there are rounds with an empty page cache after the others.
    pub cold: bool,
}
