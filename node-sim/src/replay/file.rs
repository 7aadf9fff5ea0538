//! One CSV file: its header against the configuration, its rows into readings, and what of them cannot be read.

use std::collections::BTreeMap;
use std::fs::File;

use proto::units::Conversion;
use proto::{Channel, StationId, Timestamp};

use super::lines::{Fields, Lines};
use super::time::TimeFormat;
use super::{BadRow, Column, Played, ReplayFile, Skipped};
use crate::config::Problem;

/// The most readings of all files: 16 bytes each, so some 300 MB.
const MOST_READINGS: usize = 20_000_000;
/// The largest value in a quantity's unit that is taken for one: what the wire carries with all decimals.
const MOST_VALUE: f64 = 1e9;

pub(super) fn comma() -> char {
    ','
}

pub(super) fn point() -> char {
    '.'
}

pub(super) fn first() -> u32 {
    1
}

/// A row: where its values are, and where it came from.
#[derive(Debug, Clone)]
struct Row {
    time: Timestamp,
    station: usize,
    from: usize,
    to: usize,
    file: usize,
    line: u64,
}

/// The rows of all files.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    /// The stations, in the order in which they came, and once sorted in that of their names.
    names: Vec<StationId>,
    rows: Vec<Row>,
    values: Vec<(Channel, f64)>,
}

impl Rows {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn time(&self, row: usize) -> Timestamp {
        self.rows[row].time
    }

    pub fn station(&self, row: usize) -> usize {
        self.rows[row].station
    }

    pub fn values(&self, row: usize) -> &[(Channel, f64)] {
        &self.values[self.rows[row].from..self.rows[row].to]
    }

    /// The index of the first row after a time.
    pub fn first_after(&self, time: Timestamp) -> usize {
        self.rows.partition_point(|row| row.time <= time)
    }

    /// Puts the rows in the order of time and of the stations' names, and makes one of those of one station and time.
    pub fn sort(&mut self, files: &[ReplayFile], skipped: &mut Skipped) {
        let mut order: Vec<usize> = (0..self.names.len()).collect();
        order.sort_by(|a, b| self.names[*a].cmp(&self.names[*b]));
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(new, &old)| place[old] = new);
        self.names.sort();
        for row in &mut self.rows {
            row.station = place[row.station];
        }
        self.rows.sort_by_key(|row| (row.time, row.station, row.file, row.line));
        let (mut rows, mut values) = (Vec::<Row>::new(), Vec::with_capacity(self.values.len()));
        // The file and the line of each value of the last row.
        let mut origins: Vec<(usize, u64)> = Vec::new();
        for row in std::mem::take(&mut self.rows) {
            let same = rows.last().is_some_and(|last| (last.time, last.station) == (row.time, row.station));
            if !same {
                rows.push(Row { from: values.len(), to: values.len(), ..row.clone() });
                origins.clear();
            }
            let Some(last) = rows.last_mut() else { continue };
            for &(channel, value) in &self.values[row.from..row.to] {
                if let Some(earlier) = values[last.from..].iter().position(|(other, _)| *other == channel) {
                    let (at, line) = origins[earlier];
                    let of = if at == row.file { String::new() } else { format!(" of {:?}", files[at].path) };
                    let station = &self.names[row.station];
                    let problem =
                        format!("{channel} of {station} has a value of {} already, in line {line}{of}", row.time);
                    let ReplayFile { path, columns, .. } = &files[row.file];
                    let column = columns.iter().find(|column| column.channel == channel);
                    let column = column.map(|column| column.name.clone());
                    skipped.value(BadRow { file: path.clone(), line: row.line, column, problem });
                } else {
                    values.push((channel, value));
                    origins.push((row.file, row.line));
                }
            }
            last.to = values.len();
        }
        (self.rows, self.values) = (rows, values);
    }

    /// The stations with what the files and the configuration say of them.
    pub fn stations(&self, files: &[ReplayFile]) -> Vec<Played> {
        let mut times = vec![Vec::new(); self.names.len()];
        let mut channels = vec![Vec::new(); self.names.len()];
        let mut first = vec![None; self.names.len()];
        for (at, row) in self.rows.iter().enumerate() {
            times[row.station].push(row.time);
            first[row.station].get_or_insert(row.file);
            for (channel, _) in self.values(at) {
                if !channels[row.station].contains(channel) {
                    channels[row.station].push(*channel);
                }
            }
        }
        for channels in &mut channels {
            channels.sort_unstable();
        }
        let played = |(at, id): (usize, &StationId)| {
            let file = first[at].map(|file: usize| &files[file]);
            Played {
                id: id.clone(),
                channels: channels[at].clone(),
                interval_s: usual_interval_s(&times[at]),
                field: file.and_then(|file| file.field.clone()),
                position: file.and_then(ReplayFile::position),
            }
        };
        self.names.iter().enumerate().map(played).collect()
    }

    /// After which rows the station reports: the last one before each multiple of `report_s` of farm time.
    pub fn reports(&self, report_s: u32, shift_ms: i64) -> Vec<bool> {
        let window = |time: Timestamp| time.plus_millis(shift_ms - 1).floor_to(report_s);
        let mut next: Vec<Option<Timestamp>> = vec![None; self.names.len()];
        let mut reports = vec![true; self.rows.len()];
        for (at, row) in self.rows.iter().enumerate().rev() {
            reports[at] = next[row.station] != Some(window(row.time));
            next[row.station] = Some(window(row.time));
        }
        reports
    }

    /// The station of the report with the most readings, and how many.
    pub fn largest_report(&self, reports: &[bool]) -> (usize, usize) {
        let mut open = vec![0; self.names.len()];
        let mut largest = (0, 0);
        for (row, reports) in self.rows.iter().zip(reports) {
            open[row.station] += row.to - row.from;
            if open[row.station] > largest.1 {
                largest = (row.station, open[row.station]);
            }
            if *reports {
                open[row.station] = 0;
            }
        }
        largest
    }

    /// The number of each row among those of its station, and how many each station has.
    pub fn numbers(&self) -> (Vec<u32>, Vec<u32>) {
        let mut counts = vec![0; self.names.len()];
        let mut numbers = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            numbers.push(counts[row.station]);
            counts[row.station] += 1;
        }
        (numbers, counts)
    }

    fn name(&mut self, id: StationId) -> usize {
        self.names.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.names.push(id);
            self.names.len() - 1
        })
    }
}

/// The median of the times between rows, s; at least 1.
fn usual_interval_s(times: &[Timestamp]) -> u32 {
    let mut steps: Vec<i64> = times.windows(2).map(|pair| pair[1].millis_since(pair[0])).collect();
    steps.sort_unstable();
    let median = steps.get(steps.len() / 2).copied().unwrap_or(3_600_000);
    (median / 1000).clamp(1, 86_400) as u32
}

/// A file that fits its configuration, about to be read.
pub(super) struct Reader<'a> {
    file: &'a ReplayFile,
    at: usize,
    lines: Lines,
    names: Vec<String>,
    time: usize,
    format: TimeFormat,
    station: Option<usize>,
    columns: Vec<(usize, &'a Column, Conversion)>,
}

impl<'a> Reader<'a> {
    /// Opens the file with this index and looks for the columns; none when something is wrong.
    pub fn new(at: usize, file: &'a ReplayFile, problems: &mut Vec<Problem>) -> Option<Self> {
        let known = problems.len();
        let mut refuse =
            |key: &str, problem: String| problems.push(Problem::of(&format!("replay.file[{at}].{key}"), problem));
        let format = TimeFormat::new(&file.time_format, &file.time_zone).map_err(|(key, wrong)| refuse(key, wrong));
        if file.station.is_some() == file.station_column.is_some() {
            refuse("station", "either station or station_column must be given".to_owned());
        }
        if file.station_column.is_none() && !file.stations.is_empty() {
            refuse("stations", "needs station_column".to_owned());
        }
        let separates = |sign: char| sign.is_ascii() && !sign.is_ascii_alphanumeric() && !"\"\r\n".contains(sign);
        if !separates(file.delimiter) {
            refuse("delimiter", format!("{:?} is not a separator like , or ; or a tabulator", file.delimiter));
        }
        if !matches!(file.decimal, '.' | ',') || file.decimal == file.delimiter {
            refuse("decimal", format!("{:?} is not . or , and other than the delimiter", file.decimal));
        }
        if file.header_line == 0 || file.first_line.is_some_and(|first| first <= file.header_line) {
            refuse("first_line", "is not after header_line, which is counted from 1".to_owned());
        }
        for (key, degrees, most) in [("latitude", file.latitude, 90.0), ("longitude", file.longitude, 180.0)] {
            if let Some(wrong) = degrees.filter(|degrees| !(-most..=most).contains(degrees)) {
                refuse(key, format!("{wrong} is not -{most} to {most} degrees"));
            }
        }
        if file.columns.is_empty() {
            refuse("columns", "is empty: nothing would be played".to_owned());
        }
        let mut conversions = Vec::new();
        for (index, column) in file.columns.iter().enumerate() {
            let key = format!("columns[{index}]");
            if let Some(twice) = file.columns[..index].iter().find(|other| other.channel == column.channel) {
                refuse(&key, format!("{} is {} too", twice.name, column.channel));
            }
            let line = column.scale.is_some() || column.offset.is_some();
            conversions.push(match &column.unit {
                Some(_) if line => {
                    refuse(&key, "has both a unit and a scale or offset".to_owned());
                    Conversion::SAME
                }
                Some(unit) => Conversion::of(unit, column.channel.quantity).unwrap_or_else(|error| {
                    refuse(&format!("{key}.unit"), error.to_string());
                    Conversion::SAME
                }),
                None if line => Conversion::line(column.scale.unwrap_or(1.0), column.offset.unwrap_or(0.0)),
                None => Conversion::SAME,
            });
        }
        let opened = File::open(&file.path).map_err(|error| refuse("path", format!("{:?}: {error}", file.path)));
        let (Ok(format), Ok(opened)) = (format, opened) else { return None };
        if problems.len() > known {
            return None;
        }
        let mut lines = Lines::new(opened, file.delimiter as u8);
        let mut refuse =
            |key: &str, problem: String| problems.push(Problem::of(&format!("replay.file[{at}].{key}"), problem));
        let header = match header(&mut lines, file.header_line) {
            Ok(header) => header,
            Err(problem) => {
                refuse("header_line", format!("{:?}: {problem}", file.path));
                return None;
            }
        };
        let mut find = |key: String, name: &str| {
            let found = header.iter().position(|known| known == name);
            if found.is_none() {
                let known = header[..header.len().min(64)].join(", ");
                refuse(&key, format!("{name:?} is not a column of {:?}, which has {known}", file.path));
            }
            found
        };
        let time = find("time".to_owned(), &file.time);
        let station = file.station_column.as_ref().map(|name| find("station_column".to_owned(), name));
        let columns: Vec<_> = (file.columns.iter().zip(conversions).enumerate())
            .filter_map(|(index, (column, conversion))| {
                Some((find(format!("columns[{index}].name"), &column.name)?, column, conversion))
            })
            .collect();
        if problems.len() > known {
            return None;
        }
        Some(Self { file, at, lines, names: header, time: time?, format, station: station.flatten(), columns })
    }

    /// Reads every row.
    pub fn read(mut self, rows: &mut Rows, skipped: &mut Skipped, problems: &mut Vec<Problem>) {
        let mut refuse = |problem: String| problems.push(Problem::new(self.file.path(), "", problem));
        let read_on = self.columns.iter().map(|(at, _, _)| *at).chain([self.time]).chain(self.station);
        let read_on: Vec<usize> = read_on.collect();
        let names = self.names.len();
        let fits = |fields: &Fields| fields.len() == names && !read_on.iter().any(|at| fields.breaks(*at));
        let first = self.file.first_line.unwrap_or(self.file.header_line + 1);
        if let Err(error) = self.lines.skip_to(u64::from(first) - 1) {
            return refuse(format!("cannot be read: {error}"));
        }
        let mut before: BTreeMap<usize, Timestamp> = BTreeMap::new();
        loop {
            let fields = match self.lines.next(fits, fits) {
                Ok(Some(fields)) => fields,
                Ok(None) => return,
                Err(error) => return refuse(format!("cannot be read: {error}")),
            };
            let line = fields.line;
            let bad = |column: Option<&str>, problem: String| BadRow {
                file: self.file.path.clone(),
                line,
                column: column.map(str::to_owned),
                problem,
            };
            match self.row(&fields, rows, &mut before, &bad, skipped) {
                Ok(()) => {}
                Err((column, problem)) => skipped.row(bad(column, problem)),
            }
            if rows.values.len() > MOST_READINGS {
                return refuse(format!(
                    "the files have more than {MOST_READINGS} readings; play fewer columns or a part of the time"
                ));
            }
        }
    }

    /// Takes a row; the error is why it cannot be one.
    fn row(
        &self,
        record: &Fields,
        rows: &mut Rows,
        before: &mut BTreeMap<usize, Timestamp>,
        bad: &impl Fn(Option<&str>, String) -> BadRow,
        skipped: &mut Skipped,
    ) -> Result<(), (Option<&str>, String)> {
        if let Some(open) = record.open {
            let column = self.names.get(open).map(String::as_str);
            return Err((column, "a quote opens here that does not close".to_owned()));
        }
        if record.len() != self.names.len() {
            let problem = format!("has {} fields, the line with the names has {}", record.len(), self.names.len());
            return Err((None, problem));
        }
        let station = self.station(record).map_err(|problem| (self.file.station_column.as_deref(), problem))?;
        let Some(station) = station else { return Ok(()) };
        let station = rows.name(station);
        let time = self.format.read(&record.text(self.time), before.get(&station).copied());
        let time = time.map_err(|problem| (Some(self.file.time.as_str()), problem))?;
        before.insert(station, time);
        let from = rows.values.len();
        for (at, column, conversion) in &self.columns {
            let text = record.text(*at);
            if text.is_empty() || self.file.missing.contains(&text) {
                continue;
            }
            match self.value(&text, column, conversion) {
                Ok(value) => rows.values.push((column.channel, value)),
                Err(problem) => skipped.value(bad(Some(&column.name), problem)),
            }
        }
        let to = rows.values.len();
        if to > from {
            rows.rows.push(Row { time, station, from, to, file: self.at, line: record.line });
        }
        Ok(())
    }

    /// The station of a row; none when it is not to be played.
    fn station(&self, record: &Fields) -> Result<Option<StationId>, String> {
        let Some(at) = self.station else { return Ok(self.file.station.clone()) };
        let name = record.text(at);
        if !self.file.stations.is_empty() {
            return Ok(self.file.stations.get(&name).cloned());
        }
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_');
        let id: String = name.to_lowercase().chars().map(|c| if allowed(c) { c } else { '-' }).collect();
        id.parse().map(Some).map_err(|error| format!("{name:?} gives no station's name: {error}"))
    }

    fn value(&self, text: &str, column: &Column, conversion: &Conversion) -> Result<f64, String> {
        let number: f64 = match self.file.decimal {
            '.' => text.parse(),
            other => text.replace(other, ".").parse(),
        }
        .map_err(|_| format!("{text:?} is not a number"))?;
        let value = conversion.apply(number);
        match value.is_finite() && value.abs() <= MOST_VALUE {
            true => Ok(column.channel.quantity.quantise(value)),
            false => Err(format!("{text:?} is no value of {}", column.channel)),
        }
    }
}

/// The names in a line, from 1.
fn header(lines: &mut Lines, line: u32) -> Result<Vec<String>, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    lines.skip_to(u64::from(line) - 1).map_err(unreadable)?;
    let names = lines.next(|_| true, |_| false).map_err(unreadable)?.filter(|names| names.line == u64::from(line));
    let names = names.ok_or_else(|| format!("there is no line {line} with the columns' names"))?;
    if names.open.is_some() {
        return Err(format!("line {line} has a quote that does not close"));
    }
    let names: Vec<String> =
        (0..names.len()).map(|at| names.text(at).trim_start_matches('\u{feff}').to_owned()).collect();
    // The mark of UTF-16's order of bytes, each byte read as a character.
    if names.first().is_some_and(|name| name.starts_with("\u{ff}\u{fe}") || name.starts_with("\u{fe}\u{ff}")) {
        return Err("is UTF-16 text; UTF-8 is read, and ISO 8859-1".to_owned());
    }
    Ok(names)
}
