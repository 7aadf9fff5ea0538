//! Filter and report by exception.

use firmware::exception::{Band, Reported};
use firmware::filter::Hampel;
use proptest::prelude::*;

proptest! {
    /// What a receiver holds, the last reading, is never further from the value than the band, nor older than the heartbeat.
    #[test]
    fn what_is_held_is_within_the_band(
        steps in prop::collection::vec((0i64..4_000, -300i32..300), 1..200),
        width in 0u32..400,
        heartbeat_ms in 1u32..20_000,
    ) {
        let band = Band { width, heartbeat_ms };
        let mut reported = Reported::new();
        let (mut now, mut value) = (0, 0);
        let mut held: Option<(i64, i32)> = None;
        for (after, by) in steps {
            now += after;
            value += by;
            if reported.is_due(band, now, value) {
                // It is not reported without need.
                let needed = held.is_none_or(|(then, held)| value.abs_diff(held) > width || now - then >= i64::from(heartbeat_ms));
                prop_assert!(needed);
                held = Some((now, value));
            }
            let (then, held) = held.unwrap();
            prop_assert!(value.abs_diff(held) <= width && now - then < i64::from(heartbeat_ms).max(1));
        }
    }

    /// Against the definition in floating point.
    #[test]
    fn a_hampel_filter_does_what_its_definition_says(values in prop::collection::vec(-2_000i32..2_000, 1..60), floor in 0u32..50) {
        let mut filter = Hampel::<5>::new();
        for end in 1..=values.len() {
            let given = filter.push(values[end - 1], floor);
            let Some(begin) = end.checked_sub(5) else {
                prop_assert_eq!(given, values[end - 1]);
                continue;
            };
            let middle = |mut values: Vec<f64>| { values.sort_by(f64::total_cmp); values[2] };
            let window: Vec<f64> = values[begin..end].iter().map(|value| f64::from(*value)).collect();
            let median = middle(window.clone());
            let deviation = middle(window.iter().map(|value| (value - median).abs()).collect());
            let off = (window[4] - median).abs();
            let limit = (3.0 * 1.4826 * deviation).max(f64::from(floor));
            // The limit is rounded to an integer.
            if (off - limit).abs() > 1.5 {
                prop_assert_eq!(f64::from(given), if off > limit { median } else { window[4] });
            } else {
                prop_assert!(given == values[end - 1] || f64::from(given) == median);
            }
        }
    }
}

#[test]
fn a_spike_never_shows_and_a_step_shows_two_samples_late() {
    let mut filter = Hampel::<5>::new();
    let values = [100, 101, 99, 100, 101, 900, 905, 100, 101, 99, 100, 300, 301, 299, 300];
    let filtered: Vec<i32> = values.iter().map(|value| filter.push(*value, 2)).collect();
    assert!(filtered[5..11].iter().all(|value| (99..=101).contains(value)), "{filtered:?}");
    assert!(filtered[11] <= 101 && filtered[12] <= 101 && filtered[13..] == [299, 300], "{filtered:?}");
}

#[test]
fn a_clock_that_is_set_back_is_no_reason_for_silence() {
    let mut reported = Reported::new();
    let band = Band { width: 10, heartbeat_ms: 1000 };
    assert!(reported.is_due(band, 100_000, 5) && !reported.is_due(band, 100_500, 6));
    assert!(reported.is_due(band, 50_000, 6) && !reported.is_due(band, 50_500, 6));
}
