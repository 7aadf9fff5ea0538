//! Who may connect: names, roles and password digests, read from a TOML file, and from every `*.toml` of a directory.
//!
//! ```toml
//! [[client]]
//! name = "n1"
//! role = "station"
//! password_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//!
//! [[client]]
//! name = "node-red"
//! role = "subscriber"
//! password_sha256 = "…"
//!
//! [[client]]
//! name = "edge-1"
//! role = "bridge"
//! topics = ["spBv1.0/Farm/+/edge1/#", "spBv1.0/STATE/#"]
//! password_sha256 = "…"
//! ```
//!
//! Passwords are random tokens of 128 bits or more, so a plain SHA-256 of them cannot be searched. A client without a
//! `password_sha256` can come in with a certificate only.
//!
//! Where there is a file or a directory, a certificate lets in only whom it lists, so that whoever is removed stays outside
//! though his certificate is still good. Where there is neither, every certificate of our authority lets in a station.
//!
//! The [`Keyring`] reads them again when they change, so that a station is added or removed while the gateway runs.

use std::collections::{HashMap, hash_map};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::StationId;
use proto::document::Unread;
use rumqttc::mqttbytes::valid_filter;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::decode::source::filter;

mod keyring;

pub use keyring::Keyring;

/// What a client is let in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A station: publishes its own birth, data and status.
    Station,
    /// Another program: subscribes to what stations publish.
    Subscriber,
    /// What brings a source's messages: publishes and subscribes within its topics.
    Bridge,
}

/// Why a name and password are not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody of that name has a password.
    Unknown,
    /// The password is another.
    Password,
}

/// A credentials file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It cannot be read.
    #[error("credentials file {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML, has other keys than it should, or some of its clients cannot be used; all of that is listed.
    #[error("credentials file {path}: {}", .problems.join("; "))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// One line each.
        problems: Vec<String>,
    },
}

/// What is in a credentials file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialsFile {
    /// Its clients.
    #[serde(default)]
    pub client: Vec<Entry>,
}

/// A client in a credentials file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name: its MQTT user name, and of a station also its client id.
    pub name: String,
    /// What it is let in for.
    pub role: Role,
    /// SHA-256 of its password, 64 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_sha256: Option<String>,
    /// The MQTT filters within which a bridge publishes and subscribes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
}

impl Entry {
    /// What is wrong with its topics.
    #[must_use]
    pub fn check(&self) -> Option<String> {
        wrong_topics(self.role, &self.topics)
    }
}

/// The clients that may connect.
#[derive(Clone, Default)]
pub struct Credentials {
    clients: HashMap<String, Client>,
}

#[derive(Clone)]
struct Client {
    role: Role,
    password: Option<[u8; 32]>,
    topics: Arc<[String]>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("clients", &self.clients.len()).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads a credentials file.
    ///
    /// # Errors
    /// When it cannot be read or any client in it cannot be used.
    pub fn load(path: &Path) -> Result<Self, CredentialsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| CredentialsError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, CredentialsError> {
        let mut problems = Vec::new();
        let file: CredentialsFile = proto::document::read(text).unwrap_or_else(|Unread { mistakes, rest }| {
            problems.extend(mistakes.iter().map(ToString::to_string));
            rest.unwrap_or_default()
        });
        let mut credentials = Self::default();
        for entry in file.client {
            let problem = entry.check();
            let name = entry.name;
            // Programs' names follow the stations' rule: they become part of topics' and sessions' keys as well.
            if let Err(error) = name.parse::<StationId>() {
                problems.push(format!("client.name: {error}"));
                continue;
            }
            let password = match entry.password_sha256.as_deref().map(digest_from_hex) {
                Some(None) => {
                    problems.push(format!("client {name:?}: password_sha256 must be 64 hexadecimal digits"));
                    continue;
                }
                Some(digest) => digest,
                None => None,
            };
            if let Some(problem) = problem {
                problems.push(format!("client {name:?}: {problem}"));
                continue;
            }
            let client = Client { role: entry.role, password, topics: entry.topics.into() };
            if credentials.clients.insert(name.clone(), client).is_some() {
                problems.push(format!("client {name:?} is there twice"));
            }
        }
        if problems.is_empty() {
            Ok(credentials)
        } else {
            Err(CredentialsError::Invalid { path: path.to_owned(), problems })
        }
    }

    /// The clients' names and roles, by name.
    #[must_use]
    pub fn clients(&self) -> Vec<(&str, Role)> {
        let mut clients: Vec<_> = self.clients.iter().map(|(name, client)| (name.as_str(), client.role)).collect();
        clients.sort_unstable_by_key(|(name, _)| *name);
        clients
    }

    /// Takes up the clients of another file, and names those that are known already: they stay what they were.
    fn take_up(&mut self, other: Self) -> Vec<String> {
        let mut known = Vec::new();
        for (name, client) in other.clients {
            match self.clients.entry(name) {
                hash_map::Entry::Vacant(place) => drop(place.insert(client)),
                hash_map::Entry::Occupied(place) => known.push(place.key().clone()),
            }
        }
        known
    }

    /// Adds a client, or replaces the one of that name.
    pub fn insert(&mut self, name: &str, role: Role, password: &str) {
        let password = Some(Sha256::digest(password.as_bytes()).into());
        self.clients.insert(name.to_owned(), Client { role, password, topics: Arc::default() });
    }

    /// Adds a bridge, or replaces the client of that name.
    pub fn insert_bridge(&mut self, name: &str, topics: &[&str], password: &str) {
        let password = Some(Sha256::digest(password.as_bytes()).into());
        let topics = topics.iter().map(|&topic| topic.to_owned()).collect();
        self.clients.insert(name.to_owned(), Client { role: Role::Bridge, password, topics });
    }

    /// The filters within which a bridge publishes and subscribes; none for anybody else.
    #[must_use]
    pub fn topics_of(&self, name: &str) -> Arc<[String]> {
        self.clients.get(name).map_or_else(Arc::default, |client| Arc::clone(&client.topics))
    }

    /// What a client with a name and password is let in for. Takes as long for an unknown name as for a wrong password.
    ///
    /// # Errors
    /// Why it is not let in.
    pub fn verify(&self, name: &str, password: &[u8]) -> Result<Role, Refusal> {
        let offered: [u8; 32] = Sha256::digest(password).into();
        let client = self.clients.get(name);
        let expected = client.and_then(|client| client.password);
        let matches: bool = expected.unwrap_or_default().ct_eq(&offered).into();
        match (client, expected) {
            (Some(client), Some(_)) if matches => Ok(client.role),
            (Some(_), Some(_)) => Err(Refusal::Password),
            _ => Err(Refusal::Unknown),
        }
    }

    /// What a client is listed for.
    #[must_use]
    pub fn role_of(&self, name: &str) -> Option<Role> {
        self.clients.get(name).map(|client| client.role)
    }
}

/// The most filters of a bridge.
const TOPICS_MOST: usize = 32;

/// What is wrong with a client's topics.
fn wrong_topics(role: Role, topics: &[String]) -> Option<String> {
    if role != Role::Bridge {
        return (!topics.is_empty()).then(|| "topics are for the role bridge".to_owned());
    }
    if topics.is_empty() || topics.len() > TOPICS_MOST {
        return Some(format!("a bridge needs topics: 1 to {TOPICS_MOST} MQTT filters"));
    }
    let ours = |topic: &str| filter::meet(topic, &format!("{}/#", proto::topic::PREFIX));
    topics.iter().find_map(|topic| {
        if !valid_filter(topic) || topic.starts_with('$') {
            Some(format!("topics: {topic:?} is no MQTT filter"))
        } else {
            ours(topic).then(|| format!("topics: {topic:?} would match {}", proto::topic::PREFIX))
        }
    })
}

fn digest_from_hex(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (i, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Credentials, String> {
        Credentials::parse(text, Path::new("credentials.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn names_passwords_and_roles_are_told_apart() {
        let credentials = parse(
            r#"
            [[client]]
            name = "n1"
            role = "station"
            password_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
            [[client]]
            name = "grafana"
            role = "subscriber"
            [[client]]
            name = "edge"
            role = "bridge"
            topics = ["spBv1.0/#"]
            "#,
        )
        .unwrap();
        assert_eq!(credentials.role_of("edge"), Some(Role::Bridge));
        assert_eq!(credentials.topics_of("edge")[..], ["spBv1.0/#".to_owned()]);
        assert!(credentials.topics_of("n1").is_empty());
        assert_eq!(credentials.verify("n1", b"test"), Ok(Role::Station));
        assert_eq!(credentials.verify("n1", b"Test"), Err(Refusal::Password));
        assert_eq!(credentials.verify("n2", b"test"), Err(Refusal::Unknown));
        assert_eq!(credentials.verify("grafana", b""), Err(Refusal::Unknown), "no password is not an empty one");
        assert_eq!(credentials.role_of("grafana"), Some(Role::Subscriber));
        assert_eq!(credentials.role_of("n9"), None);
    }

    #[test]
    fn every_unusable_client_is_named() {
        let error = parse(
            r#"
            [[client]]
            name = "N 1"
            role = "station"
            [[client]]
            name = "n2"
            role = "station"
            password_sha256 = "abc"
            [[client]]
            name = "n3"
            role = "station"
            [[client]]
            name = "n3"
            role = "subscriber"
            "#,
        )
        .unwrap_err();
        for part in ["credentials.toml", "\"N 1\"", "client \"n2\": password_sha256", "client \"n3\" is there twice"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = parse(
            r#"
            [[client]]
            name = "b1"
            role = "bridge"
            [[client]]
            name = "b2"
            role = "bridge"
            topics = ["spBv1.0/#", "+/v1/#"]
            [[client]]
            name = "b3"
            role = "bridge"
            topics = ["a/#/b"]
            [[client]]
            name = "b4"
            role = "station"
            topics = ["a/#"]
            "#,
        )
        .unwrap_err();
        for part in [
            "\"b1\": a bridge needs topics",
            "\"b2\": topics: \"+/v1/#\" would match tilth/v1",
            "\"b3\": topics: \"a/#/b\" is no MQTT filter",
            "\"b4\": topics are for the role bridge",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = parse("[[client]]\nname = \"a\"\nrole = \"king\"").unwrap_err();
        assert!(error.contains("king"), "{error}");
    }
}
