//! Texts that are filled in from a topic and a message.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::pointer::Pointer;

/// The longest text that comes of one, in bytes.
const MAX_FILLED: usize = 256;

/// A text with `{captures}` of the topic and `{/pointers}` into the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Capture(String),
    Pointer(Pointer),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is expected instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (inner, after) = after.split_once('}').ok_or("text whose { have their }")?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(match inner {
                "" => return Err("text with a capture or a /pointer in every {}".to_owned()),
                pointer if pointer.starts_with('/') => Piece::Pointer(Pointer::parse(pointer)?),
                name => Piece::Capture(name.to_owned()),
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        if pieces.is_empty() { Err("a text, {captures} or {/pointers}".to_owned()) } else { Ok(Self { pieces }) }
    }

    /// The captures that it needs.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| if let Piece::Capture(name) = piece { Some(name.as_str()) } else { None })
    }

    /// The pointers that it needs.
    pub fn pointers(&self) -> impl Iterator<Item = &Pointer> {
        self.pieces.iter().filter_map(|piece| if let Piece::Pointer(pointer) = piece { Some(pointer) } else { None })
    }

    /// Fills it in from a topic's captures and an element of a message with what encloses it.
    ///
    /// # Errors
    /// Which pointer leads to nothing that can be part of a text, or that it is too long.
    pub fn fill(&self, captures: &BTreeMap<&str, &str>, enclosing: &[&Json]) -> Result<String, String> {
        let mut whole = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => whole.push_str(text),
                Piece::Capture(name) => whole.push_str(captures.get(name.as_str()).copied().unwrap_or_default()),
                Piece::Pointer(pointer) => match pointer.find(enclosing) {
                    Some(Json::String(text)) => whole.push_str(text),
                    Some(Json::Number(number)) => whole.push_str(&number.to_string()),
                    Some(Json::Bool(value)) => whole.push_str(if *value { "true" } else { "false" }),
                    Some(_) => return Err(format!("{pointer} is no text or number")),
                    None => return Err(format!("nothing is at {pointer}")),
                },
            }
            if whole.len() > MAX_FILLED {
                return Err(format!("more than {MAX_FILLED} bytes"));
            }
        }
        Ok(whole)
    }
}
