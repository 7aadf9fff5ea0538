//! TV white space: from the base station on the field to the farmhouse, a long link between tall antennas.

use super::Link;
use crate::weather::Conditions;

/// A fixed white-space device in the US: 4 W e.i.r.p. (36 dBm) in one television channel of 6 MHz (47 CFR 15.709), here at 600 MHz, with
/// antennas above the crop and a clear way.
#[must_use]
pub const fn fixed_device(distance_m: f64) -> Link {
    Link {
        distance_m,
        frequency_mhz: 600.0,
        sent_dbm: 36.0,
        gain_dbi: 6.0,
        exponent: 2.7,
        plants_m: 20.0,
        shadowing_db: 5.0,
        noise_figure_db: 6.0,
        bandwidth_hz: 6e6,
    }
}

/// What a link of that kind reaches of Shannon's bound, and the most bits a symbol (64-QAM at 5/6): usual figures for OFDM radios.
const OF_SHANNON: f64 = 0.6;
const MOST_BITS_HZ: f64 = 4.0;
/// Below this signal over noise nothing holds, dB.
const LEAST_SNR_DB: f64 = 1.0;

/// Rate, bit/s; zero when the link is out.
#[must_use]
pub fn rate_bit_s(link: &Link, conditions: &Conditions, fading: f64) -> f64 {
    let snr_db = link.snr_db(conditions, fading);
    if snr_db < LEAST_SNR_DB {
        return 0.0;
    }
    let bits = OF_SHANNON * (1.0 + 10f64.powf(snr_db / 10.0)).log2();
    link.bandwidth_hz * bits.min(MOST_BITS_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radio::tests::conditions;

    #[test]
    fn the_rate_falls_with_distance_until_the_link_is_out() {
        let rate = |km: f64| rate_bit_s(&fixed_device(km * 1000.0), &conditions(0.0), 0.0);
        assert_eq!(rate(0.5), 24e6);
        assert!(rate(2.0) >= rate(8.0) && rate(8.0) > 1e5, "{} {}", rate(2.0), rate(8.0));
        assert_eq!(rate(200.0), 0.0);
    }
}
