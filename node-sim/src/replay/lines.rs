//! A CSV file's rows, line by line, so that a quote that nobody closes spoils one line and not all that follow.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;

use csv::{ByteRecord, ReaderBuilder, Terminator};

/// The most lines of one row: a note in quotes may go over some.
const MOST_LINES: usize = 32;
/// The longest line, bytes.
const MOST_BYTES: u64 = 1 << 20;

/// A file that is read.
pub(super) struct Lines {
    file: BufReader<File>,
    delimiter: u8,
    /// Lines that were read and not yet used.
    ahead: VecDeque<Vec<u8>>,
    /// How many were used.
    used: u64,
}

/// A row's fields, without the space around them.
pub(super) struct Fields {
    /// The line in which it begins, from 1.
    pub line: u64,
    /// The index of the field in which a quote opens that does not close, in this row's first line.
    pub open: Option<usize>,
    record: ByteRecord,
}

impl Fields {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.record.len()
    }

    /// Whether a field goes over lines.
    pub fn breaks(&self, at: usize) -> bool {
        self.record.get(at).is_some_and(|bytes| bytes.contains(&b'\n'))
    }

    /// A field as text. What is not UTF-8 is taken for ISO 8859-1, in which each byte is a character.
    pub fn text(&self, at: usize) -> String {
        let bytes = self.record.get(at).unwrap_or_default();
        let text =
            str::from_utf8(bytes).map_or_else(|_| bytes.iter().map(|&byte| char::from(byte)).collect(), str::to_owned);
        text.trim().to_owned()
    }
}

impl Lines {
    pub fn new(file: File, delimiter: u8) -> Self {
        Self { file: BufReader::new(file), delimiter, ahead: VecDeque::new(), used: 0 }
    }

    /// The fields of the next row: a line that is not blank, or as many as its quotes go over, where `fits` says so of their
    /// fields and none of them is a row by itself, as `is_row` says. Else they are those of the line alone. None at the end.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is longer than a mebibyte.
    pub fn next(
        &mut self,
        fits: impl Fn(&Fields) -> bool,
        is_row: impl Fn(&Fields) -> bool,
    ) -> io::Result<Option<Fields>> {
        loop {
            if !self.fetch(1)? {
                return Ok(None);
            }
            let line = self.used + 1;
            let Some((record, open)) = self.parse(0..1)? else {
                self.take(1);
                continue;
            };
            let alone = Fields { line, open: open.then(|| record.len() - 1), record };
            if open {
                for lines in 2..=MOST_LINES {
                    if !self.fetch(lines)? {
                        break;
                    }
                    if let Some((record, false)) = self.parse(lines - 1..lines)?
                        && is_row(&Fields { line, open: None, record })
                    {
                        break;
                    }
                    let Some((record, false)) = self.parse(0..lines)? else { continue };
                    let joined = Fields { line, open: None, record };
                    if !fits(&joined) {
                        break;
                    }
                    self.take(lines);
                    return Ok(Some(joined));
                }
            }
            self.take(1);
            return Ok(Some(alone));
        }
    }

    /// Passes over this line and all before it.
    ///
    /// # Errors
    /// As for [`Self::next`].
    pub fn skip_to(&mut self, line: u64) -> io::Result<()> {
        while self.used < line && self.fetch(1)? {
            self.take(1);
        }
        Ok(())
    }

    fn take(&mut self, lines: usize) {
        self.ahead.drain(..lines);
        self.used += lines as u64;
    }

    /// Reads until so many lines are ahead; false when there are fewer.
    fn fetch(&mut self, lines: usize) -> io::Result<bool> {
        while self.ahead.len() < lines {
            let mut line = Vec::new();
            let mut limited = io::Read::take(&mut self.file, MOST_BYTES);
            if limited.read_until(b'\n', &mut line)? == 0 {
                return Ok(false);
            }
            if !line.ends_with(b"\n") {
                if line.len() as u64 == MOST_BYTES {
                    let number = self.used + self.ahead.len() as u64 + 1;
                    return Err(io::Error::other(format!("line {number} is longer than {MOST_BYTES} bytes")));
                }
                line.push(b'\n');
            }
            self.ahead.push_back(line);
        }
        Ok(true)
    }

    /// The fields of some of the lines ahead as one row, and whether a quote is still open; none of blank lines.
    fn parse(&self, lines: Range<usize>) -> io::Result<Option<(ByteRecord, bool)>> {
        let text: Vec<u8> = self.ahead.range(lines).flatten().copied().collect();
        if text.trim_ascii().is_empty() {
            return Ok(None);
        }
        let mut builder = ReaderBuilder::new();
        builder.has_headers(false).delimiter(self.delimiter).buffer_capacity(text.len());
        builder.terminator(Terminator::Any(b'\n'));
        let mut record = ByteRecord::new();
        builder.from_reader(&text[..]).read_byte_record(&mut record)?;
        // A line's end inside of a field: its quotes have not closed.
        let open = record.iter().next_back().is_some_and(|field| field.ends_with(b"\n"));
        Ok(Some((record, open)))
    }
}
