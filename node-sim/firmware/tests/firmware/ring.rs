//! The ring against a queue without bounds of its own.

use std::collections::VecDeque;

use firmware::delivery::Reports as _;
use firmware::ring::{Freed, Gone, Key, Reading, Ring};
use proptest::prelude::*;

const READINGS: usize = 40;
const REPORTS: usize = 6;

#[derive(Debug, Clone)]
enum Step {
    Push(u8, i64, i32),
    Seal,
    Reboot,
    Acknowledge { boots_ago: u32, sequence: u64, under_way: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0u8..13, -5_000i64..600_000, any::<i32>()).prop_map(|(channel, after, value)| Step::Push(channel, after, value)),
        3 => Just(Step::Seal),
        1 => Just(Step::Reboot),
        2 => (0u32..3, 0u64..12, 0usize..8)
            .prop_map(|(boots_ago, sequence, under_way)| Step::Acknowledge { boots_ago, sequence, under_way }),
    ];
    prop::collection::vec(step, 1..200)
}

/// What the ring must be: as many reports and readings as there is room for.
#[derive(Default)]
struct Plain {
    sealed: VecDeque<(Key, Vec<Reading>)>,
    open: VecDeque<Reading>,
    lost: u64,
}

impl Plain {
    fn readings(&self) -> usize {
        self.open.len() + self.sealed.iter().map(|(_, readings)| readings.len()).sum::<usize>()
    }

    fn drop_oldest(&mut self) -> Gone {
        let gone = match self.sealed.pop_front() {
            Some((key, readings)) => Gone { key: Some(key), readings: readings.len() as u16 },
            None => {
                self.open.pop_front().unwrap();
                Gone { key: None, readings: 1 }
            }
        };
        self.lost += u64::from(gone.readings);
        gone
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn it_holds_what_a_plain_queue_holds_and_counts_what_overflows(steps in steps()) {
        let mut ring = Ring::<READINGS, REPORTS>::new();
        let mut plain = Plain::default();
        let (mut boot, mut sequence, mut now) = (1u32, 1u64, 1_780_297_200_000i64);
        let (mut made, mut acknowledged) = (0u64, 0u64);
        for step in steps {
            match step {
                Step::Push(channel, after, value) => {
                    now += after;
                    let reading = Reading { channel, time_ms: now, value };
                    let gone = (plain.readings() == READINGS).then(|| plain.drop_oldest());
                    plain.open.push_back(reading);
                    made += 1;
                    prop_assert_eq!(ring.push(reading), Ok(gone));
                }
                Step::Seal => {
                    let key = Key { boot, sequence };
                    if plain.open.is_empty() {
                        prop_assert!(ring.seal(key).is_err());
                    } else {
                        let gone = (plain.sealed.len() == REPORTS).then(|| plain.drop_oldest());
                        plain.sealed.push_back((key, plain.open.drain(..).collect()));
                        sequence += 1;
                        prop_assert_eq!(ring.seal(key), Ok(gone));
                    }
                }
                Step::Reboot => (boot, sequence) = (boot + 1, 1),
                Step::Acknowledge { boots_ago, sequence, under_way } => {
                    let up_to = Key { boot: boot.saturating_sub(boots_ago), sequence };
                    let covered = |key: &Key| key.boot == up_to.boot && key.sequence <= up_to.sequence;
                    let freed = Freed {
                        reports: plain.sealed.iter().filter(|(key, _)| covered(key)).count(),
                        under_way: plain.sealed.iter().take(under_way).filter(|(key, _)| covered(key)).count(),
                    };
                    let before = plain.readings();
                    plain.sealed.retain(|(key, _)| !covered(key));
                    acknowledged += (before - plain.readings()) as u64;
                    prop_assert_eq!(ring.acknowledge(up_to, under_way), freed);
                }
            }
            let held: Vec<(Key, Vec<Reading>)> =
                (0..ring.reports()).map(|index| ring.report(index).map(|(key, readings)| (key, readings.collect())).unwrap()).collect();
            prop_assert_eq!(held, plain.sealed.iter().cloned().collect::<Vec<_>>());
            prop_assert_eq!(ring.open().collect::<Vec<_>>(), plain.open.iter().copied().collect::<Vec<_>>());
            prop_assert!(ring.report(ring.reports()).is_none());
            // Each reading is waiting, acknowledged or counted as lost.
            prop_assert_eq!(ring.lost_readings(), plain.lost);
            prop_assert_eq!(ring.readings() as u64 + acknowledged + ring.lost_readings(), made);
        }
    }
}

#[test]
fn a_time_that_a_report_cannot_span_changes_nothing() {
    let mut ring = Ring::<4, 2>::new();
    let reading = |time_ms| Reading { channel: 0, time_ms, value: 1 };
    ring.push(reading(0)).unwrap();
    assert!(ring.push(reading(i64::from(i32::MAX) + 1)).is_err() && ring.push(reading(i64::MIN)).is_err());
    assert_eq!(ring.readings(), 1);
    ring.push(reading(i64::from(i32::MAX))).unwrap();
    ring.seal(Key { boot: 1, sequence: 1 }).unwrap();
    ring.push(reading(i64::MIN)).unwrap();
    assert_eq!(ring.open().next().map(|reading| reading.time_ms), Some(i64::MIN));
}
