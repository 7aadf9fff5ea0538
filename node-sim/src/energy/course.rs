//! A supply's course through a season under a policy: how often its load transfers, and when it is out.

use proto::Timestamp;

use super::SupplyConfig;
use super::outlook::{Forecast, Outlook};
use super::plan::Cycle;
use super::turns::{Policy, Turns};
use crate::sun::Place;
use crate::weather::{Conditions, Weather};

/// A step, s.
const STEP_S: i64 = 300;

/// The weather of a season at a supply, hour by hour, and what was forecast of it.
#[derive(Debug, Clone)]
pub struct Season {
    place: Place,
    start: Timestamp,
    hours: Vec<(Conditions, Forecast)>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Hours without power.
    pub out_h: f64,
    /// How often it went out.
    pub outages: u32,
    /// How often it transferred.
    pub transfers: u64,
    /// Mean time between two transfers, s.
    pub mean_gap_s: f64,
    /// Longest time between two transfers, s.
    pub longest_gap_s: f64,
    /// The battery's charge at the end of each day, 0 to 1.
    pub charge: Vec<f64>,
    /// The gap that was asked for on the mean of each day, s.
    pub gap_s: Vec<f64>,
}

impl Season {
    /// The season of a weather that begins at `start`.
    #[must_use]
    pub fn new(weather: &Weather, config: &SupplyConfig, start: Timestamp, days: u32, seed: u64) -> Self {
        let (mut weather, mut outlook) = (weather.clone(), Outlook::new(weather, config, seed));
        let hours = (0..i64::from(days) * 24).map(|hour| start.plus_secs(3600 * hour));
        let hours = hours.map(|time| (weather.at(time.plus_secs(1800)), outlook.at(time))).collect();
        Self { place: *weather.place(), start, hours }
    }

    /// Goes through the season with a supply that begins with its battery nine tenths full.
    #[must_use]
    pub fn run(&self, config: &SupplyConfig, cycle: &Cycle, policy: Policy) -> Outcome {
        let mut turns = Turns::new(config, cycle, policy, self.place, 0.9);
        let steps_per_hour = 3600 / STEP_S;
        let mut outcome = Outcome {
            out_h: 0.0,
            outages: 0,
            transfers: 0,
            mean_gap_s: 0.0,
            longest_gap_s: 0.0,
            charge: Vec::new(),
            gap_s: Vec::new(),
        };
        let (mut day_gap_s, mut silent_s) = (0.0, 0.0f64);
        for (hour, (conditions, forecast)) in self.hours.iter().enumerate() {
            turns.plan(forecast);
            for step in 0..steps_per_hour {
                let start = self.start.plus_secs(hour as i64 * 3600 + step * STEP_S);
                let was_on = turns.supply().is_on();
                let transfers = turns.begin(STEP_S as f64);
                outcome.transfers += u64::from(transfers);
                silent_s = if transfers > 0 { 0.0 } else { silent_s + STEP_S as f64 };
                outcome.longest_gap_s = outcome.longest_gap_s.max(silent_s + STEP_S as f64);
                turns.end(start, STEP_S as f64 / 3600.0, conditions);
                if !turns.supply().is_on() {
                    outcome.out_h += STEP_S as f64 / 3600.0;
                    outcome.outages += u32::from(was_on);
                }
            }
            day_gap_s += turns.gap_s() / 24.0;
            if hour % 24 == 23 {
                let battery = turns.supply().battery();
                outcome.charge.push(battery.charge(&config.battery, conditions.air_temperature_c));
                outcome.gap_s.push(std::mem::take(&mut day_gap_s));
            }
        }
        outcome.mean_gap_s = self.hours.len() as f64 * 3600.0 / (outcome.transfers.max(1)) as f64;
        outcome
    }

    /// The shortest of these gaps at which a fixed cycle is out for no longer than `out_h` hours, and what comes of it; the longest when
    /// none is.
    #[must_use]
    pub fn safe(&self, config: &SupplyConfig, cycle: &Cycle, gaps_s: &[f64], out_h: f64) -> Option<(f64, Outcome)> {
        let mut last = None;
        for &gap_s in gaps_s {
            let outcome = self.run(config, cycle, Policy::Fixed(gap_s));
            let safe = outcome.out_h <= out_h;
            last = Some((gap_s, outcome));
            if safe {
                break;
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base_station;
    use crate::weather::Climate;

    /// A dull winter: two months of short days with clouds.
    #[test]
    fn who_plans_is_out_less_than_who_does_not_and_transfers_as_often() {
        let place = Place { latitude: 47.0, longitude: -117.0, elevation_m: 700.0 };
        let climate = Climate { wet_day_share: 0.5, ..Climate::default() };
        let weather = Weather::synthetic(climate, place, 3);
        let config = SupplyConfig::base_station();
        let start: Timestamp = "2026-11-15T08:00:00Z".parse().unwrap();
        let season = Season::new(&weather, &config, start, 75, 3);
        let planned = season.run(&config, &base_station::CYCLE, base_station::PLANNED);
        let fixed = season.run(&config, &base_station::CYCLE, Policy::Fixed(planned.mean_gap_s));
        assert!(fixed.out_h > 24.0, "the winter is not dull enough: {fixed:?}");
        assert!(planned.out_h < 0.2 * fixed.out_h, "{} {}", planned.out_h, fixed.out_h);
        assert!(planned.transfers >= fixed.transfers, "{} {}", planned.transfers, fixed.transfers);
    }
}
