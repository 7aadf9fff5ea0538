//! From the names that sensors give their channels to ours. Pure.
//!
//! Three steps, the first that knows the name counts:
//! 1. The configuration's [`ChannelRule`]s, in their order.
//! 2. The convention: a name that says one of our quantities, with its depth or height where it has one, however it is
//!    spelt: `Soil Moisture/20cm`, `soil_moisture_20_cm`, `airTemperature 2m`.
//! 3. A [proposal](crate::decode::propose), which people must confirm: it maps nothing.
//!
//! A unit that the message or the rule tells is converted from; one that does not belong to the quantity maps nothing
//! either, for its values would be wrong. Without a unit, values are in the quantity's own.

use std::collections::{BTreeMap, HashSet};

use proto::{Channel, Quantity};
use serde::{Deserialize, Serialize};

use crate::decode::propose::propose;
use proto::units::Conversion;

/// The longest name of a channel that is looked at, in characters.
pub const NAME_MOST: usize = 256;
/// The most wildcards of a pattern.
const WILDCARDS_MOST: usize = 8;

/// A rule of the configuration: which channel a name is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelRule {
    /// The names that it is for. `{x}` stands for one or more characters but `/`, and can be used in `channel`; `*` stands
    /// for any; `\` before one of `{`, `*` and `\` takes it for what it is.
    pub name: String,
    /// The channel: `soil_moisture_20cm`, `soil_moisture_{x}cm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The unit of the values, whatever the message says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Whose channels it is for: a pattern for what the source calls the station, or its kind. All when it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// What the values are multiplied by, instead of a unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// What is added after that, in the quantity's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<f64>,
    /// Whether the values count up without end, so that a reading is what came since the one before. For rain.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub counter: bool,
    /// Whether such channels are passed over in silence.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignore: bool,
}

/// What a channel's name stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// A channel of ours.
    Channel(Channel, Conversion),
    /// Nothing that is wanted.
    Ignored,
    /// Nobody knows; perhaps this.
    Unknown(Option<Channel>),
}

/// A source's rules, ready for use.
#[derive(Debug, Clone, Default)]
pub struct Channels {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    name: Vec<Token>,
    of: Option<Vec<Token>>,
    rule: ChannelRule,
}

/// What a name stands for, and whether its values count up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// What it stands for.
    pub target: Target,
    /// Whether its values count up without end.
    pub counter: bool,
}

/// A piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Text(String),
    Capture(String),
    Any,
}

impl ChannelRule {
    /// All that is wrong with it: key, value, and what is expected.
    #[must_use]
    pub fn check(&self) -> Vec<(&'static str, String, String)> {
        let mut wrong = Vec::new();
        let mut say = |key, value: &str, expected: &str| wrong.push((key, value.to_owned(), expected.to_owned()));
        let tokens = pattern(&self.name).filter(|tokens| !tokens.is_empty());
        if tokens.is_none() {
            say("name", &self.name, "a pattern: text, {captures} with names, * and at most 8 of both");
        }
        if self.channel.is_some() == self.ignore {
            say("name", &self.name, "a rule with either channel or ignore = true");
        }
        let mut of_channel = None;
        // Which captures there are says the name only.
        if let (Some(channel), Some(tokens)) = (&self.channel, tokens) {
            // Captures are mostly levels: with a number in their place it must be a channel.
            let numbers = tokens.iter().filter_map(|token| match token {
                Token::Capture(name) => Some((name.as_str(), "1")),
                _ => None,
            });
            // A capture may also name the quantity; then only what comes can show it.
            let quantity_comes = channel.starts_with('{');
            match fill(channel, &numbers.collect()).map(|whole| whole.parse::<Channel>()) {
                None => say("channel", channel, "made of captures that name has"),
                Some(Err(_)) if !quantity_comes => say("channel", channel, "a channel, like soil_moisture_20cm"),
                Some(parsed) => of_channel = Some(parsed.ok()),
            }
        }
        let line = self.scale.or(self.offset).is_some();
        if let Some(unit) = &self.unit {
            if let Some(Some(channel)) = of_channel
                && let Err(error) = Conversion::of(unit, channel.quantity)
            {
                say("unit", unit, &format!("a unit of {}: {}", channel.quantity, error.known));
            }
            if line {
                say("unit", unit, "there beside scale or offset, which say the same");
            }
        }
        if let Some(of) = self.of.as_ref().filter(|of| pattern(of).is_none_or(|tokens| tokens.is_empty())) {
            say("of", of, "a pattern, like that of name");
        }
        if let Some(scale) = self.scale.filter(|scale| !scale.is_finite() || *scale == 0.0) {
            say("scale", &scale.to_string(), "a number other than 0");
        }
        if let Some(offset) = self.offset.filter(|offset| !offset.is_finite()) {
            say("offset", &offset.to_string(), "a number");
        }
        // Where the channel itself is wrong nobody knows whether it is rain's.
        let rain = |channel: Option<Channel>| channel.is_some_and(|channel| channel.quantity == Quantity::Rain);
        if self.counter && of_channel.is_some_and(|channel| !rain(channel)) {
            say("counter", "true", "of use but for rain");
        }
        wrong
    }

    /// How its values become the channel's: by its own line or unit, else from the `stated` one.
    fn target(&self, channel: Channel, stated: Option<&str>) -> Target {
        if self.scale.or(self.offset).is_some() {
            let line = Conversion::line(self.scale.unwrap_or(1.0), self.offset.unwrap_or(0.0));
            return Target::Channel(channel, line);
        }
        convertible(channel, self.unit.as_deref().or(stated))
    }
}

impl Channels {
    /// Those of a configuration that was checked; a rule that cannot be read matches nothing.
    #[must_use]
    pub fn new(rules: &[ChannelRule]) -> Self {
        let read = |rule: &ChannelRule| {
            let of = match &rule.of {
                Some(of) => Some(pattern(of)?),
                None => None,
            };
            Some(Rule { name: pattern(&rule.name)?, of, rule: rule.clone() })
        };
        Self { rules: rules.iter().filter_map(read).collect() }
    }

    /// What `name` stands for, when its values are in `unit`.
    #[must_use]
    pub fn target(&self, name: &str, unit: Option<&str>) -> Target {
        self.find(&[], name, unit).target
    }

    /// What `name` stands for with a station that is called one of `of`, when its values are in `unit`.
    #[must_use]
    pub fn find(&self, of: &[&str], name: &str, unit: Option<&str>) -> Found {
        let plain = |target| Found { target, counter: false };
        if name.is_empty() || name.chars().count() > NAME_MOST {
            return plain(Target::Unknown(None));
        }
        for Rule { name: pattern, of: owner, rule } in &self.rules {
            let meant = |owner: &Vec<Token>| of.iter().any(|of| captures(owner, of).is_some());
            if owner.as_ref().is_some_and(|owner| !meant(owner)) {
                continue;
            }
            let Some(captures) = captures(pattern, name) else { continue };
            let Some(template) = &rule.channel else { return plain(Target::Ignored) };
            let captures = captures.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let Some(Ok(channel)) = fill(template, &captures).map(|whole| whole.parse::<Channel>()) else { continue };
            return Found { target: rule.target(channel, unit), counter: rule.counter };
        }
        plain(match conventional(name) {
            Some(channel) => convertible(channel, unit),
            None => Target::Unknown(propose(name, unit)),
        })
    }
}

/// A channel whose values come in `unit`.
fn convertible(channel: Channel, unit: Option<&str>) -> Target {
    match unit.map(str::trim).filter(|unit| !unit.is_empty()) {
        None => Target::Channel(channel, Conversion::SAME),
        Some(unit) => match Conversion::of(unit, channel.quantity) {
            Ok(conversion) => Target::Channel(channel, conversion),
            Err(_) => Target::Unknown(Some(channel)),
        },
    }
}

/// A name as a pattern that matches it alone.
#[must_use]
pub fn literal(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '{' | '*' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

fn pattern(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let special = match c {
            '\\' => {
                plain.push(chars.next()?);
                continue;
            }
            '*' => Token::Any,
            '{' => {
                let name: String = chars.by_ref().take_while(|&c| c != '}').collect();
                let fits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                Token::Capture(fits.then_some(name)?)
            }
            other => {
                plain.push(other);
                continue;
            }
        };
        if !plain.is_empty() {
            tokens.push(Token::Text(std::mem::take(&mut plain)));
        }
        tokens.push(special);
    }
    if !plain.is_empty() {
        tokens.push(Token::Text(plain));
    }
    let wildcards = tokens.iter().filter(|token| !matches!(token, Token::Text(_))).count();
    (wildcards <= WILDCARDS_MOST && text.chars().count() <= NAME_MOST).then_some(tokens)
}

/// What the captures stand for, if the pattern matches: each as short as can be, from the left.
fn captures(pattern: &[Token], name: &str) -> Option<BTreeMap<String, String>> {
    let mut found = Vec::new();
    let mut failed = HashSet::new();
    walk(pattern, name, 0, 0, &mut found, &mut failed).then_some(())?;
    let mut captures = BTreeMap::new();
    for (token, range) in found {
        let Token::Capture(key) = &pattern[token] else { continue };
        let value = name.get(range)?.to_owned();
        // A capture that is there twice is the same both times.
        if captures.insert(key.clone(), value.clone()).is_some_and(|before| before != value) {
            return None;
        }
    }
    Some(captures)
}

fn walk(
    pattern: &[Token],
    name: &str,
    token: usize,
    at: usize,
    found: &mut Vec<(usize, std::ops::Range<usize>)>,
    failed: &mut HashSet<(usize, usize)>,
) -> bool {
    let rest = &name[at..];
    let Some(current) = pattern.get(token) else { return rest.is_empty() };
    // Every place is tried once, so that no name and pattern take more than their product.
    if failed.contains(&(token, at)) {
        return false;
    }
    let matched = match current {
        Token::Text(text) => {
            rest.starts_with(text.as_str()) && walk(pattern, name, token + 1, at + text.len(), found, failed)
        }
        Token::Capture(_) | Token::Any => {
            let any = *current == Token::Any;
            let mut ends: Vec<usize> = Vec::new();
            if any {
                ends.push(at);
            }
            ends.extend(rest.char_indices().take_while(|(_, c)| any || *c != '/').map(|(i, c)| at + i + c.len_utf8()));
            ends.into_iter().any(|end| {
                found.push((token, at..end));
                let matched = walk(pattern, name, token + 1, end, found, failed);
                if !matched {
                    found.pop();
                }
                matched
            })
        }
    };
    if !matched && !matches!(current, Token::Text(_)) {
        failed.insert((token, at));
    }
    matched
}

/// A template with its captures filled in; none when it has one that is not there.
fn fill(template: &str, captures: &BTreeMap<&str, &str>) -> Option<String> {
    let mut whole = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (key, after) = after.split_once('}')?;
        whole.push_str(before);
        whole.push_str(captures.get(key)?);
        rest = after;
    }
    whole.push_str(rest);
    Some(whole)
}

/// A name's words in small letters: `airTemp_2m` is `air`, `temp`, `2`, `m`. A number keeps its point.
fn words(name: &str) -> Vec<String> {
    #[derive(PartialEq, Clone, Copy)]
    enum Class {
        Lower,
        Upper,
        Digit,
    }
    let mut words: Vec<String> = Vec::new();
    let mut before = None;
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        let class = match c {
            c if c.is_ascii_digit() => Some(Class::Digit),
            '.' if before == Some(Class::Digit) && chars.peek().is_some_and(char::is_ascii_digit) => Some(Class::Digit),
            c if c.is_uppercase() => Some(Class::Upper),
            c if c.is_alphabetic() => Some(Class::Lower),
            _ => None,
        };
        if let Some(class) = class {
            let goes_on = match before {
                Some(before) => before == class || (before == Class::Upper && class == Class::Lower),
                None => false,
            };
            let small = c.to_lowercase();
            match words.last_mut().filter(|_| goes_on) {
                Some(word) => word.extend(small),
                None => words.push(small.collect()),
            }
        }
        before = class;
    }
    words
}

/// Takes a level (`20 cm`, `1.5 m`, `50 mm`) out of a name's words.
fn level(words: &mut Vec<String>) -> Option<u16> {
    let at = (0..words.len().saturating_sub(1)).find(|&i| {
        words[i].starts_with(|c: char| c.is_ascii_digit()) && matches!(words[i + 1].as_str(), "cm" | "m" | "mm")
    })?;
    let times = match words[at + 1].as_str() {
        "m" => 100.0,
        "mm" => 0.1,
        _ => 1.0,
    };
    let cm = words[at].parse::<f64>().ok()? * times;
    // Whole centimetres, but for what the binary fraction of a tenth leaves.
    let whole = cm.round();
    let fits = (cm - whole).abs() < 1e-6 && (0.0..f64::from(u16::MAX)).contains(&whole);
    let level = fits.then_some(whole as u16)?;
    words.drain(at..at + 2);
    Some(level)
}

/// The channel that a name says in full.
fn conventional(name: &str) -> Option<Channel> {
    let mut words = words(name);
    let level_cm = level(&mut words);
    let quantity = words.join("_").parse::<Quantity>().ok()?;
    Some(Channel { quantity, level_cm })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(name: &str, channel: &str, unit: Option<&str>) -> ChannelRule {
        let unit = unit.map(str::to_owned);
        ChannelRule { name: name.to_owned(), channel: Some(channel.to_owned()), unit, ..ChannelRule::default() }
    }

    fn mapped(target: Target) -> Option<(String, f64)> {
        match target {
            Target::Channel(channel, conversion) => Some((channel.to_string(), conversion.apply(10.0))),
            _ => None,
        }
    }

    #[test]
    fn a_name_that_says_a_quantity_is_its_channel() {
        let channels = Channels::default();
        for (name, expected) in [
            ("Soil Moisture/20cm", "soil_moisture_20cm"),
            ("soil_moisture_20cm", "soil_moisture_20cm"),
            ("soilMoisture20cm", "soil_moisture_20cm"),
            ("20 cm/Soil Temperature", "soil_temperature_20cm"),
            ("Air Temperature", "air_temperature"),
            ("Air-Temperature 2m", "air_temperature_200cm"),
            ("wind_speed/1.5 m", "wind_speed_150cm"),
            ("SOIL EC/50mm", "soil_ec_5cm"),
            ("Rain", "rain"),
            ("RSSI", "rssi"),
        ] {
            assert_eq!(mapped(channels.target(name, None)), Some((expected.to_owned(), 10.0)), "{name}");
        }
        assert_eq!(mapped(channels.target("Soil Moisture/20cm", Some("%"))), Some(("soil_moisture_20cm".into(), 0.1)));
        let wrong = channels.target("Soil Moisture/20cm", Some("kPa"));
        assert_eq!(wrong, Target::Unknown("soil_moisture_20cm".parse().ok()), "its values would be wrong");
    }

    #[test]
    fn what_it_may_be_is_proposed_and_not_mapped() {
        let channels = Channels::default();
        for (name, unit, expected) in [
            ("VWC_1/20cm", Some("%"), Some("soil_moisture_20cm")),
            ("Soil Moisture 30", None, Some("soil_moisture_30cm")),
            ("Temp", None, Some("air_temperature")),
            ("Battery", Some("%"), None),
            ("Flow", Some("L/min"), None),
            ("", None, None),
        ] {
            let expected = expected.map(|channel| channel.parse().unwrap());
            // A quantity in a unit that it does not have is proposed for itself: the unit must be told right.
            let expected = if name == "Battery" { "battery".parse().ok() } else { expected };
            assert_eq!(channels.target(name, unit), Target::Unknown(expected), "{name}");
        }
    }

    #[test]
    fn rules_come_first_in_their_order() {
        let ignored = ChannelRule { name: "Pump/*".into(), ignore: true, ..ChannelRule::default() };
        let channels = Channels::new(&[
            rule("Probe {n}/VWC {cm}", "soil_moisture_{cm}cm", Some("%")),
            rule("*/T{cm}", "soil_temperature_{cm}cm", None),
            ignored,
            rule("{q}@{cm}", "{q}_{cm}cm", None),
            rule(&literal("a*{b}"), "rain", None),
        ]);
        assert_eq!(mapped(channels.target("Probe 7/VWC 30", Some("m3/m3"))), Some(("soil_moisture_30cm".into(), 0.1)));
        assert_eq!(mapped(channels.target("a/b/T5", Some("K"))).unwrap().0, "soil_temperature_5cm");
        assert_eq!(channels.target("Pump/Soil Moisture/20cm", None), Target::Ignored);
        assert_eq!(mapped(channels.target("soil_ec@15", None)).unwrap().0, "soil_ec_15cm");
        assert_eq!(mapped(channels.target("a*{b}", None)).unwrap().0, "rain");
        assert_eq!(
            channels.target("Probe 7/VWC deep", None),
            Target::Unknown(Some("soil_moisture_7cm".parse().unwrap()))
        );
    }

    #[test]
    fn a_rule_may_be_for_some_and_may_say_a_line_or_a_counter() {
        let of = |of: &str, rule: ChannelRule| ChannelRule { of: Some(of.to_owned()), ..rule };
        let channels = Channels::new(&[
            of("LSE01 *", rule("temp", "soil_temperature_20cm", None)),
            of("a840*", rule("temp", "soil_temperature_40cm", None)),
            rule("temp", "air_temperature_200cm", None),
            ChannelRule { scale: Some(0.5), offset: Some(-1.0), ..rule("adc", "soil_ec_20cm", None) },
            ChannelRule { counter: true, ..rule("total", "rain", Some("in")) },
        ]);
        let found = |of: &[&str], name: &str| mapped(channels.find(of, name, Some("Cel")).target).unwrap();
        assert_eq!(found(&["b", "LSE01 v2"], "temp").0, "soil_temperature_20cm");
        assert_eq!(found(&["a84041", "LHT65"], "temp").0, "soil_temperature_40cm");
        assert_eq!(found(&["b", "LHT65"], "temp").0, "air_temperature_200cm");
        assert_eq!(mapped(channels.target("temp", None)).unwrap().0, "air_temperature_200cm");
        assert_eq!(found(&[], "adc"), ("soil_ec_20cm".to_owned(), 4.0));
        let rain = channels.find(&[], "total", None);
        assert!(rain.counter && mapped(rain.target) == Some(("rain".to_owned(), 254.0)), "{rain:?}");
        let said = |rule: ChannelRule| {
            let [(key, ..)] = rule.check()[..] else { panic!("{rule:?}: {:?}", rule.check()) };
            key
        };
        assert_eq!(said(of("{", rule("a", "rain", None))), "of");
        assert_eq!(said(ChannelRule { scale: Some(2.0), ..rule("a", "rain", Some("mm")) }), "unit");
        assert_eq!(said(ChannelRule { scale: Some(0.0), ..rule("a", "rain", None) }), "scale");
        assert_eq!(said(ChannelRule { offset: Some(f64::NAN), ..rule("a", "rain", None) }), "offset");
        assert_eq!(said(ChannelRule { counter: true, ..rule("a", "battery", None) }), "counter");
    }

    #[test]
    fn a_rule_that_cannot_be_is_named() {
        let said = |rule: ChannelRule| rule.check().swap_remove(0);
        assert_eq!(said(rule("", "rain", None)).0, "name");
        assert_eq!(said(rule("a{", "rain", None)).0, "name");
        assert_eq!(said(rule("{a-b}", "rain", None)).0, "name");
        assert_eq!(said(rule("a", "mud_20cm", None)).0, "channel");
        assert_eq!(said(rule("a{x}", "soil_moisture_{y}cm", None)).2, "made of captures that name has");
        assert_eq!(said(rule("a", "soil_moisture_20cm", Some("kPa"))).0, "unit");
        assert_eq!(said(ChannelRule { name: "a".into(), ..ChannelRule::default() }).0, "name");
        assert_eq!(rule("a{x}", "soil_moisture_{x}cm", Some("%")).check(), []);
    }

    #[test]
    fn all_that_is_wrong_with_a_rule_is_named_at_once() {
        let keys = |rule: ChannelRule| rule.check().into_iter().map(|(key, ..)| key).collect::<Vec<_>>();
        let everything = ChannelRule {
            of: Some("{".into()),
            scale: Some(0.0),
            offset: Some(f64::INFINITY),
            counter: true,
            ..rule("a", "soil_moisture_20cm", Some("kPa"))
        };
        assert_eq!(keys(everything.clone()), ["unit", "unit", "of", "scale", "offset", "counter"]);
        assert_eq!(keys(ChannelRule { channel: Some("mud".into()), ..everything })[..2], ["channel", "unit"]);
        let neither = ChannelRule { name: "{".into(), scale: Some(f64::NAN), ..ChannelRule::default() };
        assert_eq!(keys(neither), ["name", "name", "scale"]);
        let ignored = ChannelRule { name: "a".into(), ignore: true, of: Some(String::new()), ..ChannelRule::default() };
        assert_eq!(keys(ignored), ["of"]);
    }

    proptest! {
        #[test]
        fn no_name_and_no_pattern_is_too_much(name in ".{0,300}", pattern in ".{0,40}", unit in prop::option::of(".{0,8}")) {
            let channels = Channels::new(&[rule(&pattern, "soil_moisture_{x}cm", None)]);
            let _ = channels.target(&name, unit.as_deref());
            prop_assert!(captures(&super::pattern(&literal(&name)).unwrap_or_default(), &name).is_some() || name.is_empty() || name.chars().count() > 128);
        }
    }
}
