//! What a probe makes of the truth: its own offset, noise, resolution, and the end of its range.
//!
//! The figures are those of the data sheets' classes named beside them, not of one product.

use proto::Quantity;

/// How a kind of probe measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sensor {
    /// Standard deviation of a reading's noise, in the quantity's unit.
    pub noise: f64,
    /// The same in proportion to the value; it adds to `noise`.
    pub relative_noise: f64,
    /// What readings are multiples of.
    pub resolution: f64,
    /// Standard deviation of the offset between one probe and another.
    pub offset: f64,
    /// What the quantity spans over a usual season; it scales a fault whose size is not given.
    pub span: f64,
}

const fn sensor(noise: f64, relative_noise: f64, resolution: f64, offset: f64, span: f64) -> Sensor {
    Sensor { noise, relative_noise, resolution, offset, span }
}

/// One tip of the rain gauge's bucket, mm.
pub const TIP_MM: f64 = 0.2;

/// Air is never quite saturated for a probe under a ventilated screen: its truth ends here, so that noise stays visible, %.
pub const MOST_HUMIDITY_PCT: f64 = 98.5;

impl Sensor {
    /// The probe for a quantity.
    #[must_use]
    pub const fn of(quantity: Quantity) -> Self {
        match quantity {
            // Capacitance and TDR probes, averaged: repeatability below 0.001 m3/m3, 0.03 m3/m3 between uncalibrated ones;
            // these are calibrated for their soil.
            Quantity::SoilMoisture => sensor(0.0008, 0.0, 0.0001, 0.006, 0.25),
            // Thermistors in the same probes.
            Quantity::SoilTemperature => sensor(0.03, 0.0, 0.01, 0.1, 25.0),
            Quantity::SoilEc => sensor(0.003, 0.005, 0.001, 0.01, 1.0),
            // Digital humidity and temperature sensors of the SHT35's class, under a radiation screen.
            Quantity::AirTemperature => sensor(0.05, 0.0, 0.01, 0.1, 30.0),
            Quantity::RelativeHumidity => sensor(0.2, 0.0, 0.01, 0.8, 60.0),
            // Ultrasonic anemometers of the weather stations' class; the turbulence that remains in a short mean.
            Quantity::WindSpeed => sensor(0.04, 0.10, 0.01, 0.0, 10.0),
            // Silicon-cell pyranometers: repeatability below 1 %, dark at night.
            Quantity::SolarRadiation => sensor(0.0, 0.008, 0.1, 0.0, 900.0),
            // A tipping bucket of 0.2 mm: what it counts has no noise.
            Quantity::Rain => sensor(0.0, 0.0, TIP_MM, 0.0, 20.0),
            Quantity::Pressure => sensor(0.05, 0.0, 0.01, 0.5, 40.0),
            Quantity::LeafWetness => sensor(0.5, 0.0, 0.1, 1.0, 100.0),
            // A microcontroller's 12-bit converter behind a divider.
            Quantity::Battery => sensor(0.004, 0.0, 0.001, 0.01, 0.7),
            // Sub-GHz transceivers report whole decibels; fading in the open field is a few of them.
            Quantity::Rssi => sensor(1.6, 0.0, 1.0, 0.0, 40.0),
            // Ion-selective probes.
            Quantity::Nitrate | Quantity::Phosphorus | Quantity::Potassium => sensor(0.5, 0.01, 0.1, 2.0, 100.0),
        }
    }

    /// The value with the probe's noise, given a standard normal number.
    #[must_use]
    pub fn noisy(&self, truth: f64, normal: f64) -> f64 {
        truth + (self.noise + self.relative_noise * truth.abs()) * normal
    }
}

/// The lowest and highest value that a probe of a quantity can give: where it lies when its wire is torn or shorted. They are
/// within the quantity's range, so that a range check alone does not find them, but for what a converter cannot reach.
#[must_use]
pub fn rails(quantity: Quantity) -> (f64, f64) {
    let range = quantity.range();
    match quantity {
        // A thermistor's table ends here (METER TEROS 12: -40 to 60 Cel).
        Quantity::SoilTemperature => (-40.0, 60.0),
        // All bits of a 16-bit register are zero (Sensirion SHT3x: -45 Cel); the upper end, 130 Cel, is out of all range.
        Quantity::AirTemperature => (-45.0, *range.end()),
        // METER ATMOS 22: up to 30 m/s.
        Quantity::WindSpeed => (0.0, 30.0),
        // A 12-bit converter behind a divider by two, with a reference of 2.5 V.
        Quantity::Battery => (0.0, 5.0),
        _ => (*range.start(), *range.end()),
    }
}

/// The value as the station sends it: a multiple of the probe's resolution, within the quantity's physical range, as it
/// comes out of the wire format.
#[must_use]
pub fn sent(quantity: Quantity, value: f64) -> f64 {
    let resolution = Sensor::of(quantity).resolution;
    let range = quantity.range();
    quantity.quantise(((value / resolution).round() * resolution).clamp(*range.start(), *range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_in_range_and_a_multiple_of_the_resolution() {
        for quantity in Quantity::ALL {
            for value in [-1e6, -3.217_3, 0.123_456, 55.555, 1e6] {
                let value = sent(quantity, value);
                assert!(quantity.range().contains(&value));
                let multiples = value / Sensor::of(quantity).resolution;
                assert!((multiples - multiples.round()).abs() < 1e-6, "{quantity} {value}");
                assert_eq!(quantity.quantise(value).to_bits(), value.to_bits());
            }
        }
    }
}
