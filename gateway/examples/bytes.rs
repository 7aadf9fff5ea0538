//! What a reading costs on the link: `cargo run -p gateway --example bytes`.
//!
//! A day of 24 stations with 13 channels each, a reading a minute, reported each quarter of an hour. It goes as the uplink
//! sends it (windows; raw readings), and the same readings as JSON over HTTP: a POST for each reading, and one for each
//! station's batch. Requests go over loopback to a server that counts what its sockets see; TCP, IP and TLS are not counted
//! (a connection is kept in every case, so that they would only widen the gap).
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gateway::config::CloudConfig;
use gateway::uplink::link::Link;
use proto::{Aggregate, Channel, Lane, RawReadings, Reading, Record, StationId, Stats, Timestamp, UplinkBatch, Window};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const STATIONS: i64 = 24;
const CHANNELS: [&str; 13] = [
    "soil_moisture_10cm",
    "soil_moisture_20cm",
    "soil_moisture_40cm",
    "soil_temperature_10cm",
    "soil_temperature_30cm",
    "soil_ec_20cm",
    "air_temperature_200cm",
    "relative_humidity_200cm",
    "wind_speed_200cm",
    "rain",
    "pressure",
    "solar_radiation",
    "battery",
];
const MINUTES: i64 = 24 * 60;
const START: Timestamp = Timestamp::from_secs(1_780_000_000 / 86_400 * 86_400);

/// A value that moves by the day and by some noise, in the digits that the channel's sensor has.
fn value(channel: Channel, station: i64, minute: i64) -> f64 {
    // Splitmix64: what looks regular would be packed far better than any measured noise.
    let seed = (station << 40 | minute << 24).cast_unsigned() ^ u64::from(channel.code());
    let mixed = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let noise = ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 - 0.5;
    let day = (minute as f64 / 1_440.0 * std::f64::consts::TAU).sin();
    let (base, swing, jitter) = match channel.quantity.name() {
        "soil_moisture" => (0.24, 0.004, 0.0004),
        "soil_temperature" => (18.0, 3.0, 0.04),
        "soil_ec" => (0.8, 0.02, 0.01),
        "air_temperature" => (21.0, 8.0, 0.3),
        "relative_humidity" => (55.0, 20.0, 1.0),
        "wind_speed" => (2.5, 1.0, 1.5),
        "rain" => (0.0, 0.0, 0.0),
        "pressure" => (1_013.0, 2.0, 0.1),
        "solar_radiation" => (400.0, 400.0, 20.0),
        _ => (3.6, 0.1, 0.01),
    };
    channel.quantity.quantise(base + swing * day + jitter * noise)
}

#[tokio::main]
async fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let channels: Vec<Channel> = CHANNELS.iter().filter_map(|name| name.parse().ok()).collect();
    let stations: Vec<StationId> = (0..STATIONS).map(|n| format!("n{n}").parse().unwrap()).collect();
    let readings = |station: i64, minutes: std::ops::Range<i64>| -> Vec<Reading> {
        let at = |minute: i64| START.plus_secs(60 * minute);
        minutes
            .flat_map(|minute| channels.iter().map(move |channel| (minute, *channel)))
            .map(|(minute, channel)| Reading { channel, time: at(minute), value: value(channel, station, minute) })
            .collect()
    };
    let count = (STATIONS * MINUTES) as u64 * channels.len() as u64;
    println!("{count} readings: {STATIONS} stations, {} channels, {MINUTES} minutes", channels.len());

    let bytes = Arc::new(AtomicU64::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, Arc::clone(&bytes)));
    let row = |name: &str, requests: u64, before: u64| {
        let sent = bytes.load(Ordering::SeqCst) - before;
        println!("{name:<44}{requests:>9} requests {:>10.3} bytes a reading", sent as f64 / count as f64);
    };

    let mut link = Link::new(CloudConfig { url: url.clone(), token: "0".repeat(43) }).unwrap();
    let quarters = MINUTES / 15;
    // As a gateway with a connection does: a batch when the windows of a quarter close.
    for per_batch in [1, 4] {
        let before = bytes.load(Ordering::SeqCst);
        let mut first = 1;
        for group in 0..quarters / per_batch {
            let mut records = Vec::new();
            for quarter in group * per_batch..(group + 1) * per_batch {
                for (number, station) in (0..).zip(&stations) {
                    records.push(Record::Window(window(
                        station,
                        START.plus_secs(900 * quarter),
                        &readings(number, quarter * 15..quarter * 15 + 15),
                    )));
                }
            }
            first = send(&mut link, Lane::Aggregates, first, records).await;
        }
        row(&format!("windows, a batch for {per_batch} quarters"), (quarters / per_batch).cast_unsigned(), before);
    }
    for hours in [1, 6] {
        let before = bytes.load(Ordering::SeqCst);
        let mut first = 1;
        for group in 0..24 / hours {
            let raw = |number: i64| {
                let of = readings(number, group * hours * 60..(group + 1) * hours * 60);
                of.chunks(2_000)
                    .map(|part| Record::Raw(RawReadings::new(stations[number as usize].clone(), part.to_vec())))
                    .collect::<Vec<_>>()
            };
            first = send(&mut link, Lane::Backfill, first, (0..STATIONS).flat_map(raw).collect()).await;
        }
        row(&format!("raw readings, a batch for {hours} h"), (24 / hours).cast_unsigned(), before);
    }

    let client = reqwest::Client::new();
    let post = async |body: serde_json::Value| {
        let request = client.post(format!("{url}/api/v1/readings")).bearer_auth("0".repeat(43)).json(&body);
        request.send().await.unwrap().bytes().await.unwrap();
    };
    let json = |station: &StationId, reading: &Reading| serde_json::json!({"station": station, "channel": reading.channel.to_string(), "time": reading.time.to_string(), "value": reading.value});
    let before = bytes.load(Ordering::SeqCst);
    for (number, station) in (0..).zip(&stations) {
        for quarter in 0..quarters {
            let of = readings(number, quarter * 15..quarter * 15 + 15);
            post(of.iter().map(|reading| json(station, reading)).collect()).await;
        }
    }
    row("JSON, a POST for a station's quarter of an hour", (STATIONS * quarters).cast_unsigned(), before);
    // All of a day's readings one by one take minutes: the first station's hour is like the others.
    let before = bytes.load(Ordering::SeqCst);
    let some = readings(0, 0..60);
    for reading in &some {
        post(json(&stations[0], reading)).await;
    }
    let sent = bytes.load(Ordering::SeqCst) - before;
    println!(
        "{:<44}{count:>9} requests {:>10.3} bytes a reading",
        "JSON, a POST for each reading",
        sent as f64 / some.len() as f64
    );

    dictionary(&stations, &readings);
}

async fn send(link: &mut Link, lane: Lane, first: u64, records: Vec<Record>) -> u64 {
    let batch = batch(lane, first, records);
    let body = Link::pack(&batch).unwrap();
    link.send(&batch, body).await;
    batch.last() + 1
}

fn batch(lane: Lane, first: u64, records: Vec<Record>) -> UplinkBatch {
    UplinkBatch {
        farm: "fallon".parse().unwrap(),
        gateway: "home".parse().unwrap(),
        store: 1 << 62,
        lane,
        first,
        records,
    }
}

/// What a dictionary would save of small batches: the last 16 KiB of the day's first half, tried on the second.
fn dictionary(stations: &[StationId], readings: &impl Fn(i64, std::ops::Range<i64>) -> Vec<Reading>) {
    for of_batch in [1_usize, 4, 24] {
        let body = |quarter: i64| {
            let records = (0..).zip(&stations[..of_batch]).map(|(number, station)| {
                Record::Window(window(
                    station,
                    START.plus_secs(900 * quarter),
                    &readings(number, quarter * 15..quarter * 15 + 15),
                ))
            });
            batch(Lane::Aggregates, 1 + quarter.cast_unsigned(), records.collect()).encode()
        };
        let samples: Vec<Vec<u8>> = (0..48).map(body).collect();
        let mut dictionary = samples.concat();
        dictionary.drain(..dictionary.len().saturating_sub(16 << 10));
        let mut with = zstd::bulk::Compressor::with_dictionary(6, &dictionary).unwrap();
        let (mut plain, mut better) = (0, 0);
        for quarter in 48..96 {
            plain += zstd::bulk::compress(&body(quarter), 6).unwrap().len();
            better += with.compress(&body(quarter)).unwrap().len();
        }
        println!(
            "a batch of {of_batch:>2} windows: {} bytes, {} with a dictionary of {} bytes",
            plain / 48,
            better / 48,
            dictionary.len()
        );
    }
}

fn window(station: &StationId, start: Timestamp, readings: &[Reading]) -> Window {
    let mut channels: Vec<Channel> = readings.iter().map(|reading| reading.channel).collect();
    channels.sort_unstable();
    channels.dedup();
    let aggregate = |channel: Channel| {
        let values: Vec<f64> = readings.iter().filter(|r| r.channel == channel).map(|r| r.value).collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let stddev = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt();
        let (min, max) = values.iter().fold((f64::MAX, f64::MIN), |(min, max), v| (min.min(*v), max.max(*v)));
        Aggregate {
            channel,
            accepted: Some(Stats { count: values.len() as u32, min, mean, max, stddev }),
            rejected: None,
        }
    };
    Window {
        station: station.clone(),
        start,
        length_s: 900,
        revision: 0,
        aggregates: channels.into_iter().map(aggregate).collect(),
    }
}

/// Answers everything with 200 and counts what comes and goes.
async fn serve(listener: TcpListener, bytes: Arc<AtomicU64>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let bytes = Arc::clone(&bytes);
        tokio::spawn(async move {
            let (mut buffer, mut part) = (Vec::new(), vec![0; 1 << 16]);
            while let Ok(read @ 1..) = stream.read(&mut part).await {
                bytes.fetch_add(read as u64, Ordering::SeqCst);
                buffer.extend_from_slice(&part[..read]);
                while let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                    let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
                    let length = head
                        .lines()
                        .find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
                    let whole = end + 4 + length.unwrap_or(0);
                    if buffer.len() < whole {
                        break;
                    }
                    buffer.drain(..whole);
                    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: 0123456789abcdef\r\ncontent-length: 16\r\ndate: Tue, 24 Nov 2026 16:00:00 GMT\r\n\r\n{\"sequence\":123}";
                    bytes.fetch_add(answer.len() as u64, Ordering::SeqCst);
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}
