//! The Hampel filter: a reading that stands far from the median of its neighbours is an outlier.
//!
//! Hampel, "The influence curve and its role in robust estimation" (1974); Pearson et al., "Generalized Hampel filters",
//! EURASIP J. Adv. Signal Process. (2016). The window is *centred* on the reading, so that a step, as rain makes it in the
//! soil, passes: of the readings on the step's side there is always one more than on the other. What is alone for up to
//! [`HALF_WIDTH`] readings is an outlier.

/// Neighbours on each side. Seven readings tell a spike of up to three from a step.
pub const HALF_WIDTH: usize = 3;

/// Fewest neighbours on each side for a verdict; with fewer a step near a gap would look like a spike.
pub const FEWEST: usize = 2;

/// Standard deviations per median absolute deviation, of a normal distribution.
const SIGMA_PER_MAD: f64 = 1.4826;

/// Where a reading stands among its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It has too few neighbours to tell.
    Unknown,
    /// Within the floor of their median.
    Near,
    /// Away from their median, but so are others.
    Apart,
    /// An outlier.
    Outlier,
}

/// How far from the median of its neighbourhood a reading may stand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hampel {
    /// In robust standard deviations of the neighbourhood.
    pub sigmas: f64,
    /// But at least this far, in the quantity's unit: the spread of a flat or coarsely resolved signal is zero.
    pub floor: f64,
}

impl Hampel {
    /// What the reading in the middle of `neighbourhood`, which has an odd length, is among the others.
    #[must_use]
    pub fn place(&self, neighbourhood: &[f64]) -> Place {
        let width = neighbourhood.len();
        if !(2 * FEWEST + 1..=2 * HALF_WIDTH + 1).contains(&width) {
            return Place::Unknown;
        }
        let own = neighbourhood[width / 2];
        // Where most of them are within the floor of it, so is their median, and need not be found.
        if neighbourhood.iter().filter(|value| (*value - own).abs() <= self.floor).count() > width / 2 {
            return Place::Near;
        }
        let mut sorted = [0.0; 2 * HALF_WIDTH + 1];
        let sorted = &mut sorted[..width];
        sorted.copy_from_slice(neighbourhood);
        let middle = median(sorted);
        let distance = (own - middle).abs();
        if distance <= self.floor {
            return Place::Near;
        }
        for value in sorted.iter_mut() {
            *value = (*value - middle).abs();
        }
        if distance > self.sigmas * SIGMA_PER_MAD * median(sorted) { Place::Outlier } else { Place::Apart }
    }
}

/// The median of an odd number of values; sorts them.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILTER: Hampel = Hampel { sigmas: 6.0, floor: 0.03 };

    /// Which of `values` are outliers, each seen with its neighbours as the windows see them.
    fn outliers(values: &[f64]) -> Vec<usize> {
        (0..values.len())
            .filter(|&i| {
                let reach = i.min(values.len() - 1 - i).min(HALF_WIDTH);
                FILTER.place(&values[i - reach..=i + reach]) == Place::Outlier
            })
            .collect()
    }

    proptest! {
        #[test]
        fn near_is_what_stands_within_the_floor_of_the_median(steps in prop::collection::vec(-6_i8..6, 5..=7)) {
            // Two steps are the floor, to the last bit.
            let values: Vec<f64> = steps[..(steps.len() - 1) | 1].iter().map(|step| f64::from(*step) * FILTER.floor / 2.0).collect();
            let middle = median(&mut values.clone());
            let is_near = (values[values.len() / 2] - middle).abs() <= FILTER.floor;
            prop_assert_eq!(FILTER.place(&values) == Place::Near, is_near);
        }
    }

    #[test]
    fn spikes_of_up_to_three_readings_are_outliers() {
        assert_eq!(outliers(&[0.2, 0.2, 0.201, 0.2, 0.45, 0.2, 0.2, 0.201, 0.2]), [4]);
        assert_eq!(outliers(&[0.2, 0.2, 0.201, 0.2, 0.45, 0.44, 0.46, 0.2, 0.2, 0.201, 0.2]), [4, 5, 6]);
    }

    #[test]
    fn rain_is_no_spike() {
        let step = [0.2, 0.2, 0.2, 0.2, 0.38, 0.38, 0.375, 0.37, 0.37, 0.365];
        for cut in 1..=step.len() {
            assert!(outliers(&step[..cut]).is_empty(), "the first {cut} readings");
            assert!(outliers(&step[step.len() - cut..]).is_empty(), "the last {cut} readings");
        }
    }

    #[test]
    fn a_flat_signal_and_its_resolution_are_no_outliers() {
        assert!(outliers(&[0.2; 12]).is_empty());
        assert!(outliers(&[0.2, 0.2, 0.2, 0.2, 0.21, 0.2, 0.2, 0.2, 0.2]).is_empty());
    }

    #[test]
    fn nothing_is_said_with_too_few_neighbours() {
        assert_eq!(FILTER.place(&[0.2, 0.6, 0.2]), Place::Unknown);
        assert_eq!(FILTER.place(&[0.6]), Place::Unknown);
        assert_eq!(FILTER.place(&[0.2, 0.2, 0.6, 0.2, 0.2]), Place::Outlier);
        assert_eq!(FILTER.place(&[0.2, 0.6, 0.21, 0.6, 0.2]), Place::Near, "the neighbours are the outliers");
        assert_eq!(FILTER.place(&[0.1, 0.2, 0.35, 0.3, 0.4]), Place::Apart);
    }
}
