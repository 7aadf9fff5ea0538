//! SenML in CBOR (RFC 8428, section 6; RFC 8949).
//!
//! Read token by token: nothing is allocated for what a header only announces, and what nests is passed over without
//! recursion.

use minicbor::data::{IanaTag, Tag, Type};
use minicbor::decode::{Decoder, Error};

use super::{Field, Fields, Label, MAX_RECORDS, SenmlError};

/// The tag that says "this is CBOR" (RFC 8949, 3.4.6) and nothing else.
const SELF_DESCRIBED: Tag = Tag::new(55_799);
/// The most characters of an extension's label.
const MAX_LABEL: usize = 64;
/// The largest exponent of a decimal fraction; beyond it a number is 0 or infinite anyway.
const MAX_EXPONENT: i64 = 400;

fn malformed(error: Error) -> SenmlError {
    SenmlError::Malformed(error.to_string())
}

/// Reads a pack's records, unresolved. What SenML does not know is passed over.
///
/// # Errors
/// When it is no array of maps, too long, holds a label that must be understood, or goes on after its end.
pub fn rows(payload: &[u8]) -> Result<Vec<Fields>, SenmlError> {
    let mut decoder = Decoder::new(payload);
    if decoder.datatype().map_err(malformed)? == Type::Tag {
        let tag = decoder.tag().map_err(malformed)?;
        if tag != SELF_DESCRIBED {
            return Err(SenmlError::Malformed(format!("tag {} is not that of a pack", tag.as_u64())));
        }
    }
    let mut left = decoder.array().map_err(malformed)?;
    let mut rows = Vec::new();
    while more(&mut decoder, &mut left)? {
        if rows.len() == MAX_RECORDS {
            return Err(SenmlError::TooMany);
        }
        rows.push(row(&mut decoder)?);
    }
    let rest = payload.len() - decoder.position();
    if rest > 0 { Err(SenmlError::Malformed(format!("{rest} bytes follow the pack"))) } else { Ok(rows) }
}

/// Whether another element follows; takes the end of one of indefinite length.
fn more(decoder: &mut Decoder<'_>, left: &mut Option<u64>) -> Result<bool, SenmlError> {
    match left {
        Some(0) => Ok(false),
        Some(count) => {
            *count -= 1;
            Ok(true)
        }
        None if decoder.datatype().map_err(malformed)? == Type::Break => {
            decoder.skip().map_err(malformed).map(|()| false)
        }
        None => Ok(true),
    }
}

fn row(decoder: &mut Decoder<'_>) -> Result<Fields, SenmlError> {
    let mut left = decoder.map().map_err(malformed)?;
    let mut fields = Fields::new();
    while more(decoder, &mut left)? {
        let label = match decoder.datatype().map_err(malformed)? {
            Type::String | Type::StringIndef => {
                let mut name = String::new();
                for part in decoder.str_iter().map_err(malformed)? {
                    name.push_str(part.map_err(malformed)?);
                    // What must be understood says so at its end.
                    if name.len() > MAX_LABEL {
                        return Err(SenmlError::Malformed(format!("a label is longer than {MAX_LABEL} bytes")));
                    }
                }
                Label::named(&name)?
            }
            _ => Label::numbered(decoder.i64().map_err(malformed)?),
        };
        match label {
            Some(label) => fields.push((label, field(decoder)?)),
            None => decoder.skip().map_err(malformed)?,
        }
    }
    Ok(fields)
}

fn field(decoder: &mut Decoder<'_>) -> Result<Field, SenmlError> {
    Ok(match decoder.datatype().map_err(malformed)? {
        Type::Bool => Field::Boolean(decoder.bool().map_err(malformed)?),
        Type::F16 | Type::F32 | Type::F64 => Field::Number(float(decoder)?),
        kind if is_integer(kind) => Field::Number(i128::from(decoder.int().map_err(malformed)?) as f64),
        Type::String | Type::StringIndef => {
            let parts: Result<Vec<&str>, Error> = decoder.str_iter().map_err(malformed)?.collect();
            Field::Text(parts.map_err(malformed)?.concat())
        }
        Type::Bytes | Type::BytesIndef => {
            decoder.skip().map_err(malformed)?;
            Field::Data
        }
        Type::Tag => {
            let tag = decoder.tag().map_err(malformed)?;
            if tag == IanaTag::Decimal.tag() {
                return decimal(decoder);
            }
            decoder.skip().map_err(malformed)?;
            Field::Other("a tagged value")
        }
        _ => {
            decoder.skip().map_err(malformed)?;
            Field::Other("no number, text, boolean or bytes")
        }
    })
}

fn float(decoder: &mut Decoder<'_>) -> Result<f64, SenmlError> {
    match decoder.datatype().map_err(malformed)? {
        Type::F16 => decoder.f16().map(f64::from),
        Type::F32 => decoder.f32().map(f64::from),
        _ => decoder.f64(),
    }
    .map_err(malformed)
}

/// A decimal fraction (RFC 8949, 3.4.4): exponent to ten and mantissa, as the nearest number.
fn decimal(decoder: &mut Decoder<'_>) -> Result<Field, SenmlError> {
    let length = decoder.array().map_err(malformed)?;
    if length != Some(2) {
        return Err(SenmlError::Malformed("a decimal fraction is not of two numbers".to_owned()));
    }
    let exponent = decoder.i64().map_err(malformed)?.clamp(-MAX_EXPONENT, MAX_EXPONENT);
    let kind = decoder.datatype().map_err(malformed)?;
    if !is_integer(kind) {
        decoder.skip().map_err(malformed)?;
        return Ok(Field::Other("a decimal fraction with another mantissa than an integer"));
    }
    let mantissa = i128::from(decoder.int().map_err(malformed)?);
    Ok(format!("{mantissa}e{exponent}").parse().map_or(Field::Other("a decimal fraction"), Field::Number))
}

fn is_integer(kind: Type) -> bool {
    matches!(
        kind,
        Type::U8 | Type::U16 | Type::U32 | Type::U64 | Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::Int
    )
}
