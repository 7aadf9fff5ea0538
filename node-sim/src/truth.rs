//! The truth log: what really happened, to hold everything downstream against.
//!
//! `faults.jsonl` has a line for each fault that began (station, channel, kind, start, end and its parameters, as a scenario
//! would say them), of probes, power, clocks and irrigation, for each time
//! in which a base station handed nothing on, once it is over, and for each loss of readings that found no room any more.
//! `readings.bin` has, when asked for, every reading that was made, exactly as it was sent, and, where a fault is in it,
//! which, and what was true. A report is in the log before it is published.
//!
//! `season.json` says what each simulated field had, used and gave since the farm's start ([`Season`]): water and its bill,
//! harvests, stress, drainage. It is written anew with each day of farm time.
//!
//! The format of `readings.bin`, all numbers little-endian: eight bytes `TILTHTR1`, then a record for each report: its
//! length after this number (u32); the length of the station's name (u8) and the name; boot (u32); sequence (u64); number
//! of readings (u32); and for each reading channel code (u32, as on the wire), fault (u8), time (i64, ms since 1970), value
//! (f64) and, when the fault's highest bit is set, what was true (f64). The fault's other bits: 0 none, 1 spike, 2 stuck,
//! 3 drift, 4 bias, 5 noise, 6 rail, 7 pulled out, 8 waterlogged, 9 swapped, 10 brown-out.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use proto::{Channel, FieldId, Reading, StationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::base_station::OffTime;
use crate::clock::ClockFault;
use crate::faults::{Fault, FaultKind, IrrigationFault, Parameters};
use crate::field::Season;
use crate::node::Lost;
use crate::station::Measured;

const MAGIC: &[u8; 8] = b"TILTHTR1";
const EVENTS: &str = "faults.jsonl";
const READINGS: &str = "readings.bin";
const SEASON: &str = "season.json";
/// The longest record that is believed, bytes: far above a report's, so that a damaged length does not ask for all memory.
const MAX_RECORD: usize = 16 << 20;
/// The least that a reading has.
const READING_BYTES: usize = 21;
/// The bit of a fault's number that says that what was true follows.
const WITH_TRUTH: u8 = 0x80;

/// A line of `faults.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A fault began.
    Fault {
        /// The station.
        station: StationId,
        /// The channel; none when it is the whole station's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channel: Option<Channel>,
        /// What is wrong.
        kind: FaultKind,
        /// The first moment of it.
        start: Timestamp,
        /// The first moment after it.
        end: Timestamp,
        /// How, as a scenario would say it.
        #[serde(flatten)]
        parameters: Parameters,
    },
    /// A fault of a field's irrigation began.
    Irrigation {
        /// The field.
        field: FieldId,
        /// The first moment of it.
        start: Timestamp,
        /// The first moment after it.
        end: Timestamp,
        /// How much of the water comes.
        share: f64,
    },
    /// The base station was off, or its way to the farmhouse was.
    BaseStationOff(OffTime),
    /// Reports found no room in a station's ring any more and were lost before they were acknowledged. One that was under
    /// way just then may have arrived all the same.
    Lost {
        /// The station.
        station: StationId,
        /// The boot in which they were made.
        boot: u32,
        /// The first one's sequence.
        first: u64,
        /// The last one's sequence.
        last: u64,
        /// How many readings were in them.
        readings: u64,
    },
}

impl Event {
    pub(crate) fn fault(fault: &Fault) -> Self {
        Self::Fault {
            station: fault.station.clone(),
            channel: fault.channel,
            kind: fault.kind(),
            start: fault.start,
            end: fault.end,
            parameters: Parameters::of(fault),
        }
    }

    pub(crate) fn clock(fault: &ClockFault) -> Self {
        Self::Fault {
            station: fault.station.clone(),
            channel: None,
            kind: FaultKind::ClockDrift,
            start: fault.start,
            end: fault.end,
            parameters: Parameters::of_clock(fault),
        }
    }

    pub(crate) fn irrigation(fault: &IrrigationFault) -> Self {
        let IrrigationFault { field, start, end, share } = fault.clone();
        Self::Irrigation { field, start, end, share }
    }

    pub(crate) fn lost(station: &StationId, lost: &Lost) -> Self {
        Self::Lost {
            station: station.clone(),
            boot: lost.boot,
            first: lost.first,
            last: lost.last,
            readings: lost.readings,
        }
    }
}

/// A reading of `readings.bin`.
#[derive(Debug, Clone, PartialEq)]
pub struct TruthReading {
    /// The station.
    pub station: StationId,
    /// The node's boot in which it was made.
    pub boot: u32,
    /// The sequence of the report that it is in.
    pub sequence: u64,
    /// The channel.
    pub channel: Channel,
    /// When it was measured.
    pub time: Timestamp,
    /// The value as it was sent.
    pub value: f64,
    /// The fault that is in it.
    pub fault: Option<FaultKind>,
    /// What was true, where a fault is in it.
    pub truth: Option<f64>,
}

/// The readings that one station sends at once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report {
    pub station: StationId,
    pub boot: u32,
    pub sequence: u64,
    pub readings: Vec<Measured>,
}

impl Report {
    /// Appends the record, without its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_station(out, &self.station);
        out.extend(self.boot.to_le_bytes());
        out.extend(self.sequence.to_le_bytes());
        out.extend((self.readings.len() as u32).to_le_bytes());
        for measured in &self.readings {
            let fault = measured.fault.map_or(0, FaultKind::code);
            let truth = measured.truth.filter(|_| fault != 0);
            out.extend(measured.reading.channel.code().to_le_bytes());
            out.push(if truth.is_some() { fault | WITH_TRUTH } else { fault });
            out.extend(measured.reading.time.as_millis().to_le_bytes());
            out.extend(measured.reading.value.to_le_bytes());
            out.extend(truth.iter().flat_map(|truth| truth.to_le_bytes()));
        }
    }

    /// Reads a record; none when it is not one.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let input = &mut bytes;
        let station = take_station(input)?;
        let boot = u32::from_le_bytes(take(input)?);
        let sequence = u64::from_le_bytes(take(input)?);
        let count = u32::from_le_bytes(take(input)?) as usize;
        if input.len() < count.checked_mul(READING_BYTES)? {
            return None;
        }
        let mut readings = Vec::with_capacity(count);
        for _ in 0..count {
            let channel = Channel::from_code(u32::from_le_bytes(take(input)?)).ok()?;
            let code = take::<1>(input)?[0];
            let fault = match code & !WITH_TRUTH {
                0 => None,
                fault => Some(FaultKind::from_code(fault)?),
            };
            let time = Timestamp::from_millis(i64::from_le_bytes(take(input)?));
            let value = f64::from_le_bytes(take(input)?);
            let truth = if code & WITH_TRUTH != 0 { Some(f64::from_le_bytes(take(input)?)) } else { None };
            readings.push(Measured { reading: Reading { channel, time, value }, fault, truth });
        }
        if !input.is_empty() {
            return None;
        }
        Some(Self { station, boot, sequence, readings })
    }
}

pub(crate) fn put_station(out: &mut Vec<u8>, station: &StationId) {
    // An id has at most 64 bytes.
    out.push(station.as_str().len() as u8);
    out.extend(station.as_str().as_bytes());
}

pub(crate) fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = input.split_first_chunk::<N>()?;
    *input = tail;
    Some(*head)
}

pub(crate) fn take_station(input: &mut &[u8]) -> Option<StationId> {
    let length = usize::from(take::<1>(input)?[0]);
    let (head, tail) = input.split_at_checked(length)?;
    *input = tail;
    std::str::from_utf8(head).ok()?.parse().ok()
}

/// The log as it is written.
#[derive(Debug)]
pub(crate) struct TruthLog {
    events: File,
    /// The lines that are in it.
    known: HashSet<String>,
    readings: Option<File>,
    length: u64,
    buffer: Vec<u8>,
}

impl TruthLog {
    /// Opens or makes the log in a folder. `length` is how long the readings were when the farm's state was last kept (none
    /// when they were not written then), `since` what was made after that: the log is cut there and written again from
    /// them, so that a process that was killed between its journal and its log leaves a log without gap and double.
    pub fn open<'a>(
        dir: &Path,
        with_readings: bool,
        length: Option<u64>,
        since: impl IntoIterator<Item = &'a Report>,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join(EVENTS);
        let mut events = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        let mut text = String::new();
        events.read_to_string(&mut text)?;
        // A line without its end was torn when the process was killed.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            events.set_len(whole as u64)?;
        }
        let known = text[..whole].lines().map(str::to_owned).collect();
        let mut log = Self { events, known, readings: None, length: 0, buffer: Vec::new() };
        if with_readings {
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(READINGS))?;
            let end = file.metadata()?.len();
            if end < MAGIC.len() as u64 {
                file.set_len(0)?;
                file.write_all(MAGIC)?;
            }
            let keep = length.unwrap_or(end).clamp(MAGIC.len() as u64, end.max(MAGIC.len() as u64));
            file.set_len(keep)?;
            file.seek(SeekFrom::Start(keep))?;
            log.readings = Some(file);
            log.length = keep;
            if length.is_some() {
                log.write_reports(since)?;
            }
        }
        Ok(log)
    }

    /// How long the readings are; none when they are not written.
    pub fn length(&self) -> Option<u64> {
        self.readings.is_some().then_some(self.length)
    }

    /// Writes reports. They are with the system when this returns.
    pub fn write_reports<'a>(&mut self, reports: impl IntoIterator<Item = &'a Report>) -> io::Result<()> {
        let Some(file) = &mut self.readings else {
            return Ok(());
        };
        self.buffer.clear();
        for report in reports {
            let at = self.buffer.len();
            self.buffer.extend([0; 4]);
            report.encode(&mut self.buffer);
            let length = (self.buffer.len() - at - 4) as u32;
            self.buffer[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
        file.write_all(&self.buffer)?;
        self.length += self.buffer.len() as u64;
        Ok(())
    }

    /// Writes an event, unless it is there already (a process that goes on from a kept state meets some twice).
    pub fn write_event(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_string(&event)?;
        if !self.known.insert(line.clone()) {
            return Ok(());
        }
        line.push('\n');
        self.events.write_all(line.as_bytes())
    }

    /// Brings everything to the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.events.sync_data()?;
        self.readings.as_ref().map_or(Ok(()), File::sync_data)
    }
}

/// Writes the season's report, whole or not at all.
pub(crate) fn write_seasons(dir: &Path, seasons: &[Season]) -> io::Result<()> {
    let new = dir.join("season.json.new");
    std::fs::write(&new, serde_json::to_vec_pretty(seasons)?)?;
    std::fs::rename(new, dir.join(SEASON))
}

/// The report on the season in a truth log's folder.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub fn read_seasons(dir: &Path) -> Result<Vec<Season>, TruthError> {
    let file = dir.join(SEASON);
    let text = std::fs::read_to_string(&file).map_err(|source| TruthError::Io { file: file.clone(), source })?;
    serde_json::from_str(&text).map_err(|error| TruthError::Format { file, offset: 0, problem: error.to_string() })
}

/// Why a truth log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TruthError {
    /// The file cannot be read.
    #[error("truth log {file:?}: {source}")]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("truth log {file:?}, byte {offset}: {problem}")]
    Format {
        /// The file.
        file: PathBuf,
        /// Where.
        offset: u64,
        /// What is there.
        problem: String,
    },
}

/// The events of a truth log's folder, in the order in which they were written.
///
/// # Errors
/// When the file cannot be read, or a line is no event.
pub fn read_events(dir: &Path) -> Result<Vec<Event>, TruthError> {
    let file = dir.join(EVENTS);
    let text = std::fs::read_to_string(&file).map_err(|source| TruthError::Io { file: file.clone(), source })?;
    let mut offset = 0;
    let mut events = Vec::new();
    for line in text.split_inclusive('\n') {
        let event = serde_json::from_str(line).map_err(|error| TruthError::Format {
            file: file.clone(),
            offset,
            problem: error.to_string(),
        })?;
        events.push(event);
        offset += line.len() as u64;
    }
    Ok(events)
}

/// Every reading of a truth log's folder, report by report in the order in which they were made. A record at the end that
/// is still being written is left out.
///
/// # Errors
/// When the file cannot be opened or is no truth log; the iterator's items when a record is damaged, after which it ends.
pub fn read_readings(dir: &Path) -> Result<impl Iterator<Item = Result<TruthReading, TruthError>> + use<>, TruthError> {
    let file = dir.join(READINGS);
    let io_error = |source| TruthError::Io { file: file.clone(), source };
    let mut reader = BufReader::new(File::open(&file).map_err(io_error)?);
    let mut magic = [0; MAGIC.len()];
    let is_log = reader.read_exact(&mut magic).is_ok() && magic == *MAGIC;
    if !is_log {
        let problem = "is not a log of readings (it does not begin with TILTHTR1)".to_owned();
        return Err(TruthError::Format { file, offset: 0, problem });
    }
    Ok(Readings { file, reader, offset: MAGIC.len() as u64, report: Vec::new().into_iter(), ended: false })
}

struct Readings {
    file: PathBuf,
    reader: BufReader<File>,
    offset: u64,
    report: std::vec::IntoIter<TruthReading>,
    ended: bool,
}

impl Readings {
    /// The next report's readings; none at the end.
    fn next_report(&mut self) -> Result<Option<Vec<TruthReading>>, TruthError> {
        let io_error = |source| TruthError::Io { file: self.file.clone(), source };
        let mut length = [0; 4];
        if self.reader.fill_buf().map_err(io_error)?.is_empty()
            || !read_whole(&mut self.reader, &mut length).map_err(io_error)?
        {
            return Ok(None);
        }
        let length = u32::from_le_bytes(length) as usize;
        let damaged = |problem: String| TruthError::Format { file: self.file.clone(), offset: self.offset, problem };
        if length > MAX_RECORD {
            return Err(damaged(format!("a record of {length} bytes is longer than any")));
        }
        let mut record = vec![0; length];
        if !read_whole(&mut self.reader, &mut record).map_err(io_error)? {
            return Ok(None);
        }
        let report = Report::decode(&record).ok_or_else(|| damaged("the record is damaged".to_owned()))?;
        self.offset += 4 + length as u64;
        let Report { station, boot, sequence, readings } = report;
        let reading = |measured: Measured| TruthReading {
            station: station.clone(),
            boot,
            sequence,
            channel: measured.reading.channel,
            time: measured.reading.time,
            value: measured.reading.value,
            fault: measured.fault,
            truth: measured.truth,
        };
        Ok(Some(readings.into_iter().map(reading).collect()))
    }
}

impl Iterator for Readings {
    type Item = Result<TruthReading, TruthError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(reading) = self.report.next() {
                return Some(Ok(reading));
            }
            if self.ended {
                return None;
            }
            match self.next_report() {
                Ok(Some(readings)) => self.report = readings.into_iter(),
                Ok(None) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// Fills the buffer; false when the file ends before.
fn read_whole(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::Quantity;

    use super::*;

    fn report(sequence: u64) -> Report {
        let channel = Channel::at(Quantity::SoilMoisture, 20);
        let reading = |k: i64| Reading {
            channel,
            time: Timestamp::from_secs(1000 * sequence as i64 + k),
            value: 0.25 + k as f64 / 1000.0,
        };
        let drifts = |k: i64| (k == 1).then_some(FaultKind::Drift);
        let readings =
            (0..3).map(|k| Measured { reading: reading(k), fault: drifts(k), truth: drifts(k).map(|_| 0.2) }).collect();
        Report { station: "n1".parse().unwrap(), boot: 4, sequence, readings }
    }

    fn sequences(dir: &Path) -> Vec<u64> {
        let mut sequences: Vec<u64> = read_readings(dir).unwrap().map(|reading| reading.unwrap().sequence).collect();
        sequences.dedup();
        sequences
    }

    #[test]
    fn readings_come_back_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = TruthLog::open(dir.path(), true, None, &[]).unwrap();
        log.write_reports(&[report(1), report(2)]).unwrap();
        let readings: Vec<TruthReading> = read_readings(dir.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!(readings.len(), 6);
        assert_eq!((readings[4].fault, readings[4].truth), (Some(FaultKind::Drift), Some(0.2)));
        assert_eq!((readings[5].fault, readings[5].truth), (None, None));
        assert_eq!((readings[4].boot, readings[4].sequence, readings[4].value), (4, 2, 0.251));
        assert_eq!(readings[4].time, Timestamp::from_secs(2001));
    }

    #[test]
    fn a_log_that_was_ahead_of_or_behind_the_kept_state_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = TruthLog::open(dir.path(), true, None, &[]).unwrap();
        log.write_reports(&[report(1)]).unwrap();
        let kept = log.length();
        log.write_reports(&[report(2), report(3)]).unwrap();
        drop(log);
        // Ahead: the third never came to the journal. Behind: the third was torn. Both: the journal has two and three.
        for (cut, since, expected) in [
            (0, vec![report(2)], vec![1, 2]),
            (0, vec![report(2), report(3)], vec![1, 2, 3]),
            (7, vec![report(2), report(3)], vec![1, 2, 3]),
        ] {
            let file = OpenOptions::new().write(true).open(dir.path().join(READINGS)).unwrap();
            file.set_len(file.metadata().unwrap().len() - cut).unwrap();
            TruthLog::open(dir.path(), true, kept, &since).unwrap();
            assert_eq!(sequences(dir.path()), expected);
        }
    }

    #[test]
    fn an_event_is_written_once_and_a_torn_line_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let event = |readings| Event::Lost { station: "n1".parse().unwrap(), boot: 1, first: 1, last: 2, readings };
        TruthLog::open(dir.path(), false, None, &[]).unwrap().write_event(&event(5)).unwrap();
        OpenOptions::new().append(true).open(dir.path().join(EVENTS)).unwrap().write_all(b"{\"event\":\"lo").unwrap();
        let mut log = TruthLog::open(dir.path(), false, None, &[]).unwrap();
        log.write_event(&event(5)).unwrap();
        log.write_event(&event(6)).unwrap();
        assert_eq!(read_events(dir.path()).unwrap(), [event(5), event(6)]);
    }

    #[test]
    fn a_fault_is_told_with_its_parameters_and_comes_back() {
        let station: StationId = "n1".parse().unwrap();
        let (start, end) = (Timestamp::from_secs(0), Timestamp::from_secs(60));
        let mut events = vec![Event::clock(&ClockFault {
            station: station.clone(),
            start,
            end,
            jump: crate::clock::Jump::Ahead(1500),
            drift_ppm: 20.0,
        })];
        let channel = Channel::at(Quantity::SoilMoisture, 20);
        for kind in FaultKind::ALL {
            let given = Parameters { with: Some(Channel::at(Quantity::SoilMoisture, 10)), ..Parameters::default() };
            let channel = (!kind.is_of_station()).then_some(channel);
            let Some(effect) = given.effect(kind, channel) else { continue };
            events.push(Event::fault(&Fault { station: station.clone(), channel, effect, start, end }));
        }
        assert_eq!(events.len(), FaultKind::ALL.len());
        let dir = tempfile::tempdir().unwrap();
        let mut log = TruthLog::open(dir.path(), false, None, &[]).unwrap();
        events.iter().for_each(|event| log.write_event(event).unwrap());
        assert_eq!(read_events(dir.path()).unwrap(), events);
        let text = std::fs::read_to_string(dir.path().join(EVENTS)).unwrap();
        let clock = r#"{"event":"fault","station":"n1","kind":"clock_drift","start":"1970-01-01T00:00:00Z","end":"1970-01-01T00:01:00Z","drift_ppm":20.0,"offset_s":1.5}"#;
        assert_eq!(text.lines().next(), Some(clock));
        let swapped = text.lines().find(|line| line.contains("swapped")).unwrap();
        assert!(swapped.contains(r#""channel":"soil_moisture_20cm""#), "{swapped}");
        assert!(swapped.contains(r#""with":"soil_moisture_10cm""#), "{swapped}");
    }

    #[test]
    fn another_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(READINGS), b"something else").unwrap();
        let error = read_readings(dir.path()).err().unwrap().to_string();
        assert!(error.ends_with("is not a log of readings (it does not begin with TILTHTR1)"), "{error}");
    }

    proptest! {
        #[test]
        fn a_damaged_record_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..80) {
            let _ = Report::decode(&bytes);
            let mut whole = Vec::new();
            report(1).encode(&mut whole);
            let cut = cut.min(whole.len() - 1);
            prop_assert!(Report::decode(&whole[..cut]).is_none());
        }
    }
}
