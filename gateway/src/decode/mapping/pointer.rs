//! JSON Pointers (RFC 6901), with `*` for every element.

use std::fmt;

use serde_json::Value as Json;

/// The most tokens of one pointer.
const MAX_TOKENS: usize = 32;

/// A pointer. A token `*` is every element of an array or every member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    text: String,
    tokens: Vec<String>,
}

impl Pointer {
    /// Reads a pointer. The empty one is the whole.
    ///
    /// # Errors
    /// What is expected instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || "a JSON Pointer (RFC 6901), like /soil/vwc".to_owned();
        let tokens: Option<Vec<String>> = match text.strip_prefix('/') {
            Some(rest) => rest.split('/').map(unescape).collect(),
            None => text.is_empty().then(Vec::new),
        };
        match tokens {
            Some(tokens) if tokens.len() <= MAX_TOKENS => Ok(Self { text: text.to_owned(), tokens }),
            _ => Err(expected()),
        }
    }

    /// Whether it is written like `text`.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.text == text
    }

    /// What it points at: in the last of `enclosing` where something is there, else in the one before, and so on.
    #[must_use]
    pub fn find<'a>(&self, enclosing: &[&'a Json]) -> Option<&'a Json> {
        enclosing.iter().rev().find_map(|value| self.tokens.iter().try_fold(*value, |value, token| child(value, token)))
    }

    /// Everything that it points at, each with all that encloses it from the whole on; none when it is more than `most`.
    #[must_use]
    pub fn all<'a>(&self, whole: &'a Json, most: usize) -> Option<Vec<Vec<&'a Json>>> {
        let mut found = vec![vec![whole]];
        for token in &self.tokens {
            let mut next = Vec::new();
            for enclosing in found {
                let Some(last) = enclosing.last() else { continue };
                let children: Vec<&Json> = match (token.as_str(), *last) {
                    ("*", Json::Array(items)) => items.iter().collect(),
                    ("*", Json::Object(members)) => members.values().collect(),
                    (token, value) => child(value, token).into_iter().collect(),
                };
                if next.len() + children.len() > most {
                    return None;
                }
                for child in children {
                    let mut path = enclosing.clone();
                    path.push(child);
                    next.push(path);
                }
            }
            found = next;
        }
        Some(found)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A member, or an element by its number, which has no zeros before it (section 4).
fn child<'a>(value: &'a Json, token: &str) -> Option<&'a Json> {
    match value {
        Json::Object(members) => members.get(token),
        Json::Array(items) => {
            let number = token == "0" || (!token.starts_with('0') && token.bytes().all(|b| b.is_ascii_digit()));
            items.get(token.parse::<usize>().ok().filter(|_| number)?)
        }
        _ => None,
    }
}

/// A token as it stands in a pointer (section 3).
#[must_use]
pub fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

fn unescape(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let mut whole = parts.next()?.to_owned();
    for part in parts {
        let (escaped, rest) = (part.chars().next()?, part.get(1..)?);
        whole.push(match escaped {
            '0' => '~',
            '1' => '/',
            _ => return None,
        });
        whole.push_str(rest);
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6901, section 5.
    const DOCUMENT: &str =
        r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;

    #[test]
    fn the_examples_of_the_rfc_hold() {
        let whole: Json = serde_json::from_str(DOCUMENT).unwrap();
        for (text, expected) in [
            ("", DOCUMENT),
            ("/foo", r#"["bar","baz"]"#),
            ("/foo/0", "\"bar\""),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ] {
            let expected: Json = serde_json::from_str(expected).unwrap();
            assert_eq!(Pointer::parse(text).unwrap().find(&[&whole]), Some(&expected), "{text}");
        }
        for text in ["/foo/00", "/foo/2", "/foo/-", "/foo/x", "/nothing", "/foo/0/x"] {
            assert_eq!(Pointer::parse(text).unwrap().find(&[&whole]), None, "{text}");
        }
        for text in ["foo", "/a~2", "/a~"] {
            assert!(Pointer::parse(text).is_err(), "{text}");
        }
        assert_eq!(unescape(&escape("a~/~1é")).unwrap(), "a~/~1é");
    }

    #[test]
    fn a_star_is_every_element_with_what_encloses_it() {
        let whole: Json =
            serde_json::from_str(r#"{"s":[{"id":1,"r":[{"v":1},{"v":2}]},{"id":2,"r":{"a":{"v":3}}}]}"#).unwrap();
        let all = Pointer::parse("/s/*/r/*").unwrap().all(&whole, 10).unwrap();
        let say = |pointer: &str| {
            let pointer = Pointer::parse(pointer).unwrap();
            all.iter().map(|enclosing| pointer.find(enclosing).unwrap().as_i64().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(say("/v"), [1, 2, 3]);
        assert_eq!(say("/id"), [1, 1, 2]);
        assert_eq!(Pointer::parse("/s/*/r/*").unwrap().all(&whole, 2), None);
        assert!(Pointer::parse("/x/*").unwrap().all(&whole, 2).unwrap().is_empty());
    }
}
