//! What a host application says: whether it is there, and commands to nodes and devices. Pure.

use bytes::Bytes;
use prost::Message as _;
use proto::Timestamp;

use super::NAMESPACE;
use super::wire;
use crate::decode::source::Announcement;

/// The metric that makes a node publish its births again (Sparkplug 3.0.0, 6.4.20).
const REBIRTH: &str = "Node Control/Rebirth";

/// What a metric is set to.
#[derive(Debug, Clone, PartialEq)]
pub enum CommandValue {
    /// Boolean.
    Boolean(bool),
    /// Int32; negative ones in two's complement.
    Int(i32),
    /// Int64; negative ones in two's complement.
    Long(i64),
    /// Double.
    Double(f64),
    /// String.
    Text(String),
}

/// Whether the gateway is there, by the rules of Sparkplug 3.0.0, 6.4.25: both messages bear the time from which on it is.
#[must_use]
pub fn state(host: &str, now: Timestamp) -> Announcement {
    let payload = |online: bool| Bytes::from(format!("{{\"online\":{online},\"timestamp\":{}}}", now.as_millis()));
    Announcement { topic: format!("{NAMESPACE}/STATE/{host}"), online: payload(true), offline: payload(false) }
}

/// A command to a node, or to a device of it, that sets metrics: topic and payload, to be published with QoS 0 and not
/// retained. The names are those of the births.
#[must_use]
pub fn command(
    group: &str,
    node: &str,
    device: Option<&str>,
    metrics: &[(&str, CommandValue)],
    now: Timestamp,
) -> (String, Bytes) {
    let topic = match device {
        Some(device) => format!("{NAMESPACE}/{group}/DCMD/{node}/{device}"),
        None => format!("{NAMESPACE}/{group}/NCMD/{node}"),
    };
    let timestamp = u64::try_from(now.as_millis()).ok();
    let metric = |(name, value): &(&str, CommandValue)| {
        use wire::metric::Value;
        let (datatype, value) = match value {
            CommandValue::Boolean(value) => (11, Value::BooleanValue(*value)),
            CommandValue::Int(value) => (3, Value::IntValue(value.cast_unsigned())),
            CommandValue::Long(value) => (4, Value::LongValue(value.cast_unsigned())),
            CommandValue::Double(value) => (10, Value::DoubleValue(*value)),
            CommandValue::Text(value) => (12, Value::StringValue(value.clone())),
        };
        let name = Some((*name).to_owned());
        wire::Metric { name, timestamp, datatype: Some(datatype), value: Some(value), ..wire::Metric::default() }
    };
    let metrics = metrics.iter().map(metric).collect();
    let payload = wire::Payload { timestamp, metrics, ..wire::Payload::default() };
    (topic, payload.encode_to_vec().into())
}

/// The request that a node publishes its births again.
#[must_use]
pub fn rebirth(group: &str, node: &str, now: Timestamp) -> (String, Bytes) {
    command(group, node, None, &[(REBIRTH, CommandValue::Boolean(true))], now)
}

#[cfg(test)]
mod tests {
    use super::super::payload::{Said, decode_payload};
    use super::*;

    #[test]
    fn commands_and_states_are_as_the_standard_has_them() {
        let now = Timestamp::from_millis(1_668_114_759_262);
        let state = state("host-1", now);
        assert_eq!(state.topic, "spBv1.0/STATE/host-1");
        assert_eq!(state.online, &b"{\"online\":true,\"timestamp\":1668114759262}"[..]);
        assert_eq!(state.offline, &b"{\"online\":false,\"timestamp\":1668114759262}"[..]);

        let (topic, payload) = rebirth("G", "edge", now);
        assert_eq!(topic, "spBv1.0/G/NCMD/edge");
        let read = decode_payload(&payload).unwrap();
        assert_eq!((read.timestamp, read.seq), (Some(1_668_114_759_262), None), "a command has no seq");
        assert_eq!(read.metrics[0].name.as_deref(), Some("Node Control/Rebirth"));
        assert_eq!(read.metrics[0].said(None), Ok(Said::Boolean(true)));

        let set = [("Valve/Minutes", CommandValue::Int(-5)), ("Rate", CommandValue::Double(0.5))];
        let (topic, payload) = command("G", "edge", Some("valve"), &set, now);
        assert_eq!(topic, "spBv1.0/G/DCMD/edge/valve");
        let said: Vec<Said> = decode_payload(&payload).unwrap().metrics.iter().map(|m| m.said(None).unwrap()).collect();
        assert_eq!(said, [Said::Number(-5.0), Said::Number(0.5)]);
    }
}
