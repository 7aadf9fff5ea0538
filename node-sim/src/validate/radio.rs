//! The stations' links over the time that is looked at, and the base station's way to the farmhouse.

use super::{Axis, Check, Form, Plot, Scenario, Section, Series, Table};
use crate::radio::outage::{Fading, is_up};
use crate::radio::{Link, Lora, backhaul, lora};

/// Distances that are looked at, m.
const DISTANCES_M: [f64; 6] = [200.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0];
/// Bytes of a report: three samples of thirteen channels.
const REPORT_BYTES: u32 = 200;

pub(super) fn section(scenario: &Scenario) -> anyhow::Result<Section> {
    let mut weather = scenario.inputs.weather.clone();
    let modems = [7, 9, 12].map(|spreading| Lora { spreading, ..Lora::station() });
    let mut table = Table::new(
        "A report of 200 bytes by LoRa (915 MHz, 125 kHz, 14 dBm): hours in which it gets through, %",
        &["distance, m", "SF7", "SF9", "SF12", "mean RSSI, dBm", "white space, Mbit/s"],
    );
    let mut courses = vec![Vec::new(); modems.len()];
    let mut monotone = true;
    let hours = i64::from(scenario.days) * 24;
    for distance_m in DISTANCES_M {
        let link = Link { distance_m, ..Link::station() };
        let far = backhaul::fixed_device(distance_m);
        let mut fading = Fading::new(scenario.farm.seed, &format!("validate/{distance_m}"));
        let (mut up, mut rssi, mut rate) = ([0.0; 3], 0.0, 0.0);
        for hour in 0..hours {
            let time = scenario.start().plus_secs(3600 * hour + 1800);
            let (conditions, fading) = (weather.at(time), fading.at(time));
            for (up, modem) in up.iter_mut().zip(&modems) {
                *up += f64::from(u8::from(is_up(&link, modem, REPORT_BYTES, &conditions, fading)));
            }
            rssi += link.received_dbm(&conditions, fading);
            rate += backhaul::rate_bit_s(&far, &conditions, fading);
        }
        let n = hours as f64;
        let share = up.map(|up| 100.0 * up / n);
        monotone &= share.windows(2).all(|pair| pair[0] <= pair[1]);
        courses.iter_mut().zip(share).for_each(|(course, share)| course.push((distance_m / 1000.0, share)));
        table.row(format!("{distance_m:.0}"), 1, &[share[0], share[1], share[2], rssi / n, rate / n / 1e6]);
    }
    let mut air = Table::new("What that report costs", &["modem", "on air, s", "needs, dB", "energy, J"]);
    for modem in &modems {
        let on_air = modem.report(REPORT_BYTES, 100.0).air_s;
        let energy = crate::energy::Load::station().report_j(on_air);
        air.row(format!("SF{}", modem.spreading), 3, &[on_air, modem.needed_db(), energy]);
    }
    let known = Lora { spreading: 7, ..Lora::station() }.air_s(10 + lora::OVERHEAD) * 1000.0;
    let names = ["SF7", "SF9", "SF12"];
    Ok(Section {
        title: "Radio".to_owned(),
        text: "Links of stations in the field at several distances in the farm's weather: path loss by distance (exponent 2.7), plants \
               (Weissberger), rain (ITU-R P.838), wet leaves, slow fading of 5 dB that stays for hours, and fast fading by many paths."
            .to_owned(),
        plots: vec![Plot::new(
            "reach",
            "Hours in which a report gets through",
            Axis::numbers("distance, km"),
            Axis::from_to("%", 0.0, 105.0),
            names.into_iter().zip(courses).map(|(name, course)| Series::new(name, Form::Line, course)),
        )],
        tables: vec![table, air],
        checks: vec![
            Check::within("time on air of 10 bytes at SF7, ms (published: 61.7)", known, 61.6, 61.8),
            Check::new("a slower modem gets through more often at every distance", if monotone { "yes" } else { "no" }, "yes", monotone),
        ],
    })
}
