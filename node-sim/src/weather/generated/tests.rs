use proto::Timestamp;

use super::super::normals::{
    DAYS,
    tests::{FALLON, valley},
};
use super::*;

const YEARS: usize = 40;

/// What a day was, by its hours.
#[derive(Debug, Clone, Copy)]
struct Day {
    year: usize,
    month: usize,
    max_c: f64,
    min_c: f64,
    rain_mm: f64,
    radiation_mj_m2: f64,
    wind_m_s: f64,
    dew_point_c: f64,
}

fn first_day() -> i64 {
    "2001-01-01T00:00:00Z".parse::<Timestamp>().unwrap().as_millis() / 86_400_000
}

/// Days of generated years by the whole-hour clock of Fallon.
fn days(seed: u64, years: usize) -> Vec<Day> {
    let mut weather = Generated::new(&valley(), FALLON, seed);
    let first = first_day();
    (0..(365.2425 * years as f64) as i64)
        .map(|index| {
            let number = first + index;
            let hours: Vec<Hour> = (0..24).map(|hour| weather.hour(24 * number + hour - FALLON.zone_h())).collect();
            let mean = |of: fn(&Hour) -> f64| hours.iter().map(of).sum::<f64>() / 24.0;
            Day {
                year: (index as f64 / 365.2425) as usize,
                month: month_of(number).0,
                max_c: hours.iter().map(|h| h.air_temperature_c).fold(f64::MIN, f64::max),
                min_c: hours.iter().map(|h| h.air_temperature_c).fold(f64::MAX, f64::min),
                rain_mm: hours.iter().map(|h| h.rain_mm).sum(),
                radiation_mj_m2: mean(|h| h.solar_radiation_w_m2) * 0.0864,
                wind_m_s: mean(|h| h.wind_speed_m_s),
                dew_point_c: mean(|h| h.dew_point_c),
            }
        })
        .collect()
}

/// Mean over the years of a month's mean (or sum), and its standard error by the spread between the years.
fn month_of_years(days: &[Day], month: usize, sum: bool, of: fn(&Day) -> f64) -> (f64, f64) {
    let years: Vec<f64> = (0..YEARS)
        .filter_map(|year| {
            let of_year: Vec<f64> = days.iter().filter(|d| d.year == year && d.month == month).map(of).collect();
            let all: f64 = of_year.iter().sum();
            (of_year.len() >= 28)
                .then(|| if sum { all * DAYS[month] / of_year.len() as f64 } else { all / of_year.len() as f64 })
        })
        .collect();
    let n = years.len() as f64;
    let mean = years.iter().sum::<f64>() / n;
    let variance = years.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}

#[test]
fn many_years_have_the_normals_that_they_were_generated_from() {
    let (normals, days) = (valley(), days(1, YEARS));
    let mut wrong = Vec::new();
    for month in 0..12 {
        let mut compare = |what: &str, wanted: f64, bias: f64, sum: bool, of: fn(&Day) -> f64| {
            let (found, error) = month_of_years(&days, month, sum, of);
            // Four standard errors of the sample, and what the method itself may be off.
            if (found - wanted).abs() > 4.0 * error + bias {
                wrong.push(format!("{what} of month {month}: {found:.3} for {wanted:.3}, standard error {error:.3}"));
            }
        };
        compare("max", normals.max_c[month], 0.25, false, |d| d.max_c);
        compare("min", normals.min_c[month], 0.25, false, |d| d.min_c);
        compare("rain", normals.rain_mm[month], 0.1, true, |d| d.rain_mm);
        compare("wet days", normals.wet_days[month], 0.02, true, |d| f64::from(u8::from(d.rain_mm > 0.05)));
        compare("radiation", normals.radiation(&FALLON)[month], 0.15, false, |d| d.radiation_mj_m2);
        compare("wind", normals.wind_m_s[month], 0.03, false, |d| d.wind_m_s);
        compare("dew point", normals.dew_point()[month], 0.4, false, |d| d.dew_point_c);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn wet_days_follow_wet_days_and_are_cooler_and_darker() {
    let days = days(2, 15);
    let wet: Vec<bool> = days.iter().map(|day| day.rain_mm > 0.05).collect();
    let share = |after: bool| {
        let followers: Vec<bool> = wet.windows(2).filter(|pair| pair[0] == after).map(|pair| pair[1]).collect();
        followers.iter().filter(|wet| **wet).count() as f64 / followers.len() as f64
    };
    // The persistence of a chain whose months differ is a little above that within each.
    let persistence = share(true) - share(false);
    assert!((0.2..0.33).contains(&persistence), "{persistence}");
    let summer: Vec<&Day> = days.iter().filter(|day| (4..6).contains(&day.month)).collect();
    let mean = |wet: bool, of: fn(&Day) -> f64| {
        let values: Vec<f64> = summer.iter().filter(|d| (d.rain_mm > 0.05) == wet).map(|d| of(d)).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    assert!(mean(true, |d| d.radiation_mj_m2) < 0.7 * mean(false, |d| d.radiation_mj_m2));
    let cooler = mean(false, |d| d.max_c) - mean(true, |d| d.max_c);
    assert!((1.5..5.0).contains(&cooler), "{cooler}");
}

#[test]
fn residuals_have_richardsons_correlations_on_a_day_and_from_day_to_day() {
    let mut weather = Generated::new(&valley(), FALLON, 3);
    let residuals: Vec<[f64; 3]> = (0..6000).map(|day| weather.residuals(day).0).collect();
    let correlation = |i: usize, j: usize, lag: usize| {
        residuals.iter().skip(lag).zip(&residuals).map(|(now, before)| now[i] * before[j]).sum::<f64>()
            / (residuals.len() - lag) as f64
    };
    // Richardson (1982), means over 31 stations. The standard error of 6000 days is some 0.02.
    for (i, j, lag, published) in [
        (0, 0, 0, 1.0),
        (0, 1, 0, 0.633),
        (0, 2, 0, 0.186),
        (1, 2, 0, -0.193),
        (0, 0, 1, 0.621),
        (1, 1, 1, 0.674),
        (2, 2, 1, 0.251),
        (1, 0, 1, 0.563),
        (0, 1, 1, 0.445),
    ] {
        let found = correlation(i, j, lag);
        assert!((found - published).abs() < 0.07, "{i} {j} at lag {lag}: {found} for {published}");
    }
    let m = stationary();
    assert!(
        (m[0][1] - 0.633).abs() < 0.002 && (m[2][0] - 0.186).abs() < 0.002 && (m[0][0] - 1.0).abs() < 0.002,
        "{m:?}"
    );
}

#[test]
fn a_days_highs_are_like_those_of_the_day_before() {
    let days = days(4, 12);
    let normals = valley();
    let course = super::super::normals::Course::through(&normals.max_c);
    let first = first_day();
    let rest: Vec<f64> = days
        .iter()
        .enumerate()
        .map(|(index, day)| {
            let (month, share) = month_of(first + index as i64);
            day.max_c - course.at(month, share)
        })
        .collect();
    let variance: f64 = rest.iter().map(|r| r * r).sum();
    let lagged: f64 = rest.windows(2).map(|pair| pair[0] * pair[1]).sum();
    // 0.62 by the residuals, less a little for the days that wet ones cool.
    assert!((0.5..0.7).contains(&(lagged / variance)), "{}", lagged / variance);
    let sd = (variance / rest.len() as f64).sqrt();
    assert!((4.0..5.2).contains(&sd), "{sd}");
}

#[test]
fn an_hour_is_the_same_whenever_it_is_asked_for() {
    let mut forward = Generated::new(&valley(), FALLON, 5);
    let first = first_day() * 24;
    let hours: Vec<Hour> = (0..24 * 40).map(|hour| forward.hour(first + hour)).collect();
    let mut other = Generated::new(&valley(), FALLON, 5);
    for at in [900, 12, 400, 13, 899, 0] {
        assert_eq!(other.hour(first + at), hours[at as usize]);
    }
    assert_ne!(Generated::new(&valley(), FALLON, 6).hour(first + 36), hours[36]);
    assert!(
        hours
            .iter()
            .all(|h| h.dew_point_c <= h.air_temperature_c && h.wind_speed_m_s >= 0.0 && h.solar_radiation_w_m2 >= 0.0)
    );
}

#[test]
fn when_a_front_passes_the_wind_rises_and_it_becomes_colder() {
    let mut weather = Generated::new(&valley(), FALLON, 7);
    let (mut colder_c, mut windier, mut fronts) = (0.0, 0.0, 0.0);
    for day in first_day()..first_day() + 365 * 6 {
        let Some(front) = weather.front_h(day) else { continue };
        let mut at = |after: i64| weather.hour(24 * day + front as i64 + after - FALLON.zone_h());
        colder_c += (2..5).map(|h| at(-h).air_temperature_c - at(h).air_temperature_c).sum::<f64>() / 3.0;
        // A day away it is the same time of day.
        windier += 2.0 * at(0).wind_speed_m_s / (at(-24).wind_speed_m_s + at(24).wind_speed_m_s);
        let rain: f64 = (0..3).map(|h| at(h).rain_mm).sum();
        fronts += 1.0;
        assert!(rain > 0.0 || front > 21.0, "the first shower comes with the front on day {day}");
    }
    assert!(fronts > 100.0, "{fronts}");
    // By the front itself 2 x 2.5 exp(-1/2) = 3 Cel, of which the day's extremes cut something.
    assert!(colder_c / fronts > 1.2, "{}", colder_c / fronts);
    assert!(windier / fronts > 1.6, "{}", windier / fronts);
}
