//! Faults: what goes wrong with which probe or station, from when to when, and what that does to readings.
//!
//! They come from a scenario ([`scenario`]: a TOML file of `[[fault]]` tables) or out of chance ([`random`]), and bend the
//! readings of a farm or of a replayed file ([`injector`]). What a kind takes, its defaults by quantity and its bounds are in
//! [`parameters`]. The kinds are those that published deployments report (K. Ni et al. 2009, *Sensor network data fault
//! types*, ACM Transactions on Sensor Networks 5(3); A. B. Sharma, L. Golubchik and R. Govindan 2010, *Sensor faults:
//! detection methods and prevalence in real-world datasets*, the same 6(3)), and those that whoever maintains soil probes knows.

pub mod injector;
pub mod parameters;
pub mod random;
pub mod scenario;

use proto::{Channel, Quantity, StationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::chance::Chance;

pub use injector::{Injector, Offered, Outcome, Shown, StationFaults, Surroundings};
pub use parameters::{Parameters, Rail};
pub use random::RandomFaults;
pub use scenario::{IrrigationFault, Known, Scenario, read_scenario};

/// The name of what is wrong with a probe or a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Single readings are far off.
    Spike,
    /// The value stays where it was.
    Stuck,
    /// The value runs away slowly.
    Drift,
    /// The value is off by the same from one moment to another.
    Bias,
    /// The value is noisy.
    Noise,
    /// There are no readings, or only some.
    Dropout,
    /// The value lies at an end of the probe's range: a short circuit or a torn wire.
    Rail,
    /// The probe lies on the ground instead of in it.
    PulledOut,
    /// Water is in the connector: a leak that grows with rain and dries afterwards.
    Waterlogged,
    /// Two channels are wired to each other's place.
    Swapped,
    /// The station's clock goes wrong.
    ClockDrift,
    /// The station's voltage sags: it restarts again and again and loses samples.
    BrownOut,
    /// The station's program hangs with a sample until its watchdog resets it: the sample is lost, and the station restarts.
    Hang,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Spike,
        Self::Stuck,
        Self::Drift,
        Self::Bias,
        Self::Noise,
        Self::Dropout,
        Self::Rail,
        Self::PulledOut,
        Self::Waterlogged,
        Self::Swapped,
        Self::ClockDrift,
        Self::BrownOut,
        Self::Hang,
    ];

    /// Its name in scenarios and truth logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spike => "spike",
            Self::Stuck => "stuck",
            Self::Drift => "drift",
            Self::Bias => "bias",
            Self::Noise => "noise",
            Self::Dropout => "dropout",
            Self::Rail => "rail",
            Self::PulledOut => "pulled_out",
            Self::Waterlogged => "waterlogged",
            Self::Swapped => "swapped",
            Self::ClockDrift => "clock_drift",
            Self::BrownOut => "brown_out",
            Self::Hang => "hang",
        }
    }

    /// Whether it befalls a whole station, not one of its channels.
    #[must_use]
    pub const fn is_of_station(self) -> bool {
        matches!(self, Self::ClockDrift | Self::BrownOut | Self::Hang)
    }

    /// Whether it can befall a channel of this quantity. Only what is in the soil can be pulled out of it; what counts or
    /// is the radio's own has no connector that leaks.
    #[must_use]
    pub const fn befalls(self, quantity: Quantity) -> bool {
        match self {
            Self::PulledOut => quantity.is_in_soil(),
            Self::Waterlogged => !matches!(quantity, Quantity::Rain | Quantity::Rssi | Quantity::Battery),
            Self::ClockDrift | Self::BrownOut | Self::Hang => false,
            _ => true,
        }
    }

    /// The number that stands for it in files; never changes. What is in no reading has none.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Dropout | Self::ClockDrift | Self::Hang => 0,
            Self::Spike => 1,
            Self::Stuck => 2,
            Self::Drift => 3,
            Self::Bias => 4,
            Self::Noise => 5,
            Self::Rail => 6,
            Self::PulledOut => 7,
            Self::Waterlogged => 8,
            Self::Swapped => 9,
            Self::BrownOut => 10,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code && code != 0)
    }
}

/// What a fault does to readings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Effect {
    /// Each reading is off by some `magnitude`, up or down, with this probability; never two in a row.
    Spike {
        /// In the quantity's unit.
        magnitude: f64,
        /// 0 to 0.5.
        probability: f64,
    },
    /// The first reading is repeated.
    Stuck,
    /// Each reading is off by the time since the fault's start times this.
    Drift {
        /// In the quantity's unit per hour.
        per_hour: f64,
    },
    /// Each reading is off by this.
    Bias {
        /// In the quantity's unit.
        magnitude: f64,
    },
    /// Each reading is off by a normal number.
    Noise {
        /// Its standard deviation, in the quantity's unit.
        sd: f64,
    },
    /// Each reading is not made with this probability.
    Dropout {
        /// 0 to 1.
        probability: f64,
    },
    /// Each reading is this.
    Rail {
        /// In the quantity's unit.
        value: f64,
    },
    /// The probe reads air: no water, no conductivity, and the air's temperature, warmed by the sun on its body.
    PulledOut {
        /// How much the full sun (1,000 W/m2) warms it above the air, Cel.
        sun_c: f64,
    },
    /// A leak draws readings towards the upper rail by the share `leak`, times how wet the connector is: 1 with rain, and
    /// drying exponentially. With it comes noise.
    Waterlogged {
        /// The share of the way to the rail when it is wet, 0 to 1.
        leak: f64,
        /// Standard deviation of the noise when it is wet, in the quantity's unit.
        sd: f64,
        /// The time in which wetness falls to 1/e, h.
        drying_h: f64,
        /// Whether the water is in it from the fault's start; else it comes with the first rain.
        wet: bool,
    },
    /// The channel shows what this other one should, and the other way round.
    Swapped {
        /// The other channel.
        with: Channel,
    },
    /// Samples are lost with this probability; after each gap the station has restarted.
    BrownOut {
        /// 0 to 0.95.
        probability: f64,
        /// How far the battery's readings sag while it lasts, V.
        sag_v: f64,
        /// Only while the battery has less than this, V; always when none.
        below_v: Option<f64>,
    },
    /// Samples are lost with this probability, each to a hang that the watchdog ends.
    Hang {
        /// 0 to 0.95.
        probability: f64,
    },
}

/// A fault of a channel, or of a station as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The station.
    pub station: StationId,
    /// The channel; none when it is the whole station's.
    pub channel: Option<Channel>,
    /// What it does.
    pub effect: Effect,
    /// The first moment of it.
    pub start: Timestamp,
    /// The first moment after it.
    pub end: Timestamp,
}

impl Fault {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> FaultKind {
        match self.effect {
            Effect::Spike { .. } => FaultKind::Spike,
            Effect::Stuck => FaultKind::Stuck,
            Effect::Drift { .. } => FaultKind::Drift,
            Effect::Bias { .. } => FaultKind::Bias,
            Effect::Noise { .. } => FaultKind::Noise,
            Effect::Dropout { .. } => FaultKind::Dropout,
            Effect::Rail { .. } => FaultKind::Rail,
            Effect::PulledOut { .. } => FaultKind::PulledOut,
            Effect::Waterlogged { .. } => FaultKind::Waterlogged,
            Effect::Swapped { .. } => FaultKind::Swapped,
            Effect::BrownOut { .. } => FaultKind::BrownOut,
            Effect::Hang { .. } => FaultKind::Hang,
        }
    }

    /// Whether it is there at a time.
    #[must_use]
    pub fn is_active(&self, time: Timestamp) -> bool {
        self.start <= time && time < self.end
    }

    /// The channels that it bends: one, or two that are swapped.
    #[must_use]
    pub fn channels(&self) -> [Option<Channel>; 2] {
        match self.effect {
            Effect::Swapped { with } => [self.channel, Some(with)],
            _ => [self.channel, None],
        }
    }

    /// Whether it bends this channel.
    #[must_use]
    pub fn bends(&self, channel: Channel) -> bool {
        self.channels().contains(&Some(channel))
    }

    /// Whether it and another fault are at one time at one channel, or each of the whole of one station.
    #[must_use]
    pub fn collides(&self, other: &Self) -> bool {
        let same = match (self.channel, other.channel) {
            (None, None) => true,
            (None, Some(_)) | (Some(_), None) => false,
            (Some(_), Some(_)) => other.channels().into_iter().flatten().any(|channel| self.bends(channel)),
        };
        same && self.station == other.station && self.start < other.end && other.start < self.end
    }

    /// Its stream of chance.
    pub(crate) fn chance(&self, seed: u64) -> Chance {
        let start = self.start.as_millis();
        match self.channel {
            Some(channel) => Chance::new(seed, &format!("fault/{}/{channel}/{start}", self.station)),
            None => Chance::new(seed, &format!("fault/{}/{}/{start}", self.station, self.kind().name())),
        }
    }
}
