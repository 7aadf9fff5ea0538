//! Decisions: whether a field is irrigated, how much, and why.

use serde::{Deserialize, Serialize};

use crate::decode::{self, DecodeError, at_most, finite};
use crate::id::{FieldId, StationId};
use crate::time::Timestamp;
use crate::wire;

/// The most stations that a decision commands.
pub const MAX_STATIONS: usize = 64;
/// The longest id and reason of a decision, in bytes.
pub const MAX_TEXT: usize = 512;
/// The longest irrigation, in minutes: a day.
pub const MAX_MINUTES: u32 = 1_440;

/// Why it is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// What the crop takes without stress is used up: the field is irrigated. All others hold.
    Due,
    /// There is water enough.
    Moist,
    /// Rain has just fallen.
    Rain,
    /// Water of the last irrigation is still going down.
    Settling,
    /// It is not the hour.
    Hours,
    /// The day's minutes are used up.
    Spent,
    /// Less than the shortest run is missing.
    Small,
    /// There are too few probes that can be trusted.
    Untrusted,
    /// A valve has not said that it carried out the last decision.
    Unconfirmed,
}

impl Cause {
    /// Every cause, in the order of their codes.
    pub const ALL: [Self; 9] = [
        Self::Due,
        Self::Moist,
        Self::Rain,
        Self::Settling,
        Self::Hours,
        Self::Spent,
        Self::Small,
        Self::Untrusted,
        Self::Unconfirmed,
    ];

    /// Its name in tables, metrics and the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Moist => "moist",
            Self::Rain => "rain",
            Self::Settling => "settling",
            Self::Hours => "hours",
            Self::Spent => "spent",
            Self::Small => "small",
            Self::Untrusted => "untrusted",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

/// How a field is irrigated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Water that leaves the system, mm over the field: what the root zone is to get, and what is lost on the way.
    pub mm: f64,
    /// For how long; at least 1.
    pub minutes: u32,
}

/// What was known.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Inputs {
    /// Water that is missing in the root zone to field capacity, mm, layer by layer: what one holds above it does not count for another. None when
    /// too few probes can be trusted.
    pub depletion_mm: Option<f64>,
    /// Water that the root zone holds between field capacity and wilting point, mm (FAO-56: TAW).
    pub total_mm: f64,
    /// Water that the crop takes from it without stress, mm (FAO-56: RAW).
    pub readily_mm: f64,
    /// Rain of the last hours, mm; none when nobody measures it.
    pub rain_mm: Option<f64>,
    /// Probes that were trusted.
    pub probes: u32,
    /// Probes that were not: old, rejected, or with an open alert.
    pub untrusted: u32,
}

/// Whether a field is irrigated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// `{field}/{at in ms since 1970}`.
    pub id: String,
    /// The field.
    pub field: FieldId,
    /// End of the windows that it is based on.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
    /// What is done; there when the cause is [`Cause::Due`], and only then.
    pub run: Option<Run>,
    /// One sentence, with numbers and units.
    pub reason: String,
    /// What was known.
    pub inputs: Inputs,
    /// The stations whose valves are commanded; none when it is only advice.
    pub stations: Vec<StationId>,
    /// Those of them that have said that they carried it out. The decision is told again with each; nothing else of it changes.
    pub confirmed: Vec<StationId>,
}

impl Decision {
    /// The id of a decision for a boundary.
    #[must_use]
    pub fn id_of(field: &FieldId, at: Timestamp) -> String {
        format!("{field}/{}", at.as_millis())
    }

    pub(crate) fn to_wire(&self) -> wire::Decision {
        let Inputs { depletion_mm, total_mm, readily_mm, rain_mm, probes, untrusted } = self.inputs;
        wire::Decision {
            id: self.id.clone(),
            field: self.field.to_string(),
            at_ms: self.at.as_millis(),
            cause: self.cause as u32,
            mm: self.run.map(|run| run.mm),
            minutes: self.run.map(|run| run.minutes),
            reason: self.reason.clone(),
            depletion_mm,
            total_mm,
            readily_mm,
            rain_mm,
            probes,
            untrusted,
            stations: self.stations.iter().map(ToString::to_string).collect(),
            confirmed: self.confirmed.iter().map(ToString::to_string).collect(),
        }
    }

    pub(crate) fn from_wire(decision: wire::Decision) -> Result<Self, DecodeError> {
        at_most("stations", decision.stations.len(), MAX_STATIONS)?;
        at_most("confirmed", decision.confirmed.len(), MAX_STATIONS)?;
        at_most("bytes of id", decision.id.len(), MAX_TEXT)?;
        at_most("bytes of reason", decision.reason.len(), MAX_TEXT)?;
        if decision.id.is_empty() {
            return Err(DecodeError::Missing { field: "id" });
        }
        let cause = usize::try_from(decision.cause).ok().and_then(|c| Cause::ALL.get(c)).copied();
        let cause = cause.ok_or_else(|| DecodeError::value("cause", decision.cause))?;
        let run = match (cause, decision.mm, decision.minutes) {
            (Cause::Due, Some(mm), Some(minutes)) if (1..=MAX_MINUTES).contains(&minutes) => {
                Some(Run { mm: amount("mm", mm)?, minutes })
            }
            (Cause::Due, _, minutes) => {
                return Err(DecodeError::value("minutes", minutes.map_or("none".to_owned(), |m| m.to_string())));
            }
            (_, None, None) => None,
            (cause, ..) => return Err(DecodeError::value("cause", format!("{} with a run", cause.name()))),
        };
        let stations = |field: &'static str, names: Vec<String>| -> Result<Vec<StationId>, DecodeError> {
            names.into_iter().map(|name| name.parse().map_err(|e| DecodeError::value(field, e))).collect()
        };
        Ok(Self {
            field: decision.field.parse().map_err(|e| DecodeError::value("field", e))?,
            at: decode::time("at_ms", decision.at_ms)?,
            cause,
            run,
            inputs: Inputs {
                depletion_mm: decision.depletion_mm.map(|mm| finite("depletion_mm", mm)).transpose()?,
                total_mm: amount("total_mm", decision.total_mm)?,
                readily_mm: amount("readily_mm", decision.readily_mm)?,
                rain_mm: decision.rain_mm.map(|mm| amount("rain_mm", mm)).transpose()?,
                probes: decision.probes,
                untrusted: decision.untrusted,
            },
            stations: stations("stations", decision.stations)?,
            confirmed: stations("confirmed", decision.confirmed)?,
            reason: decision.reason,
            id: decision.id,
        })
    }
}

fn amount(field: &'static str, mm: f64) -> Result<f64, DecodeError> {
    if finite(field, mm)? < 0.0 { Err(DecodeError::value(field, mm)) } else { Ok(mm) }
}
