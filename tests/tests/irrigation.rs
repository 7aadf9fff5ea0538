//! From dry soil to wet soil: probes, the gateway's decision, its command, the valve in the simulated field, and the probes again.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use gateway::config::WindowsConfig;
use gateway::decide::Decider;
use gateway::validate::Limits;
use gateway::window::{Origin, Windows};
use node_sim::config::{FarmConfig, Pace};
use node_sim::field::{Crop, FieldConfig, Irrigation, Season};
use node_sim::irrigation::System;
use proto::{Reading, Timestamp, Window};
use tests::farm::{Farm, PATIENCE, Setup, now};
use tilth::farm::{fields, left_to_the_gateway};

/// By how much the moisture of irrigated soil rises at least, m3/m3, and that of other soil at most.
const WET: f64 = 0.05;
const STEADY: f64 = 0.01;

/// A field that begins dry and one that begins moist. Neither irrigates by itself, so the gateway is to; station n1 has the
/// valve of the one, e1 that of the other.
fn setup() -> Setup {
    let mut fields = FieldConfig::defaults(&FarmConfig::default().place());
    fields.truncate(2);
    for (field, dry) in fields.iter_mut().zip([0.75, 0.1]) {
        field.irrigation = Irrigation { scheduled: false, ..field.irrigation };
        field.dry = Some(dry);
    }
    // A day in two minutes, as `deploy/up` runs it.
    Setup { fields, pace: Pace::Scale, speed: 720.0, ..Setup::new(4, 0) }
}

async fn wait_until(farm: &Farm, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "waited in vain for: {what}; gateway: {}", farm.log("gateway"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// When the dry field's irrigation was decided, once it stands in the cloud that its valve carried it out.
async fn carried_out(farm: &Farm) -> Timestamp {
    farm.sees(
        "an irrigation that was carried out",
        "SELECT count(*) FROM decision WHERE field_id = 'north' AND cause = 'due' AND minutes > 60
            AND stations = '[\"n1\"]' AND confirmed = '[\"n1\"]'",
    )
    .await;
    let at: i64 = sqlx::query_scalar(
        "SELECT (extract(epoch FROM at) * 1000)::bigint FROM decision WHERE field_id = 'north' AND cause = 'due'",
    )
    .fetch_one(&farm.pool)
    .await
    .expect("one decision, though it was told twice");
    Timestamp::from_millis(at)
}

/// The mean soil moisture in a station's windows that begin within these times, in their order.
async fn moisture(farm: &Farm, station: &str, depth_cm: u16, from: Timestamp, to: Timestamp) -> Vec<f64> {
    sqlx::query_scalar(
        "SELECT mean FROM aggregate WHERE station_id = $1 AND channel = $2 AND mean IS NOT NULL
            AND start >= to_timestamp($3 / 1000.0) AND start < to_timestamp($4 / 1000.0) ORDER BY start",
    )
    .bind(station)
    .bind(format!("soil_moisture_{depth_cm}cm"))
    .bind(from.as_millis() as f64)
    .bind(to.as_millis() as f64)
    .fetch_all(&farm.pool)
    .await
    .unwrap()
}

/// Waits until the windows of the dry field's stations are wet after `at`, and holds those of the other field to being steady.
async fn one_field_becomes_wet(farm: &Farm, at: Timestamp) {
    let before = async |station, depth_cm| {
        let mut last = None;
        wait_until(farm, "the windows that it was decided on", async || {
            last = moisture(farm, station, depth_cm, Timestamp::from_millis(0), at).await.pop();
            last.is_some()
        })
        .await;
        last.unwrap()
    };
    let later = at.plus_secs(86_400);
    for (station, depth_cm) in [("n1", 10), ("n1", 20), ("n2", 10)] {
        let dry = before(station, depth_cm).await;
        wait_until(farm, &format!("{station} is wet at {depth_cm} cm"), async || {
            moisture(farm, station, depth_cm, at, later).await.iter().any(|mean| mean - dry > WET)
        })
        .await;
    }
    for station in ["e1", "e2"] {
        let (first, windows) = (before(station, 10).await, moisture(farm, station, 10, at, later).await);
        assert!(windows.len() > 1, "{station} has windows after {at}: {windows:?}");
        assert!(
            windows.iter().all(|mean| mean - first < STEADY),
            "nobody irrigates {station}: {first} before, {windows:?}"
        );
    }
    let others: i64 = sqlx::query_scalar("SELECT count(*) FROM decision WHERE field_id <> 'north' AND cause = 'due'")
        .fetch_one(&farm.pool)
        .await
        .unwrap();
    assert_eq!(others, 0, "the other field is moist");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_field_is_irrigated_by_its_valve_and_its_probes_and_no_others_see_the_water() {
    let farm = Farm::start(setup()).await;
    let at = carried_out(&farm).await;
    one_field_becomes_wet(&farm, at).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_cloud_the_field_is_irrigated_all_the_same_and_the_cloud_hears_of_it_later() {
    let mut farm = Farm::new(setup()).await;
    farm.start_gateway().await;
    farm.start_node_sim().await;
    // Nothing tells of the water but the stations' own log.
    let wet = async || {
        let all = node_sim::truth::read_readings(&farm.truth()).unwrap().filter_map(Result::ok);
        let of_valve = |r: &node_sim::truth::TruthReading| {
            r.station.as_str() == "n1" && r.channel.to_string() == "soil_moisture_10cm"
        };
        let values: Vec<f64> = all.filter(of_valve).map(|reading| reading.value).collect();
        values.last().is_some_and(|last| last - values[0] > WET)
    };
    wait_until(&farm, "the field becomes wet without a cloud", wet).await;
    let decided: i64 = sqlx::query_scalar("SELECT count(*) FROM decision").fetch_one(&farm.pool).await.unwrap();
    assert_eq!(decided, 0, "nothing reaches the tables without the cloud");

    let cloud_began = farm.plan.time.at(now());
    farm.start_cloud().await;
    let at = carried_out(&farm).await;
    assert!(at < cloud_began, "decided at {at}, while the cloud was away until {cloud_began}");
    one_field_becomes_wet(&farm, at).await;
}

/// Who says when a field gets water.
#[derive(Debug, Clone, Copy)]
enum Says {
    Nobody,
    Gateway,
    /// So many minutes on each so manieth day, whatever the soil is like.
    Clock {
        days: i64,
        minutes: u32,
    },
}

/// What became of a field that begins dry.
struct Summer {
    season: Season,
    /// Soil moisture at 20 cm at each station, the mean of all days, m3/m3.
    moisture: Vec<f64>,
    /// How long the valve was told to run, min.
    minutes: u32,
}

impl Summer {
    /// What was pumped, mm over the field.
    fn pumped_mm(&self) -> f64 {
        self.season.pumped_m3 / 10.0 / self.season.area_ha
    }
}

/// Sixty days of a field with this crop, system and rate, mm/h.
fn summer(crop: Crop, system: System, rate_mm_h: f64, says: Says) -> Summer {
    const STEP_S: i64 = 900;
    const DAY_STEPS: i64 = 86_400 / STEP_S;
    let mut field = FarmConfig::default().fields().remove(1);
    field.crop = crop;
    field.irrigation = Irrigation { system: Some(system), rate_mm_h, ..field.irrigation };
    let farm = FarmConfig { stations: 6, sample_s: 900, fields: vec![field], ..FarmConfig::default() };
    let farm = left_to_the_gateway(farm);
    let names: Vec<_> = farm.station_names().into_iter().map(|(id, _)| id).collect();
    let mut decider = Decider::new(&fields(Path::new("no file of fields"), &farm).unwrap());
    let mut windows = Windows::new(WindowsConfig::default().shape(), Limits::of);
    let mut simulated = node_sim::farm::Farm::new(&farm).unwrap();
    let (mut sequence, mut minutes, mut sums) = (0, 0, vec![(0.0, 0.0); names.len()]);
    for step in 1..=60 * DAY_STEPS {
        let mut closed = BTreeMap::<Timestamp, Vec<Window>>::new();
        simulated.advance(farm.start.plus_secs(step * STEP_S), |sample| {
            let readings: Vec<Reading> = sample.readings.iter().map(|measured| measured.reading).collect();
            let moist = readings.iter().find(|reading| reading.channel.to_string() == "soil_moisture_20cm").unwrap();
            let sum: &mut (f64, f64) = &mut sums[sample.station];
            *sum = (sum.0 + moist.value, sum.1 + 1.0);
            sequence += 1;
            windows.insert(sample.id, Origin { boot: 1, sequence }, &readings, sample.time, sequence);
            for window in windows.close() {
                closed.entry(window.window.end()).or_default().push(window.window);
            }
        });
        let mut runs = Vec::new();
        match says {
            Says::Nobody => {}
            Says::Gateway => {
                for windows in closed.into_values() {
                    decider.observe(&windows, simulated.now(), |_, _| false);
                }
                let orders: Vec<_> = decider.orders(simulated.now()).collect();
                for order in orders {
                    let station = names.iter().position(|name| *name == order.station).unwrap();
                    runs.push((station, order.minutes));
                    decider.confirm(&order.station, order.id);
                }
            }
            Says::Clock { days, minutes } if (step - 1) % (days * DAY_STEPS) == 0 => runs.push((0, minutes)),
            Says::Clock { .. } => {}
        }
        for (station, run) in runs {
            simulated.irrigate(station, run);
            minutes += run;
        }
    }
    let moisture = sums.into_iter().map(|(sum, count)| sum / count).collect();
    Summer { season: simulated.seasons().remove(0), moisture, minutes }
}

/// What the gateway decides on a field with drippers and one with a pivot, beside nobody's water and a clock's.
fn decisions_pay(crop: Crop) {
    let drip = System::Drip { emitter_l_h: 1.5, emitters_per_m2: 2.0, efficiency: 0.9, wetted: 0.35 };
    let pivot = System::Pivot { rotation_h: 10.0, sector_degrees: 12.0, efficiency: 0.8 };
    // The clock gives what the crop uses on a day of mid-summer in mid-season, 7.6 mm: 170 min of drippers each day, a turn of the pivot each other.
    let by_day = Says::Clock { days: 1, minutes: 170 };
    let by_turn = Says::Clock { days: 2, minutes: 600 };
    for (system, rate_mm_h, efficiency, turn_minutes, clock) in
        [(drip, 3.0, 0.9, 5, by_day), (pivot, 2.0, 0.8, 600, by_turn)]
    {
        let of = |says| summer(crop, system, rate_mm_h, says);
        let (with, without, clock) = (of(Says::Gateway), of(Says::Nobody), of(clock));
        let (pumped_mm, clocked_mm) = (with.pumped_mm(), clock.pumped_mm());
        let Summer { season, moisture, minutes } = with;
        assert_eq!((without.minutes, without.season.pumped_m3, without.season.bill), (0, 0.0, 0.0));
        assert!(minutes >= 600 && minutes % turn_minutes == 0, "{system:?}: {minutes} min");
        // The bill is for what was pumped, the soil has what arrived; the last order may not be through.
        let ordered_mm = f64::from(minutes) / 60.0 * rate_mm_h;
        assert!(
            pumped_mm <= ordered_mm + 1e-6 && pumped_mm > ordered_mm - 10.0 * rate_mm_h,
            "{pumped_mm} {ordered_mm}"
        );
        assert!((season.irrigation_mm / pumped_mm - efficiency).abs() < 1e-6, "{system:?}: {season:?}");
        assert!((season.bill - 0.05 * season.pumped_m3).abs() < 1e-6, "{season:?}");
        // Every station's soil is wetter, wherever it stands.
        let wetter: Vec<f64> = moisture.iter().zip(&without.moisture).map(|(with, without)| with - without).collect();
        let mean = wetter.iter().sum::<f64>() / wetter.len() as f64;
        assert!(mean > 0.02 && wetter.iter().all(|more| *more > 0.005), "{system:?}: {wetter:?}");
        // The crop yields about what plenty of water gives it, and that with less.
        let of = |summer: &Summer| summer.season.standing_relative_yield;
        let (yielded, plenty, dry) = (season.standing_relative_yield, of(&clock), of(&without));
        println!(
            "{crop:?} {system:?}: {yielded:.3} with {pumped_mm:.0} mm, {plenty:.3} by the clock with {clocked_mm:.0} mm, {dry:.3} without"
        );
        assert!(plenty > 0.98 && dry < 0.1, "{system:?}: {plenty} {dry}");
        assert!(yielded > 0.92 * plenty, "{system:?}: {yielded} {plenty}, {} days of stress", season.stress_days);
        assert!(pumped_mm < 0.85 * clocked_mm, "{system:?}: {pumped_mm} {clocked_mm}");
    }
}

#[test]
fn what_the_gateway_decides_lets_maize_yield_as_with_plenty_of_water_and_takes_less_of_it() {
    decisions_pay(Crop::Maize);
}

#[test]
fn what_the_gateway_decides_lets_tomatoes_yield_as_with_plenty_of_water_and_takes_less_of_it() {
    decisions_pay(Crop::Tomato);
}
