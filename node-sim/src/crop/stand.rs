//! A crop on its field, day by day: the weather of a day makes it grow, the water of a day makes its yield.

use proto::Timestamp;
use serde::{Deserialize, Serialize};

use super::Crop;
use super::demand::{Climate, Coefficients, Wetted, depletion_fraction};
use super::growth::{Canopy, Day, Growth, Happened};
use super::response::WaterUse;
use crate::ground::{Cover, Used};
use crate::sun::Place;
use crate::weather::{Conditions, Weather};

const DAY_S: i64 = 86_400;
/// How far back a crop is grown before it is looked at, days: more than a year, so that it was sown or cut since.
const BEFORE_DAYS: i64 = 400;
/// The solar hours at which a day is near its lowest and its highest temperature.
const COLDEST_H: i64 = 5;
const WARMEST_H: i64 = 15;
/// A day on which the crop transpires less than this share of what it could is a day of stress.
const STRESSED: f64 = 0.95;
/// Kilograms on a hectare in mg on a square metre.
const MG_M2_PER_KG_HA: f64 = 100.0;

/// What came off the field: nothing where frost killed the crop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Harvest {
    /// The end of the day.
    pub at: Timestamp,
    /// Share of the potential yield.
    pub relative_yield: f64,
    /// t/ha.
    pub yield_t_ha: f64,
    /// The day's lowest temperature, Cel, where frost killed the crop on it: nothing was harvested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub killed_by_frost_c: Option<f64>,
}

/// A solar day's weather and water until now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Today {
    number: i64,
    hours: f64,
    lowest_c: f64,
    highest_c: f64,
    wind_m: f64,
    least_humidity_pct: f64,
    evaporation_mm: f64,
    transpiration_mm: f64,
    potential_mm: f64,
}

impl Today {
    fn new(number: i64) -> Self {
        Self {
            number,
            hours: 0.0,
            lowest_c: f64::MAX,
            highest_c: f64::MIN,
            wind_m: 0.0,
            least_humidity_pct: 100.0,
            evaporation_mm: 0.0,
            transpiration_mm: 0.0,
            potential_mm: 0.0,
        }
    }
}

/// All that changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    growth: Growth,
    wind_m_s: f64,
    least_humidity_pct: f64,
    etc_mm_d: f64,
    stress_days: u32,
    used: WaterUse,
    today: Option<Today>,
    harvests: Vec<Harvest>,
}

/// A crop on its field.
#[derive(Debug, Clone)]
pub struct Stand {
    crop: Crop,
    south: bool,
    state: State,
    canopy: Canopy,
    cover: Cover,
}

/// The days before a time, as crops count them.
pub fn days_before(weather: &mut Weather, place: &Place, time: Timestamp) -> Vec<Day> {
    let (today, hour) = place.solar_day(time);
    let midnight = time.plus_millis(-(hour * 3_600_000.0) as i64);
    let at = |weather: &mut Weather, back: i64, hour: i64| {
        weather.at(midnight.plus_secs(3600 * hour - back * DAY_S)).air_temperature_c
    };
    (1..=BEFORE_DAYS)
        .rev()
        .map(|back| {
            let (early, late) = (at(weather, back, COLDEST_H), at(weather, back, WARMEST_H));
            Day { number: today - back, lowest_c: early.min(late), highest_c: early.max(late) }
        })
        .collect()
}

impl Stand {
    /// A crop as the days before have left it.
    #[must_use]
    pub fn new(crop: Crop, place: &Place, before: &[Day]) -> Self {
        let south = place.latitude < 0.0;
        let mut growth = Growth::new(crop);
        for day in before {
            growth.day(crop, day, south);
        }
        let state = State {
            growth,
            wind_m_s: 2.0,
            least_humidity_pct: 45.0,
            etc_mm_d: 5.0,
            stress_days: 0,
            used: WaterUse::default(),
            today: None,
            harvests: Vec::new(),
        };
        Self::of(crop, south, state)
    }

    fn of(crop: Crop, south: bool, state: State) -> Self {
        let parameters = crop.parameters();
        let canopy = state.growth.canopy(crop);
        let climate = Climate { wind_m_s: state.wind_m_s, least_humidity_pct: state.least_humidity_pct };
        let cover = Cover {
            coefficients: Coefficients::of(&canopy, &climate),
            depletion_fraction: depletion_fraction(parameters.depletion_fraction, state.etc_mm_d),
            wetted: Wetted::WHOLE,
            wants_mg_mm: parameters.nutrients_kg_ha.map(|kg| kg * MG_M2_PER_KG_HA / parameters.transpires_mm),
        };
        Self { crop, south, state, canopy, cover }
    }

    /// What changes, to keep.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Puts back what was kept.
    pub fn restore(&mut self, state: State) {
        *self = Self::of(self.crop, self.south, state);
    }

    /// What grows.
    #[must_use]
    pub fn crop(&self) -> Crop {
        self.crop
    }

    /// How it stands today.
    #[must_use]
    pub fn canopy(&self) -> &Canopy {
        &self.canopy
    }

    /// What it means for the ground today, all of which is taken to be wetted.
    #[must_use]
    pub fn cover(&self) -> &Cover {
        &self.cover
    }

    /// How many days since the beginning it could not transpire as it would have.
    #[must_use]
    pub fn stress_days(&self) -> u32 {
        self.state.stress_days
    }

    /// What was harvested since the beginning.
    #[must_use]
    pub fn harvests(&self) -> &[Harvest] {
        &self.state.harvests
    }

    /// The share of the potential yield that is left to what stands on the field.
    #[must_use]
    pub fn relative_yield(&self) -> f64 {
        self.state.used.relative_yield(self.crop)
    }

    /// Begins to count anew: what was used and harvested, and days of stress.
    pub fn forget(&mut self) {
        (self.state.used, self.state.stress_days) = (WaterUse::default(), 0);
        self.state.harvests.clear();
    }

    /// A step begins: with the first of a solar day the day before has passed, and the crop has grown.
    pub fn begin(&mut self, place: &Place, start: Timestamp) {
        let (number, hour) = place.solar_day(start);
        match &self.state.today {
            Some(today) if today.number == number => return,
            Some(_) => self.end_day(start.plus_millis(-(hour * 3_600_000.0) as i64)),
            None => {}
        }
        self.state.today = Some(Today::new(number));
    }

    fn end_day(&mut self, midnight: Timestamp) {
        let Some(today) = self.state.today.take() else { return };
        let parameters = self.crop.parameters();
        if self.state.growth.grows {
            let actual = today.evaporation_mm + today.transpiration_mm;
            let most = today.evaporation_mm + today.potential_mm;
            self.state.used.add(&parameters, self.state.growth.gdd, actual, most);
            if today.transpiration_mm < STRESSED * today.potential_mm {
                self.state.stress_days += 1;
            }
        }
        self.state.etc_mm_d = today.evaporation_mm + today.potential_mm;
        if today.hours > 0.0 {
            self.state.wind_m_s = today.wind_m / today.hours;
            self.state.least_humidity_pct = today.least_humidity_pct;
            let day = Day { number: today.number, lowest_c: today.lowest_c, highest_c: today.highest_c };
            match self.state.growth.day(self.crop, &day, self.south) {
                Some(Happened::Harvested) => {
                    let relative_yield = self.state.used.relative_yield(self.crop);
                    let yield_t_ha = relative_yield * parameters.potential_t_ha;
                    let harvest = Harvest { at: midnight, relative_yield, yield_t_ha, killed_by_frost_c: None };
                    self.state.harvests.push(harvest);
                    self.state.used = WaterUse::default();
                }
                Some(Happened::Killed) => {
                    let killed_by_frost_c = Some(today.lowest_c);
                    let nothing = Harvest { at: midnight, relative_yield: 0.0, yield_t_ha: 0.0, killed_by_frost_c };
                    self.state.harvests.push(nothing);
                    self.state.used = WaterUse::default();
                }
                Some(Happened::Sown | Happened::Frozen) => self.state.used = WaterUse::default(),
                None => {}
            }
        }
        let state = self.state.clone();
        self.restore(state);
    }

    /// A step has passed with this weather, in which the ground used this water.
    pub fn end(&mut self, hours: f64, weather: &Conditions, used: &Used) {
        let Some(today) = &mut self.state.today else { return };
        today.hours += hours;
        today.lowest_c = today.lowest_c.min(weather.air_temperature_c);
        today.highest_c = today.highest_c.max(weather.air_temperature_c);
        today.wind_m += hours * weather.wind_speed_m_s;
        today.least_humidity_pct = today.least_humidity_pct.min(weather.relative_humidity_pct);
        today.evaporation_mm += used.evaporation_mm;
        today.transpiration_mm += used.transpiration_mm;
        today.potential_mm += used.potential_mm;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crop::growth::Stage;
    use crate::weather::Climate;

    const FALLON: Place = Place { latitude: 39.4575, longitude: -118.77388, elevation_m: 1208.5 };

    /// From 1 March to 1 November, with the crop drinking this share of what it wants.
    fn season(crop: Crop, share: f64) -> Stand {
        let mut weather = Weather::synthetic(Climate::default(), FALLON, 1);
        let start: Timestamp = "2026-03-01T08:00:00Z".parse().unwrap();
        let mut stand = Stand::new(crop, &FALLON, &days_before(&mut weather, &FALLON, start));
        for hour in 0..245 * 24 {
            let time = start.plus_secs(3600 * hour);
            let weather = weather.at(time.plus_secs(1800));
            stand.begin(&FALLON, time);
            let potential_mm = stand.cover().coefficients.kcb * weather.et0_mm_h;
            let used = Used { evaporation_mm: 0.0, transpiration_mm: share * potential_mm, potential_mm };
            stand.end(1.0, &weather, &used);
        }
        stand
    }

    #[test]
    fn maize_at_fallon_is_ripe_in_autumn_and_yields_by_the_water_that_it_had() {
        let (full, thirsty) = (season(Crop::Maize, 1.0), season(Crop::Maize, 0.8));
        let (best, poor) = (full.harvests()[0], thirsty.harvests()[0]);
        assert!(("2026-08-20T00:00:00Z".."2026-10-25T00:00:00Z").contains(&best.at.to_string().as_str()), "{best:?}");
        assert_eq!((full.harvests().len(), full.canopy().stage), (1, Stage::Bare));
        assert_eq!(best.killed_by_frost_c, None);
        assert!((best.yield_t_ha - 9.0).abs() < 1e-9 && full.stress_days() == 0);
        // (1 - 0.4 * 0.2) (1 - 1.5 * 0.2) (1 - 0.5 * 0.2) (1 - 0.2 * 0.2) of FAO-33.
        assert!((poor.relative_yield - 0.92 * 0.7 * 0.9 * 0.96).abs() < 1e-6 && poor.at == best.at, "{poor:?}");
        assert!(thirsty.stress_days() > 100);
    }

    #[test]
    fn a_crop_that_frost_kills_leaves_bare_ground_and_no_yield() {
        // A summer in which maize does not get on, and frosts in September.
        let mut weather = Weather::synthetic(Climate { mean_c: 5.0, ..Climate::default() }, FALLON, 1);
        let start: Timestamp = "2026-07-01T08:00:00Z".parse().unwrap();
        let mut stand = Stand::new(Crop::Maize, &FALLON, &days_before(&mut weather, &FALLON, start));
        for hour in 0..120 * 24 {
            let time = start.plus_secs(3600 * hour);
            let weather = weather.at(time.plus_secs(1800));
            stand.begin(&FALLON, time);
            let potential_mm = stand.cover().coefficients.kcb * weather.et0_mm_h;
            stand.end(1.0, &weather, &Used { evaporation_mm: 0.0, transpiration_mm: potential_mm, potential_mm });
        }
        assert_eq!(stand.harvests().iter().map(|harvest| harvest.yield_t_ha).collect::<Vec<_>>(), [0.0]);
        assert_eq!((stand.canopy().stage, stand.cover().coefficients.kcb), (Stage::Bare, 0.0));
    }

    #[test]
    fn alfalfa_at_fallon_is_cut_several_times_and_a_farm_that_begins_in_summer_has_it_grown() {
        assert!((3..=6).contains(&season(Crop::Alfalfa, 1.0).harvests().len()));
        let mut weather = Weather::synthetic(Climate::default(), FALLON, 1);
        let start: Timestamp = "2026-06-20T08:00:00Z".parse().unwrap();
        let before = days_before(&mut weather, &FALLON, start);
        let maize = Stand::new(Crop::Maize, &FALLON, &before);
        assert!(matches!(maize.canopy().stage, Stage::Initial | Stage::Development), "{:?}", maize.canopy());
        let wheat = Stand::new(Crop::Wheat, &FALLON, &before);
        assert!(wheat.canopy().cover > 0.5, "{:?}", wheat.canopy());
    }
}
