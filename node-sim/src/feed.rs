//! Where the stations' readings come from: a simulated farm, or measured data that is replayed.

use proto::{Channel, FieldId, StationId, Timestamp};

use crate::base_station::BaseStation;
use crate::clock::ClockFault;
use crate::config::{Config, ConfigError, FarmConfig};
use crate::farm::{Farm, FarmState, Sample};
use crate::faults::{RandomFaults, Scenario};
use crate::field::Season;
use crate::replay::Replay;

/// What measures, whatever it is: [`crate::run()`] paces it, and takes its samples. Both are pure functions of the
/// configuration and of time.
#[derive(Debug)]
pub(crate) enum Feed {
    Simulated(Box<Farm>),
    Replayed(Box<Replay>),
}

/// What a station tells the gateway about itself.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub id: StationId,
    pub channels: Vec<Channel>,
    pub interval_s: u32,
    pub report_s: u32,
    pub field: Option<FieldId>,
    /// Degrees north and east.
    pub position: Option<(f64, f64)>,
}

impl Feed {
    /// The feed at its beginning.
    pub fn open(config: &Config) -> Result<Self, ConfigError> {
        let Some(replay) = &config.replay else { return Ok(Self::Simulated(Box::new(Farm::new(&config.farm)?))) };
        let replay = Replay::open(replay, &config.farm).map_err(|problems| ConfigError { problems })?;
        for bad in &replay.skipped().first {
            tracing::warn!("{bad}");
        }
        let skipped = replay.skipped();
        if skipped.rows + skipped.values > 0 {
            tracing::warn!(rows = skipped.rows, values = skipped.values, "not everything can be replayed");
        }
        Ok(Self::Replayed(Box::new(replay)))
    }

    /// The stations, in the order of their indexes.
    pub fn stations(&self, config: &Config) -> Vec<About> {
        let (sample_s, report_s) = (config.farm.sample_s, config.farm.report_s);
        match self {
            Self::Simulated(farm) => farm
                .stations()
                .iter()
                .zip(farm_gaps(&config.farm, farm))
                .map(|(station, report_s)| About {
                    id: station.id().clone(),
                    channels: config.farm.sensors.channels(),
                    interval_s: sample_s,
                    report_s,
                    field: Some(station.field_id().clone()),
                    position: Some(station.position()),
                })
                .collect(),
            Self::Replayed(replay) => replay
                .stations()
                .iter()
                .map(|station| About {
                    id: station.id.clone(),
                    channels: station.channels.clone(),
                    interval_s: station.interval_s,
                    report_s: report_s.max(station.interval_s),
                    field: station.field.clone(),
                    position: station.position,
                })
                .collect(),
        }
    }

    pub fn now(&self) -> Timestamp {
        match self {
            Self::Simulated(farm) => farm.now(),
            Self::Replayed(replay) => replay.now(),
        }
    }

    /// When the next sample of any station is due; the end of time when there is none.
    pub fn next_sample(&self) -> Timestamp {
        match self {
            Self::Simulated(farm) => farm.next_sample(),
            Self::Replayed(replay) => replay.next_sample().unwrap_or(Timestamp::MAX),
        }
    }

    /// When the base station may next be switched, where there is one.
    pub fn next_switch(&self) -> Option<Timestamp> {
        match self {
            Self::Simulated(farm) => farm.base().map(|_| farm.step_end_at_hand()),
            Self::Replayed(_) => None,
        }
    }

    /// The simulated farm.
    pub fn farm(&mut self) -> Option<&mut Farm> {
        match self {
            Self::Simulated(farm) => Some(farm),
            Self::Replayed(_) => None,
        }
    }

    /// Whether a base station is on.
    pub fn base_is_on(&self) -> bool {
        matches!(self, Self::Simulated(farm) if farm.base().is_some_and(BaseStation::is_on))
    }

    /// Whether there will be no more samples.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Replayed(replay) if replay.next_sample().is_none())
    }

    pub fn advance(&mut self, to: Timestamp, on_sample: impl FnMut(&Sample<'_>)) {
        match self {
            Self::Simulated(farm) => farm.advance(to, on_sample),
            Self::Replayed(replay) => replay.advance(to, on_sample),
        }
    }

    /// Irrigates the field of a station; what was measured stays as it was.
    pub fn irrigate(&mut self, station: usize, minutes: u32) {
        if let Self::Simulated(farm) = self {
            farm.irrigate(station, minutes);
        }
    }

    /// What the simulated fields had, used and gave; none of what was measured.
    pub fn seasons(&self) -> Option<Vec<Season>> {
        match self {
            Self::Simulated(farm) => Some(farm.seasons()),
            Self::Replayed(_) => None,
        }
    }

    pub fn state(&self) -> FarmState {
        match self {
            Self::Simulated(farm) => farm.state(),
            Self::Replayed(replay) => FarmState::at(replay.now()),
        }
    }

    pub fn restore(&mut self, state: FarmState) {
        match self {
            Self::Simulated(farm) => farm.restore(state),
            Self::Replayed(replay) => replay.restore(state.now),
        }
    }

    /// What goes wrong by scenario.
    pub fn scenario(&self) -> Scenario {
        match self {
            Self::Simulated(farm) => farm.scenario().clone(),
            Self::Replayed(replay) => replay.scenario().clone(),
        }
    }

    /// The wrong clocks of a station, by its index.
    pub fn clock_faults(&self, station: usize) -> Vec<ClockFault> {
        match self {
            Self::Simulated(farm) => farm.clock_faults(station),
            Self::Replayed(replay) => {
                let id = &replay.stations()[station].id;
                replay.scenario().clocks.iter().filter(|fault| fault.station == *id).cloned().collect()
            }
        }
    }

    /// The stations' faults out of chance, from the beginning.
    pub fn random_faults(&self) -> Vec<RandomFaults> {
        match self {
            Self::Simulated(farm) => farm.stations().iter().filter_map(|station| station.faults().random()).collect(),
            Self::Replayed(replay) => replay.random().collect(),
        }
    }
}

/// The longest time between two reports of each station that its gateway hears of, s, as long as there is power.
fn farm_gaps<'a>(config: &'a FarmConfig, farm: &'a Farm) -> impl Iterator<Item = u32> + 'a {
    let own_s = config.energy.as_ref().map_or(config.report_s, |energy| energy.longest_gap_s(config.report_s));
    farm.stations().iter().map(move |station| {
        let base = config.base_station.as_ref().filter(|base| base.serves(station.field_id()));
        base.map_or(own_s, |base| own_s.max(base.longest_gap_s()))
    })
}
