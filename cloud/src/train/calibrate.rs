//! What an error must be to be called one: set by windows that were not trained on.

use proto::Channel;

use super::encode::Samples;

/// Windows in a row that must be high before a gateway reports an anomaly, by default. The threshold is set for that.
const IN_A_ROW: usize = 8;

/// False alerts that a channel may have in one station-day of fault-free windows.
const BUDGET: f64 = 1.0 / 500.0;

/// What is added to the threshold, because other farms have other weather.
const MARGIN: f32 = 1.15;

/// Least threshold, in widths of the expected error: below it the network is only too sure of itself.
const LEAST: f32 = 3.0;

/// How a channel did on held-out windows.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct ChannelReport {
    /// The channel.
    pub channel: Channel,
    /// Median error, in widths of the expected error.
    pub median: f32,
    /// The error that 99.9 % of the windows stay below.
    pub high: f32,
    /// The threshold.
    pub threshold: f32,
    /// Alerts that would have been raised.
    pub false_alerts: u32,
}

/// Thresholds, and what they give.
#[derive(Debug)]
pub struct Calibration {
    /// For each target, in widths.
    pub scales: Vec<f32>,
    /// For each target.
    pub channels: Vec<ChannelReport>,
    /// How much was looked at.
    pub station_days: f64,
}

impl Calibration {
    /// Over all channels.
    pub fn false_alerts_per_100_station_days(&self) -> f64 {
        let alerts: u32 = self.channels.iter().map(|c| c.false_alerts).sum();
        f64::from(alerts) / self.station_days.max(f64::MIN_POSITIVE) * 100.0
    }
}

/// Sets each target's threshold so that its false alerts on the held-out windows stay within the budget.
pub fn calibrate(targets: &[Channel], samples: &Samples, errors: &[f32], window_s: u32) -> Calibration {
    let day = (86_400 / window_s.max(1)).max(1) as usize;
    let station_days = samples.len() as f64 / day as f64;
    let allowed = (BUDGET * station_days) as usize;
    let mut calibration = Calibration { scales: Vec::new(), channels: Vec::new(), station_days };
    for (target, channel) in targets.iter().enumerate() {
        let of_target: Vec<f32> = errors.iter().skip(target).step_by(targets.len()).copied().collect();
        // The worst of each station's days, where a moment counts only as high as it lasts.
        let mut days = Vec::new();
        let ends = samples.starts.iter().skip(1).copied().chain([samples.len()]);
        for (start, end) in samples.starts.iter().copied().zip(ends) {
            let lasting: Vec<f32> =
                of_target[start..end].windows(IN_A_ROW).map(|w| w.iter().copied().fold(f32::MAX, f32::min)).collect();
            days.extend(lasting.chunks(day).map(|d| d.iter().copied().fold(0.0, f32::max)));
        }
        days.sort_by(|a, b| b.total_cmp(a));
        let scale = (days.get(allowed).copied().unwrap_or(0.0) * MARGIN).max(LEAST);
        let mut sorted = of_target;
        sorted.sort_by(f32::total_cmp);
        let quantile = |q: f64| {
            sorted.get(((sorted.len() as f64 * q) as usize).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
        };
        calibration.scales.push(scale);
        calibration.channels.push(ChannelReport {
            channel: *channel,
            median: quantile(0.5),
            high: quantile(0.999),
            threshold: scale,
            false_alerts: days.iter().filter(|d| **d > scale).count() as u32,
        });
    }
    calibration
}

#[cfg(test)]
mod tests {
    use proto::Quantity;

    use super::*;

    #[test]
    fn the_threshold_lies_above_what_lasts_and_ignores_what_does_not() {
        let mut errors = vec![1.0f32; 960];
        errors[100] = 80.0;
        errors[500..510].fill(10.0);
        let samples = Samples::blank(960, 1);
        let calibration = calibrate(&[Channel::of(Quantity::Battery)], &samples, &errors, 900);
        assert_eq!(calibration.scales, [11.5]);
        assert_eq!(calibration.channels[0].false_alerts, 0);
        assert!((calibration.station_days - 10.0).abs() < 1e-9);
    }
}
