//! Units as sensors write them, and the way from each to its quantity's own unit. Pure.
//!
//! Sources: [UCUM](https://ucum.org/ucum) for symbols and definitions, the SenML units of RFC 8428 section 12.1 and the
//! secondary ones of RFC 8798 section 3, and NIST SP 811 (2008) appendix B for what is not metric. Beside these stand
//! the spellings that sensors use (`°C`, `degC`, `VWC`). A unit says nothing about a quantity that it does not belong
//! to: `%` is 0.01 m3/m3 of soil moisture and 1 % of humidity, and no temperature at all.

use crate::Quantity;

/// A way from one unit to another: `(value - zero) * times / over + plus`.
///
/// Two integers instead of one factor, so that 23.1 % is exactly the `f64` of 0.231 and not its neighbour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conversion {
    zero: f64,
    times: f64,
    over: f64,
    plus: f64,
}

/// A unit that does not lead to a quantity's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unit {unit:?} is none of {quantity}: known are {known}")]
pub struct UnitError {
    /// What came.
    pub unit: String,
    /// For which quantity.
    pub quantity: Quantity,
    /// What would be known.
    pub known: String,
}

impl Conversion {
    /// Nothing to convert.
    pub const SAME: Self = Self { zero: 0.0, times: 1.0, over: 1.0, plus: 0.0 };

    const fn ratio(times: f64, over: f64) -> Self {
        Self { zero: 0.0, times, over, plus: 0.0 }
    }

    const fn shifted(zero: f64, times: f64, over: f64) -> Self {
        Self { zero, times, over, plus: 0.0 }
    }

    /// `value * scale + offset`.
    #[must_use]
    pub const fn line(scale: f64, offset: f64) -> Self {
        Self { zero: 0.0, times: scale, over: 1.0, plus: offset }
    }

    /// The conversion of a unit, by any of its names, to the quantity's own unit.
    ///
    /// # Errors
    /// When the unit is not one of the quantity's.
    pub fn of(unit: &str, quantity: Quantity) -> Result<Self, UnitError> {
        let wanted = unit.trim();
        let table = table(quantity);
        let same = |names: &&(&[&str], Self)| names.0.contains(&wanted);
        table.iter().find(same).map(|(_, conversion)| *conversion).ok_or_else(|| UnitError {
            unit: wanted.chars().take(32).collect(),
            quantity,
            known: table.iter().filter_map(|(names, _)| names.first().copied()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The value in the quantity's unit. Of the two zeros it gives one: a reading may be known by its value's bits.
    #[must_use]
    pub fn apply(&self, value: f64) -> f64 {
        (value - self.zero) * self.times / self.over + self.plus
    }
}

/// The quantities that a unit can belong to, by code.
pub fn quantities(unit: &str) -> impl Iterator<Item = Quantity> {
    Quantity::ALL.into_iter().filter(move |quantity| Conversion::of(unit, *quantity).is_ok())
}

type Units = &'static [(&'static [&'static str], Conversion)];

/// The units of a quantity. The first name of each is the one to write; the first unit is the quantity's own.
fn table(quantity: Quantity) -> Units {
    match quantity {
        Quantity::SoilMoisture => SOIL_MOISTURE,
        Quantity::SoilTemperature | Quantity::AirTemperature => TEMPERATURE,
        Quantity::SoilEc => CONDUCTIVITY,
        Quantity::Nitrate | Quantity::Phosphorus | Quantity::Potassium => MASS_FRACTION,
        Quantity::RelativeHumidity | Quantity::LeafWetness => PERCENT,
        Quantity::WindSpeed => SPEED,
        Quantity::SolarRadiation => IRRADIANCE,
        Quantity::Rain => DEPTH,
        Quantity::Pressure => PRESSURE,
        Quantity::Battery => VOLTAGE,
        Quantity::Rssi => LEVEL,
    }
}

/// Volume of water per volume of soil. SenML and UCUM write a fraction as `/` or `1`, and a per cent as `%`.
const SOIL_MOISTURE: Units = &[
    (&["m3/m3", "m³/m³", "m3.m-3", "cm3/cm3", "cm³/cm³", "/", "1", "VWC", "vwc", "{fraction}"], Conversion::SAME),
    (&["%", "%vol", "%VWC", "% VWC", "vol%", "vol.%", "%v/v", "percent", "/100"], Conversion::ratio(1.0, 100.0)),
    (&["[ppth]", "/1000", "‰"], Conversion::ratio(1.0, 1000.0)),
];

/// `Cel` and `[degF]` in UCUM; K - 273.15 (SI brochure, 9th edition, section 2.3.1); (F - 32) · 5/9 (NIST SP 811, B.8).
/// In SenML `C` and `F` are coulomb and farad; of a temperature they can only be what people mean.
const TEMPERATURE: Units = &[
    (&["Cel", "°C", "℃", "degC", "deg C", "celsius", "Celsius", "C", "degree_celsius"], Conversion::SAME),
    (&["[degF]", "degF", "°F", "℉", "deg F", "fahrenheit", "Fahrenheit", "F"], Conversion::shifted(32.0, 5.0, 9.0)),
    (&["K", "kelvin", "Kelvin"], Conversion::shifted(273.15, 1.0, 1.0)),
    (&["dCel", "0.1Cel", "0.1°C"], Conversion::ratio(1.0, 10.0)),
];

/// 1 S/m is 10 dS/m (SI prefixes); `mho` is UCUM's other name of the siemens.
const CONDUCTIVITY: Units = &[
    (&["dS/m", "mS/cm", "dS.m-1", "mmho/cm", "mmhos/cm"], Conversion::SAME),
    (&["uS/cm", "µS/cm", "μS/cm", "us/cm", "umho/cm"], Conversion::ratio(1.0, 1000.0)),
    (&["S/m", "S.m-1"], Conversion::ratio(10.0, 1.0)),
    (&["mS/m"], Conversion::ratio(1.0, 100.0)),
    (&["uS/m", "µS/m", "μS/m"], Conversion::ratio(1.0, 100_000.0)),
];

/// Mass per mass of soil: a `ppm` is a mg/kg (UCUM `[ppm]`, RFC 8798 `ppm`). A mg/L of soil water is another quantity.
const MASS_FRACTION: Units = &[
    (&["mg/kg", "ppm", "[ppm]", "ug/g", "µg/g", "μg/g"], Conversion::SAME),
    (&["g/kg", "/1000", "[ppth]"], Conversion::ratio(1000.0, 1.0)),
    (&["ppb", "[ppb]", "ug/kg", "µg/kg", "μg/kg"], Conversion::ratio(1.0, 1000.0)),
];

/// SenML writes relative humidity `%RH`, a fraction `/`, and (RFC 8798) a per cent `/100`.
const PERCENT: Units = &[
    (&["%", "%RH", "% RH", "%rh", "percent", "/100"], Conversion::SAME),
    (&["/", "1", "{fraction}"], Conversion::ratio(100.0, 1.0)),
];

/// 1 mi is 1609.344 m, 1 nautical mile 1852 m, 1 ft 0.3048 m, all exactly (NIST SP 811, B.8).
const SPEED: Units = &[
    (&["m/s", "m.s-1", "mps"], Conversion::SAME),
    (&["km/h", "kph", "kmh", "km.h-1"], Conversion::ratio(5.0, 18.0)),
    (&["[mi_i]/h", "mph", "mi/h"], Conversion::ratio(44_704.0, 100_000.0)),
    (&["[kn_i]", "kn", "kt", "kts", "knot", "knots"], Conversion::ratio(1852.0, 3600.0)),
    (&["[ft_i]/s", "ft/s", "fps"], Conversion::ratio(3048.0, 10_000.0)),
    (&["cm/s"], Conversion::ratio(1.0, 100.0)),
];

/// Power per area. Lux and PAR weigh the spectrum otherwise; nothing leads from them to W/m2 without knowing it.
const IRRADIANCE: Units = &[
    (&["W/m2", "W/m²", "W.m-2", "W/m^2"], Conversion::SAME),
    (&["kW/m2", "kW/m²"], Conversion::ratio(1000.0, 1.0)),
    (&["mW/cm2", "mW/cm²"], Conversion::ratio(10.0, 1.0)),
];

/// A depth of water; 1 L/m2 and 1 kg/m2 are 1 mm of it. 1 in is 25.4 mm exactly (NIST SP 811, B.8). A rate integrated
/// over time, as SenML's sums are (RFC 8428 section 4.3), is a depth too: `mm/h.s` is 1/3600 mm.
const DEPTH: Units = &[
    (&["mm", "L/m2", "l/m2", "L/m²", "kg/m2", "millimeter"], Conversion::SAME),
    (&["[in_i]", "in", "inch", "inches", "\""], Conversion::ratio(254.0, 10.0)),
    (&["cm"], Conversion::ratio(10.0, 1.0)),
    (&["m"], Conversion::ratio(1000.0, 1.0)),
    (&["mm/h.s"], Conversion::ratio(1.0, 3600.0)),
    (&["m/h.s"], Conversion::ratio(1000.0, 3600.0)),
    (&["m/s.s"], Conversion::ratio(1000.0, 1.0)),
];

/// 1 bar is 1000 hPa; the conventional inch of mercury is 3386.389 Pa, the millimetre 133.3224 Pa and the psi
/// 6894.757 Pa (NIST SP 811, B.8); 1 atm is 101 325 Pa.
const PRESSURE: Units = &[
    (&["hPa", "mbar", "mb"], Conversion::SAME),
    (&["Pa"], Conversion::ratio(1.0, 100.0)),
    (&["kPa", "cbar"], Conversion::ratio(10.0, 1.0)),
    (&["MPa"], Conversion::ratio(10_000.0, 1.0)),
    (&["bar"], Conversion::ratio(1000.0, 1.0)),
    (&["[in_i'Hg]", "inHg"], Conversion::ratio(3_386_389.0, 100_000.0)),
    (&["mm[Hg]", "mmHg", "Torr"], Conversion::ratio(1_333_224.0, 1_000_000.0)),
    (&["[psi]", "psi"], Conversion::ratio(6_894_757.0, 100_000.0)),
    (&["atm"], Conversion::ratio(101_325.0, 100.0)),
];

/// A share of charge (SenML's `%EL`) is no voltage.
const VOLTAGE: Units = &[
    (&["V", "volt", "volts", "Volt"], Conversion::SAME),
    (&["mV", "millivolt"], Conversion::ratio(1.0, 1000.0)),
    (&["cV"], Conversion::ratio(1.0, 100.0)),
    (&["dV"], Conversion::ratio(1.0, 10.0)),
    (&["uV", "µV", "μV"], Conversion::ratio(1.0, 1_000_000.0)),
];

/// 0 dBW is 30 dBm (RFC 8798 section 3).
const LEVEL: Units =
    &[(&["dBm", "dB[mW]", "B[W].10-1"], Conversion::SAME), (&["dBW", "dB[W]"], Conversion::shifted(-30.0, 1.0, 1.0))];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_conversions_hold() {
        use Quantity as Q;
        for (value, unit, quantity, expected) in [
            (23.1, "%", Q::SoilMoisture, 0.231),
            (0.231, "m3/m3", Q::SoilMoisture, 0.231),
            (0.231, "/", Q::SoilMoisture, 0.231),
            (231.0, "/1000", Q::SoilMoisture, 0.231),
            // NIST SP 811, B.8: the fixed points.
            (32.0, "degF", Q::AirTemperature, 0.0),
            (212.0, "°F", Q::SoilTemperature, 100.0),
            (-40.0, "[degF]", Q::AirTemperature, -40.0),
            (273.15, "K", Q::SoilTemperature, 0.0),
            (231.0, "dCel", Q::SoilTemperature, 23.1),
            (1413.0, "uS/cm", Q::SoilEc, 1.413),
            (1.413, "mS/cm", Q::SoilEc, 1.413),
            (0.1413, "S/m", Q::SoilEc, 1.413),
            (141.3, "mS/m", Q::SoilEc, 1.413),
            (12.0, "ppm", Q::Nitrate, 12.0),
            (1.2, "g/kg", Q::Potassium, 1200.0),
            (0.5, "/", Q::RelativeHumidity, 50.0),
            (50.0, "%RH", Q::RelativeHumidity, 50.0),
            (36.0, "km/h", Q::WindSpeed, 10.0),
            (100.0, "mph", Q::WindSpeed, 44.704),
            (1.0, "kn", Q::WindSpeed, 1852.0 / 3600.0),
            (0.8, "kW/m2", Q::SolarRadiation, 800.0),
            (1.0, "in", Q::Rain, 25.4),
            (7200.0, "mm/h.s", Q::Rain, 2.0),
            (0.001, "m/s.s", Q::Rain, 1.0),
            (101_325.0, "Pa", Q::Pressure, 1013.25),
            (1.0, "atm", Q::Pressure, 1013.25),
            (101.325, "kPa", Q::Pressure, 1013.25),
            (29.92, "inHg", Q::Pressure, 1_013.207_588_8),
            (3297.0, "mV", Q::Battery, 3.297),
            (-120.0, "dBW", Q::Rssi, -90.0),
        ] {
            let converted = Conversion::of(unit, quantity).unwrap().apply(value);
            assert!((converted - expected).abs() < 1e-9, "{value} {unit} of {quantity}: {converted} is not {expected}");
        }
        assert_eq!(Conversion::of("%", Q::SoilMoisture).unwrap().apply(23.1), 0.231, "exactly");
    }

    #[test]
    fn every_quantity_knows_its_own_unit_and_no_name_twice() {
        for quantity in Quantity::ALL {
            for own in [quantity.unit(), quantity.symbol()] {
                assert_eq!(Conversion::of(own, quantity).unwrap(), Conversion::SAME, "{quantity} in {own}");
            }
            let mut names: Vec<&str> = table(quantity).iter().flat_map(|(names, _)| names.iter().copied()).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{quantity}");
        }
    }

    #[test]
    fn a_unit_of_another_quantity_is_none_and_says_what_would_be() {
        for (unit, quantity) in [
            ("lux", Quantity::SolarRadiation),
            ("lx", Quantity::SolarRadiation),
            ("%EL", Quantity::Battery),
            ("mg/L", Quantity::Nitrate),
            ("MV", Quantity::Battery),
            ("%", Quantity::SoilTemperature),
            ("", Quantity::Rain),
        ] {
            assert!(Conversion::of(unit, quantity).is_err(), "{unit} {quantity}");
        }
        assert_eq!(
            Conversion::of("lux", Quantity::SolarRadiation).unwrap_err().to_string(),
            "unit \"lux\" is none of solar_radiation: known are W/m2, kW/m2, mW/cm2"
        );
    }
}
