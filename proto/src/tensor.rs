//! How a run of windows becomes a model's input. The gateway and the trainer both use this, so that a model is asked
//! exactly as it was taught.

use crate::aggregate::Stats;
use crate::channel::Channel;
use crate::manifest::Input;
use crate::time::Timestamp;

/// Fills one sample, `[steps, features]` row-major, the oldest window first. What is missing is NaN.
///
/// `end` is the end of the last window. `lookup` is asked once for each feature's channel; what it gives says what was
/// accepted of the channel in the window that starts at a time, and is asked from the oldest window on.
///
/// # Panics
/// When `out` does not have [`Input::len`] values.
pub fn fill<F>(input: &Input, end: Timestamp, lookup: impl Fn(Channel) -> F, out: &mut [f32])
where
    F: Fn(Timestamp) -> Option<Stats>,
{
    assert_eq!(out.len(), input.len(), "the sample has steps * features values");
    let window_ms = i64::from(input.window_s) * 1000;
    let first = end.plus_millis(-window_ms * i64::from(input.steps));
    for (place, feature) in input.features.iter().enumerate() {
        let stats = lookup(feature.channel);
        let mut start = first;
        for value in out[place..].iter_mut().step_by(input.features.len()) {
            *value = stats(start).map_or(f32::NAN, |stats| feature.statistic.of(&stats) as f32);
            start = start.plus_millis(window_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::Quantity;

    #[test]
    fn the_oldest_window_comes_first_and_missing_is_nan() {
        let input = Input {
            features: vec!["soil_moisture_20cm.mean".parse().unwrap(), "rain.max".parse().unwrap()],
            steps: 3,
            window_s: 900,
        };
        let end = Timestamp::from_secs(10 * 900);
        let mut out = vec![0.0; input.len()];
        let lookup = |channel: Channel| {
            move |start: Timestamp| {
                let window = (start.as_millis() / 900_000) as f64;
                let stats = Stats { count: 3, min: window, mean: window + 0.25, max: window + 0.5, stddev: 0.0 };
                (channel.quantity == Quantity::SoilMoisture || window == 8.0).then_some(stats)
            }
        };
        fill(&input, end, lookup, &mut out);
        assert_eq!(out[0], 7.25);
        assert!(out[1].is_nan());
        assert_eq!(out[2..5], [8.25, 8.5, 9.25]);
        assert!(out[5].is_nan());
    }
}
