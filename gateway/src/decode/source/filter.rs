//! MQTT topic filters: what matches a topic, what two have in common, what lies within another. Pure.
//!
//! Filters are well formed: `+` alone in its level, `#` alone in the last.

/// What is expected of a filter in the configuration.
pub const EXPECTED: &str = "an MQTT filter: + alone in its level, # alone in the last, and no $ at the beginning";

/// Whether a text is a filter that a source may have.
#[must_use]
pub fn is_filter(text: &str) -> bool {
    let plain = |level: &str| !level.contains(['+', '#']);
    let (before, last) = text.rsplit_once('/').map_or((None, text), |(before, last)| (Some(before), last));
    !text.is_empty()
        && text.len() <= 512
        && !text.starts_with('$')
        && !text.contains('\0')
        && (matches!(last, "+" | "#") || plain(last))
        && before.is_none_or(|before| before.split('/').all(|level| level == "+" || plain(level)))
}

/// Whether `topic` matches `filter` (MQTT 3.1.1, 4.7.1). A wildcard at the beginning does not match what begins with `$`.
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut topic = topic.split('/');
    for level in filter.split('/') {
        match (level, topic.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(other)) if level == other => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

/// Whether some topic matches both.
#[must_use]
pub fn meet(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(x), Some(y)) if x == y || x == "+" || y == "+" => {}
            _ => return false,
        }
    }
}

/// Whether every topic that matches `inner` matches `outer`.
#[must_use]
pub fn covers(outer: &str, inner: &str) -> bool {
    let (mut outer, mut inner) = (outer.split('/'), inner.split('/'));
    loop {
        match (outer.next(), inner.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some(_), Some("#")) => return false,
            (Some("+"), Some(_)) => {}
            (Some(x), Some(y)) if x == y => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a/", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a", true),
            ("#", "$SYS/a", false),
            ("+/a", "$SYS/a", false),
            ("A/b", "a/b", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn filters_are_well_formed() {
        for text in ["a", "a/+/b", "+", "#", "a/#", "/a", "a//b"] {
            assert!(is_filter(text), "{text}");
        }
        for text in ["", "a/#/b", "a+", "a/b#", "$SYS/#", "a\0"] {
            assert!(!is_filter(text), "{text}");
        }
    }

    #[test]
    fn filters_meet_and_cover() {
        for (outer, inner, meets, covering) in [
            ("spBv1.0/#", "spBv1.0/G/NCMD/E", true, true),
            ("spBv1.0/G/+/E/#", "spBv1.0/G/NCMD/E", true, true),
            ("spBv1.0/G/+/E/#", "spBv1.0/+/NCMD/E", true, false),
            ("spBv1.0/G/+/E", "spBv1.0/G/#", true, false),
            ("spBv1.0/G/+/E", "spBv1.0/G/+/E", true, true),
            ("spBv1.0/G/+/E", "#", true, false),
            ("a/b", "a/c", false, false),
            ("a/+", "a", false, false),
            ("a/#", "a", true, true),
            ("+", "a", true, true),
        ] {
            assert_eq!(meet(outer, inner), meets, "{outer} {inner}");
            assert_eq!(meet(inner, outer), meets, "{inner} {outer}");
            assert_eq!(covers(outer, inner), covering, "{outer} {inner}");
        }
    }
}
