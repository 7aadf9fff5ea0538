//! What a weather file's columns are, by their names in the header: the quantity, the unit, the height of the wind.
//!
//! A name is read without regard to case, brackets and other signs: `Wind speed 3m (mph)` is `wind_speed_3m_mph`. It is a quantity's name
//! and then a unit's; other names mean nothing here. A quantity that is in the header only in a unit that is not known is a mistake: it would
//! be made up though it was measured.

/// What a column holds. The canonical units are those of [`super::super::Hour`]: Cel, kPa, %, m/s, W/m2, mm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Quantity {
    Air,
    AirMax,
    AirMin,
    Wind,
    Radiation,
    DewPoint,
    VapourPressure,
    Humidity,
    HumidityMax,
    HumidityMin,
    Rain,
    Reference,
}

/// How many quantities there are: the length of a row.
pub(super) const QUANTITIES: usize = 12;

/// What kind of unit a quantity has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Temperature,
    Speed,
    Radiation,
    Pressure,
    Share,
    Depth,
}

/// A column that is read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub quantity: Quantity,
    /// Its name in the file.
    pub name: String,
    /// Its index in a record.
    pub at: usize,
    pub unit: Unit,
    /// The height of the sensor in its name, m.
    pub height_m: Option<f64>,
}

/// From a column's numbers to canonical ones: `(number - zero) * factor`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Unit {
    zero: f64,
    factor: f64,
    /// A sum over the row's time, in MJ/m2 once multiplied: it becomes a mean.
    sum_mj: bool,
}

impl Unit {
    /// The canonical value of a number in this unit, of a row that stands for so many seconds.
    pub(super) fn canonical(&self, number: f64, row_s: f64) -> f64 {
        let value = (number - self.zero) * self.factor;
        if self.sum_mj { value * 1e6 / row_s } else { value }
    }

    /// A canonical value as a number in this unit.
    pub(super) fn number(&self, canonical: f64, row_s: f64) -> f64 {
        (if self.sum_mj { canonical * row_s / 1e6 } else { canonical }) / self.factor + self.zero
    }
}

/// What is in a header.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    pub time: Time,
    pub columns: Vec<Column>,
    pub ignored: Vec<String>,
}

/// The column of time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Time {
    pub name: String,
    pub at: usize,
    /// Whether its name says that it is UTC.
    pub utc: bool,
}

/// What is wrong with a header: a column and a sentence.
pub(super) type Wrong = (String, String);

impl Quantity {
    pub(super) const ALL: [Self; QUANTITIES] = [
        Self::Air,
        Self::AirMax,
        Self::AirMin,
        Self::Wind,
        Self::Radiation,
        Self::DewPoint,
        Self::VapourPressure,
        Self::Humidity,
        Self::HumidityMax,
        Self::HumidityMin,
        Self::Rain,
        Self::Reference,
    ];

    /// What its columns may be called, the first with its canonical unit, which messages use.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Air => &["air_temperature", "temperature", "air_temp", "temp", "tair", "tmean", "tavg"],
            Self::AirMax => {
                &["tmax", "air_temperature_max", "temperature_max", "max_temperature", "max_temp", "temp_max", "tx"]
            }
            Self::AirMin => {
                &["tmin", "air_temperature_min", "temperature_min", "min_temperature", "min_temp", "temp_min", "tn"]
            }
            Self::Wind => &["wind_speed", "wind", "windspeed", "wind_run"],
            Self::Radiation => {
                &["solar_radiation", "global_radiation", "shortwave_radiation", "radiation", "solar", "srad", "ghi"]
            }
            Self::DewPoint => &["dew_point", "dewpoint", "dew_point_temperature", "tdew"],
            Self::VapourPressure => {
                &["vapour_pressure", "vapor_pressure", "actual_vapour_pressure", "actual_vapor_pressure", "ea"]
            }
            Self::Humidity => &["relative_humidity", "humidity", "rh", "rh_mean", "rhmean"],
            Self::HumidityMax => &["relative_humidity_max", "rh_max", "rhmax"],
            Self::HumidityMin => &["relative_humidity_min", "rh_min", "rhmin"],
            Self::Rain => &["rain", "rainfall", "precipitation", "precip"],
            Self::Reference => &["published_eto", "reference_et", "eto", "et0", "etref"],
        }
    }

    /// The name that messages use for a missing column.
    pub(super) fn example(self) -> String {
        let unit = match self.kind() {
            Kind::Temperature => "c",
            Kind::Speed => "m_s",
            Kind::Radiation => "w_m2",
            Kind::Pressure => "kpa",
            Kind::Share => "pct",
            Kind::Depth => "mm",
        };
        format!("{}_{unit}", self.names()[0])
    }

    /// The units that its columns may have, as a message names them.
    fn allowed(self) -> String {
        let known: Vec<&str> = self.kind().units().iter().map(|(names, _)| names[0]).collect();
        format!("_{}", known.join(", _"))
    }

    fn kind(self) -> Kind {
        match self {
            Self::Air | Self::AirMax | Self::AirMin | Self::DewPoint => Kind::Temperature,
            Self::Wind => Kind::Speed,
            Self::Radiation => Kind::Radiation,
            Self::VapourPressure => Kind::Pressure,
            Self::Humidity | Self::HumidityMax | Self::HumidityMin => Kind::Share,
            Self::Rain | Self::Reference => Kind::Depth,
        }
    }

    /// Whether nothing is missing without a column of it, beside these.
    fn is_known_without(self, columns: &[Column]) -> bool {
        let has = |others: &[Self]| columns.iter().any(|column| others.contains(&column.quantity));
        match self {
            // Of a daily file, where the hourly quantities are of no use, and the other way round.
            Self::Air => has(&[Self::Air, Self::AirMax, Self::AirMin]),
            Self::AirMax | Self::AirMin => has(&[self, Self::Air]),
            Self::DewPoint | Self::VapourPressure | Self::Humidity | Self::HumidityMax | Self::HumidityMin => {
                has(&[Self::DewPoint, Self::VapourPressure, Self::Humidity, Self::HumidityMax, Self::HumidityMin])
            }
            Self::Reference => has(&[self, Self::Air]),
            Self::Wind | Self::Radiation | Self::Rain => has(&[self]),
        }
    }

    /// What its canonical values may be: what the earth has seen, with room.
    pub(super) fn bounds(self) -> (f64, f64) {
        match self {
            Self::Air | Self::AirMax | Self::AirMin => (-90.0, 60.0),
            Self::DewPoint => (-90.0, 40.0),
            Self::Wind => (0.0, 115.0),
            Self::Radiation => (-20.0, 1600.0),
            Self::VapourPressure => (0.0, 8.0),
            Self::Humidity | Self::HumidityMax | Self::HumidityMin => (0.0, 105.0),
            Self::Rain => (0.0, 2000.0),
            Self::Reference => (0.0, 50.0),
        }
    }
}

impl Kind {
    /// The units' names, with their zero and factor.
    fn units(self) -> Vec<(&'static [&'static str], Unit)> {
        let unit = |zero, factor| Unit { zero, factor, sum_mj: false };
        let sum = |factor| Unit { zero: 0.0, factor, sum_mj: true };
        const LANGLEY_MJ: f64 = 0.041_84;
        match self {
            Self::Temperature => vec![
                (&["c", "degc", "deg_c", "celsius", "cel"], unit(0.0, 1.0)),
                (&["f", "degf", "deg_f", "fahrenheit"], unit(32.0, 1.0 / 1.8)),
                (&["k", "kelvin"], unit(273.15, 1.0)),
            ],
            Self::Speed => vec![
                (&["m_s", "ms", "mps", "m_per_s"], unit(0.0, 1.0)),
                (&["km_h", "kmh", "kph"], unit(0.0, 1.0 / 3.6)),
                (&["mph", "mi_h"], unit(0.0, 0.447_04)),
                (&["kn", "kt", "knots"], unit(0.0, 1852.0 / 3600.0)),
                (&["km_d", "km_day"], unit(0.0, 1000.0 / 86_400.0)),
            ],
            Self::Radiation => vec![
                (&["w_m2", "wm2", "w_m_2", "w_per_m2"], unit(0.0, 1.0)),
                (&["mj_m2", "mjm2", "mj_m_2"], sum(1.0)),
                (&["mj_m2_d", "mj_m2_day", "mj_m_2_d"], unit(0.0, 1e6 / 86_400.0)),
                (&["mj_m2_h", "mj_m_2_h"], unit(0.0, 1e6 / 3600.0)),
                (&["kwh_m2"], sum(3.6)),
                (&["j_cm2"], sum(0.01)),
                (&["langley", "langleys", "ly", "cal_cm2"], sum(LANGLEY_MJ)),
                (&["langley_h", "langleys_h", "ly_h", "langleys_hour"], unit(0.0, LANGLEY_MJ * 1e6 / 3600.0)),
                (&["langley_d", "langleys_d", "ly_d", "langleys_day"], unit(0.0, LANGLEY_MJ * 1e6 / 86_400.0)),
            ],
            Self::Pressure => {
                vec![(&["kpa"], unit(0.0, 1.0)), (&["hpa", "mbar", "mb"], unit(0.0, 0.1)), (&["pa"], unit(0.0, 1e-3))]
            }
            Self::Share => {
                vec![(&["pct", "percent", "", "p_c"], unit(0.0, 1.0)), (&["fraction", "frac"], unit(0.0, 100.0))]
            }
            Self::Depth => vec![
                (&["mm", "mm_d", "mm_h"], unit(0.0, 1.0)),
                (&["cm"], unit(0.0, 10.0)),
                (&["in", "inch", "inches"], unit(0.0, 25.4)),
            ],
        }
    }
}

/// What a header's columns are.
///
/// # Errors
/// A column of a quantity without a unit or in an unknown one, two of the same quantity, or none of time: all of them.
pub(super) fn read(names: &[String]) -> Result<Header, Vec<Wrong>> {
    let mut wrong = Vec::new();
    let mut time: Option<Time> = None;
    let mut columns: Vec<Column> = Vec::new();
    let mut ignored = Vec::new();
    let mut unknown = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let plain = plain(name);
        if let Some(utc) = is_time(&plain) {
            match &time {
                Some(earlier) => wrong.push((name.clone(), format!("is the time, and so is {}", earlier.name))),
                None => time = Some(Time { name: name.clone(), at, utc }),
            }
            continue;
        }
        match column(&plain, name, at) {
            Found::Column(column) => match columns.iter().find(|other| other.quantity == column.quantity) {
                Some(other) => wrong.push((name.clone(), format!("is the same quantity as {}", other.name))),
                None => columns.push(column),
            },
            Found::NoUnit(problem) => wrong.push((name.clone(), problem)),
            Found::UnknownUnit(quantity, problem) => unknown.push((quantity, name, problem)),
            Found::Nothing => ignored.push(name.clone()),
        }
    }
    for (quantity, name, problem) in unknown {
        match quantity.is_known_without(&columns) {
            true => ignored.push(name.clone()),
            false => wrong.push((name.clone(), problem)),
        }
    }
    match time {
        Some(time) if wrong.is_empty() => Ok(Header { time, columns, ignored }),
        Some(_) => Err(wrong),
        None => {
            wrong.push(("time_utc".to_owned(), "is not in the header, nor is time or date".to_owned()));
            Err(wrong)
        }
    }
}

/// Lower case, with one underscore for whatever is neither letter nor digit.
fn plain(name: &str) -> String {
    let signs = name.to_lowercase().replace('²', "2").replace('%', "pct");
    let words: Vec<&str> = signs.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.join("_")
}

fn is_time(plain: &str) -> Option<bool> {
    match plain {
        "time_utc" | "date_utc" | "timestamp_utc" | "datetime_utc" => Some(true),
        "time" | "date" | "day" | "timestamp" | "datetime" | "date_time" => Some(false),
        _ => None,
    }
}

/// What a name is.
#[derive(Debug, Clone, PartialEq)]
enum Found {
    Column(Column),
    /// A quantity without a unit, and what is to be said of it.
    NoUnit(String),
    /// A quantity with something behind it that is no unit of it.
    UnknownUnit(Quantity, String),
    /// Of no quantity.
    Nothing,
}

/// What the column with this name is.
fn column(plain: &str, name: &str, at: usize) -> Found {
    let named =
        Quantity::ALL.into_iter().flat_map(|quantity| quantity.names().iter().map(move |name| (quantity, *name)));
    // The longest name that fits: `tmax`, not `t`.
    let mut fitting: Vec<(Quantity, &str, &str)> = named
        .filter_map(|(quantity, start)| {
            let rest = plain.strip_prefix(start)?;
            (rest.is_empty() || rest.starts_with('_')).then(|| (quantity, start, rest.trim_start_matches('_')))
        })
        .collect();
    fitting.sort_by_key(|(_, _, rest)| rest.len());
    for &(quantity, _, rest) in &fitting {
        let (height_m, unit_name) = height(rest);
        let units = quantity.kind().units();
        if let Some((_, unit)) = units.iter().find(|(names, _)| names.contains(&unit_name)) {
            return Found::Column(Column { quantity, name: name.to_owned(), at, unit: *unit, height_m });
        }
        if unit_name.is_empty() {
            return Found::NoUnit(format!("has no unit; {name} with one of {} is understood", quantity.allowed()));
        }
    }
    let Some(&(quantity, start, rest)) = fitting.first() else { return Found::Nothing };
    let unit = height(rest).1;
    // A unit with a word before it, as in `temperature_soil_c`: it is another quantity. A number is no word: `rain_1_100_in`.
    let units = Quantity::ALL.into_iter().flat_map(|quantity| quantity.kind().units());
    let mut units = units.flat_map(|(names, _)| names).filter(|known| !known.is_empty());
    let is_another = |unit: &str, known: &str| {
        let before = unit.strip_suffix(known).and_then(|before| before.strip_suffix('_'));
        before.is_some_and(|before| before.contains(|c: char| c.is_ascii_alphabetic()))
    };
    if units.any(|known| is_another(unit, known)) {
        return Found::Nothing;
    }
    let allowed = quantity.allowed();
    Found::UnknownUnit(
        quantity,
        format!("{unit:?} is no unit of {start}, which is not in the header otherwise; one of {allowed} is understood"),
    )
}

/// A height in front of a unit: `3m_mph`, `2m` or `10_m_m_s`.
fn height(rest: &str) -> (Option<f64>, &str) {
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, after) = rest.split_at(digits);
    let after = after.trim_start_matches('_');
    match (number.parse(), after.strip_prefix('m')) {
        (Ok(height), Some(unit)) if unit.is_empty() || unit.starts_with('_') => {
            (Some(height), unit.trim_start_matches('_'))
        }
        _ => (None, rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Option<Column> {
        match column(&plain(name), name, 0) {
            Found::Column(column) => Some(column),
            _ => None,
        }
    }

    #[test]
    fn quantities_units_and_heights_are_in_the_names() {
        for (name, quantity, number, value) in [
            ("air_temperature_c", Quantity::Air, 20.0, 20.0),
            ("Temp (°F)", Quantity::Air, 68.0, 20.0),
            ("Tmax [K]", Quantity::AirMax, 293.15, 20.0),
            ("wind_speed_km_h", Quantity::Wind, 36.0, 10.0),
            ("Wind speed 3m (mph)", Quantity::Wind, 10.0, 4.4704),
            ("solar_radiation_mj_m2_d", Quantity::Radiation, 8.64, 100.0),
            ("solar_radiation_mj_m2", Quantity::Radiation, 8.64, 100.0),
            ("Solar (Langleys)", Quantity::Radiation, 8.64 / 0.04184, 100.0),
            ("Solar radiation (W/m²)", Quantity::Radiation, 100.0, 100.0),
            ("rain_in", Quantity::Rain, 0.5, 12.7),
            ("dewpoint_f", Quantity::DewPoint, 32.0, 0.0),
            ("RH (%)", Quantity::Humidity, 55.0, 55.0),
            ("relative_humidity_2m (%)", Quantity::Humidity, 55.0, 55.0),
            ("rh_max_pct", Quantity::HumidityMax, 90.0, 90.0),
            ("vapour pressure (hPa)", Quantity::VapourPressure, 12.0, 1.2),
            ("published_eto_mm", Quantity::Reference, 5.0, 5.0),
        ] {
            let column = of(name).unwrap_or_else(|| panic!("{name} is not understood"));
            assert_eq!(column.quantity, quantity, "{name}");
            assert!((column.unit.canonical(number, 86_400.0) - value).abs() < 1e-9, "{name}");
            assert!((column.unit.number(value, 86_400.0) - number).abs() < 1e-9, "{name}");
        }
        assert_eq!(of("Wind speed 3m (mph)").and_then(|column| column.height_m), Some(3.0));
        assert_eq!(of("wind_speed_10_m_km_h").and_then(|column| column.height_m), Some(10.0));
        assert_eq!(of("wind_speed_m_s").and_then(|column| column.height_m), None);
        for other in ["wind_gust_m_s", "wind_direction_deg", "note", "temperature_soil_c", "published_etr_mm"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn all_that_is_wrong_with_a_header_is_said() {
        let header = ["temperature", "rain_mm", "rain_in", "radiation_suns", "rain_flag"].map(str::to_owned);
        let wrong: Vec<String> =
            read(&header).unwrap_err().into_iter().map(|(name, problem)| format!("{name} {problem}")).collect();
        assert_eq!(
            wrong,
            [
                "temperature has no unit; temperature with one of _c, _f, _k is understood",
                "rain_in is the same quantity as rain_mm",
                "radiation_suns \"suns\" is no unit of radiation, which is not in the header otherwise; one of _w_m2, _mj_m2, _mj_m2_d, \
                 _mj_m2_h, _kwh_m2, _j_cm2, _langley, _langley_h, _langley_d is understood",
                "time_utc is not in the header, nor is time or date",
            ]
        );
    }
    #[test]
    fn what_was_measured_in_an_unknown_unit_is_a_mistake_and_what_is_known_otherwise_is_left_aside() {
        let names = |names: &str| names.split(',').map(str::to_owned).collect::<Vec<_>>();
        let hourly = "time_utc,air_temperature_c,dew_point_c,wind_speed_m_s,solar_radiation_w_m2";
        let header =
            read(&names(&format!("{hourly},wind_direction_deg,temperature_soil_c,tmax_flag,rh_flag"))).unwrap();
        assert_eq!(header.ignored, ["temperature_soil_c", "wind_direction_deg", "tmax_flag", "rh_flag"]);
        for (column, unit, quantity) in
            [("rainfall_feet", "feet", "rainfall"), ("precip_2m (1/100 in.)", "1_100_in", "precip")]
        {
            let wrong = read(&names(&format!("{hourly},{column}"))).unwrap_err();
            let said = format!(
                "{unit:?} is no unit of {quantity}, which is not in the header otherwise; one of _mm, _cm, _in is understood"
            );
            assert_eq!(wrong, [(column.to_owned(), said)]);
        }
    }
}
