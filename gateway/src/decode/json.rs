//! Plain JSON: what a sensor, or a script of twenty lines, sends that does not speak the native format.
//!
//! ```json
//! {"time": "2026-06-01T07:00:00Z", "soil_moisture_20cm": 0.231, "air_temperature_200cm": 18.4}
//! ```
//!
//! or an array of such objects. `time` is RFC 3339; without it the reading is of the moment at which it came, by the farm's
//! clock. Every other key is a channel as [`proto::Channel`] writes it, in its quantity's unit. A key that is none of these,
//! or holds something else, is refused by itself and costs the others nothing.
//!
//! A plain payload has neither boot nor sequence. So each reading is known by what it says: one of the same station,
//! channel, time and value is the same reading, however often it comes (see [`Origin::plain`](crate::window::Origin::plain)).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proto::native::{MAX_CHANNELS, MAX_READINGS};
use proto::{Channel, Reading, Timestamp};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// The key that is no channel.
const TIME: &str = "time";
/// How many refused keys of one payload are named; the others are only counted.
const NAMED_MOST: usize = 8;
/// How many characters of what came are shown.
const SHOWN: usize = 64;

/// What a plain payload holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plain {
    /// The readings, by time, then channel.
    pub readings: Vec<Reading>,
    /// Whether every one of them says its own time, so that the same bytes are the same readings.
    pub timed: bool,
    /// How many keys were refused, by reason: `unknown_channel`, `value`, `time`, `repeated`.
    pub refused: BTreeMap<&'static str, u64>,
    /// The first of them in words.
    pub problems: Vec<String>,
}

impl Plain {
    /// The newest time in it, if all of its readings say their own: the earliest that there is when it has none.
    #[must_use]
    pub fn newest(&self) -> Option<Timestamp> {
        self.timed.then(|| self.readings.last().map_or(Timestamp::MIN, |reading| reading.time))
    }
}

/// Why a plain payload as a whole cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is no JSON; what the parser said, and where.
    #[error("not JSON: {0}")]
    Malformed(String),
    /// There is more in it than is taken at once.
    #[error("{count} {what}, at most {most} are taken in one message")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many came.
        count: usize,
        /// How many are taken.
        most: usize,
    },
    /// No reading is left of it.
    #[error("no reading in it: {0}")]
    Empty(String),
}

impl JsonError {
    /// A short word for counting: `malformed`, `too_many`, `empty`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TooMany { .. } => "too_many",
            Self::Empty(_) => "empty",
        }
    }
}

/// Whether a payload is plain JSON. No native one begins so: both characters would open a protobuf group, which the
/// native messages do not have.
#[must_use]
pub fn is_plain(payload: &[u8]) -> bool {
    matches!(payload.first(), Some(b'{' | b'['))
}

/// Reads a plain payload that came at `now`.
///
/// # Errors
/// When it is no JSON, holds too much, or nothing that can be taken.
pub fn read(payload: &[u8], now: Timestamp) -> Result<Plain, JsonError> {
    let whole: Json = serde_json::from_slice(payload).map_err(|error| JsonError::Malformed(error.to_string()))?;
    let mut plain = Plain { timed: true, ..Plain::default() };
    match whole {
        Json::Array(items) => items.into_iter().for_each(|item| plain.take(item, now)),
        one => plain.take(one, now),
    }
    at_most("readings", plain.readings.len(), MAX_READINGS)?;
    let channels: BTreeSet<Channel> = plain.readings.iter().map(|reading| reading.channel).collect();
    at_most("channels", channels.len(), MAX_CHANNELS)?;
    if plain.readings.is_empty() {
        let why = if plain.problems.is_empty() { "no channel is named".to_owned() } else { plain.problems.join("; ") };
        return Err(JsonError::Empty(why));
    }
    plain.readings.sort_by(|a, b| (a.time, a.channel).cmp(&(b.time, b.channel)).then(a.value.total_cmp(&b.value)));
    Ok(plain)
}

fn at_most(what: &'static str, count: usize, most: usize) -> Result<(), JsonError> {
    if count > most { Err(JsonError::TooMany { what, count, most }) } else { Ok(()) }
}

impl Plain {
    /// Takes one object's readings.
    fn take(&mut self, item: Json, now: Timestamp) {
        let fields = match item {
            Json::Object(fields) => fields,
            other => return self.refuse("value", format!("expected an object, found {other}")),
        };
        let mut times = BTreeMap::new();
        for (key, _) in &fields {
            *times.entry(key.as_str()).or_insert(0_u32) += 1;
        }
        let repeated: BTreeSet<String> =
            times.into_iter().filter(|(_, count)| *count > 1).map(|(key, _)| key.to_owned()).collect();
        for key in &repeated {
            self.refuse("repeated", format!("{:?} is there more than once", shown(key)));
        }
        let time = match fields.iter().find(|(key, _)| key == TIME) {
            // Nobody can say of when the object's readings are.
            Some(_) if repeated.contains(TIME) => return,
            Some((_, Json::Text(text))) => match text.parse() {
                Ok(time) => Some(time),
                Err(error) => return self.refuse("time", format!("{error}")),
            },
            Some((_, other)) => {
                return self.refuse("time", format!("expected RFC 3339, like \"2026-07-14T06:00:00Z\", found {other}"));
            }
            None => None,
        };
        for (key, value) in &fields {
            if key == TIME || repeated.contains(key) {
                continue;
            }
            let channel = match key.parse::<Channel>() {
                Ok(channel) => channel,
                Err(error) => {
                    self.refuse("unknown_channel", error.to_string());
                    continue;
                }
            };
            match value {
                Json::Number(value) => {
                    self.timed &= time.is_some();
                    // Of the two zeros one is enough: a reading is known by its value's bits.
                    self.readings.push(Reading { channel, time: time.unwrap_or(now), value: *value + 0.0 });
                }
                other => self.refuse("value", format!("{channel}: expected a number, found {other}")),
            }
        }
    }

    fn refuse(&mut self, reason: &'static str, problem: String) {
        *self.refused.entry(reason).or_default() += 1;
        if self.problems.len() < NAMED_MOST {
            self.problems.push(problem);
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// A JSON value whose objects keep a key that comes twice.
#[derive(Debug, Clone, PartialEq)]
enum Json {
    Null,
    Boolean(bool),
    Number(f64),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "{:?}", shown(text)),
            Self::Array(_) => f.write_str("an array"),
            Self::Object(_) => f.write_str("an object"),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Boolean(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            object.push(entry);
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_780_297_200);

    fn plain(payload: &str) -> Result<Plain, JsonError> {
        read(payload.as_bytes(), NOW)
    }

    fn said(payload: &str) -> String {
        plain(payload).unwrap_err().to_string()
    }

    #[test]
    fn a_reading_is_of_its_own_time_or_of_now() {
        let both = plain(
            r#"[{"time":"2026-06-01T00:30:00-07:00","soil_moisture_20cm":0.231,"air_temperature_200cm":18},{"rain":-0.5}]"#,
        )
        .unwrap();
        let at = |time: Timestamp, channel: &str, value| Reading { channel: channel.parse().unwrap(), time, value };
        let own: Timestamp = "2026-06-01T07:30:00Z".parse().unwrap();
        let expected =
            [at(NOW, "rain", -0.5), at(own, "soil_moisture_20cm", 0.231), at(own, "air_temperature_200cm", 18.0)];
        let mut expected = expected.to_vec();
        expected.sort_by_key(|reading| (reading.time, reading.channel));
        assert_eq!(both.readings, expected);
        assert!(!both.timed && both.refused.is_empty());
        assert!(plain(r#"{"time":"2026-06-01T07:30:00Z","rain":1}"#).unwrap().timed);
    }

    #[test]
    fn a_refused_key_is_named_and_costs_the_others_nothing() {
        let payload = r#"{"soil_moisture_20cm":0.2,"mud":1,"rain":"2","soil_ec_20cm":null,"wind_speed_200cm":[1],"soil_moisture_5cm":1,"soil_moisture_5cm":2}"#;
        let some = plain(payload).unwrap();
        assert_eq!(some.readings.len(), 1);
        assert_eq!(some.refused, BTreeMap::from([("unknown_channel", 1), ("value", 3), ("repeated", 1)]));
        let said = some.problems.join("; ");
        for part in [
            "channel \"mud\": unknown quantity",
            "rain: expected a number, found \"2\"",
            "soil_ec_20cm: expected a number, found null",
            "wind_speed_200cm: expected a number, found an array",
            "\"soil_moisture_5cm\" is there more than once",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let times =
            plain(r#"[{"time":"noon","rain":1},{"time":5,"rain":1},{"time":"a","time":"b","rain":1},7,{"rain":3}]"#);
        let times = times.unwrap();
        assert_eq!(times.readings.len(), 1);
        assert_eq!(times.refused, BTreeMap::from([("time", 2), ("repeated", 1), ("value", 1)]));
        assert!(times.problems[1].contains("found 5"), "{:?}", times.problems);
    }

    #[test]
    fn what_is_no_json_or_too_much_is_refused_as_a_whole() {
        let deep = format!("{{\"rain\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for (payload, part) in [
            ("{", "EOF"),
            ("{\"rain\":NaN}", "expected value"),
            ("{\"rain\":1e999}", "number out of range"),
            ("{\"rain\":1} x", "trailing characters"),
            (deep.as_str(), "recursion limit exceeded"),
        ] {
            let error = plain(payload).unwrap_err();
            assert_eq!(error.reason(), "malformed", "{part}");
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        assert_eq!(said("{}"), "no reading in it: no channel is named");
        assert!(said("[[{\"rain\":1}]]").contains("expected an object, found an array"));
        let many = format!("[{}]", vec!["{\"rain\":1}"; MAX_READINGS + 1].join(","));
        assert_eq!(said(&many), "43201 readings, at most 43200 are taken in one message");
        let wide: Vec<String> = (0..=MAX_CHANNELS).map(|cm| format!("\"soil_moisture_{cm}cm\":1")).collect();
        assert_eq!(said(&format!("{{{}}}", wide.join(","))), "257 channels, at most 256 are taken in one message");
    }

    #[test]
    fn no_native_message_begins_like_a_plain_one() {
        assert!(is_plain(b"{}") && is_plain(b"[]") && !is_plain(b"") && !is_plain(b" {}"));
        for first in *b"{[" {
            assert_eq!(first & 0b111, 3, "wire type 3 opens a group");
        }
    }
}
