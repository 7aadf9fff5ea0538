//! A supply's course through a season under a policy: how often its load transfers, and when it is out.

use proto::Timestamp;

use super::plan::Cycle;
use super::{Supply, SupplyConfig};
use crate::chance::Chance;
use crate::sun::Place;
use crate::weather::{Conditions, Weather};

/// A step, s.
const STEP_S: i64 = 300;
/// How far the forecast goes, hours: three days.
const HORIZON_H: usize = 72;
/// What of the deviation of the radiation from its usual value a forecast knows, for each day that it looks ahead, and the standard
/// deviation of its error as a share. An assumption, on the optimistic side of what is published for day-ahead forecasts of radiation (a
/// root mean square error of a fifth to a third of the mean in mixed weather).
const KNOWN: [f64; 3] = [0.85, 0.70, 0.55];
const ERROR: [f64; 3] = [0.10, 0.15, 0.20];

/// What of the reserve may be planned with when there is nothing beside it: so nights are not silent, and it never ends.
const IN_NEED: f64 = 0.2;

/// How much of what a panel gave in an hour goes into what is known of it.
const LEARNED: f64 = 0.02;

/// When a load transfers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Policy {
    /// One transfer every so many seconds.
    Fixed(f64),
    /// By the forecast, each hour anew, with a share of what the battery holds kept back for when the forecast is wrong.
    Planned {
        /// 0 to 1.
        reserve: f64,
        /// The shortest gap that is asked for, s.
        least_gap_s: f64,
    },
}

/// The weather of a season at a supply, and what its panel could give; hour by hour.
#[derive(Debug, Clone)]
pub struct Season {
    place: Place,
    start: Timestamp,
    hours: Vec<Conditions>,
    /// What a clean panel gives through controller and battery, Wh, and what it would with the hour's usual radiation.
    harvest_wh: Vec<f64>,
    usual_wh: Vec<f64>,
    errors: Chance,
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
    /// The season of a weather that begins at `start`. The usual radiation of an hour is the clear sky's times the season's mean
    /// clearness.
    #[must_use]
    pub fn new(weather: &mut Weather, config: &SupplyConfig, start: Timestamp, days: u32, seed: u64) -> Self {
        let place = *weather.place();
        let middle = |hour: usize| start.plus_secs(3600 * hour as i64 + 1800);
        let hours: Vec<Conditions> = (0..days as usize * 24).map(|hour| weather.at(middle(hour))).collect();
        let sum = |of: fn(&Conditions) -> f64| hours.iter().map(of).sum::<f64>();
        let clearness = sum(|c| c.solar_radiation_w_m2) / sum(|c| c.clear_sky_w_m2).max(1.0);
        let wh = |hour: usize, conditions: &Conditions| {
            let round_trip = config.battery.round_trip(conditions.air_temperature_c);
            config.panel.power_w(&place, middle(hour), conditions, 0.0) * config.controller.efficiency * round_trip
        };
        let usual = |conditions: &Conditions| Conditions {
            solar_radiation_w_m2: clearness * conditions.clear_sky_w_m2,
            ..*conditions
        };
        Self {
            harvest_wh: hours.iter().enumerate().map(|(hour, now)| wh(hour, now)).collect(),
            usual_wh: hours.iter().enumerate().map(|(hour, now)| wh(hour, &usual(now))).collect(),
            errors: Chance::new(seed, "energy/forecast"),
            place,
            start,
            hours,
        }
    }

    /// What a forecast made at an hour says of the next three days, Wh in each hour; fewer at the season's end. `share` is what a panel gives of
    /// what it would if it were clean, and `own_w` what the controller takes.
    fn forecast_wh(&mut self, hour: usize, share: f64, own_w: f64, out: &mut Vec<f64>) {
        let mut draw = self.errors.at(hour as i64);
        let factors: Vec<f64> = ERROR.iter().map(|error| (1.0 + error * draw.normal()).max(0.0)).collect();
        out.clear();
        for ahead in 0..HORIZON_H.min(self.hours.len() - hour) {
            let (known, factor) = (KNOWN[ahead / 24], factors[ahead / 24]);
            let (actual, usual) = (self.harvest_wh[hour + ahead], self.usual_wh[hour + ahead]);
            out.push((usual + known * (actual - usual)) * factor * share - own_w);
        }
    }

    /// Goes through the season with a supply that begins with its battery nine tenths full.
    #[must_use]
    pub fn run(&mut self, config: &SupplyConfig, cycle: &Cycle, policy: Policy) -> Outcome {
        let mut supply = Supply::new(config, 0.9);
        let steps_per_hour = 3600 / STEP_S;
        let (mut forecast, mut since_s, mut share) = (Vec::new(), 0.0f64, 1.0);
        let mut outcome = Outcome {
            out_h: 0.0,
            outages: 0,
            transfers: 0,
            mean_gap_s: 0.0,
            longest_gap_s: 0.0,
            charge: Vec::new(),
            gap_s: Vec::new(),
        };
        let mut day_gap_s = 0.0;
        for hour in 0..self.hours.len() {
            let conditions = self.hours[hour];
            let middle = self.start.plus_secs(3600 * hour as i64 + 1800);
            let gap_s = match policy {
                Policy::Fixed(gap_s) => gap_s,
                Policy::Planned { reserve, least_gap_s } => {
                    self.forecast_wh(hour, share, config.controller.own_w, &mut forecast);
                    let battery = &config.battery;
                    // What the coldest night that is forecast hides cannot be planned with.
                    let nights = self.hours[hour..].iter().take(HORIZON_H).map(|hour| hour.air_temperature_c);
                    let available = supply.battery().available_wh(battery, nights.fold(f64::INFINITY, f64::min));
                    let kept = reserve * supply.battery().capacity_wh(battery);
                    cycle.plan_gap_s(&forecast, (available - kept).max(IN_NEED * available)).max(least_gap_s)
                }
            };
            for step in 0..steps_per_hour {
                let start = self.start.plus_secs(hour as i64 * 3600 + step * STEP_S);
                let was_on = supply.is_on();
                supply.step(config, &self.place, start, STEP_S as f64 / 3600.0, &conditions, cycle.mean_w(gap_s));
                if supply.is_on() {
                    // What waited through an outage goes in one transfer.
                    since_s = if was_on { since_s + STEP_S as f64 } else { gap_s };
                    // Several in a step when the gap is shorter.
                    while since_s >= gap_s {
                        outcome.longest_gap_s = outcome.longest_gap_s.max(gap_s);
                        since_s -= gap_s;
                        outcome.transfers += 1;
                    }
                } else {
                    outcome.out_h += STEP_S as f64 / 3600.0;
                    outcome.outages += u32::from(was_on);
                    since_s += STEP_S as f64;
                    outcome.longest_gap_s = outcome.longest_gap_s.max(since_s);
                }
            }
            // A node measures what its panel gives, and so learns how dirty it is.
            let clean_w = config.panel.power_w(&self.place, middle, &conditions, 0.0);
            if clean_w > 0.0 {
                let given_w = config.panel.power_w(&self.place, middle, &conditions, supply.soiling().loss);
                share += LEARNED * (given_w / clean_w - share);
            }
            day_gap_s += gap_s / 24.0;
            if hour % 24 == 23 {
                outcome.charge.push(supply.battery().charge(&config.battery, conditions.air_temperature_c));
                outcome.gap_s.push(std::mem::take(&mut day_gap_s));
            }
        }
        outcome.mean_gap_s = self.hours.len() as f64 * 3600.0 / (outcome.transfers.max(1)) as f64;
        outcome
    }

    /// The shortest of these gaps at which a fixed cycle is out for no longer than `out_h` hours, and what comes of it; the longest when
    /// none is.
    #[must_use]
    pub fn safe(&mut self, config: &SupplyConfig, cycle: &Cycle, gaps_s: &[f64], out_h: f64) -> Option<(f64, Outcome)> {
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
        let mut weather = Weather::synthetic(climate, place, 3);
        let config = SupplyConfig::base_station();
        let start: Timestamp = "2026-11-15T08:00:00Z".parse().unwrap();
        let mut season = Season::new(&mut weather, &config, start, 75, 3);
        let planned = season.run(&config, &base_station::CYCLE, base_station::PLANNED);
        let fixed = season.run(&config, &base_station::CYCLE, Policy::Fixed(planned.mean_gap_s));
        assert!(fixed.out_h > 24.0, "the winter is not dull enough: {fixed:?}");
        assert!(planned.out_h < 0.2 * fixed.out_h, "{} {}", planned.out_h, fixed.out_h);
        assert!(planned.transfers >= fixed.transfers, "{} {}", planned.transfers, fixed.transfers);
    }
}
