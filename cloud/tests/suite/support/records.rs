//! Records as a gateway makes them.

use proto::decision::{Cause, Decision, Inputs, Run};
use proto::native::Birth;
use proto::{
    Aggregate, Alert, AlertKind, Channel, Driver, Lane, Record, RejectReason, Rejected, StationBirth, Stats, Timestamp,
    UplinkBatch, Window,
};

/// A time from its text.
pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A channel from its text.
pub fn channel(text: &str) -> Channel {
    text.parse().unwrap()
}

/// A window of a quarter of an hour, still empty.
pub fn window(station: &str, start: &str) -> Window {
    Window { station: station.parse().unwrap(), start: time(start), length_s: 900, revision: 0, aggregates: vec![] }
}

/// Filling a window.
pub trait WindowExt {
    /// With a channel's readings.
    fn with(self, channel: &str, accepted: &[f64], rejected: &[(RejectReason, f64)]) -> Self;
    /// As an amendment.
    fn revised(self, revision: u32) -> Self;
}

impl WindowExt for Window {
    fn with(mut self, of: &str, accepted: &[f64], rejected: &[(RejectReason, f64)]) -> Self {
        let channel = channel(of);
        self.aggregates.push(Aggregate { channel, accepted: stats(accepted), rejected: rejections(rejected) });
        self.aggregates.sort_by_key(|aggregate| aggregate.channel);
        self
    }

    fn revised(mut self, revision: u32) -> Self {
        self.revision = revision;
        self
    }
}

/// What readings come to.
pub fn stats(values: &[f64]) -> Option<Stats> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    let (min, max) = bounds(values)?;
    let mean = mean.clamp(min, max);
    Some(Stats { count: values.len() as u32, min, mean, max, stddev: variance.sqrt() })
}

fn rejections(readings: &[(RejectReason, f64)]) -> Option<Rejected> {
    let (min, max) = bounds(&readings.iter().map(|(_, value)| *value).collect::<Vec<_>>())?;
    let count = |reason| readings.iter().filter(|(of, _)| *of == reason).count() as u32;
    let counts = RejectReason::ALL.map(|reason| (reason, count(reason))).into_iter().filter(|(_, n)| *n > 0);
    Some(Rejected { counts: counts.collect(), min, max })
}

fn bounds(values: &[f64]) -> Option<(f64, f64)> {
    Some((values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?))
}

/// An alert that is open.
pub fn alert(station: &str, opened: &str) -> Alert {
    let (station, opened) = (station.parse().unwrap(), time(opened));
    let channel = channel("soil_moisture_20cm");
    Alert {
        id: Alert::id_of(&station, Some(channel), AlertKind::Stuck, opened),
        station,
        channel: Some(channel),
        kind: AlertKind::Stuck,
        opened,
        updated: opened,
        closed: None,
        score: 3.5,
        threshold: 1.0,
        value: Some(0.25),
        drivers: vec![Driver { channel, share: 1.0 }],
        model: None,
        revision: 0,
        message: "Soil moisture 20 cm has stood at 0.25 m3/m3 for six hours.".to_owned(),
    }
}

/// A birth.
pub fn birth(station: &str, at: &str, field: Option<&str>) -> StationBirth {
    let birth = Birth {
        boot: 1,
        firmware: "node-sim 0.1.0".to_owned(),
        interval_s: 60,
        report_s: 300,
        channels: vec![channel("soil_moisture_20cm"), channel("rain")],
        field: field.map(|field| field.parse().unwrap()),
        latitude: Some(39.47),
        longitude: Some(-118.78),
    };
    StationBirth { station: station.parse().unwrap(), at: time(at), birth }
}

/// A batch of the farm "fallon" and its gateway "g1".
pub fn batch(first: u64, records: Vec<Record>) -> UplinkBatch {
    let lane = records.first().map_or(Lane::Aggregates, Record::lane);
    UplinkBatch { farm: "fallon".parse().unwrap(), gateway: "g1".parse().unwrap(), store: 7, lane, first, records }
}

/// A batch of windows.
pub fn windows(first: u64, windows: impl IntoIterator<Item = Window>) -> UplinkBatch {
    batch(first, windows.into_iter().map(Record::Window).collect())
}

/// A batch of alerts.
pub fn alerts(first: u64, alerts: impl IntoIterator<Item = Alert>) -> UplinkBatch {
    batch(first, alerts.into_iter().map(Record::Alert).collect())
}

/// A decision for the north field: due, or moist.
pub fn decision(at: &str, due: bool) -> Decision {
    let (field, at) = ("north".parse().unwrap(), time(at));
    Decision {
        id: Decision::id_of(&field, at),
        field,
        at,
        cause: if due { Cause::Due } else { Cause::Moist },
        run: due.then_some(Run { mm: 47.5, minutes: 475 }),
        reason: "48 mm are missing in the root zone".to_owned(),
        inputs: Inputs {
            depletion_mm: Some(48.0),
            total_mm: 84.0,
            readily_mm: 46.2,
            rain_mm: None,
            probes: 6,
            untrusted: 1,
        },
        stations: if due { vec!["n1".parse().unwrap()] } else { Vec::new() },
        confirmed: Vec::new(),
    }
}

/// A batch of decisions.
pub fn decisions(first: u64, decisions: impl IntoIterator<Item = Decision>) -> UplinkBatch {
    batch(first, decisions.into_iter().map(Record::Decision).collect())
}

/// A batch of births.
pub fn births(first: u64, births: impl IntoIterator<Item = StationBirth>) -> UplinkBatch {
    batch(first, births.into_iter().map(Record::Birth).collect())
}
