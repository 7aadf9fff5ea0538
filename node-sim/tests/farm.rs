//! The farm without a network: repeatable, believable, and faulty only where it was told to be.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use node_sim::farm::Farm;
use node_sim::faults::FaultKind;
use node_sim::field::Fertiliser;
use node_sim::sensing::Detail;
use node_sim::space::{BoundaryConfig, Variability};
use node_sim::station::CHANNELS;
use node_sim::{FarmConfig, simulate};
use proto::{Channel, Quantity, StationId, Timestamp};

type Series = BTreeMap<(StationId, Channel), Vec<(Timestamp, f64)>>;

const DAY_S: i64 = 86_400;

fn series(config: &FarmConfig, days: i64) -> Series {
    let mut series = Series::new();
    simulate(config, config.start, config.start.plus_secs(days * DAY_S), |station, reading| {
        series.entry((station.clone(), reading.channel)).or_default().push((reading.time, reading.value));
    })
    .unwrap();
    series
}

fn of<'a>(series: &'a Series, station: &str, channel: &str) -> &'a [(Timestamp, f64)] {
    &series[&(station.parse().unwrap(), channel.parse().unwrap())]
}

#[test]
fn the_same_seed_gives_the_same_readings_and_another_gives_others() {
    let config = FarmConfig { stations: 6, ..FarmConfig::default() };
    let one = series(&config, 3);
    assert_eq!(one, series(&config, 3));
    let other = series(&FarmConfig { seed: 2, ..config }, 3);
    assert_ne!(of(&one, "n1", "air_temperature_200cm"), of(&other, "n1", "air_temperature_200cm"));
}

#[test]
fn a_station_measures_the_same_whether_it_is_alone_or_not() {
    let few = series(&FarmConfig { stations: 3, ..FarmConfig::default() }, 4);
    let many = series(&FarmConfig { stations: 30, ..FarmConfig::default() }, 4);
    for (key, readings) in &few {
        assert_eq!(readings, &many[key], "{} {}", key.0, key.1);
    }
}

#[test]
fn it_does_not_matter_how_time_is_cut() {
    let config = FarmConfig { stations: 4, ..FarmConfig::default() };
    let end = config.start.plus_secs(DAY_S);
    let collect = |cuts: &[i64]| {
        let mut farm = Farm::new(&config).unwrap();
        let mut readings = BTreeMap::<String, Vec<_>>::new();
        let mut take = |sample: &node_sim::farm::Sample<'_>| {
            readings
                .entry(sample.id.to_string())
                .or_default()
                .extend(sample.readings.iter().map(|m| (m.reading.time, m.reading.value)));
        };
        for cut in cuts {
            farm.advance(config.start.plus_millis(*cut), &mut take);
        }
        farm.advance(end, &mut take);
        (readings, farm.state())
    };
    let whole = collect(&[]);
    assert_eq!(whole, collect(&[1, 299_999, 300_000, 300_001, 7_000_000, 6_000_000, 40_000_123]));
    assert_eq!(whole, collect(&(0..2000).map(|k| k * 43_201).collect::<Vec<_>>()));
}

#[test]
fn a_farm_that_is_put_back_goes_on_as_if_nothing_had_happened() {
    let config = FarmConfig { stations: 4, ..FarmConfig::default() };
    let mut farm = Farm::new(&config).unwrap();
    farm.advance(config.start.plus_secs(DAY_S + 777), |_| {});
    farm.irrigate(1, 90);
    farm.advance(config.start.plus_secs(DAY_S + 1500), |_| {});
    let text = toml::to_string(&farm.state()).unwrap();
    let mut other = Farm::new(&config).unwrap();
    other.restore(toml::from_str(&text).unwrap());
    assert_eq!(other.state(), farm.state());
    let rest = |farm: &mut Farm| {
        let mut values = Vec::new();
        farm.advance(config.start.plus_secs(2 * DAY_S), |sample| {
            values.extend(sample.readings.iter().map(|m| m.reading))
        });
        values
    };
    assert_eq!(rest(&mut farm), rest(&mut other));
}

fn fallon() -> FarmConfig {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/fallon-2015/hourly.csv");
    assert!(std::path::Path::new(path).exists(), "this test needs the weather measured at Fallon, {path}");
    FarmConfig { stations: 3, weather: std::path::Path::new(path).into(), wind_height_m: 3.0, ..FarmConfig::default() }
}

#[test]
fn readings_are_complete_regular_in_range_and_alive() {
    for config in [FarmConfig { stations: 6, ..FarmConfig::default() }, fallon()] {
        let series = series(&config, 30);
        assert_eq!(series.len(), config.stations as usize * CHANNELS.len());
        for ((station, channel), readings) in &series {
            assert_eq!(readings.len(), 30 * 288, "{station} {channel}");
            assert!(
                readings.windows(2).all(|pair| pair[1].0.millis_since(pair[0].0) == 300_000),
                "{station} {channel}"
            );
            assert!(readings.iter().all(|(_, value)| channel.quantity.range().contains(value)), "{station} {channel}");
            // A value that stays for an hour looks stuck. Only a dry gauge, a dark sky and a steady radio may.
            if !matches!(channel.quantity, Quantity::Rain | Quantity::SolarRadiation | Quantity::Rssi) {
                let longest = readings.chunk_by(|a, b| a.1 == b.1).map(<[_]>::len).max().unwrap();
                assert!(longest < 8, "{station} {channel}: {longest} times the same");
            }
        }
    }
}

#[test]
fn a_commanded_irrigation_wets_the_field_and_no_other() {
    let config = FarmConfig { stations: 6, ..FarmConfig::default() };
    let mean_of = |commanded: bool| {
        let mut farm = Farm::new(&config).unwrap();
        farm.advance(config.start.plus_secs(DAY_S / 2), |_| {});
        if commanded {
            farm.irrigate(1, 300);
        }
        farm.advance(config.start.plus_secs(DAY_S), |_| {});
        farm.stations().iter().map(|station| station.ground().water_content(100.0)).collect::<Vec<_>>()
    };
    let (without, with) = (mean_of(false), mean_of(true));
    for (index, (without, with)) in without.iter().zip(&with).enumerate() {
        // The second and fifth station are the east field's.
        if index % 3 == 1 {
            assert!(with > &(without + 0.02), "{index}: {without} {with}")
        } else {
            assert_eq!(without, with)
        }
    }
}

#[test]
fn faults_touch_their_channel_in_their_time_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("scenario.toml");
    let fault = |station: &str, channel: &str, kind: &str, start: &str, end: &str| {
        format!(
            "[[fault]]\nstation = \"{station}\"\nchannel = \"{channel}\"\nkind = \"{kind}\"\nstart = \"{start}\"\nend = \"{end}\"\n"
        )
    };
    let text = fault("n1", "soil_moisture_20cm", "spike", "1d", "2d")
        + &fault("e1", "soil_moisture_10cm", "stuck", "1d 6h", "2d 6h")
        + &fault("c1", "soil_temperature_30cm", "drift", "12h", "3d")
        + &fault("n2", "air_temperature_200cm", "dropout", "2d", "3d");
    std::fs::write(&path, text).unwrap();
    let healthy_config = FarmConfig { stations: 6, ..FarmConfig::default() };
    let config = FarmConfig { scenario: Some(path), ..healthy_config.clone() };
    let (healthy, faulty) = (series(&healthy_config, 4), series(&config, 4));
    let at = |hours: i64| config.start.plus_secs(3600 * hours);
    let spans = [
        ("n1", "soil_moisture_20cm", at(24)..at(48)),
        ("e1", "soil_moisture_10cm", at(30)..at(54)),
        ("c1", "soil_temperature_30cm", at(12)..at(72)),
        ("n2", "air_temperature_200cm", at(48)..at(72)),
    ];
    for (key, before) in &healthy {
        let span = spans
            .iter()
            .find(|(station, channel, _)| (key.0.as_str(), key.1.to_string()) == (*station, channel.to_string()));
        let outside = |readings: &[(Timestamp, f64)]| {
            readings
                .iter()
                .filter(|(time, _)| span.is_none_or(|(_, _, span)| !span.contains(time)))
                .copied()
                .collect::<Vec<_>>()
        };
        assert_eq!(outside(before), outside(&faulty[key]), "{} {}", key.0, key.1);
    }

    let within = |index: usize| {
        let (station, channel, span) = &spans[index];
        of(&faulty, station, channel)
            .iter()
            .filter(|(time, _)| span.contains(time))
            .map(|(_, value)| *value)
            .collect::<Vec<_>>()
    };
    let truth = |index: usize| {
        let (station, channel, span) = &spans[index];
        of(&healthy, station, channel)
            .iter()
            .filter(|(time, _)| span.contains(time))
            .map(|(_, value)| *value)
            .collect::<Vec<_>>()
    };
    let off: Vec<f64> = within(0).iter().zip(truth(0)).map(|(a, b)| a - b).collect();
    let spikes = off.iter().filter(|off| off.abs() > 0.1).count();
    assert!((4..30).contains(&spikes) && off.iter().filter(|off| **off != 0.0).count() == spikes, "{off:?}");
    assert!(within(1).iter().all(|value| *value == within(1)[0]) && within(1)[0] == truth(1)[0]);
    let drift: Vec<f64> = within(2).iter().zip(truth(2)).map(|(a, b)| a - b).collect();
    assert!(
        drift[0].abs() < 0.1 && (drift[drift.len() - 1] - 0.2 * 60.0).abs() < 0.1,
        "{} {}",
        drift[0],
        drift[drift.len() - 1]
    );
    assert!(within(3).is_empty() && !truth(3).is_empty());

    // The farm says which readings are faulty.
    let mut farm = Farm::new(&config).unwrap();
    let mut counts = BTreeMap::new();
    farm.advance(at(96), |sample| {
        for kind in sample.readings.iter().filter_map(|measured| measured.fault) {
            *counts.entry(kind.name()).or_insert(0) += 1;
        }
    });
    assert_eq!(
        counts,
        BTreeMap::from([
            (FaultKind::Spike.name(), spikes),
            (FaultKind::Stuck.name(), 288),
            (FaultKind::Drift.name(), 720)
        ])
    );
}

#[test]
fn thirty_days_of_measured_weather_drive_the_fields() {
    let config = fallon();
    let series = series(&config, 30);
    let mean = |channel| of(&series, "n1", channel).iter().map(|(_, value)| value).sum::<f64>() / (30.0 * 288.0);
    // June 2015 at Fallon: hot and bright.
    assert!((20.0..30.0).contains(&mean("air_temperature_200cm")), "{}", mean("air_temperature_200cm"));
    assert!((250.0..380.0).contains(&mean("solar_radiation")), "{}", mean("solar_radiation"));
    // The fields are irrigated: the soil dries and is wetted again, and never lies at the wilting point.
    for (station, wilting) in [("n1", 0.14), ("e1", 0.08), ("c1", 0.22)] {
        let moisture = of(&series, station, "soil_moisture_20cm");
        let (low, high) = moisture.iter().fold((1.0f64, 0.0f64), |(low, high), (_, v)| (low.min(*v), high.max(*v)));
        assert!(high - low > 0.02 && low > wilting - 0.02, "{station}: {low} to {high}");
    }
    let swing = |channel| {
        let days = of(&series, "n1", channel).chunks_exact(288);
        let n = days.len() as f64;
        days.map(|day| {
            day.iter().fold(f64::MIN, |m, (_, v)| m.max(*v)) - day.iter().fold(f64::MAX, |m, (_, v)| m.min(*v))
        })
        .sum::<f64>()
            / n
    };
    assert!(swing("air_temperature_200cm") > swing("soil_temperature_10cm"));
    assert!(
        swing("soil_temperature_10cm") > 2.0 * swing("soil_temperature_30cm"),
        "{} {}",
        swing("soil_temperature_10cm"),
        swing("soil_temperature_30cm")
    );
}

/// How far the stations of a field are from each other in what they read, m3/m3: the mean difference of the mean soil moisture over days, of
/// pairs 10 m apart and of pairs 300 m apart.
fn near_and_far(config: &FarmConfig, days: i64, pairs: usize) -> (f64, f64) {
    let mut sums = BTreeMap::<StationId, (f64, f64)>::new();
    let moisture = "soil_moisture_20cm".parse().unwrap();
    simulate(config, config.start, config.start.plus_secs(days * DAY_S), |station, reading| {
        if reading.channel == moisture {
            let sum = sums.entry(station.clone()).or_default();
            *sum = (sum.0 + reading.value, sum.1 + 1.0);
        }
    })
    .unwrap();
    let mean = |number: usize| {
        let (sum, count) = sums[&format!("n{}", number + 1).parse::<StationId>().unwrap()];
        sum / count
    };
    let difference = |other: usize| {
        let differences = (0..pairs).map(|pair| (mean(3 * pair) - mean(3 * pair + other)).abs());
        differences.sum::<f64>() / pairs as f64
    };
    (difference(1), difference(2))
}

#[test]
fn stations_ten_metres_apart_read_more_alike_than_ones_three_hundred_apart() {
    const TRIPLES: usize = 30;
    let mut config = FarmConfig { stations: 3 * TRIPLES as u32, ..FarmConfig::default() };
    let mut field = config.fields().remove(0);
    // 700 m by 700 m, without a boundary.
    field.area_ha = Some(49.0);
    let north_of = |metres: f64| metres / 111_000.0;
    for triple in 0..TRIPLES {
        let longitude = field.longitude + 0.0036 * (triple % 6) as f64 / 5.0 - 0.0036 * 0.5;
        let latitude = field.latitude - north_of(320.0) + north_of(60.0) * (triple / 6) as f64;
        field.places.extend([0.0, 10.0, 300.0].map(|metres| [longitude, latitude + north_of(metres)]));
    }
    config.fields = vec![field.clone()];
    let (near, far) = near_and_far(&config, 5, TRIPLES);
    // Beside the ground each probe has an offset and each place its own conductivity.
    assert!(near < 0.75 * far && far > 0.02, "{near} {far}");
    // Where the texture is the same everywhere it does not matter how far they are apart.
    field.variability = Variability { sand_sd_pct: 0.0, clay_sd_pct: 0.0, ..Variability::default() };
    config.fields = vec![field];
    let (near, far) = near_and_far(&config, 5, TRIPLES);
    assert!((0.6..1.6).contains(&(near / far)) && far < 0.02, "{near} {far}");
}

#[test]
fn the_default_farms_stations_stand_on_ground_that_varies() {
    let config = FarmConfig { stations: 60, ..FarmConfig::default() };
    let farm = Farm::new(&config).unwrap();
    for (index, field) in config.fields().iter().enumerate() {
        let (sand, _) = field.soil.sand_clay_pct();
        let stations = farm.stations().iter().filter(|station| station.field() == index);
        let sands: Vec<f64> = stations.map(|station| 100.0 * station.ground().soil().sand).collect();
        let deviation =
            |sands: &[f64]| (sands.iter().map(|value| (value - sand).powi(2)).sum::<f64>() / sands.len() as f64).sqrt();
        assert!((3.0..12.0).contains(&deviation(&sands)), "{}: {sands:?}", field.id);
    }
}

#[test]
fn a_field_that_is_too_thin_for_its_stations_is_refused() {
    let mut config = FarmConfig { stations: 3, ..FarmConfig::default() };
    let mut field = config.fields().remove(0);
    // Two kilometres long from corner to corner, and a centimetre wide.
    let (east, north) = (field.longitude, field.latitude);
    field.boundary = Some(BoundaryConfig::Ring(vec![
        [east, north],
        [east + 0.017, north + 0.013],
        [east + 0.017 + 1e-7, north + 0.013],
        [east + 1e-7, north],
    ]));
    config.fields = vec![field];
    let error = Farm::new(&config).unwrap_err().to_string();
    assert_eq!(error, "farm.fields[0].boundary: is so thin that 0 of its 3 stations find a place in it");
}

#[test]
fn probes_that_a_station_has_beside_the_usual_ones_see_what_is_spread_and_change_nothing_else() {
    let at: Timestamp = "2026-06-03T16:00:00Z".parse().unwrap();
    let mut config = FarmConfig { stations: 3, ..FarmConfig::default() };
    config.fields = config.fields();
    config.fields[0].fertiliser = vec![Fertiliser { at, n_kg_ha: 150.0, p_kg_ha: 30.0, k_kg_ha: 120.0 }];
    let usual = series(&config, 5);
    let also = ["nitrate_5cm", "phosphorus_5cm", "potassium_5cm", "soil_ec_5cm", "soil_moisture_100cm"];
    config.sensors.also = also.map(|channel| channel.parse().unwrap()).to_vec();
    for model in [Detail::Simple, Detail::DataSheet] {
        config.sensors.model = model;
        let all = series(&config, 5);
        assert_eq!(all.len(), 3 * (CHANNELS.len() + also.len()));
        // The noise of a sample is drawn channel by channel, so what comes after the usual ones leaves them as they are.
        let unchanged = usual.iter().all(|(key, readings)| all[key] == *readings);
        assert_eq!(unchanged, model == Detail::Simple);
        let step = |station: &str, channel: &str| {
            let (before, after): (Vec<_>, Vec<_>) = of(&all, station, channel).iter().partition(|(time, _)| *time < at);
            let mean =
                |part: &[&(Timestamp, f64)]| part.iter().map(|(_, value)| value).sum::<f64>() / part.len() as f64;
            mean(&after[..100].iter().collect::<Vec<_>>()) - mean(&before.iter().collect::<Vec<_>>())
        };
        for (channel, least) in [("nitrate_5cm", 50.0), ("phosphorus_5cm", 10.0), ("potassium_5cm", 40.0)] {
            assert!(step("n1", channel) > least, "{model:?} {channel}: {}", step("n1", channel));
            assert!(step("e1", channel).abs() < 0.6 * least, "{model:?} {channel}: {}", step("e1", channel));
        }
        assert!(step("n1", "soil_ec_5cm") > step("c1", "soil_ec_5cm") + 0.1);
        assert!(of(&all, "n1", "soil_moisture_100cm").iter().all(|(_, value)| (0.1..0.45).contains(value)));
    }
    let wrong = ["wind_speed_200cm", "nitrate_250cm", "soil_ec_20cm", "potassium", "potassium"];
    config.sensors.also = wrong.map(|channel| channel.parse().unwrap()).to_vec();
    let lines = config.open().unwrap_err().to_string();
    assert_eq!(
        lines,
        "farm.sensors.also[0]: \"wind_speed_200cm\" is not measured in the soil, at 0 to 200 cm\n\
         farm.sensors.also[1]: \"nitrate_250cm\" is not measured in the soil, at 0 to 200 cm\n\
         farm.sensors.also[2]: \"soil_ec_20cm\" is not another channel than the others\n\
         farm.sensors.also[4]: \"potassium\" is not another channel than the others"
    );
}
