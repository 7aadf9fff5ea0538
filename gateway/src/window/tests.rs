use proptest::prelude::*;

use proto::{RejectReason, Rejected};

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
    assert_eq!(placed, Placed { windowed: 1, late: 1, ..Placed::default() });
    let placed = windows.insert(&station(), origin(3), &[moisture(127, 0.2), moisture(130, 0.2)], minute(122), 3);
    let wrong = Some(WrongTime { time: minute(130), from: minute(122 - 90 * 1440), until: minute(127) });
    assert_eq!(placed, Placed { windowed: 1, future: 1, wrong, ..Placed::default() });
    assert_eq!(windows.watermark(&station()), Some(minute(122)), "the watermark is never ahead of the gateway's clock");
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
            let (mut reached, mut emitted, mut belief) = (None, BTreeMap::new(), None::<Vec<u8>>);
            for (at, (sequence, batch)) in sent.iter().enumerate() {
                if kills.contains(&at) {
                    let needed = alive.oldest_commit();
                    alive = windows();
                    alive.restore(&station(), Rhythm::default(), reached, emitted.clone());
                    if let Some(body) = &belief {
                        alive.restore_belief(&station(), body).unwrap();
                    }
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
                (reached, belief) = (alive.watermark(&station()), alive.belief(&station()));
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

/// What each window holds in the end: accepted and rejected readings, by reason.
fn counts(closed: Vec<Closed>) -> BTreeMap<Timestamp, (u32, Vec<(RejectReason, u32)>)> {
    let mut last = BTreeMap::new();
    for Closed { window, .. } in closed {
        let aggregate = &window.aggregates[0];
        let rejected = aggregate.rejected.as_ref().map_or_else(Vec::new, |r| r.counts.clone());
        last.insert(window.start, (aggregate.accepted.map_or(0, |s| s.count), rejected));
    }
    last
}

fn with_stuck(hours: i64) -> Windows {
    let stuck = Some(crate::validate::Stuck { after_ms: hours * 60 * MINUTE });
    Windows::new(shape(), |quantity| Limits { stuck, ..Limits::of(quantity) })
}

#[test]
fn a_value_that_stands_still_is_rejected_once_it_has_for_too_long() {
    // Twelve hours of a living signal, ten of a dead one, two of a living one.
    let value = |i: i64| if (144..264).contains(&i) { 0.2 } else { 0.2 + 0.0001 * (1 + i % 7) as f64 };
    let readings: Vec<Reading> = (0..288).map(|i| moisture(i * 5, value(i))).collect();
    let mut windows = with_stuck(6);
    let mut closed = send(&mut windows, 1, &readings);
    closed.extend(windows.close_idle(late_evening(), 0));
    let newly: u32 = closed.iter().map(|c| c.newly_rejected.stuck).sum();
    let in_order = counts(closed);
    let rejected: Vec<_> = in_order.iter().filter(|(_, (_, rejected))| !rejected.is_empty()).collect();
    // The first dead reading is of minute 720, and six hours later it is enough.
    assert_eq!(*rejected[0].0, minute(720 + 360));
    assert_eq!(*rejected.last().unwrap().0, minute(264 * 5 - 15));
    assert!(rejected.iter().all(|(_, (accepted, r))| *accepted == 0 && *r == [(RejectReason::Stuck, 3)]));
    assert_eq!((rejected.len(), newly), (16, 48));

    // In any order the same, although each verdict looks back for hours: the earliest of the day comes last.
    let mut windows = with_stuck(6);
    let (mut closed, mut batches) = (Vec::new(), (1u64..).zip(readings.chunks(3)).collect::<Vec<_>>());
    for chunk in batches.chunks_mut(8) {
        chunk.reverse();
    }
    for (sequence, batch) in batches {
        windows.insert(&station(), origin(sequence), batch, minute(288 * 5), sequence);
        closed.extend(windows.close());
    }
    closed.extend(windows.close_idle(late_evening(), 0));
    assert_eq!(counts(closed), in_order);
}

#[test]
fn a_gap_or_a_movement_ends_a_standstill_and_by_default_nothing_is_one() {
    let readings: Vec<Reading> = (0..200).filter(|i| !(60..75).contains(i)).map(|i| moisture(i * 5, 0.2)).collect();
    let stuck = |windows: &mut Windows| {
        let mut closed = send(windows, 1, &readings);
        closed.extend(windows.close_idle(late_evening(), 0));
        closed.iter().map(|c| c.newly_rejected.stuck).sum::<u32>()
    };
    // 375 minutes after the gap is minute 375; from 735 on it is stuck again.
    assert_eq!(stuck(&mut with_stuck(6)), (200 - 75) - 72);
    assert_eq!(stuck(&mut windows()), 0);
}

#[test]
fn a_clock_that_is_ahead_a_little_makes_no_later_reading_late() {
    let shape = Shape { tolerance: Tolerance { lateness_ms: 0, ..shape().tolerance }, ..shape() };
    let mut windows = Windows::new(shape, Limits::of);
    windows.insert(&station(), origin(1), &[moisture(14, 0.2)], minute(10), 1);
    assert_eq!(windows.watermark(&station()), Some(minute(10)));
    let placed = windows.insert(&station(), origin(2), &[moisture(11, 0.2)], minute(11), 2);
    assert_eq!(placed, Placed { windowed: 1, ..Placed::default() });
}

#[test]
fn a_leap_ahead_in_a_backlog_makes_no_later_reading_late() {
    // A week's backlog in order, on a clock that for three reports was two days ahead.
    let now = minute(7 * 1440);
    let mut windows = windows().heeding_order();
    let mut late = 0;
    for i in 0..200 {
        let wrong = if (50..53).contains(&i) { 2880 } else { 0 };
        let placed = windows.insert(&station(), origin(1 + i as u64), &[moisture(i * 5 + wrong, 0.2)], now, i as u64);
        late += placed.late + placed.clock + placed.future;
        windows.close();
    }
    assert_eq!((late, windows.watermark(&station())), (0, Some(minute(199 * 5))));

    // A true gap is believed when the fourth report has made it, or at once when the gateway's clock says the same.
    for (i, expected) in [(0, 199 * 5), (1, 199 * 5), (2, 199 * 5), (3, 5015)] {
        windows.insert(&station(), origin(300 + i), &[moisture(5000 + 5 * i as i64, 0.2)], now, 300 + i);
        assert_eq!(windows.watermark(&station()), Some(minute(expected)), "after report {i}");
    }
    windows.insert(&station(), origin(400), &[moisture(7 * 1440 - 1, 0.2)], now, 400);
    assert_eq!(windows.watermark(&station()), Some(minute(7 * 1440 - 1)));
}

#[test]
fn a_clock_that_is_set_back_is_found_by_the_order_of_batches() {
    let mut windows = windows().heeding_order();
    send(&mut windows, 1, &(0..60).map(|i| moisture(i * 5, 0.2)).collect::<Vec<_>>());
    // What was delayed on its way has an earlier sequence, and amends its window.
    let placed = windows.insert(&station(), Origin { boot: 1, sequence: 19 }, &[moisture(272, 0.2)], minute(300), 30);
    assert_eq!(placed, Placed { windowed: 1, ..Placed::default() });
    // A clock set right from being ahead within the tolerance goes back a little.
    let placed = windows.insert(&station(), origin(31), &[moisture(291, 0.2)], minute(300), 31);
    assert_eq!(placed, Placed { windowed: 1, ..Placed::default() });
    // Later batches, of this boot or a later one, and an hour back. Of the first it is not known whether it was only sent
    // late; the second comes as long after it as it was made after it.
    let boot = |sequence| Origin { boot: 2, sequence };
    let back = |windows: &mut Windows, origin: Origin, at: i64| {
        windows.insert(&station(), origin, &[moisture(at - 4, 0.2), moisture(at, 0.2)], minute(at + 60), 50 + at as u64)
    };
    assert_eq!(back(&mut windows, origin(32), 241), Placed { windowed: 2, ..Placed::default() });
    for (n, at) in [(1, 256), (2, 271)] {
        let wrong = Some(WrongTime { time: minute(at - 4), from: minute(290), until: minute(at + 65) });
        assert_eq!(back(&mut windows, boot(n), at), Placed { clock: 2, wrong, ..Placed::default() });
    }
    // What a station sends late comes faster than it was made.
    for (n, at) in (3..).zip((241..285).step_by(15)) {
        let placed = windows.insert(&station(), boot(n), &[moisture(at, 0.2)], minute(334), 400 + n);
        assert_eq!(placed, Placed { windowed: 1, ..Placed::default() });
    }
    // Set right, it goes on.
    let placed = windows.insert(&station(), boot(9), &[moisture(335, 0.2)], minute(335), 500);
    assert_eq!(placed, Placed { windowed: 1, ..Placed::default() });
    // A reading that came without boot and sequence is only held against the lateness.
    let placed = windows.insert_plain(&station(), &[moisture(240, 0.25)], minute(350), 501);
    assert_eq!(placed, Placed { windowed: 1, ..Placed::default() });
}

#[test]
fn a_silent_station_needs_no_commit_any_more_and_comes_back_as_if_it_did() {
    let readings: Vec<Reading> = (0..100).map(|i| moisture(i * 5, 0.2 + 0.001 * f64::from(i as i32 % 5))).collect();
    let (before, after) = readings.split_at(58);
    let run = |carry: bool, restart: bool| {
        let mut alive = windows().heeding_order();
        let mut last = Final::new();
        record(send(&mut alive, 1, before), &mut last);
        record(alive.close_idle(minute(24 * 60), 0), &mut last);
        let (mut emitted, reached) = (BTreeMap::new(), alive.watermark(&station()));
        if carry {
            assert!(alive.carry(minute(300), 0, 9).is_empty(), "not silent yet");
            let carried = alive.carry(minute(24 * 60), 0, 9);
            assert_eq!(carried.len(), 1);
            assert_eq!(alive.oldest_commit(), None);
            assert!(alive.carry(minute(48 * 60), 0, 9).is_empty(), "once");
            if restart {
                emitted.extend(alive.stations[&station()].emitted.clone());
                alive = windows().heeding_order();
                alive.restore(&station(), Rhythm::default(), reached, emitted);
                alive.restore_carried(&station(), &carried[0].1).unwrap();
                alive.resume(minute(25 * 60));
                assert!(alive.close().is_empty());
                assert!(alive.restore_carried(&station(), b"nonsense").is_err());
            }
        } else {
            assert!(alive.oldest_commit().is_some());
        }
        // It had only lost its radio. The window in which it fell silent is amended from both halves.
        for (sequence, batch) in (100..).zip(after.chunks(3)) {
            alive.insert(&station(), origin(sequence), batch, minute(26 * 60), sequence);
            record(alive.close(), &mut last);
        }
        let back = alive.insert(&station(), origin(200), &[moisture(0, 0.2)], minute(26 * 60), 200);
        assert_eq!(back.late, 1);
        record(alive.close_idle(late_evening(), 0), &mut last);
        last
    };
    let whole = run(false, false);
    assert_eq!(whole.len(), 34);
    assert_eq!(run(true, false), whole);
    assert_eq!(run(true, true), whole);
}

/// A batch each quarter of an hour by the true clock, by a clock that is so many minutes off for so many batches: when each
/// came, and its readings. From the given batches on everything is some minutes later.
fn by_a_wrong_clock(offsets: &[(i64, usize)], silences: &[(usize, i64)]) -> Vec<(Timestamp, Vec<Reading>)> {
    let offsets = offsets.iter().flat_map(|(offset, batches)| std::iter::repeat_n(*offset, *batches));
    (1..)
        .zip(offsets)
        .map(|(n, offset)| {
            let silent = silences.iter().filter(|(from, _)| *from < n as usize).map(|(_, minutes)| minutes);
            let at = 5_000 + 15 * n;
            let (came, value) = (at + silent.sum::<i64>(), 0.2 + 0.001 * (at % 7) as f64);
            (minute(came), (0..3).map(|n| moisture(came + offset - 10 + 5 * n, value)).collect())
        })
        .collect()
}

/// Goes through what was `sent`, in commits of so many batches, killed before some of them. What was said in the end, and of
/// each batch what was too late, from the future, and of a wrong clock.
fn killed(sent: &[(Timestamp, Vec<Reading>)], batches: usize, kills: &[usize]) -> (Final, Vec<(u32, u32, u32)>) {
    let commit = |at: usize| (at / batches) as u64;
    let (mut last, mut rejected) = (Final::new(), Vec::new());
    let mut alive = windows().heeding_order();
    let (mut reached, mut emitted, mut carried) = (None, BTreeMap::new(), None::<Vec<u8>>);
    let mut belief: Option<Vec<u8>> = None;
    let mut before = minute(0);
    for (at, (came, batch)) in sent.iter().enumerate() {
        // What the gateway does while nothing comes, between commits.
        let quarters = if at % batches == 0 { came.millis_since(before) / (15 * MINUTE) } else { 0 };
        for quarter in (1..quarters).take(200) {
            let now = before.plus_millis(quarter * 15 * MINUTE);
            let closed = alive.close_idle(now, 0);
            emitted.extend(closed.iter().map(|c| (c.window.start, c.emitted)));
            record(closed, &mut last);
            if let Some((_, blob)) = alive.carry(now, 0, 1).pop() {
                carried = Some(blob);
                (reached, belief) = (alive.watermark(&station()), alive.belief(&station()));
            }
        }
        before = *came;
        if kills.contains(&at) {
            let needed = alive.oldest_commit();
            alive = windows().heeding_order();
            alive.restore(&station(), Rhythm::default(), reached, emitted.clone());
            if let Some(body) = &belief {
                alive.restore_belief(&station(), body).unwrap();
            }
            if let Some(blob) = &carried {
                alive.restore_carried(&station(), blob).unwrap();
            }
            for (gone, (came, batch)) in sent.iter().enumerate().take(at) {
                // There may be more, if other stations need it.
                if at % 2 == 0 || needed.is_some_and(|n| commit(gone) >= n) {
                    alive.insert(&station(), origin(1 + gone as u64), batch, *came, commit(gone));
                }
            }
            alive.resume(sent[at.saturating_sub(1)].0);
            let again = alive.close();
            assert!(again.is_empty(), "emitted again: {again:?}");
            assert_eq!((alive.watermark(&station()), alive.oldest_commit()), (reached, needed));
        }
        let placed = alive.insert(&station(), origin(1 + at as u64), batch, *came, commit(at));
        rejected.push((placed.late, placed.future, placed.clock));
        let closed = alive.close();
        emitted.extend(closed.iter().map(|c| (c.window.start, c.emitted)));
        (reached, belief) = (alive.watermark(&station()), alive.belief(&station()));
        if let Some(watermark) = reached {
            emitted.retain(|start, _| !shape().is_final(*start, watermark));
        }
        record(closed, &mut last);
    }
    record(alive.close_idle(late_evening(), 0), &mut last);
    (last, rejected)
}

#[test]
fn a_leap_that_was_believed_before_what_is_kept_is_believed_again() {
    // The first batch is of two days before. Those after it leap, and the fourth of them confirms it, of an hour before the
    // third; by then the first is not kept any more. Beginning with the second, nothing would leap.
    let sent = by_a_wrong_clock(&[(-3000, 1), (-40, 3), (-100, 2), (0, 34)], &[]);
    for batches in 1..4 {
        let whole = killed(&sent, batches, &[]);
        for kill in 0..sent.len() {
            assert_eq!(killed(&sent, batches, &[kill]), whole, "killed before batch {kill}, {batches} to a commit");
        }
    }
    let mut windows = windows().heeding_order();
    assert!(windows.restore_belief(&station(), b"nonsense").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// The same of a station whose clock is wrong now and then: set back, ahead a little or far, and right again; with silences
    /// in which it is carried. What is rejected for its time is the same too.
    #[test]
    fn a_rebuilt_gateway_believes_the_same_clock(
        offsets in proptest::collection::vec(
            (prop_oneof![4 => Just(0), 1 => Just(-40), 1 => Just(-100), 1 => Just(-3000), 1 => Just(3), 1 => Just(20)], 1..9usize),
            4..16,
        ),
        silences in proptest::collection::vec((any::<prop::sample::Index>(), 300..2000i64), 0..3),
        batches in 1..4usize,
        kills in proptest::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let all = offsets.iter().map(|(_, batches)| batches).sum();
        let silences: Vec<(usize, i64)> = silences.iter().map(|(from, minutes)| (from.index(all), *minutes)).collect();
        let sent = by_a_wrong_clock(&offsets, &silences);
        let kills: Vec<usize> = kills.iter().map(|k| k.index(sent.len())).collect();
        prop_assert_eq!(killed(&sent, batches, &kills), killed(&sent, batches, &[]));
    }
}
