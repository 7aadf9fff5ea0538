//! The farm as a whole, in farm time: weather over fields over stations, and the samples that the stations take.
//!
//! The farm is a pure function of its configuration and of the commands that it is given: it reads no clock, and how its
//! time is cut into calls of [`Farm::advance`] changes nothing. Soil goes on in steps of [`STEP_S`] on a fixed grid; a
//! sample sees the soil as the last step left it and the weather of its own moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::{Channel, FieldId, StationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::base_station::{BaseStation, BaseStationState, OffTime};
use crate::clock::ClockFault;
use crate::config::{ConfigError, FarmConfig};
use crate::crop::stand::days_before;
use crate::energy::outlook::Outlook;
use crate::faults::{Fault, IrrigationFault, RandomFaults, Scenario, StationFaults};
use crate::field::{Field, FieldState, FieldStep, Season};
use crate::radio::Path;
use crate::station::{Measured, Rhythm, Site, Station, StationState};
use crate::weather::Weather;

/// The soil's step, s: a fifth of the fastest thing in it (a shower's front in sand).
pub const STEP_S: i64 = 300;
/// How long before its start the farm is simulated unseen, s: where weather works and roots drink, the soil has then forgotten how it was set up.
/// Below, water, salt and nutrients go slower, and begin near what they were set up with.
const SPIN_UP_S: i64 = 15 * 86_400;
/// How long clocks go wrong by chance, years of a farm's time.
pub const CLOCK_FAULT_YEARS: i64 = 20;

/// A simulated farm at a moment.
#[derive(Debug, Clone)]
pub struct Farm {
    weather: Weather,
    start: Timestamp,
    scenario: Scenario,
    field_ids: Vec<FieldId>,
    fields: Vec<Field>,
    stations: Vec<Station>,
    rhythms: Vec<Rhythm>,
    base: Option<BaseStation>,
    /// Whether each field's stations are behind the base station.
    behind: Vec<bool>,
    /// What stations that plan their reports know of the energy to come.
    outlook: Option<Outlook>,
    /// The number of each station's next sample.
    next: Vec<i64>,
    now: Timestamp,
    /// How many steps of soil since 1970 are done; it is at or before `now`.
    step: i64,
    /// The readings of the sample at hand.
    readings: Vec<Measured>,
}

/// A sample of one station: all of its channels at one time.
#[derive(Debug)]
pub struct Sample<'a> {
    /// The station's index, in the order of [`FarmConfig::station_names`].
    pub station: usize,
    /// The station's name.
    pub id: &'a StationId,
    /// When.
    pub time: Timestamp,
    /// Whether the station reports after it.
    pub reports: bool,
    /// Whether the station has restarted since the sample before: its power was away, or its program hung.
    pub restarted: bool,
    /// How often its watchdog had to reset it since then.
    pub watchdog_resets: u32,
    /// Whether the station reaches its gateway now.
    pub reaches: bool,
    /// How its reports go there, where that is simulated.
    pub path: Option<Path>,
    /// The readings, in the order of [`crate::sensing::SensorsConfig::channels`]; those that dropped out are not there.
    pub readings: &'a [Measured],
}

/// All that changes in a farm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FarmState {
    /// The moment.
    pub now: Timestamp,
    step: i64,
    fields: BTreeMap<FieldId, FieldState>,
    stations: BTreeMap<StationId, StationState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<BaseStationState>,
}

impl FarmState {
    /// A moment of a farm where nothing else changes, because it is replayed.
    pub(crate) fn at(now: Timestamp) -> Self {
        Self { now, step: 0, fields: BTreeMap::new(), stations: BTreeMap::new(), base: None }
    }
}

impl Farm {
    /// The farm at its start.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration and the files that it names.
    pub fn new(config: &FarmConfig) -> Result<Self, ConfigError> {
        let mut inputs = config.open()?;
        let begin = config.start.plus_secs(-SPIN_UP_S).floor_to(STEP_S as u32);
        let fields = config.fields();
        let place = config.place();
        let before = days_before(&mut inputs.weather, &place, begin);
        let annual = inputs.weather.annual();
        let names = config.station_names();
        let channels: Arc<[Channel]> = config.sensors.channels().into();
        let base_place = config.base_station.as_ref().map(|base| base.place(&place, &fields));
        let behind: Vec<bool> = fields
            .iter()
            .map(|field| config.base_station.as_ref().is_some_and(|base| base.serves(&field.id)))
            .collect();
        let served = names.iter().filter(|(_, field)| behind[*field]).count() as u32;
        let planned = config.energy.as_ref().filter(|energy| energy.planned);
        let outlook = planned.map(|energy| Outlook::new(&inputs.weather, &energy.supply(1.0), config.seed));
        let mut sites: Vec<_> = inputs.grounds.iter().map(|ground| ground.sites.iter()).collect();
        let stations: Vec<Station> = names
            .into_iter()
            .filter_map(|(id, field)| {
                // Each has one: that is checked where they are drawn.
                let ground = *sites[field].next()?;
                let own: Vec<Fault> =
                    inputs.scenario.faults.iter().filter(|fault| fault.station == id).cloned().collect();
                let random = RandomFaults::new(&config.faults, config.seed, &id, &channels, config.start, &own);
                let faults = StationFaults::new(own, random, config.seed);
                let site = Site {
                    field,
                    config: &fields[field],
                    gateway: &place,
                    base: base_place.as_ref().filter(|_| behind[field]),
                    seed: config.seed,
                    annual,
                    ground,
                    sensors: &config.sensors,
                    channels: &channels,
                    energy: config.energy.as_ref(),
                    radio: config.radio.as_ref(),
                    every_s: (config.sample_s, config.report_s),
                };
                Some(Station::new(id, &site, begin, faults))
            })
            .collect();
        let rhythms: Vec<Rhythm> =
            stations.iter().map(|station| Rhythm::new(station.id(), config.sample_s, config.report_s)).collect();
        let grown = fields
            .iter()
            .zip(&inputs.grounds)
            .map(|(field, ground)| {
                let fails = inputs.scenario.irrigations.iter().any(|fault| fault.field == field.id);
                let covered_m2 = ground.space.boundary().area_m2();
                Field::new(field, covered_m2, &place, annual, &before, begin, fails)
            })
            .collect();
        let mut farm = Self {
            weather: inputs.weather,
            start: config.start,
            scenario: inputs.scenario,
            fields: grown,
            field_ids: fields.iter().map(|field| field.id.clone()).collect(),
            next: Vec::new(),
            stations,
            rhythms,
            base: None,
            behind,
            outlook,
            now: begin,
            step: begin.as_millis() / (STEP_S * 1000),
            readings: Vec::new(),
        };
        while farm.step_end(farm.step) <= config.start {
            farm.step_soil();
        }
        for (field, of) in farm.fields.iter_mut().zip(&fields) {
            field.begin(config.start, of.dry);
        }
        for station in &mut farm.stations {
            station.begin(fields[station.field()].dry);
        }
        if let Some((base, place)) = config.base_station.as_ref().zip(base_place) {
            farm.base = Some(BaseStation::new(base, place, &farm.weather, config.seed, served));
            farm.begin_base();
        }
        farm.now = config.start;
        farm.schedule();
        Ok(farm)
    }

    /// The moment.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The stations.
    #[must_use]
    pub fn stations(&self) -> &[Station] {
        &self.stations
    }

    /// The scenario's faults of probes and power.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.scenario.faults
    }

    /// What goes wrong by scenario.
    #[must_use]
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The wrong clocks of a station, by scenario and out of chance. Of the latter those of the first
    /// [`CLOCK_FAULT_YEARS`] years of the farm.
    #[must_use]
    pub fn clock_faults(&self, station: usize) -> Vec<ClockFault> {
        let station = &self.stations[station];
        let mut faults: Vec<ClockFault> =
            self.scenario.clocks.iter().filter(|fault| fault.station == *station.id()).cloned().collect();
        let until = self.start.plus_secs(CLOCK_FAULT_YEARS * 365 * 86_400);
        let random = station.faults().random().map(|mut random| random.clocks_until(until)).unwrap_or_default();
        let free = |fault: &ClockFault| !faults.iter().any(|other| other.start < fault.end && fault.start < other.end);
        let random: Vec<ClockFault> = random.into_iter().filter(free).collect();
        faults.extend(random);
        faults
    }

    /// What each field had, used and gave since the farm's start.
    #[must_use]
    pub fn seasons(&self) -> Vec<Season> {
        self.field_ids.iter().cloned().zip(&self.fields).map(|(id, field)| field.season(id, self.now)).collect()
    }

    /// The fields, in the order of the configuration.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// When the next sample of any station is due.
    #[must_use]
    pub fn next_sample(&self) -> Timestamp {
        self.rhythms.iter().zip(&self.next).map(|(rhythm, &number)| rhythm.time(number)).min().unwrap_or(self.now)
    }

    /// The base station, where there is one.
    #[must_use]
    pub fn base(&self) -> Option<&BaseStation> {
        self.base.as_ref()
    }

    /// The base station's off-times that were over since the last call.
    pub fn take_off_times(&mut self) -> Vec<OffTime> {
        self.base.as_mut().map(BaseStation::take_off_times).unwrap_or_default()
    }

    /// When the step of the soil at hand ends, which is when the base station may be switched on or off.
    #[must_use]
    pub fn step_end_at_hand(&self) -> Timestamp {
        self.step_end(self.step)
    }

    /// Whether each station reaches its gateway now, and how its reports go there, where that is simulated.
    #[must_use]
    pub fn reach(&mut self) -> Vec<(bool, Option<Path>)> {
        let (now, conditions) = (self.now, self.weather.at(self.now));
        let (base, behind) = (self.base.as_ref(), &self.behind);
        let of = |station: &mut Station| {
            let base = base.filter(|_| behind[station.field()]);
            let reaches = base.is_none_or(BaseStation::is_on) && station.reaches(now, &conditions);
            (reaches, station.path(now, &conditions, base.map(BaseStation::share_bit_s)))
        };
        self.stations.iter_mut().map(of).collect()
    }

    /// Irrigates a station's field from now on, for a time.
    pub fn irrigate(&mut self, station: usize, minutes: u32) {
        self.fields[self.stations[station].field()].irrigate(minutes);
    }

    /// Goes on to a moment (or stays, when it is past), and gives each sample that is due until then, it included: in order
    /// of time for each station, in no order between stations within a step of the soil.
    pub fn advance(&mut self, to: Timestamp, mut on_sample: impl FnMut(&Sample<'_>)) {
        while self.now < to {
            let end = self.step_end(self.step);
            if to < end {
                self.sample_until(to, &mut on_sample);
                self.now = to;
            } else {
                // A sample on the boundary sees the soil after the step.
                self.sample_until(end.plus_millis(-1), &mut on_sample);
                self.step_soil();
                self.sample_until(end, &mut on_sample);
                self.now = end;
            }
        }
    }

    /// All that changes, to keep.
    #[must_use]
    pub fn state(&self) -> FarmState {
        FarmState {
            now: self.now,
            step: self.step,
            fields: self.field_ids.iter().cloned().zip(self.fields.iter().map(Field::state)).collect(),
            stations: self.stations.iter().map(|station| (station.id().clone(), station.state())).collect(),
            base: self.base.as_ref().map(BaseStation::state),
        }
    }

    /// Puts back what was kept. Fields and stations that were not there before begin as at the farm's start; ones that are
    /// there no more are forgotten.
    pub fn restore(&mut self, mut state: FarmState) {
        self.now = state.now;
        self.step = state.step;
        for (id, field) in self.field_ids.iter().zip(&mut self.fields) {
            if let Some(kept) = state.fields.remove(id) {
                field.restore(kept);
            }
        }
        for station in &mut self.stations {
            if let Some(kept) = state.stations.remove(station.id()) {
                station.restore(kept);
            }
        }
        if let Some((base, kept)) = self.base.as_mut().zip(state.base) {
            base.restore(kept);
        }
        self.schedule();
    }

    fn schedule(&mut self) {
        self.next = self.rhythms.iter().map(|rhythm| rhythm.next_after(self.now)).collect();
    }

    fn step_end(&self, step: i64) -> Timestamp {
        Timestamp::from_millis((step + 1) * STEP_S * 1000)
    }

    /// Begins the base station's step at hand.
    fn begin_base(&mut self) {
        let start = Timestamp::from_millis(self.step * STEP_S * 1000);
        if let Some(base) = &mut self.base {
            base.begin(start, &self.weather.at(start.plus_millis(STEP_S * 500)));
        }
    }

    fn step_soil(&mut self) {
        const HOURS: f64 = STEP_S as f64 / 3600.0;
        let start = Timestamp::from_millis(self.step * STEP_S * 1000);
        let conditions = self.weather.at(start.plus_millis(STEP_S * 500));
        let place = *self.weather.place();
        let scenario = &self.scenario;
        let steps: Vec<FieldStep> = self
            .field_ids
            .iter()
            .zip(&mut self.fields)
            .map(|(id, field)| {
                let active = |fault: &&IrrigationFault| fault.field == *id && fault.start <= start && start < fault.end;
                let comes = scenario.irrigations.iter().find(active).map_or(1.0, |fault| fault.share);
                field.step(start, HOURS, &conditions, &place, comes)
            })
            .collect();
        let whole_hour = start.as_millis().rem_euclid(3_600_000) == 0;
        let forecast = self.outlook.as_mut().filter(|_| whole_hour).map(|outlook| outlook.at(start));
        for station in &mut self.stations {
            forecast.iter().for_each(|forecast| station.plan(forecast));
            station.step(start, HOURS, &conditions, &steps[station.field()]);
        }
        if let Some(base) = &mut self.base {
            base.end(start, HOURS, &conditions);
        }
        self.step += 1;
        self.begin_base();
    }

    fn sample_until(&mut self, until: Timestamp, on_sample: &mut impl FnMut(&Sample<'_>)) {
        for (index, station) in self.stations.iter_mut().enumerate() {
            let rhythm = self.rhythms[index];
            while rhythm.time(self.next[index]) <= until {
                let number = self.next[index];
                let time = rhythm.time(number);
                let conditions = self.weather.at(time);
                let rain_mm = self.weather.rain_mm(rhythm.time(number - 1), time);
                self.readings.clear();
                let outcome = station.sample(number, time, &conditions, rain_mm, &mut self.readings);
                self.next[index] = number + 1;
                let base = self.base.as_ref().filter(|_| self.behind[station.field()]);
                let reaches = base.is_none_or(BaseStation::is_on) && station.reaches(time, &conditions);
                // Who has no power is out of reach, and that is told.
                if outcome.lost && reaches {
                    continue;
                }
                // What has no power does not report; it is still due then.
                let planned = if self.readings.is_empty() { None } else { station.report() };
                let reports = planned.unwrap_or_else(|| rhythm.reports_after(number));
                let path = station.path(time, &conditions, base.map(BaseStation::share_bit_s));
                on_sample(&Sample {
                    station: index,
                    id: station.id(),
                    time,
                    reports,
                    restarted: outcome.restarted,
                    watchdog_resets: outcome.watchdog_resets,
                    reaches,
                    path,
                    readings: &self.readings,
                });
            }
        }
    }
}

/// Simulates a farm without a network: every reading of every station in the span, after `from` and up to `to`, in order
/// of time for each station, and (for the time of a soil step) station by station.
///
/// The farm always begins at its own start, and goes to `from` unseen; a `from` before the start gives readings from the
/// start on. Twenty-four stations make 2.7 million readings in thirty days.
///
/// # Errors
/// Everything that is wrong with the configuration and the files that it names.
pub fn simulate(
    config: &FarmConfig,
    from: Timestamp,
    to: Timestamp,
    mut on_sample: impl FnMut(&StationId, proto::Reading),
) -> Result<(), ConfigError> {
    let mut farm = Farm::new(config)?;
    farm.advance(from.min(to), |_| {});
    farm.advance(to, |sample| {
        for measured in sample.readings {
            on_sample(sample.id, measured.reading);
        }
    });
    Ok(())
}
