//! Channels: one quantity at one depth or height.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::decode::DecodeError;
use crate::quantity::{Quantity, UnknownQuantity};
use crate::time::Timestamp;

/// One quantity at one depth (soil quantities) or height (the others). Written `soil_moisture_20cm`, or `rain` where
/// the level says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Channel {
    /// What is measured.
    pub quantity: Quantity,
    /// How deep in the soil, or how high above it, in cm.
    pub level_cm: Option<u16>,
}

/// One value of a channel at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// What was measured, and where.
    pub channel: Channel,
    /// When it was measured.
    pub time: Timestamp,
    /// The value in the quantity's unit.
    pub value: f64,
}

/// A text that is no channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChannel {
    /// The quantity is not known.
    #[error("channel {channel:?}: {source}")]
    Quantity {
        /// The whole text.
        channel: String,
        /// Which quantity it named.
        source: UnknownQuantity,
    },
    /// The level is not a number of centimetres that fits.
    #[error("channel {channel:?}: level must be 0 to 65534 cm")]
    Level {
        /// The whole text.
        channel: String,
    },
}

impl Channel {
    /// A channel at a depth or height.
    #[must_use]
    pub const fn at(quantity: Quantity, level_cm: u16) -> Self {
        Self { quantity, level_cm: Some(level_cm) }
    }

    /// A channel without a level.
    #[must_use]
    pub const fn of(quantity: Quantity) -> Self {
        Self { quantity, level_cm: None }
    }

    /// The channel in one number, as on the wire.
    #[must_use]
    pub fn code(self) -> u32 {
        let level = self.level_cm.map_or(0, |cm| u32::from(cm).saturating_add(1).min(0xffff));
        u32::from(self.quantity.code()) << 16 | level
    }

    /// The channel of a number from the wire.
    ///
    /// # Errors
    /// When the quantity is not known.
    pub fn from_code(code: u32) -> Result<Self, DecodeError> {
        let quantity = Quantity::from_code((code >> 16) as u16).ok_or_else(|| DecodeError::value("channel", code))?;
        let level_cm = (code as u16).checked_sub(1);
        Ok(Self { quantity, level_cm })
    }

    /// As people say it: `soil moisture 20 cm`, `air temperature 2 m`, `soil EC 20 cm`.
    #[must_use]
    pub fn label(self) -> String {
        let name = match self.quantity {
            Quantity::SoilEc => "soil EC".to_owned(),
            other => other.name().replace('_', " "),
        };
        match self.level_cm {
            Some(cm) if cm >= 100 && cm % 100 == 0 => format!("{name} {} m", cm / 100),
            Some(cm) => format!("{name} {cm} cm"),
            None => name,
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level_cm {
            Some(cm) => write!(f, "{}_{cm}cm", self.quantity),
            None => write!(f, "{}", self.quantity),
        }
    }
}

impl FromStr for Channel {
    type Err = InvalidChannel;

    fn from_str(value: &str) -> Result<Self, InvalidChannel> {
        let shown = || value.chars().take(64).collect::<String>();
        let (name, level_cm) = match value.strip_suffix("cm").and_then(|v| v.rsplit_once('_')) {
            Some((name, digits)) => {
                let digits_only = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                let level = digits.parse::<u16>().ok().filter(|cm| digits_only && *cm < u16::MAX);
                (name, Some(level.ok_or_else(|| InvalidChannel::Level { channel: shown() })?))
            }
            None => (value, None),
        };
        let quantity = name.parse().map_err(|source| InvalidChannel::Quantity { channel: shown(), source })?;
        Ok(Self { quantity, level_cm })
    }
}

impl TryFrom<String> for Channel {
    type Error = InvalidChannel;

    fn try_from(value: String) -> Result<Self, InvalidChannel> {
        value.parse()
    }
}

impl From<Channel> for String {
    fn from(channel: Channel) -> Self {
        channel.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_written_with_its_level() {
        let channel = Channel::at(Quantity::SoilMoisture, 20);
        assert_eq!(channel.to_string(), "soil_moisture_20cm");
        assert_eq!(channel.label(), "soil moisture 20 cm");
        assert_eq!(Channel::at(Quantity::SoilEc, 20).label(), "soil EC 20 cm");
        assert_eq!(Channel::at(Quantity::AirTemperature, 200).label(), "air temperature 2 m");
        assert_eq!("soil_moisture_20cm".parse::<Channel>().unwrap(), channel);
        assert_eq!("rain".parse::<Channel>().unwrap(), Channel::of(Quantity::Rain));
        assert_eq!(Channel::from_code(channel.code()).unwrap(), channel);
        assert_eq!(Channel::from_code(Channel::of(Quantity::Rain).code()).unwrap(), Channel::of(Quantity::Rain));
    }

    #[test]
    fn a_wrong_channel_says_what_is_wrong() {
        assert!(
            "mud_20cm"
                .parse::<Channel>()
                .unwrap_err()
                .to_string()
                .starts_with("channel \"mud_20cm\": unknown quantity \"mud\"")
        );
        for level in ["rain_+5cm", "rain_99999cm", "rain_65535cm", "rain_cm"] {
            assert!(
                level.parse::<Channel>().unwrap_err().to_string().ends_with("level must be 0 to 65534 cm"),
                "{level}"
            );
        }
        assert!(Channel::from_code(u32::MAX).is_err());
    }
}
