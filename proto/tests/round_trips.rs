//! What is written is read back as it was, and hostile bytes are refused in words.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proto::assignment::{Assignment, Assignments, MAX_SHADOW_S};
use proto::decision::{Cause, Decision, Inputs, Run};
use proto::manifest::{Feature, Golden, Input, Limits, Output, Statistic, Task};
use proto::{
    Ack, Aggregate, Alert, AlertKind, Batch, Birth, Channel, Command, CommandMessage, Driver, Lane, Manifest, Quantity,
    RawReadings, Reading, Record, RejectReason, Rejected, StationBirth, StationId, Stats, Status, Timestamp,
    UplinkBatch, Window,
};

fn quantity() -> impl Strategy<Value = Quantity> {
    proptest::sample::select(Quantity::ALL.to_vec())
}

fn channel() -> impl Strategy<Value = Channel> {
    (quantity(), option::of(0_u16..u16::MAX)).prop_map(|(quantity, level_cm)| Channel { quantity, level_cm })
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0_i64..4_000_000_000_000).prop_map(Timestamp::from_millis)
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    "[a-z0-9_-]{1,64}".prop_map(|text| text.parse().unwrap())
}

fn value(channel: Channel) -> impl Strategy<Value = f64> {
    let range = channel.quantity.range();
    (*range.start()..=*range.end()).prop_map(move |v| channel.quantity.quantise(v))
}

/// Up to six channels, each at an own subset of up to eight times.
fn batch() -> impl Strategy<Value = Batch> {
    let column = channel().prop_flat_map(|c| (Just(c), vec(option::of(value(c)), 8)));
    (any::<u32>(), 1_u64.., time(), vec(1_u32..4_000_000, 8), vec(column, 0..6)).prop_map(
        |(boot, sequence, base, steps, columns)| {
            let mut readings = Vec::new();
            let mut seen = BTreeSet::new();
            for (channel, values) in columns {
                let mut time = base;
                if !seen.insert(channel) {
                    continue;
                }
                for (step, value) in steps.iter().zip(values) {
                    time = time.plus_millis(i64::from(*step));
                    readings.extend(value.map(|value| Reading { channel, time, value }));
                }
            }
            readings.sort_by_key(|r| (r.time, r.channel));
            Batch { boot, sequence, readings }
        },
    )
}

fn birth() -> impl Strategy<Value = Birth> {
    let place = option::of((-90.0..=90.0, -180.0..=180.0));
    (any::<u32>(), "[ -~]{0,64}", 1_u32.., 1_u32.., btree_set(channel(), 0..20), option::of(id()), place).prop_map(
        |(boot, firmware, interval_s, report_s, channels, field, place)| Birth {
            boot,
            firmware,
            interval_s,
            report_s,
            channels: channels.into_iter().collect(),
            field,
            latitude: place.map(|p| p.0),
            longitude: place.map(|p| p.1),
        },
    )
}

fn stats() -> impl Strategy<Value = Stats> {
    (1_u32.., -1e6..1e6, 0.0..1e3, 0.0..1e3, 0.0..1e3).prop_map(|(count, min, up, more, stddev)| Stats {
        count,
        min,
        mean: min + up,
        max: min + up + more,
        stddev,
    })
}

fn rejected() -> impl Strategy<Value = Rejected> {
    let counts = proptest::sample::subsequence(RejectReason::ALL.to_vec(), 1..=RejectReason::ALL.len());
    (counts, vec(1_u32..1_000_000, RejectReason::ALL.len()), -1e9..1e9, 0.0..1e9).prop_map(
        |(reasons, counts, min, span)| Rejected {
            counts: reasons.into_iter().zip(counts).collect(),
            min,
            max: min + span,
        },
    )
}

fn window() -> impl Strategy<Value = Window> {
    let aggregates = btree_set(channel(), 0..10).prop_flat_map(|channels| {
        let each: Vec<_> = channels
            .into_iter()
            .map(|c| (Just(c), option::of(stats()), option::of(rejected())))
            .map(|parts| parts.prop_map(|(channel, accepted, rejected)| Aggregate { channel, accepted, rejected }))
            .collect();
        each
    });
    (id(), time(), 1_u32..=86_400, any::<u32>(), aggregates).prop_map(
        |(station, start, length_s, revision, aggregates)| Window { station, start, length_s, revision, aggregates },
    )
}

fn alert() -> impl Strategy<Value = Alert> {
    let kind = proptest::sample::select(AlertKind::ALL.to_vec());
    let drivers = vec((channel(), 0.0..=1.0).prop_map(|(channel, share)| Driver { channel, share }), 0..5);
    let what = (id(), option::of(channel()), kind, time(), time(), option::of(time()));
    let why =
        (-1e6..1e6, -1e6..1e6, option::of(-1e6..1e6), drivers, option::of("[a-z ]{1,40}"), any::<u32>(), ".{0,100}");
    (what, why).prop_map(|((station, channel, kind, opened, updated, closed), why)| {
        let (score, threshold, value, drivers, model, revision, message) = why;
        let id = Alert::id_of(&station, channel, kind, opened);
        Alert {
            id,
            station,
            channel,
            kind,
            opened,
            updated,
            closed,
            score,
            threshold,
            value,
            drivers,
            model,
            revision,
            message,
        }
    })
}

fn decision() -> impl Strategy<Value = Decision> {
    let run = option::of((0.0..500.0, 1_u32..=1_440).prop_map(|(mm, minutes)| Run { mm, minutes }));
    let cause = proptest::sample::select(&Cause::ALL[1..]);
    let inputs = (option::of(-1e3..1e3), 0.0..1e3, 0.0..1e3, option::of(0.0..1e3), any::<u32>(), any::<u32>());
    (id(), time(), run, cause, ".{0,100}", inputs, vec(id(), 0..4), vec(id(), 0..4)).prop_map(
        |(field, at, run, cause, reason, inputs, stations, confirmed)| {
            let (depletion_mm, total_mm, readily_mm, rain_mm, probes, untrusted) = inputs;
            Decision {
                id: Decision::id_of(&field, at),
                field,
                at,
                cause: if run.is_some() { Cause::Due } else { cause },
                run,
                reason,
                inputs: Inputs { depletion_mm, total_mm, readily_mm, rain_mm, probes, untrusted },
                stations,
                confirmed,
            }
        },
    )
}

fn uplink() -> impl Strategy<Value = UplinkBatch> {
    let births = (id(), time(), birth()).prop_map(|(station, at, birth)| StationBirth { station, at, birth });
    let readings = vec(
        (channel(), time(), prop_oneof![-100.0..100.0_f64, (-9_999..9_999_i32).prop_map(|n| f64::from(n) / 100.0)]),
        1..20,
    );
    let raw = (id(), readings).prop_map(|(station, readings)| {
        RawReadings::new(
            station,
            readings.into_iter().map(|(channel, time, value)| Reading { channel, time, value }).collect(),
        )
    });
    let records = prop_oneof![
        vec(alert().prop_map(Record::Alert), 1..5),
        vec(window().prop_map(Record::Window), 1..5),
        vec(births.prop_map(Record::Birth), 1..5),
        vec(raw.prop_map(Record::Raw), 1..5),
        vec(decision().prop_map(Record::Decision), 1..5),
    ];
    (id(), id(), 0_u64..1 << 63, 1_u64..1 << 60, records).prop_map(|(farm, gateway, store, first, records)| {
        UplinkBatch { farm, gateway, store, lane: records[0].lane(), first, records }
    })
}

fn assignments() -> impl Strategy<Value = Assignments> {
    let assignment = ("[1-9]\\.0\\.0", "[0-9a-f]{64}", 1_u64.., 0_u32..=MAX_SHADOW_S, 0_u8..=100).prop_map(
        |(version, sha256, serial, shadow_s, percent)| Assignment {
            version,
            sha256,
            serial,
            shadow_s,
            min_agreement: f64::from(percent) / 100.0,
        },
    );
    btree_map("[a-z0-9-]{1,64}", assignment, 0..4).prop_map(|models| Assignments { models })
}

fn manifest() -> impl Strategy<Value = Manifest> {
    let statistic = proptest::sample::select(vec![Statistic::Min, Statistic::Mean, Statistic::Max, Statistic::Stddev]);
    let features = btree_set((channel(), statistic), 1..5);
    let shape = (features, 1_u32..4, 1_u32..=86_400, btree_set(channel(), 1..4));
    (
        shape,
        "[a-z0-9-]{1,64}",
        (0_u32..100, 0_u32..100),
        0.1..10.0,
        "[0-9a-f]{64}",
        ".{0,80}",
        vec(option::of(-1e3..1e3), 12),
    )
        .prop_map(
            |((features, steps, window_s, scores), name, (major, minor), threshold, sha256, trained_on, values)| {
                let features =
                    features.into_iter().map(|(channel, statistic)| Feature { channel, statistic }).collect();
                let input = Input { features, steps, window_s };
                let values = values.into_iter().map(|v| v.unwrap_or(f64::NAN)).cycle();
                let golden = Golden { input: values.take(input.len()).collect(), output: vec![0.5; scores.len()] };
                Manifest {
                    name,
                    version: format!("{major}.{minor}.0"),
                    task: Task::Anomaly,
                    threshold,
                    tolerance: 1e-4,
                    sha256,
                    trained_on,
                    parent: None,
                    metrics: [("held_out_loss".to_owned(), threshold / 3.0)].into(),
                    input,
                    output: Output { scores: scores.into_iter().collect() },
                    limits: Limits { max_bytes: 1 << 20, max_latency_ms: 100, max_memory_bytes: 1 << 26 },
                    golden: vec![golden],
                }
            },
        )
}

/// Bytes that are nearly right: a message with one byte changed, cut off or doubled.
fn bent(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    (Just(bytes), any::<prop::sample::Index>(), any::<u8>(), 0_u8..3).prop_map(|(mut bytes, at, byte, how)| {
        if bytes.is_empty() {
            return vec![byte];
        }
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] = byte,
            1 => bytes.truncate(at),
            _ => bytes.insert(at, byte),
        }
        bytes
    })
}

proptest! {
    #[test]
    fn a_batch_comes_back_bit_for_bit(batch in batch()) {
        let back = Batch::decode(&batch.encode().unwrap()).unwrap();
        prop_assert_eq!(&back, &batch);
        for (a, b) in back.readings.iter().zip(&batch.readings) {
            prop_assert_eq!(a.value.to_bits(), b.value.to_bits());
        }
    }

    #[test]
    fn births_acks_commands_and_statuses_come_back(birth in birth(), boot: u32, sequence: u64, time in time(), minutes: u32, online: bool, irrigated: Option<u64>) {
        let mut sorted = birth.clone();
        sorted.channels.sort_unstable();
        prop_assert_eq!(Birth::decode(&birth.encode()).unwrap(), sorted);
        let ack = Ack { boot, sequence };
        prop_assert_eq!(Ack::decode(&ack.encode()).unwrap(), ack);
        for command in [Command::Birth, Command::SetTime(time), Command::Irrigate { minutes }] {
            let message = CommandMessage { id: sequence, command };
            prop_assert_eq!(CommandMessage::decode(&message.encode()).unwrap(), message);
        }
        let status = Status { online, boot, irrigated, model: None };
        prop_assert_eq!(Status::decode(&status.encode()).unwrap(), status);
    }

    #[test]
    fn an_uplink_batch_comes_back(batch in uplink()) {
        prop_assert_eq!(UplinkBatch::decode(&batch.encode()).unwrap(), batch.clone());
        for record in batch.records {
            prop_assert_eq!(Record::decode(&record.encode()).unwrap(), record);
        }
    }

    #[test]
    fn a_manifest_comes_back(manifest in manifest()) {
        let back = Manifest::parse(&manifest.to_toml().unwrap()).unwrap();
        // NaN is not equal to itself: compare what is written.
        prop_assert_eq!(format!("{back:?}"), format!("{manifest:?}"));
    }

    #[test]
    fn assignments_come_back(assignments in assignments()) {
        prop_assert_eq!(Assignments::parse(assignments.to_json().as_bytes()).unwrap(), assignments);
    }

    #[test]
    fn channels_and_features_come_back(channel in channel()) {
        prop_assert_eq!(channel.to_string().parse::<Channel>().unwrap(), channel);
        prop_assert_eq!(Channel::from_code(channel.code()).unwrap(), channel);
        let feature = Feature { channel, statistic: Statistic::Stddev };
        prop_assert_eq!(feature.to_string().parse::<Feature>().unwrap(), feature);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        read_everything(&bytes);
    }

    #[test]
    fn nearly_right_bytes_are_read_or_refused(bytes in prop_oneof![
        batch().prop_map(|b| b.encode().unwrap()),
        birth().prop_map(|b| b.encode()),
        uplink().prop_map(|b| b.encode()),
    ].prop_flat_map(bent)) {
        read_everything(&bytes);
    }

    #[test]
    fn what_was_read_can_be_written_again(bytes in uplink().prop_map(|b| b.encode()).prop_flat_map(bent)) {
        if let Ok(batch) = UplinkBatch::decode(&bytes) {
            prop_assert_eq!(UplinkBatch::decode(&batch.encode()).unwrap(), batch);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        let _ = (text.parse::<Channel>(), text.parse::<Feature>(), text.parse::<StationId>(), text.parse::<Timestamp>());
        let _ = (text.parse::<proto::Topic>(), Manifest::parse(&text), Assignments::parse(text.as_bytes()));
    }
}

#[test]
fn everything_that_is_wrong_with_assignments_is_named() {
    let text =
        r#"{"models":{"Soil":{"version":"1.0","sha256":"abc","serial":0,"shadow_s":99999999,"min_agreement":1.5}}}"#;
    let wrong = Assignments::parse(text.as_bytes()).unwrap_err();
    assert_eq!(wrong.len(), 6, "{wrong:#?}");
    assert_eq!(wrong[1], r#"models.Soil.version: "1.0" is not three numbers like 1.0.0"#);
}

fn read_everything(bytes: &[u8]) {
    let _ = (Batch::decode(bytes), Birth::decode(bytes), Ack::decode(bytes), CommandMessage::decode(bytes));
    let _ = (Status::decode(bytes), UplinkBatch::decode(bytes), Record::decode(bytes));
}

#[test]
fn thirteen_channels_at_three_times_take_about_four_bytes_a_reading() {
    let base = Timestamp::from_secs(1_750_000_000);
    let channels = [
        (Channel::at(Quantity::SoilMoisture, 10), 0.2134),
        (Channel::at(Quantity::SoilMoisture, 20), 0.2418),
        (Channel::at(Quantity::SoilMoisture, 40), 0.2683),
        (Channel::at(Quantity::SoilTemperature, 10), 24.13),
        (Channel::at(Quantity::SoilTemperature, 30), 21.87),
        (Channel::at(Quantity::SoilEc, 20), 0.83),
        (Channel::at(Quantity::AirTemperature, 200), 27.4),
        (Channel::at(Quantity::RelativeHumidity, 200), 41.3),
        (Channel::at(Quantity::WindSpeed, 200), 2.31),
        (Channel::of(Quantity::SolarRadiation), 712.0),
        (Channel::of(Quantity::Rain), 0.0),
        (Channel::of(Quantity::Battery), 3.912),
        (Channel::of(Quantity::Rssi), -81.0),
    ];
    let mut readings = Vec::new();
    for n in 0..3 {
        for (channel, value) in channels {
            let value = channel.quantity.quantise(value + f64::from(n) * 0.001);
            readings.push(Reading { channel, time: base.plus_secs(i64::from(n) * 300), value });
        }
    }
    let bytes = Batch { boot: 3, sequence: 4711, readings }.encode().unwrap().len();
    assert!(bytes <= 39 * 6, "{bytes} bytes for 39 readings");
}

#[test]
fn a_small_message_cannot_ask_for_a_large_allocation() {
    // A packed field that claims 2^31 values, and one whose steps run over the end of time.
    assert!(Batch::decode(&[0x22, 0xff, 0xff, 0xff, 0xff, 0x07]).is_err());
    let late = Batch {
        boot: 1,
        sequence: 1,
        readings: vec![Reading { channel: Channel::of(Quantity::Rain), time: Timestamp::MAX, value: 0.0 }],
    };
    assert_eq!(Batch::decode(&late.encode().unwrap()).unwrap(), late);
}

#[test]
fn a_wrong_field_is_named_with_its_value() {
    let mut batch = Batch { boot: 1, sequence: 1, readings: vec![] };
    batch.sequence = 0;
    let error = Batch::decode(&batch.encode().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "field sequence: 0 is not allowed");
    assert_eq!(error.reason(), "value");
    let reading = Reading { channel: Channel::of(Quantity::Rain), time: Timestamp::from_secs(1), value: f64::NAN };
    let error = Batch { boot: 1, sequence: 1, readings: vec![reading] }.encode().unwrap_err();
    assert_eq!(error.to_string(), "rain at 1970-01-01T00:00:01Z: NaN cannot be sent");
    let error =
        Batch { boot: 1, sequence: 1, readings: vec![Reading { value: 1.0, ..reading }; 2] }.encode().unwrap_err();
    assert_eq!(error.to_string(), "rain at 1970-01-01T00:00:01Z: two readings");
}

#[test]
fn every_mistake_of_a_manifest_is_named_at_once() {
    let text = r#"
        name = "Soil"
        version = "1.0"
        task = "anomaly"
        threshold = -1.0
        tolerance = 1e-4
        sha256 = "00"
        trained_on = "nothing"
        [input]
        features = ["soil_moisture_20cm.mean"]
        steps = 2
        window_s = 900
        [output]
        scores = ["soil_moisture_20cm"]
        [limits]
        max_bytes = 1
        max_latency_ms = 1
        max_memory_bytes = 1
        [[golden]]
        input = [0.2]
        output = [0.1]
    "#;
    let error = Manifest::parse(text).unwrap_err().to_string();
    for part in [
        "name: \"Soil\"",
        "version: \"1.0\"",
        "threshold: -1.0",
        "sha256: \"00\"",
        "golden[0].input: 1 is not 2 values",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert!(Lane::ALL.iter().all(|lane| !lane.name().is_empty()));
}
