//! The node as a whole.

use std::collections::BTreeMap;
use std::time::Duration;

use firmware::exception::Band;
use firmware::node::{FieldNode, MEMORY_BYTES, Node, Rule};
use firmware::ring::{Key, Reading};
use proptest::prelude::*;

fn no_channel(_: &str) -> Option<u8> {
    None
}

#[test]
fn the_field_s_node_holds_two_thousand_readings_in_its_memory() {
    // What the documentation says.
    assert_eq!(size_of::<FieldNode>(), 32_000);
    assert!(size_of::<FieldNode>() <= MEMORY_BYTES);
    let mut node = FieldNode::new([Rule::default(); 13], [3; 13], 1);
    let mut lost = 0;
    // Three samples a report: 39 readings; 51 reports are 1,989, and the next sample's eleven fill it.
    for sample in 0..154 {
        let values = std::array::from_fn(|channel| Some(i32::MAX - channel as i32));
        lost += node.sample(sample * 300_000, values, no_channel).lost;
        if sample % 3 == 2 {
            lost += node.report();
        }
        assert_eq!(lost, 39 * u32::from(sample >= 153), "{sample}");
    }
    assert_eq!(node.ring().readings(), 154 * 13 - 39);
    assert_eq!(node.ring().lost_readings(), 39);
}

#[derive(Debug, Clone)]
enum Step {
    Sample([Option<i32>; 3], i64),
    Report,
    Connect,
    Disconnect,
    Send,
    Acknowledge(u64),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = || prop::option::weighted(0.9, -50i32..50);
    let step = prop_oneof![
        8 => ([value(), value(), value()], 1i64..600_000).prop_map(|(values, after)| Step::Sample(values, after)),
        4 => Just(Step::Report),
        2 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        6 => Just(Step::Send),
        3 => (0u64..20).prop_map(Step::Acknowledge),
        2 => (0u64..20_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Each reading is waiting, acknowledged or lost; what is sent is what was made, from the oldest, and the same each time.
    #[test]
    fn every_reading_is_accounted_for(steps in steps(), with_band in any::<bool>()) {
        let band = with_band.then_some(Band { width: 20, heartbeat_ms: 3_600_000 });
        let mut node = Node::<3, 50, 8>::new([Rule { filter: None, band }; 3], [2; 3], 4);
        let (mut time_ms, mut now) = (0, Duration::ZERO);
        let (mut made, mut lost, mut acknowledged) = (0u64, 0u64, 0u64);
        let mut seen: BTreeMap<Key, Vec<Reading>> = BTreeMap::new();
        let mut connected = false;
        for step in steps {
            match step {
                Step::Sample(values, after) => {
                    time_ms += after;
                    let taken = node.sample(time_ms, values, no_channel);
                    prop_assert!(with_band || usize::from(taken.readings) == values.iter().flatten().count());
                    made += u64::from(taken.readings);
                    lost += u64::from(taken.lost);
                }
                Step::Report => lost += u64::from(node.report()),
                Step::Connect => {
                    node.connected();
                    connected = true;
                }
                Step::Disconnect => {
                    node.disconnected();
                    connected = false;
                }
                Step::Send => {
                    let first = (node.deadline().is_none() && connected).then(|| node.ring().key(0)).flatten();
                    let next = node.next_to_send(now, || 0.5).map(|(key, readings)| (key, readings.collect::<Vec<_>>()));
                    prop_assert!(next.is_none() || connected);
                    if let Some(first) = first {
                        prop_assert_eq!(next.as_ref().map(|(key, _)| *key), Some(first));
                    }
                    if let Some((key, readings)) = next {
                        let before = seen.entry(key).or_insert_with(|| readings.clone());
                        prop_assert_eq!(&*before, &readings);
                    }
                }
                Step::Acknowledge(sequence) => {
                    let up_to = Key { boot: 4, sequence };
                    let before = node.ring().readings();
                    let news = node.acknowledged(up_to, now, || 0.5);
                    acknowledged += (before - node.ring().readings()) as u64;
                    prop_assert_eq!(news, before > node.ring().readings());
                    prop_assert!(node.ring().key(0).is_none_or(|key| key.sequence > sequence));
                }
                Step::Wait(millis) => {
                    now += Duration::from_millis(millis);
                    let due = node.deadline().is_some_and(|deadline| deadline <= now);
                    prop_assert_eq!(node.overdue(now).is_some(), due);
                }
            }
            prop_assert_eq!(node.ring().readings() as u64 + acknowledged + lost, made);
            prop_assert_eq!(node.ring().lost_readings(), lost);
        }
    }
}
