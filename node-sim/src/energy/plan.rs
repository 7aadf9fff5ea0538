//! How often to report by the energy that is forecast, as FarmBeats' base station does it.
//!
//! Vasisht et al. (2017), *FarmBeats: An IoT Platform for Data-Driven Agriculture*, NSDI, let the base station sleep and
//! wake by a duty cycle that follows the weather forecast. Two constraints: what is consumed over the planning period
//! must not exceed what is harvested and may be drawn from the battery (power neutrality); and each time it is on it must
//! be on long enough to connect and transfer. Within them the gap between two transfers is to be short: so it is on for just
//! that long each time, and the energy decides how long it is off. Here the first holds not only for the period as
//! a whole but at every hour of it, because a battery cannot give in the first night what the third day brings.

/// A thing that is on and off in turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cycle {
    /// Power while on, W.
    pub on_w: f64,
    /// Power while off, W.
    pub off_w: f64,
    /// How long it is on each time: to connect, and to transfer, s.
    pub on_s: f64,
    /// The longest gap that is asked for, whatever the energy: then it is rather on and may fail, s.
    pub most_gap_s: f64,
}

impl Cycle {
    /// The share of time for which it is on when it is on for the last time `gap_s` ago.
    #[must_use]
    pub fn duty(&self, gap_s: f64) -> f64 {
        (self.on_s / gap_s).min(1.0)
    }

    /// Mean power, W, with one transfer every `gap_s`.
    #[must_use]
    pub fn mean_w(&self, gap_s: f64) -> f64 {
        self.off_w + (self.on_w - self.off_w) * self.duty(gap_s)
    }

    /// The shortest gap between the beginnings of two transfers, s, at which the mean power stays below what `forecast_wh` (what can be had
    /// from the panel in each of the next hours) and `spare_wh` (what may be drawn from the battery) can give, at the end of every
    /// hour. An empty forecast gives the longest.
    #[must_use]
    pub fn plan_gap_s(&self, forecast_wh: &[f64], spare_wh: f64) -> f64 {
        let mut gathered_wh = spare_wh.max(0.0);
        let mut least_w = f64::INFINITY;
        for (hour, harvest_wh) in forecast_wh.iter().enumerate() {
            gathered_wh += harvest_wh;
            least_w = least_w.min(gathered_wh / (hour + 1) as f64);
        }
        if forecast_wh.is_empty() || least_w <= self.off_w {
            return self.most_gap_s;
        }
        let duty = ((least_w - self.off_w) / (self.on_w - self.off_w)).min(1.0);
        (self.on_s / duty).clamp(self.on_s, self.most_gap_s)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CYCLE: Cycle = Cycle { on_w: 20.0, off_w: 0.2, on_s: 300.0, most_gap_s: 43_200.0 };

    #[test]
    fn plenty_means_always_on_and_nothing_the_longest_gap() {
        assert_eq!(CYCLE.plan_gap_s(&[50.0; 48], 0.0), 300.0);
        assert_eq!(CYCLE.plan_gap_s(&[0.0; 48], 0.0), 43_200.0);
        assert_eq!(CYCLE.plan_gap_s(&[], 1000.0), 43_200.0);
        // 480 Wh for 48 hours are 10 W: on half of the time, nearly.
        let gap = CYCLE.plan_gap_s(&[0.0; 48], 480.0);
        assert!((CYCLE.mean_w(gap) - 10.0).abs() < 1e-9, "{gap}");
    }

    proptest! {
        /// What is planned is had at the end of every hour, and nothing shorter would be.
        #[test]
        fn a_plan_is_kept_by_the_forecast_and_is_the_shortest(
            forecast in prop::collection::vec(0.0f64..60.0, 1..100),
            spare in 0.0f64..500.0,
        ) {
            let gap = CYCLE.plan_gap_s(&forecast, spare);
            let short_of = |gap: f64| {
                let mut left = spare;
                forecast.iter().map(|harvest| { left += harvest - CYCLE.mean_w(gap); left }).fold(f64::INFINITY, f64::min)
            };
            if gap < CYCLE.most_gap_s {
                prop_assert!(short_of(gap) >= -1e-6);
            }
            if gap > CYCLE.on_s * 1.001 {
                prop_assert!(short_of(gap * 0.999) < 1e-3 || gap >= CYCLE.most_gap_s * 0.999);
            }
        }
    }
}
