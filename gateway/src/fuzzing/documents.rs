//! What people write, and what they export: configuration, manifests and model files.

use std::time::{Duration, Instant};

use proto::node_model::{FileError, MAX_BYTES};
use proto::{Manifest, NodeModelFile};

use crate::config::Config;
use crate::decode::source::{Routes, Sources};
use crate::model::{LoadedModel, structure};

/// The gateway's configuration. One that is taken has no number that is none, is the same when it is written and read
/// again, and all that is made of it can be made.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let config = match Config::parse(text) {
        Ok(config) => config,
        Err(wrong) => return assert!(!wrong.is_empty() && wrong.iter().all(|line| !line.is_empty())),
    };
    let table = toml::Value::try_from(&config).unwrap_or_else(|error| panic!("{error}"));
    assert!(is_finite(&table), "{table}");
    let written = toml::to_string(&config).unwrap_or_else(|error| panic!("{error}"));
    let again = Config::parse(&written).unwrap_or_else(|wrong| panic!("{wrong:?} in {written}"));
    assert_eq!(toml::Value::try_from(&again).ok(), Some(table));
    let _ = (config.filters(), config.windows.shape(), Routes::new(&config.sources));
    let _ = Sources::new(&config.sources, &config.gateway).announcements(super::NOW);
    let _ = crate::decide::Decider::new(&config.fields);
    let _ = config.time.at(super::NOW);
    let (door, updates) = (&config.door, &config.updates);
    for seconds in
        [door.handshake_timeout_s, door.drain_timeout_s, updates.poll_s, updates.self_test_s, updates.probation_s]
    {
        let until = Instant::now().checked_add(Duration::from_secs(seconds));
        assert!(until.is_some(), "no clock can wait for {seconds} s");
    }
}

/// Whether every number is one.
fn is_finite(value: &toml::Value) -> bool {
    match value {
        toml::Value::Float(number) => number.is_finite(),
        toml::Value::Array(items) => items.iter().all(is_finite),
        toml::Value::Table(table) => table.values().all(is_finite),
        _ => true,
    }
}

/// A model's manifest.
pub fn model_manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(manifest) = Manifest::parse(text) else { return };
    assert!(manifest.check().is_empty() && manifest.threshold.is_finite() && !manifest.input.is_empty());
    let written = manifest.to_toml().unwrap_or_else(|error| panic!("{error}"));
    // A missing value is not equal to itself.
    let again = Manifest::parse(&written).and_then(|again| again.to_toml());
    assert_eq!(again.as_ref(), Ok(&written));
}

/// A model's file, as far as it is looked at without being run.
pub fn onnx(bytes: &[u8]) {
    let Ok(model) = structure::read(bytes) else { return };
    let alone = structure::inspect(&model, None);
    assert!(alone.ok == alone.problems.is_empty());
    let manifest = Manifest::parse(LoadedModel::base_files().1).unwrap_or_else(|error| panic!("{error}"));
    let report = structure::inspect(&model, Some(&manifest));
    assert!(report.problems.len() >= alone.problems.len(), "a manifest takes no problem away");
    assert_eq!(report.ok, structure::chosen_output(&report.outputs).is_some() && report.problems.is_empty());
}

/// A node's model, as it came, and with the checksum and golden output put right, so that what is behind them is reached
/// too. What is read is written as it was, and runs.
pub fn node_model(bytes: &[u8]) {
    written_as_read(bytes);
    let Some((body, _)) = bytes.split_last_chunk::<4>() else { return };
    let mut body = body.to_vec();
    let whole = |body: &[u8]| [body, &crc32fast::hash(body).to_le_bytes()].concat();
    if let Err(FileError::Golden { expected, .. }) = NodeModelFile::decode(&whole(&body)) {
        let output = body.len() - expected.len();
        body.splice(output.., expected.iter().map(|value| value.cast_unsigned()));
    }
    written_as_read(&whole(&body));
}

fn written_as_read(bytes: &[u8]) {
    let Ok(file) = NodeModelFile::decode(bytes) else { return };
    assert!(bytes.len() <= MAX_BYTES);
    assert_eq!(file.encode().as_deref(), Ok(bytes));
    let input: Vec<i8> = (0..file.channels.len() * file.steps).map(|at| file.normalise(at / file.steps, 1e9)).collect();
    assert!(file.errors(&input).iter().all(|error| error.is_finite()));
}
