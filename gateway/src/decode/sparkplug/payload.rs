//! Sparkplug's payload: from bytes to metrics, and from a metric's type and value to what it says. Pure.
//!
//! Eclipse Sparkplug 3.0.0, chapter 6. A payload may be compressed as Cirrus Link's clients do it: another payload, whose
//! `uuid` is `SPBV1.0_COMPRESSED`, holds it in its `body`, and a metric `algorithm` says `GZIP` or `DEFLATE` (zlib).

use std::io::Read as _;

use prost::Message as _;
use proto::Timestamp;

use super::super::source::SourceError;
use super::wire;

/// The most metrics of one payload.
pub const METRICS_MOST: usize = 10_000;
/// The longest name of a metric, in bytes.
pub const NAME_MOST: usize = 512;
/// The most bytes that a compressed payload may become.
pub const UNCOMPRESSED_MOST: u64 = 4 << 20;
/// The `uuid` of a payload that holds a compressed one.
const COMPRESSED: &str = "SPBV1.0_COMPRESSED";
/// The properties that say a unit; the first is what most clients write.
const UNITS: [&str; 5] = ["engUnit", "engineeringUnit", "engineeringUnits", "unit", "units"];
/// The longest unit, in characters.
const UNIT_MOST: usize = 32;

/// What a payload holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Payload {
    /// When it was made, in ms since 1970.
    pub timestamp: Option<u64>,
    /// Its number.
    pub seq: Option<u64>,
    /// Its metrics, in order.
    pub metrics: Vec<Metric>,
}

/// A metric of a payload.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its name; none where the alias stands for it.
    pub name: Option<String>,
    /// The number that stands for its name.
    pub alias: Option<u64>,
    /// When the value was taken, in ms since 1970.
    pub timestamp: Option<u64>,
    /// Its type's number; none where the birth said it.
    pub datatype: Option<u32>,
    /// Whether it is of before, and no present value.
    pub historical: bool,
    /// Whether there is no value.
    pub null: bool,
    /// Its unit, as its properties say.
    pub unit: Option<String>,
    /// Its value, as it came.
    pub value: Value,
}

/// A value as it came. Which type it is of, only the datatype says.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// There is none.
    Absent,
    /// In 32 bits.
    Int(u32),
    /// In 64 bits.
    Long(u64),
    /// A float.
    Float(f32),
    /// A double.
    Double(f64),
    /// True or false.
    Boolean(bool),
    /// A text.
    Text(String),
    /// What is not looked into, and how many bytes it has.
    Opaque(usize),
}

/// The types of Sparkplug 3.0.0, table 6.4.16, as far as they differ here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// Int8 to Int64: so many bits.
    Signed(u32),
    /// UInt8 to UInt64: so many bits.
    Unsigned(u32),
    /// Float or Double.
    Real,
    /// Boolean.
    Boolean,
    /// Milliseconds since 1970.
    DateTime,
    /// String, Text or UUID.
    Text,
    /// DataSet, Bytes, File, Template, property sets and arrays: no channel's value.
    Opaque(&'static str),
}

impl DataType {
    /// The type of this number; none when there is none.
    #[must_use]
    pub const fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            1 => Self::Signed(8),
            2 => Self::Signed(16),
            3 => Self::Signed(32),
            4 => Self::Signed(64),
            5 => Self::Unsigned(8),
            6 => Self::Unsigned(16),
            7 => Self::Unsigned(32),
            8 => Self::Unsigned(64),
            9 | 10 => Self::Real,
            11 => Self::Boolean,
            12 | 14 | 15 => Self::Text,
            13 => Self::DateTime,
            16 => Self::Opaque("a data set"),
            17 => Self::Opaque("bytes"),
            18 => Self::Opaque("a file"),
            19 => Self::Opaque("a template"),
            20 | 21 => Self::Opaque("a property set"),
            22..=34 => Self::Opaque("an array"),
            _ => return None,
        })
    }

    /// What a value is taken for whose type nobody said.
    const fn of(value: &Value) -> Self {
        match value {
            Value::Int(_) => Self::Unsigned(32),
            Value::Long(_) => Self::Unsigned(64),
            Value::Float(_) | Value::Double(_) => Self::Real,
            Value::Boolean(_) => Self::Boolean,
            Value::Text(_) => Self::Text,
            Value::Absent | Value::Opaque(_) => Self::Opaque("something else"),
        }
    }
}

/// What a metric says.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// A number; of an integer of 64 bits the nearest that there is.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// A point in time.
    Time(Timestamp),
    /// A text.
    Text(String),
    /// Something that is no channel's value.
    Opaque(&'static str),
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(value) => write!(f, "{value}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Time(time) => write!(f, "{time}"),
            Self::Text(text) => f.write_str(&text.chars().take(64).collect::<String>()),
            Self::Opaque(what) => f.write_str(what),
        }
    }
}

/// Reads a payload. Any bytes give a payload or an error.
///
/// # Errors
/// When it is none, or more is in it than is taken at once.
pub fn decode_payload(bytes: &[u8]) -> Result<Payload, SourceError> {
    let payload = read(bytes)?;
    if payload.uuid.as_deref() == Some(COMPRESSED) {
        return checked(read(&uncompressed(&payload)?)?);
    }
    checked(payload)
}

fn read(bytes: &[u8]) -> Result<wire::Payload, SourceError> {
    wire::Payload::decode(bytes)
        .map_err(|error| SourceError::new("malformed", format!("no Sparkplug B payload: {error}")))
}

/// What a payload holds in its body.
fn uncompressed(payload: &wire::Payload) -> Result<Vec<u8>, SourceError> {
    let wrong = |problem: String| SourceError::new("compressed", problem);
    let body =
        payload.body.as_deref().ok_or_else(|| wrong("field body is missing in a compressed payload".to_owned()))?;
    let algorithm = payload.metrics.iter().find(|metric| metric.name.as_deref() == Some("algorithm"));
    let algorithm = match algorithm.and_then(|metric| metric.value.as_ref()) {
        Some(wire::metric::Value::StringValue(algorithm)) => algorithm.to_ascii_uppercase(),
        _ => "DEFLATE".to_owned(),
    };
    let mut bytes = Vec::new();
    let most = UNCOMPRESSED_MOST + 1;
    let read = match algorithm.as_str() {
        "GZIP" => flate2::read::GzDecoder::new(body).take(most).read_to_end(&mut bytes),
        "DEFLATE" => flate2::read::ZlibDecoder::new(body).take(most).read_to_end(&mut bytes),
        other => {
            let shown: String = other.chars().take(32).collect();
            return Err(wrong(format!("metric algorithm: {shown:?} is neither GZIP nor DEFLATE")));
        }
    };
    read.map_err(|error| wrong(format!("field body: not {algorithm}: {error}")))?;
    if bytes.len() as u64 > UNCOMPRESSED_MOST {
        return Err(SourceError::new("too_many", format!("field body: more than {UNCOMPRESSED_MOST} bytes unpacked")));
    }
    Ok(bytes)
}

fn checked(payload: wire::Payload) -> Result<Payload, SourceError> {
    let count = payload.metrics.len();
    if count > METRICS_MOST {
        let problem = format!("{count} metrics, at most {METRICS_MOST} are taken in one message");
        return Err(SourceError::new("too_many", problem));
    }
    if let Some(seq) = payload.seq.filter(|seq| *seq > 255) {
        return Err(SourceError::new("seq", format!("field seq: {seq} is not from 0 to 255")));
    }
    let metrics = payload.metrics.into_iter().map(metric).collect();
    Ok(Payload { timestamp: payload.timestamp, seq: payload.seq, metrics })
}

fn metric(metric: wire::Metric) -> Metric {
    use wire::metric::Value as Wire;
    let value = match metric.value {
        None => Value::Absent,
        Some(Wire::IntValue(value)) => Value::Int(value),
        Some(Wire::LongValue(value)) => Value::Long(value),
        Some(Wire::FloatValue(value)) => Value::Float(value),
        Some(Wire::DoubleValue(value)) => Value::Double(value),
        Some(Wire::BooleanValue(value)) => Value::Boolean(value),
        Some(Wire::StringValue(value)) => Value::Text(value),
        Some(
            Wire::BytesValue(bytes)
            | Wire::DatasetValue(bytes)
            | Wire::TemplateValue(bytes)
            | Wire::ExtensionValue(bytes),
        ) => Value::Opaque(bytes.len()),
    };
    Metric {
        // Some clients write an empty name where the alias stands for it.
        name: metric.name.filter(|name| !name.is_empty()),
        alias: metric.alias,
        timestamp: metric.timestamp,
        datatype: metric.datatype.filter(|datatype| *datatype != 0),
        historical: metric.is_historical.unwrap_or(false),
        null: metric.is_null.unwrap_or(false),
        unit: metric.properties.as_ref().and_then(unit),
        value,
    }
}

/// The unit that properties say.
fn unit(properties: &wire::PropertySet) -> Option<String> {
    UNITS.iter().find_map(|wanted| {
        let at = properties.keys.iter().position(|key| key.eq_ignore_ascii_case(wanted))?;
        match properties.values.get(at)?.value.as_ref()? {
            wire::property_value::Value::StringValue(unit) => {
                let unit: String = unit.trim().chars().take(UNIT_MOST).collect();
                Some(unit).filter(|unit| !unit.is_empty())
            }
            _ => None,
        }
    })
}

impl Metric {
    /// What it says, by its own type or, without one, the one that its birth told.
    ///
    /// # Errors
    /// When value and type do not fit, in words.
    pub fn said(&self, born: Option<u32>) -> Result<Said, String> {
        let datatype = match self.datatype.or(born) {
            Some(code) => DataType::from_code(code).ok_or_else(|| format!("datatype: {code} is none"))?,
            None => DataType::of(&self.value),
        };
        match (datatype, &self.value) {
            (DataType::Opaque(what), _) => Ok(Said::Opaque(what)),
            (_, Value::Absent) => Err("there is no value, and is_null is not set".to_owned()),
            (DataType::Signed(bits), value) => signed(bits, integer(value)?).map(|value| Said::Number(value as f64)),
            (DataType::Unsigned(bits), value) => {
                unsigned(bits, integer(value)?.0).map(|value| Said::Number(value as f64))
            }
            (DataType::Real, Value::Float(value)) => finite(f64::from(*value)),
            (DataType::Real, Value::Double(value)) => finite(*value),
            (DataType::Boolean, Value::Boolean(value)) => Ok(Said::Boolean(*value)),
            (DataType::DateTime, value) => time(integer(value)?.0).map(Said::Time),
            (DataType::Text, Value::Text(text)) => Ok(Said::Text(text.clone())),
            (datatype, value) => Err(format!("{value:?} is no {datatype:?}").chars().take(96).collect()),
        }
    }
}

/// A point in time of Sparkplug's: ms since 1970.
///
/// # Errors
/// When it lies beyond what can be written, in words.
pub fn time(millis: u64) -> Result<Timestamp, String> {
    let time = i64::try_from(millis).ok().map(Timestamp::from_millis).filter(|time| time.as_millis() as u64 == millis);
    time.ok_or_else(|| format!("timestamp: {millis} ms is no time"))
}

fn finite(value: f64) -> Result<Said, String> {
    if value.is_finite() { Ok(Said::Number(value)) } else { Err(format!("{value} is no number")) }
}

/// The bits of an integer, and how many there are.
fn integer(value: &Value) -> Result<(u64, u32), String> {
    match value {
        Value::Int(value) => Ok((u64::from(*value), 32)),
        Value::Long(value) => Ok((*value, 64)),
        other => Err(format!("{other:?} is no integer").chars().take(96).collect()),
    }
}

/// Two's complement in `bits`, or in the bits of its field: clients write -5 in an Int8 as 251, or as 4294967291.
fn signed(bits: u32, (value, field): (u64, u32)) -> Result<i64, String> {
    let extend = |bits: u32| ((value << (64 - bits)) as i64) >> (64 - bits);
    if bits == 64 || value >> bits == 0 {
        return Ok(extend(bits));
    }
    let whole = extend(field);
    if whole < 0 && whole == extend(bits) { Ok(whole) } else { Err(format!("{value} is no Int{bits}")) }
}

fn unsigned(bits: u32, value: u64) -> Result<u64, String> {
    if bits == 64 || value >> bits == 0 { Ok(value) } else { Err(format!("{value} is no UInt{bits}")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(datatype: u32, value: Value) -> Result<Said, String> {
        let none = (None, None, None, None);
        let (name, alias, timestamp, unit) = none;
        let metric = Metric { name, alias, timestamp, datatype: None, historical: false, null: false, unit, value };
        metric.said(Some(datatype))
    }

    #[test]
    fn integers_of_every_width_are_read_as_clients_write_them() {
        for (datatype, value, expected) in [
            (1, Value::Int(251), Some(-5.0)),
            (1, Value::Int(0xffff_fffb), Some(-5.0)),
            (1, Value::Int(127), Some(127.0)),
            (1, Value::Int(128), Some(-128.0)),
            (1, Value::Int(300), None),
            (1, Value::Int(0xffff_ff00), None),
            (2, Value::Int(65_531), Some(-5.0)),
            (2, Value::Int(0xffff_8000), Some(-32_768.0)),
            (3, Value::Int(0xffff_fffb), Some(-5.0)),
            (3, Value::Long(0xffff_ffff_ffff_fffb), Some(-5.0)),
            (4, Value::Long(u64::MAX), Some(-1.0)),
            (4, Value::Int(7), Some(7.0)),
            (5, Value::Int(255), Some(255.0)),
            (5, Value::Int(256), None),
            (6, Value::Int(65_535), Some(65_535.0)),
            (7, Value::Int(u32::MAX), Some(4_294_967_295.0)),
            (7, Value::Long(4_294_967_295), Some(4_294_967_295.0)),
            (7, Value::Long(1 << 32), None),
            (8, Value::Long(u64::MAX), Some(18_446_744_073_709_551_615.0)),
            (9, Value::Float(0.5), Some(0.5)),
            (10, Value::Double(0.1), Some(0.1)),
            (10, Value::Float(0.5), Some(0.5)),
            (9, Value::Float(f32::NAN), None),
            (10, Value::Double(f64::INFINITY), None),
            (10, Value::Int(1), None),
            (3, Value::Absent, None),
            (99, Value::Int(1), None),
        ] {
            let shown = format!("{datatype} {value:?}");
            let number = match said(datatype, value) {
                Ok(Said::Number(number)) => Some(number),
                Ok(other) => panic!("{shown}: {other:?}"),
                Err(_) => None,
            };
            assert_eq!(number, expected, "{shown}");
        }
        assert_eq!(said(11, Value::Boolean(true)), Ok(Said::Boolean(true)));
        assert_eq!(said(13, Value::Long(1_000)), Ok(Said::Time(Timestamp::from_secs(1))));
        assert!(said(13, Value::Long(u64::MAX)).is_err());
        assert_eq!(said(16, Value::Opaque(9)), Ok(Said::Opaque("a data set")));
        assert_eq!(said(12, Value::Text("a".into())), Ok(Said::Text("a".into())));
    }

    /// Made with pysparkplug 0.6.1.
    const PYTHON: &str = "0880e3ed8fe83312220a12536f696c204d6f6973747572652f3230636d1880e3ed8fe8332009650000ba41120e10031880e3ed8fe833200150fb0112140a07426174746572791880e3ed8fe833200a3801121a0a045261696e1880a9b68ce833200a2801699a9999999999c93f1807";
    /// Made with sparkplug-payload 1.0.3.
    const NODE: &str = "0880e3ed8fe83312340a12536f696c204d6f6973747572652f3230636d1880e3ed8fe83320094a100a07656e67556e69741205080c420125650000ba4112110a054c6576656c1009200150fbffffff0f120a0a044f70656e200b700118ff01";

    #[test]
    fn payloads_of_other_peoples_encoders_are_read() {
        let payload = decode_payload(&hex::decode(PYTHON).unwrap()).unwrap();
        assert_eq!((payload.timestamp, payload.seq, payload.metrics.len()), (Some(1_780_297_200_000), Some(7), 4));
        let said = |metric: &Metric| metric.said(None).unwrap().to_string();
        let all: Vec<_> = payload.metrics.iter().map(|m| (m.name.as_deref(), m.alias, m.historical, m.null)).collect();
        let [moisture, level, none, late] = &payload.metrics[..] else { panic!("{all:?}") };
        assert_eq!((moisture.name.as_deref(), said(moisture).as_str()), (Some("Soil Moisture/20cm"), "23.25"));
        assert_eq!((level.alias, said(level).as_str()), (Some(3), "-5"));
        assert!(none.null && late.historical && late.timestamp == Some(1_780_290_000_000));

        let payload = decode_payload(&hex::decode(NODE).unwrap()).unwrap();
        let [moisture, level, flag] = &payload.metrics[..] else { panic!("{payload:?}") };
        assert_eq!((payload.seq, moisture.unit.as_deref()), (Some(255), Some("%")));
        assert_eq!((said(moisture).as_str(), said(level).as_str(), said(flag).as_str()), ("23.25", "-5", "true"));
    }

    #[test]
    fn compressed_payloads_are_unpacked_within_a_bound() {
        use std::io::Write as _;
        let inner = wire::Payload { seq: Some(3), ..wire::Payload::default() }.encode_to_vec();
        let packed = |body: Vec<u8>, algorithm: Option<&str>| {
            let value = algorithm.map(|name| wire::metric::Value::StringValue(name.to_owned()));
            let metric = wire::Metric { name: Some("algorithm".to_owned()), value, ..wire::Metric::default() };
            let uuid = Some(COMPRESSED.to_owned());
            wire::Payload { uuid, body: Some(body), metrics: vec![metric], ..wire::Payload::default() }.encode_to_vec()
        };
        let gzip = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&inner).unwrap();
        let zlib = zlib.finish().unwrap();
        for (body, algorithm) in [(gzip(&inner), Some("GZIP")), (zlib.clone(), Some("deflate")), (zlib, None)] {
            assert_eq!(decode_payload(&packed(body, algorithm)).unwrap().seq, Some(3), "{algorithm:?}");
        }
        let said = |bytes: Vec<u8>| decode_payload(&bytes).unwrap_err().to_string();
        let bomb = gzip(&vec![0; UNCOMPRESSED_MOST as usize + 1]);
        assert_eq!(said(packed(bomb, Some("GZIP"))), "field body: more than 4194304 bytes unpacked");
        assert!(said(packed(vec![1, 2], Some("GZIP"))).starts_with("field body: not GZIP: "));
        assert_eq!(said(packed(vec![], Some("LZMA"))), "metric algorithm: \"LZMA\" is neither GZIP nor DEFLATE");
    }

    #[test]
    fn what_is_none_or_too_much_is_refused() {
        let said = |payload: wire::Payload| decode_payload(&payload.encode_to_vec()).unwrap_err();
        let metrics = vec![wire::Metric::default(); METRICS_MOST + 1];
        assert_eq!(said(wire::Payload { metrics, ..wire::Payload::default() }).reason, "too_many");
        let error = said(wire::Payload { seq: Some(256), ..wire::Payload::default() });
        assert_eq!(error.to_string(), "field seq: 256 is not from 0 to 255");
        assert_eq!(decode_payload(b"\xff\xff").unwrap_err().reason, "malformed");
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_payload_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), born in any::<u32>()) {
            if let Ok(payload) = decode_payload(&bytes) {
                for metric in payload.metrics {
                    let _ = metric.said(Some(born % 40));
                }
            }
        }

        #[test]
        fn integers_come_back(value in any::<i64>(), code in 1_u32..9) {
            let (bits, is_signed) = match DataType::from_code(code).unwrap() {
                DataType::Signed(bits) => (bits, true),
                DataType::Unsigned(bits) => (bits, false),
                _ => unreachable!(),
            };
            let cut = if is_signed { (value << (64 - bits)) >> (64 - bits) } else { ((value as u64) << (64 - bits) >> (64 - bits)) as i64 };
            let expected = if is_signed { cut as f64 } else { cut as u64 as f64 };
            let masked = if bits == 64 { cut as u64 } else { cut as u64 & ((1 << bits) - 1) };
            for value in [Value::Long(masked), Value::Long(cut as u64)].into_iter().chain((bits <= 32).then_some(Value::Int(cut as u32))) {
                prop_assert_eq!(said(code, value), Ok(Said::Number(expected)));
            }
        }
    }
}
