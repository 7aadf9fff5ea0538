//! What documents that are checked when they are read have in common: all that is wrong is said at once, a sentence each.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is wrong with a document.
#[derive(Debug, Default)]
pub(crate) struct Wrong(pub Vec<String>);

impl Wrong {
    /// Notes the value of a key that is not what it has to be.
    pub fn expect(&mut self, holds: bool, key: &str, value: &dyn Debug, expected: &str) {
        if !holds {
            self.0.push(format!("{key}: {value:?} is not {expected}"));
        }
    }
}

/// Reads a JSON document of at most so many bytes, and checks it.
pub(crate) fn read<T: DeserializeOwned>(
    bytes: &[u8],
    most: u64,
    check: impl Fn(&T) -> Vec<String>,
) -> Result<T, Vec<String>> {
    if bytes.len() as u64 > most {
        return Err(vec![format!("{} bytes are more than the {most} allowed", bytes.len())]);
    }
    let document: T = serde_json::from_slice(bytes).map_err(|e| vec![e.to_string()])?;
    let wrong = check(&document);
    if wrong.is_empty() { Ok(document) } else { Err(wrong) }
}

/// A document as JSON. The same document gives the same bytes, for maps are in order.
pub(crate) fn written<T: Serialize>(document: &T) -> String {
    // Serialising maps of texts and numbers does not fail.
    serde_json::to_string(document).unwrap_or_default()
}
