//! Why a model is not run, in words and as a kind.

use std::fmt;

use proto::manifest::ManifestError;
use proto::update::Reason;
use serde::{Deserialize, Serialize};

/// Longest text of an error, in characters; a runtime's own words can be a whole graph.
const MAX_TEXT: usize = 600;

/// Why a model is not run. It crosses from the runner to the gateway, so it is data and not a chain of causes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct ModelError {
    reason: Reason,
    text: String,
    /// Whether it says nothing about the model.
    #[serde(default)]
    passes: bool,
}

impl ModelError {
    /// An error of the model itself.
    #[must_use]
    pub fn new(reason: Reason, text: impl fmt::Display) -> Self {
        Self { reason, text: shortened(&text.to_string()), passes: false }
    }

    /// An error of the machine: a file that cannot be read, a process that cannot be started.
    #[must_use]
    pub fn of_machine(reason: Reason, text: impl fmt::Display) -> Self {
        Self { passes: true, ..Self::new(reason, text) }
    }

    /// The kind of reason.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether it says nothing about the model, so that a later try may succeed.
    #[must_use]
    pub const fn passes(&self) -> bool {
        self.passes
    }
}

impl From<ManifestError> for ModelError {
    fn from(error: ManifestError) -> Self {
        Self::new(Reason::Manifest, format_args!("manifest.toml: {error}"))
    }
}

/// The text on one line, and not endless.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A whole number with commas between the thousands: `2,000`.
pub(super) fn grouped(number: impl fmt::Display) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in the unit that reads best: `64 MiB`, `1.5 KiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 100.0 && value.fract() >= 0.05);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// What was wanted, when a text tells that memory could not be had: of the standard library or of the runtime.
pub(super) fn failed_allocation(said: &str) -> Option<String> {
    let (_, rest) =
        said.split_once("memory allocation of ").or_else(|| said.split_once("failed to allocate Layout { size: "))?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(format!("another {} of memory", size(digits.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([grouped(7), grouped(2_000), grouped(1_234_567)], ["7", "2,000", "1,234,567"]);
        assert_eq!(
            [size(0), size(1_536), size(64 << 20), size(u64::MAX)],
            ["0 bytes", "1.5 KiB", "64 MiB", "16777216 TiB"]
        );
    }

    #[test]
    fn a_failed_allocation_is_seen_in_what_was_said() {
        let said = "memory allocation of 67108864 bytes failed";
        assert_eq!(failed_allocation(said).unwrap(), "another 64 MiB of memory");
        let said = "failed to allocate Layout { size: 1572864, align: 64 (1 << 6) }";
        assert_eq!(failed_allocation(said).unwrap(), "another 1.5 MiB of memory");
        assert_eq!(failed_allocation("attempt to divide by zero"), None);
    }

    #[test]
    fn a_text_is_one_line_and_ends() {
        let error = ModelError::new(Reason::Panic, "a\n  b\tc");
        assert_eq!(error.to_string(), "a b c");
        let error = ModelError::new(Reason::Panic, "ä".repeat(10_000));
        assert_eq!(error.to_string().chars().count(), MAX_TEXT + 1);
    }
}
