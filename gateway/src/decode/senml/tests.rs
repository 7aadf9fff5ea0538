//! RFC 8428's own examples, and what it forbids.

use minicbor::Encoder;
use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_780_297_200);

fn json(pack: &str) -> Pack {
    read(pack.as_bytes(), NOW).unwrap()
}

/// Name, unit, milliseconds from `from`, number.
fn rows(pack: &Pack, from: Timestamp) -> Vec<(&str, &str, i64, f64)> {
    pack.records.iter().map(|record| row(record, from)).collect()
}

fn row(record: &Record, from: Timestamp) -> (&str, &str, i64, f64) {
    let number = if let Some(Value::Number(value)) = record.value { value } else { f64::NAN };
    (&record.name, record.unit.as_deref().unwrap_or(""), record.time.millis_since(from), number)
}

/// The same pack in CBOR, by another's encoder.
fn to_cbor(pack: &str) -> Vec<u8> {
    let records: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(pack).unwrap();
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes);
    encoder.array(records.len() as u64).unwrap();
    for record in &records {
        encoder.map(record.len() as u64).unwrap();
        for (name, value) in record {
            let number = Label::ALL.iter().find(|(_, own, _)| own == name).unwrap().2;
            encoder.i64(number).unwrap();
            match value {
                serde_json::Value::String(_) if name == "vd" => encoder.bytes(b"hi \n").unwrap(),
                serde_json::Value::String(text) => encoder.str(text).unwrap(),
                serde_json::Value::Bool(value) => encoder.bool(*value).unwrap(),
                other => encoder.f64(other.as_f64().unwrap()).unwrap(),
            };
        }
    }
    bytes
}

const CURRENT: &str = r#"[
  {"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},
  {"n":"current","t":-5,"v":1.2},
  {"n":"current","t":-4,"v":1.3},
  {"n":"current","t":-3,"v":1.4},
  {"n":"current","t":-2,"v":1.5},
  {"n":"current","t":-1,"v":1.6},
  {"n":"current","v":1.7}
]"#;

const MOBILE: &str = r#"[
  {"bn":"urn:dev:ow:10e2073a01080063","bt":1.320067464e+09,"bu":"%RH","v":20},
  {"u":"lon","v":24.30621}, {"u":"lat","v":60.07965},
  {"t":60,"v":20.3}, {"u":"lon","t":60,"v":24.30622}, {"u":"lat","t":60,"v":60.07965},
  {"t":120,"v":20.7}, {"u":"lon","t":120,"v":24.30623}, {"u":"lat","t":120,"v":60.07966},
  {"u":"%EL","t":150,"v":98},
  {"t":180,"v":21.2}, {"u":"lon","t":180,"v":24.30628}, {"u":"lat","t":180,"v":60.07967}
]"#;

const COLLECTION: &str = r#"[
  {"bn":"2001:db8::2/","bt":1.320078429e+09,"n":"temperature","u":"Cel","v":25.2},
  {"n":"humidity","u":"%RH","v":30},
  {"bn":"2001:db8::1/","n":"temperature","u":"Cel","v":12.3},
  {"n":"humidity","u":"%RH","v":67}
]"#;

#[test]
fn section_5_1_1_a_single_datapoint_is_of_now() {
    let pack = json(r#"[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]"#);
    assert_eq!(rows(&pack, NOW), [("urn:dev:ow:10e2073a01080063", "Cel", 0, 23.1)]);
    assert!(!pack.records[0].absolute);
}

#[test]
fn section_5_1_2_multiple_datapoints() {
    let pack = json(
        r#"[{"bn":"urn:dev:ow:10e2073a01080063:","n":"voltage","u":"V","v":120.1},{"n":"current","u":"A","v":1.2}]"#,
    );
    let device = "urn:dev:ow:10e2073a01080063";
    let named = |what: &str| format!("{device}:{what}");
    assert_eq!(rows(&pack, NOW), [(&*named("voltage"), "V", 0, 120.1), (&*named("current"), "A", 0, 1.2)]);
    let at = Timestamp::from_millis(1_276_020_076_001);
    let pack = json(CURRENT);
    let (volt, ampere) = ("urn:dev:ow:10e2073a0108006:voltage", "urn:dev:ow:10e2073a0108006:current");
    let expected = [
        (ampere, "A", -5000, 1.2),
        (ampere, "A", -4000, 1.3),
        (ampere, "A", -3000, 1.4),
        (ampere, "A", -2000, 1.5),
        (ampere, "A", -1000, 1.6),
        (volt, "V", 0, 120.1),
        (ampere, "A", 0, 1.7),
    ];
    assert_eq!(rows(&pack, at), expected, "in order of time");
    assert!(pack.records.iter().all(|record| record.absolute));
}

#[test]
fn sections_5_1_3_and_5_1_4_multiple_measurements_and_their_resolved_form() {
    let resolved = r#"[
      {"n":"urn:dev:ow:10e2073a01080063","u":"%RH","t":1.320067464e+09,"v":20},
      {"n":"urn:dev:ow:10e2073a01080063","u":"lon","t":1.320067464e+09,"v":24.30621},
      {"n":"urn:dev:ow:10e2073a01080063","u":"lat","t":1.320067464e+09,"v":60.07965},
      {"n":"urn:dev:ow:10e2073a01080063","u":"%RH","t":1.320067524e+09,"v":20.3},
      {"n":"urn:dev:ow:10e2073a01080063","u":"lon","t":1.320067524e+09,"v":24.30622},
      {"n":"urn:dev:ow:10e2073a01080063","u":"lat","t":1.320067524e+09,"v":60.07965},
      {"n":"urn:dev:ow:10e2073a01080063","u":"%RH","t":1.320067584e+09,"v":20.7},
      {"n":"urn:dev:ow:10e2073a01080063","u":"lon","t":1.320067584e+09,"v":24.30623},
      {"n":"urn:dev:ow:10e2073a01080063","u":"lat","t":1.320067584e+09,"v":60.07966},
      {"n":"urn:dev:ow:10e2073a01080063","u":"%EL","t":1.320067614e+09,"v":98},
      {"n":"urn:dev:ow:10e2073a01080063","u":"%RH","t":1.320067644e+09,"v":21.2},
      {"n":"urn:dev:ow:10e2073a01080063","u":"lon","t":1.320067644e+09,"v":24.30628},
      {"n":"urn:dev:ow:10e2073a01080063","u":"lat","t":1.320067644e+09,"v":60.07967}
    ]"#;
    assert_eq!(json(MOBILE), json(resolved));
    assert_eq!(json(MOBILE).records.len(), 13);
}

#[test]
fn section_5_1_5_multiple_data_types() {
    let pack = json(
        r#"[{"bn":"urn:dev:ow:10e2073a01080063:","n":"temp","u":"Cel","v":23.1},{"n":"label","vs":"Machine Room"},
            {"n":"open","vb":false},{"n":"nfc-reader","vd":"aGkgCg"}]"#,
    );
    let values: Vec<Value> = pack.records.into_iter().filter_map(|record| record.value).collect();
    let text = Value::Text("Machine Room".to_owned());
    assert_eq!(values, [Value::Number(23.1), text, Value::Boolean(false), Value::Data]);
}

#[test]
fn section_5_1_6_a_collection_of_resources() {
    let at = Timestamp::from_secs(1_320_078_429);
    let expected = [
        ("2001:db8::2/temperature", "Cel", 0, 25.2),
        ("2001:db8::2/humidity", "%RH", 0, 30.0),
        ("2001:db8::1/temperature", "Cel", 0, 12.3),
        ("2001:db8::1/humidity", "%RH", 0, 67.0),
    ];
    assert_eq!(rows(&json(COLLECTION), at), expected);
}

#[test]
fn section_5_1_7_actuators() {
    let pack = json(
        r#"[{"bn":"urn:dev:ow:10e2073a01080063:"},{"n":"temp","u":"Cel","v":23.1},{"n":"heat","u":"/","v":1},
            {"n":"fan","u":"/","v":0}]"#,
    );
    assert!(pack.refused.is_empty());
    let heat = "urn:dev:ow:10e2073a01080063:heat";
    assert_eq!(rows(&pack, NOW)[1], (heat, "/", 0, 1.0));
    let at = Timestamp::from_secs(1_320_078_429);
    let pack = json(r#"[{"bt":1.320078429e+09,"bu":"/","n":"2001:db8::3","v":1},{"n":"2001:db8::4","v":1}]"#);
    assert_eq!(rows(&pack, at), [("2001:db8::3", "/", 0, 1.0), ("2001:db8::4", "/", 0, 1.0)]);
    let pack = json(
        r#"[{"bt":1.320078429e+09,"bu":"/","n":"2001:db8::3","v":0.5},{"n":"2001:db8::4","v":0.5},
            {"n":"2001:db8::3","t":0.1,"v":0},{"n":"2001:db8::4","t":0.1,"v":0}]"#,
    );
    assert_eq!(rows(&pack, at)[3], ("2001:db8::4", "/", 100, 0.0));
}

#[test]
fn section_6_the_cbor_example_is_the_json_one() {
    let dump = "87a721781b75726e3a6465763a6f773a3130653230373361303130383030363a22fb41d303a15b0010622361412005006776\
        6f6c7461676501615602fb405e066666666666a3006763757272656e74062402fb3ff3333333333333a3006763757272656e\
        74062302fb3ff4cccccccccccda3006763757272656e74062202fb3ff6666666666666a3006763757272656e74062102f93e\
        00a3006763757272656e74062002fb3ff999999999999aa3006763757272656e74060002fb3ffb333333333333";
    let bytes = hex::decode(dump).unwrap();
    assert_eq!(read(&bytes, NOW).unwrap(), json(CURRENT));
}

#[test]
fn every_example_is_the_same_in_cbor() {
    for pack in [CURRENT, MOBILE, COLLECTION, r#"[{"n":"a","vs":"x"},{"n":"b","vb":true},{"n":"c","vd":"aGkgCg"}]"#] {
        assert_eq!(read(&to_cbor(pack), NOW).unwrap(), json(pack), "{pack}");
    }
}

#[test]
fn cbor_of_every_shape_is_read() {
    // RFC 8949: an indefinite array and map, a self-described tag, a text in parts, numbers in all their forms.
    let number = |hex: &str| {
        let bytes = hex::decode(format!("d9d9f79fbf007f61616162ff02{hex}ffff")).unwrap();
        let pack = read(&bytes, NOW).unwrap();
        assert_eq!(pack.records[0].name, "ab");
        rows(&pack, NOW)[0].3
    };
    for (hex, expected) in [
        ("00", 0.0),
        ("1903e8", 1000.0),
        ("1bffffffffffffffff", 18_446_744_073_709_551_615.0),
        ("3bffffffffffffffff", -18_446_744_073_709_551_616.0),
        ("f9c400", -4.0),
        ("fa47c35000", 100_000.0),
        ("fb3ff199999999999a", 1.1),
        // A decimal fraction: 27315e-2.
        ("c48221196ab3", 273.15),
    ] {
        assert_eq!(number(hex), expected, "{hex}");
    }
    for (hex, said) in [
        ("", "end of input"),
        ("a0", "unexpected type"),
        ("81", "end of input"),
        ("8180", "unexpected type"),
        ("9bffffffffffffffff", "end of input"),
        ("81a1006161", "has neither value nor sum"),
        ("8000", "1 bytes follow the pack"),
        ("c080", "tag 0 is not that of a pack"),
        ("81a202f97e00006161", "v is NaN"),
        ("81a1647866785f01", "must be understood"),
        ("81a302010061610a01", "ok"),
    ] {
        let bytes = hex::decode(hex).unwrap();
        let found = match read(&bytes, NOW) {
            Ok(pack) => pack.refused.first().map_or("ok".to_owned(), |(_, why)| why.clone()),
            Err(error) => error.to_string(),
        };
        assert!(found.contains(said), "{hex}: {found}");
    }
}

#[test]
fn base_fields_add_and_hold_until_the_next() {
    let pack = json(
        r#"[{"bn":"d/","bt":1700000000,"bu":"mm","bv":10,"bs":100,"n":"a","v":1,"s":5},{"n":"b","v":2},{"n":"c"},
            {"bv":0,"bs":0,"bu":"Cel","n":"d","t":1.5,"v":3},{"n":"e","t":-1,"s":7,"ut":60}]"#,
    );
    assert!(pack.refused.is_empty(), "{:?}", pack.refused);
    let at = Timestamp::from_secs(1_700_000_000);
    let expected = [
        ("d/e", "Cel", -1000, 0.0),
        ("d/a", "mm", 0, 11.0),
        ("d/b", "mm", 0, 12.0),
        ("d/c", "mm", 0, 10.0),
        ("d/d", "Cel", 1500, 3.0),
    ];
    assert_eq!(rows(&pack, at), expected);
    let sums: Vec<Option<f64>> = pack.records.iter().map(|record| record.sum).collect();
    assert_eq!(sums, [Some(7.0), Some(105.0), Some(100.0), Some(100.0), Some(0.0)]);
    assert_eq!(pack.records[0].update_s, Some(60.0));
}

#[test]
fn times_below_2_28_are_relative() {
    let pack = json(r#"[{"n":"a","t":268435456,"v":1},{"n":"b","t":268435455,"v":1},{"n":"c","t":-3600,"v":1}]"#);
    let times: Vec<(i64, bool)> =
        pack.records.iter().map(|record| (record.time.as_millis() / 1000, record.absolute)).collect();
    let now = NOW.as_millis() / 1000;
    assert_eq!(times, [(268_435_456, true), (now - 3600, false), (now + 268_435_455, false)]);
}

#[test]
fn what_must_not_be_used_is_refused_as_a_whole() {
    for (pack, said) in [
        (r#"[{"bver":11,"n":"a","v":1}]"#, "bver 11 is not 1 to 10"),
        (r#"[{"bver":5.5,"n":"a","v":1}]"#, "bver 5.5 is not"),
        (r#"[{"bver":"10","n":"a","v":1}]"#, "bver \"10\" is not"),
        (r#"[{"bver":5,"n":"a","v":1},{"bver":6,"n":"b","v":1}]"#, "bver 6 is not 1 to 10 and the same"),
        (r#"[{"n":"a","v":1},{"bver":9,"n":"b","v":1}]"#, "bver 9 is not"),
        (r#"[{"n":"a","v":1,"x_":2}]"#, "label \"x_\" must be understood, and is not known"),
        (r#"[{"bn":5,"n":"a","v":1}]"#, "record 1: bn is 5, not a text"),
        (r#"[{"bt":"now","n":"a","v":1}]"#, "record 1: bt is \"now\", not a number"),
        ("{}", "not SenML: "),
        ("[1]", "not SenML: "),
        ("[", "not SenML: "),
    ] {
        let error = read(pack.as_bytes(), NOW).unwrap_err().to_string();
        assert!(error.contains(said), "{pack}: {error}");
    }
    assert_eq!(json(r#"[{"bver":10,"n":"a","v":1,"future":{"x":[]}}]"#).records.len(), 1, "others are passed over");
}

#[test]
fn a_record_that_cannot_be_taken_costs_the_others_nothing() {
    let pack = json(
        r#"[{"n":"a","v":1},{"n":"-b","v":1},{"n":"c d","v":1},{"v":1},{"n":"e","v":"1"},{"n":"f","v":1,"vb":true},
            {"n":"g"},{"n":"h","t":"x","v":1},{"n":"i","t":1e300,"v":1},{"n":"j","v":null},{"n":"k","v":2}]"#,
    );
    assert_eq!(rows(&pack, NOW), [("a", "", 0, 1.0), ("k", "", 0, 2.0)]);
    let reasons: Vec<&str> = pack.refused.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(reasons, ["name", "name", "name", "value", "value", "value", "time", "time", "value"]);
    assert!(pack.refused[3].1.contains("record 5: v is \"1\""), "{:?}", pack.refused);
}

#[test]
fn a_name_is_split_into_device_and_what_it_measures() {
    for (name, expected) in [
        ("urn:dev:ow:10e2073a01080063:temp", (Some("urn:dev:ow:10e2073a01080063"), "temp")),
        ("urn:dev:ow:10e2073a01080063", (Some("urn:dev:ow:10e2073a01080063"), "")),
        // RFC 9039, section 5.
        ("urn:dev:ow:264437f5000000ed_humidity", (Some("urn:dev:ow:264437f5000000ed"), "humidity")),
        ("urn:dev:mac:acde48234567019f", (Some("urn:dev:mac:acde48234567019f"), "")),
        ("urn:dev:org:32473-foo/a/b", (Some("urn:dev:org:32473-foo"), "a/b")),
        ("urn:dev:", (Some("urn:dev:"), "")),
        ("2001:db8::2/temperature", (Some("2001:db8::2"), "temperature")),
        ("farm/n7/soil_moisture_20cm", (Some("farm/n7"), "soil_moisture_20cm")),
        ("n7:temp", (Some("n7"), "temp")),
        ("temp", (None, "temp")),
    ] {
        assert_eq!(split(name), expected, "{name}");
    }
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes, NOW);
        let _ = cbor::rows(&bytes).map(|rows| resolve(rows, NOW));
    }

    #[test]
    fn what_nests_deeply_neither_overflows_nor_is_taken(depth in 1_usize..60_000, kind in prop::sample::select(vec![0x81_u8, 0x9f, 0xa1, 0xbf, 0xc1])) {
        let mut bytes = vec![0x81, 0xa1, 0x18, 0x63];
        bytes.extend(std::iter::repeat_n(kind, depth));
        prop_assert!(read(&bytes, NOW).is_err());
    }
}
