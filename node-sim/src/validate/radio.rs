//! The stations' links over the time that is looked at, and the base station's way to the farmhouse.

use super::{Axis, Check, Form, Plot, Scenario, Section, Series, Table};
use crate::energy::load::{Load, transmit_w};
use crate::radio::outage::{Fading, is_up};
use crate::radio::{Link, Lora, Plan, STATION_GAIN_DBI, backhaul, lora};

/// Distances that are looked at, m.
const DISTANCES_M: [f64; 6] = [200.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0];
/// Bytes of a report: three samples of thirteen channels. And of one that fits a packet of any modem.
const REPORT_BYTES: u32 = 200;
const SHORT_BYTES: u32 = 11;
/// Modems that are looked at: name, MHz, spreading factor.
const MODEMS: [(&str, f64, u32); 4] = [
    ("SF7, 915 MHz", 915.0, 7),
    ("SF9, 915 MHz", 915.0, 9),
    ("SF10, 915 MHz", 915.0, 10),
    ("SF12, 868 MHz", 868.1, 12),
];

pub(super) fn section(scenario: &Scenario) -> anyhow::Result<Section> {
    let mut weather = scenario.inputs.weather.clone();
    let modems = MODEMS.map(|(_, frequency_mhz, spreading)| {
        let lora = Lora { spreading, plan: Plan::of(frequency_mhz), ..Lora::station() };
        (lora, Link { frequency_mhz, ..Link::station() })
    });
    let names = MODEMS.map(|(name, ..)| name);
    let mut table = Table::new(
        "A report of 200 bytes by LoRa (125 kHz, 14 dBm): hours in which it gets through, %",
        &["distance, m", names[0], names[1], names[2], names[3], "mean RSSI, dBm", "white space, Mbit/s"],
    );
    let mut courses = vec![Vec::new(); modems.len()];
    let mut monotone = true;
    let hours = i64::from(scenario.days) * 24;
    for distance_m in DISTANCES_M {
        let far = backhaul::fixed_device(distance_m);
        let mut fading = Fading::new(scenario.farm.seed, &format!("validate/{distance_m}"));
        let (mut up, mut short, mut rssi, mut rate) = ([0.0; MODEMS.len()], [0.0; MODEMS.len()], 0.0, 0.0);
        for hour in 0..hours {
            let time = scenario.start().plus_secs(3600 * hour + 1800);
            let (conditions, fading) = (weather.at(time), fading.at(time));
            for (at, (modem, link)) in modems.iter().enumerate() {
                let link = Link { distance_m, ..*link };
                let arrives = |bytes| f64::from(u8::from(is_up(&link, modem, bytes, &conditions, fading)));
                up[at] += arrives(REPORT_BYTES);
                short[at] += arrives(SHORT_BYTES);
            }
            rssi += Link { distance_m, ..Link::station() }.received_dbm(&conditions, fading);
            rate += backhaul::rate_bit_s(&far, &conditions, fading);
        }
        let n = hours as f64;
        let share = up.map(|up| 100.0 * up / n);
        monotone &= short.windows(2).all(|pair| pair[0] <= pair[1]);
        courses.iter_mut().zip(share).for_each(|(course, share)| course.push((distance_m / 1000.0, share)));
        let cells = [share[0], share[1], share[2], share[3], rssi / n, rate / n / 1e6];
        table.row(format!("{distance_m:.0}"), 1, &cells);
    }
    let mut air = Table::new("What that report costs", &["modem", "packets", "on air, s", "needs, dB", "energy, J"]);
    let mut longest_s = 0.0f64;
    for (name, (modem, link)) in names.iter().zip(&modems) {
        let on_air = modem.report_air_s(REPORT_BYTES);
        let load = Load { transmit_w: transmit_w(link.sent_dbm - STATION_GAIN_DBI), ..Load::station() };
        let packets: Vec<u32> = modem.packets(REPORT_BYTES).collect();
        if modem.plan == Plan::Us915 {
            longest_s = packets.iter().map(|packet| modem.air_s(*packet)).fold(longest_s, f64::max);
        }
        let cells = [on_air, modem.needed_db(), load.report_j(on_air)].map(|value| format!("{value:.3}"));
        air.rows.push([(*name).to_owned(), packets.len().to_string()].into_iter().chain(cells).collect());
    }
    let known = Lora { spreading: 7, ..Lora::station() }.air_s(10 + lora::OVERHEAD) * 1000.0;
    Ok(Section {
        title: "Radio".to_owned(),
        text: "Links of stations in the field at several distances in the farm's weather: path loss by distance (exponent 2.7), plants \
               (Weissberger), rain (ITU-R P.838), wet leaves, slow fading of 5 dB that stays for hours, and fast fading by many paths. A \
               report goes in as many packets as LoRaWAN's regional parameters make of it: from 902 to 915 MHz at SF10 they have 11 bytes."
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
            Check::at_most("the longest packet at 902 to 915 MHz, s on air (allowed: 0.4)", longest_s, 0.4),
            Check::new(
                "a short packet gets through more often by a slower modem at every distance",
                if monotone { "yes" } else { "no" },
                "yes",
                monotone,
            ),
        ],
    })
}
