use super::*;

fn sources(text: &str) -> Vec<SourceConfig> {
    #[derive(Deserialize)]
    struct File {
        source: Vec<SourceConfig>,
    }
    toml::from_str::<File>(text).unwrap().source
}

#[test]
fn a_source_is_written_with_common_keys_and_those_of_its_kind() {
    let text = r#"
        [[source]]
        kind = "sparkplug"
        name = "greenhouse"
        prefix = "gh-"
        groups = ["Farm"]
        field = "north"
        stations = { "Farm/edge1/probe7" = "north-1" }
        channels = [{ name = "Probe {n}/VWC {cm}", channel = "soil_moisture_{cm}cm", unit = "%" }]
        [[source]]
        kind = "sparkplug"
        groups = ["Other"]
    "#;
    let all = sources(text);
    assert_eq!(check(&all), []);
    let common = &all[0].common;
    assert_eq!(common.station(&["Farm", "edge1", "probe7"]).as_str(), "north-1");
    assert_eq!(common.station(&["Farm", "edge1"]).as_str().split_once("farm").unwrap().0, "gh-");
    assert_eq!((all[1].common.name.as_str(), all[1].common.prefix()), ("sparkplug", "sparkplug-".to_owned()));
    // It is written as it is read.
    let written = toml::to_string(&all[0]).unwrap();
    assert_eq!(toml::from_str::<SourceConfig>(&written).unwrap(), all[0], "{written}");

    let routes = Routes::new(&all);
    assert!(routes.takes("spBv1.0/Farm/NDATA/edge1") && routes.takes("spBv1.0/Other/DBIRTH/edge1/probe"));
    for other in ["spBv1.0/Farm/NCMD/edge1", "spBv1.0/STATE/host", "spBv1.0/Third/NDATA/e", "spBv1.0/Farm/NDATA/e/d"] {
        assert!(!routes.takes(other), "{other}");
    }
    assert!(routes.meets("spBv1.0/#") && !routes.meets("spBv1.0/+/NCMD/#"));
    assert_eq!((routes.owner("gh-x"), routes.owner("n1")), (Some("greenhouse"), None));
}

#[test]
fn what_is_wrong_is_named_with_its_key_and_value() {
    let said = |text: &str| {
        let wrong = check(&sources(text));
        wrong.into_iter().map(|(key, value, expected)| format!("{key} = {value} is not {expected}")).collect::<Vec<_>>()
    };
    let wrong = said(
        r#"
        [[source]]
        kind = "sparkplug"
        name = "A b"
        groups = ["a/b"]
        rebirth_s = 0
        channels = [{ name = "x", channel = "mud" }]
        [[source]]
        kind = "sparkplug"
        name = "gh"
        prefix = "gh-"
        stations = { "a/b" = "gh2-1" }
        [[source]]
        kind = "sparkplug"
        name = "gh2"
        prefix = "gh"
        "#,
    );
    for part in [
        "source[0].name = \"A b\" is not 1 to 32 characters of a-z",
        "source[0].groups = \"a/b\" is not a group",
        "source[0].rebirth_s = 0 is not above 0 s",
        "source[0].channels[0].channel = \"mud\" is not a channel, like soil_moisture_20cm",
        "source[2].prefix = \"gh\" is not apart from \"gh-\" of source gh",
        "source[1].stations = \"gh2-1\" is not free: source gh2 has it",
    ] {
        assert!(wrong.iter().any(|line| line.starts_with(part)), "{part}: {wrong:#?}");
    }
    for (text, part) in [
        ("[[source]]\nkind = \"sparkplug\"\ncolour = 1", "unknown field `colour`"),
        ("[[source]]\nkind = \"smoke\"", "unknown variant `smoke`"),
        ("[[source]]\nname = \"x\"", "kind: is missing, expected one of `sparkplug`, "),
        ("[[source]]\nkind = \"sparkplug\"\nreport_s = \"x\"", "invalid type: string \"x\""),
    ] {
        #[derive(Debug, Deserialize)]
        struct File {
            #[serde(rename = "source")]
            _source: Vec<SourceConfig>,
        }
        let error = toml::from_str::<File>(text).unwrap_err();
        assert!(error.message().contains(part), "{part}: {error}");
    }
}

/// Says what it is told to.
struct Told(Vec<(StationId, Vec<Reading>)>);

impl Decoder for Told {
    fn decode(&mut self, _: &str, _: &[u8], _: Timestamp) -> Result<Decoded, SourceError> {
        Ok(Decoded { stations: self.0.clone(), ..Decoded::default() })
    }
}

/// Cannot bear one payload.
struct Panics;

impl Decoder for Panics {
    fn decode(&mut self, _: &str, payload: &[u8], _: Timestamp) -> Result<Decoded, SourceError> {
        assert_ne!(payload, b"panic");
        Ok(Decoded { heard: vec!["gh-1".parse().unwrap()], ..Decoded::default() })
    }
}

/// A source that takes `spBv1.0/#`, and whose decoder panics at the payload `panic`.
pub(crate) fn that_panics() -> Sources {
    let configs = sources("[[source]]\nkind = \"sparkplug\"\nname = \"gh\"\n");
    let mut all = Sources::new(&configs, &"g1".parse().unwrap());
    all.sources[0].decoder = Box::new(Panics);
    all
}

#[test]
fn a_source_writes_only_its_own_stations() {
    let configs = sources("[[source]]\nkind = \"sparkplug\"\nname = \"gh\"\nstations = { \"a/b\" = \"north-1\" }\n");
    let mut all = Sources::new(&configs, &"g1".parse().unwrap());
    let reading = Reading { channel: "rain".parse().unwrap(), time: Timestamp::from_secs(0), value: 1.0 };
    let names = ["gh-farm", "north-1", "n1", "ghost"].map(|name| name.parse::<StationId>().unwrap());
    all.sources[0].decoder = Box::new(Told(names.iter().map(|name| (name.clone(), vec![reading])).collect()));
    let taken = all.decode("spBv1.0/a/NDATA/b", b"", Timestamp::from_secs(0)).unwrap();
    let left: Vec<&StationId> = taken.decoded.stations.iter().map(|(station, _)| station).collect();
    assert_eq!(left, [&names[0], &names[1]]);
    assert_eq!(taken.decoded.refused, BTreeMap::from([("station", 2)]));
    assert!(taken.decoded.problems[0].contains("\"ghost\""), "{:?}", taken.decoded.problems);
    let error = all.decode("spBv1.0/a/NCMD/b", b"", Timestamp::from_secs(0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "source none, topic \"spBv1.0/a/NCMD/b\": no source of the configuration takes this topic"
    );
}

#[test]
fn an_unknown_channel_comes_with_the_line_that_maps_it() {
    let unknown = Unknown {
        source: "gh".to_owned(),
        station: "gh-1".parse().unwrap(),
        name: "Probe *1\"/VWC".to_owned(),
        unit: Some("%".to_owned()),
        value: "23.1".to_owned(),
        proposal: "soil_moisture_20cm".parse().ok(),
    };
    let line = unknown.line();
    let rules: BTreeMap<String, Vec<ChannelRule>> = toml::from_str(&format!("channels = [{line}]")).unwrap();
    let rule = &rules["channels"][0];
    assert_eq!(rule.check(), []);
    let Target::Channel(channel, conversion) = Channels::new(std::slice::from_ref(rule)).target(&unknown.name, None)
    else {
        panic!("{line} does not map it")
    };
    assert_eq!((channel.to_string().as_str(), conversion.apply(23.1)), ("soil_moisture_20cm", 0.231));
}
