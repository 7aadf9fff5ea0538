//! What can be wrong with bytes from outside.

/// Why bytes are not the message that they should be. Names the field and the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are no protobuf message of this kind.
    #[error("not a {message} message: {detail}")]
    Malformed {
        /// The message that was expected.
        message: &'static str,
        /// What the parser said.
        detail: String,
    },
    /// A field holds what it may not.
    #[error("field {field}: {value} is not allowed")]
    Value {
        /// The field.
        field: &'static str,
        /// What it held, cut to a printable length.
        value: String,
    },
    /// A field that must be there is not.
    #[error("field {field} is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// There is more than is taken in one message.
    #[error("{count} {what}, at most {most} are taken in one message")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many came.
        count: usize,
        /// How many are taken.
        most: usize,
    },
}

impl DecodeError {
    pub(crate) fn value(field: &'static str, value: impl ToString) -> Self {
        Self::Value { field, value: value.to_string().chars().take(80).collect() }
    }

    /// A short word for counting refusals by reason: `malformed`, `value`, `missing`, `too_many`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::Value { .. } => "value",
            Self::Missing { .. } => "missing",
            Self::TooMany { .. } => "too_many",
        }
    }
}

/// Parses a protobuf message of type `M`.
pub(crate) fn message<M: prost::Message + Default>(name: &'static str, bytes: &[u8]) -> Result<M, DecodeError> {
    M::decode(bytes).map_err(|error| DecodeError::Malformed { message: name, detail: error.to_string() })
}

/// Refuses more than `most` of something.
pub(crate) fn at_most(what: &'static str, count: usize, most: usize) -> Result<(), DecodeError> {
    if count > most { Err(DecodeError::TooMany { what, count, most }) } else { Ok(()) }
}

/// A time from the wire, which must be one that can be written.
pub(crate) fn time(field: &'static str, millis: i64) -> Result<crate::Timestamp, DecodeError> {
    let time = crate::Timestamp::from_millis(millis);
    if time.as_millis() == millis { Ok(time) } else { Err(DecodeError::value(field, millis)) }
}

/// A number from the wire, which must be finite.
pub(crate) fn finite(field: &'static str, value: f64) -> Result<f64, DecodeError> {
    if value.is_finite() { Ok(value) } else { Err(DecodeError::value(field, value)) }
}
