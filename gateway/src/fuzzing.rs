//! What the fuzz targets (`gateway/fuzz`) and the test over their corpus call: every decoder of bytes from outside and from
//! the disk, and what must hold of whatever it takes. A target panics when something does not.

use proto::{Ack, Batch, Birth, CommandMessage, Reading, Status, Timestamp, UplinkBatch};
use serde::Deserialize;

use crate::decode::mapping::JsonConfig;
use crate::decode::source::{SourceConfig, Sources, check};
use crate::decode::{cayenne, chirpstack, json, senml};

mod cloud;
mod documents;
mod mqtt;
mod stored;

pub use cloud::{cloud_answer, model_assignments, node_rollout};
pub use documents::{configuration, model_manifest, node_model, onnx};
pub use mqtt::{mqtt_frames, mqtt5_frames};
pub use stored::{kept_state, raw_row};

/// The moment at which everything comes.
const NOW: Timestamp = Timestamp::from_secs(1_780_297_200);

/// A target and what it does with its input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target by its name, which is also that of its folder of seeds.
pub const TARGETS: [Target; 20] = [
    ("native", native),
    ("plain_json", plain_json),
    ("sparkplug", sparkplug),
    ("chirpstack", chirpstack),
    ("cayenne", cayenne),
    ("senml_json", senml_json),
    ("senml_cbor", senml_cbor),
    ("mapping", mapping),
    ("mqtt_frames", mqtt_frames),
    ("mqtt5_frames", mqtt5_frames),
    ("raw_row", raw_row),
    ("kept_state", kept_state),
    ("configuration", configuration),
    ("model_manifest", model_manifest),
    ("onnx", onnx),
    ("cloud_answer", cloud_answer),
    ("model_assignments", model_assignments),
    ("node_rollout", node_rollout),
    ("node_model", node_model),
    ("uplink_batch", uplink_batch),
];

/// Messages of native stations, and those that go to them: what is written of what was read is read as it was. (A batch is written with its quantities'
/// decimals, and may have come with more of them; so it is written once before it is compared.)
pub fn native(bytes: &[u8]) {
    if let Ok(batch) = Batch::decode(bytes) {
        readings(&batch.readings);
        if let Ok(Ok(rounded)) = batch.encode().map(|bytes| Batch::decode(&bytes)) {
            assert_eq!(rounded.encode().ok().map(|bytes| Batch::decode(&bytes)), Some(Ok(rounded)));
        }
    }
    if let Ok(birth) = Birth::decode(bytes) {
        assert_eq!(Birth::decode(&birth.encode()), Ok(birth));
    }
    if let Ok(status) = Status::decode(bytes) {
        assert_eq!(Status::decode(&status.encode()), Ok(status));
    }
    if let Ok(ack) = Ack::decode(bytes) {
        assert_eq!(Ack::decode(&ack.encode()), Ok(ack));
    }
    if let Ok(command) = CommandMessage::decode(bytes) {
        assert_eq!(CommandMessage::decode(&command.encode()), Ok(command));
    }
}

/// Plain JSON of native stations.
pub fn plain_json(bytes: &[u8]) {
    let _ = json::is_plain(bytes);
    if let Ok(plain) = json::read(bytes, NOW) {
        assert!(!plain.readings.is_empty());
        readings(&plain.readings);
        assert_eq!(json::read(bytes, NOW), Ok(plain), "the same bytes are the same readings");
    }
}

/// Several messages of Sparkplug nodes and devices, one after the other.
pub fn sparkplug(bytes: &[u8]) {
    const KINDS: [&str; 7] = ["NBIRTH", "NDATA", "DBIRTH", "DDATA", "NDEATH", "DDEATH", "STATE"];
    let mut sources = sources("[[source]]\nkind = \"sparkplug\"");
    messages(bytes, |kind, payload| {
        let name = KINDS[usize::from(kind) % KINDS.len()];
        let device = if name.starts_with('D') { "/d" } else { "" };
        decode(&mut sources, &format!("spBv1.0/g/{name}/e{device}"), payload);
    });
}

/// ChirpStack's events, uplinks with Cayenne LPP among them.
pub fn chirpstack(bytes: &[u8]) {
    let topic = "application/1/device/0101010101010101/event/up";
    let _ = chirpstack::read(topic, bytes, &[1, 2]);
    let text = "[[source]]\nkind = \"chirpstack\"\ncayenne_ports = [1, 2]\n\
                channels = [{ name = \"*\", channel = \"rain\", counter = true }]";
    let mut sources = sources(text);
    for event in ["up", "status", "join"] {
        decode(&mut sources, &format!("application/1/device/0101010101010101/event/{event}"), bytes);
    }
}

/// Cayenne LPP: every value is finite, and nothing is left over.
pub fn cayenne(bytes: &[u8]) {
    if let Ok(items) = cayenne::read(bytes) {
        assert!(items.iter().all(|item| item.value.is_finite()));
        assert!(items.len() <= bytes.len() && items.is_empty() == bytes.is_empty());
    }
}

/// SenML in JSON.
pub fn senml_json(bytes: &[u8]) {
    if let Ok(rows) = senml::json::rows(bytes) {
        pack(rows);
    }
    packs(bytes);
}

/// SenML in CBOR.
pub fn senml_cbor(bytes: &[u8]) {
    if let Ok(rows) = senml::cbor::rows(bytes) {
        pack(rows);
    }
    packs(bytes);
}

/// A mapping and a message: the first line is the mapping in JSON, the rest is the message.
pub fn mapping(bytes: &[u8]) {
    let (config, payload) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (&b"{\"topic\":\"a/{station}\"}"[..], bytes),
    };
    let Ok(config) = serde_json::from_slice::<JsonConfig>(config) else { return };
    if let Ok(mapping) = config.build()
        && let Ok(mapped) = mapping.read("a/b", payload)
    {
        assert!(mapped.values.iter().all(|named| named.value.is_finite()));
    }
    let text = toml::Table::from_iter([
        ("kind".to_owned(), toml::Value::from("json")),
        ("topic".to_owned(), toml::Value::from("a/{station}")),
    ]);
    if let Ok(config) = SourceConfig::try_from(text) {
        decode(&mut Sources::new(&[config], &gateway()), "a/b", payload);
    }
}

/// What a gateway sends to the cloud.
pub fn uplink_batch(bytes: &[u8]) {
    if let Ok(batch) = UplinkBatch::decode(bytes) {
        let again = UplinkBatch::decode(&batch.encode());
        assert_eq!(again.map(|again| again.encode()), Ok(batch.encode()));
    }
}

/// A resolved pack.
fn pack(rows: Vec<senml::Fields>) {
    let Ok(pack) = senml::resolve(rows, NOW) else { return };
    assert!(pack.records.windows(2).all(|pair| pair[0].time <= pair[1].time));
    for record in &pack.records {
        assert!(!record.name.is_empty() && record.name.len() <= senml::MAX_NAME);
        assert!(record.sum.is_none_or(f64::is_finite));
        assert!(!matches!(record.value, Some(senml::Value::Number(value)) if !value.is_finite()));
        let (station, measured) = senml::split(&record.name);
        assert!(station.map_or(0, str::len) + measured.len() <= record.name.len());
    }
}

fn packs(bytes: &[u8]) {
    let mut sources = sources(
        "[[source]]\nkind = \"senml\"\ntopics = [\"p\", \"p/{station}\"]\n\
         channels = [{ name = \"{x}#sum\", channel = \"rain\", counter = true }]",
    );
    decode(&mut sources, "p", bytes);
    decode(&mut sources, "p/n7", bytes);
}

/// Cuts an input into messages: a byte for the kind, two for the length.
fn messages(bytes: &[u8], mut each: impl FnMut(u8, &[u8])) {
    let mut rest = bytes;
    while let [kind, low, high, after @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
        each(*kind, &after[..length]);
        rest = &after[length..];
    }
}

/// What holds of whatever a source takes.
fn decode(sources: &mut Sources, topic: &str, payload: &[u8]) {
    let Ok(taken) = sources.decode(topic, payload, NOW) else { return };
    for (_, all) in &taken.decoded.stations {
        assert!(!all.is_empty());
        readings(all);
    }
    for unknown in &taken.decoded.unknown {
        // It is a line that can be copied into the configuration.
        let line = format!("channels = [{}]", unknown.line());
        let read: Result<Lines, _> = toml::from_str(&line);
        assert!(read.is_ok_and(|lines| lines.channels.len() == 1), "{line}");
    }
}

#[derive(Deserialize)]
struct Lines {
    channels: Vec<crate::decode::source::ChannelRule>,
}

fn readings(readings: &[Reading]) {
    for reading in readings {
        assert!(reading.value.is_finite(), "{reading:?}");
        assert!((Timestamp::MIN..=Timestamp::MAX).contains(&reading.time), "{reading:?}");
    }
}

fn configs(text: &str) -> Vec<SourceConfig> {
    #[derive(Deserialize)]
    struct File {
        source: Vec<SourceConfig>,
    }
    let source = toml::from_str(text).map_or_else(|_| Vec::new(), |File { source }| source);
    assert!(!source.is_empty() && check(&source).is_empty(), "{text}");
    source
}

fn sources(text: &str) -> Sources {
    Sources::new(&configs(text), &gateway())
}

fn gateway() -> proto::GatewayId {
    "gw".parse().unwrap_or_else(|_| unreachable!("gw is a name"))
}
