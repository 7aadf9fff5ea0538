//! Pages of what is listed by time, the newest first: where one ended, and how long one is.

use std::fmt;
use std::str::FromStr;

use proto::Timestamp;

use crate::database::SqlTime;

/// The longest id that a cursor holds, in bytes: above that of an event, which is made of five names of 64 characters.
const MOST_ID: usize = 1_500;

/// Where a page ended: time and id of its last item. Clients take it as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    at: Timestamp,
    id: String,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{}", self.at.as_millis(), self.id)
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(value: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "is not what a page gave as next";
        let (at, id) = value.split_once('~').ok_or(WRONG)?;
        if id.is_empty() || id.len() > MOST_ID || id.contains('\0') {
            return Err(WRONG);
        }
        Ok(Self { at: Timestamp::from_millis(at.parse().map_err(|_| WRONG)?), id: id.to_owned() })
    }
}

/// Which page is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Where the page before ended; none for the first.
    pub after: Option<Cursor>,
    /// How many items at most.
    pub limit: u32,
}

impl Page {
    /// The time of the last item of the page before, for a statement; null for the first page.
    pub(crate) fn at(&self) -> Option<SqlTime> {
        self.after.as_ref().map(|cursor| SqlTime(cursor.at))
    }

    /// Its id.
    pub(crate) fn id(&self) -> Option<&str> {
        self.after.as_ref().map(|cursor| cursor.id.as_str())
    }

    /// How many rows to read: one more than are given, which tells whether there is a next page.
    pub(crate) fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// Cuts the rows that were read to the page, and gives the cursor of the next one. `place` tells a row's time and id.
    pub(crate) fn cut<T>(&self, rows: &mut Vec<T>, place: impl Fn(&T) -> (SqlTime, &str)) -> Option<String> {
        let more = rows.len() > self.limit as usize;
        rows.truncate(self.limit as usize);
        let (at, id) = rows.last().filter(|_| more).map(place)?;
        Some(Cursor { at: at.0, id: id.to_owned() }.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let cursor = Cursor { at: Timestamp::from_millis(-5), id: "n1/-/silent/7~8".to_owned() };
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        for wrong in ["", "~", "7", "7~", "x~n1", "7~a\0b"] {
            assert!(wrong.parse::<Cursor>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_page_that_is_full_but_for_nothing_more_is_the_last() {
        let page = Page { after: None, limit: 2 };
        let next = |count: i64| {
            let mut rows: Vec<(i64, String)> = (0..count).map(|n| (n, format!("i{n}"))).collect();
            let next = page.cut(&mut rows, |(at, id)| (SqlTime(Timestamp::from_millis(*at)), id));
            (rows.len(), next)
        };
        assert_eq!(next(0), (0, None));
        assert_eq!(next(2), (2, None));
        assert_eq!(next(3), (2, Some("1~i1".to_owned())));
    }
}
