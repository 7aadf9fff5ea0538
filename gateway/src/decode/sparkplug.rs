//! Sparkplug B 3.0: the gateway as a host application.

use proto::{GatewayId, Timestamp};
use serde::{Deserialize, Serialize};

use super::source::{Common, Decoded, Decoder, SourceError};

/// The first level of every Sparkplug topic.
pub const NAMESPACE: &str = "spBv1.0";
/// What the gateway takes: messages of nodes (without a device) and of devices (with one).
const OF_NODES: [&str; 3] = ["NBIRTH", "NDEATH", "NDATA"];
const OF_DEVICES: [&str; 3] = ["DBIRTH", "DDEATH", "DDATA"];

/// A `[[source]]` of the kind `sparkplug`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SparkplugConfig {
    /// The groups that are listened to; all when there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The gateway's name as a host application; its own when it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// Seconds between two rebirth requests to a node.
    pub rebirth_s: u32,
}

impl Default for SparkplugConfig {
    fn default() -> Self {
        Self { groups: Vec::new(), host_id: None, rebirth_s: 10 }
    }
}

impl SparkplugConfig {
    /// The topics that it takes.
    #[must_use]
    pub fn filters(&self) -> Vec<String> {
        let any = ["+".to_owned()];
        let groups = if self.groups.is_empty() { &any[..] } else { &self.groups };
        let of_group = |group: &String| {
            let nodes = OF_NODES.map(|kind| format!("{NAMESPACE}/{group}/{kind}/+"));
            let devices = OF_DEVICES.map(|kind| format!("{NAMESPACE}/{group}/{kind}/+/+"));
            nodes.into_iter().chain(devices)
        };
        groups.iter().flat_map(of_group).collect()
    }

    /// What is wrong with its values: key, value, and what is expected.
    #[must_use]
    pub fn check(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut wrong = Vec::new();
        let is_level = |text: &str| !text.is_empty() && text.len() <= 128 && !text.contains(['+', '#', '/', '\0']);
        for group in self.groups.iter().filter(|group| !is_level(group) || *group == "STATE") {
            wrong.push(("groups", format!("{group:?}"), "a group: 1 to 128 bytes without +, # and /"));
        }
        if let Some(host) = self.host_id.as_ref().filter(|host| !is_level(host)) {
            wrong.push(("host_id", format!("{host:?}"), "a name of 1 to 128 bytes without +, # and /"));
        }
        if self.rebirth_s == 0 {
            wrong.push(("rebirth_s", "0".to_owned(), "above 0 s"));
        }
        wrong
    }
}

/// The host application.
#[derive(Debug)]
pub struct Host;

impl Host {
    /// A host that knows no node.
    #[must_use]
    pub fn new(_common: &Common, _config: &SparkplugConfig, _gateway: &GatewayId) -> Self {
        Self
    }
}

impl Decoder for Host {
    fn decode(&mut self, _topic: &str, _payload: &[u8], _now: Timestamp) -> Result<Decoded, SourceError> {
        Ok(Decoded { aside: Some("Sparkplug B is not read yet".to_owned()), ..Decoded::default() })
    }
}
