use proto::Timestamp;

use super::super::normals::tests::{FALLON, valley};
use super::super::report::{self, Day};
use super::*;

fn first_day() -> i64 {
    "2001-01-01T00:00:00Z".parse::<Timestamp>().unwrap().as_millis() / 86_400_000
}

/// Days of generated years by the whole-hour clock of Fallon.
fn days(seed: u64, years: usize) -> Vec<Day> {
    report::days(&valley(), &FALLON, seed, years)
}

#[test]
fn many_years_have_the_normals_that_they_were_generated_from() {
    let comparisons = report::against_normals(&valley(), &FALLON, 1, 40);
    let wrong: Vec<_> = comparisons.iter().filter(|comparison| !comparison.holds()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The sample is big enough for that to say something.
    let error = |what: &str| {
        comparisons.iter().filter(|c| c.what.starts_with(what)).map(|c| c.standard_error).fold(0.0, f64::max)
    };
    assert!(error("mean max") < 0.5 && error("wet days") < 0.5 && error("radiation") < 0.5 && error("rain") < 2.5);
}

/// A wetter and cloudier place south of the equator, with sunshine and humidity instead of radiation and dew points.
#[test]
fn a_rainy_place_in_the_south_has_its_normals_too() {
    let place = Place { latitude: -37.8, longitude: 145.0, elevation_m: 30.0 };
    let normals = Normals {
        max_c: [27.0, 27.0, 24.5, 20.5, 17.0, 14.5, 14.0, 15.0, 17.5, 20.0, 22.5, 25.0],
        min_c: [15.0, 15.5, 14.0, 11.0, 9.0, 7.0, 6.5, 7.0, 8.0, 9.5, 11.5, 13.0],
        rain_mm: [47.0, 48.0, 50.0, 57.0, 56.0, 50.0, 47.0, 50.0, 58.0, 66.0, 60.0, 60.0],
        wet_days: [8.3, 7.5, 9.3, 11.6, 14.0, 14.3, 15.0, 15.6, 14.7, 14.0, 11.7, 10.5],
        radiation_mj_m2_d: None,
        sunshine_h: Some([8.1, 7.7, 6.6, 5.2, 4.1, 3.5, 3.8, 4.6, 5.4, 6.1, 6.4, 7.1]),
        wind_m_s: [3.0; 12],
        dew_point_c: None,
        relative_humidity_pct: Some([62.0, 63.0, 65.0, 69.0, 75.0, 78.0, 76.0, 72.0, 68.0, 65.0, 63.0, 62.0]),
        ..valley()
    };
    assert_eq!(normals.problems(&place), []);
    let wrong: Vec<_> =
        report::against_normals(&normals, &place, 1, 20).into_iter().filter(|comparison| !comparison.holds()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn wet_days_follow_wet_days_and_are_cooler_and_darker() {
    let days = days(2, 15);
    let wet: Vec<bool> = days.iter().map(|day| day.is_wet()).collect();
    let share = |after: bool| {
        let followers: Vec<bool> = wet.windows(2).filter(|pair| pair[0] == after).map(|pair| pair[1]).collect();
        followers.iter().filter(|wet| **wet).count() as f64 / followers.len() as f64
    };
    // The persistence of a chain whose months differ is a little above that within each.
    let persistence = share(true) - share(false);
    assert!((0.2..0.33).contains(&persistence), "{persistence}");
    let summer: Vec<&Day> = days.iter().filter(|day| (4..6).contains(&day.month)).collect();
    let mean = |wet: bool, of: fn(&Day) -> f64| {
        let values: Vec<f64> = summer.iter().filter(|d| d.is_wet() == wet).map(|d| of(d)).collect();
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

#[test]
fn no_hour_is_brighter_than_a_clear_sky_and_a_days_sum_is_its_own() {
    let mut weather = Generated::new(&valley(), FALLON, 8);
    for day in first_day()..first_day() + 365 {
        let clearness = weather.numbers(day).clearness;
        let clear = super::super::diurnal::clear_sky_w_m2(&FALLON, day);
        let hours = weather.make_day(day);
        assert!(hours.iter().zip(clear).all(|(hour, clear)| hour.solar_radiation_w_m2 <= clear + 1e-9), "day {day}");
        let sum: f64 = hours.iter().map(|hour| hour.solar_radiation_w_m2).sum();
        let wanted = clearness * clear.iter().sum::<f64>();
        assert!((sum / wanted - 1.0).abs() < 0.01, "day {day}: {sum} for {wanted}");
    }
}
