//! Measured weather: a CSV file with one row for each hour.
//!
//! The header names the columns, in any order: `time_utc` (RFC 3339; the end of the hour that the row is the mean of),
//! `air_temperature_c`, `wind_speed_m_s`, `solar_radiation_w_m2`, one of `dew_point_c` and `relative_humidity_pct`, and
//! perhaps `rain_mm`. Other columns are left aside and named in [`WeatherFile::ignored`]. An empty field is a missing
//! measurement; it is filled and counted: radiation from the same hour of the nearest day that has it, rain with none,
//! the others by a straight line over time.
//!
//! **Outside the file's time** the year repeats: a time takes the weather of the same month, day and hour of a year that
//! the file covers (29 February takes the 28th's), successive years taking successive years of the file. A file that
//! covers no such hour (because it is shorter than a year) repeats its whole days from the beginning.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::civil;
use jiff::tz::Offset;
use proto::Timestamp;

use super::Hour;
use crate::evapotranspiration::{dew_point_c, saturation_vapour_pressure_kpa};

const HOUR_MS: i64 = 3_600_000;

/// The longest file that is read, in hours: a century. A wrong year in one row must not ask for endless memory.
const MAX_HOURS: i64 = 24 * 366 * 100;

/// Hours of measured weather without gaps.
#[derive(Debug, Clone)]
pub struct WeatherFile {
    /// The first hour, counted from 1970.
    first: i64,
    hours: Vec<Hour>,
    /// Whether the file has a rain column; without one the rain in [`WeatherFile::hour`] is zero.
    pub has_rain: bool,
    /// How many values were missing and filled.
    pub filled: usize,
    /// Columns that mean nothing here.
    pub ignored: Vec<String>,
}

/// Why a weather file cannot be used: one sentence with the file, and where there is one, the line and the column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeatherFileError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: Option<u64>,
    /// The column's name in the header.
    pub column: Option<String>,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for WeatherFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weather file {:?}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(column) = &self.column {
            write!(f, ", column {column}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for WeatherFileError {}

/// A column that is read, and what its values may be (what the earth has seen, with room).
struct Column {
    name: &'static str,
    low: f64,
    high: f64,
}

const TIME: &str = "time_utc";
const TEMPERATURE: usize = 0;
const WIND: usize = 1;
const RADIATION: usize = 2;
const DEW_POINT: usize = 3;
const HUMIDITY: usize = 4;
const RAIN: usize = 5;
const COLUMNS: [Column; 6] = [
    Column { name: "air_temperature_c", low: -90.0, high: 60.0 },
    Column { name: "wind_speed_m_s", low: 0.0, high: 115.0 },
    Column { name: "solar_radiation_w_m2", low: -20.0, high: 1600.0 },
    Column { name: "dew_point_c", low: -90.0, high: 40.0 },
    Column { name: "relative_humidity_pct", low: 0.0, high: 105.0 },
    Column { name: "rain_mm", low: 0.0, high: 400.0 },
];

/// A row's values, in the order of [`COLUMNS`].
type Row = [Option<f64>; COLUMNS.len()];

impl WeatherFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be opened, lacks a column, or a row cannot be understood.
    pub fn read(path: &Path) -> Result<Self, WeatherFileError> {
        let fail = |line, column: Option<&str>, problem: String| WeatherFileError {
            file: path.to_owned(),
            line,
            column: column.map(str::to_owned),
            problem,
        };
        let file = std::fs::File::open(path).map_err(|error| fail(None, None, format!("cannot be opened: {error}")))?;
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(file);
        let mut record = csv::StringRecord::new();
        let mut next = |record: &mut csv::StringRecord| {
            let more = reader.read_record(record).map_err(|error| {
                let line = error.position().map(csv::Position::line);
                let problem = match error.kind() {
                    csv::ErrorKind::Utf8 { .. } => "is not UTF-8 text".to_owned(),
                    _ => format!("cannot be read: {error}"),
                };
                fail(line, None, problem)
            })?;
            Ok(more.then(|| record.position().map_or(0, csv::Position::line)))
        };

        let header_line = next(&mut record)?.ok_or_else(|| fail(None, None, "is empty".to_owned()))?;
        let header: Vec<String> = record.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
        let find = |name: &str| header.iter().position(|column| column == name);
        let missing = |name: &str| fail(Some(header_line), Some(name), "is not in the header".to_owned());
        let time_at = find(TIME).ok_or_else(|| missing(TIME))?;
        let places = COLUMNS.map(|column| find(column.name));
        for required in [TEMPERATURE, WIND, RADIATION] {
            places[required].ok_or_else(|| missing(COLUMNS[required].name))?;
        }
        if places[DEW_POINT].is_none() && places[HUMIDITY].is_none() {
            let problem = "is not in the header, and neither is relative_humidity_pct".to_owned();
            return Err(fail(Some(header_line), Some(COLUMNS[DEW_POINT].name), problem));
        }
        let known = |name: &String| name == TIME || COLUMNS.iter().any(|column| column.name == name);
        let ignored = header.iter().filter(|name| !known(name)).cloned().collect();

        let mut rows: Vec<Row> = Vec::new();
        let mut first = 0;
        while let Some(line) = next(&mut record)? {
            if record.len() != header.len() {
                let problem = format!("has {} fields, the header has {}", record.len(), header.len());
                return Err(fail(Some(line), None, problem));
            }
            let text = &record[time_at];
            let time: Timestamp = text
                .parse()
                .map_err(|error: proto::time::InvalidTime| fail(Some(line), Some(TIME), error.to_string()))?;
            if time.as_millis().rem_euclid(HOUR_MS) != 0 {
                return Err(fail(Some(line), Some(TIME), format!("{text:?} is not a whole hour")));
            }
            // The row is named after the hour's end.
            let hour = time.as_millis() / HOUR_MS - 1;
            if rows.is_empty() {
                first = hour;
            }
            let index = hour - first;
            if index < rows.len() as i64 {
                return Err(fail(Some(line), Some(TIME), format!("{text:?} is not later than the row before")));
            }
            if index >= MAX_HOURS {
                return Err(fail(
                    Some(line),
                    Some(TIME),
                    format!("{text:?} is more than a century after the first row"),
                ));
            }
            rows.resize(index as usize, Row::default());
            let mut row = Row::default();
            for (value, (place, column)) in row.iter_mut().zip(places.iter().zip(&COLUMNS)) {
                let Some(text) = place.map(|at| &record[at]).filter(|text| !text.is_empty()) else {
                    continue;
                };
                let number: f64 = text
                    .parse()
                    .map_err(|_| fail(Some(line), Some(column.name), format!("{text:?} is not a number")))?;
                if !(column.low..=column.high).contains(&number) {
                    let problem = format!("{text} is outside {} to {}", column.low, column.high);
                    return Err(fail(Some(line), Some(column.name), problem));
                }
                *value = Some(number);
            }
            rows.push(row);
        }
        if rows.is_empty() {
            return Err(fail(None, None, "has no rows".to_owned()));
        }

        let filled = fill(&mut rows, places.map(|place| place.is_some()))
            .map_err(|column| fail(None, Some(COLUMNS[column].name), "has no value at all".to_owned()))?;
        let hours = rows.iter().map(|row| to_hour(row, places[DEW_POINT].is_some())).collect();
        Ok(Self { first, hours, has_rain: places[RAIN].is_some(), filled, ignored })
    }

    /// How many hours the file covers.
    #[must_use]
    pub fn hour_count(&self) -> usize {
        self.hours.len()
    }

    /// The beginning of the first hour and the end of the last.
    #[must_use]
    pub fn span(&self) -> (Timestamp, Timestamp) {
        let at = |hour: i64| Timestamp::from_millis(hour * HOUR_MS);
        (at(self.first), at(self.first + self.hours.len() as i64))
    }

    /// The weather of an hour counted from 1970, whatever the year (see the module's text).
    #[must_use]
    pub fn hour(&self, hour: i64) -> Hour {
        self.hours[self.index(hour)]
    }

    /// Every hour of the file.
    pub(super) fn hours(&self) -> impl Iterator<Item = (i64, &Hour)> {
        (self.first..).zip(&self.hours)
    }

    fn index(&self, hour: i64) -> usize {
        let len = self.hours.len() as i64;
        let inside = |hour: i64| (0..len).contains(&(hour - self.first)).then(|| (hour - self.first) as usize);
        if let Some(index) = inside(hour) {
            return index;
        }
        let (from, to) = (civil_hour(self.first), civil_hour(self.first + len - 1));
        let wanted = civil_hour(hour);
        let years = i64::from(to.year()) - i64::from(from.year()) + 1;
        let shift = (i64::from(wanted.year()) - i64::from(from.year())).rem_euclid(years);
        let repeated = (0..years).find_map(|try_next| {
            let year = from.year() + ((shift + try_next) % years) as i16;
            let last_day = civil::Date::new(year, wanted.month(), 1).ok()?.days_in_month();
            let date = civil::Date::new(year, wanted.month(), wanted.day().min(last_day)).ok()?;
            let time = Offset::UTC.to_timestamp(date.to_datetime(wanted.time())).ok()?;
            inside(time.as_second().div_euclid(3600))
        });
        repeated.unwrap_or_else(|| {
            let whole_days = if len >= 24 { len / 24 * 24 } else { len };
            (hour - self.first).rem_euclid(whole_days) as usize
        })
    }
}

fn civil_hour(hour: i64) -> civil::DateTime {
    Offset::UTC.to_datetime(Timestamp::from_millis(hour * HOUR_MS).to_jiff())
}

fn to_hour(row: &Row, has_dew_point: bool) -> Hour {
    let value = |column: usize| row[column].unwrap_or(0.0);
    let air_temperature_c = value(TEMPERATURE);
    let dew_point = if has_dew_point {
        value(DEW_POINT)
    } else {
        // FAO-56 eq. 10: relative humidity is the ratio of actual and saturation vapour pressure.
        dew_point_c(value(HUMIDITY).clamp(0.1, 100.0) / 100.0 * saturation_vapour_pressure_kpa(air_temperature_c))
    };
    Hour {
        air_temperature_c,
        dew_point_c: dew_point.min(air_temperature_c),
        wind_speed_m_s: value(WIND),
        solar_radiation_w_m2: value(RADIATION).max(0.0),
        rain_mm: value(RAIN),
    }
}

/// Fills what is missing in the columns that the file has, and counts it. The error is the column that has nothing.
fn fill(rows: &mut [Row], present: [bool; COLUMNS.len()]) -> Result<usize, usize> {
    let mut filled = 0;
    for column in (0..COLUMNS.len()).filter(|&column| present[column]) {
        let measured: Vec<usize> = (0..rows.len()).filter(|&at| rows[at][column].is_some()).collect();
        if measured.is_empty() && column != RAIN {
            return Err(column);
        }
        filled += rows.len() - measured.len();
        let gaps: Vec<(usize, f64)> = (0..rows.len())
            .filter(|&at| rows[at][column].is_none())
            .map(|at| {
                let value = match column {
                    RAIN => 0.0,
                    RADIATION => {
                        same_hour_nearby(rows, column, at).unwrap_or_else(|| on_a_line(rows, column, &measured, at))
                    }
                    _ => on_a_line(rows, column, &measured, at),
                };
                (at, value)
            })
            .collect();
        for (at, value) in gaps {
            rows[at][column] = Some(value);
        }
    }
    Ok(filled)
}

/// The same hour of the nearest day within a week that has a value.
fn same_hour_nearby(rows: &[Row], column: usize, at: usize) -> Option<f64> {
    (1..=7).find_map(|days| {
        let earlier = at.checked_sub(24 * days).and_then(|index| rows[index][column]);
        let later = rows.get(at + 24 * days).and_then(|row| row[column]);
        match (earlier, later) {
            (Some(a), Some(b)) => Some((a + b) / 2.0),
            (one, other) => one.or(other),
        }
    })
}

/// On the straight line between the measurements before and after; the nearest one at the file's ends.
fn on_a_line(rows: &[Row], column: usize, measured: &[usize], at: usize) -> f64 {
    let value = |index: usize| rows[index][column].unwrap_or(0.0);
    let after = measured.partition_point(|&index| index < at);
    match (after.checked_sub(1).map(|i| measured[i]), measured.get(after).copied()) {
        (Some(a), Some(b)) => value(a) + (value(b) - value(a)) * (at - a) as f64 / (b - a) as f64,
        (Some(only), None) | (None, Some(only)) => value(only),
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "time_utc,air_temperature_c,dew_point_c,wind_speed_m_s,solar_radiation_w_m2\n";

    fn read(text: &str) -> Result<WeatherFile, WeatherFileError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.csv");
        std::fs::write(&path, text).unwrap();
        WeatherFile::read(&path).map_err(|error| WeatherFileError { file: "w.csv".into(), ..error })
    }

    #[test]
    fn a_wrong_field_is_named_by_line_and_column() {
        let rows = |row: &str| format!("{HEADER}2015-01-01T08:00:00Z,1,0,2,0\n{row}\n");
        for (row, message) in [
            (
                "2015-01-01T09:00:00Z,1,abc,2,0",
                "weather file \"w.csv\", line 3, column dew_point_c: \"abc\" is not a number",
            ),
            (
                "2015-01-01T09:00:00Z,NaN,0,2,0",
                "weather file \"w.csv\", line 3, column air_temperature_c: NaN is outside -90 to 60",
            ),
            (
                "2015-01-01T09:00:00Z,1,0,-2,0",
                "weather file \"w.csv\", line 3, column wind_speed_m_s: -2 is outside 0 to 115",
            ),
            ("2015-01-01T09:00:00Z,1,0", "weather file \"w.csv\", line 3: has 3 fields, the header has 5"),
            (
                "2015-01-01T08:00:00Z,1,0,2,0",
                "weather file \"w.csv\", line 3, column time_utc: \"2015-01-01T08:00:00Z\" is not later than the row before",
            ),
            (
                "2015-01-01T09:30:00Z,1,0,2,0",
                "weather file \"w.csv\", line 3, column time_utc: \"2015-01-01T09:30:00Z\" is not a whole hour",
            ),
            (
                "noon,1,0,2,0",
                "weather file \"w.csv\", line 3, column time_utc: time \"noon\" is not RFC 3339, like 2026-07-14T06:00:00Z",
            ),
        ] {
            assert_eq!(read(&rows(row)).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_missing_column_and_an_empty_file_are_named() {
        let error = read("time_utc,air_temperature_c,wind_speed_m_s,solar_radiation_w_m2\n").unwrap_err().to_string();
        assert_eq!(
            error,
            "weather file \"w.csv\", line 1, column dew_point_c: is not in the header, and neither is relative_humidity_pct"
        );
        assert_eq!(read("").unwrap_err().to_string(), "weather file \"w.csv\": is empty");
        assert_eq!(read(HEADER).unwrap_err().to_string(), "weather file \"w.csv\": has no rows");
        let error = WeatherFile::read(Path::new("/no/such.csv")).unwrap_err().to_string();
        assert!(error.starts_with("weather file \"/no/such.csv\": cannot be opened: No such file"), "{error}");
    }

    #[test]
    fn bytes_that_are_no_text_are_named_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.csv");
        let mut bytes = HEADER.as_bytes().to_vec();
        bytes.extend(b"2015-01-01T08:00:00Z,\xff,0,2,0\n");
        std::fs::write(&path, bytes).unwrap();
        let error = WeatherFile::read(&path).unwrap_err();
        assert_eq!((error.line, error.problem.as_str()), (Some(2), "is not UTF-8 text"));
    }

    #[test]
    fn columns_come_in_any_order_and_gaps_are_filled_and_counted() {
        let file = read(
            "rain_mm,note,solar_radiation_w_m2,wind_speed_m_s,relative_humidity_pct,air_temperature_c,time_utc\n\
             0.5,a,100,1,50,10,2015-06-01T01:00:00Z\n\
             ,b,,,50,,2015-06-01T02:00:00Z\n\
             0,c,300,3,50,16,2015-06-01T04:00:00Z\n",
        )
        .unwrap();
        assert_eq!(file.ignored, ["note"]);
        assert_eq!((file.hour_count(), file.filled, file.has_rain), (4, 4 + 5, true));
        let first = file.first;
        assert_eq!(file.hour(first).rain_mm, 0.5);
        assert_eq!(file.hour(first + 1).air_temperature_c, 12.0);
        assert_eq!(file.hour(first + 2).air_temperature_c, 14.0);
        assert_eq!(file.hour(first + 2).wind_speed_m_s, 1.0 + 2.0 * 2.0 / 3.0);
        // Half the saturation vapour pressure at 10 Cel, 0.614 kPa, is saturation at 0.06 Cel.
        assert!((file.hour(first).dew_point_c - 0.06).abs() < 0.02, "{}", file.hour(first).dew_point_c);
    }

    #[test]
    fn a_year_repeats_and_a_leap_day_takes_the_day_before() {
        let mut text = HEADER.to_owned();
        let first: Timestamp = "2015-01-01T01:00:00Z".parse().unwrap();
        for hour in 0..365 * 24 {
            let temperature = hour as f64 / 365.0 - 10.0;
            text.push_str(&format!("{},{temperature},-30,1,0\n", first.plus_secs(3600 * hour)));
        }
        let file = read(&text).unwrap();
        let at = |time: &str| file.hour(time.parse::<Timestamp>().unwrap().as_millis() / HOUR_MS).air_temperature_c;
        assert_eq!(at("2026-07-14T06:00:00Z"), at("2015-07-14T06:00:00Z"));
        assert_eq!(at("2014-12-31T23:00:00Z"), at("2015-12-31T23:00:00Z"));
        assert_eq!(at("2028-02-29T12:00:00Z"), at("2015-02-28T12:00:00Z"));
        assert_ne!(at("2026-07-14T06:00:00Z"), at("2026-07-14T07:00:00Z"));
    }

    #[test]
    fn a_short_file_repeats_its_days() {
        let mut text = HEADER.to_owned();
        let first: Timestamp = "2015-06-01T01:00:00Z".parse().unwrap();
        for hour in 0..50 {
            text.push_str(&format!("{},{hour},-30,1,0\n", first.plus_secs(3600 * hour)));
        }
        let file = read(&text).unwrap();
        let start = file.first;
        assert_eq!(file.hour(start + 49).air_temperature_c, 49.0);
        assert_eq!(file.hour(start + 50).air_temperature_c, 2.0);
        assert_eq!(file.hour(start - 1).air_temperature_c, 47.0);
    }

    #[test]
    fn a_measured_year_at_fallon_is_read() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/fallon-2015/hourly.csv"));
        let file = WeatherFile::read(path)
            .unwrap_or_else(|error| panic!("this test needs the weather measured at Fallon: {error}"));
        assert_eq!(file.span().0.to_string(), "2015-01-01T07:00:00Z");
        assert!(file.hour_count() >= 8758, "{}", file.hour_count());
        let mean = file.hours.iter().map(|hour| hour.air_temperature_c).sum::<f64>() / file.hour_count() as f64;
        assert!((10.0..16.0).contains(&mean), "{mean}");
        assert!(!file.has_rain && file.ignored.is_empty());
    }
}
