//! What each kind of fault takes: the keys, their defaults by quantity, and their bounds.
//!
//! | kind | key | what it is | default | allowed |
//! | --- | --- | --- | --- | --- |
//! | `spike` | `magnitude` | how far the outliers are off | 0.6 spans | up to 20 spans |
//! | | `rate` | a reading's probability | 0.05 | 0 to 0.5 |
//! | `drift` | `rate` | unit per hour, up or down | 0.008 spans | 1 span |
//! | `bias` | `magnitude` | how far it is off, up or down | 0.2 spans | 2 spans |
//! | `noise` | `magnitude` | standard deviation | 0.1 spans | up to 2 spans |
//! | `dropout` | `rate` | a reading's probability to be missing | 1 | 0 to 1 |
//! | `rail` | `rail` | `"high"` or `"low"` | `"high"` | |
//! | `pulled_out` | `sun_c` | warming by the full sun | 5 Cel | 0 to 30 |
//! | `waterlogged` | `leak` | share of the way to the upper rail when wet | 0.5 | 0 to 1 |
//! | | `noise` | standard deviation when wet | 0.04 spans | 0 to 2 spans |
//! | | `drying_h` | time to dry to 1/e | 24 h | 0.1 to 1000 |
//! | | `wet` | whether water is in it from the start, else with the first rain | true | |
//! | `swapped` | `with` | the other channel, of the same unit | must be given | |
//! | `brown_out` | `rate` | a sample's probability to be lost | 0.5 | 0 to 0.95 |
//! | | `magnitude` | sag of the battery's readings | 0.4 V | 0 to 5 V |
//! | | `below_v` | only below this voltage | always | 0 to 60 V |
//! | `hang` | `rate` | a sample's probability to be lost | 0.2 | 0 to 0.95 |
//! | `clock_drift` | `drift_ppm` | too fast by so many millionths | 200, or 0 beside another key | within 1,000,000 |
//! | | `offset_s` | ahead by so much from the start | 0 | within ten years |
//! | | `restart_1970` | instead of an offset: begins again at 1970 | false | |
//!
//! `stuck` takes none. A span is what the quantity covers in a usual season ([`Sensor::span`]). The defaults are chosen so
//! that a person who looks at the plot sees that something is wrong; they are no statistics of real faults.

use proto::{Channel, Quantity};
use serde::{Deserialize, Serialize};

use super::{Effect, Fault, FaultKind};
use crate::clock::{ClockFault, Jump};
use crate::sensor::{Sensor, rails};

/// An end of a probe's range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rail {
    /// The lower end.
    Low,
    /// The upper end.
    High,
}

/// A fault's parameters as scenarios and truth logs have them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Parameters {
    /// How far readings are off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub magnitude: Option<f64>,
    /// A reading's probability, or a drift's unit per hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// The end of the range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rail: Option<Rail>,
    /// Warming by the full sun, Cel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sun_c: Option<f64>,
    /// Share of the way to the upper rail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leak: Option<f64>,
    /// Standard deviation of a leak's noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
    /// Time to dry to 1/e, h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drying_h: Option<f64>,
    /// Whether water is in it from the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wet: Option<bool>,
    /// The other channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with: Option<Channel>,
    /// The voltage below which it is there, V.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below_v: Option<f64>,
    /// How much too fast a clock is, in millionths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift_ppm: Option<f64>,
    /// How far a clock is ahead at the start, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset_s: Option<f64>,
    /// Whether a clock begins again at 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_1970: Option<bool>,
}

/// A parameter that is a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number {
    pub key: &'static str,
    pub low: f64,
    pub high: f64,
}

const fn number(key: &'static str, low: f64, high: f64) -> Number {
    Number { key, low, high }
}

/// Ten years, s.
const LONGEST_OFFSET_S: f64 = 315_576_000.0;

/// The numbers that a kind takes, with their bounds. `quantity` is the channel's; none for a station's fault.
pub(crate) fn numbers(kind: FaultKind, quantity: Option<Quantity>) -> Vec<Number> {
    let span = quantity.map_or(1.0, |quantity| Sensor::of(quantity).span);
    match kind {
        FaultKind::Spike => vec![number("magnitude", 0.0, 20.0 * span), number("rate", 0.0, 0.5)],
        FaultKind::Drift => vec![number("rate", -span, span)],
        FaultKind::Bias => vec![number("magnitude", -2.0 * span, 2.0 * span)],
        FaultKind::Noise => vec![number("magnitude", 0.0, 2.0 * span)],
        FaultKind::Dropout => vec![number("rate", 0.0, 1.0)],
        FaultKind::PulledOut => vec![number("sun_c", 0.0, 30.0)],
        FaultKind::Waterlogged => {
            vec![number("leak", 0.0, 1.0), number("noise", 0.0, 2.0 * span), number("drying_h", 0.1, 1000.0)]
        }
        FaultKind::BrownOut => {
            vec![number("rate", 0.0, 0.95), number("magnitude", 0.0, 5.0), number("below_v", 0.0, 60.0)]
        }
        FaultKind::Hang => vec![number("rate", 0.0, 0.95)],
        FaultKind::ClockDrift => {
            vec![number("drift_ppm", -999_999.0, 999_999.0), number("offset_s", -LONGEST_OFFSET_S, LONGEST_OFFSET_S)]
        }
        FaultKind::Stuck | FaultKind::Rail | FaultKind::Swapped => Vec::new(),
    }
}

/// Every key that some kind takes, in the order of messages.
pub(crate) const KEYS: [&str; 13] = [
    "magnitude",
    "rate",
    "rail",
    "sun_c",
    "leak",
    "noise",
    "drying_h",
    "wet",
    "with",
    "below_v",
    "drift_ppm",
    "offset_s",
    "restart_1970",
];

/// Whether a kind takes a key.
pub(crate) fn takes(kind: FaultKind, key: &str) -> bool {
    let other = match kind {
        FaultKind::Rail => key == "rail",
        FaultKind::Waterlogged => key == "wet",
        FaultKind::Swapped => key == "with",
        FaultKind::ClockDrift => key == "restart_1970",
        _ => false,
    };
    other || numbers(kind, None).iter().any(|number| number.key == key)
}

impl Parameters {
    /// Sets a number by its key.
    pub(crate) fn set(&mut self, key: &str, value: f64) {
        let place = match key {
            "magnitude" => &mut self.magnitude,
            "rate" => &mut self.rate,
            "sun_c" => &mut self.sun_c,
            "leak" => &mut self.leak,
            "noise" => &mut self.noise,
            "drying_h" => &mut self.drying_h,
            "below_v" => &mut self.below_v,
            "drift_ppm" => &mut self.drift_ppm,
            "offset_s" => &mut self.offset_s,
            _ => return,
        };
        *place = Some(value);
    }

    /// The effect on a channel (or a station), with defaults for what is not given. None for a wrong clock, for a
    /// swap without its other channel, and for a channel's fault without a channel.
    #[must_use]
    pub fn effect(&self, kind: FaultKind, channel: Option<Channel>) -> Option<Effect> {
        if kind == FaultKind::BrownOut {
            return Some(Effect::BrownOut {
                probability: self.rate.unwrap_or(0.5),
                sag_v: self.magnitude.unwrap_or(0.4),
                below_v: self.below_v,
            });
        }
        if kind == FaultKind::Hang {
            return Some(Effect::Hang { probability: self.rate.unwrap_or(0.2) });
        }
        let quantity = channel?.quantity;
        let span = Sensor::of(quantity).span;
        let (low, high) = rails(quantity);
        Some(match kind {
            FaultKind::Spike => Effect::Spike {
                magnitude: self.magnitude.unwrap_or(0.6 * span),
                probability: self.rate.unwrap_or(0.05),
            },
            FaultKind::Stuck => Effect::Stuck,
            FaultKind::Drift => Effect::Drift { per_hour: self.rate.unwrap_or(0.008 * span) },
            FaultKind::Bias => Effect::Bias { magnitude: self.magnitude.unwrap_or(0.2 * span) },
            FaultKind::Noise => Effect::Noise { sd: self.magnitude.unwrap_or(0.1 * span) },
            FaultKind::Dropout => Effect::Dropout { probability: self.rate.unwrap_or(1.0) },
            FaultKind::Rail => Effect::Rail { value: if self.rail == Some(Rail::Low) { low } else { high } },
            FaultKind::PulledOut => Effect::PulledOut { sun_c: self.sun_c.unwrap_or(5.0) },
            FaultKind::Waterlogged => Effect::Waterlogged {
                leak: self.leak.unwrap_or(0.5),
                sd: self.noise.unwrap_or(0.04 * span),
                drying_h: self.drying_h.unwrap_or(24.0),
                wet: self.wet.unwrap_or(true),
            },
            FaultKind::Swapped => Effect::Swapped { with: self.with? },
            FaultKind::ClockDrift | FaultKind::BrownOut | FaultKind::Hang => return None,
        })
    }

    /// The parameters of a fault: what a scenario would say, defaults included.
    #[must_use]
    pub fn of(fault: &Fault) -> Self {
        let none = Self::default();
        match fault.effect {
            Effect::Spike { magnitude, probability } => {
                Self { magnitude: Some(magnitude), rate: Some(probability), ..none }
            }
            Effect::Stuck => none,
            Effect::Drift { per_hour } => Self { rate: Some(per_hour), ..none },
            Effect::Bias { magnitude } => Self { magnitude: Some(magnitude), ..none },
            Effect::Noise { sd } => Self { magnitude: Some(sd), ..none },
            // A whole dropout has nothing to tell.
            Effect::Dropout { probability } => Self { rate: (probability < 1.0).then_some(probability), ..none },
            Effect::Rail { value } => {
                let low = fault.channel.is_some_and(|channel| rails(channel.quantity).0 == value);
                Self { rail: Some(if low { Rail::Low } else { Rail::High }), ..none }
            }
            Effect::PulledOut { sun_c } => Self { sun_c: Some(sun_c), ..none },
            Effect::Waterlogged { leak, sd, drying_h, wet } => {
                Self { leak: Some(leak), noise: Some(sd), drying_h: Some(drying_h), wet: Some(wet), ..none }
            }
            Effect::Swapped { with } => Self { with: Some(with), ..none },
            Effect::BrownOut { probability, sag_v, below_v } => {
                Self { rate: Some(probability), magnitude: Some(sag_v), below_v, ..none }
            }
            Effect::Hang { probability } => Self { rate: Some(probability), ..none },
        }
    }

    /// The parameters of a wrong clock.
    #[must_use]
    pub fn of_clock(fault: &ClockFault) -> Self {
        let (offset_s, restart_1970) = match fault.jump {
            Jump::Ahead(ms) => (Some(ms as f64 / 1000.0), None),
            Jump::Restart => (None, Some(true)),
        };
        Self { drift_ppm: Some(fault.drift_ppm), offset_s, restart_1970, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_their_bounds_and_parameters_come_back() {
        for quantity in Quantity::ALL {
            for kind in FaultKind::ALL.into_iter().filter(|kind| kind.befalls(quantity) && !kind.is_of_station()) {
                let channel = Some(Channel::at(quantity, 20));
                let given = Parameters { with: Some(Channel::at(quantity, 10)), ..Parameters::default() };
                let effect = given.effect(kind, channel).unwrap();
                let (start, end) = (proto::Timestamp::from_secs(0), proto::Timestamp::from_secs(1));
                let fault = Fault { station: "n1".parse().unwrap(), channel, effect, start, end };
                assert_eq!(fault.kind(), kind);
                let told = Parameters::of(&fault);
                assert_eq!(told.effect(kind, channel), Some(effect), "{quantity} {kind:?}");
                let text = toml::to_string(&told).unwrap();
                let table: toml::Table = text.parse().unwrap();
                for (key, value) in &table {
                    assert!(takes(kind, key), "{kind:?} {key}");
                    if let Some(value) = value.as_float() {
                        let bounds =
                            numbers(kind, Some(quantity)).into_iter().find(|number| number.key == key).unwrap();
                        assert!((bounds.low..=bounds.high).contains(&value), "{quantity} {kind:?} {key} {value}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_key_belongs_to_a_kind() {
        for key in KEYS {
            assert!(FaultKind::ALL.into_iter().any(|kind| takes(kind, key)), "{key}");
        }
        assert!(!FaultKind::ALL.into_iter().any(|kind| takes(kind, "size")));
    }
}
