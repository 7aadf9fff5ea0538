//! What a glance at one channel shows: a value that never moves, a jump that returns, a silence.
//!
//! Every rule is a function of the station's recent history alone, so that a restarted gateway comes to the same findings.

use proto::{AlertKind, Channel, Quantity, Timestamp};
use serde::{Deserialize, Serialize};

use super::history::{Cell, History};

/// When alerts open and close.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RulesConfig {
    /// Windows in a row whose model score must reach the threshold before an anomaly is reported.
    pub anomaly_open_after: u32,
    /// Windows in a row whose score must stay under [`RulesConfig::anomaly_close_below`] before it is closed.
    pub anomaly_close_after: u32,
    /// Share of the threshold that counts as well again.
    pub anomaly_close_below: f64,
    /// Share of the stations whose score on one channel may have been raised within six hours; more, and at least three,
    /// are the weather; of one field's stations more than half are what the field was given.
    pub common_share: f64,
    /// Fewest windows without any movement that are called stuck; a channel that is often flat needs more.
    pub stuck_windows: u32,
    /// Windows without a channel, while its station reports, that are called a dropout.
    pub dropout_windows: u32,
    /// Windows without a new spike that close a spike.
    pub spike_close_after: u32,
    /// Reporting intervals without a sign of life that make a station silent.
    pub silent_reports: u32,
    /// Least silence that is reported, in seconds, however often the station reports.
    pub silent_min_s: u32,
}

impl Default for RulesConfig {
    fn default() -> Self {
        Self {
            anomaly_open_after: 8,
            anomaly_close_after: 16,
            anomaly_close_below: 0.7,
            common_share: 0.34,
            stuck_windows: 4,
            dropout_windows: 3,
            spike_close_after: 16,
            silent_reports: 4,
            silent_min_s: 2 * 3600,
        }
    }
}

/// What was seen, for the alert's sentence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Evidence {
    /// The same value since then.
    Stuck {
        /// The value.
        value: f64,
        /// Start of the first flat window.
        since: Timestamp,
    },
    /// A value far from those around it.
    Spike {
        /// The value.
        value: f64,
        /// What the channel showed before.
        usual: f64,
        /// Start of its window.
        since: Timestamp,
    },
    /// Nothing since then.
    Dropout {
        /// The last mean.
        last: Option<f64>,
        /// Start of the first window without it.
        since: Timestamp,
    },
    /// Nothing from the whole station since then.
    Silent {
        /// When it was last heard.
        since: Timestamp,
    },
    /// A value that the other channels do not explain.
    Anomaly {
        /// The mean of the newest window.
        value: Option<f64>,
        /// When the score first reached the threshold.
        since: Timestamp,
    },
}

impl Evidence {
    /// The alert's kind.
    pub const fn kind(&self) -> AlertKind {
        match self {
            Self::Stuck { .. } => AlertKind::Stuck,
            Self::Spike { .. } => AlertKind::Spike,
            Self::Dropout { .. } => AlertKind::Dropout,
            Self::Silent { .. } => AlertKind::Silent,
            Self::Anomaly { .. } => AlertKind::Anomaly,
        }
    }

    /// When the trouble began.
    pub const fn since(&self) -> Timestamp {
        match self {
            Self::Stuck { since, .. }
            | Self::Spike { since, .. }
            | Self::Dropout { since, .. }
            | Self::Silent { since }
            | Self::Anomaly { since, .. } => *since,
        }
    }

    /// The value to show beside the alert.
    pub const fn value(&self) -> Option<f64> {
        match self {
            Self::Stuck { value, .. } | Self::Spike { value, .. } => Some(*value),
            Self::Dropout { last, .. } => *last,
            Self::Silent { .. } => None,
            Self::Anomaly { value, .. } => *value,
        }
    }
}

/// Evidence, and how strong it is: in shares of what would just be reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// What was seen.
    pub evidence: Evidence,
    /// 1.0 is just enough.
    pub score: f64,
}

/// Odds against a flat run by chance that are enough to call it stuck: one in a million.
const STUCK_ODDS: f64 = 1e-6;

/// A channel that has not moved: every reading of every window the same.
///
/// How long is long depends on the channel. The share `p` of its windows that were flat before the run, by Laplace's rule
/// of succession, gives the length at which `p^n` falls below [`STUCK_ODDS`]; and a run must be twice the longest one
/// before it. Where standing still is nature (no rain, no wind, night, saturated air) the rule is silent.
pub fn stuck(history: &History, channel: Channel, end: Timestamp, rules: &RulesConfig) -> Option<Finding> {
    if channel.quantity == Quantity::Rain {
        return None;
    }
    let mut cells = history.backwards(end, channel).filter_map(|(start, cell)| Some((start, cell?))).peekable();
    let (mut since, newest) = *cells.peek()?;
    // A channel that is silent now is not stuck but gone.
    if end.millis_since(since) > history.length_ms()
        || !newest.is_flat()
        || rests_at_its_end(channel.quantity, newest.mean)
    {
        return None;
    }
    let mut run = 0u32;
    while let Some((start, _)) = cells.next_if(|(_, cell)| cell.is_flat() && cell.min.to_bits() == newest.min.to_bits())
    {
        since = start;
        run += 1;
    }
    let (mut windows, mut flat, mut longest, mut length) = (0u32, 0u32, 0u32, 0u32);
    let mut before: Option<Cell> = None;
    for (_, cell) in cells {
        let same = before.is_some_and(|b| b.min.to_bits() == cell.min.to_bits());
        windows += 1;
        flat += u32::from(cell.is_flat());
        length = if !cell.is_flat() {
            0
        } else if same {
            length + 1
        } else {
            1
        };
        longest = longest.max(length);
        before = Some(cell);
    }
    let p = f64::from(flat + 1) / f64::from(windows + 4);
    let by_chance = (STUCK_ODDS.ln() / p.ln()).ceil();
    let needed = by_chance.max(f64::from(rules.stuck_windows)).max(f64::from(2 * longest + 1));
    let score = f64::from(run) / needed;
    (score >= 1.0).then_some(Finding { evidence: Evidence::Stuck { value: f64::from(newest.mean), since }, score })
}

/// Whether a sensor of this quantity may rest at this value for hours: an end of its range where nature stands still, as calm,
/// night and saturated air do. Air without any humidity there is none.
fn rests_at_its_end(quantity: Quantity, value: f32) -> bool {
    let range = quantity.range();
    let (lowest, highest) = (value <= *range.start() as f32, value >= *range.end() as f32);
    match quantity {
        Quantity::WindSpeed | Quantity::SolarRadiation | Quantity::Nitrate => lowest,
        Quantity::RelativeHumidity => highest,
        Quantity::LeafWetness => lowest || highest,
        _ => false,
    }
}

/// A value far from those before and after it. Judged one window later, when it is known whether the channel returned: a
/// rise that stays is rain or irrigation.
///
/// It does not matter whether the filter rejected the value or let it pass.
pub fn spike(history: &History, channel: Channel, end: Timestamp) -> Option<Finding> {
    let suspect = end.plus_millis(-2 * history.length_ms());
    let mut cells = history.backwards(end, channel).peekable();
    let after = cells.next_if(|(start, _)| *start > suspect).and_then(|(_, cell)| cell);
    let (start, own) = cells.next_if(|(start, _)| *start == suspect)?;
    let before = cells.take(RETURN_WINDOWS).find_map(|(_, cell)| cell);
    let rejected = history.rejected(start, channel);
    let high = own.map(|c| c.max).into_iter().chain(rejected.map(|r| r.max)).reduce(f32::max)?;
    let low = own.map(|c| c.min).into_iter().chain(rejected.map(|r| r.min)).reduce(f32::min)?;
    let (before, after) = (before.or(own).or(after)?.mean, after.or(own).or(before)?.mean);
    let above = high - before.max(after);
    let below = before.min(after) - low;
    let (value, height) = if above >= below { (high, above) } else { (low, below) };
    let needed = match spike_height(channel.quantity) {
        Some(needed) => needed,
        // Where anything possible may be true for a minute, the impossible is still a spike.
        None if !channel.quantity.range().contains(&f64::from(value)) => f64::from(height).max(f64::MIN_POSITIVE),
        None => return None,
    };
    let score = f64::from(height) / needed;
    (score >= 1.0).then_some(Finding {
        evidence: Evidence::Spike { value: f64::from(value), usual: f64::from(before), since: start },
        score,
    })
}

/// How many windows back the level before a spike may lie.
const RETURN_WINDOWS: usize = 4;

/// How far a value must stand out from the windows around it, in the quantity's unit; none where nature itself jumps
/// (gusts, clouds, showers, fading).
const fn spike_height(quantity: Quantity) -> Option<f64> {
    match quantity {
        Quantity::SoilMoisture => Some(0.05),
        Quantity::SoilTemperature => Some(3.0),
        Quantity::SoilEc => Some(0.4),
        Quantity::Nitrate | Quantity::Phosphorus | Quantity::Potassium => Some(50.0),
        Quantity::AirTemperature => Some(6.0),
        Quantity::RelativeHumidity => Some(30.0),
        Quantity::Pressure => Some(8.0),
        Quantity::Battery => Some(0.25),
        Quantity::WindSpeed | Quantity::SolarRadiation | Quantity::Rain | Quantity::LeafWetness | Quantity::Rssi => {
            None
        }
    }
}

/// Of the windows before a gap, how many must have the channel for its absence to mean something.
const REGULAR: (usize, usize) = (6, 8);

/// A channel that used to be there and is not, while its station reports. `open` says that this was already found, for a
/// gap that is longer than the history.
pub fn dropout(
    history: &History,
    channel: Channel,
    end: Timestamp,
    open: Option<Evidence>,
    rules: &RulesConfig,
) -> Option<Finding> {
    let mut since = end;
    let mut gap = 0u32;
    let mut cells = history.backwards(end, channel).peekable();
    while let Some((start, _)) =
        cells.next_if(|(start, cell)| cell.is_none() && history.rejected(*start, channel).is_none())
    {
        since = start;
        gap += 1;
    }
    let last = cells.peek().and_then(|(_, cell)| cell.map(|c| f64::from(c.mean)));
    if gap == 0 {
        return None;
    }
    let score = f64::from(gap) / f64::from(rules.dropout_windows.max(1));
    let evidence = match open {
        Some(Evidence::Dropout { last: known, since: first }) => {
            Evidence::Dropout { last: known.or(last), since: first.min(since) }
        }
        _ => {
            let (present, of) = REGULAR;
            if score < 1.0 || cells.take(of).filter(|(_, cell)| cell.is_some()).count() < present {
                return None;
            }
            Evidence::Dropout { last, since }
        }
    };
    Some(Finding { evidence, score: score.max(1.0) })
}
