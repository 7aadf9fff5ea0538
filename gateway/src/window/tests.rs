use proptest::prelude::*;

use super::*;

const MINUTE: i64 = 60_000;
/// 2015-06-01T00:00:00Z.
const EPOCH: i64 = 1_433_116_800_000;

fn shape() -> Shape {
    let tolerance = Tolerance { future_ms: 5 * MINUTE, lateness_ms: 120 * MINUTE, oldest_ms: 90 * 1440 * MINUTE };
    Shape { length_s: 900, context_ms: 60 * MINUTE, idle_ms: 60 * MINUTE, tolerance }
}

fn windows() -> Windows {
    Windows::new(shape(), Limits::of)
}

fn minute(minute: i64) -> Timestamp {
    Timestamp::from_millis(EPOCH + minute * MINUTE)
}

fn moisture(at: i64, value: f64) -> Reading {
    Reading { channel: Channel::at(Quantity::SoilMoisture, 20), time: minute(at), value }
}

fn rain(at: i64, value: f64) -> Reading {
    Reading { channel: Channel::of(Quantity::Rain), time: minute(at), value }
}

fn station() -> StationId {
    "n1".parse().unwrap()
}

fn origin(sequence: u64) -> Origin {
    Origin { boot: 1, sequence }
}

/// Sends readings one batch a quarter of an hour, closing after each, and gives what was emitted.
fn send(windows: &mut Windows, first: u64, readings: &[Reading]) -> Vec<Closed> {
    let mut closed = Vec::new();
    for (sequence, batch) in (first..).zip(readings.chunks(3)) {
        let now = batch.iter().map(|r| r.time).max().unwrap();
        windows.insert(&station(), origin(sequence), batch, now, sequence);
        closed.extend(windows.close());
    }
    closed
}

fn late_evening() -> Timestamp {
    minute(100_000)
}

#[test]
fn a_window_closes_when_the_filter_has_seen_three_readings_after_its_end() {
    let mut windows = windows();
    let readings: Vec<Reading> = (0..6).map(|i| moisture(i * 5, 0.2 + 0.001 * i as f64)).collect();
    for (sequence, reading) in (1..).zip(&readings[..5]) {
        windows.insert(&station(), origin(sequence), &[*reading], reading.time, sequence);
        assert!(windows.close().is_empty(), "after the reading of {}", reading.time);
    }
    windows.insert(&station(), origin(6), &[readings[5]], readings[5].time, 6);
    let closed = windows.close();
    assert_eq!(closed.len(), 1);
    let window = &closed[0].window;
    assert_eq!((window.start, window.length_s, window.revision), (minute(0), 900, 0));
    let stats = window.aggregates[0].accepted.unwrap();
    assert_eq!((stats.count, stats.min, stats.max), (3, 0.2, 0.202));
    assert!((stats.mean - 0.201).abs() < 1e-12 && (stats.stddev - 0.001 * (2.0f64 / 3.0).sqrt()).abs() < 1e-12);
    assert!(window.aggregates[0].rejected.is_none());
}

#[test]
fn an_idle_station_closes_and_goes_on_with_an_amendment() {
    let mut windows = windows();
    assert!(send(&mut windows, 1, &[moisture(0, 0.2), moisture(5, 0.2)]).is_empty());
    assert!(windows.close_idle(minute(64), 0).is_empty());
    assert!(windows.close_idle(minute(65), 120 * MINUTE).is_empty(), "a simulation's lag is no silence");
    let closed = windows.close_idle(minute(65), 0);
    assert_eq!((closed.len(), closed[0].window.revision), (1, 0));
    assert!(windows.close_idle(minute(70), 0).is_empty(), "once");

    // Back after a day, with what its buffer held.
    let rest: Vec<Reading> = (2..12).map(|i| moisture(i * 5, 0.2)).collect();
    windows.insert(&station(), origin(2), &rest, minute(1440), 2);
    let closed = windows.close();
    assert_eq!(
        closed.iter().map(|c| (c.window.start, c.window.revision)).collect::<Vec<_>>(),
        [(minute(0), 1), (minute(15), 0), (minute(30), 0)]
    );
    assert_eq!(closed[0].window.aggregates[0].accepted.unwrap().count, 3);
}

#[test]
fn late_reading_amends_its_window() {
    let mut windows = windows();
    let readings: Vec<Reading> = (0..24).map(|i| moisture(i * 5, 0.2)).filter(|r| r.time != minute(10)).collect();
    let closed = send(&mut windows, 1, &readings);
    assert_eq!(closed[0].window.aggregates[0].accepted.unwrap().count, 2);
    let amended = send(&mut windows, 100, &[moisture(10, 0.21)]);
    assert_eq!(amended.len(), 1);
    assert_eq!((amended[0].window.start, amended[0].window.revision), (minute(0), 1));
    assert_eq!(amended[0].window.aggregates[0].accepted.unwrap().count, 3);
    // Said again in the same batch it changes nothing; in another it is a duplicate.
    assert!(send(&mut windows, 100, &[moisture(10, 0.21)]).is_empty());
    let amended = send(&mut windows, 101, &[moisture(10, 0.3)]);
    assert_eq!(amended[0].newly_rejected, RejectCounts { duplicate: 1, ..RejectCounts::default() });
    assert_eq!(amended[0].window.aggregates[0].rejected.as_ref().unwrap().counts, [(RejectReason::Duplicate, 1)]);
}

#[test]
fn a_reading_later_than_is_waited_for_is_counted_and_changes_nothing() {
    let mut windows = windows();
    send(&mut windows, 1, &[moisture(0, 0.2), moisture(121, 0.2)]);
    let placed = windows.insert(&station(), origin(2), &[moisture(0, 0.3), moisture(1, 0.2)], minute(121), 2);
    assert_eq!(placed, Placed { windowed: 1, late: 1, future: 0 });
    let placed = windows.insert(&station(), origin(3), &[moisture(127, 0.2), moisture(130, 0.2)], minute(122), 3);
    assert_eq!(placed, Placed { windowed: 1, late: 0, future: 1 });
    assert_eq!(windows.watermark(&station()), Some(minute(127)), "the future does not move the watermark");
}

#[test]
fn impossible_values_spikes_and_leaps_are_rejected_with_their_reasons() {
    let mut values = [0.2; 60];
    values[7] = 0.9; // beyond any soil
    values[20] = 0.3; // a spike
    values[40] = 0.55; // there and back within ten minutes
    for value in &mut values[50..] {
        *value = 0.4; // rain
    }
    let readings: Vec<Reading> = (0..).zip(values).map(|(i, v)| moisture(i * 5, v)).collect();
    let mut windows = windows();
    let mut closed = send(&mut windows, 1, &readings);
    closed.extend(windows.close_idle(late_evening(), 0));
    let rejected: Vec<_> = closed
        .iter()
        .filter_map(|c| Some((c.window.start, c.window.aggregates[0].rejected.clone()?)))
        .map(|(start, r)| (start, r.counts[0], r.min))
        .collect();
    assert_eq!(
        rejected,
        [
            (minute(30), (RejectReason::Range, 1), 0.9),
            (minute(90), (RejectReason::Hampel, 1), 0.3),
            (minute(195), (RejectReason::Rate, 1), 0.55)
        ]
    );
    let newly: u32 = closed.iter().map(|c| c.newly_rejected.by_reason().iter().map(|(_, n)| n).sum::<u32>()).sum();
    assert_eq!(newly, 3);
}

#[test]
fn a_gap_longer_than_the_lateness_loses_no_window() {
    let mut windows = windows();
    let mut closed = send(&mut windows, 1, &[moisture(0, 0.2), moisture(5, 0.2), moisture(10, 0.2)]);
    closed.extend(send(&mut windows, 2, &[moisture(5000, 0.3), moisture(5005, 0.3), moisture(5010, 0.3)]));
    closed.extend(windows.close_idle(late_evening(), 0));
    assert_eq!(closed.iter().map(|c| c.window.start).collect::<Vec<_>>(), [minute(0), minute(4995), minute(5010)]);
}

#[test]
fn rain_is_kept_to_the_last_drop() {
    let mut windows = windows();
    let readings: Vec<Reading> = (0..30).map(|i| rain(i * 5, if i % 7 == 0 { 12.5 } else { 0.0 })).collect();
    let mut closed = send(&mut windows, 1, &readings);
    closed.extend(windows.close_idle(late_evening(), 0));
    assert!(closed.iter().all(|c| c.window.aggregates[0].rejected.is_none()));
}

/// What is left when all has been said: the last revision of each window.
type Final = BTreeMap<(StationId, Timestamp), (u32, Vec<Aggregate>)>;

fn record(closed: Vec<Closed>, last: &mut Final) {
    for Closed { window, .. } in closed {
        let key = (window.station.clone(), window.start);
        if let Some((revision, aggregates)) = last.get(&key) {
            assert_eq!(window.revision, revision + 1);
            assert_ne!(&window.aggregates, aggregates, "a revision that says nothing new");
        } else {
            assert_eq!(window.revision, 0);
        }
        last.insert(key, (window.revision, window.aggregates));
    }
}

fn contents(last: &Final) -> Vec<(&(StationId, Timestamp), &Vec<Aggregate>)> {
    last.iter().map(|(key, (_, aggregates))| (key, aggregates)).collect()
}

/// A batch: station, sequence, readings.
type Sent = (StationId, u64, Vec<Reading>);

fn readings() -> impl Strategy<Value = Vec<Reading>> {
    // Two channels, up to two hours, with spikes, impossible values and repeated times.
    let value = prop_oneof![6 => 0.18..0.24f64, 1 => 0.3..0.7f64, 1 => Just(0.95)];
    let reading = (any::<bool>(), 0..119i64, value).prop_map(|(deep, at, value)| {
        let level = if deep { 60 } else { 20 };
        Reading { channel: Channel::at(Quantity::SoilMoisture, level), time: minute(at), value }
    });
    proptest::collection::vec(reading, 1..120)
}

fn batches() -> impl Strategy<Value = Vec<Sent>> {
    let batch = (0..3u8, readings()).prop_map(|(n, r)| (format!("n{n}").parse::<StationId>().unwrap(), r));
    proptest::collection::vec(batch, 1..12)
        .prop_map(|all| (1..).zip(all).map(|(sequence, (station, readings))| (station, sequence, readings)).collect())
}

fn in_one_go(sent: &[Sent]) -> Final {
    let mut windows = windows();
    for (station, sequence, readings) in sent {
        windows.insert(station, origin(*sequence), readings, minute(120), *sequence);
    }
    let mut last = Final::new();
    record(windows.close(), &mut last);
    record(windows.close_idle(late_evening(), 0), &mut last);
    last
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Any order, any repetition, closing and idling at any moment: the same aggregates in the end.
    #[test]
    fn no_order_of_arrival_changes_the_aggregates(
        sent in batches(),
        order in proptest::collection::vec((any::<prop::sample::Index>(), 0..4u8), 1..40),
    ) {
        let mut windows = windows();
        let mut last = Final::new();
        let mut insert = |windows: &mut Windows, (station, sequence, readings): &Sent, then: u8| {
            let placed = windows.insert(station, origin(*sequence), readings, minute(120), *sequence);
            assert_eq!(placed.windowed as usize, readings.len());
            if then & 1 != 0 {
                record(windows.close(), &mut last);
            }
            if then & 2 != 0 {
                record(windows.close_idle(late_evening(), 0), &mut last);
            }
        };
        for (index, then) in &order {
            insert(&mut windows, index.get(&sent), *then);
        }
        for batch in sent.iter().rev() {
            insert(&mut windows, batch, 0);
        }
        record(windows.close(), &mut last);
        record(windows.close_idle(late_evening(), 0), &mut last);
        let expected = in_one_go(&sent);
        prop_assert_eq!(contents(&last), contents(&expected));
    }

    /// Each reading that was taken is counted once.
    #[test]
    fn every_reading_is_in_one_count(sent in batches()) {
        let windows = in_one_go(&sent);
        let counted: u32 = windows
            .values()
            .flat_map(|(_, aggregates)| aggregates)
            .map(|a| a.accepted.map_or(0, |s| s.count) + a.rejected.as_ref().map_or(0, Rejected::total))
            .sum();
        prop_assert_eq!(counted as usize, sent.iter().map(|(_, _, readings)| readings.len()).sum::<usize>());
    }

    /// Killed after any commit and built again from the commits it says it needs: the same aggregates, and no revision twice.
    #[test]
    fn a_rebuilt_gateway_emits_the_same(
        values in proptest::collection::vec(prop_oneof![5 => 0.18..0.24f64, 1 => 0.3..0.7f64], 40..160),
        late in proptest::collection::vec((any::<prop::sample::Index>(), 1..24usize), 0..12),
        kills in proptest::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        // A reading each five minutes, three to a batch; some batches come some batches later than they should.
        let readings: Vec<Reading> = (0..).zip(&values).map(|(i, v)| moisture(i * 5, *v)).collect();
        let mut sent: Vec<(u64, Vec<Reading>)> = (1..).zip(readings.chunks(3).map(<[Reading]>::to_vec)).collect();
        for (index, by) in late {
            let from = index.index(sent.len());
            let batch = sent.remove(from);
            sent.insert((from + by).min(sent.len()), batch);
        }
        let run = |kills: &[usize]| {
            let (mut last, mut late) = (Final::new(), 0);
            let mut alive = windows();
            let (mut reached, mut emitted) = (None, BTreeMap::new());
            for (at, (sequence, batch)) in sent.iter().enumerate() {
                if kills.contains(&at) {
                    let needed = alive.oldest_commit();
                    alive = windows();
                    alive.restore(&station(), Rhythm::default(), reached, emitted.clone());
                    for (commit, (sequence, batch)) in sent.iter().enumerate().take(at) {
                        if needed.is_some_and(|n| commit as u64 >= n) {
                            alive.insert(&station(), origin(*sequence), batch, minute(5 * 160), commit as u64);
                        }
                    }
                    alive.resume(minute(5 * 160));
                    let again = alive.close();
                    assert!(again.is_empty(), "emitted again: {again:?}");
                }
                late += alive.insert(&station(), origin(*sequence), batch, minute(5 * 160), at as u64).late;
                let closed = alive.close();
                for c in &closed {
                    emitted.insert(c.window.start, c.emitted);
                }
                reached = alive.watermark(&station());
                emitted.retain(|start, _| !shape().is_final(*start, reached.unwrap()));
                record(closed, &mut last);
            }
            record(alive.close_idle(late_evening(), 0), &mut last);
            (last, late)
        };
        let kills: Vec<usize> = kills.iter().map(|k| k.index(sent.len())).collect();
        prop_assert_eq!(run(&kills), run(&[]));
    }
}

#[test]
fn a_good_reading_between_two_spikes_is_accepted() {
    let air =
        |at: i64, value: f64| Reading { channel: Channel::at(Quantity::AirTemperature, 200), time: minute(at), value };
    let spikes = [13, 15, 17, 30, 32];
    let readings: Vec<Reading> =
        (0..60).map(|i| air(i * 5, 15.0 + 0.05 * i as f64 + if spikes.contains(&i) { 25.0 } else { 0.0 })).collect();
    let mut windows = windows();
    let mut closed = send(&mut windows, 1, &readings);
    closed.extend(windows.close_idle(late_evening(), 0));
    let mut last = BTreeMap::new();
    for closed in closed {
        last.insert(closed.window.start, closed.window.aggregates[0].clone());
    }
    let accepted: u32 = last.values().filter_map(|a| a.accepted).map(|s| s.count).sum();
    assert_eq!(accepted, 55);
    let rejected: Vec<_> = last.values().filter_map(|a| a.rejected.as_ref()).collect();
    assert!(rejected.iter().all(|r| r.min > 40.0), "only the spikes: {rejected:?}");
    assert_eq!(rejected.iter().map(|r| r.total()).sum::<u32>(), 5);
}
