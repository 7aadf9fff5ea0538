//! How a run of windows becomes a model's input. The gateway and the trainer both use this, so that a model is asked
//! exactly as it was taught.

use crate::aggregate::Stats;
use crate::channel::Channel;
use crate::manifest::Input;
use crate::time::Timestamp;

/// Fills one sample, `[steps, features]` row-major, the oldest window first. What is missing is NaN.
///
/// `end` is the end of the last window; `lookup` gives what was accepted of a channel in the window that starts at a time.
///
/// # Panics
/// When `out` does not have [`Input::len`] values.
pub fn fill(input: &Input, end: Timestamp, lookup: impl Fn(Timestamp, Channel) -> Option<Stats>, out: &mut [f32]) {
    assert_eq!(out.len(), input.len(), "the sample has steps * features values");
    let window_ms = i64::from(input.window_s) * 1000;
    let first = end.plus_millis(-window_ms * i64::from(input.steps));
    for (step, row) in out.chunks_exact_mut(input.features.len()).enumerate() {
        let start = first.plus_millis(window_ms * step as i64);
        for (value, feature) in row.iter_mut().zip(&input.features) {
            *value = lookup(start, feature.channel).map_or(f32::NAN, |stats| feature.statistic.of(&stats) as f32);
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
        let lookup = |start: Timestamp, channel: Channel| {
            let window = (start.as_millis() / 900_000) as f64;
            let stats = Stats { count: 3, min: window, mean: window + 0.25, max: window + 0.5, stddev: 0.0 };
            (channel.quantity == Quantity::SoilMoisture || window == 8.0).then_some(stats)
        };
        fill(&input, end, lookup, &mut out);
        assert_eq!(out[0], 7.25);
        assert!(out[1].is_nan());
        assert_eq!(out[2..5], [8.25, 8.5, 9.25]);
        assert!(out[5].is_nan());
    }
}
