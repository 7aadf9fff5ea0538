//! A field through dry days, rain and broken probes, with numbers computed by hand.

use proptest::prelude::*;
use proto::decision::Cause;
use proto::{Aggregate, Quantity, Stats};

use super::*;

const LENGTH_S: u32 = 900;
/// 2015-06-01T06:00:00Z.
const START_S: i64 = 1_433_138_400;

/// Loam, rooted 0.6 m deep, p 0.55: TAW 1000 (0.28 - 0.14) 0.6 = 84 mm, RAW 46.2 mm. At 6 mm/h and an efficiency of 0.75.
fn config(more: &str) -> FieldConfig {
    let text = format!(
        r#"
        name = "north"
        stations = ["n1", "n2"]
        root_depth_m = 0.6
        depletion_fraction = 0.55
        soil = "loam"
        valves = ["n1"]
        auto = true
        {more}
        [irrigation]
        kind = "sprinkler"
        application_mm_per_h = 6.0
        max_minutes = 600
        "#
    );
    toml::from_str(&text).unwrap()
}

fn end(number: i64) -> Timestamp {
    Timestamp::from_secs(START_S + number * i64::from(LENGTH_S))
}

fn station(name: &str) -> StationId {
    name.parse().unwrap()
}

fn accepted(channel: Channel, mean: f64) -> Aggregate {
    let stats = Stats { count: 3, min: mean, mean, max: mean, stddev: 0.0 };
    Aggregate { channel, accepted: Some(stats), rejected: None }
}

const DEPTHS: [u16; 3] = [10, 20, 40];

fn soil(name: &str, number: i64, contents: [f64; 3]) -> Window {
    let channel = |depth| Channel::at(Quantity::SoilMoisture, depth);
    let aggregates = DEPTHS.iter().zip(contents).map(|(depth, content)| accepted(channel(*depth), content)).collect();
    Window { station: station(name), start: end(number - 1), length_s: LENGTH_S, revision: 0, aggregates }
}

/// Both stations' windows of a boundary.
fn both(number: i64, contents: [f64; 3]) -> Vec<Window> {
    vec![soil("n1", number, contents), soil("n2", number, contents)]
}

fn trusted(_: &StationId, _: Channel) -> bool {
    false
}

fn decide(decider: &mut Decider, number: i64, windows: &[Window]) -> Option<Decision> {
    let mut decisions = decider.observe(windows, end(number), trusted);
    assert!(decisions.len() <= 1);
    decisions.pop()
}

const DRY: [f64; 3] = [0.18, 0.20, 0.21];

#[test]
fn a_dry_field_is_irrigated_once_and_the_water_may_go_down() {
    let mut all = Decider::new(&[config("")]);
    // (0.18 · 0.15 + 0.20 · 0.15 + 0.21 · 0.3) / 0.6 = 0.2 m3/m3: 1000 (0.28 - 0.2) 0.6 = 48 mm are missing.
    let decision = decide(&mut all, 1, &both(1, DRY)).unwrap();
    let run = decision.run.unwrap();
    assert!((decision.inputs.depletion_mm.unwrap() - 48.0).abs() < 1e-9);
    assert!((decision.inputs.total_mm - 84.0).abs() < 1e-9 && (decision.inputs.readily_mm - 46.2).abs() < 1e-9);
    // (48 - 5) / 0.75 = 57.33 mm at 0.1 mm/min are 573 min, in whole fives 570: 57 mm, of which 42.75 stay.
    assert_eq!(
        (decision.cause, run.minutes, decision.inputs.probes, decision.inputs.untrusted),
        (Cause::Due, 570, 6, 0)
    );
    assert!((run.mm - 57.0).abs() < 1e-9, "{}", run.mm);
    // Ks = (84 - 48) / (0.45 · 84) = 0.952.
    assert_eq!(
        decision.reason,
        "48 mm are missing in the root zone, and the crop takes 46 of 84 mm without stress and now transpires at 95 %: \
         57.0 mm in 570 min give it 42.8 mm, which leaves 5 mm for rain"
    );
    assert_eq!((decision.id.as_str(), &decision.stations), ("north/1433139300000", &vec![station("n1")]));
    let order = Order { station: station("n1"), id: 1_433_139_300_000, minutes: 570 };
    assert_eq!(all.orders(end(2)).collect::<Vec<_>>(), [order]);

    // It is not confirmed, and repeated for an hour; an old number confirms nothing.
    assert_eq!(all.confirm(&station("n1"), 7), []);
    assert_eq!(all.confirm(&station("n2"), u64::MAX), []);
    assert_eq!(all.orders(end(2)).count(), 1);
    assert_eq!(all.orders(end(1).plus_secs(3_600)).count(), 0);
    // The decision is told again with who carried it out, once.
    let carried_out = Decision { confirmed: vec![station("n1")], ..decision };
    assert_eq!(all.confirm(&station("n1"), 1_433_139_300_000), [carried_out]);
    assert_eq!(all.confirm(&station("n1"), 1_433_139_300_000), []);
    assert_eq!(all.orders(end(2)).count(), 0);

    // 570 min and 12 h are 86 boundaries: until then the rest settles, and is told once (an hour after the decision).
    let told: Vec<(i64, Cause)> =
        (2..=87).filter_map(|n| Some((n, decide(&mut all, n, &both(n, DRY))?.cause))).collect();
    // Local midnight (UTC here) is the 72nd boundary after 06:00.
    assert_eq!(told, [(5, Cause::Settling), (72, Cause::Settling), (87, Cause::Due)]);
}

#[test]
fn advice_commands_nobody() {
    let mut all = Decider::new(&[FieldConfig { auto: false, ..config("") }]);
    let decision = decide(&mut all, 1, &both(1, DRY)).unwrap();
    assert!(decision.run.is_some() && decision.stations.is_empty());
    assert_eq!(all.orders(end(1)).count(), 0);
}

#[test]
fn a_moist_field_says_so_once_a_day() {
    let mut all = Decider::new(&[config("utc_offset_h = -8.0")]);
    let told: Vec<i64> = (1..=96).filter(|n| decide(&mut all, *n, &both(*n, [0.25; 3])).is_some()).collect();
    // 06:00Z is 22:00 there; the day ends eight windows later.
    assert_eq!(told, [1, 8]);
    let standing = all.standing().remove(0);
    assert_eq!(
        standing.now.unwrap().reason,
        "18 mm are missing in the root zone, and the crop takes 46 of 84 mm without stress"
    );
    assert_eq!(standing.told.unwrap().at, end(8));
}

#[test]
fn a_wet_top_does_not_hide_dry_roots_below_and_its_water_is_not_given_twice() {
    // Above field capacity (0.28) by 0.05 in 0.3 m: 15 mm. Below by 0.16 in 0.3 m: 48 mm, though by the mean only 33 of 46.2 mm are gone.
    let decision = decide(&mut Decider::new(&[config("")]), 1, &both(1, [0.33, 0.33, 0.12])).unwrap();
    assert!((decision.inputs.depletion_mm.unwrap() - 48.0).abs() < 1e-9, "{decision:?}");
    // (48 - 15 - 5) / 0.75 = 37.3 mm are 373 min, in whole fives 370.
    assert_eq!((decision.cause, decision.run.unwrap().minutes), (Cause::Due, 370));
    assert_eq!(
        decision.reason,
        "48 mm are missing in the root zone and 15 mm elsewhere in it are above field capacity, and the crop takes 46 of 84 mm \
         without stress: 37.0 mm in 370 min give it 27.8 mm, which leaves 5 mm for rain"
    );
    // What is missing is on its way already: the shortest run is all that is given.
    let decision = decide(&mut Decider::new(&[config("")]), 1, &both(1, [0.43, 0.43, 0.12])).unwrap();
    assert_eq!((decision.cause, decision.run.unwrap().minutes), (Cause::Due, 10));
    assert!(decision.reason.ends_with("which leaves 2 mm for rain"), "{}", decision.reason);
}

#[test]
fn a_crop_that_uses_more_a_day_is_irrigated_earlier() {
    // p 0.55 + 0.04 (5 - 9) = 0.39: 32.8 mm instead of 46.2. (0.2175 · 0.6 m: 37.5 mm are missing.)
    let contents = [0.2175; 3];
    assert_eq!(decide(&mut Decider::new(&[config("")]), 1, &both(1, contents)).unwrap().cause, Cause::Moist);
    let decision = decide(&mut Decider::new(&[config("etc_mm_per_day = 9.0")]), 1, &both(1, contents)).unwrap();
    assert_eq!(decision.cause, Cause::Due);
    assert!((decision.inputs.readily_mm - 0.39 * 84.0).abs() < 1e-9, "{:?}", decision.inputs);
}

#[test]
fn probes_that_cannot_be_trusted_are_not_asked() {
    let alert = |which: StationId, depth| move |s: &StationId, c: Channel| *s == which && c.level_cm == Some(depth);
    // n1 at 40 cm says 0.02, and an alert is open about it: the other stations' 0.25 counts.
    let mut all = Decider::new(&[config("")]);
    let windows = [soil("n1", 1, [0.25, 0.25, 0.02]), soil("n2", 1, [0.25; 3])];
    let decision = all.observe(&windows, end(1), alert(station("n1"), 40)).remove(0);
    assert_eq!((decision.cause, decision.inputs.probes, decision.inputs.untrusted), (Cause::Moist, 5, 1));
    assert!((decision.inputs.depletion_mm.unwrap() - 18.0).abs() < 1e-9);

    // Rejected readings, old ones, and none at all.
    let mut all = Decider::new(&[config("min_probes = 4")]);
    assert_eq!(decide(&mut all, 1, &both(1, [0.25; 3])).unwrap().cause, Cause::Moist);
    let mut rejected = both(5, DRY);
    rejected[0].aggregates.iter_mut().for_each(|a| a.accepted = None);
    let decision = decide(&mut all, 5, &rejected).unwrap();
    assert_eq!((decision.cause, decision.run, decision.inputs.depletion_mm), (Cause::Untrusted, None, None));
    assert_eq!(
        decision.reason,
        "3 soil moisture probes can be trusted and 4 are needed; 3 have an open alert, rejected readings, or none of the \
         last 3 h"
    );
    let later = 5 + 12;
    decide(&mut all, later, &[soil("n2", later, DRY)]);
    assert_eq!(all.standing()[0].now.as_ref().unwrap().inputs.untrusted, 3, "what was said three hours ago is old");
    // Probes below the roots are no probes of theirs.
    let mut all = Decider::new(&[FieldConfig { root_depth_m: Some(0.3), ..config("") }]);
    assert_eq!(decide(&mut all, 1, &both(1, DRY)).unwrap().inputs.probes, 4);
}

#[test]
fn rain_of_the_last_hours_delays() {
    let mut all = Decider::new(&[config("")]);
    let rain = |number, mm: f64| {
        let mut windows = both(number, DRY);
        // Three readings of a third each.
        windows.iter_mut().for_each(|w| w.aggregates.push(accepted(Channel::of(Quantity::Rain), mm / 3.0)));
        windows
    };
    let decision = decide(&mut all, 1, &rain(1, 4.5)).unwrap();
    assert_eq!((decision.cause, decision.inputs.rain_mm), (Cause::Rain, Some(4.5)));
    assert_eq!(
        decision.reason,
        "48 mm are missing in the root zone, but 4.5 mm of rain in the last 6 h are still going down"
    );
    for number in 2..=24 {
        assert_eq!(decide(&mut all, number, &rain(number, 0.0)), None, "{number}");
    }
    assert_eq!(decide(&mut all, 25, &rain(25, 0.0)).unwrap().cause, Cause::Due);
}

#[test]
fn it_runs_in_its_hours_and_for_the_days_minutes_only() {
    // From 20 to 8 o'clock: at 06:15 are left 105 minutes.
    let mut all = Decider::new(&[config("hours = [20.0, 8.0]\ninterval_h = 1.0")]);
    let decision = decide(&mut all, 1, &both(1, DRY)).unwrap();
    assert_eq!(decision.run.unwrap().minutes, 105);
    all.confirm(&station("n1"), u64::MAX);
    assert!(
        decide(&mut all, 11, &both(11, DRY)).is_some_and(|d| d.cause == Cause::Settling),
        "08:45, and it still goes down"
    );
    let decision = decide(&mut all, 20, &both(20, DRY)).unwrap();
    assert_eq!(
        (decision.cause, decision.reason.ends_with("only from 20:00 to 08:00")),
        (Cause::Hours, true),
        "{decision:?}"
    );
    // At 20:00 the rest of the day's 600 minutes, less than it takes; at 22:15 nothing is left of it.
    let mut all = Decider::new(&[config("interval_h = 0.0")]);
    assert_eq!(decide(&mut all, 1, &both(1, DRY)).unwrap().run.unwrap().minutes, 570);
    assert_eq!(decide(&mut all, 56, &both(56, DRY)).unwrap().run.unwrap().minutes, 30);
    let decision = decide(&mut all, 60, &both(60, DRY)).unwrap();
    assert_eq!((decision.cause, decision.run), (Cause::Spent, None), "{decision:?}");
    assert!(decide(&mut all, 72, &both(72, DRY)).unwrap().run.is_some(), "a new day");
    // The shortest run takes the room for rain, but not more than the soil can hold: a pivot's turn of 90 mm is too much for 48.
    let mut all = Decider::new(&[config("leave_mm = 47.5")]);
    assert_eq!(decide(&mut all, 1, &both(1, DRY)).unwrap().run.unwrap().minutes, 10);
    let mut odd = config("leave_mm = 47.5");
    odd.irrigation.min_minutes = 12;
    assert_eq!(decide(&mut Decider::new(&[odd]), 1, &both(1, DRY)).unwrap().run.unwrap().minutes, 15, "in whole steps");
    let mut turns = config("");
    (turns.irrigation.application_mm_per_h, turns.irrigation.min_minutes) = (12.0, 600);
    let decision = decide(&mut Decider::new(&[turns]), 1, &both(1, DRY)).unwrap();
    assert_eq!((decision.cause, decision.run), (Cause::Small, None));
    assert_eq!(
        decision.reason,
        "48 mm are missing in the root zone, which would take 287 min, and the shortest run is 600 min"
    );
}

#[test]
fn what_no_valve_confirms_is_told() {
    let mut all = Decider::new(&[config("")]);
    decide(&mut all, 1, &both(1, DRY)).unwrap();
    let decision = decide(&mut all, 5, &both(5, DRY)).unwrap();
    assert_eq!(decision.cause, Cause::Unconfirmed);
    assert!(decision.reason.contains("570 min decided at 2015-06-01T06:15:00Z"), "{}", decision.reason);
}

#[test]
fn what_is_long_past_and_what_is_decided_already_is_not_decided_on() {
    let mut all = Decider::new(&[config("")]);
    assert!(all.observe(&both(1, DRY), end(1 + 13), trusted).is_empty(), "more than three hours late");
    assert!(all.observe(&both(1, DRY), end(1), trusted).is_empty());
    assert_eq!(all.orders(end(1)).count(), 0);
    // A window that comes after its boundary changes what is known, and decides nothing.
    assert!(decide(&mut all, 3, &both(3, [0.25; 3])).is_some());
    assert_eq!(decide(&mut all, 3, &[soil("n1", 2, DRY)]), None);
    assert_eq!(decide(&mut all, 3, &[soil("n1", 3, DRY)]), None);
}

#[test]
fn every_mistake_of_a_field_is_named() {
    let mut field = config("fresh_h = 0.0\nhours = [20.0, 25.0]");
    (field.soil, field.wilting_point, field.auto, field.valves) = (None, Some(0.2), true, Vec::new());
    let other = FieldConfig { valves: vec![station("n1")], wilting_point: Some(0.4), ..config("") };
    let wrong: Vec<String> = config::check(&[field, other.clone(), other])
        .into_iter()
        .map(|(key, value, expected)| format!("{key} = {value} is not {expected}"))
        .collect();
    assert_eq!(
        wrong,
        [
            "field[0].auto = true is not of use without valves",
            "field[0].field_capacity = none is not 0.02 to 0.7 m3/m3 (a soil would say it)",
            "field[0].fresh_h = 0 is not 0.25 to 48 h",
            "field[0].hours = 25 is not 0 to 24 h",
            "field[1].name = north is not a name that no other field has",
            "field[1].wilting_point = 0.4 is not below the field capacity",
            "field[2].name = north is not a name that no other field has",
            "field[2].valves = StationId(\"n1\") is not a station that is no valve yet",
            "field[2].wilting_point = 0.4 is not below the field capacity",
        ]
    );
    assert!(config::check(&[config("")]).is_empty());
}

/// A boundary: contents, rain, which window is missing, who confirms, and whether the gateway is killed after it.
type Step = ((f64, f64, f64), f64, u8, bool, bool);

proptest! {
    /// The same decisions, bit for bit, however often the decider is made anew from what it told.
    #[test]
    fn a_decider_that_is_made_anew_decides_the_same(
        steps in prop::collection::vec(((0.12..0.3, 0.12..0.3, 0.12..0.3), 0.0..4.0, 0_u8..5, any::<bool>(), any::<bool>()), 1..120),
    ) {
        let run = |killed: bool| {
            let configs = [config("interval_h = 2.0\nhours = [4.0, 22.0]")];
            let mut all = Decider::new(&configs);
            let mut kept: BTreeMap<FieldId, Vec<u8>> = BTreeMap::new();
            let mut decisions = Vec::new();
            let steps: &[Step] = &steps;
            for (number, ((a, b, c), rain, missing, confirms, kill)) in (1..).zip(steps) {
                let mut windows = both(number, [*a, *b, *c]);
                windows[0].aggregates.push(accepted(Channel::of(Quantity::Rain), if *rain > 3.0 { *rain / 3.0 } else { 0.0 }));
                if usize::from(*missing) < windows.len() {
                    windows.remove(usize::from(*missing));
                }
                decisions.extend(all.observe(&windows, end(number), trusted));
                if *confirms {
                    decisions.extend(all.confirm(&station("n1"), u64::MAX));
                }
                kept.extend(all.news());
                if killed && *kill {
                    all = Decider::new(&configs);
                    kept.iter().for_each(|(field, state)| all.remember(field, state).unwrap());
                    prop_assert!(all.news().is_empty());
                }
            }
            Ok((decisions, all.orders(end(1)).collect::<Vec<_>>(), kept))
        };
        prop_assert_eq!(run(true)?, run(false)?);
    }

    #[test]
    fn bytes_that_are_no_state_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut all = Decider::new(&[config("")]);
        let _ = all.remember(&"north".parse().unwrap(), &bytes);
    }
}
