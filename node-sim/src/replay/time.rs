//! Times as people write them in files.

use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;
use proto::Timestamp;

const RFC_3339: &str = "rfc3339";

pub(super) fn rfc3339() -> String {
    RFC_3339.to_owned()
}

pub(super) fn utc() -> String {
    "UTC".to_owned()
}

/// How a column's times are written.
#[derive(Debug, Clone)]
pub(super) enum TimeFormat {
    Rfc3339,
    /// A number of seconds since 1970, times this in ms.
    Unix(f64),
    Written {
        format: String,
        zone: TimeZone,
    },
}

impl TimeFormat {
    /// The format of these names.
    ///
    /// # Errors
    /// The key that is wrong, and what is wrong with it.
    pub fn new(format: &str, zone: &str) -> Result<Self, (&'static str, String)> {
        let zone = read_zone(zone).ok_or_else(|| {
            let allowed = "UTC, an offset like -08:00 or a zone like America/Los_Angeles that this machine knows";
            ("time_zone", format!("{zone:?} is not {allowed}"))
        })?;
        match format {
            RFC_3339 => Ok(Self::Rfc3339),
            "unix_s" => Ok(Self::Unix(1000.0)),
            "unix_ms" => Ok(Self::Unix(1.0)),
            written if written.contains('%') => Ok(Self::Written { format: written.to_owned(), zone }),
            _ => {
                let allowed = "rfc3339, unix_s, unix_ms or a format like %Y-%m-%d %H:%M";
                Err(("time_format", format!("{format:?} is not {allowed}")))
            }
        }
    }

    /// The time of a text. A local time that the clocks showed twice is the earlier one that is after `before`.
    pub fn read(&self, text: &str, before: Option<Timestamp>) -> Result<Timestamp, String> {
        let wrong = |expected: &str| format!("{text:?} is not {expected}");
        match self {
            Self::Rfc3339 => text.parse().map_err(|error: proto::time::InvalidTime| error.to_string()),
            Self::Unix(ms) => {
                let number: f64 = text.parse().map_err(|_| wrong("a number of seconds or milliseconds since 1970"))?;
                let millis = number * ms;
                let known = Timestamp::MIN.as_millis() as f64..Timestamp::MAX.as_millis() as f64;
                match known.contains(&millis) {
                    true => Ok(Timestamp::from_millis(millis.round() as i64)),
                    false => Err(wrong("a time in the years 0 to 9998")),
                }
            }
            Self::Written { format, zone } => {
                let parts = BrokenDownTime::parse(format, text).map_err(|_| wrong(&format!("a time like {format}")))?;
                let civil = parts.to_datetime().or_else(|_| parts.to_date().map(DateTime::from));
                let civil = civil.map_err(|_| wrong(&format!("a whole date and time like {format}")))?;
                let zone = parts.offset().map_or_else(|| zone.clone(), jiff::tz::Offset::to_time_zone);
                let ambiguous = zone.to_ambiguous_timestamp(civil);
                let (earlier, later) = (ambiguous.earlier(), ambiguous.later());
                let (earlier, later) =
                    earlier.and_then(|earlier| Ok((earlier, later?))).map_err(|_| wrong("a time"))?;
                let (earlier, later) = (Timestamp::from_jiff(earlier), Timestamp::from_jiff(later));
                Ok(if before.is_some_and(|before| earlier <= before) { later } else { earlier })
            }
        }
    }
}

fn read_zone(text: &str) -> Option<TimeZone> {
    if text == "UTC" {
        return Some(TimeZone::UTC);
    }
    if text.starts_with(['+', '-']) {
        return Some(BrokenDownTime::parse("%:z", text).ok()?.offset()?.to_time_zone());
    }
    TimeZone::get(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: &str, zone: &str, text: &str) -> String {
        TimeFormat::new(format, zone).unwrap().read(text, None).map_or_else(|wrong| wrong, |time| time.to_string())
    }

    #[test]
    fn times_of_many_kinds_are_read() {
        for (format, zone, text, expected) in [
            ("rfc3339", "UTC", "2015-01-01T00:00:00-08:00", "2015-01-01T08:00:00Z"),
            ("unix_s", "UTC", "1420099200.5", "2015-01-01T08:00:00.5Z"),
            ("unix_ms", "UTC", "1420099200000", "2015-01-01T08:00:00Z"),
            ("%Y-%m-%d %H:%M", "-08:00", "2015-01-01 00:00", "2015-01-01T08:00:00Z"),
            ("%m/%d/%Y", "America/Los_Angeles", "07/01/2015", "2015-07-01T07:00:00Z"),
            ("%d.%m.%Y %H:%M:%S", "Europe/Berlin", "01.07.2015 14:30:00", "2015-07-01T12:30:00Z"),
            ("%Y-%m-%dT%H:%M%z", "UTC", "2015-01-01T00:00-0800", "2015-01-01T08:00:00Z"),
            ("%Y-%m-%d %H:%M", "UTC", "2015-13-01 00:00", "\"2015-13-01 00:00\" is not a time like %Y-%m-%d %H:%M"),
            ("unix_s", "UTC", "soon", "\"soon\" is not a number of seconds or milliseconds since 1970"),
            ("unix_s", "UTC", "1e300", "\"1e300\" is not a time in the years 0 to 9998"),
        ] {
            assert_eq!(read(format, zone, text), expected);
        }
        assert_eq!(TimeFormat::new("iso", "UTC").unwrap_err().0, "time_format");
        assert_eq!(TimeFormat::new("rfc3339", "Mars/Olympus").unwrap_err().0, "time_zone");
    }

    #[test]
    fn an_hour_that_the_clocks_show_twice_is_read_once_each() {
        let format = TimeFormat::new("%Y-%m-%d %H:%M", "America/Los_Angeles").unwrap();
        let mut before = None;
        let times: Vec<String> = ["00:30", "01:30", "01:30", "02:30"]
            .map(|hour| {
                let time = format.read(&format!("2015-11-01 {hour}"), before).unwrap();
                before = Some(time);
                time.to_string()
            })
            .to_vec();
        let expected = ["07:30", "08:30", "09:30", "10:30"].map(|hour| format!("2015-11-01T{hour}:00Z"));
        assert_eq!(times, expected);
    }
}
