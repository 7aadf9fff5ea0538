//! The weather of the configured farm, month by month.

mod generated;
mod measured;

use jiff::tz::TimeZone;
use proto::Timestamp;

use super::{Axis, Check, Form, Plot, Scenario, Section, Series, Table};

/// A month's sums and counts over its hours.
#[derive(Debug, Clone, Copy, Default)]
struct Month {
    hours: f64,
    air_c: f64,
    wind_m_s: f64,
    radiation_w_m2: f64,
    rain_mm: f64,
    et0_mm: f64,
}

pub(super) fn section(scenario: &Scenario) -> anyhow::Result<Section> {
    let mut weather = scenario.inputs.weather.clone();
    let place = *weather.place();
    let mut months = [Month::default(); 12];
    let (mut dew_above_c, mut brightest) = (f64::MIN, 0.0f64);
    for hour in 0..i64::from(scenario.days) * 24 {
        let start = scenario.start().plus_secs(3600 * hour);
        let conditions = weather.at(start.plus_secs(1800));
        let month = &mut months[month_of(start.plus_millis((place.longitude / 15.0 * 3_600_000.0) as i64))];
        month.hours += 1.0;
        month.air_c += conditions.air_temperature_c;
        month.wind_m_s += conditions.wind_speed_m_s;
        month.radiation_w_m2 += conditions.solar_radiation_w_m2;
        month.rain_mm += weather.rain_mm(start, start.plus_secs(3600));
        month.et0_mm += conditions.et0_mm_h;
        dew_above_c = dew_above_c.max(conditions.dew_point_c - conditions.air_temperature_c);
        brightest = brightest.max(conditions.solar_radiation_w_m2 - 1.1 * conditions.clear_sky_w_m2);
    }
    let header = ["month", "air, °C", "wind, m/s", "radiation, MJ/(m² d)", "rain, mm", "ET0, mm/d"];
    let mut table = Table::new("Means and sums by month", &header);
    let axis = Axis::months();
    let (mut air, mut rain) = (Vec::new(), Vec::new());
    for (month, name) in months.iter().zip(&axis.names) {
        let hours = month.hours;
        let row = [
            month.air_c / hours,
            month.wind_m_s / hours,
            month.radiation_w_m2 / hours * 0.0864,
            month.rain_mm,
            month.et0_mm / hours * 24.0,
        ];
        if hours > 0.0 {
            table.row(name, 2, &row);
        }
        air.push(row[0]);
        rain.push(month.rain_mm);
    }
    let series = Series::over_names("air temperature", Form::Line, &air);
    let warmth = Plot::new("temperature", "Mean air temperature", axis.clone(), Axis::numbers("°C"), [series]);
    let series = Series::over_names("rain", Form::Bars, &rain);
    let mut section = Section {
        title: "Weather".to_owned(),
        text: "What falls on the configured farm, hour by hour over the time that is looked at.".to_owned(),
        tables: vec![table],
        plots: vec![warmth, Plot::new("rain", "Rain", axis, Axis::numbers("mm"), [series])],
        checks: vec![
            Check::at_most("dew point above air temperature, °C", dew_above_c, 0.0),
            Check::at_most("radiation above 1.1 times the clear sky's, W/m²", brightest, 100.0),
        ],
    };
    generated::add(&mut section, scenario);
    measured::add(&mut section, scenario);
    Ok(section)
}

/// The month of a time, January 0.
fn month_of(time: Timestamp) -> usize {
    time.to_jiff().to_zoned_datetime(TimeZone::UTC).month().unsigned_abs() as usize - 1
}
