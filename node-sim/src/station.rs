//! A station: the soil under it, its probes, its battery, and the readings that it takes.
//!
//! A station's numbers come from the seed and its own name alone. It shares with the others the weather and its field's
//! irrigation, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::{Channel, FieldId, Quantity, Reading, StationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::chance::{Chance, hash};
use crate::energy::EnergyConfig;
use crate::energy::node::{Power, PowerState, Wake};
use crate::energy::outlook::Forecast;
use crate::faults::injector::FaultState;
use crate::faults::{FaultKind, Offered, Outcome, Shown, StationFaults, Surroundings};
use crate::field::{FieldConfig, FieldStep};
use crate::ground::{self, Column, Cover, Solute};
use crate::radio::node::Radio;
use crate::radio::{Path, RadioConfig};
use crate::sensing::{self, Detail, Followed, Probe, SensorsConfig, model};
use crate::sensor::{MOST_HUMIDITY_PCT, Sensor, TIP_MM, sent};
use crate::soil::pedotransfer::Composition;
use crate::space;
use crate::sun::Place;
use crate::weather::{AnnualTemperature, Conditions};

/// What every station measures, in the order of its readings; [`SensorsConfig::also`] may add to it.
pub const CHANNELS: [Channel; 13] = [
    Channel::at(Quantity::SoilMoisture, 10),
    Channel::at(Quantity::SoilMoisture, 20),
    Channel::at(Quantity::SoilMoisture, 40),
    Channel::at(Quantity::SoilTemperature, 10),
    Channel::at(Quantity::SoilTemperature, 30),
    Channel::at(Quantity::SoilEc, 20),
    Channel::at(Quantity::AirTemperature, 200),
    Channel::at(Quantity::RelativeHumidity, 200),
    Channel::at(Quantity::WindSpeed, 200),
    Channel::of(Quantity::SolarRadiation),
    Channel::of(Quantity::Rain),
    Channel::of(Quantity::Battery),
    Channel::of(Quantity::Rssi),
];

/// The depth of a probe in the soil whose channel says none, cm.
const USUAL_DEPTH_CM: u16 = 20;

/// Whether a quantity is one that a probe in the soil measures.
#[must_use]
pub const fn is_of_the_soil(quantity: Quantity) -> bool {
    matches!(
        quantity,
        Quantity::SoilMoisture
            | Quantity::SoilTemperature
            | Quantity::SoilEc
            | Quantity::Nitrate
            | Quantity::Phosphorus
            | Quantity::Potassium
    )
}

/// Where a probe in the soil is, mm.
fn depth_mm(channel: Channel) -> f64 {
    10.0 * f64::from(channel.level_cm.unwrap_or(USUAL_DEPTH_CM))
}

/// A reading, and the fault that is in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The reading as it is sent.
    pub reading: Reading,
    /// What was wrong with it. A spike fault that left this reading alone is none.
    pub fault: Option<FaultKind>,
    /// What was true, where a fault is in it.
    pub truth: Option<f64>,
}

/// How a station differs from its field's nominal one.
#[derive(Debug, Clone, Copy)]
struct Variation {
    rain: f64,
    irrigation: f64,
    wind: f64,
    air_c: f64,
    cover: f64,
    panel: f64,
    signal_dbm: f64,
}

/// Where a station stands.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The index of its field in the farm.
    pub field: usize,
    /// Its field.
    pub config: &'a FieldConfig,
    /// Where the gateway is, for the radio.
    pub gateway: &'a Place,
    /// Where the base station is, when it is behind one: its radio's way ends there.
    pub base: Option<&'a Place>,
    /// The farm's seed.
    pub seed: u64,
    /// The year's course of the air temperature.
    pub annual: AnnualTemperature,
    /// The ground there: its place, its texture and its slope.
    pub ground: space::Site,
    /// Which probes it has.
    pub sensors: &'a SensorsConfig,
    /// What they measure: [`SensorsConfig::channels`], shared by all stations.
    pub channels: &'a Arc<[Channel]>,
    /// What it is powered by, where that is simulated.
    pub energy: Option<&'a EnergyConfig>,
    /// How it reaches the gateway, where that is simulated.
    pub radio: Option<&'a RadioConfig>,
    /// How often it samples and reports, s.
    pub every_s: (u32, u32),
}

/// A station as it is simulated.
#[derive(Debug, Clone)]
pub struct Station {
    id: StationId,
    field: usize,
    field_id: FieldId,
    latitude: f64,
    longitude: f64,
    /// From the field's middle, degrees clockwise from north.
    direction_degrees: f64,
    variation: Variation,
    /// What it measures.
    channels: Arc<[Channel]>,
    /// Of its simple probes, in the order of its channels.
    offsets: Vec<f64>,
    noise: Chance,
    /// Probes by their data sheets, in the order of its channels; none where they are simple.
    probes: Vec<Probe>,
    powered_s: f64,
    faults: StationFaults,
    ground: Column,
    /// Charge of the battery, 0 to 1, where its power is not simulated.
    charge: f64,
    power: Option<Power>,
    radio: Option<Radio>,
    /// Rain in the gauge's bucket that has not tipped yet, mm.
    bucket_mm: f64,
    /// Readings of the sample at hand, before and behind its faults.
    offered: Vec<Offered>,
    shown: Vec<Shown>,
}

/// What changes in a station.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StationState {
    charge: f64,
    bucket_mm: f64,
    #[serde(default)]
    faults: FaultState,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    followed: BTreeMap<Channel, Followed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    power: Option<PowerState>,
    ground: ground::State,
}

impl Station {
    /// A station at field capacity and with the year's heat in its soil at `start`. `faults` are its own.
    #[must_use]
    pub fn new(id: StationId, site: &Site<'_>, start: Timestamp, faults: StationFaults) -> Self {
        let Site { field, config, gateway, base, seed, annual, ground, sensors, channels, energy, radio, every_s } =
            *site;
        let mut draw = Chance::new(seed, &format!("station/{id}/variation")).at(0);
        // Beside its texture the soil's contents vary by 1 % from place to place, and its conductivity by a third.
        let soil = ground::Soil {
            composition: Composition {
                sand_pct: ground.sand_pct,
                clay_pct: ground.clay_pct,
                ..config.soil.composition()
            },
            contents: (1.0 + 0.01 * draw.normal()).clamp(0.88, 1.12),
            conductivity: (0.3 * draw.normal()).exp().clamp(0.5, 2.0),
            slope: ground.slope,
        };
        let (latitude, longitude) = (ground.latitude, ground.longitude);
        let metres = distance_m(latitude, longitude, gateway).max(10.0);
        let water_ec = (0.12 * draw.normal()).exp();
        let variation = Variation {
            rain: (1.0 + 0.03 * draw.normal()).clamp(0.9, 1.1),
            irrigation: (1.0 + 0.06 * draw.normal()).clamp(0.8, 1.2),
            wind: (1.0 + 0.06 * draw.normal()).clamp(0.8, 1.2),
            air_c: 0.2 * draw.normal(),
            cover: (1.0 + 0.05 * draw.normal()).clamp(0.8, 1.1),
            panel: (1.0 + 0.1 * draw.normal()).clamp(0.7, 1.3),
            // Log-distance path loss with an exponent of 2.7, as measured over crops; -50 dBm at ten metres.
            signal_dbm: -50.0 - 27.0 * (metres / 10.0).log10() + 2.0 * draw.normal(),
        };
        let sends_by = radio.copied().unwrap_or_default();
        let power = energy.map(|energy| Power::new(energy, &sends_by, *gateway, variation.panel, every_s));
        let to_base = base.map(|base| distance_m(latitude, longitude, base).max(10.0));
        let radio = radio.map(|radio| Radio::new(radio, to_base.unwrap_or(metres), seed, id.as_str()));
        let mut draw = Chance::new(seed, &format!("station/{id}/probes")).at(0);
        let mut offset = |channel: &Channel| Sensor::of(channel.quantity).offset * draw.normal().clamp(-2.5, 2.5);
        let offsets = channels.iter().map(&mut offset).collect();
        let noise = Chance::new(seed, &format!("station/{id}/noise"));
        let probe = |channel: &Channel| {
            Probe::new(model(channel.quantity, sensors.soil), seed, &id, &channel.to_string(), start)
        };
        let probes = match sensors.model {
            Detail::Simple => Vec::new(),
            Detail::DataSheet => channels.iter().map(probe).collect(),
        };
        Self {
            ground: Column::new(&soil, annual, config.water_ec_ds_m * water_ec, start),
            charge: 0.85,
            power,
            radio,
            bucket_mm: 0.0,
            offered: Vec::with_capacity(channels.len()),
            shown: Vec::with_capacity(channels.len()),
            channels: Arc::clone(channels),
            direction_degrees: direction_degrees(latitude, longitude, config),
            field_id: config.id.clone(),
            id,
            field,
            latitude,
            longitude,
            variation,
            offsets,
            noise,
            probes,
            powered_s: sensors.powered_s,
            faults,
        }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &StationId {
        &self.id
    }

    /// The index of its field in the farm.
    #[must_use]
    pub fn field(&self) -> usize {
        self.field
    }

    /// The name of its field.
    #[must_use]
    pub fn field_id(&self) -> &FieldId {
        &self.field_id
    }

    /// Degrees north and east.
    #[must_use]
    pub fn position(&self) -> (f64, f64) {
        (self.latitude, self.longitude)
    }

    /// The ground under it.
    #[must_use]
    pub fn ground(&self) -> &Column {
        &self.ground
    }

    /// Its faults.
    #[must_use]
    pub fn faults(&self) -> &StationFaults {
        &self.faults
    }

    /// What changes, to keep.
    #[must_use]
    pub fn state(&self) -> StationState {
        StationState {
            charge: self.charge,
            bucket_mm: self.bucket_mm,
            ground: self.ground.state(),
            faults: self.faults.state().clone(),
            followed: self
                .channels
                .iter()
                .zip(&self.probes)
                .filter_map(|(channel, probe)| Some((*channel, probe.followed()?)))
                .collect(),
            power: self.power.as_ref().map(Power::state),
        }
    }

    /// Puts back what was kept.
    pub fn restore(&mut self, state: StationState) {
        self.charge = state.charge;
        self.bucket_mm = state.bucket_mm;
        self.ground.restore(state.ground);
        self.faults.restore(state.faults);
        for (channel, probe) in self.channels.iter().zip(&mut self.probes) {
            probe.restore(state.followed.get(channel).copied());
        }
        if let Some((power, state)) = self.power.as_mut().zip(state.power) {
            power.restore(state);
        }
    }

    /// The farm begins, with this share of the available water missing where one is given: everything is counted from here.
    pub(crate) fn begin(&mut self, dry: Option<f64>) {
        dry.iter().for_each(|share| self.ground.dry(*share));
        self.ground.forget();
    }

    /// Goes on by a step that begins at `start`, with what its field has.
    pub fn step(&mut self, start: Timestamp, hours: f64, conditions: &Conditions, field: &FieldStep) {
        if let Some(kg_ha) = field.fertiliser {
            self.ground.fertilise(kg_ha);
        }
        let rain_mm_h = conditions.rain_mm_h * self.variation.rain;
        let brought = field.brought(self.direction_degrees, rain_mm_h, self.variation.irrigation);
        let mut cover: Cover = field.cover;
        cover.coefficients.cover = (cover.coefficients.cover * self.variation.cover).min(0.99);
        self.ground.step(start, hours, conditions, &brought, &cover);
        if let Some(power) = &mut self.power {
            power.step(start, hours, conditions);
        }
        // A full sun charges 3 % an hour, less as the battery fills; the node takes 3 % a day.
        let charging = 0.03 * conditions.solar_radiation_w_m2 / 1000.0 * self.variation.panel * (1.0 - self.charge);
        self.charge = (self.charge + hours * (charging - 0.03 / 24.0)).clamp(0.0, 1.0);
    }

    /// Takes the sample with this number at a time; `rain_mm` fell since the one before.
    pub fn sample(
        &mut self,
        number: i64,
        time: Timestamp,
        conditions: &Conditions,
        rain_mm: f64,
        out: &mut Vec<Measured>,
    ) -> Outcome {
        let gauge = self.channels.iter().position(|channel| channel.quantity == Quantity::Rain);
        let gauge = gauge.and_then(|index| self.probes.get(index)).map_or(0.0, Probe::gain);
        self.bucket_mm += rain_mm * self.variation.rain * (1.0 + gauge);
        let tips = (self.bucket_mm / TIP_MM).floor();
        self.bucket_mm -= tips * TIP_MM;
        let wake = self.power.as_mut().map_or(Wake::Takes, Power::wake);
        if wake == Wake::Off {
            return Outcome { lost: true, ..Outcome::default() };
        }
        let received_dbm = self.radio.as_mut().map(|radio| radio.received_dbm(time, conditions));
        let mut draw = self.noise.at(number);
        self.offered.clear();
        for index in 0..self.channels.len() {
            let channel = self.channels[index];
            let quantity = channel.quantity;
            let truth = match quantity {
                Quantity::Rain => tips * TIP_MM,
                Quantity::Rssi if received_dbm.is_some() => received_dbm.unwrap_or_default(),
                _ => self.truth(index, conditions),
            };
            let normal = draw.normal();
            let mut value = match self.probes.get_mut(index) {
                None => Sensor::of(quantity).noisy(truth + self.offsets[index], normal),
                // The bucket's size is its calibration.
                Some(_) if quantity == Quantity::Rain => truth,
                Some(probe) => {
                    let probe_c = match channel.quantity {
                        quantity if is_of_the_soil(quantity) => self.ground.temperature_c(depth_mm(channel)),
                        _ => conditions.air_temperature_c + self.variation.air_c,
                    };
                    probe.measure(&sensing::Reading { time, truth, probe_c, powered_s: self.powered_s, normal })
                }
            };
            if quantity == Quantity::WindSpeed {
                // In a calm, turbulence is all that there is, and its mean speed is above zero.
                value = value.abs();
            }
            self.offered.push(Offered { channel, truth, value });
        }
        let around = Surroundings {
            air_temperature_c: Some(conditions.air_temperature_c + self.variation.air_c),
            solar_radiation_w_m2: Some(conditions.solar_radiation_w_m2),
            ..Surroundings::of(&self.offered)
        };
        self.shown.clear();
        let outcome = self.faults.sample(number, time, &self.offered, &around, &mut self.shown);
        let (channels, probes) = (&self.channels, &self.probes);
        let reads = |shown: &Shown| match channels.iter().position(|channel| *channel == shown.channel) {
            Some(index) if index < probes.len() => probes[index].reads(shown.value),
            _ => sent(shown.channel.quantity, shown.value),
        };
        out.extend(self.shown.iter().map(|shown| Measured {
            reading: Reading { channel: shown.channel, time, value: reads(shown) },
            fault: shown.fault,
            truth: shown.fault.map(|_| shown.truth),
        }));
        Outcome { restarted: outcome.restarted || wake == Wake::Boots, ..outcome }
    }

    /// Whether its reports reach the gateway.
    pub fn reaches(&mut self, time: Timestamp, conditions: &Conditions) -> bool {
        let powered = self.power.as_ref().is_none_or(|power| power.supply().is_on());
        powered && self.radio.as_mut().is_none_or(|radio| radio.is_up(time, conditions))
    }

    /// How its reports go to the gateway, with a base station's rate in between where it is behind one; none where that is not
    /// simulated.
    pub fn path(&mut self, time: Timestamp, conditions: &Conditions, onward_bit_s: Option<f64>) -> Option<Path> {
        self.radio.as_mut().map(|radio| radio.path(time, conditions, onward_bit_s))
    }

    /// Plans its reports by a forecast, where its power is simulated and plans them.
    pub fn plan(&mut self, forecast: &Forecast) {
        self.power.iter_mut().for_each(|power| power.plan(forecast));
    }

    /// Whether it reports after the sample at hand; none where it does so by its rhythm.
    pub fn report(&mut self) -> Option<bool> {
        self.power.as_mut().and_then(Power::report)
    }

    /// Its power, where that is simulated.
    #[must_use]
    pub fn power(&self) -> Option<&Power> {
        self.power.as_ref()
    }

    /// The value that the channel with this index would have without noise and offset.
    fn truth(&self, index: usize, conditions: &Conditions) -> f64 {
        let channel = self.channels[index];
        let depth_mm = depth_mm(channel);
        match channel.quantity {
            Quantity::SoilMoisture => self.ground.water_content(depth_mm),
            Quantity::SoilTemperature => self.ground.temperature_c(depth_mm),
            Quantity::SoilEc => self.ground.bulk_ec_ds_m(depth_mm),
            Quantity::Nitrate => self.ground.nutrient_mg_kg(Solute::Nitrate, depth_mm),
            Quantity::Phosphorus => self.ground.nutrient_mg_kg(Solute::Phosphorus, depth_mm),
            Quantity::Potassium => self.ground.nutrient_mg_kg(Solute::Potassium, depth_mm),
            Quantity::AirTemperature => conditions.air_temperature_c + self.variation.air_c,
            Quantity::RelativeHumidity => conditions.relative_humidity_pct.min(MOST_HUMIDITY_PCT),
            Quantity::WindSpeed => conditions.wind_speed_m_s * self.variation.wind,
            Quantity::SolarRadiation => conditions.solar_radiation_w_m2,
            Quantity::Battery if self.power.is_some() => {
                self.power.as_ref().map_or(0.0, |power| power.supply().voltage_v())
            }
            // A lithium cell by its charge, a little higher while it is charged, lower in the cold.
            Quantity::Battery => {
                3.45 + 0.65 * self.charge + 0.04 * conditions.solar_radiation_w_m2 / 1000.0
                    - 0.002 * (20.0 - conditions.air_temperature_c).max(0.0)
            }
            Quantity::Rssi => {
                let wet = if conditions.rain_mm_h > 0.0 { 2.0 } else { 0.0 };
                self.variation.signal_dbm - 0.03 * (conditions.relative_humidity_pct - 50.0) - wet
            }
            // No other quantity is among a station's channels.
            _ => 0.0,
        }
    }
}

/// When a station samples and when it reports: every station at its own moment of the interval, so that a thousand of
/// them do not speak at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    interval_ms: i64,
    phase_ms: i64,
    per_report: i64,
    report_phase: i64,
}

impl Rhythm {
    /// The rhythm of a station that samples every `sample_s` and reports every `report_s`, a multiple of it.
    #[must_use]
    pub fn new(id: &StationId, sample_s: u32, report_s: u32) -> Self {
        let interval_ms = i64::from(sample_s) * 1000;
        let per_report = i64::from(report_s / sample_s).max(1);
        let number = hash(id.as_str());
        // Whole seconds, as a node's clock has them.
        let phase_ms = (number % u64::from(sample_s)) as i64 * 1000;
        Self { interval_ms, phase_ms, per_report, report_phase: ((number >> 32) % per_report as u64) as i64 }
    }

    /// The number of the first sample after a time.
    #[must_use]
    pub fn next_after(&self, time: Timestamp) -> i64 {
        (time.as_millis() - self.phase_ms).div_euclid(self.interval_ms) + 1
    }

    /// When the sample with a number is taken.
    #[must_use]
    pub fn time(&self, number: i64) -> Timestamp {
        Timestamp::from_millis(number * self.interval_ms + self.phase_ms)
    }

    /// Whether a report goes out after this sample.
    #[must_use]
    pub fn reports_after(&self, number: i64) -> bool {
        (number + self.report_phase).rem_euclid(self.per_report) == self.per_report - 1
    }
}

/// Where a place lies from a field's middle, degrees clockwise from north.
fn direction_degrees(latitude: f64, longitude: f64, field: &FieldConfig) -> f64 {
    let east = (longitude - field.longitude) * field.latitude.to_radians().cos();
    east.atan2(latitude - field.latitude).to_degrees().rem_euclid(360.0)
}

/// Distance on the ground; good for a farm.
pub(crate) fn distance_m(latitude: f64, longitude: f64, from: &Place) -> f64 {
    const METRES_PER_DEGREE: f64 = 111_320.0;
    let north = (latitude - from.latitude) * METRES_PER_DEGREE;
    let east = (longitude - from.longitude) * METRES_PER_DEGREE * from.latitude.to_radians().cos();
    north.hypot(east)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stations_sample_at_their_own_moments_and_report_every_few_samples() {
        let start: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let rhythms: Vec<Rhythm> =
            (1..=8).map(|n| Rhythm::new(&StationId::try_from(format!("n{n}")).unwrap(), 300, 900)).collect();
        for rhythm in &rhythms {
            let first = rhythm.next_after(start);
            assert!(rhythm.time(first) > start && rhythm.time(first - 1) <= start);
            assert_eq!(rhythm.next_after(rhythm.time(first)), first + 1);
            assert_eq!((first..first + 30).filter(|&n| rhythm.reports_after(n)).count(), 10);
        }
        assert!(rhythms.windows(2).any(|pair| pair[0].phase_ms != pair[1].phase_ms));
    }
}
