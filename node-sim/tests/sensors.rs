//! A farm whose probes are as their data sheets say, and whose faults come out of chance.
#![allow(clippy::unwrap_used)]

use node_sim::FarmConfig;
use node_sim::farm::Farm;
use node_sim::faults::FaultKind;
use node_sim::sensing::{self, Detail, SensorsConfig, SoilProbe};
use node_sim::station::Measured;
use proto::{Quantity, Timestamp};

const DAY_S: i64 = 86_400;

fn by_data_sheet(soil: SoilProbe) -> FarmConfig {
    let sensors = SensorsConfig { model: Detail::DataSheet, soil, ..SensorsConfig::default() };
    FarmConfig { stations: 3, sensors, ..FarmConfig::default() }
}

fn readings(farm: &mut Farm, until: Timestamp) -> Vec<(String, Measured)> {
    let mut all = Vec::new();
    farm.advance(until, |sample| all.extend(sample.readings.iter().map(|one| (sample.id.to_string(), *one))));
    all
}

#[test]
fn probes_by_data_sheet_read_in_their_steps_near_what_simple_ones_read() {
    for soil in [SoilProbe::Capacitance, SoilProbe::Reflectometer] {
        let config = by_data_sheet(soil);
        let simple = FarmConfig { sensors: SensorsConfig::default(), ..config.clone() };
        let until = config.start.plus_secs(2 * DAY_S);
        let (sheet, plain) =
            (readings(&mut Farm::new(&config).unwrap(), until), readings(&mut Farm::new(&simple).unwrap(), until));
        assert_eq!(sheet.len(), plain.len());
        let mut differ = 0;
        for ((_, one), (_, other)) in sheet.iter().zip(&plain) {
            let quantity = one.reading.channel.quantity;
            let model = sensing::model(quantity, soil);
            let multiples = one.reading.value / model.resolution;
            assert!((multiples - multiples.round()).abs() < 1e-6, "{quantity} {}", one.reading.value);
            differ += usize::from(one.reading.value != other.reading.value);
            // Accuracy, and what noise, heat and response add.
            let near = match quantity {
                Quantity::SoilMoisture => Some(0.1),
                Quantity::SoilTemperature | Quantity::AirTemperature => Some(2.0),
                Quantity::RelativeHumidity => Some(12.0),
                _ => None,
            };
            let off = (one.reading.value - other.reading.value).abs();
            assert!(near.is_none_or(|near| off < near), "{quantity}: {one:?} {other:?}");
        }
        assert!(differ > sheet.len() / 2);
    }
}

#[test]
fn a_farm_by_data_sheet_with_random_faults_that_is_put_back_goes_on_as_if_nothing_had_happened() {
    let mut config = by_data_sheet(SoilProbe::Capacitance);
    config.faults.rates = FaultKind::ALL.map(|kind| (kind, 60.0)).into();
    let end = config.start.plus_secs(12 * DAY_S);
    let mut farm = Farm::new(&config).unwrap();
    let mut before = readings(&mut farm, config.start.plus_secs(7 * DAY_S + 777));
    let kept = toml::to_string(&farm.state()).unwrap();
    let mut other = Farm::new(&config).unwrap();
    other.restore(toml::from_str(&kept).unwrap());
    let rest = readings(&mut farm, end);
    assert_eq!(rest, readings(&mut other, end));
    before.extend(rest);
    assert_eq!(before, readings(&mut Farm::new(&config).unwrap(), end));
    let kinds: std::collections::BTreeSet<FaultKind> = before.iter().filter_map(|(_, one)| one.fault).collect();
    assert!(kinds.len() >= 6, "{kinds:?}");
}

#[test]
fn every_faulty_reading_out_of_chance_is_in_a_fault_that_the_farm_tells() {
    let mut config = FarmConfig { stations: 3, ..FarmConfig::default() };
    config.faults.random = true;
    config.faults.rates = FaultKind::ALL.map(|kind| (kind, 40.0)).into();
    let end = config.start.plus_secs(10 * DAY_S);
    let mut farm = Farm::new(&config).unwrap();
    let told: Vec<_> =
        farm.stations().iter().flat_map(|station| station.faults().random().unwrap().until(end)).collect();
    let mut found = 0;
    for (station, one) in readings(&mut farm, end) {
        let Some(kind) = one.fault else { continue };
        found += 1;
        let of = |fault: &&node_sim::faults::Fault| {
            fault.station.as_str() == station
                && fault.kind() == kind
                && fault.is_active(one.reading.time)
                && (fault.channel.is_none() || fault.bends(one.reading.channel))
        };
        assert!(told.iter().find(of).is_some(), "{station} {one:?}");
    }
    assert!(found > 1000 && told.len() > 20, "{found} {}", told.len());
    // And without any it is the farm that it was.
    let plain = FarmConfig { stations: 3, ..FarmConfig::default() };
    assert!(readings(&mut Farm::new(&plain).unwrap(), end).iter().all(|(_, one)| one.fault.is_none()));
}
