//! The ground of the fields: how it varies, and where the stations stand on it.

use super::{Axis, Check, Form, Plot, Scenario, Section, Series, Table};
use crate::config::Covered;
use crate::space::random_field::{RandomField, Smoothness};
use crate::space::{FieldSpace, Site, TextureField};

/// Lags of the variograms, as shares of the range.
const LAGS: [f64; 8] = [0.03, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5];
/// Points along each side of the sample's square, and their distance as a share of the range.
const SIDE: usize = 24;
const SPACING: f64 = 0.9;
/// Fields that are sampled: theory is about all of them.
const SAMPLES: u64 = 6;
/// How far a sample's variogram may be from the theory's. Six squares of 22 ranges hold some 1500 patches; 15 % is then three to four
/// standard errors at long lags.
const ALLOWED: f64 = 0.15;
/// Cells along the longer side of a map.
const CELLS: usize = 48;

pub(super) fn section(scenario: &Scenario) -> anyhow::Result<Section> {
    let names = scenario.farm.station_names();
    let mut section = Section {
        title: "Ground".to_owned(),
        text: "Sand and clay vary over the fields by a correlated random field with an exponential covariance and a nugget, height by a smooth one \
               (spectral method with stratified waves). The variograms of big samples are held against their theory. A station's site is what it has \
               under it. A field without a boundary is a square of its area, or of twelve hectares."
            .to_owned(),
        ..Section::default()
    };
    let mut table = Table::new(
        "Sites of the stations",
        &["station", "east, m", "north, m", "sand, %", "clay, %", "height, m", "slope, %", "aspect, °", "wetness"],
    );
    for (index, field) in scenario.farm.fields().iter().enumerate() {
        let Covered { space, sites } = &scenario.inputs.grounds[index];
        let stations = names.iter().filter(|(_, of)| *of == index).map(|(id, _)| id);
        for (id, site) in stations.zip(sites) {
            table.row(
                id.as_str(),
                1,
                &[
                    site.east_m,
                    site.north_m,
                    site.sand_pct,
                    site.clay_pct,
                    site.elevation_m,
                    100.0 * site.slope,
                    site.aspect_degrees,
                    space.wetness_index(site.east_m, site.north_m),
                ],
            );
        }
        section.plots.push(map(&format!("map-{index}"), &field.name, space, sites));
        if index == 0 {
            variogram(&mut section, field.variability.range_m, |seed| {
                let (sand, clay) = field.soil.sand_clay_pct();
                TextureField::new(seed, sand, clay, &field.variability)
            });
            near_and_far(&mut section, space);
        }
    }
    section.tables.push(table);
    relief(&mut section);
    Ok(section)
}

/// Half the mean squared difference at each lag, over pairs in four directions.
fn sampled(range_m: f64, at: impl Fn(f64, f64) -> f64) -> ([f64; LAGS.len()], f64) {
    let (mut squares, mut values) = ([0.0; LAGS.len()], Vec::with_capacity(SIDE * SIDE));
    for index in 0..SIDE * SIDE {
        let east = (index % SIDE) as f64 * SPACING * range_m;
        let north = (index / SIDE) as f64 * SPACING * range_m;
        let here = at(east, north);
        values.push(here);
        let angle = std::f64::consts::FRAC_PI_4 * (index % 4) as f64;
        for (square, lag) in squares.iter_mut().zip(LAGS) {
            let other = at(east + lag * range_m * angle.cos(), north + lag * range_m * angle.sin());
            *square += 0.5 * (other - here).powi(2) / (SIDE * SIDE) as f64;
        }
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (squares, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64)
}

/// Means of the samples of several fields, each over its variance.
fn mean_of(samples: impl Iterator<Item = ([f64; LAGS.len()], f64)>) -> [f64; LAGS.len()] {
    let mut mean = [0.0; LAGS.len()];
    for (squares, variance) in samples {
        for (sum, square) in mean.iter_mut().zip(squares) {
            *sum += square / variance / SAMPLES as f64;
        }
    }
    mean
}

fn compare(section: &mut Section, name: &str, title: &str, range_m: f64, found: &[f64], theory: &dyn Fn(f64) -> f64) {
    let metres = LAGS.map(|lag| lag * range_m);
    let fine = (1..=150).map(|step| f64::from(step) * 0.01 * range_m).map(|lag| (lag, theory(lag))).collect();
    section.plots.push(Plot::new(
        name,
        title,
        Axis::numbers("distance, m"),
        Axis::numbers("share of the variance"),
        [
            Series::new("theory", Form::Line, fine),
            Series::new("sample", Form::Points, metres.into_iter().zip(found.iter().copied()).collect()),
        ],
    ));
    let worst = metres.iter().zip(found).map(|(&lag, found)| (found / theory(lag) - 1.0).abs()).fold(0.0, f64::max);
    section.checks.push(Check::at_most(&format!("{title}: farthest from the theory, as a share"), worst, ALLOWED));
}

fn variogram(section: &mut Section, range_m: f64, texture: impl Fn(u64) -> TextureField) {
    let found = mean_of((0..SAMPLES).map(|seed| {
        let texture = texture(seed);
        sampled(range_m, |east, north| texture.at(east, north).0)
    }));
    let one = texture(0);
    compare(section, "variogram-sand", "Variogram of the sand content", range_m, &found, &|lag| one.variogram(lag));
}

fn relief(section: &mut Section) {
    const RANGE_M: f64 = 600.0;
    let field = |seed| RandomField::new(seed, "space/relief", Smoothness::Matern52, RANGE_M);
    let found = mean_of((0..SAMPLES).map(|seed| {
        let field = field(seed);
        sampled(RANGE_M, |east, north| field.at(east, north))
    }));
    let one = field(0);
    let theory = |lag: f64| 1.0 - one.correlation(lag);
    compare(section, "variogram-relief", "Variogram of the height", RANGE_M, &found, &theory);
}

/// How much two stations 10 m and 300 m apart differ.
fn near_and_far(section: &mut Section, space: &FieldSpace) {
    let sites = space.stations(200);
    let difference = |metres: f64| {
        let differences = sites.iter().enumerate().map(|(index, site)| {
            let (sin, cos) = (index as f64).sin_cos();
            let (sand, clay) = space.texture().at(site.east_m + metres * cos, site.north_m + metres * sin);
            (sand - site.sand_pct).abs() + (clay - site.clay_pct).abs()
        });
        differences.sum::<f64>() / sites.len().max(1) as f64
    };
    let (near, far) = (difference(10.0), difference(300.0));
    let mut table = Table::new("Mean difference of two places in sand and clay together", &["distance", "%"]);
    table.row("10 m", 2, &[near]);
    table.row("300 m", 2, &[far]);
    section.tables.push(table);
    section.checks.push(Check::at_most("difference at 10 m over that at 300 m", near / far, 0.8));
}

/// The sand content in classes over a field, with its boundary and its stations.
fn map(name: &str, field: &str, space: &FieldSpace, stations: &[Site]) -> Plot {
    let (low, high) = space.boundary().extent();
    let cell = (high[0] - low[0]).max(high[1] - low[1]) / CELLS as f64;
    let mut points = Vec::new();
    for row in 0..=CELLS {
        for column in 0..=CELLS {
            let (east, north) = (low[0] + cell * (column as f64 + 0.5), low[1] + cell * (row as f64 + 0.5));
            if space.boundary().contains(east, north) {
                points.push((east, north, space.texture().at(east, north).0));
            }
        }
    }
    let mut sands: Vec<f64> = points.iter().map(|point| point.2).collect();
    sands.sort_by(f64::total_cmp);
    let quantile = |share: f64| sands.get((share * sands.len() as f64) as usize).copied().unwrap_or(0.0);
    let limits = [f64::MIN, quantile(0.25), quantile(0.5), quantile(0.75), f64::MAX];
    let mut series: Vec<Series> = (0..4)
        .map(|class| {
            let (from, to) = (limits[class], limits[class + 1]);
            let inside = points.iter().filter(|point| (from..to).contains(&point.2)).map(|point| (point.0, point.1));
            let label = match class {
                0 => format!("sand below {to:.0} %"),
                3 => format!("above {from:.0} %"),
                _ => format!("{from:.0} to {to:.0} %"),
            };
            Series::new(&label, Form::Points, inside.collect())
        })
        .collect();
    // A line that is not finite in between keeps the rings apart.
    let rings = space.boundary().rings().flat_map(|ring| ring.into_iter().chain([(f64::NAN, f64::NAN)]));
    series.push(Series::new("boundary", Form::Line, rings.collect()));
    series.push(Series::new(
        "stations",
        Form::Points,
        stations.iter().map(|site| (site.east_m, site.north_m)).collect(),
    ));
    Plot::new(
        name,
        &format!("{field}: sand content and stations"),
        Axis::numbers("east of the gateway, m"),
        Axis::numbers("north of the gateway, m"),
        series,
    )
}
