//! A TOML text as a typed value: every key that is not known, every one that is missing and every value of another type is told at once.
//!
//! Serde stops at the first mistake. So that one is told and taken out of the text's tree, and the rest is read again, until
//! there is none.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use toml::{Table, Value};

use super::Problem;

/// So many mistakes are told; then reading ends.
const MOST_MISTAKES: usize = 100;
/// The longest value in a message, characters.
const MOST_SHOWN: usize = 60;

/// A step from a table or a list to what is in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Key(String),
    Index(usize),
}

/// A text that was read.
pub(super) struct Read<T> {
    /// What it says; what is wrong has its default. None where that is not possible.
    pub value: Option<T>,
    /// All its mistakes.
    pub problems: Vec<Problem>,
    /// The lists from which something was left out because it lacks what has no default.
    pub shorter: Vec<String>,
}

/// Reads a text. What is below the key `secrets` is not shown; the texts `needless` may be missing.
pub(super) fn read<T: DeserializeOwned>(path: &Path, text: &str, secrets: &str, needless: &[&str]) -> Read<T> {
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            return Read { value: None, problems: vec![Problem::toml(path, text, &error)], shorter: Vec::new() };
        }
    };
    let mut tree = Tree { root: Value::Table(table), taken: Vec::new(), given: BTreeMap::new() };
    let mut problems: Vec<Problem> = Vec::new();
    while problems.len() < MOST_MISTAKES {
        let error = match serde_path_to_error::deserialize::<_, T>(tree.root.clone()) {
            Ok(value) => return Read { value: Some(value), problems, shorter: tree.shorter() },
            Err(error) => error,
        };
        let at = tree.steps(error.path());
        let message = error.inner().message();
        let mut tell = |key: &[Step], problem: String| problems.push(Problem::new(path, &shown(key), problem));
        let goes_on = if let Some(name) = named(message, "missing field `") {
            let mut missing = at.clone();
            missing.push(Step::Key(name.to_owned()));
            let known = tree.original(&missing);
            let is_needless = at.is_empty() && needless.contains(&name);
            if !is_needless && !tree.taken.contains(&known) {
                tell(&known, "is missing".to_owned());
            }
            // Where nothing does for it, the table without it is taken out.
            tree.give(&missing) || tree.take(&at)
        } else if tree.given.contains_key(&tree.original(&at)) {
            tree.give(&at) || tree.take(&at[..at.len() - 1])
        } else {
            let mut at = at;
            // The key itself is not in the path of one in a table that was read as a whole.
            let unknown = named(message, "unknown field `").map(|name| Step::Key(name.to_owned()));
            if let Some(key) = unknown.filter(|key| at.last() != Some(key)) {
                at.push(key);
            }
            let known = tree.original(&at);
            let is_secret = known.first() == Some(&Step::Key(secrets.to_owned()));
            tell(&known, said(message, tree.at(&at), is_secret));
            tree.take(&at)
        };
        if !goes_on {
            break;
        }
    }
    Read { value: None, problems, shorter: tree.shorter() }
}

/// What a text holds, less what was wrong.
struct Tree {
    root: Value,
    /// Where that was, in the text itself.
    taken: Vec<Vec<Step>>,
    /// What was missing and is now made up, in the text itself; how many of [`made_up`] were tried.
    given: BTreeMap<Vec<Step>, usize>,
}

impl Tree {
    /// An error's path, as far as it is in the tree.
    fn steps(&self, path: &serde_path_to_error::Path) -> Vec<Step> {
        let mut steps = Vec::new();
        for segment in path {
            steps.push(match segment {
                Segment::Map { key } => Step::Key(key.clone()),
                Segment::Seq { index } => Step::Index(*index),
                Segment::Enum { .. } | Segment::Unknown => break,
            });
            if self.at(&steps).is_none() {
                steps.pop();
                break;
            }
        }
        steps
    }

    /// The same place in the text, in whose lists nothing is missing.
    fn original(&self, steps: &[Step]) -> Vec<Step> {
        let mut original = Vec::new();
        for step in steps {
            let step = match step {
                Step::Key(key) => Step::Key(key.clone()),
                Step::Index(index) => {
                    let is_there = |at: &usize| {
                        let place = [&original[..], &[Step::Index(*at)]].concat();
                        !self.taken.contains(&place)
                    };
                    Step::Index((0..).filter(is_there).nth(*index).unwrap_or(*index))
                }
            };
            original.push(step);
        }
        original
    }

    fn at(&self, steps: &[Step]) -> Option<&Value> {
        steps.iter().try_fold(&self.root, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        })
    }

    fn at_mut(&mut self, steps: &[Step]) -> Option<&mut Value> {
        steps.iter().try_fold(&mut self.root, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Index(index) => value.get_mut(index),
        })
    }

    /// The lists that are shorter than in the text.
    fn shorter(&self) -> Vec<String> {
        let lists = self.taken.iter().filter_map(|steps| match steps.split_last()? {
            (Step::Index(_), list) => Some(shown(list)),
            (Step::Key(_), _) => None,
        });
        lists.collect()
    }

    /// Takes something out; false when it is not there, or is everything.
    fn take(&mut self, steps: &[Step]) -> bool {
        let Some((last, above)) = steps.split_last() else { return false };
        let original = self.original(steps);
        let gone = match (self.at_mut(above), last) {
            (Some(Value::Table(table)), Step::Key(key)) => table.remove(key).is_some(),
            (Some(Value::Array(list)), Step::Index(index)) if *index < list.len() => {
                list.remove(*index);
                true
            }
            _ => false,
        };
        self.taken.push(original);
        gone
    }

    /// Puts something made up where something is missing, another thing each time; false when nothing is left to try, or it
    /// cannot be put there.
    fn give(&mut self, steps: &[Step]) -> bool {
        let original = self.original(steps);
        let tried = self.given.get(&original).copied().unwrap_or(0);
        let Some((Step::Key(key), above)) = steps.split_last() else { return false };
        let (Some(value), Some(Value::Table(table))) = (made_up(tried), self.at_mut(above)) else { return false };
        table.insert(key.clone(), value);
        self.given.insert(original, tried + 1);
        true
    }
}

/// What may do for a missing value.
fn made_up(tried: usize) -> Option<Value> {
    match tried {
        0 => Some(Value::String(String::new())),
        1 => Some(Value::Integer(1)),
        _ => None,
    }
}

/// A place as a message names it: `farm.fields[1].id`.
fn shown(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.push_str(&format!(".{key}")),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// The name behind a message's beginning.
fn named<'m>(message: &'m str, beginning: &str) -> Option<&'m str> {
    message.strip_prefix(beginning)?.split('`').next()
}

/// Serde's message in our words, with the value that it is about.
fn said(message: &str, value: Option<&Value>, is_secret: bool) -> String {
    let names = |text: &str| text.trim_start_matches("one of ").replace('`', "").replace(" or ", ", ");
    let (what, expected) = message.rsplit_once(", expected ").unwrap_or((message, ""));
    if what.starts_with("unknown field") {
        return format!("is not known; known are {}", names(expected));
    }
    let text = match value {
        _ if is_secret => "what is there".to_owned(),
        // A value within a table that was read as a whole.
        Some(Value::Table(_) | Value::Array(_)) | None if what.contains(['`', '"']) => {
            what[what.find(['`', '"']).unwrap_or(0)..].trim_matches('`').to_owned()
        }
        Some(value) => value.to_string().replace('\n', " "),
        None => "what is there".to_owned(),
    };
    let text = match text.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    };
    if what.starts_with("unknown variant") {
        return format!("{text} is not one of {}", names(expected));
    }
    if what.starts_with("invalid type") || what.starts_with("invalid value") {
        return format!("{text} is not {}", allowed(expected));
    }
    let message = message.replace('\n', ", ");
    match is_secret {
        true => format!("{text} is not allowed"),
        false if message.contains(text.trim_matches('"')) => message,
        false => format!("{text}: {message}"),
    }
}

/// What serde expects, in words.
fn allowed(expected: &str) -> String {
    match expected {
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" => "a whole number from 0 to 4294967295".to_owned(),
        "u64" | "usize" => "a whole number from 0".to_owned(),
        "i64" => "a whole number".to_owned(),
        "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" => "a text".to_owned(),
        "path string" => "a path".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a table".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other => other.to_owned(),
    }
}
