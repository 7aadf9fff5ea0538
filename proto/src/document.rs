//! TOML from people's hands: everything that is wrong with a text is said at once, with its line, key and value.
//!
//! [`read`] reads a text whose type says everything. Where it depends on one entry of a table what the others may be, the
//! text is read in [`Section`]s.

use std::fmt;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

/// The most that is said of one text.
const MOST: usize = 100;
/// How many characters of a value are shown.
const SHOWN: usize = 80;

/// Something in a text that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The line, counted from 1; none when the text as a whole is meant.
    pub line: Option<usize>,
    /// The key with its tables, like `windows.length_s` or `source[0].kind`; empty when the text is no TOML there.
    pub key: String,
    /// What stands there, cut to a length; empty when nothing does.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        match (self.key.as_str(), self.value.as_str()) {
            ("", "") => {}
            ("", value) => write!(f, "{value:?}: ")?,
            (key, "") => write!(f, "{key}: ")?,
            (key, value) => write!(f, "{key} = {value}: ")?,
        }
        f.write_str(&self.problem)
    }
}

/// A text that cannot be read as a whole.
#[derive(Debug)]
pub struct Unread<T> {
    /// Every mistake, in the order of their lines; at least one.
    pub mistakes: Vec<Mistake>,
    /// What could be read without them, to look for more that is wrong; what was missing is something made up.
    pub rest: Option<T>,
}

/// Reads a text. A wrong value is noted and left out, and the rest read again, until all mistakes are known.
///
/// # Errors
/// Every mistake.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Unread<T>> {
    Section::parse(text).map_err(|mistakes| Unread { mistakes, rest: None })?.read()
}

/// A text, or some entries of one of its tables, to be read by itself. Its mistakes have the lines and keys of the whole text.
#[derive(Debug, Clone)]
pub struct Section<'i> {
    text: &'i str,
    /// Where its table is in the text.
    path: Vec<Step>,
    table: Spanned<DeTable<'i>>,
}

impl<'i> Section<'i> {
    /// A whole text.
    ///
    /// # Errors
    /// Every line that is no TOML.
    pub fn parse(text: &'i str) -> Result<Self, Vec<Mistake>> {
        let (table, malformed) = DeTable::parse_recoverable(text);
        if malformed.is_empty() {
            return Ok(Self { text, path: Vec::new(), table });
        }
        // What follows from a slip of the pen on the same line says nothing new.
        let mut mistakes: Vec<Mistake> = malformed.iter().take(MOST).map(|error| syntax(text, error)).collect();
        mistakes.sort_by_key(|mistake| mistake.line);
        mistakes.dedup_by_key(|mistake| mistake.line);
        Err(mistakes)
    }

    /// Takes the tables of `[[key]]` out. What stands there and is no array of tables stays.
    pub fn take_tables(&mut self, key: &str) -> Vec<Self> {
        let is_table = |item: &Spanned<DeValue<'_>>| matches!(item.get_ref(), DeValue::Table(_));
        let table = self.table.get_mut();
        if !matches!(table.get(key).map(Spanned::get_ref), Some(DeValue::Array(items)) if items.iter().all(is_table)) {
            return Vec::new();
        }
        let Some(DeValue::Array(items)) = table.remove(key).map(Spanned::into_inner) else { return Vec::new() };
        let part = |(index, item): (usize, Spanned<DeValue<'i>>)| {
            let (span, path) =
                (item.span(), [&self.path[..], &[Step::Key(key.to_owned()), Step::Index(index)]].concat());
            match item.into_inner() {
                DeValue::Table(table) => Some(Self { text: self.text, path, table: Spanned::new(span, table) }),
                _ => None,
            }
        };
        items.into_iter().enumerate().filter_map(part).collect()
    }

    /// Takes the entries of some keys out.
    #[must_use]
    pub fn take(&mut self, keys: &[&str]) -> Self {
        let span = self.table.span();
        let (taken, left) = std::mem::take(self.table.get_mut())
            .into_iter()
            .partition(|(key, _)| keys.contains(&key.get_ref().as_ref()));
        *self.table.get_mut() = left;
        Self { text: self.text, path: self.path.clone(), table: Spanned::new(span, taken) }
    }

    /// Reads it, as [`read`] does.
    ///
    /// # Errors
    /// Every mistake.
    pub fn read<T: DeserializeOwned>(mut self) -> Result<T, Unread<T>> {
        let mut mistakes = Vec::new();
        let mut fillings = Vec::new();
        let mut rest = None;
        // Each round takes an entry out, or tries another filling, of which there are few.
        while mistakes.len() < MOST {
            let error = match T::deserialize(Deserializer::from(self.table.clone())) {
                Ok(read) if mistakes.is_empty() => return Ok(read),
                Ok(read) => {
                    rest = Some(read);
                    break;
                }
                Err(error) => error,
            };
            if !self.note(&error, &mut mistakes, &mut fillings) {
                break;
            }
        }
        mistakes.sort_by_key(|mistake| mistake.line);
        Err(Unread { mistakes, rest })
    }

    /// Says what is wrong, and takes it out of the table or puts in what is missing. False when neither can be done.
    fn note(&mut self, error: &toml::de::Error, mistakes: &mut Vec<Mistake>, fillings: &mut Vec<Filling>) -> bool {
        let text = self.text;
        let problem = one_line(error.message());
        let span = error.span().unwrap_or(0..0);
        let key = |path: &[Step]| path_text(&[&self.path, path].concat());
        if let Some(missing) = problem.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
            let holder = find_table(self.table.get_ref(), &span);
            // Of a whole text there is no line to name.
            let own = || (!self.path.is_empty()).then_some(self.table.span().start);
            let line = holder.as_ref().map_or_else(own, |(_, start)| Some(*start)).filter(|start| *start < text.len());
            let mut path = holder.map(|(path, _)| path).unwrap_or_default();
            path.push(Step::Key(missing.to_owned()));
            let (line, key) = (line.map(|at| line_of(text, at)), key(&path));
            // It may be missing only because a wrong one was taken out, or in what was put in.
            let is_told = mistakes.iter().any(|mistake| mistake.key == key)
                || fillings.iter().any(|filling| path.starts_with(&filling.path));
            if !is_told {
                let problem = "is missing".to_owned();
                mistakes.push(Mistake { line, key: key.clone(), value: String::new(), problem });
            }
            let index = fillings.len();
            fillings.push(Filling { path, key, tried: 0 });
            return fill(text, &mut self.table, fillings, index);
        }
        // A filling stands behind the end of the text.
        if let Some(index) = span.start.checked_sub(text.len() + 1).filter(|index| *index < fillings.len()) {
            let missing = mistakes
                .iter_mut()
                .find(|mistake| mistake.key == fillings[index].key && mistake.problem == "is missing");
            if let (Some(mistake), Some((_, expected))) = (missing, problem.split_once("`, expected ")) {
                mistake.problem = format!("is missing, expected {expected}");
            }
            return fill(text, &mut self.table, fillings, index);
        }
        let Some(found) = find(self.table.get_ref(), &span) else {
            mistakes.push(Mistake { line: None, key: String::new(), value: String::new(), problem });
            return false;
        };
        let value = if found.is_table { "" } else { text.get(found.value.clone()).unwrap_or_default() };
        let (line, key) = (Some(line_of(text, found.start)), key(&found.path));
        mistakes.push(Mistake { line, key, value: shown(value), problem });
        remove(self.table.get_mut(), &found.path)
    }
}

/// What stands in the place of a key that is missing, so that the rest can be read.
struct Filling {
    path: Vec<Step>,
    /// The same as it is told, from the beginning of the text.
    key: String,
    /// How many of [`fillings_of`] were tried.
    tried: usize,
}

/// The values that are tried for a missing key, of each type one.
fn fillings_of<'i>(place: usize) -> [DeValue<'i>; 5] {
    let integer = DeTable::parse("x = 1").ok().and_then(|mut table| table.get_mut().remove("x"));
    let integer = integer.map_or(DeValue::Boolean(true), |value| value.into_inner());
    let text = format!("missing{place}");
    [
        DeValue::String(text.into()),
        integer,
        DeValue::Boolean(true),
        DeValue::Array(DeArray::new()),
        DeValue::Table(DeTable::new()),
    ]
}

/// The line of a place in a text, counted from 1; none behind its end, where what was made up for a missing value is.
#[must_use]
pub fn line_at(text: &str, at: usize) -> Option<usize> {
    (at < text.len()).then(|| line_of(text, at))
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

fn shown(text: &str) -> String {
    let text = text.trim();
    let mut shown: String = text.chars().take(SHOWN).collect::<String>().replace('\n', " ");
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

fn one_line(message: &str) -> String {
    message.trim_end().replace('\n', " ")
}

fn syntax(text: &str, error: &toml::de::Error) -> Mistake {
    let line = error.span().map(|span| line_of(text, span.start));
    let value = line.and_then(|line| text.lines().nth(line - 1)).map(shown).unwrap_or_default();
    Mistake { line, key: String::new(), value, problem: one_line(error.message()) }
}

/// Puts the next value in the place of a missing key; false when all were tried.
fn fill<'i>(text: &str, document: &mut Spanned<DeTable<'i>>, fillings: &mut [Filling], index: usize) -> bool {
    let Some(filling) = fillings.get_mut(index) else { return false };
    let Some(value) = fillings_of(index).into_iter().nth(filling.tried) else { return false };
    filling.tried += 1;
    let place = text.len() + 1 + index;
    let span = place..place + 1;
    let Some((Step::Key(key), tables)) = filling.path.split_last() else { return false };
    let Some(table) = table_at(document.get_mut(), tables) else { return false };
    table.remove(key.as_str());
    table.insert(Spanned::new(span.clone(), key.clone().into()), Spanned::new(span, value));
    true
}

fn table_at<'a, 'i>(table: &'a mut DeTable<'i>, path: &[Step]) -> Option<&'a mut DeTable<'i>> {
    let Some((Step::Key(key), mut rest)) = path.split_first() else { return Some(table) };
    let mut value = table.get_mut(key.as_str())?.get_mut();
    while let Some((Step::Index(index), further)) = rest.split_first() {
        let DeValue::Array(items) = value else { return None };
        value = item_of(items, *index)?;
        rest = further;
    }
    match value {
        DeValue::Table(table) => table_at(table, rest),
        _ => None,
    }
}

/// A step from a table to what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

fn path_text(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Step::Index(index) => {
                text.push('[');
                text.push_str(&index.to_string());
                text.push(']');
            }
        }
    }
    text
}

/// An entry of the document.
struct Found {
    path: Vec<Step>,
    /// Where its line is.
    start: usize,
    value: Range<usize>,
    is_table: bool,
}

/// The entry whose key or value stands at `span`, or else the smallest that holds it.
fn find(table: &DeTable<'_>, span: &Range<usize>) -> Option<Found> {
    let mut best: Option<(usize, Found)> = None;
    visit(table, &mut Vec::new(), &mut |path, start, key, value, content| {
        let holds = |range: &Range<usize>| !range.is_empty() && range.start <= span.start && span.end <= range.end;
        let size = match (key.filter(|key| *key == span), holds(&value)) {
            (Some(_), _) => 0,
            (None, true) => value.len(),
            (None, false) => return,
        };
        if best.as_ref().is_none_or(|(smallest, _)| size <= *smallest) {
            let is_table = matches!(content, DeValue::Table(_));
            best = Some((size, Found { path: path.to_vec(), start, value, is_table }));
        }
    });
    best.map(|(_, found)| found)
}

/// The table of exactly this span; none when it is the whole document.
fn find_table(table: &DeTable<'_>, span: &Range<usize>) -> Option<(Vec<Step>, usize)> {
    let mut found = None;
    visit(table, &mut Vec::new(), &mut |path, start, _, value, content| {
        if matches!(content, DeValue::Table(_)) && value == *span {
            found = Some((path.to_vec(), start));
        }
    });
    found
}

type Visitor<'v> = dyn FnMut(&[Step], usize, Option<&Range<usize>>, Range<usize>, &DeValue<'_>) + 'v;

fn visit(table: &DeTable<'_>, path: &mut Vec<Step>, visitor: &mut Visitor<'_>) {
    for (key, value) in table {
        path.push(Step::Key(key.get_ref().to_string()));
        visitor(path, key.span().start, Some(&key.span()), value.span(), value.get_ref());
        visit_value(value.get_ref(), path, visitor);
        path.pop();
    }
}

fn visit_value(value: &DeValue<'_>, path: &mut Vec<Step>, visitor: &mut Visitor<'_>) {
    match value {
        DeValue::Table(table) => visit(table, path, visitor),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(Step::Index(index));
                visitor(path, item.span().start, None, item.span(), item.get_ref());
                visit_value(item.get_ref(), path, visitor);
                path.pop();
            }
        }
        _ => {}
    }
}

/// Takes an entry out; true when it was there. An array keeps the places of its other items.
fn remove(table: &mut DeTable<'_>, path: &[Step]) -> bool {
    let Some((Step::Key(key), rest)) = path.split_first() else { return false };
    if rest.is_empty() {
        return table.remove(key.as_str()).is_some();
    }
    let Some(value) = table.get_mut(key.as_str()) else { return false };
    let gone = remove_from(value.get_mut(), rest);
    // An array without the wrong item is another array; so the whole goes.
    if gone { true } else { table.remove(key.as_str()).is_some() }
}

fn remove_from(value: &mut DeValue<'_>, path: &[Step]) -> bool {
    match (value, path) {
        (DeValue::Table(table), path) => remove(table, path),
        (DeValue::Array(items), [Step::Index(index), rest @ ..]) if !rest.is_empty() => {
            item_of(items, *index).is_some_and(|item| remove_from(item, rest))
        }
        _ => false,
    }
}

fn item_of<'a, 'i>(items: &'a mut DeArray<'i>, index: usize) -> Option<&'a mut DeValue<'i>> {
    items.get_mut(index).map(Spanned::get_mut)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Whole {
        name: String,
        size: u32,
        #[serde(default)]
        part: Part,
        #[serde(default)]
        list: Vec<Part>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Part {
        #[serde(default)]
        length: u8,
        #[serde(default)]
        kind: Kind,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        #[default]
        Round,
        Square,
    }

    fn said(text: &str) -> Vec<String> {
        read::<Whole>(text).unwrap_err().mistakes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_text_is_read() {
        let whole: Whole = read("name = \"a\"\nsize = 3\n[part]\nkind = \"square\"\n").unwrap();
        assert_eq!(whole.part, Part { length: 0, kind: Kind::Square });
    }

    #[test]
    fn every_mistake_is_said_at_once_with_line_key_and_value() {
        let text = "size = -1\ncolour = \"red\"\n\n[part]\nlength = \"long\"\nkind = \"oval\"\n\n\
                    [[list]]\nlength = 1\n[[list]]\nlength = 300\nwidth = 2\n";
        assert_eq!(
            said(text),
            [
                "name: is missing",
                "line 1: size = -1: invalid value: integer `-1`, expected u32",
                "line 2: colour = \"red\": unknown field `colour`, expected one of `name`, `size`, `part`, `list`",
                "line 5: part.length = \"long\": invalid type: string \"long\", expected u8",
                "line 6: part.kind = \"oval\": unknown variant `oval`, expected `round` or `square`",
                "line 11: list[1].length = 300: invalid value: integer `300`, expected u8",
                "line 12: list[1].width = 2: unknown field `width`, expected `length` or `kind`",
            ]
        );
    }

    #[test]
    fn what_is_right_can_still_be_looked_at() {
        let unread = read::<Whole>("size = 7\ncolour = 1\n[part]\nlength = 5\n").unwrap_err();
        let rest = unread.rest.unwrap();
        assert_eq!((unread.mistakes.len(), rest.size, rest.part.length), (2, 7, 5));
    }

    #[test]
    fn a_text_that_is_no_toml_says_where() {
        let said = said("name = \"a\nsize = 3\n[part\nlength = = 2\n");
        assert!(said[0].starts_with("line 1: \"name = \\\"a\": "), "{said:?}");
        assert!(said.iter().any(|mistake| mistake.starts_with("line 4: \"length = = 2\": ")), "{said:?}");
    }

    #[test]
    fn a_missing_key_of_any_type_does_not_hide_the_others() {
        assert_eq!(
            said("[part]\nlength = true\n"),
            [
                "name: is missing",
                "size: is missing",
                "line 2: part.length = true: invalid type: boolean `true`, expected u8",
            ]
        );
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Which {
        #[serde(rename = "kind")]
        _kind: Kind,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Length {
        #[serde(rename = "length")]
        _length: u8,
    }

    #[test]
    fn a_table_whose_keys_depend_on_its_kind_is_read_in_sections() {
        let text = "name = \"a\"\nsize = 1\n[[list]]\nkind = \"round\"\nlength = 1\n[[list]]\nlength = \"long\"\ncolour = 1\n\n\
                    [[list]]\nkind = \"oval\"\n";
        let mut whole = Section::parse(text).unwrap();
        let mut mistakes = Vec::new();
        for mut table in whole.take_tables("list") {
            let which = table.take(&["kind"]).read::<Which>();
            mistakes.extend(which.err().into_iter().flat_map(|unread| unread.mistakes));
            mistakes.extend(table.read::<Length>().err().into_iter().flat_map(|unread| unread.mistakes));
        }
        let said: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "line 6: list[1].kind: is missing, expected `round` or `square`",
                "line 7: list[1].length = \"long\": invalid type: string \"long\", expected u8",
                "line 8: list[1].colour = 1: unknown field `colour`, expected `length`",
                "line 11: list[2].kind = \"oval\": unknown variant `oval`, expected `round` or `square`",
                "line 10: list[2].length: is missing",
            ]
        );
        assert!(whole.read::<Whole>().unwrap().list.is_empty(), "they were taken out");

        let mut other = Section::parse("name = \"a\"\nsize = 1\nlist = 5\n").unwrap();
        assert!(other.take_tables("list").is_empty());
        let mistakes = other.read::<Whole>().unwrap_err().mistakes;
        assert_eq!(mistakes[0].to_string(), "line 3: list = 5: invalid type: integer `5`, expected a sequence");
    }
}
