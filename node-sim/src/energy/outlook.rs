//! What is forecast of the energy that a panel will give.

use std::collections::VecDeque;

use proto::Timestamp;

use super::SupplyConfig;
use crate::chance::Chance;
use crate::weather::{Conditions, Weather};

/// An hour, s.
const HOUR_S: i64 = 3600;
/// How far a forecast goes, hours: three days.
const AHEAD_H: i64 = 72;
/// The time whose mean clearness is the usual one, hours: thirty days.
const BEHIND_H: i64 = 720;
/// What of the deviation of the radiation from its usual value a forecast knows, for each day that it looks ahead, and the standard
/// deviation of its error as a share. An assumption, on the optimistic side of what is published for day-ahead forecasts of radiation (a
/// root mean square error of a fifth to a third of the mean in mixed weather).
const KNOWN: [f64; 3] = [0.85, 0.70, 0.55];
const ERROR: [f64; 3] = [0.10, 0.15, 0.20];

/// A forecast of three days.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Forecast {
    /// What a clean panel brings through controller and battery in each hour, Wh for each m2 of its cells.
    pub harvest_wh_m2: Vec<f64>,
    /// The coldest hour, Cel. It is known as it will be.
    pub coldest_c: f64,
}

/// What forecasts are made of: the weather of the days to come, known less well the farther they are, and how clear the last month
/// was. A pure function of weather and seed, whose answer for an hour is the same whenever it is asked.
#[derive(Debug, Clone)]
pub struct Outlook {
    weather: Weather,
    /// With a panel of one square metre.
    config: SupplyConfig,
    errors: Chance,
    /// The middles of the hours from [`BEHIND_H`] before `hour` up to [`AHEAD_H`] after it.
    hours: VecDeque<Conditions>,
    /// Hours since 1970.
    hour: i64,
}

impl Outlook {
    /// The outlook for a supply in a weather. The size of its panel does not matter.
    #[must_use]
    pub fn new(weather: &Weather, config: &SupplyConfig, seed: u64) -> Self {
        let panel = super::Panel { area_m2: 1.0, ..config.panel };
        let errors = Chance::new(seed, "energy/forecast");
        let config = SupplyConfig { panel, ..*config };
        Self { weather: weather.clone(), config, errors, hours: VecDeque::new(), hour: 0 }
    }

    /// The forecast that is made in the hour of a moment.
    pub fn at(&mut self, time: Timestamp) -> Forecast {
        self.go_to(time.as_millis().div_euclid(1000 * HOUR_S));
        let sum = |of: fn(&Conditions) -> f64| self.hours.range(..BEHIND_H as usize).map(of).sum::<f64>();
        let clearness = sum(|c| c.solar_radiation_w_m2) / sum(|c| c.clear_sky_w_m2).max(1.0);
        let mut draw = self.errors.at(self.hour);
        let factors = ERROR.map(|error| (1.0 + error * draw.normal()).max(0.0));
        let ahead = self.hours.range(BEHIND_H as usize..).enumerate();
        let harvest = |(ahead, actual): (usize, &Conditions)| {
            let usual = Conditions { solar_radiation_w_m2: clearness * actual.clear_sky_w_m2, ..*actual };
            let middle = middle_of(self.hour + ahead as i64);
            let (actual_wh, usual_wh) = (self.clean_wh(middle, actual), self.clean_wh(middle, &usual));
            (usual_wh + KNOWN[ahead / 24] * (actual_wh - usual_wh)) * factors[ahead / 24]
        };
        Forecast {
            harvest_wh_m2: ahead.map(harvest).collect(),
            coldest_c: self
                .hours
                .range(BEHIND_H as usize..)
                .map(|hour| hour.air_temperature_c)
                .fold(f64::INFINITY, f64::min),
        }
    }

    /// What a clean square metre brings through controller and battery in an hour.
    fn clean_wh(&self, middle: Timestamp, conditions: &Conditions) -> f64 {
        let SupplyConfig { panel, controller, battery } = &self.config;
        let round_trip = battery.round_trip(conditions.air_temperature_c);
        panel.power_w(self.weather.place(), middle, conditions, 0.0) * controller.efficiency * round_trip
    }

    fn go_to(&mut self, hour: i64) {
        if self.hours.is_empty() || !(self.hour..self.hour + AHEAD_H).contains(&hour) {
            self.hours.clear();
            self.hour = hour;
        }
        let known = self.hours.len() as i64;
        let first = if known == 0 { hour - BEHIND_H } else { self.hour - BEHIND_H + known };
        for new in first..hour + AHEAD_H {
            self.hours.push_back(self.weather.at(middle_of(new)));
        }
        self.hours.drain(..(hour - self.hour) as usize);
        self.hour = hour;
    }
}

/// The middle of an hour since 1970.
fn middle_of(hour: i64) -> Timestamp {
    Timestamp::from_secs(HOUR_S * hour + HOUR_S / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sun::Place;
    use crate::weather::Climate;

    fn outlook() -> Outlook {
        let place = Place { latitude: 47.0, longitude: -117.0, elevation_m: 700.0 };
        let weather = Weather::synthetic(Climate { wet_day_share: 0.5, ..Climate::default() }, place, 3);
        Outlook::new(&weather, &SupplyConfig::base_station(), 3)
    }

    #[test]
    fn an_hours_forecast_is_the_same_whenever_it_is_asked_for() {
        let start: Timestamp = "2026-11-15T08:20:00Z".parse().unwrap();
        let times: Vec<Timestamp> = (0..200).map(|hour| start.plus_secs(HOUR_S * hour)).collect();
        let mut one = outlook();
        let all: Vec<Forecast> = times.iter().map(|time| one.at(*time)).collect();
        for of in [199, 0, 5, 90] {
            assert_eq!(one.at(times[of]), all[of]);
            assert_eq!(outlook().at(times[of].plus_secs(600)), all[of]);
        }
        assert!(all.iter().all(|forecast| forecast.harvest_wh_m2.len() == AHEAD_H as usize));
    }

    /// Against what comes: the first day's forecast is nearer to it than the usual weather, and errs on no side.
    #[test]
    fn a_forecast_knows_more_than_the_season_and_is_not_biased() {
        let start: Timestamp = "2026-03-01T08:00:00Z".parse().unwrap();
        let mut outlook = outlook();
        let (mut of_forecast, mut of_actual, mut error, mut spread) = (0.0, 0.0, 0.0, 0.0);
        let days: Vec<f64> = (0..200)
            .map(|day| {
                let time = start.plus_secs(86_400 * day);
                let said: f64 = outlook.at(time).harvest_wh_m2[..24].iter().sum();
                let hour = time.as_millis() / 3_600_000;
                let came = |hour| {
                    let middle = middle_of(hour);
                    let conditions = outlook.weather.clone().at(middle);
                    outlook.clean_wh(middle, &conditions)
                };
                let came: f64 = (hour..hour + 24).map(came).sum();
                of_forecast += said;
                of_actual += came;
                error += (said - came).powi(2);
                came
            })
            .collect();
        let near = |day: usize| days[day.saturating_sub(15)..(day + 15).min(days.len())].iter().sum::<f64>() / 30.0;
        for (day, came) in days.iter().enumerate().take(days.len() - 15).skip(15) {
            spread += (came - near(day)).powi(2);
        }
        let (error, spread) = ((error / 200.0).sqrt(), (spread / 170.0).sqrt());
        assert!((of_forecast / of_actual - 1.0).abs() < 0.03, "{of_forecast} {of_actual}");
        assert!(error < 0.6 * spread && error > 0.05 * spread, "{error} {spread}");
    }
}
