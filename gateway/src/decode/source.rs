//! Other people's sensors: messages that speak another format than ours, on topics of their own.
//!
//! A `[[source]]` of the configuration says which. The door asks [`Routes`] whether a topic is one's, and the pipeline gives
//! what came to its [`Decoder`]. A decoder says what the message holds and keeps nothing on disk itself; what it must
//! remember goes with the message's own commit.
//!
//! ```toml
//! [[source]]
//! kind = "sparkplug"
//! name = "greenhouse"                     # the kind, when it is not there
//! prefix = "gh-"                          # its stations' names begin so; "greenhouse-" when it is not there
//! stations = { "Farm/edge1/probe7" = "north-1" }        # or are named here
//! channels = [
//!   { name = "Probe {n}/VWC {cm}", channel = "soil_moisture_{cm}cm", unit = "%" },
//!   { name = "Pump/*", ignore = true },
//! ]
//! ```
//!
//! A source writes only stations whose names begin with its prefix, and those that its `stations` list: whatever names come
//! over the wire, a bridge never speaks for another's station. No native station may have such a name (the door refuses it).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proto::document::{Mistake, Section, Unread};
use proto::{Birth, Channel, FieldId, GatewayId, Reading, StationId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::mapping::JsonConfig;
use super::sparkplug::{self, SparkplugConfig};
use crate::config::is_told;
use crate::contain::contained;

pub mod channels;
pub mod chirpstack;
pub mod filter;
pub mod json;
pub mod names;
pub mod senml;
pub mod values;

pub use chirpstack::ChirpstackConfig;
pub use senml::SenmlConfig;

pub use channels::{ChannelRule, Channels, Target};

/// How many problems of one message are told in words; the others are only counted.
pub const TOLD_MOST: usize = 8;
/// The longest prefix of stations' names.
const PREFIX_MOST: usize = 32;

/// What one message of a source holds.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Readings, by station. None twice in one list.
    pub stations: Vec<(StationId, Vec<Reading>)>,
    /// What a station says about itself, in our own words.
    pub births: Vec<(StationId, Birth)>,
    /// Stations that were heard without a reading.
    pub heard: Vec<StationId>,
    /// Stations with a valve, and the number of the irrigation that they say they carried out.
    pub irrigated: Vec<(StationId, u64)>,
    /// What could not be taken, counted by reason. The rest of the message is taken.
    pub refused: BTreeMap<&'static str, u64>,
    /// The first of it in words.
    pub problems: Vec<String>,
    /// What else is worth counting, by what.
    pub counted: BTreeMap<&'static str, u64>,
    /// Why the message itself is kept aside although it is no error: it cannot be read yet.
    pub aside: Option<String>,
    /// Channels that nobody mapped.
    pub unknown: Vec<Unknown>,
    /// What is to be published, once the message is on disk: topic and payload.
    pub replies: Vec<(String, Bytes)>,
    /// What the decoder wants to have again after a restart, by key; none to forget it.
    pub state: Vec<(String, Option<Vec<u8>>)>,
}

impl Decoded {
    /// Adds a reading.
    pub fn push(&mut self, station: &StationId, reading: Reading) {
        match self.stations.iter_mut().find(|(known, _)| known == station) {
            Some((_, readings)) => readings.push(reading),
            None => self.stations.push((station.clone(), vec![reading])),
        }
    }

    /// Counts what cannot be taken, and tells the first of it.
    pub fn refuse(&mut self, reason: &'static str, problem: impl FnOnce() -> String) {
        *self.refused.entry(reason).or_default() += 1;
        if self.problems.len() < TOLD_MOST {
            self.problems.push(problem());
        }
    }

    /// Counts something that is worth it.
    pub fn count(&mut self, what: &'static str, by: u64) {
        if by > 0 {
            *self.counted.entry(what).or_default() += by;
        }
    }

    /// How many readings there are.
    #[must_use]
    pub fn readings(&self) -> usize {
        self.stations.iter().map(|(_, readings)| readings.len()).sum()
    }
}

/// A channel that nobody mapped. Its readings stay in the raw store with the message that brought them.
#[derive(Debug, Clone, PartialEq)]
pub struct Unknown {
    /// The source's name.
    pub source: String,
    /// The station that has it.
    pub station: StationId,
    /// What the channel is called there.
    pub name: String,
    /// Its unit, where one was told.
    pub unit: Option<String>,
    /// Its last value, as people read it.
    pub value: String,
    /// What it may be.
    pub proposal: Option<Channel>,
}

impl Unknown {
    /// The line for the source's `channels` that maps it, to be looked at and copied.
    #[must_use]
    pub fn line(&self) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let channel = self.proposal.map_or_else(|| "soil_moisture_20cm".to_owned(), |channel| channel.to_string());
        let name = quoted(&channels::literal(&self.name));
        match &self.unit {
            Some(unit) => format!("{{ name = {name}, channel = \"{channel}\", unit = {} }},", quoted(unit)),
            None => format!("{{ name = {name}, channel = \"{channel}\" }},"),
        }
    }
}

/// Whether a channel is still one that nobody mapped, by the rules of its source.
#[must_use]
pub fn is_unmapped(sources: &[SourceConfig], unknown: &Unknown) -> bool {
    sources.iter().find(|source| source.common.name == unknown.source).is_some_and(|source| {
        // A rule for some stations may be for this one: if it is not, its next message says so.
        let for_all = |rule: &ChannelRule| ChannelRule { of: None, ..rule.clone() };
        let rules: Vec<ChannelRule> = source.common.channels.iter().map(for_all).collect();
        let target = Channels::new(&rules).target(&unknown.name, unknown.unit.as_deref());
        matches!(target, Target::Unknown(_)) && source.common.owns(&unknown.station)
    })
}

/// A message that cannot be taken at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// A short word for counting.
    pub reason: &'static str,
    /// What is wrong, with the field and the value.
    pub message: String,
}

impl SourceError {
    /// An error that is counted as `reason`.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// What the gateway says about itself to a source's clients: to those that are there, and to each that subscribes later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The topic. Nobody else may publish on it.
    pub topic: String,
    /// While the gateway runs.
    pub online: Bytes,
    /// When it ends: by itself, or as its last will.
    pub offline: Bytes,
}

/// What reads a source's messages.
///
/// The same messages in the same order give the same, bit for bit: time comes in as `now`, farm time. What was decoded will be
/// stored: the pipeline keeps a message that the disk refuses until it takes it.
pub trait Decoder: Send {
    /// Reads a message that came at `now`.
    ///
    /// # Errors
    /// When it cannot be taken at all: it is kept aside, counted and acknowledged.
    fn decode(&mut self, topic: &str, payload: &[u8], now: Timestamp) -> Result<Decoded, SourceError>;

    /// Takes up what it kept before a restart.
    fn restore(&mut self, key: &str, body: &[u8]) {
        let _ = (key, body);
    }

    /// What the gateway says about itself from `now` on.
    fn announcements(&self, now: Timestamp) -> Vec<Announcement> {
        let _ = now;
        Vec::new()
    }
}

/// A `[[source]]` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct SourceConfig {
    /// What every source has.
    #[serde(flatten)]
    pub common: Common,
    /// What its kind has.
    #[serde(flatten)]
    pub kind: Kind,
}

/// The kinds of sources.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Kind {
    /// Sparkplug B 3.0.
    Sparkplug(SparkplugConfig),
    /// ChirpStack v4's events.
    Chirpstack(ChirpstackConfig),
    /// SenML packs.
    Senml(SenmlConfig),
    /// Any JSON, by a mapping.
    Json(JsonConfig),
}

impl Kind {
    /// Its name in the configuration and in counters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Sparkplug(_) => "sparkplug",
            Self::Chirpstack(_) => "chirpstack",
            Self::Senml(_) => "senml",
            Self::Json(_) => "json",
        }
    }
}

/// What every source has.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Common {
    /// Its name, in the log, in counters and on the page; its kind's when it is not there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// How its stations' names begin; the name and a `-` when it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Stations that have another name, by what the source calls them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stations: BTreeMap<String, StationId>,
    /// Which of its channels are which of ours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<ChannelRule>,
    /// The field in which its stations stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<FieldId>,
    /// How often its stations report, in seconds; 300 when it is not there. It decides after how long one is said to be
    /// silent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_s: Option<u32>,
}

/// The keys of [`Common`].
const COMMON: [&str; 6] = ["name", "prefix", "stations", "channels", "field", "report_s"];

impl TryFrom<toml::Table> for SourceConfig {
    type Error = String;

    fn try_from(table: toml::Table) -> Result<Self, String> {
        let text = table.to_string();
        let (read, mistakes) = Section::parse(&text).map_or_else(|mistakes| (None, mistakes), Self::read);
        // The lines are not those of the text that it came from.
        let said = mistakes.into_iter().map(|mistake| Mistake { line: None, ..mistake }.to_string());
        read.filter(|_| said.len() == 0).ok_or_else(|| said.collect::<Vec<_>>().join("; "))
    }
}

/// What a text's `[[source]]` tables hold.
#[derive(Debug, Default)]
pub struct Written {
    /// What could be read of each. One whose kind nobody can tell is something made up.
    pub sources: Vec<SourceConfig>,
    /// What cannot be.
    pub mistakes: Vec<Mistake>,
    /// What was made up, by its key.
    pub made_up: Vec<String>,
}

impl Written {
    /// Takes them out of a text.
    #[must_use]
    pub fn take(text: &mut Section<'_>) -> Self {
        let mut written = Self::default();
        for (index, table) in text.take_tables("source").into_iter().enumerate() {
            let (source, mistakes) = SourceConfig::read(table);
            written.mistakes.extend(mistakes);
            written.sources.push(source.unwrap_or_else(|| {
                written.made_up.push(format!("source[{index}]"));
                SourceConfig { common: Common::default(), kind: Kind::Json(JsonConfig::default()) }
            }));
        }
        written
    }
}

impl Common {
    /// How its stations' names begin.
    #[must_use]
    pub fn prefix(&self) -> String {
        self.prefix.clone().unwrap_or_else(|| format!("{}-", self.name))
    }

    /// Whether it may write a station of that name.
    #[must_use]
    pub fn owns(&self, station: &StationId) -> bool {
        station.as_str().starts_with(&self.prefix()) || self.stations.values().any(|listed| listed == station)
    }

    /// The station that the source calls by `parts` (listed as `a/b/c`); see [`names::station`].
    #[must_use]
    pub fn station(&self, parts: &[&str]) -> StationId {
        let listed = self.stations.get(&parts.join("/"));
        listed.cloned().unwrap_or_else(|| names::station(&self.prefix(), parts))
    }

    /// How often its stations report, in seconds.
    #[must_use]
    pub fn report_s(&self) -> u32 {
        self.report_s.unwrap_or(300)
    }
}

impl SourceConfig {
    /// Reads one, as far as its kind is known; and says all that is wrong with it.
    fn read(mut table: Section<'_>) -> (Option<Self>, Vec<Mistake>) {
        #[derive(Deserialize)]
        struct Which {
            kind: Name,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Name {
            Sparkplug,
            Chirpstack,
            Senml,
            Json,
        }
        /// What can be read of a part.
        fn whole<T: DeserializeOwned + Default>(part: Section<'_>, mistakes: &mut Vec<Mistake>) -> T {
            part.read().unwrap_or_else(|unread: Unread<T>| {
                mistakes.extend(unread.mistakes);
                unread.rest.unwrap_or_default()
            })
        }
        let mut mistakes = Vec::new();
        let mut common: Common = whole(table.take(&COMMON), &mut mistakes);
        let kind = match table.take(&["kind"]).read::<Which>() {
            Ok(Which { kind: Name::Sparkplug }) => Kind::Sparkplug(whole(table, &mut mistakes)),
            Ok(Which { kind: Name::Chirpstack }) => Kind::Chirpstack(whole(table, &mut mistakes)),
            Ok(Which { kind: Name::Senml }) => Kind::Senml(whole(table, &mut mistakes)),
            Ok(Which { kind: Name::Json }) => Kind::Json(whole(table, &mut mistakes)),
            Err(unread) => {
                mistakes.extend(unread.mistakes);
                return (None, mistakes);
            }
        };
        if common.name.is_empty() {
            kind.name().clone_into(&mut common.name);
        }
        (Some(Self { common, kind }), mistakes)
    }

    /// The topics that it takes, as MQTT filters.
    #[must_use]
    pub fn filters(&self) -> Vec<String> {
        match &self.kind {
            Kind::Sparkplug(config) => config.filters(),
            Kind::Chirpstack(config) => config.topics.clone(),
            Kind::Senml(config) => config.filters(),
            Kind::Json(config) => config.filters(),
        }
    }

    /// Its decoder.
    #[must_use]
    pub fn decoder(&self, gateway: &GatewayId) -> Box<dyn Decoder> {
        match &self.kind {
            Kind::Sparkplug(config) => Box::new(sparkplug::Host::new(&self.common, config, gateway)),
            Kind::Chirpstack(config) => Box::new(chirpstack::Events::new(&self.common, config)),
            Kind::Senml(config) => Box::new(senml::Packs::new(&self.common, config)),
            Kind::Json(config) => json::decoder(&self.common, config),
        }
    }

    /// What is wrong with its values: key, value, and what is expected. It is the source at `index`.
    fn check(&self, index: usize) -> Vec<(String, String, String)> {
        let mut wrong = Vec::new();
        let common = &self.common;
        let mut say = |key: &str, value: String, expected: &str| {
            wrong.push((format!("source[{index}].{key}"), value, expected.to_owned()));
        };
        if !names::is_name(&common.name) || common.name.len() > PREFIX_MOST {
            say("name", format!("{:?}", common.name), "1 to 32 characters of a-z, 0-9, - and _");
        }
        let prefix = common.prefix();
        if !names::is_name(&prefix) || prefix.len() > PREFIX_MOST + 1 {
            say("prefix", format!("{prefix:?}"), "1 to 32 characters of a-z, 0-9, - and _");
        }
        if common.report_s == Some(0) {
            say("report_s", "0".to_owned(), "above 0 s");
        }
        for (rule, at) in common.channels.iter().zip(0..) {
            for (key, value, expected) in rule.check() {
                say(&format!("channels[{at}].{key}"), format!("{value:?}"), &expected);
            }
        }
        let of_kind: Vec<(&str, String, String)> = match &self.kind {
            Kind::Sparkplug(config) => {
                // Its rules are asked for at births, of all nodes and devices alike.
                let rules = common.channels.iter().enumerate();
                for (at, rule) in rules.filter(|(_, rule)| rule.of.is_some() || rule.counter) {
                    let expected = "a rule without of and counter, which sparkplug does not know";
                    say(&format!("channels[{at}].name"), format!("{:?}", rule.name), expected);
                }
                config.check().into_iter().map(|(key, value, expected)| (key, value, expected.to_owned())).collect()
            }
            Kind::Chirpstack(config) => config.check(),
            Kind::Senml(config) => config.check(),
            Kind::Json(config) => config.check(),
        };
        for (key, value, expected) in of_kind {
            say(key, value, &expected);
        }
        wrong
    }
}

/// The sources of a text that holds nothing else.
///
/// # Errors
/// Everything that is wrong, a line each with the key and the value.
pub fn read(text: &str) -> Result<Vec<SourceConfig>, Vec<String>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sources {
        #[serde(default, rename = "source")]
        _source: Vec<SourceConfig>,
    }
    let said = |mistakes: &[Mistake]| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut text = Section::parse(text).map_err(|mistakes| said(&mistakes))?;
    let Written { sources, mut mistakes, made_up } = Written::take(&mut text);
    mistakes.extend(text.read::<Sources>().err().into_iter().flat_map(|unread| unread.mistakes));
    mistakes.sort_by_key(|mistake| mistake.line);
    let mut wrong = said(&mistakes);
    let told: Vec<String> = mistakes.into_iter().map(|mistake| mistake.key).chain(made_up).collect();
    let checked =
        check(&sources).into_iter().map(|(key, value, expected)| format!("{key} = {value} is not {expected}"));
    wrong.extend(checked.filter(|line| !is_told(line, &told)));
    if wrong.is_empty() { Ok(sources) } else { Err(wrong) }
}

/// What is wrong with the values of all sources: key, value, and what is expected.
#[must_use]
pub fn check(sources: &[SourceConfig]) -> Vec<(String, String, String)> {
    let mut wrong = Vec::new();
    for (i, source) in sources.iter().enumerate() {
        wrong.extend(source.check(i));
        let common = &source.common;
        let mut say = |key: &str, value: &str, expected: String| {
            wrong.push((format!("source[{i}].{key}"), format!("{value:?}"), expected));
        };
        for other in sources[..i].iter().map(|other| &other.common) {
            let (ours, theirs) = (common.prefix(), other.prefix());
            if other.name == common.name {
                say("name", &common.name, "a name of its own".to_owned());
            } else if ours.starts_with(&theirs) || theirs.starts_with(&ours) {
                say("prefix", &ours, format!("apart from {theirs:?} of source {}", other.name));
            }
        }
        for (name, station) in &common.stations {
            for other in sources.iter().map(|other| &other.common) {
                let twice = if other.name == common.name {
                    common.stations.iter().any(|(another, listed)| another < name && listed == station)
                } else {
                    other.owns(station)
                };
                if twice {
                    say("stations", station.as_str(), format!("free: source {} has it", other.name));
                }
            }
        }
    }
    wrong
}

/// Which topics and stations belong to sources. What the door asks.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    sources: Vec<Route>,
}

#[derive(Debug, Clone)]
struct Route {
    name: String,
    filters: Vec<String>,
    /// Filters of all that its kind has for itself, whether it takes it or not.
    own: &'static [&'static str],
    /// Filters of the commands to what is behind it.
    commands: &'static [&'static str],
    prefix: String,
}

impl Routes {
    /// Those of a configuration.
    #[must_use]
    pub fn new(sources: &[SourceConfig]) -> Self {
        let route = |source: &SourceConfig| {
            let (own, commands): (&[&str], &[&str]) = match source.kind {
                Kind::Sparkplug(_) => (&sparkplug::OWN, &sparkplug::COMMANDS),
                Kind::Chirpstack(_) | Kind::Senml(_) | Kind::Json(_) => (&[], &[]),
            };
            let common = &source.common;
            Route { name: common.name.clone(), filters: source.filters(), own, commands, prefix: common.prefix() }
        };
        Self { sources: sources.iter().map(route).collect() }
    }

    /// Whether a source takes what is published on `topic`.
    #[must_use]
    pub fn takes(&self, topic: &str) -> bool {
        self.position(topic).is_some()
    }

    /// Whether bridges alone publish on `topic`: what a source takes, and what its kind has for itself.
    #[must_use]
    pub fn reserves(&self, topic: &str) -> bool {
        self.takes(topic) || self.sources.iter().flat_map(|route| route.own).any(|own| filter::matches(own, topic))
    }

    /// Whether what is published on `topic` commands something behind a source, as the gateway alone does.
    #[must_use]
    pub fn commands(&self, topic: &str) -> bool {
        self.sources.iter().flat_map(|route| route.commands).any(|command| filter::matches(command, topic))
    }

    /// Which source takes it: the first one in the configuration.
    fn position(&self, topic: &str) -> Option<usize> {
        self.sources.iter().position(|route| route.filters.iter().any(|filter| filter::matches(filter, topic)))
    }

    /// Whether what a source takes can match a subscription to `filter`.
    #[must_use]
    pub fn meets(&self, filter: &str) -> bool {
        self.filters().any(|own| filter::meet(own, filter))
    }

    /// All filters: what a client of another broker subscribes to.
    pub fn filters(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().flat_map(|route| route.filters.iter().map(String::as_str))
    }

    /// The source under whose prefix a name lies, so that no native station may bear it.
    #[must_use]
    pub fn owner(&self, name: &str) -> Option<&str> {
        self.sources.iter().find(|route| name.starts_with(&route.prefix)).map(|route| route.name.as_str())
    }
}

/// A message of a source that cannot be taken: whose, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("source {source_name}, topic {topic:?}: {error}")]
pub struct Refused {
    /// The source's name.
    pub source_name: String,
    /// Its kind.
    pub kind: &'static str,
    /// The topic.
    pub topic: String,
    /// Why.
    pub error: SourceError,
}

/// The sources of a configuration with their decoders. What the pipeline asks.
pub struct Sources {
    routes: Routes,
    sources: Vec<Source>,
}

struct Source {
    common: Common,
    kind: &'static str,
    decoder: Box<dyn Decoder>,
}

/// A message of a source that was read.
#[derive(Debug)]
pub struct Taken {
    /// The source's name.
    pub source: String,
    /// Its kind.
    pub kind: &'static str,
    /// What is in it.
    pub decoded: Decoded,
}

impl Source {
    fn refused(&self, topic: &str, error: SourceError) -> Refused {
        Refused { source_name: self.common.name.clone(), kind: self.kind, topic: shown(topic), error }
    }
}

/// A topic as it is shown.
fn shown(topic: &str) -> String {
    topic.chars().take(200).collect()
}

impl Sources {
    /// Those of a configuration.
    #[must_use]
    pub fn new(configs: &[SourceConfig], gateway: &GatewayId) -> Self {
        let source = |config: &SourceConfig| Source {
            common: config.common.clone(),
            kind: config.kind.name(),
            decoder: config.decoder(gateway),
        };
        Self { routes: Routes::new(configs), sources: configs.iter().map(source).collect() }
    }

    /// Reads a message that came at `now`. Readings of stations that its source may not write are refused.
    ///
    /// # Errors
    /// When it cannot be taken at all.
    pub fn decode(&mut self, topic: &str, payload: &[u8], now: Timestamp) -> Result<Taken, Refused> {
        let Some(source) = self.routes.position(topic).and_then(|at| self.sources.get_mut(at)) else {
            let error = SourceError::new("topic", "no source of the configuration takes this topic");
            return Err(Refused { source_name: "none".to_owned(), kind: "source", topic: shown(topic), error });
        };
        let kind = source.kind;
        let mut decoded = source.decoder.decode(topic, payload, now).map_err(|error| source.refused(topic, error))?;
        let common = &source.common;
        let mut foreign: BTreeSet<StationId> = BTreeSet::new();
        let mut may_write = |station: &StationId| {
            let own = common.owns(station);
            if !own {
                foreign.insert(station.clone());
            }
            own
        };
        decoded.stations.retain(|(station, _)| may_write(station));
        decoded.births.retain(|(station, _)| may_write(station));
        decoded.heard.retain(&mut may_write);
        decoded.unknown.retain(|unknown| may_write(&unknown.station));
        for station in foreign {
            decoded.refuse("station", || {
                format!("station \"{station}\" is neither under the prefix {:?} nor listed", common.prefix())
            });
        }
        Ok(Taken { source: common.name.clone(), kind, decoded })
    }

    /// As [`Self::decode`], for what just came: a panic refuses the message, and does not end the gateway, to which a client
    /// would send the same again. The decoder goes on with what it remembered by then.
    ///
    /// # Errors
    /// When it cannot be taken at all, or the decoder panics.
    pub(crate) fn decode_contained(&mut self, topic: &str, payload: &[u8], now: Timestamp) -> Result<Taken, Refused> {
        contained(|| self.decode(topic, payload, now)).unwrap_or_else(|said| {
            let at = self.routes.position(topic).unwrap_or_default();
            let error = SourceError::new("panicked", format!("its decoder panicked: {said}"));
            Err(self.sources[at].refused(topic, error))
        })
    }

    /// Gives a source what it kept before a restart. What belongs to none any more is passed over.
    pub fn restore(&mut self, source: &str, key: &str, body: &[u8]) {
        if let Some(source) = self.sources.iter_mut().find(|known| known.common.name == source) {
            source.decoder.restore(key, body);
        }
    }

    /// What the gateway says about itself from `now` on.
    #[must_use]
    pub fn announcements(&self, now: Timestamp) -> Vec<Announcement> {
        self.sources.iter().flat_map(|source| source.decoder.announcements(now)).collect()
    }

    /// Whether there is any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("routes", &self.routes).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod tests_of_kinds;
