//! What a node's firmware needs, and what it saves: its memory, report by exception against the error that it makes, and how a model
//! comes over the air.

use std::collections::BTreeMap;

use firmware::model::MAX_BYTES;
use firmware::node::{FieldNode, MEMORY_BYTES};
use firmware::ring::Ring;
use proto::node_model::MAX_CHUNK;
use proto::{
    Channel, Command, NodeModelChunk, NodeModelFile, NodeModelOffer, NodeModelState, NodeModelStatus, NodeModelVersion,
    Quantity,
};
use sha2::{Digest as _, Sha256};

use super::{Axis, Check, Form, Plot, Scenario, Section, Series, Table};
use crate::chance::Chance;
use crate::farm::Farm;
use crate::models::Models;
use crate::onboard::{NodeConfig, Onboard};
use crate::station::CHANNELS;

/// The farm is looked at at most so long, days.
const MOST_DAYS: u32 = 14;
/// The dead bands that are scaled, each in its quantity's unit: what a grower would not act on.
const BANDS: [(Quantity, f64); 9] = [
    (Quantity::SoilMoisture, 0.005),
    (Quantity::SoilTemperature, 0.2),
    (Quantity::SoilEc, 0.05),
    (Quantity::AirTemperature, 0.5),
    (Quantity::RelativeHumidity, 2.0),
    (Quantity::WindSpeed, 0.5),
    (Quantity::SolarRadiation, 25.0),
    (Quantity::Battery, 0.02),
    (Quantity::Rssi, 2.0),
];
const SCALES: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];

/// What report by exception does to one channel.
#[derive(Debug, Clone, Copy, Default)]
struct Outcome {
    samples: u32,
    reported: u32,
    /// The last reading.
    held: f64,
    square_sum: f64,
    largest: f64,
}

impl Outcome {
    fn take(&mut self, value: f64, reported: bool) {
        self.samples += 1;
        if reported {
            self.reported += 1;
            self.held = value;
        }
        let off = (value - self.held).abs();
        self.square_sum += off * off;
        self.largest = self.largest.max(off);
    }

    fn share(&self) -> f64 {
        f64::from(self.reported) / f64::from(self.samples.max(1))
    }

    fn root_mean_square(&self) -> f64 {
        (self.square_sum / f64::from(self.samples.max(1))).sqrt()
    }
}

/// A model's way to a node.
struct Way {
    what: &'static str,
    /// What the node must be left with.
    due: NodeModelState,
    status: NodeModelStatus,
    sent: u32,
    lost: u32,
}

impl Way {
    fn check(&self) -> Check {
        Check::new(self.what, self.status.state.name(), self.due.name(), self.status.state == self.due)
    }
}

/// The chunk that follows on what the node has is sent until it has all; every third is lost, and the node restarts half way.
fn over_the_air(
    what: &'static str,
    due: NodeModelState,
    version: &str,
    changed: bool,
    resets: u32,
) -> anyhow::Result<Way> {
    let bytes = model(version.parse()?)?;
    let (version, size): (NodeModelVersion, _) = (version.parse()?, bytes.len() as u32);
    let sha256 = Sha256::digest(&bytes).into();
    let mut models = Models::new(&CHANNELS);
    let mut chance = Chance::new(1, "validate/air");
    let mut way = Way { what, due, status: models.status(), sent: 0, lost: 0 };
    models.obey(&Command::OfferModel(NodeModelOffer { version, sha256, size }));
    let mut restarted = false;
    while models.status().state == NodeModelState::Receiving && way.sent < 1000 {
        let offset = models.status().offset;
        if offset > size / 2 && !restarted {
            models.restart(0);
            restarted = true;
            continue;
        }
        let from = offset as usize;
        let mut piece = bytes[from..bytes.len().min(from + MAX_CHUNK / 16)].to_vec();
        if changed && from == 0 {
            piece[0] ^= 1;
        }
        way.sent += 1;
        if chance.at(i64::from(way.sent)).uniform() < 1.0 / 3.0 {
            way.lost += 1;
            continue;
        }
        models.obey(&Command::ModelChunk(NodeModelChunk { version, offset, bytes: piece }));
    }
    if resets > 0 {
        models.restart(resets);
    }
    way.status = models.status();
    Ok(way)
}

/// A model of four channels.
fn model(version: NodeModelVersion) -> anyhow::Result<Vec<u8>> {
    let channels = &CHANNELS[..4];
    let file = NodeModelFile::persistence(version, channels, vec![(0.3, 0.1); channels.len()], 4);
    Ok(file.encode()?)
}

pub(super) fn section(scenario: &Scenario) -> anyhow::Result<Section> {
    let mut memory = Table::new("Memory of a node with 13 channels, bytes", &["part", "bytes"]);
    memory.row("2,000 readings in up to 192 reports", 0, &[size_of::<Ring<2000, 192>>() as f64]);
    memory.row("two models", 0, &[2.0 * MAX_BYTES as f64]);
    memory.row("the whole node", 0, &[size_of::<FieldNode>() as f64]);
    memory.row("what there is", 0, &[MEMORY_BYTES as f64]);

    let header = ["channel", "dead band", "reported, %", "error, root mean square", "error, largest"];
    let mut table = Table::new("Report by exception with a heartbeat of an hour", &header);
    let (mut points, mut worst, mut least_saved) = (Vec::new(), 0.0f64, 0.0);
    for scale in SCALES {
        let dead_band: BTreeMap<Quantity, f64> =
            BANDS.iter().map(|(quantity, width)| (*quantity, width * scale)).collect();
        let outcomes = outcomes(scenario, &dead_band)?;
        let (mut share, mut off) = (0.0, 0.0);
        for (channel, outcome) in &outcomes {
            let width = dead_band[&channel.quantity];
            share += outcome.share() / outcomes.len() as f64;
            off += outcome.root_mean_square() / (width / scale) / outcomes.len() as f64;
            worst = worst.max(outcome.largest / width);
            if scale == 1.0 {
                let numbers = [width, 100.0 * outcome.share(), outcome.root_mean_square(), outcome.largest];
                table.row(channel.to_string(), 4, &numbers);
            }
        }
        if scale == 1.0 {
            least_saved = 1.0 - share;
        }
        points.push((off, 100.0 * share));
    }
    let ways = [
        over_the_air(
            "a model over a link that loses chunks, with a restart half way",
            NodeModelState::Active,
            "1.0.0",
            false,
            0,
        )?,
        over_the_air("one whose bytes are not those that were offered", NodeModelState::Refused, "1.1.0", true, 0)?,
        over_the_air(
            "one in whose probation the watchdog bites three times",
            NodeModelState::RolledBack,
            "1.2.0",
            false,
            3,
        )?,
    ];
    let mut air = Table::new("Models over the air", &["model", "chunks sent", "lost", "the node says", "why"]);
    air.rows.extend(ways.iter().map(|way| {
        let numbers = [way.sent, way.lost].map(|number| number.to_string());
        let says = [way.status.state.name().to_owned(), way.status.reason.clone()];
        std::iter::once(way.what.to_owned()).chain(numbers).chain(says).collect()
    }));
    Ok(Section {
        title: "Firmware of the nodes".to_owned(),
        text: "A node reports a value when it has left the dead band around the last reading, or after an hour. What a \
               receiver holds meanwhile is compared with every value that was measured; the plot scales the dead bands of \
               the table by a quarter to four.\n\nThe memory is counted by the compiler, which refuses a node above 32 KiB.\n\nA model is sent in chunks from where the node \
               says it is; the node checks its bytes against the offer's hash, and goes back by itself where it misbehaves."
            .to_owned(),
        tables: vec![memory, table, air],
        plots: vec![Plot::new(
            "exception",
            "Readings against the error of leaving them out, mean of the channels",
            Axis::numbers("error, root mean square, in dead bands of the table"),
            Axis::numbers("readings reported, %"),
            [Series::new("dead bands from a quarter to four times", Form::Line, points)],
        )],
        checks: [
            Check::at_most("memory of a node, bytes", size_of::<FieldNode>() as f64, MEMORY_BYTES as f64),
            // A value's last digit on the wire may be half a digit more.
            Check::at_most("the largest error, in dead bands", worst, 1.001),
            Check::at_most("share of the readings that is still reported", 1.0 - least_saved, 0.5),
        ]
        .into_iter()
        .chain(ways.iter().map(Way::check))
        .collect(),
    })
}

/// Every channel with a dead band, all stations together.
fn outcomes(scenario: &Scenario, dead_band: &BTreeMap<Quantity, f64>) -> anyhow::Result<BTreeMap<Channel, Outcome>> {
    let mut farm = Farm::new(&scenario.farm)?;
    let config = NodeConfig { dead_band: dead_band.clone(), ..NodeConfig::default() };
    let channels = scenario.farm.sensors.channels();
    let mut nodes: Vec<Option<Onboard>> = farm.stations().iter().map(|_| Onboard::new(&config, &channels)).collect();
    let mut by_station: Vec<BTreeMap<Channel, Outcome>> = vec![BTreeMap::new(); nodes.len()];
    farm.advance(scenario.end().min(scenario.start().plus_secs(i64::from(MOST_DAYS) * 86_400)), |sample| {
        let Some(node) = &mut nodes[sample.station] else { return };
        let mut sent = Vec::new();
        node.sample(sample.readings, &mut sent);
        for measured in sample.readings {
            let channel = measured.reading.channel;
            if dead_band.contains_key(&channel.quantity) {
                let reported = sent.iter().any(|sent| sent.reading.channel == channel);
                by_station[sample.station].entry(channel).or_default().take(measured.reading.value, reported);
            }
        }
    });
    let mut all: BTreeMap<Channel, Outcome> = BTreeMap::new();
    for (channel, outcome) in by_station.into_iter().flatten() {
        let sum = all.entry(channel).or_default();
        sum.samples += outcome.samples;
        sum.reported += outcome.reported;
        sum.square_sum += outcome.square_sum;
        sum.largest = sum.largest.max(outcome.largest);
    }
    Ok(all)
}
