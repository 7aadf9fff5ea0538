//! When a link is out: slow fading that stays for hours, and the weather.

use proto::Timestamp;

use super::{Link, Lora};
use crate::chance::Chance;
use crate::weather::Conditions;

const HOUR_MS: i64 = 3_600_000;
/// A fading's likeness to that of the hour before, and how many hours back its moving average reaches.
const PERSISTENCE: f64 = 0.8;
const HOURS_BACK: i64 = 24;
/// A report arrives less often than this when the link is called out.
const OUT_BELOW: f64 = 0.5;

/// A link's slow fading: standard normal, alike from hour to hour (a first-order autoregressive process as the finite moving average of
/// the hours' own numbers, so that any hour can be asked for).
#[derive(Debug, Clone)]
pub struct Fading {
    hours: Chance,
    kept: Option<(i64, f64)>,
}

impl Fading {
    /// The fading of the link with this name.
    #[must_use]
    pub fn new(seed: u64, name: &str) -> Self {
        Self { hours: Chance::new(seed, &format!("radio/{name}")), kept: None }
    }

    /// At a time; it holds for an hour.
    pub fn at(&mut self, time: Timestamp) -> f64 {
        let hour = time.as_millis().div_euclid(HOUR_MS);
        if let Some((_, value)) = self.kept.filter(|(kept, _)| *kept == hour) {
            return value;
        }
        let (mut sum, mut weight, mut squares) = (0.0, 1.0, 0.0);
        for back in 0..HOURS_BACK {
            sum += weight * self.hours.at(hour - back).normal();
            squares += weight * weight;
            weight *= PERSISTENCE;
        }
        let value = sum / f64::sqrt(squares);
        self.kept = Some((hour, value));
        value
    }
}

/// Whether a report of so many bytes gets through a station's link, more likely than not.
#[must_use]
pub fn is_up(link: &Link, lora: &Lora, bytes: u32, conditions: &Conditions, fading: f64) -> bool {
    lora.report(bytes, link.snr_db(conditions, fading)).arrives >= OUT_BELOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fading_is_normal_and_stays_alike() {
        let mut fading = Fading::new(1, "test");
        let start: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let values: Vec<f64> = (0..4000).map(|hour| fading.at(start.plus_secs(3600 * hour))).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
        let next = values.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum::<f64>() / n / variance;
        assert!(mean.abs() < 0.15 && (variance - 1.0).abs() < 0.15, "{mean} {variance}");
        assert!((next - PERSISTENCE).abs() < 0.04, "{next}");
        assert_eq!(fading.at(start), values[0]);
    }
}
