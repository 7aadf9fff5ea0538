//! The analysis killed at any message, and never: the same windows, alerts and decisions, to the last bit.

use std::path::Path;

use proptest::prelude::*;
use proto::decision::Cause;
use proto::{Batch, Channel, Lane, Quantity};
use tempfile::TempDir;

use super::*;
use crate::door::{Delivery, DeliveryKind, Outbox, Ticket};
use crate::model::LoadedModel;
use crate::spool::Spool;
use crate::store::{DELETE_AT_ONCE, Group, RawMessage, kind_code};

#[path = "../../tests/support/onnx.rs"]
mod onnx;

const QUARTER: i64 = 900_000;
const STATIONS: usize = 5;

/// Two fields of the same stations: one is irrigated, again and again, and one is asked for advice while all probes are good.
const FIELDS: &str = "
[[field]]
name = \"dry\"
stations = [\"n0\", \"n1\", \"n2\", \"n3\", \"n4\"]
root_depth_m = 0.3
depletion_fraction = 0.5
field_capacity = 0.3
wilting_point = 0.05
interval_h = 3.0
valves = [\"n0\"]
auto = true
irrigation = { kind = \"drip\", application_mm_per_h = 6.0, max_minutes = 900 }
[[field]]
name = \"moist\"
stations = [\"n0\", \"n1\", \"n2\", \"n3\"]
root_depth_m = 0.3
depletion_fraction = 0.5
field_capacity = 0.15
wilting_point = 0.05
min_probes = 8
irrigation = { kind = \"drip\", application_mm_per_h = 6.0, max_minutes = 900 }
";

/// A quarter of an hour.
fn quarter(number: i64) -> Timestamp {
    Timestamp::from_millis(1_780_300_800_000 + number * QUARTER)
}

fn config(dir: &Path) -> Config {
    config_with(dir, "")
}

fn config_with(dir: &Path, more: &str) -> Config {
    let text = format!(
        "farm = \"f\"\ngateway = \"g\"\ndata_dir = {:?}\n[door]\nlisten = \"127.0.0.1:0\"\n\
         [rules]\nanomaly_open_after = 3\nanomaly_close_after = 4\nspike_close_after = 5\n{more}",
        dir.display().to_string()
    );
    toml::from_str(&text).unwrap()
}

/// A model in which soil above 0.32 m³/m³ is one to look at.
fn model() -> Model {
    let scale = 1.0 / 0.32;
    let bytes = onnx::Onnx::mean(scale as f32).bytes();
    let golden = onnx::MEAN.map(|mean| mean * scale);
    let manifest = onnx::manifest("1.0.0", &bytes, &golden).to_toml().unwrap();
    LoadedModel::verify(&bytes, &manifest, quarter(0)).unwrap().into()
}

/// What `station` reports of the quarter `number`: three readings of two depths, and what is wrong with them.
fn batch(station: usize, number: i64) -> Batch {
    let mut readings = Vec::new();
    // The clock of one leaps twice after a silence; before it, it was of two days ago.
    let minutes_off = match (station, number) {
        (4, 0) => -3000,
        (4, 20..=22) => -40,
        (4, 23..=24) => -100,
        _ => 0,
    };
    for i in 0..3 {
        let time = quarter(number).plus_millis(i * 300_000 + 1_000 * station as i64 + minutes_off * 60_000);
        let n = number * 3 + i;
        for (depth, level) in [(10, 0.12), (20, 0.14)] {
            let wiggle = 0.002 * ((n * (station as i64 + 2) + depth) % 7) as f64;
            let mut value = level + wiggle;
            match (station, number) {
                (0, 120..140) if depth == 10 => value = 0.12,
                (1, 100..) if number % 23 == 0 && i == 1 => value += 0.15,
                (2, 110..130) => value += 0.012 * (number - 110) as f64,
                (3, 125..135) if depth == 20 => continue,
                // The weather: everywhere at once.
                (_, 150..156) => value += 0.2,
                _ => {}
            }
            readings.push(proto::Reading {
                channel: Channel::at(Quantity::SoilMoisture, depth as u16),
                time,
                value: Quantity::SoilMoisture.quantise(value),
            });
        }
    }
    Batch { boot: 1, sequence: number as u64 + 1, readings }
}

/// Messages in the order in which they come, by commit. Some are late, one station is away for hours, and groups are
/// of any size.
fn commits() -> Vec<Vec<(usize, i64)>> {
    let mut sent: Vec<(i64, usize, i64)> = Vec::new();
    for number in 0..190 {
        for station in 0..STATIONS {
            let late = match (station, number) {
                (4, 1..20) => continue,
                (1, _) if number % 11 == 0 => 3,
                (4, 130..150) => 150 - number,
                _ => 0,
            };
            sent.push((number + late, station, number));
        }
    }
    sent.sort();
    let mut commits = Vec::new();
    let mut rest = sent.as_slice();
    while !rest.is_empty() {
        let (group, others) = rest.split_at(rest.len().min(1 + commits.len() * 7 % 12));
        commits.push(group.iter().map(|(_, station, number)| (*station, *number)).collect());
        rest = others;
    }
    commits
}

fn fill(dir: &Path) -> u64 {
    let mut store = Store::open(dir).unwrap();
    let mut newest = 0;
    for messages in commits() {
        newest += 1;
        let at = quarter(messages.iter().map(|(_, number)| number + 1).max().unwrap());
        let message = |(station, number): &(usize, i64)| RawMessage {
            station: format!("n{station}"),
            kind: kind_code(DeliveryKind::Data),
            at_ms: at.as_millis(),
            payload: batch(*station, *number).encode().unwrap().into(),
            ..RawMessage::default()
        };
        let group = Group { messages: messages.iter().map(message).collect(), ..Group::default() };
        store.commit(&group, newest, at).unwrap();
    }
    newest
}

/// A commit as the intake hands it over.
fn hand_over(dir: &Path, commit: u64) -> Stored {
    let before = crate::store::Cursor::after(commit - 1);
    let (commit, messages) = Store::open(dir).unwrap().commit_after(before).unwrap().unwrap();
    let items = messages.iter().map(|message| super::replay::item(message).unwrap().0).collect();
    Stored { commit, at: Timestamp::from_millis(messages[0].at_ms), items }
}

/// Lets the analysis go through all commits, killed at each of these; gives what it spooled, by lane, in order.
fn run(kills: &[(u64, usize)]) -> BTreeMap<i64, Vec<Vec<u8>>> {
    let dir = TempDir::new().unwrap();
    let newest = fill(dir.path());
    let now = quarter(200);
    let open = || super::open(&config_with(dir.path(), FIELDS), vec![(model(), None)], now).unwrap().1;
    // As a gateway begins: at the end of what was stored, and with the next commit as it comes from the intake.
    let begin = |stored: u64, chunk: usize| {
        let mut analysis = open();
        analysis.emit_at_once = chunk;
        analysis.shared.newest.store(stored, Ordering::Release);
        analysis.catch_up().unwrap();
        if stored < newest {
            analysis.shared.newest.store(stored + 1, Ordering::Release);
            analysis.take(hand_over(dir.path(), stored + 1)).unwrap();
        }
        analysis
    };
    let mut stored = 0;
    for (commit, chunk) in kills {
        let mut analysis = begin(stored, *chunk);
        stored = (*commit).clamp((stored + 1).min(newest), newest);
        analysis.shared.newest.store(stored, Ordering::Release);
        analysis.catch_up().unwrap();
        // Dropped with all that is not on disk, like a process that is killed.
    }
    let mut analysis = begin(stored, usize::MAX);
    analysis.shared.newest.store(newest, Ordering::Release);
    analysis.catch_up().unwrap();
    analysis.emit();
    analysis.write().unwrap();
    let store = rusqlite::Connection::open(dir.path().join("gateway.sqlite")).unwrap();
    let mut statement = store.prepare("SELECT lane, body FROM spool ORDER BY id").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let mut lanes: BTreeMap<i64, Vec<Vec<u8>>> = BTreeMap::new();
    for row in rows {
        let (lane, body) = row.unwrap();
        lanes.entry(lane).or_default().push(body);
    }
    lanes
}

#[test]
fn killed_at_many_commits_the_analysis_says_what_it_says_without_a_kill() {
    let never = run(&[]);
    let alerts: Vec<proto::Alert> = never[&(Lane::Alerts as i64)]
        .iter()
        .map(|body| match proto::Record::decode(body).unwrap() {
            proto::Record::Alert(alert) => alert,
            other => panic!("{other:?}"),
        })
        .collect();
    for kind in [proto::AlertKind::Stuck, proto::AlertKind::Spike, proto::AlertKind::Dropout, proto::AlertKind::Anomaly]
    {
        let of_kind = || alerts.iter().filter(move |alert| alert.kind == kind);
        assert!(of_kind().any(|alert| alert.closed.is_none()), "no {kind:?} opens");
        assert!(of_kind().any(|alert| alert.closed.is_some()), "no {kind:?} closes");
    }
    let decided: Vec<proto::Decision> = never[&(Lane::Decisions as i64)]
        .iter()
        .map(|body| match proto::Record::decode(body).unwrap() {
            proto::Record::Decision(decision) => decision,
            other => panic!("{other:?}"),
        })
        .collect();
    let irrigations = decided.iter().filter(|decision| decision.cause == Cause::Due).count();
    let causes: std::collections::BTreeSet<_> = decided.iter().map(|decision| decision.cause as u32).collect();
    assert!(irrigations > 1 && causes.len() > 2, "too little is decided to compare: {decided:#?}");
    let kills: Vec<(u64, usize)> = (1..60).map(|n| (n * 3, [1, 2, 500][n as usize % 3])).collect();
    let killed = run(&kills);
    for lane in [Lane::Alerts, Lane::Decisions, Lane::Aggregates] {
        let (killed, never) = (&killed[&(lane as i64)], &never[&(lane as i64)]);
        let differs = killed.iter().zip(never).position(|(one, other)| one != other);
        assert_eq!((killed.len(), differs), (never.len(), None), "{}", lane.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// Whatever the moments of the kills, and whatever was on disk by then.
    #[test]
    fn no_kill_changes_what_is_said(
        mut kills in proptest::collection::vec((1..180u64, prop_oneof![Just(1usize), Just(3), Just(500)]), 0..12),
    ) {
        kills.sort_unstable();
        prop_assert!(run(&kills) == run(&[]));
    }
}

/// Every message that the raw store holds.
fn stored(dir: &Path) -> Vec<(String, bytes::Bytes)> {
    let mut store = Store::open(dir).unwrap();
    let mut all = Vec::new();
    let mut cursor = crate::store::Cursor::after(0);
    while let Some((commit, messages)) = store.commit_after(cursor).unwrap() {
        all.extend(messages.into_iter().map(|message| (message.station, message.payload)));
        cursor = crate::store::Cursor::after(commit);
    }
    all
}

#[test]
fn wherever_a_byte_flips_the_gateway_starts_and_says_what_that_cost() {
    let dir = TempDir::new().unwrap();
    fill(dir.path());
    let now = quarter(200);
    let open = |dir: &Path| super::open(&config(dir), vec![(model(), None)], now);
    let mut analysis = open(dir.path()).unwrap().1;
    analysis.catch_up().unwrap();
    analysis.emit();
    analysis.write().unwrap();
    drop(analysis);
    // Without a write-ahead log, so that every byte is in the one file.
    let store = rusqlite::Connection::open(dir.path().join(crate::store::FILE)).unwrap();
    let _: i64 = store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    drop(store);
    let good = std::fs::read(dir.path().join(crate::store::FILE)).unwrap();
    let whole = stored(dir.path());
    assert!(whole.len() > 900);

    let (mut lost, mut pages) = (0, std::collections::BTreeSet::new());
    for n in 0..60usize {
        // Single bits, bytes, and pages that were never written.
        // All over the file, however large it is.
        let at = (n * good.len() / 60 + n * n * 131 % 4096) % good.len();
        let mut bad = good.clone();
        match n % 3 {
            0 => bad[at] ^= 1 << (n % 8),
            1 => bad[at..(at + 3).min(good.len())].fill(0xa5),
            _ => {
                let page = at / 4096 * 4096;
                bad[page..page + 4096].fill(0);
            }
        }
        pages.insert(at / 4096);
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join(crate::store::FILE), &bad).unwrap();
        let (intake, mut analysis, _) = open(dir.path()).unwrap_or_else(|error| panic!("byte {at}: {error}"));
        analysis.catch_up().unwrap();
        let mut from = 0;
        loop {
            from = analysis.scrub(from).unwrap_or_else(|error| panic!("byte {at}: {error}"));
            if from == 0 {
                break;
            }
        }
        drop(analysis);
        let reported = intake.shared.counters().keys().any(|name| name.starts_with("refused.damaged"));
        drop(intake);
        let left = stored(dir.path());
        if left != whole {
            assert!(reported, "byte {at}: {} of {} messages are left, and nobody says so", left.len(), whole.len());
            lost += 1;
        }
    }
    assert!(lost > 3 && pages.len() > 40, "the flips hit nothing: {lost}, on {} pages", pages.len());
}

/// A way to stations of which none is there.
async fn outbox() -> Outbox {
    Outbox {
        farm: Arc::new("f".parse().unwrap()),
        clients: Arc::default(),
        announced: Arc::default(),
        broker: crate::broker::Broker::start(crate::broker::BrokerConfig::default()).await.unwrap(),
        metrics: Arc::default(),
        external: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_thinks_may_hang_and_everything_is_acknowledged_and_nothing_is_said_otherwise() {
    let said = |dir: &Path| {
        let store = rusqlite::Connection::open(dir.join(crate::store::FILE)).unwrap();
        let mut statement = store.prepare("SELECT lane, body FROM spool ORDER BY lane, id").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<Vec<(i64, Vec<u8>)>, _>>().unwrap()
    };
    let outbox = outbox().await;
    let mut results = Vec::new();
    for hangs in [false, true] {
        let dir = TempDir::new().unwrap();
        let now = quarter(200);
        let (intake, analysis, _snapshot) = super::open(&config(dir.path()), vec![(model(), None)], now).unwrap();
        let shared = Arc::clone(&intake.shared);
        let (sender, queue) = crate::door::queue(QUEUE, QUEUE_BYTES);
        let runtime = tokio::runtime::Handle::current();
        let to_stations = outbox.clone();
        let intake = tokio::task::spawn_blocking(move || intake.run(queue, &to_stations, &runtime));
        let running = |analysis: Analysis| {
            let outbox = outbox.clone();
            tokio::task::spawn_blocking(move || analysis.run(outbox, None, None))
        };
        // Hanging means that it takes nothing up: it begins when all is stored.
        let (mut waiting, mut thinking) = (Some(analysis), None);
        if !hangs {
            thinking = waiting.take().map(&running);
        }
        for number in 100..170 {
            for station in 0..STATIONS {
                let delivery = Delivery {
                    station: Arc::new(format!("n{station}").parse().unwrap()),
                    kind: DeliveryKind::Data,
                    topic: None,
                    payload: batch(station, number).encode().unwrap().into(),
                    packet: 1,
                    duplicate: false,
                    ticket: Ticket::detached(),
                };
                assert!(sender.send(delivery).await);
            }
            // Each quarter is a group of its own: many more of them than lie between the two threads.
            let wanted = number - 99;
            let begun = std::time::Instant::now();
            while shared.newest() < wanted as u64 {
                assert!(begun.elapsed() < Duration::from_secs(60), "nothing is stored any more");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        drop(sender);
        intake.await.unwrap().unwrap();
        thinking = thinking.or_else(|| waiting.take().map(&running));
        thinking.unwrap().await.unwrap().unwrap();
        results.push(said(dir.path()));
    }
    assert!(results[0].len() > 5 * 60);
    assert_eq!(results[0], results[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_piles_up_while_the_disk_is_slow_is_stored_in_commits_of_a_bounded_size() {
    const BYTES: usize = 1 << 20;
    let dir = TempDir::new().unwrap();
    let (intake, analysis, _) = super::open(&config(dir.path()), Vec::new(), quarter(200)).unwrap();
    drop(analysis);
    let (sender, queue) = crate::door::queue(QUEUE, QUEUE_BYTES);
    let plain = |n: usize| {
        let mut payload = format!("{{\"time\": \"{}\", \"air_temperature\": 7.5}}", quarter(n as i64)).into_bytes();
        payload.resize(BYTES, b' ');
        Delivery {
            station: Arc::new("n1".parse().unwrap()),
            kind: DeliveryKind::Data,
            topic: None,
            payload: payload.into(),
            packet: 0,
            duplicate: false,
            ticket: Ticket::detached(),
        }
    };
    // Without QoS, so that no station is held up by what it has not been told.
    let fits = (0..).take_while(|n| sender.try_send(plain(*n)).is_ok()).count();
    assert_eq!(fits, QUEUE_BYTES as usize / BYTES);
    let (outbox, runtime) = (outbox().await, tokio::runtime::Handle::current());
    let intake = tokio::task::spawn_blocking(move || intake.run(queue, &outbox, &runtime));
    for n in fits..fits + 20 {
        assert!(sender.send(plain(n)).await);
    }
    drop(sender);
    intake.await.unwrap().unwrap();

    let mut store = Store::open(dir.path()).unwrap();
    let (mut cursor, mut all) = (crate::store::Cursor::after(0), 0);
    while let Some((commit, messages)) = store.commit_after(cursor).unwrap() {
        let bytes: usize = messages.iter().map(|message| message.payload.len()).sum();
        assert!(bytes < intake::GROUP_BYTES + BYTES, "commit {commit} holds {bytes} bytes");
        all += messages.len();
        cursor = crate::store::Cursor::after(commit);
    }
    assert_eq!(all, fits + 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_at_which_a_decoder_panics_is_kept_aside_and_acknowledged_and_the_next_is_taken() {
    let dir = TempDir::new().unwrap();
    let (mut intake, _analysis, _) = super::open(&config(dir.path()), Vec::new(), quarter(200)).unwrap();
    intake.sources = crate::decode::source::tests::that_panics();
    let mailbox = Arc::new(crate::door::Mailbox::default());
    let mut deliveries: Vec<Delivery> = [b"before", &b"panic"[..], b"after"]
        .into_iter()
        .zip(1..)
        .map(|(payload, packet)| Delivery {
            station: Arc::new("edge".parse().unwrap()),
            kind: DeliveryKind::Foreign,
            topic: Some("spBv1.0/G/NDATA/e1".into()),
            payload: payload.into(),
            packet,
            duplicate: false,
            ticket: Ticket::withheld(Arc::clone(&mailbox), packet),
        })
        .collect();
    let taken = intake.take_in(&mut deliveries);
    assert!(intake.keep(taken, &outbox().await, || false).unwrap());
    let contents = mailbox.take(true);
    assert_eq!((contents.acknowledged, contents.abandoned), (3, false));
    assert_eq!(intake.shared.counters()["refused.panicked_sparkplug"], 1);
    let payloads: Vec<_> = stored(dir.path()).into_iter().filter(|(name, _)| name == "edge").map(|(_, p)| p).collect();
    assert_eq!(payloads, ["before", "after"]);
    let store = rusqlite::Connection::open(dir.path().join(crate::store::FILE)).unwrap();
    let aside = "SELECT source, reason, body FROM quarantine";
    let aside = store.query_row(aside, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    let (source, reason, body): (String, String, Vec<u8>) = aside.unwrap();
    assert_eq!((&*source, &*body), ("source gh", &b"panic"[..]));
    assert!(reason.starts_with("topic \"spBv1.0/G/NDATA/e1\": its decoder panicked: assertion"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_stations_are_stored_survives_a_group_that_holds_no_message() {
    let outbox = outbox().await;
    let dir = TempDir::new().unwrap();
    let now = quarter(200);
    let (mut intake, analysis, _) = super::open(&config(dir.path()), Vec::new(), now).unwrap();
    let mut group = |commit: u64, station: &str, payload: Vec<u8>| {
        // As if so many commits lay between.
        intake.shared.newest.store(commit - 1, Ordering::Release);
        let delivery = Delivery {
            station: Arc::new(station.parse().unwrap()),
            kind: DeliveryKind::Data,
            topic: None,
            payload: payload.into(),
            packet: 1,
            duplicate: false,
            ticket: Ticket::detached(),
        };
        let taken = intake.take_in(&mut vec![delivery]);
        assert!(intake.keep(taken, &outbox, || false).unwrap());
    };
    group(1, "n1", batch(1, 100).encode().unwrap());
    group(10, "n2", batch(2, 100).encode().unwrap());
    // When the first is due, nothing comes that can be read; then the second is due.
    group(1_205, "n3", b"nonsense".to_vec());
    group(1_220, "n3", batch(3, 100).encode().unwrap());
    drop((intake, analysis));
    // All that the table knows may go.
    let store = rusqlite::Connection::open(dir.path().join(crate::store::FILE)).unwrap();
    store.execute("DELETE FROM raw WHERE id < (SELECT value FROM meta WHERE key = 'progress_from')", []).unwrap();
    drop(store);
    let progress = Store::open(dir.path()).unwrap().progress().unwrap();
    for station in ["n1", "n2", "n3"] {
        assert_eq!(progress.highest(&station.parse().unwrap(), 1), Some(101), "{station}");
    }
}

/// A report that comes now, of a station whose clock is ahead of the gateway's by so much, ms.
fn report(station: &str, ahead_ms: i64) -> Delivery {
    let time = crate::wall_clock().plus_millis(ahead_ms);
    let reading = Reading { channel: Channel::at(Quantity::SoilMoisture, 20), time, value: 0.2 };
    Delivery {
        station: Arc::new(station.parse().unwrap()),
        kind: DeliveryKind::Data,
        topic: None,
        payload: Batch { boot: 1, sequence: 1, readings: vec![reading] }.encode().unwrap().into(),
        packet: 1,
        duplicate: false,
        ticket: Ticket::detached(),
    }
}

/// Commits a message as if it had come at `at`.
fn commit_at(dir: &Path, id: u64, at: Timestamp) {
    let message = RawMessage { station: "n1".to_owned(), at_ms: at.as_millis(), ..RawMessage::default() };
    let group = Group { messages: vec![message], ..Group::default() };
    Store::open(dir).unwrap().commit(&group, id, at).unwrap();
}

#[test]
fn a_gateway_whose_clock_was_set_back_goes_by_its_stations() {
    const OFF_MS: i64 = 2 * 3_600_000;
    let dir = TempDir::new().unwrap();
    commit_at(dir.path(), 1, crate::wall_clock().plus_millis(OFF_MS));
    let (mut intake, ..) = super::open(&config(dir.path()), Vec::new(), crate::wall_clock()).unwrap();
    assert_eq!(intake.shared.clock.doubt(), Some(Doubt::SetBack));
    // Already the first report, with which it knows, is not of the future.
    let mut reports = vec![report("n2", OFF_MS + 60_000)];
    intake.look_at_the_clock(&reports);
    let taken = intake.take_in(&mut reports);
    assert!((OFF_MS + 50_000..OFF_MS + 61_000).contains(&taken.at.millis_since(crate::wall_clock())), "{}", taken.at);
    assert_eq!(intake.shared.clock.doubt(), None);
}

#[test]
fn by_a_clock_in_doubt_nothing_is_old() {
    let dir = TempDir::new().unwrap();
    for (id, days) in [(1, 400), (2, 399), (3, 398)] {
        commit_at(dir.path(), id, crate::wall_clock().plus_millis(-days * 86_400_000));
    }
    let (mut intake, ..) = super::open(&config(dir.path()), Vec::new(), crate::wall_clock()).unwrap();
    intake.shared.needed.store(4, Ordering::Release);
    assert_eq!(intake.shared.clock.doubt(), Some(Doubt::FarAhead));
    intake.trim();
    assert_eq!(stored(dir.path()).len(), 3);
    let mut reports = vec![report("n2", -1_000)];
    intake.look_at_the_clock(&reports);
    intake.take_in(&mut reports);
    assert_eq!(intake.shared.clock.doubt(), None);
    intake.trim();
    assert_eq!(stored(dir.path()).len(), 0);
}

#[test]
fn old_readings_go_where_too_little_comes_to_write_down_how_far_stations_are_stored() {
    let dir = TempDir::new().unwrap();
    for (sequence, days) in [(1, 20), (2, 19), (3, 0)] {
        let at = crate::wall_clock().plus_millis(-days * 86_400_000);
        let payload = Batch { boot: 1, sequence, readings: vec![] }.encode().unwrap();
        let message = super::intake::raw(&"n1".parse().unwrap(), DeliveryKind::Data, at, payload.into(), 1);
        let group = Group { messages: vec![message], ..Group::default() };
        Store::open(dir.path()).unwrap().commit(&group, sequence, at).unwrap();
    }
    let mut config = config(dir.path());
    config.retention.raw_days = 7;
    let (mut intake, ..) = super::open(&config, Vec::new(), crate::wall_clock()).unwrap();
    intake.shared.needed.store(4, Ordering::Release);
    intake.trim();
    assert_eq!(stored(dir.path()).len(), 1);
    drop(intake);
    assert_eq!(Store::open(dir.path()).unwrap().progress().unwrap().highest(&"n1".parse().unwrap(), 1), Some(3));
}

/// The bytes of the store's file, and the rows of each of its tables.
fn sizes(dir: &Path) -> BTreeMap<String, u64> {
    let store = rusqlite::Connection::open(dir.join(crate::store::FILE)).unwrap();
    let _: i64 = store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    let mut tables = store.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    let names: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    let rows = |name: &String| {
        let count = format!("SELECT count(*) FROM {name}");
        store.query_row(&count, [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned()
    };
    let mut sizes: BTreeMap<String, u64> = names.iter().map(|name| (name.clone(), rows(name))).collect();
    sizes.insert("the file".to_owned(), std::fs::metadata(dir.join(crate::store::FILE)).unwrap().len());
    sizes
}

#[test]
fn in_a_month_without_a_cloud_nothing_grows_after_the_first_week() {
    const HOURS: i64 = 7 * 24;
    /// Reached on the third day.
    const SPOOL: u64 = 100_000;
    /// Reached in the first week: of it 16 MiB are kept.
    const ASIDE: usize = 105_000;
    let dir = TempDir::new().unwrap();
    let (intake, mut analysis, _) = super::open(&config(dir.path()), Vec::new(), quarter(0)).unwrap();
    let shared = Arc::clone(&intake.shared);
    drop(intake);
    let (mut store, mut spool) = (Store::open(dir.path()).unwrap(), Spool::open(dir.path()).unwrap());
    let mut progress = store.progress().unwrap();
    let mut weeks = Vec::new();
    for hour in 1..=4 * HOURS {
        let at = quarter(4 * hour);
        let mut group = Group::default();
        // Each station starts anew once a day, and says each hour what cannot be read.
        let boot = 1 + (hour / 24) as u32;
        for station in ["n0", "n1", "n2"] {
            let id: StationId = station.parse().unwrap();
            for number in 4 * hour - 4..4 * hour {
                let reading = |i: i64| proto::Reading {
                    channel: Channel::at(Quantity::SoilMoisture, 20),
                    time: quarter(number).plus_millis(i * 300_000),
                    value: Quantity::SoilMoisture.quantise(0.2 + 0.002 * ((3 * number + i) % 7) as f64),
                };
                let batch = Batch { boot, sequence: number as u64 + 1, readings: (0..3).map(reading).collect() };
                progress.take(&id, &batch, hour as u64, hour as u64);
                group.messages.push(RawMessage {
                    station: station.to_owned(),
                    kind: kind_code(DeliveryKind::Data),
                    at_ms: at.as_millis(),
                    payload: batch.encode().unwrap().into(),
                    ..RawMessage::default()
                });
            }
            group.births.insert(id.clone(), (at, b"a birth".to_vec()));
            group.stations.insert(id, at);
        }
        // As if it had waited for long.
        group.progress = progress.due(hour as u64 + 10_000);
        group.quarantined.push(("station n0".to_owned(), "nonsense".to_owned(), vec![7; ASIDE]));
        store.commit(&group, hour as u64, at).unwrap();
        shared.newest.store(hour as u64, Ordering::Release);
        analysis.catch_up().unwrap();
        analysis.emit();
        analysis.write().unwrap();
        let needed = shared.needed.load(Ordering::Acquire);
        let before = at.plus_secs(-3 * 86_400);
        while store.trim(before, u64::MAX, Some(needed)).unwrap().0 >= u64::from(DELETE_AT_ONCE) {}
        spool.trim(SPOOL).unwrap();
        if hour % HOURS == 0 {
            weeks.push(sizes(dir.path()));
        }
    }
    let (first, last) = (&weeks[0], &weeks[3]);
    assert!(first["raw"] > 70 && first["spool"] > 100 && first["quarantine"] > 150, "too few to compare: {first:?}");
    for (what, size) in last {
        assert!(*size <= first[what] * 6 / 5, "{what} grows: {weeks:#?}");
    }
}
