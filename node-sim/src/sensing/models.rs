//! Models of probes, with the data sheet that each figure is of.
//!
//! What is marked *assumed* is in no data sheet: the slow part of the noise (sheets give accuracy, which holds it), probes' heat
//! in a radiation screen, and what the analogue part of a node adds. Names are generic: a model stands for its class.

use proto::Quantity;

use super::SoilProbe;

/// A kind of probe. Values are in the quantity's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Model {
    /// What it is.
    pub name: &'static str,
    /// What it measures.
    pub quantity: Quantity,
    /// The kind of soil probe that it is a part of; none when it is in no soil.
    pub soil: Option<SoilProbe>,
    /// Where the figures are from.
    pub source: &'static str,
    /// The least and the greatest value that it gives.
    pub range: (f64, f64),
    /// What readings are multiples of.
    pub resolution: f64,
    /// Accuracy: the part that is the same at all values, ±.
    pub offset: f64,
    /// Accuracy: the part in proportion to the value, ±.
    pub gain: f64,
    /// Long-term drift in a year, ±.
    pub per_year: f64,
    /// Change of the reading with the probe's temperature, per K: the class's mean.
    pub per_k: f64,
    /// And the standard deviation from unit to unit.
    pub per_k_sd: f64,
    /// The temperature at which it is calibrated, Cel.
    pub t0_c: f64,
    /// Standard deviation of the white noise.
    pub noise: f64,
    /// The same in proportion to the value; it adds to `noise`.
    pub relative_noise: f64,
    /// Standard deviation of the slow noise.
    pub slow_noise: f64,
    /// Time to 63 % of a step, s.
    pub response_s: f64,
    /// Error just after power-on.
    pub warm_up: f64,
    /// Time in which that falls to 1/e, s.
    pub warm_up_s: f64,
}

/// What a model has unless it says otherwise.
const PLAIN: Model = Model {
    name: "",
    quantity: Quantity::SoilMoisture,
    soil: None,
    source: "",
    range: (0.0, 1.0),
    resolution: 1.0,
    offset: 0.0,
    gain: 0.0,
    per_year: 0.0,
    per_k: 0.0,
    per_k_sd: 0.0,
    t0_c: 25.0,
    noise: 0.0,
    relative_noise: 0.0,
    slow_noise: 0.0,
    response_s: 0.0,
    warm_up: 0.0,
    warm_up_s: 0.0,
};

const TEROS: &str = "METER TEROS 12 technical specifications";
const CS655: &str = "Campbell Scientific CS650/CS655 manual, specifications";
const SHT35: &str = "Sensirion SHT3x-DIS data sheet";
const ION: &str = "assumed; no data sheet of such probes states field accuracy";

/// Every model; of those for one quantity the first that fits is taken.
pub static ALL: &[Model] = &[
    Model {
        name: "capacitance probe, 70 MHz: water content",
        soil: Some(SoilProbe::Capacitance),
        // ±0.03 m3/m3 with the generic calibration in mineral soils; 0.001 m3/m3; 0 to 0.70. The temperature's effect is that
        // of F. Kizito et al. 2008 (J. Hydrology 352, 367) for this family at 70 MHz: some 0.02 m3/m3 in 10 K, taken for two
        // standard deviations. Noise, slow noise and the settling after power-on are assumed.
        source: TEROS,
        range: (0.0, 0.7),
        resolution: 0.001,
        offset: 0.03,
        per_k_sd: 0.001,
        noise: 0.0005,
        slow_noise: 0.0007,
        warm_up: 0.01,
        warm_up_s: 0.1,
        ..PLAIN
    },
    Model {
        name: "capacitance probe, 70 MHz: temperature",
        quantity: Quantity::SoilTemperature,
        soil: Some(SoilProbe::Capacitance),
        // ±0.3 Cel from 0 to 60 Cel, 0.1 Cel. A body of epoxy in soil follows in minutes: assumed.
        source: TEROS,
        range: (-40.0, 60.0),
        resolution: 0.1,
        offset: 0.3,
        noise: 0.02,
        slow_noise: 0.02,
        response_s: 180.0,
        ..PLAIN
    },
    Model {
        name: "capacitance probe, 70 MHz: conductivity",
        quantity: Quantity::SoilEc,
        soil: Some(SoilProbe::Capacitance),
        // ±(5 % + 0.01 dS/m) up to 10 dS/m, 0.001 dS/m, 0 to 20 dS/m. Kizito et al.: some 0.02 dS/m in 10 K.
        source: TEROS,
        range: (0.0, 20.0),
        resolution: 0.001,
        offset: 0.01,
        gain: 0.05,
        per_k_sd: 0.001,
        noise: 0.002,
        relative_noise: 0.003,
        slow_noise: 0.002,
        ..PLAIN
    },
    Model {
        name: "reflectometer, 12 cm rods: water content",
        soil: Some(SoilProbe::Reflectometer),
        // ±3 % in mineral soils; 5 to 50 %; repeatability below 0.05 %. Steps of what it sends: assumed.
        source: CS655,
        range: (0.0, 0.5),
        resolution: 0.0001,
        offset: 0.03,
        per_k_sd: 0.0005,
        noise: 0.0005,
        slow_noise: 0.0005,
        ..PLAIN
    },
    Model {
        name: "reflectometer, 12 cm rods: temperature",
        quantity: Quantity::SoilTemperature,
        soil: Some(SoilProbe::Reflectometer),
        // ±0.5 Cel for a body that is buried, repeatability 0.02 Cel, -10 to 70 Cel.
        source: CS655,
        range: (-10.0, 70.0),
        resolution: 0.01,
        offset: 0.5,
        noise: 0.02,
        slow_noise: 0.02,
        response_s: 180.0,
        ..PLAIN
    },
    Model {
        name: "reflectometer, 12 cm rods: conductivity",
        quantity: Quantity::SoilEc,
        soil: Some(SoilProbe::Reflectometer),
        // ±(5 % + 0.05 dS/m), repeatability 0.5 %, 0 to 8 dS/m.
        source: CS655,
        range: (0.0, 8.0),
        resolution: 0.001,
        offset: 0.05,
        gain: 0.05,
        relative_noise: 0.005,
        slow_noise: 0.002,
        ..PLAIN
    },
    Model {
        name: "digital thermometer in a screen",
        quantity: Quantity::AirTemperature,
        // ±0.1 Cel from 20 to 60 Cel, 0.01 Cel, drift below 0.03 Cel a year, down to -45 Cel by its formula. A screen takes a
        // minute to follow, and its air is not quite still: assumed.
        source: SHT35,
        range: (-45.0, 60.0),
        resolution: 0.01,
        offset: 0.1,
        per_year: 0.03,
        noise: 0.04,
        slow_noise: 0.03,
        response_s: 60.0,
        ..PLAIN
    },
    Model {
        name: "digital hygrometer in a screen",
        quantity: Quantity::RelativeHumidity,
        // ±1.5 %, 0.01 %, drift below 0.25 % a year, 8 s to 63 % of a step; a screen makes it a minute. Noise: assumed.
        source: SHT35,
        range: (0.0, 100.0),
        resolution: 0.01,
        offset: 1.5,
        per_year: 0.25,
        noise: 0.15,
        slow_noise: 0.15,
        response_s: 60.0,
        ..PLAIN
    },
    Model {
        name: "ultrasonic anemometer",
        quantity: Quantity::WindSpeed,
        // 0 to 30 m/s, 0.01 m/s, the greater of 0.3 m/s and 3 %: 0.1 m/s and 3 % are an assumption, stricter below 7 m/s. The turbulence that is left in a short mean is a tenth of it: assumed.
        source: "METER ATMOS 22 user manual, specifications",
        range: (0.0, 30.0),
        resolution: 0.01,
        offset: 0.1,
        gain: 0.03,
        noise: 0.04,
        relative_noise: 0.1,
        ..PLAIN
    },
    Model {
        name: "silicon-cell pyranometer",
        quantity: Quantity::SolarRadiation,
        // Calibration ±5 %, repeatability below 1 %, 1 ms. It is dark at night, so there is no offset.
        source: "Apogee SP-110 owner's manual, specifications",
        range: (0.0, 1600.0),
        resolution: 0.1,
        gain: 0.05,
        relative_noise: 0.008,
        ..PLAIN
    },
    Model {
        name: "tipping bucket",
        quantity: Quantity::Rain,
        // 0.2 mm a tip. ±4 % of what falls.
        source: "Davis Rain Collector, metric, specifications",
        range: (0.0, 100.0),
        resolution: crate::sensor::TIP_MM,
        gain: 0.04,
        ..PLAIN
    },
    Model {
        name: "micromechanical barometer",
        quantity: Quantity::Pressure,
        // ±1.0 hPa, ±1 hPa a year, ±0.015 hPa/K; 0.2 Pa of noise at its best, more without its filter. From 300 hPa, but
        // the quantity begins at 400.
        source: "Bosch Sensortec BME280 data sheet",
        range: (400.0, 1100.0),
        resolution: 0.01,
        offset: 1.0,
        per_year: 1.0,
        per_k_sd: 0.0075,
        noise: 0.01,
        slow_noise: 0.05,
        ..PLAIN
    },
    Model {
        name: "dielectric leaf",
        quantity: Quantity::LeafWetness,
        source: "assumed; sheets give counts, not a share of wetness",
        range: (0.0, 100.0),
        resolution: 0.1,
        offset: 5.0,
        noise: 0.5,
        slow_noise: 0.5,
        ..PLAIN
    },
    Model {
        name: "12-bit converter behind a divider",
        quantity: Quantity::Battery,
        // Two resistors of 1 % make ±1 % at the most; a step of 5 V / 4096 in mV. Noise: assumed.
        source: "assumed: resistors of 1 %, 12 bits",
        range: (0.0, 5.0),
        resolution: 0.001,
        gain: 0.01,
        noise: 0.004,
        ..PLAIN
    },
    Model {
        name: "sub-GHz transceiver",
        quantity: Quantity::Rssi,
        source: "assumed: whole decibels, fading of a few of them in the open field",
        range: (-127.0, 0.0),
        resolution: 1.0,
        offset: 3.0,
        noise: 1.6,
        ..PLAIN
    },
    ION_SELECTIVE,
    Model { name: "ion-selective probe: phosphorus", quantity: Quantity::Phosphorus, ..ION_SELECTIVE },
    Model { name: "ion-selective probe: potassium", quantity: Quantity::Potassium, ..ION_SELECTIVE },
];

/// An electrode that needs minutes under power until its potential stands.
const ION_SELECTIVE: Model = Model {
    name: "ion-selective probe: nitrate",
    quantity: Quantity::Nitrate,
    source: ION,
    range: (0.0, 2000.0),
    resolution: 0.1,
    offset: 5.0,
    gain: 0.15,
    per_year: 5.0,
    per_k: 0.3,
    per_k_sd: 0.1,
    noise: 0.5,
    relative_noise: 0.01,
    slow_noise: 1.0,
    response_s: 120.0,
    warm_up: 8.0,
    warm_up_s: 90.0,
    ..PLAIN
};
