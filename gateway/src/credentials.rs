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
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::StationId;
use proto::document::{Mistake, Section, Unread, line_at};
use rumqttc::mqttbytes::valid_filter;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use toml::Spanned;

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

/// What is written to a credentials file.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CredentialsFile {
    /// Its clients.
    pub client: Vec<Entry>,
}

/// A client in a credentials file.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Its name: its MQTT user name, and of a station also its client id.
    pub name: String,
    /// What it is let in for.
    pub role: Role,
    /// SHA-256 of its password, 64 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_sha256: Option<String>,
    /// The MQTT filters within which a bridge publishes and subscribes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
}

/// An [`Entry`] as it is read, with where it stands.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: Spanned<String>,
    /// Were it demanded, nothing else could be read of a client whose role is wrong.
    #[serde(default)]
    role: Option<Role>,
    #[serde(default)]
    password_sha256: Option<Spanned<String>>,
    #[serde(default)]
    topics: Option<Spanned<Vec<String>>>,
}

/// What is beside the tables of clients: nothing, or a `client` that is no such table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rest {
    #[serde(default, rename = "client")]
    _client: Vec<Row>,
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
        let mut credentials = Self::default();
        let mut mistakes = credentials.read(text);
        if mistakes.is_empty() {
            return Ok(credentials);
        }
        mistakes.sort_by_key(|mistake| mistake.line);
        let problems = mistakes.iter().map(ToString::to_string).collect();
        Err(CredentialsError::Invalid { path: path.to_owned(), problems })
    }

    /// Takes up the clients of a text, and says all that is wrong with them.
    fn read(&mut self, text: &str) -> Vec<Mistake> {
        let mut document = match Section::parse(text) {
            Ok(document) => document,
            Err(mistakes) => return mistakes,
        };
        let clients = document.take_tables("client");
        let mut mistakes = document.read::<Rest>().err().map(|unread| unread.mistakes).unwrap_or_default();
        let mut lines = HashMap::new();
        for (index, client) in clients.into_iter().enumerate() {
            let (row, mut wrong) = match client.read::<Row>() {
                Ok(row) => (Some(row), Vec::new()),
                Err(Unread { mistakes, rest }) => (rest, mistakes),
            };
            if let Some(row) = row {
                self.take_row(row, index, text, &mut lines, &mut wrong);
            }
            mistakes.extend(wrong);
        }
        mistakes
    }

    /// Takes up a client, or adds to what is wrong with it. `lines` says where the names before it stand.
    fn take_row(
        &mut self,
        row: Row,
        index: usize,
        text: &str,
        lines: &mut HashMap<String, usize>,
        wrong: &mut Vec<Mistake>,
    ) {
        let own_line = line_at(text, row.name.span().start);
        let name = row.name.into_inner();
        // Of one without a name the number is said.
        let who = own_line.map_or_else(|| format!("client[{index}]"), |_| format!("client {name:?}"));
        let mut told = Vec::new();
        let mut tell = |line: Option<usize>, problem: String| {
            told.push(Mistake { line, key: String::new(), value: String::new(), problem });
        };
        // Programs' names follow the stations' rule: they become part of topics' and sessions' keys as well.
        if let Err(error) = name.parse::<StationId>() {
            tell(own_line, format!("client.name: {error}"));
        }
        if let Some(line) = own_line {
            match lines.entry(name.clone()) {
                hash_map::Entry::Vacant(place) => drop(place.insert(line)),
                hash_map::Entry::Occupied(first) => {
                    tell(own_line, format!("{who} is there twice, first in line {}", first.get()));
                }
            }
        }
        let line = |span: Range<usize>| line_at(text, span.start);
        let password = row.password_sha256.map(|hex| (digest_from_hex(hex.get_ref()), hex));
        if let Some((None, hex)) = &password {
            // It is not shown: it may be a password that was written there by mistake.
            let length = hex.get_ref().chars().count();
            let problem =
                format!("{who}: password_sha256 must be 64 hexadecimal digits, not these {length} characters");
            tell(line(hex.span()), problem);
        }
        let (topics_line, topics) = match row.topics {
            Some(topics) => (line(topics.span()), topics.into_inner()),
            None => (own_line, Vec::new()),
        };
        match row.role {
            Some(role) => {
                if let Some(problem) = wrong_topics(role, &topics) {
                    tell(topics_line, format!("{who}: {problem}"));
                }
            }
            None if wrong.iter().any(|mistake| mistake.key.ends_with(".role")) => {}
            None => tell(own_line, format!("{who}: role is missing, expected `station`, `subscriber` or `bridge`")),
        }
        wrong.append(&mut told);
        if let (Some(role), true) = (row.role, wrong.is_empty()) {
            let password = password.and_then(|(digest, _)| digest);
            self.clients.insert(name, Client { role, password, topics: topics.into() });
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

    /// What is told of a text, a line each.
    fn told(text: &str) -> Vec<String> {
        let error = parse(text).unwrap_err();
        let problems = error.strip_prefix("credentials file credentials.toml: ").unwrap();
        problems.split("; ").map(str::to_owned).collect()
    }

    #[test]
    fn every_mistake_of_every_client_is_told_at_once_with_its_line() {
        let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let told = told(&format!(
            r#"[[client]]
name = "N 1"
role = "king"
password_sha256 = "abc"
[[client]]
name = "n2"
role = "station"
password_sha256 = "secret"
topics = ["a/#"]
colour = 1
[[client]]
name = "n3"
role = "station"
password_sha256 = "{digest}"
[[client]]
role = "station"
password_sha256 = "x{}"
[[client]]
name = "n5"
[[client]]
name = "n3"
role = 5
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
[unheard]
of = 1
"#,
            &digest[1..]
        ));
        let expected = [
            "line 2: client.name: ",
            "line 3: client[0].role = \"king\": unknown variant `king`, expected ",
            "line 4: client \"N 1\": password_sha256 must be 64 hexadecimal digits, not these 3 characters",
            "line 8: client \"n2\": password_sha256 must be 64 hexadecimal digits, not these 6 characters",
            "line 9: client \"n2\": topics are for the role bridge",
            "line 10: client[1].colour = 1: unknown field `colour`, expected ",
            "line 15: client[3].name: is missing",
            "line 17: client[3]: password_sha256 must be 64 hexadecimal digits, not these 64 characters",
            "line 19: client \"n5\": role is missing, expected `station`, ",
            "line 21: client \"n3\" is there twice, first in line 12",
            "line 22: client[5].role = 5: ",
            "line 24: client \"b1\": a bridge needs topics",
            "line 29: client \"b2\": topics: \"+/v1/#\" would match tilth/v1",
            "line 33: client \"b3\": topics: \"a/#/b\" is no MQTT filter",
            "line 34: unheard: unknown field `unheard`, expected `client`",
        ];
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{expected}: {told}");
        }
    }

    #[test]
    fn what_is_no_list_of_clients_is_told() {
        assert_eq!(told("[client]\nname = \"a\"\n").len(), 1);
        assert!(told("client = [1]\n")[0].starts_with("line 1: client"));
        assert!(told("[[client]\n")[0].starts_with("line 1: "));
        assert!(parse("").unwrap().clients().is_empty());
    }
}
