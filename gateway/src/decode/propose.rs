//! A guess at what a name that nobody mapped may be, from the name and its unit. Pure.
//!
//! It is only ever a proposal: somebody who knows the sensor takes it into the configuration, or something else.

use proto::{Channel, Quantity};

use proto::units::{Conversion, quantities};

/// The depths, in cm, that a bare number in a name may mean. A smaller one counts sensors.
const BARE_DEPTH_CM: std::ops::RangeInclusive<u16> = 5..=300;

/// Words of a quantity, most telling first. A quantity of the soil that shares its words with one of the air is taken
/// when the name speaks of soil (see [`SOIL`]).
const WORDS: &[(Quantity, &[&str])] = &[
    (Quantity::LeafWetness, &["leaf"]),
    (Quantity::Rssi, &["rssi"]),
    (Quantity::Rain, &["rain", "rainfall", "precip", "precipitation", "pluvio", "pluviometer"]),
    (Quantity::WindSpeed, &["wind", "windspeed", "anemometer"]),
    (Quantity::SolarRadiation, &["radiation", "irradiance", "pyranometer", "shortwave", "ghi", "solar", "rad"]),
    (Quantity::SoilEc, &["ec", "conductivity", "conduct", "bulkec", "cond"]),
    (Quantity::Nitrate, &["nitrate", "nitrogen", "no3"]),
    (Quantity::Phosphorus, &["phosphorus", "phosphorous"]),
    (Quantity::Potassium, &["potassium"]),
    (Quantity::Pressure, &["pressure", "barometer", "barometric", "baro", "press"]),
    (Quantity::Battery, &["battery", "batt", "bat", "vbat", "vbatt", "voltage"]),
    (Quantity::SoilTemperature, &["soiltemp", "soiltemperature"]),
    (Quantity::SoilMoisture, &["vwc", "moisture", "moist", "soilmoisture", "swc", "water"]),
    (Quantity::RelativeHumidity, &["humidity", "hum", "rh", "humi"]),
    (Quantity::AirTemperature, &["temperature", "temp", "tmp", "temperatur", "airtemp"]),
];

/// Words that say that it is in the soil.
const SOIL: &[&str] = &["soil", "ground", "root", "rootzone", "subsoil", "topsoil"];

/// Words that say that it is another thing than the quantity: a direction, a state, an average of something else.
const OTHER: &[&str] =
    &["direction", "dir", "gust", "status", "state", "alarm", "alert", "count", "id", "type", "level"];

/// What a name, with the unit that came with it, may be.
#[must_use]
pub fn propose(name: &str, unit: Option<&str>) -> Option<Channel> {
    if let Ok(channel) = name.parse() {
        return Some(channel);
    }
    let words = words(name);
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    if has(OTHER) {
        return None;
    }
    let soil = has(SOIL);
    let by_name = WORDS.iter().find(|(_, list)| has(list)).map(|(quantity, _)| match quantity {
        Quantity::AirTemperature if soil => Quantity::SoilTemperature,
        Quantity::RelativeHumidity if soil => Quantity::SoilMoisture,
        other => *other,
    });
    let quantity = match (by_name, unit) {
        (Some(quantity), Some(unit)) => Some(quantity).filter(|quantity| Conversion::of(unit, *quantity).is_ok()),
        (Some(quantity), None) => Some(quantity),
        (None, Some(unit)) => by_unit(unit),
        (None, None) => None,
    }?;
    Some(Channel { quantity, level_cm: level(&words, quantity) })
}

/// The quantity that alone has this unit. A voltage or a length is too often something else.
fn by_unit(unit: &str) -> Option<Quantity> {
    if unit == "%RH" {
        return Some(Quantity::RelativeHumidity);
    }
    let mut all = quantities(unit);
    let first = all.next()?;
    let telling = !matches!(first, Quantity::Battery | Quantity::Rain);
    (telling && all.next().is_none()).then_some(first)
}

/// The depth or height that a name speaks of: a number with a unit of length, or of the soil a bare one.
fn level(words: &[String], quantity: Quantity) -> Option<u16> {
    let number = |word: &String| word.parse::<u16>().ok();
    for pair in words.windows(2) {
        let Some(count) = number(&pair[0]) else { continue };
        match pair[1].as_str() {
            "cm" => return Some(count).filter(|cm| *cm < u16::MAX),
            "mm" => return Some(count / 10),
            "m" => return count.checked_mul(100).filter(|cm| *cm < u16::MAX),
            "in" | "inch" => return Some((f64::from(count) * 2.54).round() as u16).filter(|cm| *cm < u16::MAX),
            _ => {}
        }
    }
    if quantity.is_in_soil() { words.iter().filter_map(number).find(|cm| BARE_DEPTH_CM.contains(cm)) } else { None }
}

/// The words of a name, in small letters: cut at everything that is neither letter nor digit, between letters and digits,
/// and before a capital that follows a small letter.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut before = ' ';
    for letter in name.chars().take(128) {
        let joins = letter.is_alphanumeric()
            && before.is_alphanumeric()
            && letter.is_ascii_digit() == before.is_ascii_digit()
            && !(letter.is_uppercase() && before.is_lowercase());
        if letter.is_alphanumeric() {
            match words.last_mut() {
                Some(word) if joins => word.extend(letter.to_lowercase()),
                _ => words.push(letter.to_lowercase().collect()),
            }
        }
        before = letter;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_units_of_real_sensors_are_guessed() {
        for (name, unit, expected) in [
            ("soil_temp_20", Some("degC"), "soil_temperature_20cm"),
            ("soil/vwc_40cm", Some("%"), "soil_moisture_40cm"),
            // Dragino LSE01 and LHT65N.
            ("temp_SOIL", None, "soil_temperature"),
            ("water_SOIL", None, "soil_moisture"),
            ("conduct_SOIL", None, "soil_ec"),
            ("TempC_SHT", None, "air_temperature"),
            ("Hum_SHT", None, "relative_humidity"),
            ("BatV", None, "battery"),
            // Milesight EM500, SenseCAP, Decentlab.
            ("temperature", None, "air_temperature"),
            ("ec", Some("uS/cm"), "soil_ec"),
            ("soilMoisture10", None, "soil_moisture_10cm"),
            ("soil_temperature_at_depth_1", None, "soil_temperature"),
            ("volumetric_water_content_8in", None, "soil_moisture_20cm"),
            ("Wind Speed 2 m", Some("km/h"), "wind_speed_200cm"),
            ("temperatureSensor/1", Some("Cel"), "air_temperature"),
            ("leafWetness", None, "leaf_wetness"),
            ("Rainfall", Some("in"), "rain"),
            // By the unit alone.
            ("x", Some("%RH"), "relative_humidity"),
            ("x", Some("hPa"), "pressure"),
            ("x", Some("dBm"), "rssi"),
        ] {
            let found = propose(name, unit).map(|channel| channel.to_string());
            assert_eq!(found.as_deref(), Some(expected), "{name} in {unit:?}");
        }
        for (name, unit) in [
            ("Node_type", None),
            ("wind_direction", Some("deg")),
            ("Bat_status", None),
            ("temp", Some("lx")),
            ("x", Some("Cel")),
            ("adc0", Some("V")),
            ("distance", Some("mm")),
            ("", None),
        ] {
            assert_eq!(propose(name, unit), None, "{name} in {unit:?}");
        }
    }
}
