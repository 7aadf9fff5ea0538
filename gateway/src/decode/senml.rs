//! SenML packs (RFC 8428), in [JSON](json) and in [CBOR](cbor). Pure.
//!
//! Both are read into rows of labelled fields; here they are resolved (section 4.6): base fields are applied, relative
//! times become absolute, and the records stand in order of time. XML and EXI are not read.
//!
//! A record that cannot be taken costs the others nothing. A pack as a whole is refused when its version is above 10, when
//! a label that ends in `_` is not known (section 4.4), or when a base field is not of its type, for all that follows would
//! be wrong.

use proto::Timestamp;
use proto::native::MAX_READINGS;

pub mod cbor;
pub mod json;

/// The version of RFC 8428; a pack of a later one means something else.
pub const VERSION: f64 = 10.0;
/// Times below are relative to now (section 4.5.3): 2^28 s.
pub const ABSOLUTE_S: f64 = 268_435_456.0;
/// The longest resolved name, in bytes.
pub const MAX_NAME: usize = 256;
/// The most records of one pack.
pub const MAX_RECORDS: usize = MAX_READINGS;

/// What a field is (section 4.3, table 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// `bver`.
    BaseVersion,
    /// `bn`.
    BaseName,
    /// `bt`.
    BaseTime,
    /// `bu`.
    BaseUnit,
    /// `bv`.
    BaseValue,
    /// `bs`.
    BaseSum,
    /// `n`.
    Name,
    /// `u`.
    Unit,
    /// `v`.
    Value,
    /// `vs`.
    StringValue,
    /// `vb`.
    BooleanValue,
    /// `vd`.
    DataValue,
    /// `s`.
    Sum,
    /// `t`.
    Time,
    /// `ut`.
    UpdateTime,
}

impl Label {
    /// Every label with its name and its number in CBOR (section 6, table 4).
    const ALL: [(Self, &'static str, i64); 15] = [
        (Self::BaseVersion, "bver", -1),
        (Self::BaseName, "bn", -2),
        (Self::BaseTime, "bt", -3),
        (Self::BaseUnit, "bu", -4),
        (Self::BaseValue, "bv", -5),
        (Self::BaseSum, "bs", -6),
        (Self::Name, "n", 0),
        (Self::Unit, "u", 1),
        (Self::Value, "v", 2),
        (Self::StringValue, "vs", 3),
        (Self::BooleanValue, "vb", 4),
        (Self::Sum, "s", 5),
        (Self::Time, "t", 6),
        (Self::UpdateTime, "ut", 7),
        (Self::DataValue, "vd", 8),
    ];

    /// The label of a name; none for one that is to be passed over.
    ///
    /// # Errors
    /// When it must be known (it ends in `_`) and is not.
    fn named(name: &str) -> Result<Option<Self>, SenmlError> {
        let known = Self::ALL.into_iter().find(|(_, own, _)| *own == name).map(|(label, _, _)| label);
        if known.is_none() && name.ends_with('_') { Err(SenmlError::Mandatory(shown(name))) } else { Ok(known) }
    }

    fn numbered(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, _, own)| *own == number).map(|(label, _, _)| label)
    }

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(label, _, _)| *label == self).map_or("", |(_, name, _)| name)
    }

    fn is_base(self) -> bool {
        self.name().starts_with('b')
    }
}

/// What a field holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// True or false.
    Boolean(bool),
    /// Bytes in CBOR; in JSON they are a text.
    Data,
    /// Anything that SenML does not have, in words.
    Other(&'static str),
}

/// One record as it is written: its fields in their order.
pub type Fields = Vec<(Label, Field)>;

/// A record with the base fields applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Base name and name.
    pub name: String,
    /// Its unit, or the base unit.
    pub unit: Option<String>,
    /// When it was measured.
    pub time: Timestamp,
    /// Whether it says so itself; else it is relative to the moment at which the pack came.
    pub absolute: bool,
    /// What was measured.
    pub value: Option<Value>,
    /// The integral of the value over time, in the unit times seconds.
    pub sum: Option<f64>,
    /// The longest time until the next one, in seconds.
    pub update_s: Option<f64>,
}

/// A record's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `v`.
    Number(f64),
    /// `vs`.
    Text(String),
    /// `vb`.
    Boolean(bool),
    /// `vd`, which is not looked at.
    Data,
}

/// A pack, resolved.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pack {
    /// The records, by time; those of one time in the pack's order.
    pub records: Vec<Record>,
    /// Those that could not be taken: a short word for counting (`name`, `time`, `value`), and why.
    pub refused: Vec<(&'static str, String)>,
}

/// Why a pack as a whole is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SenmlError {
    /// It is no JSON or CBOR, or no array of objects.
    #[error("not SenML: {0}")]
    Malformed(String),
    /// Its version is not ours, or changes within it.
    #[error("bver {0} is not 1 to 10 and the same in all records")]
    Version(String),
    /// A field that must be understood is not known.
    #[error("label {0:?} must be understood, and is not known")]
    Mandatory(String),
    /// A base field is not of its type.
    #[error("record {record}: {label} is {found}, not {expected}")]
    Base {
        /// Which record, from 1.
        record: usize,
        /// The field.
        label: &'static str,
        /// What it holds.
        found: String,
        /// What it should.
        expected: &'static str,
    },
    /// There are too many records.
    #[error("more than {MAX_RECORDS} records")]
    TooMany,
}

impl SenmlError {
    /// A short word for counting.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Version(_) => "version",
            Self::Mandatory(_) => "mandatory",
            Self::Base { .. } => "base",
            Self::TooMany => "too_many",
        }
    }
}

/// Reads a pack that came at `now`: JSON when it begins with a bracket, else CBOR. (A bracket would open a string of bytes
/// in CBOR, which is no pack.)
///
/// # Errors
/// When it is refused as a whole.
pub fn read(payload: &[u8], now: Timestamp) -> Result<Pack, SenmlError> {
    let begins = payload.iter().find(|byte| !byte.is_ascii_whitespace());
    let rows = if matches!(begins, Some(b'[' | b'{')) { json::rows(payload)? } else { cbor::rows(payload)? };
    resolve(rows, now)
}

/// The base fields that hold from a record on.
#[derive(Debug, Default)]
struct Base {
    name: String,
    time: f64,
    unit: Option<String>,
    value: Option<f64>,
    sum: Option<f64>,
    version: Option<f64>,
}

/// Resolves a pack's records.
///
/// # Errors
/// When it is refused as a whole.
pub fn resolve(rows: Vec<Fields>, now: Timestamp) -> Result<Pack, SenmlError> {
    let mut pack = Pack::default();
    let mut base = Base::default();
    for (i, fields) in rows.into_iter().enumerate() {
        let record = i + 1;
        let mut own = Own::default();
        for (label, field) in fields {
            if label.is_base() {
                base.take(record, label, field)?;
            } else {
                own.any = true;
                if let Err(why) = own.take(label, field) {
                    own.wrong.get_or_insert(why);
                }
            }
        }
        if !own.any && base.value.is_none() && base.sum.is_none() {
            // A record of base fields alone measures nothing (the thermostat of section 5.1.7).
            continue;
        }
        match own.resolve(&base, now) {
            Ok(resolved) => pack.records.push(resolved),
            Err((reason, why)) => pack.refused.push((reason, format!("record {record}: {why}"))),
        }
    }
    pack.records.sort_by_key(|record| record.time);
    Ok(pack)
}

impl Base {
    fn take(&mut self, record: usize, label: Label, field: Field) -> Result<(), SenmlError> {
        let wrong =
            |found: &Field, expected| SenmlError::Base { record, label: label.name(), found: found.shown(), expected };
        match (label, field) {
            (Label::BaseName, Field::Text(name)) => self.name = name,
            (Label::BaseUnit, Field::Text(unit)) => self.unit = Some(unit),
            (Label::BaseName | Label::BaseUnit, other) => return Err(wrong(&other, "a text")),
            (Label::BaseVersion, field) => {
                let fits = |version: &f64| (1.0..=VERSION).contains(version) && version.fract() == 0.0;
                let same = |version: &f64| record == 1 || self.version.unwrap_or(VERSION) == *version;
                match field {
                    Field::Number(version) if fits(&version) && same(&version) => self.version = Some(version),
                    other => return Err(SenmlError::Version(other.shown())),
                }
            }
            (label, Field::Number(value)) if value.is_finite() => match label {
                Label::BaseTime => self.time = value,
                Label::BaseValue => self.value = Some(value),
                _ => self.sum = Some(value),
            },
            (_, other) => return Err(wrong(&other, "a number")),
        }
        Ok(())
    }
}

type Why = (&'static str, String);

/// A record's own fields.
#[derive(Debug, Default)]
struct Own {
    any: bool,
    name: String,
    unit: Option<String>,
    values: Vec<Value>,
    sum: Option<f64>,
    time: f64,
    update_s: Option<f64>,
    wrong: Option<Why>,
}

impl Own {
    fn take(&mut self, label: Label, field: Field) -> Result<(), Why> {
        match (label, field) {
            (Label::Name, Field::Text(name)) => self.name = name,
            (Label::Unit, Field::Text(unit)) => self.unit = Some(unit),
            (Label::Value, Field::Number(value)) if value.is_finite() => self.values.push(Value::Number(value)),
            (Label::StringValue, Field::Text(text)) => self.values.push(Value::Text(text)),
            (Label::BooleanValue, Field::Boolean(value)) => self.values.push(Value::Boolean(value)),
            (Label::DataValue, Field::Text(_) | Field::Data) => self.values.push(Value::Data),
            (Label::Sum, Field::Number(value)) if value.is_finite() => self.sum = Some(value),
            (Label::Time, Field::Number(value)) if value.is_finite() => self.time = value,
            (Label::UpdateTime, Field::Number(value)) if value.is_finite() => self.update_s = Some(value),
            (label, field) => {
                let reason = match label {
                    Label::Name => "name",
                    Label::Time => "time",
                    _ => "value",
                };
                return Err((reason, format!("{} is {}", label.name(), field.shown())));
            }
        }
        Ok(())
    }

    fn resolve(self, base: &Base, now: Timestamp) -> Result<Record, Why> {
        if let Some(why) = self.wrong {
            return Err(why);
        }
        let name = format!("{}{}", base.name, self.name);
        if !is_name(&name) {
            return Err(("name", format!("name {:?} is not 1 to {MAX_NAME} of A-Z a-z 0-9 - : . / _", shown(&name))));
        }
        let (time, absolute) = moment(base.time + self.time, now)?;
        let mut values = self.values.into_iter();
        let value = match (values.next(), base.value) {
            (Some(Value::Number(value)), plus) => Some(Value::Number(value + plus.unwrap_or(0.0))),
            (None, Some(value)) => Some(Value::Number(value)),
            (other, _) => other,
        };
        let sum = match (self.sum, base.sum) {
            (None, None) => None,
            (own, plus) => Some(own.unwrap_or(0.0) + plus.unwrap_or(0.0)),
        };
        if values.next().is_some() {
            return Err(("value", format!("{} has more than one value", shown(&name))));
        }
        if value.is_none() && sum.is_none() {
            return Err(("value", format!("{} has neither value nor sum", shown(&name))));
        }
        let finite = |number: f64| number.is_finite();
        let numbers = [sum, if let Some(Value::Number(value)) = value { Some(value) } else { None }];
        if !numbers.into_iter().flatten().all(finite) {
            return Err(("value", format!("{}: value or sum is too large", shown(&name))));
        }
        let unit = self.unit.or_else(|| base.unit.clone());
        Ok(Record { name, unit, time, absolute, value, sum, update_s: self.update_s })
    }
}

/// The moment of a time in seconds, to the millisecond: absolute from 2^28 on, else relative to now (section 4.5.3).
fn moment(seconds: f64, now: Timestamp) -> Result<(Timestamp, bool), Why> {
    let absolute = seconds >= ABSOLUTE_S;
    let millis = (seconds * 1000.0).round() + if absolute { 0.0 } else { now.as_millis() as f64 };
    let range = Timestamp::MIN.as_millis() as f64..=Timestamp::MAX.as_millis() as f64;
    if range.contains(&millis) {
        Ok((Timestamp::from_millis(millis as i64), absolute))
    } else {
        Err(("time", format!("time {seconds} s is outside of the years 0 to 9998")))
    }
}

/// Whether a resolved name is one (section 4.5.1).
fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b':' | b'.' | b'/' | b'_'))
}

/// A resolved name in two: the device, where the name says one, and what it measures, which may be nothing.
///
/// A device URN (RFC 9039) is `urn:dev:`, a type and an identifier; what follows after `_`, `:` or `/` is what is measured.
/// Any other name ends with what is measured, after its last `/`, or where there is none its last `:`. A name without
/// either is all of it.
#[must_use]
pub fn split(name: &str) -> (Option<&str>, &str) {
    if name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("urn:dev:")) {
        let body = name[8..].find(':').map(|colon| 8 + colon + 1);
        let end = body.and_then(|body| name[body..].find(['_', ':', '/']).map(|end| body + end));
        return end.map_or((Some(name), ""), |end| (Some(&name[..end]), &name[end + 1..]));
    }
    match name.rfind('/').or_else(|| name.rfind(':')) {
        Some(at) if at > 0 => (Some(&name[..at]), &name[at + 1..]),
        _ => (None, name),
    }
}

impl Field {
    fn shown(&self) -> String {
        match self {
            Self::Number(value) => value.to_string(),
            Self::Text(text) => format!("{:?}", shown(text)),
            Self::Boolean(value) => value.to_string(),
            Self::Data => "bytes".to_owned(),
            Self::Other(what) => (*what).to_owned(),
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
