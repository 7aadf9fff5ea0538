//! SenML in JSON (RFC 8428, section 5).

use serde_json::Value as Json;

use super::{Field, Fields, Label, MAX_RECORDS, SenmlError};

/// Reads a pack's records, unresolved. What SenML does not know is passed over.
///
/// # Errors
/// When it is no array of objects, too long, or holds a label that must be understood.
pub fn rows(payload: &[u8]) -> Result<Vec<Fields>, SenmlError> {
    let records: Vec<serde_json::Map<String, Json>> =
        serde_json::from_slice(payload).map_err(|error| SenmlError::Malformed(error.to_string()))?;
    if records.len() > MAX_RECORDS {
        return Err(SenmlError::TooMany);
    }
    records.into_iter().map(row).collect()
}

fn row(record: serde_json::Map<String, Json>) -> Result<Fields, SenmlError> {
    let mut fields = Fields::new();
    for (name, value) in record {
        if let Some(label) = Label::named(&name)? {
            fields.push((label, field(value)));
        }
    }
    Ok(fields)
}

fn field(value: Json) -> Field {
    match value {
        Json::Number(number) => number.as_f64().map_or(Field::Other("too large"), Field::Number),
        Json::String(text) => Field::Text(text),
        Json::Bool(value) => Field::Boolean(value),
        Json::Null => Field::Other("null"),
        Json::Array(_) => Field::Other("an array"),
        Json::Object(_) => Field::Other("an object"),
    }
}
