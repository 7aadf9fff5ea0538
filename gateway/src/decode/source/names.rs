//! From the names that a source gives its stations to ours. Pure.

use proto::StationId;
use proto::id::MAX_LENGTH;
use sha2::{Digest as _, Sha256};

/// Hexadecimal digits of a digest that tell apart what otherwise would be one name.
const DIGITS: usize = 10;

/// Whether a text may stand in a station's name.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.parse::<StationId>().is_ok()
}

/// The station that a source calls by `parts`: the prefix and the parts, with `--` between them.
///
/// Parts of `a-z`, `0-9`, `_` and single `-` stay as they are: `Common` prefix `gh-` and the parts `farm`, `edge-1` are
/// `gh-farm--edge-1`. In others, large letters become small ones and every other character a `-`, and the end is a `-` and
/// ten digits of the parts' SHA-256, so that no two are the same: `Farm A`, `edge/1` are `gh-farm-a--edge-1-` and digits. What is
/// longer than a name may be is cut, and ends so too. The same parts give the same name at every time and everywhere.
#[must_use]
pub fn station(prefix: &str, parts: &[&str]) -> StationId {
    let plain = parts.iter().all(|part| stays(part));
    let whole = format!("{prefix}{}", parts.iter().map(|part| slug(part)).collect::<Vec<_>>().join("--"));
    if plain && let Ok(station) = whole.parse() {
        return station;
    }
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    let digits: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let room = MAX_LENGTH - DIGITS - 1;
    let named = format!("{}-{}", &whole[..whole.len().min(room)], &digits[..DIGITS]);
    // A prefix that is no name would be refused by the configuration's check.
    named.parse().unwrap_or_else(|_| fallback(&digits))
}

fn fallback(digits: &str) -> StationId {
    digits[..DIGITS].parse().unwrap_or_else(|_| unreachable!("hexadecimal digits are a name"))
}

/// Whether a part needs no change and cannot be taken for two.
fn stays(part: &str) -> bool {
    is_name(part) && !part.starts_with('-') && !part.ends_with('-') && !part.contains("--")
}

fn slug(part: &str) -> String {
    let kept = |c: char| if matches!(c, 'a'..='z' | '0'..='9' | '_' | '-') { c } else { '-' };
    let slug: String = part.chars().map(|c| kept(c.to_ascii_lowercase())).collect();
    if stays(part) { slug } else { slug.trim_matches('-').replace("--", "-") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_stay_readable_and_apart() {
        assert_eq!(station("gh-", &["farm", "edge-1", "probe_7"]).as_str(), "gh-farm--edge-1--probe_7");
        let names = [
            station("gh-", &["farm", "edge"]),
            station("gh-", &["Farm", "edge"]),
            station("gh-", &["FARM", "edge"]),
            station("gh-", &["farm--edge"]),
            station("gh-", &["farm", "-edge"]),
            station("gh-", &["farm-", "edge"]),
            station("gh-", &["farm/edge"]),
            station("gh-", &["färm", "edge"]),
            station("gh-", &[&"x".repeat(100)]),
            station("gh-", &[&"x".repeat(101)]),
            station("gh-", &["", ""]),
            station("gh-", &[""]),
        ];
        assert!(names[1].as_str().starts_with("gh-farm--edge-") && names[1].as_str().len() == 24, "{}", names[1]);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        // They are in people's tables: they must never change.
        assert_eq!(station("gh-", &["Farm A", "Edge 1"]).as_str(), "gh-farm-a--edge-1-b30234f4ba");
    }

    proptest! {
        #[test]
        fn any_names_give_a_station_under_the_prefix(parts in prop::collection::vec(".*", 1..4)) {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let named = station("gh-", &parts);
            prop_assert!(named.as_str().starts_with("gh-"));
            prop_assert_eq!(&named, &station("gh-", &parts));
        }
    }
}
