//! From the stations to the tables: every reading that was made is in exactly one aggregate, whatever happens between.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use proto::Timestamp;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tests::farm::{Farm, PATIENCE, Setup};
use tests::{measured, oracle};

/// One of each fault, and spikes that no sensor can show.
const FAULTS: &str = r#"
    [[fault]]
    station = "n1"
    channel = "soil_moisture_20cm"
    kind = "spike"
    start = "6h"
    end = "18h"
    magnitude = 0.15
    rate = 0.2

    [[fault]]
    station = "e1"
    channel = "air_temperature_200cm"
    kind = "spike"
    start = "3h"
    end = "20h"
    magnitude = 300.0
    rate = 0.3

    [[fault]]
    station = "c1"
    channel = "soil_moisture_10cm"
    kind = "stuck"
    start = "5h"
    end = "15h"

    [[fault]]
    station = "n2"
    channel = "soil_temperature_10cm"
    kind = "drift"
    start = "2h"
    end = "20h"

    [[fault]]
    station = "e2"
    channel = "soil_ec_20cm"
    kind = "dropout"
    start = "4h"
    end = "9h"
"#;

async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "waited {} s in vain for: {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reading_is_in_exactly_one_aggregate() {
    let mut farm = Farm::start(Setup { scenario: Some(FAULTS.to_owned()), ..Setup::new(6, 2) }).await;
    farm.simulation_ends().await;
    let (_, made) = oracle::expected(&farm.truth());
    assert!(made > 6 * 2 * 288 * 12, "{made} readings are too few for two days of six stations");
    farm.tables_hold(made).await;
    oracle::check(&farm.pool, &farm.truth()).await;
    let rejected: i64 =
        sqlx::query_scalar("SELECT sum(rejected)::bigint FROM aggregate").fetch_one(&farm.pool).await.unwrap();
    assert!(rejected > 20, "the spikes were injected to be rejected, but only {rejected} were");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_ten_times_loses_and_doubles_nothing() {
    let seed = 20_260_601;
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    // Long enough that a fast machine is not at the end before the last kill: it simulates four days a second.
    let mut farm = Farm::start(Setup { scenario: Some(FAULTS.to_owned()), ..Setup::new(6, 24) }).await;
    for kill in 1..=10 {
        let before = farm.readings_in_tables().await;
        wait_until(&format!("progress before kill {kill}"), async || farm.readings_in_tables().await > before).await;
        let moment = Duration::from_millis(chance.random_range(0..400));
        tokio::time::sleep(moment).await;
        farm.kill_gateway().await;
        assert!(farm.node_sim.as_ref().unwrap().pid().is_some(), "kill {kill} came after the end of the simulation");
        farm.start_gateway().await;
    }
    farm.simulation_ends().await;
    let (_, made) = oracle::expected(&farm.truth());
    farm.tables_hold(made).await;
    oracle::check(&farm.pool, &farm.truth()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_cloud_is_down_for_two_days_the_farm_goes_on_and_the_tables_are_complete_afterwards() {
    let mut farm = Farm::start(Setup::new(6, 4)).await;
    let begin = farm.plan.farm.start;
    let newest = async |farm: &Farm| -> Timestamp {
        let ms: Option<i64> =
            sqlx::query_scalar("SELECT (extract(epoch FROM max(start)) * 1000)::bigint FROM aggregate")
                .fetch_one(&farm.pool)
                .await
                .unwrap();
        ms.map_or(begin, Timestamp::from_millis)
    };
    wait_until("half a day in the tables", async || newest(&farm).await >= begin.plus_secs(43_200)).await;
    farm.cloud.take().unwrap().stop().await.unwrap();
    let stopped = newest(&farm).await;

    // The stations' own log says how far the farm has come without the cloud.
    wait_until("two days without the cloud", async || {
        let last = node_sim::truth::read_readings(&farm.truth()).unwrap().filter_map(Result::ok).map(|r| r.time).max();
        last.is_some_and(|time| time.millis_since(stopped) >= 2 * 86_400_000)
    })
    .await;
    assert_eq!(newest(&farm).await, stopped, "nothing reaches the tables without the cloud");

    farm.start_cloud().await;
    farm.simulation_ends().await;
    let (_, made) = oracle::expected(&farm.truth());
    farm.tables_hold(made).await;
    oracle::check(&farm.pool, &farm.truth()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_days_of_measured_weather_go_through_the_whole_chain() {
    let start: Timestamp = "2015-06-01T07:00:00Z".parse().unwrap();
    let weather = measured("fallon-2015/hourly.csv");
    let mut farm = Farm::start(Setup { weather: Some(weather), start, ..Setup::new(6, 30) }).await;
    farm.simulation_ends().await;
    let (_, made) = oracle::expected(&farm.truth());
    farm.tables_hold(made).await;
    oracle::check(&farm.pool, &farm.truth()).await;

    // The year's own file says how warm the days were; the stations measured that, and the roll-ups kept it.
    let worst: f64 = sqlx::query_scalar(
        "SELECT max(abs(d.mean - r.mean)) FROM aggregate_daily d JOIN (
            SELECT station_id, channel, date_trunc('day', start, 'UTC') AS day, sum(mean * count) / sum(count) AS mean
            FROM aggregate GROUP BY 1, 2, 3) r ON (r.station_id, r.channel, r.day) = (d.station_id, d.channel, d.start)",
    )
    .fetch_one(&farm.pool)
    .await
    .unwrap();
    assert!(worst < 1e-6, "a daily mean is {worst} off what its windows say");
    let (coldest, warmest): (f64, f64) =
        sqlx::query_as("SELECT min(min), max(max) FROM aggregate WHERE channel = 'air_temperature_200cm'")
            .fetch_one(&farm.pool)
            .await
            .unwrap();
    let (least, most) = measured_air_temperature(start, 30);
    assert!(
        (coldest - least).abs() < 3.0 && (warmest - most).abs() < 3.0,
        "{coldest} to {warmest} Cel, measured were {least} to {most}"
    );

    // When the simulation is over all stations are silent, which is no false alarm.
    let alerts: Vec<String> =
        sqlx::query_scalar("SELECT alert_id || ': ' || message FROM alert WHERE kind <> 'silent' ORDER BY opened")
            .fetch_all(&farm.pool)
            .await
            .unwrap();
    assert!(alerts.len() <= 6 * 30 / 10, "{} alerts in 180 station-days without a fault: {alerts:#?}", alerts.len());
}

/// The least and greatest hourly air temperature of `days` days from `start` in the measured year.
fn measured_air_temperature(start: Timestamp, days: i64) -> (f64, f64) {
    let mut reader = csv::Reader::from_path(measured("fallon-2015/hourly.csv")).unwrap();
    let end = start.plus_secs(days * 86_400);
    reader
        .records()
        .map(Result::unwrap)
        .filter(|row| (start..=end).contains(&row[0].parse().unwrap()))
        .filter_map(|row| row[1].parse::<f64>().ok())
        .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)))
}
