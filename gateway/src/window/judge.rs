//! A channel's readings in a window: the verdict on each, and what they come to.

use std::collections::BTreeMap;

use proto::{Aggregate, Channel, RejectReason, Rejected, Stats, Timestamp};
use sha2::{Digest, Sha256};

use crate::filter::{HALF_WIDTH, Place};
use crate::validate::Limits;

/// Rejected readings of a window by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RejectCounts {
    /// Physically impossible.
    pub range: u32,
    /// There and back faster than is believed.
    pub rate: u32,
    /// An outlier among its neighbours.
    pub hampel: u32,
    /// The channel had a reading of this time already.
    pub duplicate: u32,
    /// The value had not moved for too long.
    pub stuck: u32,
}

/// The verdict on each reading with `start <= time < end`; none means accepted. `readings`, times and values, are in order,
/// and reach a context beyond the window on both sides; before it as far as [`Limits::look_back_ms`] says.
pub(super) fn judge(
    readings: impl Iterator<Item = (Timestamp, f64)>,
    limits: &Limits,
    context_ms: i64,
    start: Timestamp,
    end: Timestamp,
) -> Vec<(f64, Option<RejectReason>)> {
    let mut judged = Vec::with_capacity(16);
    // Of one time the first counts, and only possible values are neighbours. With each, its place in `judged` if it is
    // inside the window.
    let mut candidates: Vec<(i64, f64, Option<usize>)> = Vec::with_capacity(32);
    let mut last_time = None;
    // Of those after the window no more are looked at.
    let mut beyond = 0;
    for (time, value) in readings {
        if beyond == HALF_WIDTH {
            break;
        }
        let inside = start <= time && time < end;
        let verdict = if last_time.replace(time) == Some(time) {
            Some(RejectReason::Duplicate)
        } else if !limits.possible(value) {
            Some(RejectReason::Range)
        } else {
            None
        };
        if verdict.is_none() {
            candidates.push((time.as_millis(), value, inside.then_some(judged.len())));
            beyond += usize::from(time >= end);
        }
        if inside {
            judged.push((value, verdict));
        }
    }
    // Since when the value has been the same to the last bit, without a gap.
    let mut still_since: Option<(i64, i64, u64)> = None;
    let mut neighbourhood = [0.0; 2 * HALF_WIDTH + 1];
    for (at, &(time, value, place)) in candidates.iter().enumerate() {
        if let Some(stuck) = &limits.stuck {
            let since = match still_since {
                Some((since, last, bits)) if bits == value.to_bits() && time - last <= context_ms => since,
                _ => time,
            };
            still_since = Some((since, time, value.to_bits()));
            if let Some(place) = place.filter(|_| time - since >= stuck.after_ms) {
                judged[place].1 = Some(RejectReason::Stuck);
                continue;
            }
        }
        let Some(place) = place else { continue };
        let before = candidates[..at].iter().rev().take(HALF_WIDTH).take_while(|c| time - c.0 <= context_ms).count();
        let after = candidates[at + 1..].iter().take(HALF_WIDTH).take_while(|c| c.0 - time <= context_ms).count();
        let reach = before.min(after);
        for (slot, candidate) in neighbourhood.iter_mut().zip(&candidates[at - reach..=at + reach]) {
            *slot = candidate.1;
        }
        let stands = limits.hampel.as_ref().map_or(Place::Unknown, |h| h.place(&neighbourhood[..=2 * reach]));
        let beside = |there: bool, index: usize| there.then(|| (candidates[index].0, candidates[index].1));
        // A good reading between two spikes leaps from both of them. It stands where the others stand, and they do not.
        let leaps = || limits.leaps(beside(before > 0, at.saturating_sub(1)), (time, value), beside(after > 0, at + 1));
        judged[place].1 = match stands {
            Place::Near => None,
            _ if leaps() => Some(RejectReason::Rate),
            Place::Outlier => Some(RejectReason::Hampel),
            Place::Unknown | Place::Apart => None,
        };
    }
    judged
}

/// What the accepted and the rejected readings of a channel come to. Sums go in order of time, so that they are the same
/// to the last bit whenever they are computed again.
pub(super) fn aggregate(channel: Channel, judged: &[(f64, Option<RejectReason>)]) -> Aggregate {
    let accepted = || judged.iter().filter(|(_, verdict)| verdict.is_none()).map(|(value, _)| *value);
    let count = accepted().count();
    let accepted = (count > 0).then(|| {
        let (min, max) = extremes(accepted());
        // Rounding may carry the mean of equal values past them.
        let mean = (accepted().sum::<f64>() / count as f64).clamp(min, max);
        let variance = accepted().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count as f64;
        Stats { count: u32::try_from(count).unwrap_or(u32::MAX), min, mean, max, stddev: variance.sqrt() }
    });
    let mut counts: BTreeMap<RejectReason, u32> = BTreeMap::new();
    for reason in judged.iter().filter_map(|(_, verdict)| *verdict) {
        *counts.entry(reason).or_default() += 1;
    }
    let rejected = (!counts.is_empty()).then(|| {
        let (min, max) = extremes(judged.iter().filter(|(_, verdict)| verdict.is_some()).map(|(value, _)| *value));
        Rejected { counts: counts.into_iter().collect(), min, max }
    });
    Aggregate { channel, accepted, rejected }
}

fn extremes(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), value| (min.min(value), max.max(value)))
}

/// Tells two contents of a window apart; the same on every machine and in every version.
pub(super) fn digest(aggregates: &[Aggregate]) -> i64 {
    let mut hash = Sha256::new();
    for aggregate in aggregates {
        hash.update(aggregate.channel.code().to_le_bytes());
        if let Some(s) = &aggregate.accepted {
            hash.update(s.count.to_le_bytes());
            for value in [s.min, s.mean, s.max, s.stddev] {
                hash.update(value.to_bits().to_le_bytes());
            }
        }
        hash.update([0xff]);
        if let Some(r) = &aggregate.rejected {
            for (reason, count) in &r.counts {
                hash.update([reason_code(*reason)]);
                hash.update(count.to_le_bytes());
            }
            for value in [r.min, r.max] {
                hash.update(value.to_bits().to_le_bytes());
            }
        }
        hash.update([0xfe]);
    }
    let hash = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    i64::from_le_bytes(first)
}

const fn reason_code(reason: RejectReason) -> u8 {
    match reason {
        RejectReason::Range => 0,
        RejectReason::Rate => 1,
        RejectReason::Hampel => 2,
        RejectReason::Late => 3,
        RejectReason::Future => 4,
        RejectReason::Duplicate => 5,
        RejectReason::Stuck => 6,
        RejectReason::Clock => 7,
    }
}

impl RejectCounts {
    pub(super) fn of(aggregates: &[Aggregate]) -> Self {
        let mut all = Self::default();
        for (reason, count) in aggregates.iter().filter_map(|a| a.rejected.as_ref()).flat_map(|r| &r.counts) {
            match reason {
                RejectReason::Range => all.range += count,
                RejectReason::Rate => all.rate += count,
                RejectReason::Hampel => all.hampel += count,
                RejectReason::Duplicate => all.duplicate += count,
                RejectReason::Stuck => all.stuck += count,
                // These have no window.
                RejectReason::Late | RejectReason::Future | RejectReason::Clock => {}
            }
        }
        all
    }

    pub(super) fn beyond(&self, before: &Self) -> Self {
        Self {
            range: self.range.saturating_sub(before.range),
            rate: self.rate.saturating_sub(before.rate),
            hampel: self.hampel.saturating_sub(before.hampel),
            duplicate: self.duplicate.saturating_sub(before.duplicate),
            stuck: self.stuck.saturating_sub(before.stuck),
        }
    }

    /// Each reason's name and count.
    #[must_use]
    pub const fn by_reason(&self) -> [(&'static str, u32); 5] {
        [
            ("range", self.range),
            ("rate", self.rate),
            ("hampel", self.hampel),
            ("duplicate", self.duplicate),
            ("stuck", self.stuck),
        ]
    }
}
