//! Any JSON that says somewhere which station, when and how much, by a mapping in the configuration. Pure.
//!
//! ```toml
//! [[source]]
//! kind = "json"
//! topic = "farm/{site}/{probe}/up"      # {captures} are whole levels; + and a last # are as in MQTT
//! station = "{site}-{probe}"            # text with {captures} and {/pointers}; "{station}" when it is not there
//! each = "/readings/*"                  # what follows is said for each of these; the whole message when it is not there
//! time = "{/ts}"                        # of now when it is not there
//! time_format = "unix_ms"               # or "unix_s", or "rfc3339", which is taken when it is not there
//! missing = [-9999, "NA"]               # values that are none; null is one of them anyway
//! channels = [
//!   { name = "/soil/vwc", channel = "soil_moisture_20cm", unit = "%" },
//!   { name = "/t/{cm}", channel = "soil_temperature_{cm}cm", scale = 0.1 },
//! ]
//! ```
//!
//! A pointer is one of RFC 6901. It is looked up in the element first and then in what encloses it, up to the whole
//! message, so that a time or a station that is said once holds for all. In `each`, a `*` is every element of an array or
//! every member of an object.
//!
//! Every number of an element is a value whose name is its pointer. Where the element says its name and value itself,
//! `name = "{/type} {/depth} cm"`, `value = "/value"` and `unit = "{/unit}"` say where: then there is one for each. A text
//! that is a number is one too. Of a member that comes twice, the last counts.

use std::collections::BTreeMap;

use proto::Timestamp;
use proto::native::MAX_READINGS;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub mod pointer;
pub mod template;
pub mod topic;

use pointer::Pointer;
use template::Template;
use topic::TopicTemplate;

/// The reason of a value that is none: by null, by one of the mapping's markers, or because nothing is there.
pub const MISSING: &str = "missing";
/// The most elements of one message.
pub const MAX_ELEMENTS: usize = 10_000;
/// The longest pointer of a value that is looked at, in bytes; what lies deeper is passed over.
pub const MAX_POINTER: usize = 256;
/// The most numbers of one message.
pub const MAX_VALUES: usize = MAX_READINGS;

/// A mapping, as the configuration has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JsonConfig {
    /// The topics, with captures.
    pub topic: String,
    /// The station's name there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub station: Option<String>,
    /// Where the elements are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub each: Option<String>,
    /// When an element was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// How times are written.
    pub time_format: TimeFormat,
    /// What an element's value is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where an element's value is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The unit of the values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Values that say that there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Marker>,
}

/// How times are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// `2026-06-01T07:00:00Z`, also with another offset.
    #[default]
    Rfc3339,
    /// Seconds since 1970, also with decimals.
    UnixS,
    /// Milliseconds since 1970.
    UnixMs,
}

/// A value that says that there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Marker {
    /// This number.
    Number(f64),
    /// This text.
    Text(String),
}

/// One value as it is called there.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// What the station is called there.
    pub station: String,
    /// What the value is called there.
    pub name: String,
    /// Its unit, where one is told.
    pub unit: Option<String>,
    /// When it was measured; none for now.
    pub time: Option<Timestamp>,
    /// The value, finite, in that unit.
    pub value: f64,
}

/// What a message holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mapped {
    /// Its values, in the message's order.
    pub values: Vec<Named>,
    /// What could not be taken, by a short word for counting (`station`, `time`, `name`, `value`, `missing`), and why.
    pub refused: Vec<(&'static str, String)>,
}

/// Why a message as a whole cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// It is no JSON; what the parser said, and where.
    #[error("not JSON: {0}")]
    Malformed(String),
    /// The topic is none of the mapping's.
    #[error("topic {0:?} is not as the mapping says")]
    Topic(String),
    /// Nothing is where the elements should be.
    #[error("nothing is at each = {0:?}")]
    Nowhere(String),
    /// There is more in it than is taken at once.
    #[error("more than {most} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many are taken.
        most: usize,
    },
}

impl MappingError {
    /// A short word for counting.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Topic(_) => "topic",
            Self::Nowhere(_) => "each",
            Self::TooMany { .. } => "too_many",
        }
    }
}

/// A mistake in a mapping: key, value, and what is expected.
pub type Wrong = (&'static str, String, String);

/// A mapping, checked and ready for use.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    topic: TopicTemplate,
    station: Template,
    each: Option<Pointer>,
    time: Option<Template>,
    time_format: TimeFormat,
    named: Option<(Template, Pointer)>,
    unit: Option<Template>,
    missing: Vec<Marker>,
}

impl JsonConfig {
    /// Checks the mapping.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn build(&self) -> Result<Mapping, Vec<Wrong>> {
        let mut wrong = Vec::new();
        let topic = keep(&mut wrong, "topic", &self.topic, TopicTemplate::parse(&self.topic));
        let captures = topic.as_ref().map(TopicTemplate::names);
        let mut template = |key: &'static str, text: &Option<String>| {
            let text = text.as_ref()?;
            let parsed = Template::parse(text).and_then(|template| {
                let stray =
                    |known: &Vec<&str>| template.captures().find(|name| !known.contains(name)).map(str::to_owned);
                match captures.as_ref().and_then(stray) {
                    Some(name) => Err(format!("made of captures that topic has; {{{name}}} is none")),
                    None => Ok(template),
                }
            });
            keep(&mut wrong, key, text, parsed)
        };
        let said = Some(self.station.clone().unwrap_or_else(|| "{station}".to_owned()));
        let station = template("station", &said);
        let time = template("time", &self.time);
        let name = template("name", &self.name);
        let unit = template("unit", &self.unit);
        let each = self.each.as_ref().and_then(|text| keep(&mut wrong, "each", text, Pointer::parse(text)));
        let value = self.value.as_ref().and_then(|text| keep(&mut wrong, "value", text, Pointer::parse(text)));
        if self.name.is_some() != self.value.is_some() {
            let (key, other) = if self.name.is_some() { ("name", "value") } else { ("value", "name") };
            let text = self.name.as_ref().or(self.value.as_ref());
            wrong.push((key, format!("{:?}", text.cloned().unwrap_or_default()), format!("of use without {other}")));
        }
        match (topic, station) {
            (Some(topic), Some(station)) if wrong.is_empty() => Ok(Mapping {
                topic,
                station,
                each,
                time,
                time_format: self.time_format,
                named: name.zip(value),
                unit,
                missing: self.missing.clone(),
            }),
            _ => Err(wrong),
        }
    }
}

fn keep<T>(wrong: &mut Vec<Wrong>, key: &'static str, text: &str, parsed: Result<T, String>) -> Option<T> {
    parsed.map_err(|expected| wrong.push((key, format!("{text:?}"), expected))).ok()
}

impl Mapping {
    /// Its topics as an MQTT filter.
    #[must_use]
    pub fn filter(&self) -> String {
        self.topic.filter()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When it is no JSON, too much, or not on a topic of the mapping.
    pub fn read(&self, topic: &str, payload: &[u8]) -> Result<Mapped, MappingError> {
        let captures =
            self.topic.captures(topic).ok_or_else(|| MappingError::Topic(topic.chars().take(128).collect()))?;
        let whole: Json =
            serde_json::from_slice(payload).map_err(|error| MappingError::Malformed(error.to_string()))?;
        let elements = match &self.each {
            None => vec![vec![&whole]],
            Some(each) => each.all(&whole, MAX_ELEMENTS).ok_or(too_many("elements", MAX_ELEMENTS))?,
        };
        if let (true, Some(each)) = (elements.is_empty(), &self.each) {
            return Err(MappingError::Nowhere(each.to_string()));
        }
        let mut mapped = Mapped::default();
        for enclosing in &elements {
            self.element(enclosing, &captures, &mut mapped)?;
        }
        Ok(mapped)
    }

    /// Reads one element, the last of what encloses it.
    fn element(
        &self,
        enclosing: &[&Json],
        captures: &BTreeMap<&str, &str>,
        mapped: &mut Mapped,
    ) -> Result<(), MappingError> {
        let fill = |template: &Template| template.fill(captures, enclosing);
        let station = match fill(&self.station) {
            Ok(station) => station,
            Err(why) => {
                mapped.refuse("station", why);
                return Ok(());
            }
        };
        let time = match self.time.as_ref().map(|time| fill(time).and_then(|text| self.time_format.read(&text))) {
            Some(Err(why)) => {
                mapped.refuse("time", why);
                return Ok(());
            }
            Some(Ok(time)) => Some(time),
            None => None,
        };
        // A unit that an element does not tell is not told.
        let unit = self.unit.as_ref().and_then(|unit| fill(unit).ok());
        let named = |name: String, value| Named { station: station.clone(), name, unit: unit.clone(), time, value };
        if let Some((name, at)) = &self.named {
            let name = match fill(name) {
                Ok(name) => name,
                Err(why) => {
                    mapped.refuse("name", why);
                    return Ok(());
                }
            };
            match at.find(enclosing).map(|found| self.number(found)) {
                Some(Number::Is(value)) => mapped.values.push(named(name, value)),
                Some(Number::Missing) | None => mapped.refuse(MISSING, format!("{name}: no value at {at}")),
                Some(Number::Not(found)) => mapped.refuse("value", format!("{name}: expected a number, found {found}")),
            }
        } else if let Some(element) = enclosing.last() {
            let used: Vec<&Pointer> = [Some(&self.station), self.time.as_ref(), self.unit.as_ref()]
                .into_iter()
                .flatten()
                .flat_map(Template::pointers)
                .collect();
            for (name, leaf) in leaves(element, MAX_VALUES).ok_or(too_many("values", MAX_VALUES))? {
                if used.iter().any(|pointer| pointer.is(&name)) {
                    continue;
                }
                match self.number(leaf) {
                    Number::Is(value) => mapped.values.push(named(name, value)),
                    Number::Missing => mapped.refuse(MISSING, format!("{name}: no value")),
                    // A text among numbers says something else about the station.
                    Number::Not(_) => {}
                }
            }
        }
        if mapped.values.len() > MAX_VALUES { Err(too_many("values", MAX_VALUES)) } else { Ok(()) }
    }

    fn number(&self, found: &Json) -> Number {
        let missing = self.missing.iter().any(|marker| match (marker, found) {
            (Marker::Number(marker), Json::Number(number)) => number.as_f64() == Some(*marker),
            (Marker::Text(marker), Json::String(text)) => text == marker,
            _ => false,
        });
        match found {
            Json::Null => Number::Missing,
            _ if missing => Number::Missing,
            Json::Number(number) => number.as_f64().map_or_else(|| Number::Not(number.to_string()), Number::Is),
            Json::String(text) => match text.trim().parse::<f64>() {
                Ok(value) if value.is_finite() => Number::Is(value),
                _ => Number::Not(format!("{:?}", shown(text))),
            },
            Json::Bool(value) => Number::Not(value.to_string()),
            Json::Array(_) => Number::Not("an array".to_owned()),
            Json::Object(_) => Number::Not("an object".to_owned()),
        }
    }
}

enum Number {
    Is(f64),
    Missing,
    Not(String),
}

impl Mapped {
    fn refuse(&mut self, reason: &'static str, why: String) {
        self.refused.push((reason, why));
    }
}

impl TimeFormat {
    /// Reads a time.
    ///
    /// # Errors
    /// What is expected instead.
    pub fn read(self, text: &str) -> Result<Timestamp, String> {
        let millis = match self {
            Self::Rfc3339 => return text.trim().parse::<Timestamp>().map_err(|error| error.to_string()),
            Self::UnixS => text.trim().parse::<f64>().map(|seconds| (seconds * 1000.0).round()),
            Self::UnixMs => text.trim().parse::<f64>().map(f64::round),
        };
        let range = Timestamp::MIN.as_millis() as f64..=Timestamp::MAX.as_millis() as f64;
        match millis {
            Ok(millis) if range.contains(&millis) => Ok(Timestamp::from_millis(millis as i64)),
            _ if self == Self::UnixS => Err(format!("time {:?} is not in seconds since 1970", shown(text))),
            _ => Err(format!("time {:?} is not in milliseconds since 1970", shown(text))),
        }
    }
}

fn too_many(what: &'static str, most: usize) -> MappingError {
    MappingError::TooMany { what, most }
}

/// Everything in a value that is neither array nor object, with its pointer; none when there are more than `most`. What has
/// a pointer longer than [`MAX_POINTER`] is passed over, so that no key makes thousands of names large.
///
/// As deep as the value is nested, which the parser bounds.
#[must_use]
pub fn leaves(value: &Json, most: usize) -> Option<Vec<(String, &Json)>> {
    let mut found = Vec::new();
    let mut path = String::new();
    walk(value, &mut path, &mut found, most).then_some(found)
}

fn walk<'a>(value: &'a Json, path: &mut String, found: &mut Vec<(String, &'a Json)>, most: usize) -> bool {
    let mut below = |token: &str, value: &'a Json| {
        let length = path.len();
        path.push('/');
        path.push_str(&pointer::escape(token));
        let fits = path.len() > MAX_POINTER || walk(value, path, found, most);
        path.truncate(length);
        fits
    };
    match value {
        Json::Object(members) => members.iter().all(|(key, value)| below(key, value)),
        Json::Array(items) => items.iter().enumerate().all(|(i, value)| below(&i.to_string(), value)),
        leaf => {
            found.push((path.clone(), leaf));
            found.len() <= most
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
