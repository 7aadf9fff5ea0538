//! Topics with captures: `farm/{site}/{probe}/up`.

use std::collections::BTreeMap;

/// The longest topic, in bytes.
const MAX_TOPIC: usize = 512;

/// A topic whose levels are text, `{capture}`, `+`, or a `#` at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTemplate {
    levels: Vec<Level>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Text(String),
    Capture(String),
    Any,
    Rest,
}

impl TopicTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// What is expected instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || "a topic, with {captures} for whole levels, + and a last #".to_owned();
        if text.is_empty() || text.len() > MAX_TOPIC || text.starts_with('$') || text.contains('\0') {
            return Err(expected());
        }
        let mut levels = Vec::new();
        for level in text.split('/') {
            if levels.last() == Some(&Level::Rest) {
                return Err(expected());
            }
            let capture = level.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            levels.push(match (level, capture) {
                ("+", _) => Level::Any,
                ("#", _) => Level::Rest,
                (_, Some(name)) if is_name(name) => Level::Capture(name.to_owned()),
                (text, None) if !text.contains(['+', '#', '{', '}']) => Level::Text(text.to_owned()),
                _ => return Err(expected()),
            });
        }
        let template = Self { levels };
        let mut names = template.names();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("a topic with {{{}}} once", pair[0])),
            None => Ok(template),
        }
    }

    /// The names of its captures.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let name = |level: &'_ Level| matches!(level, Level::Capture(_));
        self.levels.iter().filter(|level| name(level)).map(Level::text).collect()
    }

    /// It as an MQTT filter.
    #[must_use]
    pub fn filter(&self) -> String {
        let levels: Vec<&str> = self
            .levels
            .iter()
            .map(|level| if matches!(level, Level::Capture(_)) { "+" } else { level.text() })
            .collect();
        levels.join("/")
    }

    /// What its captures stand for in a topic; none when the topic is not of its form.
    #[must_use]
    pub fn captures<'a>(&'a self, topic: &'a str) -> Option<BTreeMap<&'a str, &'a str>> {
        let mut captures = BTreeMap::new();
        let mut levels = topic.split('/');
        for expected in &self.levels {
            match (expected, levels.next()) {
                (Level::Rest, _) => return Some(captures),
                (Level::Text(text), Some(level)) if text == level => {}
                (Level::Any, Some(_)) => {}
                (Level::Capture(name), Some(level)) if !level.is_empty() => drop(captures.insert(name.as_str(), level)),
                _ => return None,
            }
        }
        levels.next().is_none().then_some(captures)
    }
}

impl Level {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Capture(text) => text,
            Self::Any => "+",
            Self::Rest => "#",
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_are_whole_levels() {
        let template = TopicTemplate::parse("farm/{site}/{probe}/up").unwrap();
        assert_eq!(template.filter(), "farm/+/+/up");
        assert_eq!(template.captures("farm/a/b/up"), Some(BTreeMap::from([("site", "a"), ("probe", "b")])));
        for topic in ["farm/a/up", "farm/a/b/up/x", "farm/a/b/down", "farm//b/up", "", "Farm/a/b/up"] {
            assert_eq!(template.captures(topic), None, "{topic}");
        }
        let rest = TopicTemplate::parse("+/{x}/#").unwrap();
        assert_eq!(rest.filter(), "+/+/#");
        assert_eq!(rest.captures("a/b"), Some(BTreeMap::from([("x", "b")])));
        assert_eq!(rest.captures("a/b/c/d"), Some(BTreeMap::from([("x", "b")])));
    }

    #[test]
    fn what_is_no_topic_is_refused() {
        for text in ["", "a/#/b", "a/{x", "a/{}", "a/x{y}", "a/b+", "{x}/{x}", "$SYS/x", "a\0", "{a b}"] {
            assert!(TopicTemplate::parse(text).is_err(), "{text}");
        }
    }
}
