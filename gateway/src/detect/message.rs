//! The one sentence of an alert.

use proto::{Channel, StationId, Timestamp};

use super::rules::Evidence;

/// What was seen on `channel`, as of `at`; in the past tense when it has `ended`.
pub fn sentence(
    station: &StationId,
    channel: Option<Channel>,
    evidence: &Evidence,
    score: f64,
    at: Timestamp,
    ended: bool,
) -> String {
    let what = channel.map_or_else(|| format!("Station {station}"), |c| capitalised(&c.label()));
    let value = |value: f64| channel.map_or_else(|| value.to_string(), |c| with_unit(c, value));
    let lasted = duration(at.millis_since(evidence.since()));
    match *evidence {
        Evidence::Stuck { value: stuck, .. } => {
            let verb = if ended { "was stuck" } else { "stuck" };
            format!("{what} {verb} at {} for {lasted}", value(stuck))
        }
        Evidence::Spike { value: peak, usual, .. } => {
            format!("{what} jumped to {} from {}, and back", value(peak), value(usual))
        }
        Evidence::Dropout { last, .. } => {
            let verb = if ended { "was missing" } else { "missing" };
            let last = last.map_or_else(String::new, |last| format!(", last {}", value(last)));
            format!("{what} {verb} for {lasted}{last}, while its station reports")
        }
        Evidence::Silent { .. } => {
            let verb = if ended { "was silent" } else { "silent" };
            format!("{what} {verb} for {lasted}")
        }
        Evidence::Anomaly { value: now, .. } => {
            let verb = if ended { "did not fit" } else { "does not fit" };
            let now = now.map_or_else(String::new, |now| format!(" at {}", value(now)));
            format!("{what}{now} {verb} what the station's other channels suggest ({score:.1} times the threshold)")
        }
    }
}

/// `0.241 m³/m³`
fn with_unit(channel: Channel, value: f64) -> String {
    let quantity = channel.quantity;
    format!("{value:.*} {}", usize::from(quantity.decimals()), quantity.symbol())
}

/// `5 h 40 min`
fn duration(millis: i64) -> String {
    let minutes = millis.max(0) / 60_000;
    match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use proto::Quantity;

    use super::*;

    #[test]
    fn an_alert_is_one_sentence_with_value_and_unit() {
        let station: StationId = "n7".parse().unwrap();
        let moisture = Some(Channel::at(Quantity::SoilMoisture, 20));
        let at = Timestamp::from_secs(1_000_000);
        let since = at.plus_secs(-(5 * 3600 + 40 * 60));
        let say = |channel, evidence, ended| sentence(&station, channel, &evidence, 2.04, at, ended);
        assert_eq!(
            say(moisture, Evidence::Stuck { value: 0.2411, since }, false),
            "Soil moisture 20 cm stuck at 0.241 m³/m³ for 5 h 40 min"
        );
        assert_eq!(
            say(moisture, Evidence::Dropout { last: Some(0.2), since }, true),
            "Soil moisture 20 cm was missing for 5 h 40 min, last 0.200 m³/m³, while its station reports"
        );
        let rssi = Some(Channel::of(Quantity::AirTemperature));
        assert_eq!(
            say(rssi, Evidence::Spike { value: 55.04, usual: 20.0, since }, false),
            "Air temperature jumped to 55.0 °C from 20.0 °C, and back"
        );
        assert_eq!(say(None, Evidence::Silent { since: at.plus_secs(-86_400) }, false), "Station n7 silent for 1 d");
        assert_eq!(
            say(moisture, Evidence::Anomaly { value: Some(0.3), since }, false),
            "Soil moisture 20 cm at 0.300 m³/m³ does not fit what the station's other channels suggest (2.0 times the threshold)"
        );
    }
}
