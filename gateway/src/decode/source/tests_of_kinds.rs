//! The kinds of sources that name values: from configuration and messages to readings.

use proto::{Reading, Timestamp};

use super::{SourceConfig, Sources, Taken, check};

const NOW: Timestamp = Timestamp::from_secs(1_780_297_200);

#[derive(serde::Deserialize)]
struct File {
    source: Vec<SourceConfig>,
}

fn configured(text: &str) -> Vec<SourceConfig> {
    let File { source } = toml::from_str(text).unwrap();
    source
}

fn sources(text: &str) -> Sources {
    let source = configured(text);
    assert_eq!(check(&source), []);
    Sources::new(&source, &"gw".parse().unwrap())
}

/// Every reading as text: station, channel, seconds from now, value.
fn readings(taken: &Taken) -> Vec<String> {
    let said = |station: &proto::StationId, reading: &Reading| {
        format!("{station} {} {} {}", reading.channel, reading.time.millis_since(NOW) / 1000, reading.value)
    };
    let all = taken.decoded.stations.iter();
    all.flat_map(|(station, readings)| readings.iter().map(move |reading| said(station, reading))).collect()
}

#[test]
fn chirpstack_uplinks_become_readings() {
    let mut sources = sources(
        r#"
        [[source]]
        kind = "chirpstack"
        cayenne_ports = [2]
        field = "north"
        report_s = 1200
        stations = { "a84041000181c061" = "north-1" }
        channels = [
          { name = "TempC_DS", of = "LSN50*", channel = "soil_temperature_20cm" },
          { name = "TempC_DS", channel = "soil_temperature_40cm" },
          { name = "temperatureSensor/1", channel = "air_temperature_200cm" },
          { name = "rain_total", channel = "rain", unit = "in", counter = true },
          { name = "Bat_status", ignore = true },
        ]
        "#,
    );
    let mut decode = |eui: &str, profile: &str, event: &str, rest: &str| {
        let payload = format!(
            r#"{{"time":"2026-06-01T07:00:00.5+00:00","deviceInfo":{{"devEui":"{eui}","deviceName":"d","deviceProfileName":"{profile}"}},{rest}}}"#
        );
        let topic = format!("application/1/device/{eui}/event/{event}");
        sources.decode(&topic, payload.as_bytes(), NOW).unwrap()
    };
    let probe = decode(
        "A84041000181C061",
        "LSN50v2",
        "up",
        r#""object":{"TempC_DS":18.5,"BatV":3.3,"Bat_status":3,"soil_moisture_20cm":0.2},"rxInfo":[{"rssi":-90}]"#,
    );
    let expected = ["north-1 soil_moisture_20cm 0 0.2", "north-1 soil_temperature_20cm 0 18.5", "north-1 rssi 0 -90"];
    assert_eq!(readings(&probe), expected);
    let unknown = &probe.decoded.unknown;
    assert_eq!((unknown.len(), unknown[0].name.as_str(), unknown[0].value.as_str()), (1, "BatV", "3.3"));
    assert_eq!(unknown[0].line(), r#"{ name = "BatV", channel = "battery" },"#);
    assert!(probe.decoded.refused.is_empty());
    let (_, birth) = &probe.decoded.births[0];
    assert_eq!((birth.channels.len(), birth.report_s, birth.field.as_ref().unwrap().as_str()), (3, 1200, "north"));
    assert!(decode("A84041000181C061", "LSN50v2", "up", r#""object":{"TempC_DS":18.5}"#).decoded.births.is_empty());
    let other = decode("0101010101010101", "LHT65N", "up", r#""object":{"TempC_DS":18.5}"#);
    assert_eq!(readings(&other), ["chirpstack-0101010101010101 soil_temperature_40cm 0 18.5"]);
    // 01 67 FF D7: -4.1 Cel.
    let raw = decode("0101010101010101", "x", "up", r#""fPort":2,"data":"AWf/1w==""#);
    assert_eq!(readings(&raw), ["chirpstack-0101010101010101 air_temperature_200cm 0 -4.1"]);
    assert!(readings(&decode("0101010101010101", "x", "up", r#""object":{"rain_total":1.0}"#)).is_empty());
    let join = decode("0101010101010101", "x", "join", r#""devAddr":"00189440""#);
    assert_eq!(join.decoded.refused["event_join"], 1);
    assert_eq!(join.decoded.heard[0].as_str(), "chirpstack-0101010101010101");
}

#[test]
fn senml_packs_become_readings_and_sums_what_came_since() {
    let text = r#"
        [[source]]
        kind = "senml"
        topics = ["senml/{station}/up", "packs"]
        prefix = "s-"
        channels = [
          { name = "temp", channel = "soil_temperature_20cm" },
          { name = "%RH", channel = "relative_humidity_200cm" },
          { name = "rain#sum", channel = "rain", counter = true },
          { name = "gauge", channel = "rain", counter = true },
        ]
    "#;
    let mut sources = sources(text);
    let pack = r#"[{"bn":"urn:dev:ow:10e2073a01080063:","bt":1780297200,"n":"temp","u":"K","v":291.65},
                   {"bn":"urn:dev:ow:10e2073a01080063","n":"","u":"%RH","v":55},
                   {"n":"_label","vs":"x"},{"n":"_co2","u":"ppm","v":400}]"#;
    let taken = sources.decode("packs", pack.as_bytes(), NOW).unwrap();
    let expected = [
        "s-urn-dev-ow-10e2073a01080063-d8b8d0e5a5 soil_temperature_20cm 0 18.5",
        "s-urn-dev-ow-10e2073a01080063-d8b8d0e5a5 relative_humidity_200cm 0 55",
    ];
    let same = |said: &String| said.split_once(' ').unwrap().1.to_owned();
    assert_eq!(readings(&taken).iter().map(same).collect::<Vec<_>>(), expected.map(|said| same(&said.to_owned())));
    assert_eq!(taken.decoded.unknown[0].name, "co2");
    // A rain rate's integral: 3600 mm/h.s is 1 mm. And a gauge in mm.
    let rain = |sources: &mut Sources, at: i64, sum: f64, total: f64| {
        let pack = format!(
            r#"[{{"n":"rain","t":{at},"u":"mm/h","v":2,"s":{sum}}},{{"n":"gauge","t":{at},"u":"mm","v":{total}}}]"#
        );
        let taken = sources.decode("senml/n7/up", pack.as_bytes(), NOW).unwrap();
        (readings(&taken), taken.decoded.state)
    };
    assert_eq!(rain(&mut sources, 1_780_297_200, 7200.0, 5.0).0, Vec::<String>::new());
    let (said, state) = rain(&mut sources, 1_780_297_260, 10_800.0, 5.2);
    assert_eq!(said, ["s-n7 rain 60 0.20000000000000018", "s-n7 rain 60 1"]);
    // Another gateway process that was given what was kept goes on as if nothing had happened.
    let mut again = Sources::new(&configured(text), &"gw".parse().unwrap());
    for (key, body) in state {
        again.restore("senml", &key, &body.unwrap());
    }
    assert_eq!(rain(&mut again, 1_780_297_320, 14_400.0, 5.2), rain(&mut sources, 1_780_297_320, 14_400.0, 5.2));
    let cbor = hex::decode("81a3006474656d700163436c6c02f94c80").unwrap();
    let taken = sources.decode("senml/n7/up", &cbor, NOW).unwrap();
    assert_eq!(taken.decoded.unknown[0].unit.as_deref(), Some("Cll"), "no unit of a temperature");
    let cbor = hex::decode("81a3006474656d70016343656c02f94c80").unwrap();
    let taken = sources.decode("senml/n7/up", &cbor, NOW).unwrap();
    assert_eq!(readings(&taken), ["s-n7 soil_temperature_20cm 0 18"]);
    let refused = sources.decode("packs", br#"[{"n":"temp","v":1}]"#, NOW).unwrap();
    assert_eq!(refused.decoded.refused["station"], 1);
    let refused = sources.decode("packs", br#"[{"bver":11,"n":"a/temp","v":1}]"#, NOW).unwrap_err();
    assert_eq!((refused.kind, refused.error.reason), ("senml", "version"));
}

#[test]
fn a_counter_that_leaps_over_all_numbers_is_refused() {
    let mut sources = sources(
        "[[source]]\nkind = \"senml\"\ntopics = [\"p/{station}\"]\n\
         channels = [{ name = \"total\", channel = \"rain\", counter = true }]",
    );
    let pack = r#"[{"bn":"total","bt":1780297100,"v":-1.7e308},{"t":10,"v":1.7e308},{"t":20,"v":1.7e308}]"#;
    let taken = sources.decode("p/n7", pack.as_bytes(), NOW).unwrap();
    assert_eq!(readings(&taken), ["senml-n7 rain -80 0"], "the count after it is one again");
    assert_eq!(taken.decoded.refused, [("value", 1)].into());
}

#[test]
fn mapped_json_becomes_readings() {
    let mut sources = sources(
        r#"
        [[source]]
        kind = "json"
        name = "farm"
        topic = "farm/{site}/{probe}/up"
        station = "{site}-{probe}"
        time = "{/ts}"
        time_format = "unix_s"
        missing = [-9999]
        channels = [
          { name = "/soil/{cm}/vwc", channel = "soil_moisture_{cm}cm", unit = "%" },
          { name = "/soil/{cm}/t", channel = "soil_temperature_{cm}cm", scale = 0.1 },
        ]
        "#,
    );
    let payload =
        br#"{"ts":1780297230,"soil":{"20":{"vwc":23.1,"t":185},"40":{"vwc":-9999,"t":"170"}},"rain":0.2,"x":5}"#;
    let taken = sources.decode("farm/north/p1/up", payload, NOW).unwrap();
    let expected = [
        "farm-north-p1 soil_moisture_20cm 30 0.231",
        "farm-north-p1 soil_temperature_20cm 30 18.5",
        "farm-north-p1 soil_temperature_40cm 30 17",
        "farm-north-p1 rain 30 0.2",
    ];
    assert_eq!(readings(&taken), expected);
    assert_eq!(taken.decoded.unknown[0].name, "/x");
    assert_eq!(taken.decoded.refused["missing"], 1);
    assert!(taken.decoded.problems.is_empty(), "that a value is missing is nothing to tell");
}

#[test]
fn all_mistakes_of_all_sources_are_named_at_once() {
    let sources = configured(
        r#"
        [[source]]
        kind = "chirpstack"
        topics = ["application/#/up"]
        cayenne_ports = [0]

        [[source]]
        kind = "senml"

        [[source]]
        kind = "senml"
        name = "packs"
        topics = ["a/{probe}", "b/{"]

        [[source]]
        kind = "sparkplug"
        channels = [{ name = "total", channel = "rain", counter = true }]

        [[source]]
        kind = "json"
        topic = "a/{b}"
        value = "v"
        channels = [{ name = "/a", channel = "rain", unit = "Cel" }]
        "#,
    );
    let wrong: Vec<String> = check(&sources)
        .into_iter()
        .map(|(key, value, expected)| format!("{key} = {value} is not {expected}"))
        .collect();
    let wrong = wrong.join("\n");
    for part in [
        "source[0].topics = \"application/#/up\" is not an MQTT filter",
        "source[0].cayenne_ports = 0 is not a port for applications",
        "source[1].topics = [] is not at least one topic",
        "source[2].topics = \"a/{probe}\" is not a topic whose only capture is {station}",
        "source[2].topics = \"b/{\" is not a topic",
        "source[3].channels[0].name = \"total\" is not a rule without of and counter",
        "source[4].station = \"{station}\" is not made of captures that topic has",
        "source[4].value = \"v\" is not a JSON Pointer",
        "source[4].channels[0].unit = \"Cel\" is not a unit of rain: mm",
    ] {
        assert!(wrong.contains(part), "{part}:\n{wrong}");
    }
    let unknown = toml::from_str::<File>("[[source]]\nkind = \"json\"\ntopik = \"a\"").err().unwrap().to_string();
    assert!(unknown.contains("unknown field `topik`"), "{unknown}");
}
