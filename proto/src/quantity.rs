//! Quantities, their units and what is physically possible.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a channel measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Volumetric soil water content, m3/m3.
    SoilMoisture,
    /// Soil temperature, Cel.
    SoilTemperature,
    /// Bulk electrical conductivity of the soil, dS/m.
    SoilEc,
    /// Nitrate nitrogen in the soil, mg/kg.
    Nitrate,
    /// Phosphorus in the soil, mg/kg.
    Phosphorus,
    /// Potassium in the soil, mg/kg.
    Potassium,
    /// Air temperature, Cel.
    AirTemperature,
    /// Relative humidity, %.
    RelativeHumidity,
    /// Wind speed, m/s.
    WindSpeed,
    /// Global short-wave radiation, W/m2.
    SolarRadiation,
    /// Rain since the reading before, mm.
    Rain,
    /// Air pressure, hPa.
    Pressure,
    /// Leaf wetness, %.
    LeafWetness,
    /// Battery voltage, V.
    Battery,
    /// Received signal strength, dBm.
    Rssi,
}

/// A name that is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown quantity {value:?}; known are {}", Quantity::ALL.map(Quantity::name).join(", "))]
pub struct UnknownQuantity {
    /// What came instead.
    pub value: String,
}

struct Facts {
    name: &'static str,
    unit: &'static str,
    symbol: &'static str,
    low: f64,
    high: f64,
    decimals: u8,
    wire_decimals: u8,
}

const fn facts(
    name: &'static str,
    unit: &'static str,
    symbol: &'static str,
    low: f64,
    high: f64,
    decimals: u8,
    wire_decimals: u8,
) -> Facts {
    Facts { name, unit, symbol, low, high, decimals, wire_decimals }
}

/// By [`Quantity::code`]. Ranges are what soil, air and the common sensors can show, not what is usual: air temperature
/// and wind hold the world's records (WMO: -89.2 to 56.7 Cel, gusts to 113 m/s), soil moisture ends at the porosity of peat.
static FACTS: [Facts; 15] = [
    facts("soil_moisture", "m3/m3", "m³/m³", 0.0, 0.7, 3, 5),
    facts("soil_temperature", "Cel", "°C", -40.0, 70.0, 1, 3),
    facts("soil_ec", "dS/m", "dS/m", 0.0, 20.0, 2, 4),
    facts("nitrate", "mg/kg", "mg/kg", 0.0, 2000.0, 1, 2),
    facts("phosphorus", "mg/kg", "mg/kg", 0.0, 2000.0, 1, 2),
    facts("potassium", "mg/kg", "mg/kg", 0.0, 5000.0, 1, 2),
    facts("air_temperature", "Cel", "°C", -90.0, 60.0, 1, 3),
    facts("relative_humidity", "%", "%", 0.0, 100.0, 0, 2),
    facts("wind_speed", "m/s", "m/s", 0.0, 115.0, 1, 3),
    facts("solar_radiation", "W/m2", "W/m²", 0.0, 1600.0, 0, 2),
    facts("rain", "mm", "mm", 0.0, 100.0, 1, 3),
    facts("pressure", "hPa", "hPa", 400.0, 1100.0, 1, 2),
    facts("leaf_wetness", "%", "%", 0.0, 100.0, 0, 2),
    facts("battery", "V", "V", 0.0, 60.0, 2, 3),
    facts("rssi", "dBm", "dBm", -150.0, 0.0, 0, 1),
];

impl Quantity {
    /// Every quantity, in the order of their codes.
    pub const ALL: [Self; 15] = [
        Self::SoilMoisture,
        Self::SoilTemperature,
        Self::SoilEc,
        Self::Nitrate,
        Self::Phosphorus,
        Self::Potassium,
        Self::AirTemperature,
        Self::RelativeHumidity,
        Self::WindSpeed,
        Self::SolarRadiation,
        Self::Rain,
        Self::Pressure,
        Self::LeafWetness,
        Self::Battery,
        Self::Rssi,
    ];

    fn facts(self) -> &'static Facts {
        &FACTS[self as usize]
    }

    /// The number that stands for it on the wire; never changes.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The quantity with this code.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Its name in topics, configuration, tables and the API: `soil_moisture`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// Its unit in UCUM: `m3/m3`, `Cel`.
    #[must_use]
    pub fn unit(self) -> &'static str {
        self.facts().unit
    }

    /// Whether its probes stand in the soil, at a depth.
    #[must_use]
    pub const fn is_in_soil(self) -> bool {
        matches!(
            self,
            Self::SoilMoisture
                | Self::SoilTemperature
                | Self::SoilEc
                | Self::Nitrate
                | Self::Phosphorus
                | Self::Potassium
        )
    }

    /// Its unit as people write it: `m³/m³`, `°C`.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        self.facts().symbol
    }

    /// What is physically possible, in its unit; a reading outside is rejected.
    #[must_use]
    pub fn range(self) -> RangeInclusive<f64> {
        self.facts().low..=self.facts().high
    }

    /// How many decimals a person is shown.
    #[must_use]
    pub fn decimals(self) -> u8 {
        self.facts().decimals
    }

    /// How many decimals go over the air: a tenth or less of what the common sensors resolve.
    #[must_use]
    pub fn wire_decimals(self) -> u8 {
        self.facts().wire_decimals
    }

    /// How many of the wire's smallest steps are one.
    #[must_use]
    pub fn wire_scale(self) -> f64 {
        scale(self.wire_decimals())
    }

    /// The value as it comes out of the wire format: rounded to [`Quantity::wire_decimals`].
    ///
    /// Not finite values, and ones too large for the wire, are given back as they are; they cannot be encoded.
    #[must_use]
    pub fn quantise(self, value: f64) -> f64 {
        match to_integer(value, self.wire_decimals()) {
            Some(integer) => from_integer(integer, self.wire_decimals()),
            None => value,
        }
    }
}

/// The largest magnitude of a value's integer on the wire: exactly representable in an `f64`, and its sums in an `i64`.
pub(crate) const MAX_INTEGER: i64 = 1 << 53;

/// `value` as an integer of `10^-decimals`; none when it is not finite or does not fit.
pub(crate) fn to_integer(value: f64, decimals: u8) -> Option<i64> {
    let scaled = (value * scale(decimals)).round();
    (scaled.abs() <= MAX_INTEGER as f64).then_some(scaled as i64)
}

/// The value of an integer of `10^-decimals`. A division, so that the result is the nearest `f64`.
pub(crate) fn from_integer(integer: i64, decimals: u8) -> f64 {
    integer as f64 / scale(decimals)
}

/// `10^decimals`: of each reading it is asked twice.
fn scale(decimals: u8) -> f64 {
    const POWERS: [f64; 10] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
    POWERS.get(usize::from(decimals)).copied().unwrap_or_else(|| 10f64.powi(i32::from(decimals)))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Quantity {
    type Err = UnknownQuantity;

    fn from_str(value: &str) -> Result<Self, UnknownQuantity> {
        Self::ALL
            .into_iter()
            .find(|q| q.name() == value)
            .ok_or_else(|| UnknownQuantity { value: value.chars().take(64).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_names_and_serde_agree() {
        for (code, quantity) in Quantity::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(quantity.code()), code);
            assert_eq!(Quantity::from_code(quantity.code()), Some(quantity));
            assert_eq!(quantity.name().parse::<Quantity>().unwrap(), quantity);
            assert_eq!(serde_json::to_value(quantity).unwrap(), quantity.name());
        }
        assert!(
            "soil"
                .parse::<Quantity>()
                .unwrap_err()
                .to_string()
                .starts_with("unknown quantity \"soil\"; known are soil_moisture, ")
        );
    }

    #[test]
    fn quantising_twice_is_quantising_once() {
        for quantity in Quantity::ALL {
            for value in [0.123_456_789, -7.654_321, 99.999_999] {
                let once = quantity.quantise(value);
                assert_eq!(quantity.quantise(once).to_bits(), once.to_bits());
                assert!((once - value).abs() <= 0.5 * 10f64.powi(-i32::from(quantity.wire_decimals())) + 1e-12);
            }
        }
    }
}
