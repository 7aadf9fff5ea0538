//! Energy of a node and of a base station: panel, charge controller, battery, load. Pure; the weather and the time come in.
//!
//! [`Supply`] goes on step by step, and every watt-hour that the panel gave is in exactly one place of its [`Ledger`]: in the
//! load, in the battery, or in one of the losses ([`Supply::imbalance_wh`]). [`plan`] decides how often to report by the
//! energy that is forecast ([`outlook`]), and [`turns`] does so.

pub mod battery;
pub mod course;
pub mod load;
pub mod node;
pub mod outlook;
pub mod panel;
pub mod plan;
pub mod solar;
pub mod turns;

use proto::Timestamp;
use serde::{Deserialize, Serialize};

pub use battery::{Battery, BatteryState, Chemistry};
pub use load::Load;
pub use node::EnergyConfig;
pub use panel::{Panel, Soiling};
pub use solar::Solar;

use crate::sun::Place;
use crate::weather::Conditions;

/// A charge controller between panel, battery and load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controller {
    /// What of the panel's power comes out of it, 0 to 1.
    pub efficiency: f64,
    /// What it takes itself, W.
    pub own_w: f64,
}

/// What a supply is made of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SupplyConfig {
    /// The panel.
    pub panel: Panel,
    /// The controller.
    pub controller: Controller,
    /// The battery.
    pub battery: Battery,
}

impl SupplyConfig {
    /// A soil station's: a panel of one watt, one LiFePO4 cell of 1.5 Ah (size 18650), a linear charger.
    #[must_use]
    pub const fn station() -> Self {
        Self {
            panel: Panel { area_m2: 0.0063, efficiency: 0.16, tilt_deg: 30.0, temperature_per_k: -0.004, shaded: 0.0 },
            controller: Controller { efficiency: 0.80, own_w: 20e-6 },
            battery: Battery { chemistry: Chemistry::Lifepo4, capacity_wh: 4.8, cells: 1, age_years: 1.0 },
        }
    }

    /// FarmBeats' base station (Vasisht et al. 2017, section on the deployment): two panels of 60 W and four lead-acid batteries
    /// of 12 V and 44 Ah, which are to give half of what they hold.
    #[must_use]
    pub const fn base_station() -> Self {
        Self {
            panel: Panel { area_m2: 0.8, efficiency: 0.15, tilt_deg: 30.0, temperature_per_k: -0.0045, shaded: 0.0 },
            controller: Controller { efficiency: 0.90, own_w: 0.1 },
            battery: Battery { chemistry: Chemistry::LeadAcid, capacity_wh: 2112.0, cells: 6, age_years: 1.0 },
        }
    }
}

/// Where the energy went since the beginning, Wh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// What the battery held at the beginning.
    pub initial_wh: f64,
    /// What the panel gave.
    pub harvested_wh: f64,
    /// What the load got.
    pub load_wh: f64,
    /// What the controller took and lost.
    pub controller_wh: f64,
    /// What was lost in charging, in discharging and by self-discharge.
    pub battery_wh: f64,
    /// What the panel could have given beside, had the battery had room or been warm enough. It is in `harvested_wh`.
    pub curtailed_wh: f64,
}

/// A supply at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Supply {
    battery: BatteryState,
    soiling: Soiling,
    ledger: Ledger,
    /// Whether the load is connected.
    on: bool,
    /// How often it was connected again.
    returns: u32,
    /// The last step's terminal voltage, V.
    voltage_v: f64,
}

impl Supply {
    /// A supply whose battery is charged to a share of what it holds, 0 to 1.
    #[must_use]
    pub fn new(config: &SupplyConfig, charge: f64) -> Self {
        let battery = BatteryState::new(&config.battery, charge);
        let ledger = Ledger { initial_wh: battery.stored_wh(), ..Ledger::default() };
        let voltage_v = battery.voltage_v(&config.battery, 0.0, 25.0);
        Self { battery, soiling: Soiling::default(), ledger, on: true, returns: 0, voltage_v }
    }

    /// Goes on by a step that begins at `start` and wants `load_w` if it can be had. The load is cut off when the voltage falls below
    /// the battery's limit, and connected again when it has recovered.
    pub fn step(
        &mut self,
        config: &SupplyConfig,
        place: &Place,
        start: Timestamp,
        hours: f64,
        conditions: &Conditions,
        load_w: f64,
    ) {
        let SupplyConfig { panel, controller, battery } = config;
        self.soiling.step(hours, conditions.rain_mm_h);
        let time = start.plus_millis((hours * 1_800_000.0) as i64);
        let panel_w = panel.power_w(place, time, conditions, self.soiling.loss);
        let ambient_c = conditions.air_temperature_c;
        let ledger = &mut self.ledger;
        ledger.harvested_wh += panel_w * hours;
        ledger.controller_wh += panel_w * (1.0 - controller.efficiency) * hours;
        let solar_w = panel_w * controller.efficiency;

        let wanted_w = controller.own_w + if self.on { load_w } else { 0.0 };
        let direct_w = solar_w.min(wanted_w);
        let missing_w = wanted_w - direct_w;
        let drawn = self.battery.discharge(battery, missing_w * hours, ambient_c);
        ledger.battery_wh += drawn.lost_wh;
        let got_wh = direct_w * hours + drawn.given_wh;
        // The controller comes first: it is what watches the battery.
        let own_wh = got_wh.min(controller.own_w * hours);
        ledger.controller_wh += own_wh;
        ledger.load_wh += got_wh - own_wh;

        let spare_wh = (solar_w - direct_w) * hours;
        let taken = self.battery.charge_with(battery, spare_wh, hours, ambient_c);
        ledger.battery_wh += taken.lost_wh;
        ledger.curtailed_wh += spare_wh - taken.given_wh;
        ledger.battery_wh += self.battery.rest(battery, hours, ambient_c);

        let net_w = (taken.given_wh - drawn.given_wh) / hours;
        self.voltage_v = self.battery.voltage_v(battery, net_w, ambient_c);
        let limits = battery.limits_v();
        if self.on && (self.voltage_v < limits.cut_off_v || drawn.given_wh < missing_w * hours * 0.999) {
            self.on = false;
        } else if !self.on && self.battery.voltage_v(battery, 0.0, ambient_c) >= limits.reconnect_v {
            self.on = true;
            self.returns += 1;
        }
    }

    /// Whether the load is connected.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// How often the load came back: after each the node has booted.
    #[must_use]
    pub fn returns(&self) -> u32 {
        self.returns
    }

    /// The battery's voltage as it is measured, V.
    #[must_use]
    pub fn voltage_v(&self) -> f64 {
        self.voltage_v
    }

    /// The battery.
    #[must_use]
    pub fn battery(&self) -> &BatteryState {
        &self.battery
    }

    /// The panel's dust.
    #[must_use]
    pub fn soiling(&self) -> &Soiling {
        &self.soiling
    }

    /// Where the energy went.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What came in, less what went out, less what the battery gained: zero but for rounding, Wh.
    #[must_use]
    pub fn imbalance_wh(&self) -> f64 {
        let l = &self.ledger;
        let out = l.load_wh + l.controller_wh + l.battery_wh + l.curtailed_wh;
        l.initial_wh + l.harvested_wh - out - self.battery.stored_wh()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FALLON: Place = Place { latitude: 39.4575, longitude: -118.77388, elevation_m: 1208.5 };

    fn conditions(air_temperature_c: f64, solar_radiation_w_m2: f64, rain_mm_h: f64) -> Conditions {
        Conditions {
            air_temperature_c,
            dew_point_c: air_temperature_c - 5.0,
            relative_humidity_pct: 60.0,
            wind_speed_m_s: 2.0,
            solar_radiation_w_m2,
            clear_sky_w_m2: 1000.0,
            rain_mm_h,
            et0_mm_h: 0.1,
        }
    }

    proptest! {
        #[test]
        fn energy_is_conserved_whatever_the_weather_and_the_load(
            steps in prop::collection::vec((-30.0f64..45.0, 0.0f64..1200.0, 0.0f64..20.0, 0.0f64..30.0, 0.05f64..2.0), 1..200),
            charge in 0.0f64..1.0,
            base in any::<bool>(),
        ) {
            let config = if base { SupplyConfig::base_station() } else { SupplyConfig::station() };
            let mut supply = Supply::new(&config, charge);
            let mut time: Timestamp = "2026-06-01T07:00:00Z".parse().unwrap();
            for (air, sun, rain, load, hours) in steps {
                let load_w = if base { load } else { load / 100.0 };
                supply.step(&config, &FALLON, time, hours, &conditions(air, sun, rain), load_w);
                time = time.plus_millis((hours * 3_600_000.0) as i64);
                let through = supply.ledger().initial_wh + supply.ledger().harvested_wh;
                prop_assert!(supply.imbalance_wh().abs() <= 1e-9 * through.max(1.0), "{}", supply.imbalance_wh());
                prop_assert!((0.0..=config.battery.capacity_wh).contains(&supply.battery().stored_wh()));
                let l = supply.ledger();
                for part in [l.load_wh, l.controller_wh, l.battery_wh, l.curtailed_wh] {
                    prop_assert!(part >= -1e-12);
                }
            }
        }
    }

    #[test]
    fn a_node_without_sun_browns_out_and_comes_back_with_it() {
        let config = SupplyConfig::station();
        let mut supply = Supply::new(&config, 0.5);
        let noon: Timestamp = "2026-06-21T19:57:00Z".parse().unwrap();
        let mut hours = 0;
        while supply.is_on() {
            supply.step(&config, &FALLON, noon, 1.0, &conditions(15.0, 0.0, 0.0), 0.01);
            hours += 1;
            assert!(hours < 1000);
        }
        // Half of 4.8 Wh at 10 mW, less what self-discharge and the conversion take: nine to ten days.
        assert!((200..240).contains(&hours), "{hours}");
        let load = supply.ledger().load_wh;
        supply.step(&config, &FALLON, noon, 1.0, &conditions(15.0, 0.0, 0.0), 0.01);
        assert_eq!(supply.ledger().load_wh, load, "a node that is off uses nothing");
        let mut sunny = 0;
        while !supply.is_on() {
            supply.step(&config, &FALLON, noon, 1.0, &conditions(15.0, 900.0, 0.0), 0.01);
            sunny += 1;
            assert!(sunny < 100);
        }
        assert_eq!(supply.returns(), 1);
        assert!(supply.voltage_v() > config.battery.limits_v().reconnect_v);
    }

    #[test]
    fn a_frozen_lithium_cell_is_not_charged() {
        let config = SupplyConfig::station();
        let noon: Timestamp = "2026-01-21T19:57:00Z".parse().unwrap();
        let stored = |air: f64| {
            let mut supply = Supply::new(&config, 0.3);
            supply.step(&config, &FALLON, noon, 1.0, &conditions(air, 500.0, 0.0), 0.0);
            supply.battery().stored_wh() - supply.ledger().initial_wh
        };
        assert!(stored(-5.0) <= 0.0 && stored(5.0) > 0.1, "{} {}", stored(-5.0), stored(5.0));
    }
}
