use prost::Message as _;

use super::*;
use crate::decode::source::{SourceConfig, Sources};

const NOW: Timestamp = Timestamp::from_secs(1_780_297_200);

fn host() -> Host {
    let source: SourceConfig = toml::from_str(
        r#"
        kind = "sparkplug"
        name = "gh"
        field = "north"
        channels = [{ name = "VWC {cm}", channel = "soil_moisture_{cm}cm", unit = "%" }]
        "#,
    )
    .unwrap();
    let crate::decode::source::Kind::Sparkplug(config) = &source.kind else { panic!("another kind") };
    Host::new(&source.common, config, &"g1".parse().unwrap())
}

/// A metric with the value of a double.
fn metric(name: &str, alias: Option<u64>, value: f64) -> wire::Metric {
    wire::Metric {
        name: (!name.is_empty()).then(|| name.to_owned()),
        alias,
        datatype: (!name.is_empty()).then_some(10),
        value: Some(wire::metric::Value::DoubleValue(value)),
        ..wire::Metric::default()
    }
}

fn with_unit(unit: &str, metric: wire::Metric) -> wire::Metric {
    let value = wire::property_value::Value::StringValue(unit.to_owned());
    let values = vec![wire::PropertyValue { r#type: Some(12), value: Some(value), ..wire::PropertyValue::default() }];
    let properties = Some(wire::PropertySet { keys: vec!["engUnit".to_owned()], values });
    wire::Metric { properties, ..metric }
}

fn session(number: u64) -> wire::Metric {
    let value = Some(wire::metric::Value::LongValue(number));
    wire::Metric { name: Some("bdSeq".to_owned()), datatype: Some(4), value, ..wire::Metric::default() }
}

/// A payload that was made `secs` after [`NOW`].
fn payload(seq: Option<u64>, secs: i64, metrics: Vec<wire::Metric>) -> Vec<u8> {
    let timestamp = Some(NOW.plus_secs(secs).as_millis() as u64);
    wire::Payload { timestamp, seq, metrics, ..wire::Payload::default() }.encode_to_vec()
}

fn birth(number: u64) -> Vec<u8> {
    let metrics = vec![
        session(number),
        metric("Node Control/Rebirth", None, 0.0),
        with_unit("degF", metric("Air Temperature/2m", Some(1), 50.0)),
        metric("Mystery", Some(2), 1.0),
    ];
    payload(Some(0), 0, metrics)
}

fn tell(host: &mut Host, kind: &str, from: &str, bytes: &[u8], secs: i64) -> Decoded {
    host.decode(&format!("spBv1.0/Farm/{kind}/{from}"), bytes, NOW.plus_secs(secs)).unwrap()
}

/// The readings: station, channel, seconds after [`NOW`], value.
fn readings(decoded: &Decoded) -> Vec<(String, String, i64, f64)> {
    let one = |station: &StationId, r: &Reading| {
        (station.to_string(), r.channel.to_string(), r.time.millis_since(NOW) / 1000, r.value)
    };
    decoded.stations.iter().flat_map(|(station, all)| all.iter().map(|r| one(station, r)).collect::<Vec<_>>()).collect()
}

fn edge(channel: &str, secs: i64, value: f64) -> (String, String, i64, f64) {
    (host().common.station(&["Farm", "edge"]).to_string(), channel.to_owned(), secs, value)
}

#[test]
fn a_node_is_born_told_by_alias_and_dies() {
    let mut host = host();
    let born = tell(&mut host, "NBIRTH", "edge", &birth(3), 0);
    assert_eq!(readings(&born), [edge("air_temperature_200cm", 0, 10.0)], "a birth's values are readings");
    assert!(born.refused.is_empty() && born.aside.is_none() && born.replies.is_empty(), "{born:?}");
    let (station, said) = &born.births[0];
    assert_eq!((station.as_str(), said.boot, said.channels.len()), (edge("", 0, 0.0).0.as_str(), 3, 1));
    assert_eq!(said.field.as_ref().unwrap().as_str(), "north");
    assert_eq!(Birth::decode(&said.encode()).unwrap(), *said);
    let unknown = &born.unknown[0];
    assert_eq!((born.unknown.len(), unknown.name.as_str(), unknown.value.as_str()), (1, "Mystery", "1"));

    let by_alias = payload(Some(1), 60, vec![metric("", Some(1), 68.0), metric("", Some(2), 2.0)]);
    let data = tell(&mut host, "NDATA", "edge", &by_alias, 61);
    assert_eq!(readings(&data), [edge("air_temperature_200cm", 60, 20.0)], "in the birth's unit");
    assert!(data.replies.is_empty());

    let stale = tell(&mut host, "NDEATH", "edge", &payload(None, 0, vec![session(2)]), 70);
    assert_eq!(stale.counted, [("stale_deaths", 1)].into(), "another session's will");
    let dead = tell(&mut host, "NDEATH", "edge", &payload(None, 0, vec![session(3)]), 80);
    assert_eq!(dead.counted["node_deaths"], 1);
    assert_eq!(dead.state, [("Farm/edge".to_owned(), None)]);
    let late = tell(&mut host, "NDATA", "edge", &by_alias, 90);
    assert!(late.aside.is_some() && late.replies.len() == 1 && late.stations.is_empty(), "{late:?}");
}

#[test]
fn devices_are_stations_of_their_own() {
    let mut host = host();
    tell(&mut host, "NBIRTH", "edge", &birth(0), 0);
    let device = payload(Some(1), 0, vec![metric("VWC 20", Some(7), 23.0)]);
    let born = tell(&mut host, "DBIRTH", "edge/probe", &device, 0);
    let probe = host.common.station(&["Farm", "edge", "probe"]).to_string();
    assert_eq!(readings(&born), [(probe.clone(), "soil_moisture_20cm".to_owned(), 0, 0.23)]);
    let data = tell(&mut host, "DDATA", "edge/probe", &payload(Some(2), 5, vec![metric("", Some(7), 24.0)]), 5);
    assert_eq!(readings(&data), [(probe, "soil_moisture_20cm".to_owned(), 5, 0.24)]);
    let dead = tell(&mut host, "DDEATH", "edge/probe", &payload(Some(3), 6, vec![]), 6);
    assert_eq!(dead.state, [("Farm/edge/probe".to_owned(), None)]);
    let late = tell(&mut host, "DDATA", "edge/probe", &payload(Some(4), 7, vec![metric("", Some(7), 24.0)]), 7);
    assert!(late.aside.is_some() && late.replies[0].0 == "spBv1.0/Farm/NCMD/edge", "the node is asked, not the device");
    assert!(!late.counted.contains_key("seq_gaps"), "the numbers count over node and devices");
}

#[test]
fn a_gap_asks_for_a_rebirth_once_in_a_while_and_costs_no_reading() {
    let mut host = host();
    tell(&mut host, "NBIRTH", "edge", &birth(0), 0);
    let data = |seq, secs| payload(Some(seq), secs, vec![metric("", Some(1), 32.0)]);
    let gap = tell(&mut host, "NDATA", "edge", &data(5, 1), 1);
    assert_eq!((gap.counted["seq_gaps"], gap.replies.len(), gap.readings()), (1, 1, 1));
    let next = tell(&mut host, "NDATA", "edge", &data(6, 2), 2);
    assert!(next.counted.is_empty() && next.replies.is_empty());
    let soon = tell(&mut host, "NDATA", "edge", &data(9, 3), 3);
    assert_eq!((soon.counted["seq_gaps"], soon.replies.len()), (1, 0), "it was asked two seconds ago");
    let later = tell(&mut host, "NDATA", "edge", &data(20, 11), 11);
    assert_eq!(later.replies.len(), 1);
    let again = tell(&mut host, "NDATA", "edge", &data(20, 11), 12);
    assert_eq!(again.counted, [("repeated", 1)].into());
    // Around 255, and the rebirth that answers begins anew.
    tell(&mut host, "NBIRTH", "edge", &birth(0), 13);
    for seq in 1..=300 {
        let order = tell(&mut host, "NDATA", "edge", &data(seq % 256, 100 + seq as i64), 20);
        assert!(order.counted.is_empty(), "{seq}");
    }
}

#[test]
fn what_came_before_its_birth_is_read_with_the_birth_that_follows_if_it_fits() {
    let mut host = host();
    let early =
        payload(Some(4), 10, vec![metric("", Some(1), 41.0), metric("", Some(9), 1.0), metric("Other", None, 1.0)]);
    let aside = tell(&mut host, "NDATA", "edge", &early, 11);
    assert_eq!((aside.readings(), aside.replies.len()), (0, 1));
    assert!(aside.aside.unwrap().contains("no birth explains it yet"));
    let born = tell(&mut host, "NBIRTH", "edge", &birth(0), 12);
    assert_eq!(readings(&born), [edge("air_temperature_200cm", 0, 10.0), edge("air_temperature_200cm", 10, 5.0)]);
    assert_eq!((born.counted["held_read"], born.counted["held_misfits"]), (1, 2));
    // An alias that no birth knows: the rest of the message is read at once, it after the next birth.
    let partly = payload(Some(1), 20, vec![metric("", Some(1), 32.0), metric("", Some(3), 23.1)]);
    let some = tell(&mut host, "NDATA", "edge", &partly, 22);
    assert_eq!((readings(&some), some.replies.len()), (vec![edge("air_temperature_200cm", 20, 0.0)], 1));
    assert!(some.aside.unwrap().contains("aliases 3 are in no birth"));
    let grown = payload(Some(0), 30, vec![session(0), metric("VWC 20", Some(3), 23.0)]);
    let born = tell(&mut host, "NBIRTH", "edge", &grown, 30);
    assert_eq!(readings(&born), [edge("soil_moisture_20cm", 30, 0.23), edge("soil_moisture_20cm", 20, 0.231)]);
    // A death ends the session: what waits is of aliases that mean nothing any more.
    tell(&mut host, "NDATA", "edge", &payload(Some(1), 40, vec![metric("", Some(5), 1.0)]), 40);
    let dead = tell(&mut host, "NDEATH", "edge", &payload(None, 0, vec![session(0)]), 41);
    assert_eq!(dead.counted["held_forgotten"], 1);
    let reborn =
        tell(&mut host, "NBIRTH", "edge", &payload(Some(0), 50, vec![session(1), metric("VWC 30", Some(5), 9.0)]), 50);
    assert_eq!(readings(&reborn), [edge("soil_moisture_30cm", 50, 0.09)]);
    // So does one of a node whose birth was never heard.
    tell(&mut host, "NDATA", "other", &payload(Some(1), 60, vec![metric("", Some(5), 1.0)]), 60);
    let dead = tell(&mut host, "NDEATH", "other", &payload(None, 0, vec![session(8)]), 61);
    assert_eq!(dead.counted, [("held_forgotten", 1), ("stale_deaths", 1)].into());
}

#[test]
fn late_values_keep_their_own_times_and_nulls_are_no_values() {
    let mut host = host();
    tell(&mut host, "NBIRTH", "edge", &birth(0), 0);
    let at = |secs: i64, value| wire::Metric {
        timestamp: Some(NOW.plus_secs(secs).as_millis() as u64),
        is_historical: Some(true),
        ..metric("", Some(1), value)
    };
    let null = wire::Metric { is_null: Some(true), value: None, ..metric("", Some(1), 0.0) };
    let broken = wire::Metric { timestamp: Some(u64::MAX), ..metric("", Some(1), 59.0) };
    let text = wire::Metric {
        name: Some("Air Temperature/2m".to_owned()),
        datatype: Some(12),
        value: Some(wire::metric::Value::StringValue("warm".to_owned())),
        ..wire::Metric::default()
    };
    let absent = wire::Metric { value: None, ..metric("", Some(1), 0.0) };
    let metrics = vec![at(-7200, 32.0), at(-3600, 41.0), at(-3600, 41.0), null, broken, text, absent];
    let late = tell(&mut host, "NDATA", "edge", &payload(Some(1), 60, metrics), 60);
    let expected = [edge("air_temperature_200cm", -7200, 0.0), edge("air_temperature_200cm", -3600, 5.0)];
    assert_eq!(readings(&late), expected);
    assert_eq!((late.counted["historical"], late.counted["nulls"]), (3, 1));
    assert_eq!(late.refused, [("time", 1), ("value", 1)].into());
    assert_eq!((late.unknown[0].value.as_str(), late.unknown[0].proposal), ("warm", None));
    for part in ["Air Temperature/2m", "18446744073709551615 ms is no time", "is_null is not set"] {
        assert!(late.problems.join("; ").contains(part), "{part}: {:?}", late.problems);
    }
    // Without any time it is of now.
    let untimed = wire::Payload { seq: Some(2), metrics: vec![metric("", Some(1), 32.0)], ..wire::Payload::default() };
    let decoded = tell(&mut host, "NDATA", "edge", &untimed.encode_to_vec(), 77);
    assert_eq!(readings(&decoded), [edge("air_temperature_200cm", 77, 0.0)]);
}

#[test]
fn births_survive_a_restart() {
    let mut host = host();
    let mut kept: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let device = payload(Some(1), 0, vec![metric("VWC 20", Some(7), 23.0)]);
    for decoded in [
        tell(&mut host, "NBIRTH", "edge", &birth(3), 0),
        tell(&mut host, "DBIRTH", "edge/probe", &device, 0),
        tell(&mut host, "NBIRTH", "gone", &birth(1), 0),
        tell(&mut host, "NDEATH", "gone", &payload(None, 0, vec![session(1)]), 0),
    ] {
        for (key, body) in decoded.state {
            match body {
                Some(body) => drop(kept.insert(key, body)),
                None => drop(kept.remove(&key)),
            }
        }
    }
    assert_eq!(kept.keys().collect::<Vec<_>>(), ["Farm/edge", "Farm/edge/probe"]);
    let mut again = self::host();
    kept.iter().for_each(|(key, body)| again.restore(key, body));
    again.restore("Farm/broken", b"no JSON");
    let data = tell(&mut again, "NDATA", "edge", &payload(Some(99), 60, vec![metric("", Some(1), 68.0)]), 60);
    assert_eq!((readings(&data), data.replies.len()), (vec![edge("air_temperature_200cm", 60, 20.0)], 0));
    let data = tell(&mut again, "DDATA", "edge/probe", &payload(Some(100), 60, vec![metric("", Some(7), 24.0)]), 60);
    assert_eq!((data.readings(), data.replies.len()), (1, 0));
    let stale = tell(&mut again, "NDEATH", "edge", &payload(None, 0, vec![session(2)]), 70);
    assert_eq!(stale.counted, [("stale_deaths", 1)].into(), "its session is remembered");
}

#[test]
fn births_that_the_standard_does_not_allow_are_told_and_read_as_far_as_can_be() {
    let mut host = host();
    let untyped = wire::Metric { datatype: None, ..metric("VWC 20", None, 23.0) };
    let metrics = vec![untyped, metric("", Some(4), 1.0), metric(&"x".repeat(600), None, 1.0)];
    let born = tell(&mut host, "NBIRTH", "edge", &payload(None, 0, metrics), 0);
    assert_eq!(readings(&born), [edge("soil_moisture_20cm", 0, 0.23)]);
    assert_eq!(born.refused, [("bd_seq", 1), ("datatype", 1), ("name", 2), ("seq", 1)].into());
    for topic in ["spBv1.0/Farm/NCMD/edge", "spBv1.0/STATE/g1", "spBv1.0/Farm/NDATA/edge/d", "spBv1.0/Farm/DDATA/edge"]
    {
        assert_eq!(host.decode(topic, b"", NOW).unwrap_err().reason, "topic", "{topic}");
    }
    assert_eq!(host.announcements(NOW)[0].topic, "spBv1.0/STATE/g1");
}

#[test]
fn more_nodes_than_are_remembered_push_out_the_dead_ones_only() {
    let mut host = host();
    for i in 0..NODES_MOST {
        tell(&mut host, "NBIRTH", &format!("n{i}"), &birth(0), 0);
    }
    let error = host.decode("spBv1.0/Farm/NBIRTH/more", &birth(0), NOW).unwrap_err();
    assert_eq!(error.to_string(), "node Farm/more: 1000 nodes are alive already");
    tell(&mut host, "NDEATH", "n7", &payload(None, 0, vec![session(0)]), 1);
    tell(&mut host, "NBIRTH", "more", &birth(0), 2);
    assert_eq!(host.nodes.len(), NODES_MOST);
}

mod any {
    use proptest::prelude::*;

    use super::*;

    fn any_metric() -> impl Strategy<Value = wire::Metric> {
        let name = prop::option::of(prop::sample::select(vec![
            "",
            "bdSeq",
            "VWC 20",
            "Air Temperature/2m",
            "x",
            "Node Control/Rebirth",
        ]));
        let value = prop_oneof![
            any::<u32>().prop_map(wire::metric::Value::IntValue),
            any::<u64>().prop_map(wire::metric::Value::LongValue),
            any::<f32>().prop_map(wire::metric::Value::FloatValue),
            any::<f64>().prop_map(wire::metric::Value::DoubleValue),
            ".{0,9}".prop_map(wire::metric::Value::StringValue),
        ];
        let flags = (any::<Option<bool>>(), any::<Option<bool>>());
        (
            name,
            prop::option::of(0_u64..4),
            any::<Option<u64>>(),
            prop::option::of(0_u32..40),
            flags,
            prop::option::of(value),
        )
            .prop_map(|(name, alias, timestamp, datatype, (is_historical, is_null), value)| wire::Metric {
                name: name.map(str::to_owned),
                alias,
                timestamp,
                datatype,
                is_historical,
                is_null,
                value,
                ..wire::Metric::default()
            })
    }

    proptest! {
        #[test]
        fn any_messages_in_any_order_give_finite_readings_of_own_stations(
            messages in prop::collection::vec(
                (prop::sample::select(vec!["NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH"]), prop::option::of(0_u64..258),
                    prop::collection::vec(any_metric(), 0..6)), 0..30),
        ) {
            let text = "kind = \"sparkplug\"\nname = \"gh\"";
            let mut sources = Sources::new(&[toml::from_str(text).unwrap()], &"g1".parse().unwrap());
            let mut asked = 0;
            for (kind, seq, metrics) in messages {
                let from = if kind.starts_with('N') { "e" } else { "e/d" };
                let bytes = payload(seq, 0, metrics);
                let Ok(taken) = sources.decode(&format!("spBv1.0/G/{kind}/{from}"), &bytes, NOW) else { continue };
                asked += taken.decoded.replies.len();
                for (station, readings) in &taken.decoded.stations {
                    prop_assert!(station.as_str().starts_with("gh-"));
                    prop_assert!(readings.iter().all(|r| r.value.is_finite()));
                }
                for (_, birth) in &taken.decoded.births {
                    prop_assert_eq!(&Birth::decode(&birth.encode()).unwrap(), birth);
                }
            }
            prop_assert!(asked <= 1, "one node is asked once at one time");
        }
    }
}

/// A metric with the value of an Int64.
fn number(name: &str, value: i64) -> wire::Metric {
    let value = Some(wire::metric::Value::LongValue(value.cast_unsigned()));
    wire::Metric { name: Some(name.to_owned()), datatype: Some(4), value, ..wire::Metric::default() }
}

#[test]
fn a_valve_tells_its_number_back_and_no_other_value_confirms() {
    let source: SourceConfig = toml::from_str(
        r#"
        kind = "sparkplug"
        name = "gh"
        stations = { "Farm/edge" = "pump-1", "Farm/edge/valve" = "pump-2" }
        valves = { "Farm/edge/valve" = { minutes = "Run/Minutes", number = "Run/Number" }, "Farm/edge" = { minutes = "M", number = "N" } }
        "#,
    )
    .unwrap();
    let all = valves(std::slice::from_ref(&source));
    let names: Vec<&str> = all.keys().map(StationId::as_str).collect();
    assert_eq!(names, ["pump-1", "pump-2"]);
    let id = NOW.as_millis().unsigned_abs() - 900_000;
    let (topic, bytes) = all[&"pump-2".parse().unwrap()].command(id, 475, NOW).unwrap();
    assert_eq!(topic, "spBv1.0/Farm/DCMD/edge/valve");
    let command = decode_payload(&bytes).unwrap();
    let said: Vec<_> = command.metrics.iter().map(|m| (m.name.as_deref().unwrap(), m.said(None).unwrap())).collect();
    assert_eq!(said, [("Run/Minutes", Said::Number(475.0)), ("Run/Number", Said::Number(id as f64))]);
    assert_eq!(all[&"pump-1".parse().unwrap()].command(id, 5, NOW).unwrap().0, "spBv1.0/Farm/NCMD/edge");

    let super::super::source::Kind::Sparkplug(config) = &source.kind else { panic!("another kind") };
    let mut host = Host::new(&source.common, config, &"g1".parse().unwrap());
    tell(&mut host, "NBIRTH", "edge", &birth(0), 0);
    let valve = |value| vec![number("Run/Number", value), metric("Run/Minutes", None, 475.0)];
    let born = tell(&mut host, "DBIRTH", "edge/valve", &payload(Some(1), 0, valve(0)), 0);
    assert!(born.irrigated.is_empty() && born.unknown.is_empty() && born.heard.is_empty(), "{born:?}");
    for (seq, wrong) in (2..).zip([-1, i64::MAX, NOW.plus_secs(60).as_millis()]) {
        let data = tell(&mut host, "DDATA", "edge/valve", &payload(Some(seq), 1, valve(wrong)), 1);
        assert_eq!(data.irrigated, [], "{wrong} is no irrigation's number");
    }
    let obeyed = valve(id.cast_signed());
    let data = tell(&mut host, "DDATA", "edge/valve", &payload(Some(5), 2, obeyed.clone()), 2);
    assert_eq!(data.irrigated, [("pump-2".parse().unwrap(), id)]);
    let probe = tell(&mut host, "DBIRTH", "edge/probe", &payload(Some(6), 3, obeyed), 3);
    assert_eq!(probe.irrigated, [], "another device's metrics of that name are nothing of the valve's");
}

#[test]
fn a_valve_that_cannot_be_is_named() {
    let check = |valves: &str| {
        let config: SparkplugConfig = toml::from_str(&format!("[valves]\n{valves}")).unwrap();
        config.check().into_iter().map(|(key, value, _)| format!("{key} = {value}")).collect::<Vec<_>>()
    };
    assert_eq!(check(r#""Farm/edge" = { minutes = "M", number = "N" }"#), [""; 0]);
    assert_eq!(check(r#""Farm" = { minutes = "M", number = "N" }"#), ["valves = \"Farm\""]);
    assert_eq!(check(r#""Farm/+/valve" = { minutes = "M", number = "N" }"#), ["valves = \"Farm/+/valve\""]);
    assert_eq!(check(r#""Farm/edge" = { minutes = "M", number = "M" }"#), ["valves = \"M\" and \"M\""]);
}

#[test]
fn a_value_that_its_unit_makes_infinite_is_refused_and_costs_the_others_nothing() {
    let mut host = host();
    tell(&mut host, "NBIRTH", "edge", &birth(3), 0);
    let metrics = vec![
        with_unit("kW/m2", metric("Solar Radiation/2m", Some(8), f64::MAX)),
        with_unit("kW/m2", metric("Solar Radiation/3m", Some(9), 0.5)),
        metric("", Some(1), 68.0),
    ];
    let data = tell(&mut host, "NDATA", "edge", &payload(Some(1), 60, metrics), 61);
    assert_eq!(readings(&data).iter().map(|reading| reading.3).collect::<Vec<_>>(), [20.0, 500.0]);
    assert_eq!(data.refused, [("value", 1)].into(), "{:?}", data.problems);
}
