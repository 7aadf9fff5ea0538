//! A battery: what it holds when it is cold and old, what it loses, and what it shows.
//!
//! State is energy, Wh. In the cold a part of it cannot be had, and can be again when it is warm. The figures are those of the
//! data sheets' classes named beside them, not of one product.

use serde::{Deserialize, Serialize};

/// What a battery is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chemistry {
    /// Lithium iron phosphate.
    Lifepo4,
    /// Valve-regulated lead acid with glass mats.
    LeadAcid,
}

/// A battery.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Battery {
    /// What it is made of.
    pub chemistry: Chemistry,
    /// What it holds when new, at 25 Cel, Wh.
    pub capacity_wh: f64,
    /// Cells in series.
    pub cells: u32,
    /// Its age at the beginning, years.
    pub age_years: f64,
}

/// Where a load is cut off and connected again, V.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Below this the load is cut off.
    pub cut_off_v: f64,
    /// At rest at least at this it is connected again.
    pub reconnect_v: f64,
}

/// What of a chemistry is needed.
struct Facts {
    /// Voltage of a resting cell when empty, at each tenth, and full.
    rest_v: [f64; 11],
    /// Share of the capacity that can be had, by temperature.
    cold: &'static [(f64, f64)],
    /// Share of the energy taken that is stored; of the energy drawn that comes out.
    efficiency: (f64, f64),
    /// Loss at rest at 25 Cel, a month; it doubles every 10 K (Arrhenius).
    self_discharge: f64,
    /// Loss of capacity, a year at rest and a full cycle.
    fade: (f64, f64),
    /// The coldest at which it may be charged, Cel.
    charged_above_c: f64,
    /// Voltage drop at a discharge of the capacity in one hour, V a cell.
    drop_v: f64,
    /// Cut-off under load and reconnection at rest, V a cell.
    limits_v: (f64, f64),
}

/// LiFePO4: flat between 3.2 and 3.35 V; charged above 0 Cel only; 80 % of the capacity after 2000 full cycles and discharged down to
/// 2.5 V (data sheets of 26650 and 18650 cells and of 12.8 V packs made of them). Its energy efficiency, cold, self-discharge of 2 % a month and
/// 2 % of the capacity a year are assumptions within what such sheets say.
const LIFEPO4: Facts = Facts {
    rest_v: [2.60, 3.00, 3.20, 3.23, 3.26, 3.28, 3.29, 3.30, 3.32, 3.33, 3.40],
    cold: &[(-20.0, 0.60), (-10.0, 0.75), (0.0, 0.88), (25.0, 1.0)],
    efficiency: (0.97, 0.97),
    self_discharge: 0.02,
    fade: (0.02, 0.0001),
    charged_above_c: 0.0,
    drop_v: 0.08,
    limits_v: (2.50, 3.05),
};

/// Valve-regulated lead acid: at rest 12.8 V when full, 12.2 V when half full and 11.6 V when empty, for six cells; 85 % of the capacity at
/// 0 Cel and 65 % at -15 Cel; 3 % a month at 25 Cel; 88 % of the energy stored and 93 % of it given. The load is cut off at 11.7 V and
/// comes back at 12.2 V, within what solar controllers can be set to. The fade (5 % a year, 0.1 % a full cycle) is an assumption.
const LEAD_ACID: Facts = Facts {
    rest_v: [1.935, 1.96, 1.98, 1.995, 2.01, 2.03, 2.045, 2.06, 2.08, 2.105, 2.13],
    cold: &[(-20.0, 0.58), (-15.0, 0.65), (0.0, 0.85), (25.0, 1.0)],
    efficiency: (0.88, 0.93),
    self_discharge: 0.03,
    fade: (0.05, 0.001),
    charged_above_c: -20.0,
    drop_v: 0.12,
    limits_v: (1.95, 2.03),
};

const HOURS_PER_MONTH: f64 = 730.5;
const HOURS_PER_YEAR: f64 = 8766.0;
/// The least that is left of a capacity, as a share.
const LEAST_CAPACITY: f64 = 0.3;
/// The most power that it is charged with, in its capacity an hour.
const MOST_CHARGE_PER_H: f64 = 0.5;

impl Battery {
    fn facts(&self) -> &'static Facts {
        match self.chemistry {
            Chemistry::Lifepo4 => &LIFEPO4,
            Chemistry::LeadAcid => &LEAD_ACID,
        }
    }

    /// What comes out of it again of what is put in, 0 to 1; nothing where it is too cold to be charged.
    #[must_use]
    pub fn round_trip(&self, ambient_c: f64) -> f64 {
        let facts = self.facts();
        if ambient_c < facts.charged_above_c { 0.0 } else { facts.efficiency.0 * facts.efficiency.1 }
    }

    /// Where its load is cut off and connected again.
    #[must_use]
    pub fn limits_v(&self) -> Limits {
        let (cut_off, reconnect) = self.facts().limits_v;
        Limits { cut_off_v: cut_off * f64::from(self.cells), reconnect_v: reconnect * f64::from(self.cells) }
    }
}

/// What changes in a battery.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatteryState {
    stored_wh: f64,
    /// Share of the capacity that age and use have taken.
    faded: f64,
}

/// Energy into or out of a battery: what was taken or given at its terminals, and what was lost on the way, Wh.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moved {
    /// At the terminals.
    pub given_wh: f64,
    /// In the battery.
    pub lost_wh: f64,
}

impl BatteryState {
    /// A battery charged to a share of what it holds at its age.
    #[must_use]
    pub fn new(battery: &Battery, charge: f64) -> Self {
        let faded = (battery.facts().fade.0 * battery.age_years).clamp(0.0, 1.0 - LEAST_CAPACITY);
        let mut state = Self { stored_wh: 0.0, faded };
        state.stored_wh = state.capacity_wh(battery) * charge.clamp(0.0, 1.0);
        state
    }

    /// What it has stored, Wh.
    #[must_use]
    pub fn stored_wh(&self) -> f64 {
        self.stored_wh
    }

    /// What it holds at its age, warm, Wh.
    #[must_use]
    pub fn capacity_wh(&self, battery: &Battery) -> f64 {
        battery.capacity_wh * (1.0 - self.faded)
    }

    /// What can be had of it at a temperature, Wh.
    #[must_use]
    pub fn available_wh(&self, battery: &Battery, ambient_c: f64) -> f64 {
        (self.stored_wh - (1.0 - at(battery.facts().cold, ambient_c)) * self.capacity_wh(battery)).max(0.0)
    }

    /// What can be had over what could be were it full, 0 to 1.
    #[must_use]
    pub fn charge(&self, battery: &Battery, ambient_c: f64) -> f64 {
        let most = self.capacity_wh(battery) * at(battery.facts().cold, ambient_c);
        (self.available_wh(battery, ambient_c) / most).clamp(0.0, 1.0)
    }

    /// The voltage at its terminals while it is charged with (or, below zero, gives) a power, V.
    #[must_use]
    pub fn voltage_v(&self, battery: &Battery, power_w: f64, ambient_c: f64) -> f64 {
        let facts = battery.facts();
        let place = self.charge(battery, ambient_c) * 10.0;
        let below = (place.floor() as usize).min(9);
        let rest = facts.rest_v[below] + (facts.rest_v[below + 1] - facts.rest_v[below]) * (place - below as f64);
        let drop = facts.drop_v * power_w / self.capacity_wh(battery);
        (rest + drop.clamp(-0.5, 0.2)) * f64::from(battery.cells)
    }

    /// Draws energy from it; what it gives is all that is wanted, or all that can be had.
    pub fn discharge(&mut self, battery: &Battery, wanted_wh: f64, ambient_c: f64) -> Moved {
        let efficiency = battery.facts().efficiency.1;
        let given_wh = wanted_wh.min(self.available_wh(battery, ambient_c) * efficiency).max(0.0);
        let taken_wh = (given_wh / efficiency).min(self.stored_wh);
        self.stored_wh -= taken_wh;
        self.faded = (self.faded + battery.facts().fade.1 * taken_wh / battery.capacity_wh).min(1.0 - LEAST_CAPACITY);
        Moved { given_wh, lost_wh: taken_wh - given_wh }
    }

    /// Offers it energy; what it takes is less when it is full or too cold, and comes in at no more than it can be charged with.
    pub fn charge_with(&mut self, battery: &Battery, offered_wh: f64, hours: f64, ambient_c: f64) -> Moved {
        let facts = battery.facts();
        if ambient_c < facts.charged_above_c {
            return Moved { given_wh: 0.0, lost_wh: 0.0 };
        }
        let capacity_wh = self.capacity_wh(battery);
        let room_wh = (capacity_wh - self.stored_wh).max(0.0) / facts.efficiency.0;
        let given_wh = offered_wh.min(room_wh).min(MOST_CHARGE_PER_H * capacity_wh * hours).max(0.0);
        let stored_wh = given_wh * facts.efficiency.0;
        self.stored_wh += stored_wh;
        Moved { given_wh, lost_wh: given_wh - stored_wh }
    }

    /// Lets time pass, and gives what was lost by it, Wh.
    pub fn rest(&mut self, battery: &Battery, hours: f64, ambient_c: f64) -> f64 {
        let facts = battery.facts();
        let rate = facts.self_discharge / HOURS_PER_MONTH * 2f64.powf((ambient_c - 25.0) / 10.0);
        let before_wh = self.stored_wh;
        self.stored_wh *= (-rate * hours).exp();
        self.faded = (self.faded + facts.fade.0 * hours / HOURS_PER_YEAR).min(1.0 - LEAST_CAPACITY);
        // What no longer fits into an older battery is gone with what held it.
        self.stored_wh = self.stored_wh.min(self.capacity_wh(battery));
        before_wh - self.stored_wh
    }
}

/// On straight lines between points in order of their first number, and level beyond them.
fn at(points: &[(f64, f64)], x: f64) -> f64 {
    let after = points.partition_point(|(at, _)| *at <= x);
    match (after.checked_sub(1).and_then(|before| points.get(before)), points.get(after)) {
        (Some(&(x0, y0)), Some(&(x1, y1))) => y0 + (y1 - y0) * (x - x0) / (x1 - x0),
        (Some(&(_, y)), None) | (None, Some(&(_, y))) => y,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lithium() -> Battery {
        Battery { chemistry: Chemistry::Lifepo4, capacity_wh: 100.0, cells: 4, age_years: 0.0 }
    }

    #[test]
    fn cold_hides_energy_and_warmth_gives_it_back() {
        let (battery, state) = (lithium(), BatteryState::new(&lithium(), 1.0));
        assert_eq!(state.available_wh(&battery, 25.0), 100.0);
        assert!((state.available_wh(&battery, -20.0) - 60.0).abs() < 1e-9);
        let mut state = state;
        let moved = state.discharge(&battery, 1000.0, -20.0);
        // But for the wear of the discharge itself.
        assert!((moved.given_wh - 60.0 * 0.97).abs() < 1e-9 && state.available_wh(&battery, -20.0) < 0.01);
        assert!((state.available_wh(&battery, 25.0) - 40.0).abs() < 0.1);
    }

    #[test]
    fn what_stands_for_a_month_loses_what_the_sheets_say_and_twice_as_much_when_warmer_by_ten() {
        let lost = |ambient_c| BatteryState::new(&lithium(), 0.5).rest(&lithium(), HOURS_PER_MONTH, ambient_c) / 50.0;
        assert!((lost(25.0) - 0.02).abs() < 0.0005 && (lost(35.0) / lost(25.0) - 2.0).abs() < 0.05);
    }

    #[test]
    fn after_two_thousand_cycles_four_fifths_are_left() {
        let battery = Battery { capacity_wh: 1.0, ..lithium() };
        let mut state = BatteryState::new(&battery, 1.0);
        for _ in 0..2000 {
            state.charge_with(&battery, 10.0, 10.0, 25.0);
            state.discharge(&battery, 10.0, 25.0);
        }
        assert!((0.78..0.85).contains(&state.capacity_wh(&battery)), "{}", state.capacity_wh(&battery));
    }

    #[test]
    fn voltage_rises_with_charge_and_falls_under_load() {
        for chemistry in [Chemistry::Lifepo4, Chemistry::LeadAcid] {
            let battery = Battery { chemistry, ..lithium() };
            let at = |charge, power| BatteryState::new(&battery, charge).voltage_v(&battery, power, 25.0);
            assert!((0..10).all(|tenth| at(f64::from(tenth) / 10.0, 0.0) < at(f64::from(tenth + 1) / 10.0, 0.0)));
            assert!(at(0.5, -20.0) < at(0.5, 0.0) && at(0.5, 0.0) < at(0.5, 20.0));
            assert!(at(0.0, -20.0) < battery.limits_v().reconnect_v);
        }
    }
}
