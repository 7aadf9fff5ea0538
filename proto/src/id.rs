//! Names of farms, fields, stations and gateways. Copies share one text, so that a name can go along with every message.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest name, in characters. It bounds topics, keys and log lines.
pub const MAX_LENGTH: usize = 64;

/// A name that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} must be 1 to {MAX_LENGTH} characters of a-z, 0-9, - and _")]
pub struct InvalidId {
    /// What was named: "farm", "field", "station" or "gateway".
    pub what: &'static str,
    /// What came instead, cut to a printable length.
    pub value: String,
}

fn check(what: &'static str, value: &str) -> Result<(), InvalidId> {
    let fits = (1..=MAX_LENGTH).contains(&value.len())
        && value.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
    if fits { Ok(()) } else { Err(InvalidId { what, value: value.chars().take(MAX_LENGTH).collect() }) }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(value: &str) -> Result<Self, InvalidId> {
                check($what, value)?;
                Ok(Self(value.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(value: String) -> Result<Self, InvalidId> {
                check($what, &value)?;
                Ok(Self(value.into()))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// The name of a farm: 1 to 64 characters of `a-z`, `0-9`, `-` and `_`.
    FarmId,
    "farm"
);
id!(
    /// The name of a field within its farm.
    FieldId,
    "field"
);
id!(
    /// The name of a station within its farm; also its MQTT client id and user name.
    StationId,
    "station"
);
id!(
    /// The name of a gateway within its farm.
    GatewayId,
    "gateway"
);
