//! Irrigation systems: what a running one puts where, what it loses and what its meter says.
//!
//! A system runs or stands still for the whole field. What it brings to the ground at a place is its rate less its losses; a centre
//! pivot waters a place only while its arm passes. The meter counts what leaves the pump.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// How water is brought to the field.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum System {
    /// Set sprinklers over the whole field.
    Sprinkler {
        /// Share of the water that reaches the soil, 0.3 to 1; 0.75 when it is not said.
        efficiency: f64,
    },
    /// Drip lines with emitters.
    Drip {
        /// What an emitter gives, l/h; 0.2 to 20.
        emitter_l_h: f64,
        /// How many there are, per m2; 0.1 to 20.
        emitters_per_m2: f64,
        /// Share of the water that reaches the soil, 0.3 to 1; 0.9 when it is not said.
        efficiency: f64,
        /// Share of the ground that gets wet, FAO-56's fw; 0.05 to 1; 0.35 when it is not said.
        wetted: f64,
    },
    /// A centre pivot around the field's middle.
    Pivot {
        /// Time of a whole turn, h; 4 to 240.
        rotation_h: f64,
        /// The angle that its sprays cover at a time, degrees; 1 to 90; 10 when it is not said.
        sector_degrees: f64,
        /// Share of the water that reaches the soil, 0.3 to 1; 0.75 when it is not said.
        efficiency: f64,
    },
}

// FAO Irrigation Water Management Training Manual 4 (Brouwer et al. 1989), annex I, table 8: sprinklers 75 %, drip 90 %.
const SPRINKLER_EFFICIENCY: f64 = 0.75;
const DRIP_EFFICIENCY: f64 = 0.90;
// FAO-56 table 20: trickle irrigation 0.3 to 0.4.
const DRIP_WETTED: f64 = 0.35;
const PIVOT_SECTOR_DEGREES: f64 = 10.0;

/// Which of the systems it is, as it is written.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Sprinkler,
    Drip,
    Pivot,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Sprinkler, Self::Drip, Self::Pivot];

    /// The keys of its table.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Sprinkler => &["kind", "efficiency"],
            Self::Drip => &["kind", "emitter_l_h", "emitters_per_m2", "efficiency", "wetted"],
            Self::Pivot => &["kind", "rotation_h", "sector_degrees", "efficiency"],
        }
    }
}

/// Read by hand: of a value that is none, serde would say of a table with a tag only that it is in there.
impl<'de> Deserialize<'de> for System {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Table)
    }
}

struct Table;

impl<'de> Visitor<'de> for Table {
    type Value = System;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<System, A::Error> {
        let (mut kind, mut values, mut others) = (None, BTreeMap::new(), Vec::new());
        while let Some(key) = map.next_key::<String>()? {
            if key == "kind" {
                kind = Some(map.next_value::<Kind>()?);
            } else if Kind::ALL.iter().any(|kind| kind.keys().contains(&key.as_str())) {
                values.insert(key, map.next_value::<f64>()?);
            } else {
                map.next_value::<IgnoredAny>()?;
                others.push(key);
            }
        }
        let kind = kind.ok_or_else(|| A::Error::missing_field("kind"))?;
        if let Some(key) = values.keys().chain(&others).find(|key| !kind.keys().contains(&key.as_str())) {
            return Err(A::Error::unknown_field(key, kind.keys()));
        }
        let given = |key: &'static str| values.get(key).copied().ok_or_else(|| A::Error::missing_field(key));
        let or = |key: &str, usual: f64| values.get(key).copied().unwrap_or(usual);
        Ok(match kind {
            Kind::Sprinkler => System::Sprinkler { efficiency: or("efficiency", SPRINKLER_EFFICIENCY) },
            Kind::Drip => System::Drip {
                emitter_l_h: given("emitter_l_h")?,
                emitters_per_m2: given("emitters_per_m2")?,
                efficiency: or("efficiency", DRIP_EFFICIENCY),
                wetted: or("wetted", DRIP_WETTED),
            },
            Kind::Pivot => System::Pivot {
                rotation_h: given("rotation_h")?,
                sector_degrees: or("sector_degrees", PIVOT_SECTOR_DEGREES),
                efficiency: or("efficiency", SPRINKLER_EFFICIENCY),
            },
        })
    }
}

impl System {
    /// Each value that is out of its range: its key, the value, and what is allowed.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, f64, &'static str)> {
        let checks: Vec<(&'static str, f64, std::ops::RangeInclusive<f64>, &'static str)> = match *self {
            Self::Sprinkler { efficiency } => vec![("efficiency", efficiency, 0.3..=1.0, "0.3 to 1")],
            Self::Drip { emitter_l_h, emitters_per_m2, efficiency, wetted } => vec![
                ("emitter_l_h", emitter_l_h, 0.2..=20.0, "0.2 to 20 l/h"),
                ("emitters_per_m2", emitters_per_m2, 0.1..=20.0, "0.1 to 20 per m2"),
                ("efficiency", efficiency, 0.3..=1.0, "0.3 to 1"),
                ("wetted", wetted, 0.05..=1.0, "0.05 to 1"),
            ],
            Self::Pivot { rotation_h, sector_degrees, efficiency } => vec![
                ("rotation_h", rotation_h, 4.0..=240.0, "4 to 240 h"),
                ("sector_degrees", sector_degrees, 1.0..=90.0, "1 to 90 degrees"),
                ("efficiency", efficiency, 0.3..=1.0, "0.3 to 1"),
            ],
        };
        checks.into_iter().filter(|(_, value, range, _)| !range.contains(value)).map(|(k, v, _, a)| (k, v, a)).collect()
    }
}

/// A field's system in numbers. Without one, water comes evenly at the field's rate and all of it arrives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Equipment {
    /// What is pumped while it runs, over the whole field, mm/h.
    pub rate_mm_h: f64,
    /// Share of it that reaches the soil.
    pub efficiency: f64,
    /// Share of the ground that gets wet.
    pub wetted: f64,
    /// Whether drippers beneath the plants wet it.
    pub by_drippers: bool,
    /// Of a pivot: time of a turn, h, and the angle that is watered at a time, degrees.
    pub pivot: Option<(f64, f64)>,
}

impl Equipment {
    /// Of a system; `rate_mm_h` is the field's, which emitters override.
    #[must_use]
    pub fn new(system: Option<&System>, rate_mm_h: f64) -> Self {
        let even = Self { rate_mm_h, efficiency: 1.0, wetted: 1.0, by_drippers: false, pivot: None };
        match system {
            None => even,
            Some(System::Sprinkler { efficiency }) => Self { efficiency: *efficiency, ..even },
            // A litre on a square metre is a millimetre.
            Some(System::Drip { emitter_l_h, emitters_per_m2, efficiency, wetted }) => {
                let rate_mm_h = emitter_l_h * emitters_per_m2;
                Self { rate_mm_h, efficiency: *efficiency, wetted: *wetted, by_drippers: true, pivot: None }
            }
            Some(System::Pivot { rotation_h, sector_degrees, efficiency }) => {
                Self { efficiency: *efficiency, pivot: Some((*rotation_h, *sector_degrees)), ..even }
            }
        }
    }

    /// What it brings to the soil during a step, of which it runs the share `running`.
    #[must_use]
    pub fn application(&self, hours: f64, running: f64, arm_degrees: f64) -> Application {
        let mean_mm_h = self.rate_mm_h * self.efficiency * running;
        let turned = self.pivot.map_or(0.0, |(rotation_h, _)| 360.0 / rotation_h * hours * running);
        Application { mean_mm_h, sector_degrees: self.pivot.map(|(_, sector)| sector), arm_degrees, turned }
    }
}

/// The water of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Application {
    /// Over the whole field, mm/h on the soil.
    pub mean_mm_h: f64,
    sector_degrees: Option<f64>,
    arm_degrees: f64,
    /// How far a pivot's arm turned, degrees.
    pub turned: f64,
}

impl Application {
    /// The same with only a share of its water.
    #[must_use]
    pub fn reduced(self, share: f64) -> Self {
        Self { mean_mm_h: self.mean_mm_h * share, ..self }
    }

    /// At a place in this direction from the field's middle, degrees clockwise from north; mm/h.
    #[must_use]
    pub fn at_mm_h(&self, direction_degrees: f64) -> f64 {
        let Some(sector) = self.sector_degrees else { return self.mean_mm_h };
        if self.turned <= 0.0 {
            return 0.0;
        }
        // The place is wet while the arm's front is up to a sector ahead of it.
        let ahead = (self.arm_degrees - direction_degrees).rem_euclid(360.0);
        let overlap = |from: f64| ((ahead + self.turned).min(from + sector) - ahead.max(from)).max(0.0);
        let share = (overlap(0.0) + overlap(360.0)) / self.turned;
        self.mean_mm_h * 360.0 / sector * share
    }
}

/// The meter at the pump.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meter {
    /// All that was pumped, m3.
    pub pumped_m3: f64,
}

impl Meter {
    /// Counts water over a field: a millimetre on a hectare is ten cubic metres.
    pub fn count(&mut self, pumped_mm: f64, area_ha: f64) {
        self.pumped_m3 += 10.0 * pumped_mm * area_ha;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_of_a_pivot_waters_every_place_alike_while_its_arm_passes() {
        let system = System::Pivot { rotation_h: 24.0, sector_degrees: 10.0, efficiency: 0.8 };
        let equipment = Equipment::new(Some(&system), 0.5);
        for direction in [0.0, 3.3, 180.0, 355.0] {
            let (mut arm, mut depth, mut wet_h) = (47.0, 0.0, 0.0);
            for _ in 0..288 {
                let step = equipment.application(1.0 / 12.0, 1.0, arm);
                let rate = step.at_mm_h(direction);
                depth += rate / 12.0;
                wet_h += if rate > 0.0 { 1.0 / 12.0 } else { 0.0 };
                arm = (arm + step.turned).rem_euclid(360.0);
            }
            // 24 h of 0.5 mm/h, of which 80 % arrive, in 24 h * 10/360 = 0.67 h.
            assert!((depth - 9.6).abs() < 1e-9, "{direction}: {depth}");
            assert!((0.6..0.9).contains(&wet_h), "{direction}: {wet_h}");
        }
    }

    #[test]
    fn emitters_give_what_they_give_and_the_meter_counts_what_is_pumped() {
        let system = System::Drip { emitter_l_h: 1.6, emitters_per_m2: 2.5, efficiency: 0.9, wetted: 0.3 };
        let equipment = Equipment::new(Some(&system), 99.0);
        assert_eq!((equipment.rate_mm_h, equipment.wetted), (4.0, 0.3));
        assert!((equipment.application(1.0, 0.5, 0.0).at_mm_h(12.0) - 1.8).abs() < 1e-12);
        assert!(system.problems().is_empty());
        let wrong = System::Drip { emitter_l_h: 0.0, emitters_per_m2: 2.5, efficiency: 2.0, wetted: 0.3 };
        assert_eq!(wrong.problems().iter().map(|problem| problem.0).collect::<Vec<_>>(), ["emitter_l_h", "efficiency"]);
        let mut meter = Meter::default();
        meter.count(20.0, 12.5);
        assert_eq!(meter.pumped_m3, 2500.0);
        assert_eq!(Equipment::new(None, 6.0).application(1.0, 1.0, 0.0).at_mm_h(0.0), 6.0);
    }
}
