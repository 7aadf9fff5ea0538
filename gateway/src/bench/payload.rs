//! What the stations of a benchmark send, encoded before anything is measured.

use proto::{Batch, Birth, Channel, Quantity, Reading, Timestamp};

/// Between two messages of a station, in its own time.
pub(super) const STEP_MS: i64 = 60_000;
/// The farm.
pub(super) const FARM: &str = "bench";
/// Every station's password.
pub(super) const PASSWORD: &str = "bench";

pub(super) const CHANNELS: [Channel; 8] = [
    Channel::at(Quantity::SoilMoisture, 10),
    Channel::at(Quantity::SoilMoisture, 20),
    Channel::at(Quantity::SoilMoisture, 40),
    Channel::at(Quantity::SoilTemperature, 10),
    Channel::at(Quantity::SoilTemperature, 30),
    Channel::at(Quantity::AirTemperature, 200),
    Channel::at(Quantity::RelativeHumidity, 200),
    Channel::of(Quantity::Battery),
];

/// How readings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// As [`Batch`]es.
    Native,
    /// As plain JSON.
    Json,
}

/// The name of a station.
pub(super) fn station(index: u32) -> String {
    format!("s{index}")
}

/// When each of `messages` messages of a station is of: [`STEP_MS`] apart, and all of them in the past.
pub(super) fn kept(messages: u32) -> impl Fn(u32) -> Timestamp {
    let begin = crate::wall_clock().plus_millis(-(i64::from(messages) + 12) * STEP_MS);
    move |number| begin.plus_millis(i64::from(number) * STEP_MS)
}

/// The readings of a station at `time`: a day's course, and a little noise, so that no two are the same.
pub(super) fn readings(station: u32, number: u32, time: Timestamp) -> Vec<Reading> {
    let day = (time.as_millis().rem_euclid(86_400_000) as f64 / 86_400_000.0 - 0.375) * std::f64::consts::TAU;
    let noise = |salt: u32| {
        let mixed =
            (u64::from(station) << 40 | u64::from(number) << 8 | u64::from(salt)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) as f64 / f64::from(1_u32 << 24) - 0.5
    };
    let values = [
        0.31 + 0.002 * noise(0),
        0.32 + 0.002 * noise(1),
        0.33 + 0.002 * noise(2),
        18.0 + 3.0 * (day - 1.0).sin() + 0.05 * noise(3),
        18.0 + 1.0 * (day - 2.0).sin() + 0.05 * noise(4),
        20.0 + 8.0 * day.sin() + 0.2 * noise(5),
        55.0 - 20.0 * day.sin() + 0.5 * noise(6),
        4.0 + 0.01 * noise(7),
    ];
    let reading = |(channel, value): (Channel, f64)| Reading { channel, time, value: channel.quantity.quantise(value) };
    CHANNELS.into_iter().zip(values).map(reading).collect()
}

/// A station's message `number`, counted from 0.
pub(super) fn payload(format: Format, station: u32, number: u32, time: Timestamp) -> Vec<u8> {
    let readings = readings(station, number, time);
    match format {
        // What these readings are can always be written.
        Format::Native => Batch { boot: 1, sequence: u64::from(number) + 1, readings }.encode().unwrap_or_default(),
        Format::Json => {
            let values: Vec<String> = readings.iter().map(|r| format!("\"{}\":{}", r.channel, r.value)).collect();
            format!("{{\"time\":\"{time}\",{}}}", values.join(",")).into_bytes()
        }
    }
}

/// What a native station says of itself.
pub(super) fn birth(interval_s: u32) -> Vec<u8> {
    Birth {
        boot: 1,
        firmware: "bench".to_owned(),
        interval_s,
        report_s: interval_s,
        channels: CHANNELS.to_vec(),
        field: None,
        latitude: None,
        longitude: None,
    }
    .encode()
}

/// All frames of all connections.
pub(super) struct Prepared {
    pub(super) stations: Vec<Frames>,
    /// The mean payload.
    pub(super) payload_bytes: f64,
}

/// The PUBLISH frames of one connection, one after the other.
pub(super) struct Frames {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<u32>,
}

impl Prepared {
    /// `each` messages of `stations` stations; `time` says when each is of.
    pub fn new(format: Format, stations: u32, each: u32, time: impl Fn(u32) -> Timestamp) -> Self {
        let mut payload_bytes = 0;
        let all = (0..stations).map(|index| {
            let mut frames = Frames { bytes: Vec::new(), ends: Vec::with_capacity(each as usize) };
            let topic = topic(index, "data");
            for number in 0..each {
                let payload = payload(format, index, number, time(number));
                payload_bytes += payload.len();
                publish(&mut frames.bytes, &topic, packet(number), &payload);
                frames.ends.push(u32::try_from(frames.bytes.len()).unwrap_or(u32::MAX));
            }
            frames
        });
        let all = all.collect();
        Self { stations: all, payload_bytes: payload_bytes as f64 / f64::from((stations * each).max(1)) }
    }
}

impl Frames {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of the frames `from..to`.
    pub fn bytes(&self, from: usize, to: usize) -> &[u8] {
        let end = |frames: usize| frames.checked_sub(1).map_or(0, |last| self.ends[last] as usize);
        &self.bytes[end(from)..end(to)]
    }
}

/// The packet id of message `number`.
pub(super) fn packet(number: u32) -> u16 {
    (number % 65_535) as u16 + 1
}

/// A topic of a station.
pub(super) fn topic(station: u32, kind: &str) -> String {
    format!("{}/{FARM}/{}/{kind}", proto::topic::PREFIX, self::station(station))
}

/// A CONNECT of MQTT 3.1.1 with a clean session, a name and a password.
pub(super) fn connect(name: &str) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0b1100_0010, 0x0e, 0x10];
    for text in [name, name, PASSWORD] {
        put_text(&mut body, text);
    }
    framed(0x10, &body)
}

/// A SUBSCRIBE with QoS 0.
pub(super) fn subscribe(filter: &str) -> Vec<u8> {
    let mut body = vec![0xff, 0xff];
    put_text(&mut body, filter);
    body.push(0);
    framed(0x82, &body)
}

/// Adds a PUBLISH with QoS 1.
pub(super) fn publish(to: &mut Vec<u8>, topic: &str, packet: u16, payload: &[u8]) {
    to.push(0x32);
    put_length(to, 2 + topic.len() + 2 + payload.len());
    put_text(to, topic);
    to.extend_from_slice(&packet.to_be_bytes());
    to.extend_from_slice(payload);
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    put_length(&mut frame, body.len());
    frame.extend_from_slice(body);
    frame
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    to.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    to.extend_from_slice(text.as_bytes());
}

fn put_length(to: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        to.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    to.push(length as u8);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::decode::{self, Message};
    use crate::door::DeliveryKind;

    #[test]
    fn both_formats_say_the_same() {
        let now = Timestamp::from_secs(1_780_297_200);
        let expected = readings(7, 3, now);
        let read = |format| decode::read(DeliveryKind::Data, &Bytes::from(payload(format, 7, 3, now)), now).unwrap();
        let (Message::Data(batch), Message::Plain(plain)) = (read(Format::Native), read(Format::Json)) else {
            panic!("other messages")
        };
        assert_eq!((batch.boot, batch.sequence), (1, 4));
        assert_eq!((&batch.readings, &plain.readings), (&expected, &expected));
        assert!(plain.timed && plain.refused.is_empty());
    }
}
