use proptest::prelude::*;

use super::*;

fn mapping(text: &str) -> Mapping {
    toml::from_str::<JsonConfig>(text).unwrap().build().unwrap()
}

/// Station, name, unit, seconds, value.
fn rows(mapped: &Mapped) -> Vec<(&str, &str, &str, i64, f64)> {
    mapped.values.iter().map(row).collect()
}

fn row(named: &Named) -> (&str, &str, &str, i64, f64) {
    let seconds = named.time.map_or(-1, |time| time.as_millis() / 1000);
    (&named.station, &named.name, named.unit.as_deref().unwrap_or(""), seconds, named.value)
}

#[test]
fn every_number_of_a_message_is_named_by_its_pointer() {
    let mapping = mapping(
        r#"
        topic = "farm/{site}/{probe}/up"
        station = "{site}-{/id}"
        time = "{/at}"
        missing = [-9999, "NA"]
        "#,
    );
    let payload = r#"{"id":7,"at":"2026-06-01T07:00:00+02:00","fw":"1.2 beta","soil":{"vwc":23.1,"a/b":[1,null]},"ok":true,
                      "rain":-9999,"hum":"55.5","wind":"NA"}"#;
    let mapped = mapping.read("farm/north/p1/up", payload.as_bytes()).unwrap();
    let at = "2026-06-01T05:00:00Z".parse::<Timestamp>().unwrap().as_millis() / 1000;
    let mut found = rows(&mapped);
    found.sort_by_key(|row| row.1);
    let expected = [
        ("north-7", "/hum", "", at, 55.5),
        ("north-7", "/soil/a~1b/0", "", at, 1.0),
        ("north-7", "/soil/vwc", "", at, 23.1),
    ];
    assert_eq!(found, expected);
    let mut refused: Vec<&str> = mapped.refused.iter().map(|(reason, _)| *reason).collect();
    refused.sort_unstable();
    assert_eq!(refused, ["missing", "missing", "missing"]);
}

#[test]
fn elements_that_name_themselves_take_what_encloses_them() {
    let mapping = mapping(
        r#"
        topic = "probes/#"
        station = "{/id}"
        each = "/stations/*/readings/*"
        time = "{/t}"
        time_format = "unix_ms"
        name = "{/what} {/depth} cm"
        value = "/v"
        unit = "{/unit}"
        "#,
    );
    let payload = r#"{"t":1780297200000,"unit":"Cel","stations":[
        {"id":"a","readings":[{"what":"soil temperature","depth":20,"v":18.5},{"what":"vwc","depth":10,"v":23,"unit":"%"}]},
        {"id":"b","t":1780297260500,"readings":[{"what":"soil temperature","depth":5,"v":19},{"depth":5,"v":1},{"what":"x","depth":1,"v":"?"},{"what":"y","depth":1}]},
        {"readings":[{"what":"soil temperature","depth":5,"v":19}]}]}"#;
    let mapped = mapping.read("probes/x/y", payload.as_bytes()).unwrap();
    let expected = [
        ("a", "soil temperature 20 cm", "Cel", 1_780_297_200, 18.5),
        ("a", "vwc 10 cm", "%", 1_780_297_200, 23.0),
        ("b", "soil temperature 5 cm", "Cel", 1_780_297_260, 19.0),
    ];
    assert_eq!(rows(&mapped), expected);
    let said: Vec<String> = mapped.refused.iter().map(|(reason, why)| format!("{reason}: {why}")).collect();
    let expected = [
        "name: nothing is at /what",
        "value: x 1 cm: expected a number, found \"?\"",
        "missing: y 1 cm: no value at /v",
        "station: nothing is at /id",
    ];
    assert_eq!(said, expected);
}

#[test]
fn times_are_read_as_the_mapping_says() {
    let at = |format: TimeFormat, text: &str| format.read(text).map(Timestamp::as_millis);
    assert_eq!(at(TimeFormat::UnixS, "1780297200.25"), Ok(1_780_297_200_250));
    assert_eq!(at(TimeFormat::UnixMs, "1780297200250"), Ok(1_780_297_200_250));
    assert_eq!(at(TimeFormat::Rfc3339, "2026-06-01T07:00:00.250Z"), Ok(1_780_297_200_250));
    assert_eq!(at(TimeFormat::UnixS, "soon").unwrap_err(), "time \"soon\" is not in seconds since 1970");
    for (format, text) in
        [(TimeFormat::UnixMs, "1e300"), (TimeFormat::UnixS, "NaN"), (TimeFormat::Rfc3339, "2026-06-01 7:00")]
    {
        assert!(at(format, text).is_err(), "{text}");
    }
}

#[test]
fn all_mistakes_of_a_mapping_are_named_at_once() {
    let config: JsonConfig = toml::from_str(
        r#"
        topic = "farm/{site}/up"
        station = "{sight}-{/id~3}"
        each = "readings"
        time = "{probe}"
        name = "{/a"
        unit = "{}"
        "#,
    )
    .unwrap();
    let wrong: Vec<String> = config
        .build()
        .unwrap_err()
        .into_iter()
        .map(|(key, value, expected)| format!("{key} = {value} is not {expected}"))
        .collect();
    let expected = [
        "station = \"{sight}-{/id~3}\" is not a JSON Pointer (RFC 6901), like /soil/vwc",
        "time = \"{probe}\" is not made of captures that topic has; {probe} is none",
        "name = \"{/a\" is not text whose { have their }",
        "unit = \"{}\" is not text with a capture or a /pointer in every {}",
        "each = \"readings\" is not a JSON Pointer (RFC 6901), like /soil/vwc",
        "name = \"{/a\" is not of use without value",
    ];
    assert_eq!(wrong, expected);
    let none = JsonConfig { topic: "a/b".to_owned(), ..JsonConfig::default() }.build().unwrap_err();
    assert_eq!(none[0].0, "station", "a topic without a capture of that name needs one: {none:?}");
}

#[test]
fn what_cannot_be_read_is_refused_as_a_whole() {
    let mapping = mapping("topic = \"a/{station}\"\neach = \"/r/*\"");
    let error = |topic: &str, payload: &str| mapping.read(topic, payload.as_bytes()).unwrap_err().to_string();
    assert!(error("a/b", "{").starts_with("not JSON: EOF"));
    assert!(error("a/b", &"[".repeat(1000)).contains("recursion limit"));
    assert_eq!(error("a/b", "{}"), "nothing is at each = \"/r/*\"");
    assert_eq!(error("a/b/c", "{}"), "topic \"a/b/c\" is not as the mapping says");
    let long = format!("{{\"r\":[{{\"{}\":[1,2,3],\"a\":4}}]}}", "k".repeat(MAX_POINTER));
    assert_eq!(rows(&mapping.read("a/b", long.as_bytes()).unwrap()), [("b", "/a", "", -1, 4.0)]);
    let many = format!("{{\"r\":[{}0]}}", "0,".repeat(MAX_ELEMENTS));
    assert_eq!(error("a/b", &many), format!("more than {MAX_ELEMENTS} elements"));
}

proptest! {
    #[test]
    fn no_mapping_and_no_message_panic(
        each in prop::option::of("[/a-c*~01]{0,6}"),
        name in "[a-c{}/~]{0,8}",
        value in prop::option::of("[/a-c*]{0,4}"),
        payload in r#"[\{\}\[\]":,0-9a-c]{0,60}"#,
    ) {
        let config = JsonConfig {
            topic: "a/{station}".to_owned(),
            each,
            name: value.is_some().then_some(name),
            value,
            ..JsonConfig::default()
        };
        if let Ok(mapping) = config.build() {
            let _ = mapping.read("a/b", payload.as_bytes());
        }
    }
}
