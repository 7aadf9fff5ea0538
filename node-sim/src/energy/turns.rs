//! A supply whose load transfers in turn: by a fixed rhythm, or as what is forecast allows.

use proto::Timestamp;
use serde::{Deserialize, Serialize};

use super::outlook::Forecast;
use super::plan::Cycle;
use super::{Supply, SupplyConfig};
use crate::sun::Place;
use crate::weather::Conditions;

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

/// A supply and its load. A step is begun with [`Turns::begin`] and done with [`Turns::end`].
#[derive(Debug, Clone)]
pub struct Turns {
    config: SupplyConfig,
    cycle: Cycle,
    policy: Policy,
    place: Place,
    state: TurnsState,
}

/// What changes in it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnsState {
    supply: Supply,
    /// What the panel gives of what it would if it were clean, as far as it was learned.
    clean: f64,
    /// Time between the beginnings of two transfers, s, as it is planned or fixed.
    gap_s: f64,
    /// Time since the last transfer began, s; none after an outage: what waited goes at once.
    since_s: Option<f64>,
    /// For how long it is still to be on, s, and for how long of that in the step at hand.
    left_s: f64,
    on_s: f64,
}

impl Turns {
    /// A supply charged to a share of what its battery holds, 0 to 1, whose load transfers at once.
    #[must_use]
    pub fn new(config: &SupplyConfig, cycle: &Cycle, policy: Policy, place: Place, charge: f64) -> Self {
        let gap_s = match policy {
            Policy::Fixed(gap_s) => gap_s,
            Policy::Planned { .. } => cycle.most_gap_s,
        };
        let supply = Supply::new(config, charge);
        let state = TurnsState { supply, clean: 1.0, gap_s, since_s: None, left_s: 0.0, on_s: 0.0 };
        Self { config: *config, cycle: *cycle, policy, place, state }
    }

    /// Whether it goes by a forecast.
    #[must_use]
    pub fn is_planned(&self) -> bool {
        matches!(self.policy, Policy::Planned { .. })
    }

    /// Plans the gap by a forecast, which is to be done each hour; nothing where it is fixed.
    pub fn plan(&mut self, forecast: &Forecast) {
        let Policy::Planned { reserve, least_gap_s } = self.policy else { return };
        let SupplyConfig { panel, controller, battery } = &self.config;
        let of_clean = panel.area_m2 * self.state.clean;
        let harvest_wh: Vec<f64> =
            forecast.harvest_wh_m2.iter().map(|clean_wh| clean_wh * of_clean - controller.own_w).collect();
        // What the coldest night that is forecast hides cannot be planned with.
        let state = self.state.supply.battery();
        let available_wh = state.available_wh(battery, forecast.coldest_c);
        let kept_wh = reserve * state.capacity_wh(battery);
        let spare_wh = (available_wh - kept_wh).max(IN_NEED * available_wh);
        self.state.gap_s = self.cycle.plan_gap_s(&harvest_wh, spare_wh).max(least_gap_s);
    }

    /// Begins a step of so many seconds, and says how many transfers begin in it.
    pub fn begin(&mut self, step_s: f64) -> u32 {
        let state = &mut self.state;
        if !state.supply.is_on() {
            (state.since_s, state.left_s, state.on_s) = (None, 0.0, 0.0);
            return 0;
        }
        let mut since_s = state.since_s.map_or(state.gap_s, |since_s| since_s + step_s);
        let mut transfers = 0;
        while since_s >= state.gap_s {
            since_s -= state.gap_s;
            transfers += 1;
        }
        state.since_s = Some(since_s);
        state.left_s += f64::from(transfers) * self.cycle.on_s;
        state.on_s = state.left_s.min(step_s);
        state.left_s -= state.on_s;
        transfers
    }

    /// Ends the step that begins at `start`.
    pub fn end(&mut self, start: Timestamp, hours: f64, conditions: &Conditions) {
        let Self { config, cycle, place, state, .. } = self;
        let load_w = cycle.off_w + (cycle.on_w - cycle.off_w) * state.on_s / (hours * 3600.0);
        state.supply.step(config, place, start, hours, conditions, load_w);
        if self.is_planned() {
            self.learn(start, hours, conditions);
        }
    }

    /// A node measures what its panel gives, and so learns how dirty it is.
    fn learn(&mut self, start: Timestamp, hours: f64, conditions: &Conditions) {
        let middle = start.plus_millis((hours * 1_800_000.0) as i64);
        let power_w = |soiling| self.config.panel.power_w(&self.place, middle, conditions, soiling);
        let clean_w = power_w(0.0);
        if clean_w > 0.0 {
            let given = power_w(self.state.supply.soiling().loss) / clean_w;
            self.state.clean += LEARNED * hours * (given - self.state.clean);
        }
    }

    /// Whether it has power and transfers in the step at hand.
    #[must_use]
    pub fn is_transferring(&self) -> bool {
        self.state.supply.is_on() && self.state.on_s > 0.0
    }

    /// Time between the beginnings of two transfers as it is planned now or fixed, s.
    #[must_use]
    pub fn gap_s(&self) -> f64 {
        self.state.gap_s
    }

    /// The supply.
    #[must_use]
    pub fn supply(&self) -> &Supply {
        &self.state.supply
    }

    /// What it is made of.
    #[must_use]
    pub fn config(&self) -> &SupplyConfig {
        &self.config
    }

    /// What changes, to keep.
    #[must_use]
    pub fn state(&self) -> TurnsState {
        self.state
    }

    /// Puts back what was kept. A fixed rhythm that is configured otherwise now holds from now on.
    pub fn restore(&mut self, state: TurnsState) {
        self.state = state;
        if let Policy::Fixed(gap_s) = self.policy {
            self.state.gap_s = gap_s;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place = Place { latitude: 39.0, longitude: -118.0, elevation_m: 1000.0 };
    const CYCLE: Cycle = Cycle { on_w: 20.0, off_w: 0.2, on_s: 300.0, most_gap_s: 21_600.0 };

    fn noon(solar_radiation_w_m2: f64) -> Conditions {
        Conditions {
            air_temperature_c: 15.0,
            dew_point_c: 5.0,
            relative_humidity_pct: 60.0,
            wind_speed_m_s: 2.0,
            solar_radiation_w_m2,
            clear_sky_w_m2: 1000.0,
            rain_mm_h: 0.0,
            et0_mm_h: 0.1,
        }
    }

    fn turns(policy: Policy, charge: f64) -> Turns {
        Turns::new(&SupplyConfig::base_station(), &CYCLE, policy, PLACE, charge)
    }

    proptest! {
        /// With power, it transfers once a gap, whatever the gap and the step, and its load gets what these transfers take: no joule more
        /// or less.
        #[test]
        fn transfers_and_their_energy_are_those_of_the_gap(gap_s in 300.0f64..20_000.0, step_s in prop::sample::select(vec![60.0, 300.0, 450.0])) {
            let mut turns = turns(Policy::Fixed(gap_s), 1.0);
            let start: Timestamp = "2026-06-21T19:00:00Z".parse().unwrap();
            let (mut transfers, mut on_s) = (0, 0.0);
            let steps = 2000;
            for step in 0..steps {
                transfers += turns.begin(step_s);
                on_s += turns.state.on_s;
                prop_assert_eq!(turns.is_transferring(), turns.state.on_s > 0.0);
                turns.end(start.plus_secs(step * step_s as i64), step_s / 3600.0, &noon(900.0));
            }
            let expected = 1.0 + (steps - 1) as f64 * step_s / gap_s;
            prop_assert!((f64::from(transfers) - expected).abs() <= 1.0, "{} {}", transfers, expected);
            prop_assert!((on_s + turns.state.left_s - 300.0 * f64::from(transfers)).abs() < 1e-6);
            let wh = CYCLE.off_w * steps as f64 * step_s / 3600.0 + (CYCLE.on_w - CYCLE.off_w) * on_s / 3600.0;
            prop_assert!((turns.supply().ledger().load_wh - wh).abs() < 1e-6 * wh, "{} {}", turns.supply().ledger().load_wh, wh);
        }
    }

    #[test]
    fn without_power_it_is_silent_and_transfers_as_soon_as_power_is_back() {
        let mut turns = turns(Policy::Fixed(3600.0), 0.02);
        let start: Timestamp = "2026-06-21T19:00:00Z".parse().unwrap();
        let mut step = 0;
        let mut go = |turns: &mut Turns, sun| {
            let transfers = turns.begin(300.0);
            turns.end(start.plus_secs(300 * step), 300.0 / 3600.0, &noon(sun));
            step += 1;
            transfers
        };
        assert_eq!(go(&mut turns, 0.0), 1);
        while turns.supply().is_on() {
            go(&mut turns, 0.0);
        }
        assert!(!turns.is_transferring());
        while !turns.supply().is_on() {
            assert_eq!(go(&mut turns, 900.0), 0);
        }
        assert_eq!(go(&mut turns, 900.0), 1);
        assert!(turns.is_transferring());
        assert_eq!((0..11).map(|_| go(&mut turns, 900.0)).sum::<u32>(), 0);
        assert_eq!(go(&mut turns, 900.0), 1);
    }

    #[test]
    fn a_plan_follows_the_forecast_and_what_the_battery_holds() {
        let gap_s = |harvest: f64, charge| {
            let mut turns = turns(Policy::Planned { reserve: 0.35, least_gap_s: 300.0 }, charge);
            turns.plan(&Forecast { harvest_wh_m2: vec![harvest; 72], coldest_c: 10.0 });
            turns.gap_s()
        };
        assert_eq!(gap_s(100.0, 1.0), 300.0);
        assert!(gap_s(0.0, 1.0) < gap_s(0.0, 0.6) && gap_s(0.0, 0.6) < gap_s(0.0, 0.2));
        assert!(gap_s(2.0, 0.2) < gap_s(0.0, 0.2));
        assert_eq!(gap_s(0.0, 0.0), CYCLE.most_gap_s);
    }
}
