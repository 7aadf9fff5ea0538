//! Records that wait for the cloud: one of each kind but a window, of which a test changes what it is about.

use proto::decision::{Cause, Inputs};
use proto::{Alert, AlertKind, Birth, Decision, StationBirth, Timestamp};

/// A station that fell silent then.
pub fn alert(number: i64, opened: Timestamp) -> Alert {
    Alert {
        id: format!("n1/-/silent/{number:06}"),
        station: "n1".parse().unwrap(),
        channel: None,
        kind: AlertKind::Silent,
        opened,
        updated: opened,
        closed: None,
        score: 2.0,
        threshold: 1.0,
        value: None,
        drivers: Vec::new(),
        model: None,
        revision: 0,
        message: "nothing was heard for two hours".to_owned(),
    }
}

/// A decision that was due then and asks for nothing.
pub fn decision(field: &str, at: Timestamp) -> Decision {
    let field = field.parse().unwrap();
    Decision {
        id: Decision::id_of(&field, at),
        field,
        at,
        cause: Cause::Moist,
        run: None,
        reason: "there is water enough".to_owned(),
        inputs: Inputs::default(),
        stations: Vec::new(),
        confirmed: Vec::new(),
    }
}

/// The birth that a station sent then.
pub fn birth(station: &str, at: Timestamp) -> StationBirth {
    let birth = Birth {
        boot: 1,
        firmware: "test 1.0.0".to_owned(),
        interval_s: 300,
        report_s: 900,
        channels: Vec::new(),
        field: None,
        latitude: None,
        longitude: None,
    };
    StationBirth { station: station.parse().unwrap(), at, birth }
}
