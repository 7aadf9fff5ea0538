//! Which model a farm's nodes are to run, and on which stations first: a signed target of the registry, like what gateways
//! are to run ([`crate::assignment`]). Every gateway of the farm reads it and brings it to its own stations.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::checked::{self, Wrong};
use crate::id::{FarmId, StationId};
use crate::manifest::{is_digest, is_name};
use crate::node_model::NodeModelVersion;

/// The largest rollout, bytes.
pub const MAX_ROLLOUT_BYTES: u64 = 64 << 10;
/// The most stations that a stage names; more are a share.
pub const MAX_NAMED: usize = 500;

/// The target that holds a node's model.
#[must_use]
pub fn node_model_target(name: &str, version: NodeModelVersion) -> String {
    format!("{name}-{version}.node")
}

/// The target that says what a farm's nodes are to run.
#[must_use]
pub fn rollout_target(farm: &FarmId) -> String {
    format!("nodes.{farm}.json")
}

/// What is to be done with a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The stations of the stage get the model.
    Go,
    /// Nothing more is sent; what runs stays.
    Pause,
    /// Nothing more is sent, and whoever runs it goes back.
    Abort,
}

impl Order {
    /// Every order.
    pub const ALL: [Self; 3] = [Self::Go, Self::Pause, Self::Abort];

    /// Its name in tables and the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Pause => "pause",
            Self::Abort => "abort",
        }
    }
}

/// Which model a farm's nodes are to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRollout {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: NodeModelVersion,
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    /// Grows with each rollout of the farm. A stage that was stopped goes on with a higher one only.
    pub serial: u64,
    /// What is to be done.
    pub order: Order,
    /// Stations that are in the stage.
    #[serde(default)]
    pub stations: BTreeSet<StationId>,
    /// The share of all stations that is in the stage beside them, 0 to 1. A larger share holds those of a smaller one.
    pub share: f64,
    /// The stage stops when more than this share of its stations refuse the model or roll it back, 0 to 1.
    pub most_failed: f64,
}

impl NodeRollout {
    /// Reads and checks a rollout.
    ///
    /// # Errors
    /// Everything that is wrong, a sentence each.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<String>> {
        checked::read(bytes, MAX_ROLLOUT_BYTES, Self::check)
    }

    /// The rollout as JSON. The same rollout gives the same bytes.
    #[must_use]
    pub fn to_json(&self) -> String {
        checked::written(self)
    }

    /// What is wrong, a sentence each; nothing when all is well.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Wrong::default();
        let shown: String = self.name.chars().take(64).collect();
        wrong.expect(is_name(&self.name), "name", &shown, "a name of 1 to 64 characters of a-z, 0-9 and -");
        wrong.expect(is_digest(&self.sha256), "sha256", &self.sha256, "64 characters of 0-9 and a-f");
        wrong.expect(self.serial > 0, "serial", &self.serial, "above 0");
        wrong.expect((0.0..=1.0).contains(&self.share), "share", &self.share, "0 to 1");
        wrong.expect((0.0..=1.0).contains(&self.most_failed), "most_failed", &self.most_failed, "0 to 1");
        wrong.expect(self.stations.len() <= MAX_NAMED, "stations", &self.stations.len(), "at most 500 stations");
        wrong.0
    }

    /// Whether a station is in the stage.
    #[must_use]
    pub fn holds(&self, station: &StationId) -> bool {
        self.stations.contains(station) || place(&self.name, self.version, station) < self.share
    }

    /// The digest in bytes; none of a rollout that was not checked.
    #[must_use]
    pub fn digest(&self) -> Option<[u8; 32]> {
        let mut digest = [0; 32];
        for (index, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(self.sha256.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(digest)
    }
}

/// Where a station stands in the order in which a version comes to all, 0 to below 1: by chance, but always the same
/// (FNV-1a, 64 bits, stirred once more as MurmurHash3 does in its end, for FNV alone leaves names that differ in the last
/// letter beside each other).
fn place(name: &str, version: NodeModelVersion, station: &StationId) -> f64 {
    let text = format!("{name}/{version}/{station}");
    let mut hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ hash >> 33).wrapping_mul(factor);
    }
    hash ^= hash >> 33;
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout() -> NodeRollout {
        NodeRollout {
            name: "soil-node".to_owned(),
            version: "1.0.0".parse().unwrap(),
            sha256: "ab".repeat(32),
            serial: 3,
            order: Order::Go,
            stations: ["n1".parse().unwrap()].into(),
            share: 0.0,
            most_failed: 0.1,
        }
    }

    fn station(number: usize) -> StationId {
        format!("n{number}").parse().unwrap()
    }

    #[test]
    fn a_stage_grows_with_its_share_and_keeps_whom_it_had() {
        let stage = |share| {
            let rollout = NodeRollout { share, ..rollout() };
            (1..=1000).filter(|number| rollout.holds(&station(*number))).collect::<BTreeSet<usize>>()
        };
        assert_eq!(stage(0.0), [1].into());
        let (small, large) = (stage(0.1), stage(0.5));
        assert!(small.is_subset(&large) && small.contains(&1));
        assert!(
            (70..=130).contains(&small.len()) && (440..=560).contains(&large.len()),
            "{} {}",
            small.len(),
            large.len()
        );
        assert_eq!(stage(1.0).len(), 1000);
    }

    #[test]
    fn a_rollout_is_read_as_it_was_written_and_everything_that_is_wrong_is_named() {
        assert_eq!(NodeRollout::parse(rollout().to_json().as_bytes()), Ok(rollout()));
        assert_eq!(rollout().digest(), Some([0xab; 32]));
        let wrong = NodeRollout {
            name: "A".to_owned(),
            sha256: "x".to_owned(),
            serial: 0,
            share: 1.5,
            most_failed: f64::NAN,
            ..rollout()
        };
        let keys: Vec<String> = wrong.check().iter().map(|wrong| wrong.split(':').next().unwrap().to_owned()).collect();
        assert_eq!(keys, ["name", "sha256", "serial", "share", "most_failed"]);
        for order in Order::ALL {
            assert_eq!(serde_json::to_value(order).unwrap(), order.name());
        }
    }
}
