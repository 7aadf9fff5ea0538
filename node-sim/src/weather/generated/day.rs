//! The hours of a generated day.

use super::super::Hour;
use super::super::diurnal::{self, Extremes, SHOWER_LIGHT};
use super::{Generated, Numbers, month_of};

/// How much the wind rises when a front passes (as a share of what it is), and how long before and after it is felt, h. Assumptions, like the
/// others here.
const FRONT_WIND: f64 = 1.2;
const FRONT_WIND_H: f64 = 4.0;
/// How much warmer it is just before and colder just after, Cel, and how fast that comes and goes, h.
const FRONT_WARMTH_C: f64 = 2.5;
const FRONT_WARMTH_H: f64 = 6.0;
/// Gusts within the hours: standard deviation of the wind's logarithm.
const GUST_SD: f64 = 0.2;
/// How much passing clouds change an hour's light when half the sky's light is gone, and how an hour's clouds are like those before.
const CLOUD_SD: f64 = 0.5;
const CLOUD_PERSISTENCE: f64 = 0.6;

impl Generated {
    /// The hours of a day since 1970 by the place's whole-hour clock.
    pub(super) fn make_day(&mut self, day: i64) -> [Hour; 24] {
        let [before, today, next] = [day - 1, day, day + 1].map(|number| self.numbers(number));
        let month = self.months[month_of(day).0];
        let place = self.place;
        let fronts =
            [day - 1, day, day + 1].map(|number| self.front_h(number).map(|hour| hour + 24.0 * (number - day) as f64));
        let rain = if today.wet {
            let total_mm = month.rain_least_mm + month.rain_scale_mm * self.rain.at(2 * day).gamma(month.rain_shape);
            let mut draw = self.rain.at(2 * day + 1);
            // The front's hour is this position's first number.
            draw.uniform();
            diurnal::showers(total_mm, fronts[1], &mut draw)
        } else {
            [0.0; 24]
        };
        let clear = diurnal::clear_sky_w_m2(&place, day);
        let daylight_h = diurnal::day_length_h(&place, day);
        let extremes = |day: &Numbers| Extremes { min_c: day.min_c, max_c: day.max_c };
        let mut draw = self.clouds.at(day);
        let mut cloud = draw.normal();
        let light: [f64; 24] = std::array::from_fn(|hour| {
            let fresh = draw.normal();
            if hour > 0 {
                cloud = CLOUD_PERSISTENCE * cloud + (1.0 - CLOUD_PERSISTENCE * CLOUD_PERSISTENCE).sqrt() * fresh;
            }
            let passing = 1.0 + 2.0 * CLOUD_SD * (1.0 - today.clearness) * cloud.clamp(-1.8, 1.8);
            clear[hour] * passing.max(0.1) * if rain[hour] > 0.0 { SHOWER_LIGHT } else { 1.0 }
        });
        let radiation = with_sum(&light, &clear, today.clearness);
        // What fronts add to the wind on the mean is taken from it beforehand: the integral of exp(-(t/h)²) is h √π.
        let front_mean = 1.0 + FRONT_WIND * month.front_share * FRONT_WIND_H * std::f64::consts::PI.sqrt() / 24.0;
        std::array::from_fn(|hour| {
            let solar = diurnal::solar_hour(&place, hour);
            let calm_c =
                diurnal::temperature_c(solar, daylight_h, extremes(&before), extremes(&today), extremes(&next));
            let (mut wind, mut warmth_c) = (1.0, 0.0);
            for front in fronts.iter().flatten() {
                let after = hour as f64 + 0.5 - front;
                wind += FRONT_WIND * (-(after / FRONT_WIND_H).powi(2)).exp();
                warmth_c -= FRONT_WARMTH_C * after.signum() * (-after.abs() / FRONT_WARMTH_H).exp();
            }
            // The day's own extremes stay what they are.
            let air_temperature_c = (calm_c + warmth_c).clamp(calm_c.min(today.min_c), calm_c.max(today.max_c));
            let (other, share) = if hour < 12 { (&before, 11.5 - hour as f64) } else { (&next, hour as f64 - 11.5) };
            let dew_point = today.dew_point_c + (other.dew_point_c - today.dew_point_c) * share / 24.0;
            let gust = (GUST_SD * draw.normal() - 0.5 * GUST_SD * GUST_SD).exp();
            Hour {
                air_temperature_c,
                dew_point_c: dew_point.min(air_temperature_c),
                wind_speed_m_s: today.wind_m_s * diurnal::wind_share(solar) * wind / front_mean * gust,
                solar_radiation_w_m2: radiation[hour],
                rain_mm: rain[hour],
            }
        })
    }

    /// When a front passes on a day, h: where a wet spell begins.
    pub(super) fn front_h(&mut self, day: i64) -> Option<f64> {
        let begins = self.numbers(day).wet && !self.is_wet(day - 1);
        begins.then(|| 24.0 * self.rain.at(2 * day + 1).uniform())
    }
}

/// Hours in proportion to `light`, none above the clear sky's, whose sum is this share (below 1) of the clear sky's.
fn with_sum(light: &[f64; 24], clear: &[f64; 24], share: f64) -> [f64; 24] {
    let wanted = share * clear.iter().sum::<f64>();
    let mut hours = *light;
    // What is cut from bright hours goes to the others.
    for _ in 0..30 {
        let sum: f64 = hours.iter().sum();
        if sum <= 0.0 || (sum / wanted - 1.0).abs() < 1e-9 {
            break;
        }
        hours = std::array::from_fn(|hour| (hours[hour] * wanted / sum).min(clear[hour]));
    }
    hours
}
