//! What comes back from the disk, which may be another thing than was written.

use proto::{Record, Timestamp};

use super::{NOW, readings, sources};
use crate::config::WindowsConfig;
use crate::decide::{Decider, FieldConfig};
use crate::detect::station::Station;
use crate::ingest::{Content, replay};
use crate::store::rows::RawRow;
use crate::validate::Limits;
use crate::window::Windows;

/// A row of the raw store. The first byte is 0 when the rest is the row's body as it lies on disk; else what is compressed
/// in it. Then the two bytes before say which byte of the row flips, the first byte how: a flipped row is never read.
pub fn raw_row(bytes: &[u8]) {
    let Some((flip, rest)) = bytes.split_first() else { return };
    if *flip == 0 {
        return row(rest.to_vec()).messages().map_or((), |messages| messages.iter().for_each(said));
    }
    let [low, high, commit @ ..] = rest else { return };
    let Ok(body) = zstd::bulk::compress(commit, 1) else { return };
    let mut row = row(body);
    if let Ok(messages) = row.messages() {
        messages.iter().for_each(said);
    }
    let at = usize::from(u16::from_le_bytes([*low, *high]));
    let number = |value: i64| value ^ (i64::from(*flip) << (8 * (at % 8)));
    match at / 8 {
        0 => row.id = number(row.id),
        1 => row.at = number(row.at),
        2 => row.first = row.first.map(number),
        3 => row.last = row.last.map(number),
        4 => row.count = number(row.count),
        5 => row.sum = row.sum.map(number),
        // Another letter.
        6 => row.stations = row.stations.replacen('n', char::from(flip & 0x3f).encode_utf8(&mut [0; 4]), 1),
        _ => {
            let at = at % row.body.len().max(1);
            row.body.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= flip);
        }
    }
    assert!(row.messages().is_err(), "byte {at} of the row flips by {flip:#x}, and nobody sees it");
}

/// A row with the check sum that it should have.
fn row(body: Vec<u8>) -> RawRow {
    let now = NOW.as_millis();
    let mut row = RawRow {
        id: 7,
        at: now,
        first: Some(now - 900_000),
        last: Some(now),
        stations: "n1 n2".to_owned(),
        count: 2,
        body,
        sum: None,
    };
    row.sum = Some(row.expected().value());
    row
}

fn said(message: &crate::store::RawMessage) {
    if let Some((item, _)) = replay::item(message)
        && let Content::Batch(_, all) | Content::Plain(all) = &item.content
    {
        readings(all);
    }
}

/// What parts of the gateway have again after a restart; the first byte says which.
pub fn kept_state(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else { return };
    let id = "n1".parse().unwrap_or_else(|_| unreachable!("n1 is a name"));
    match kind % 8 {
        0 => {
            let mut windows = windows();
            if windows.restore_belief(&id, body).is_ok() {
                let kept = windows.belief(&id).unwrap_or_default();
                let mut again = self::windows();
                assert!(again.restore_belief(&id, &kept).is_ok() && again.belief(&id) == Some(kept));
            }
        }
        1 => carried(body),
        2 => carried(&zstd::bulk::compress(body, 1).unwrap_or_default()),
        3 => {
            if let Ok(station) = Station::of_state(body, 96) {
                let kept = station.state();
                assert!(Station::of_state(&kept, 96).is_ok_and(|again| again.state() == kept));
            }
        }
        4 => {
            let field = field();
            let mut decider = Decider::new(std::slice::from_ref(&field));
            if decider.remember(&field.name, body).is_ok() {
                let _ = (decider.standing(), decider.orders(NOW).count());
            }
        }
        5 => {
            if let Ok(record) = Record::decode(body) {
                let kept = record.encode();
                assert_eq!(Record::decode(&kept).map(|again| again.encode()), Ok(kept));
            }
        }
        kind => {
            let (name, topic, payload): (&str, &str, &[u8]) = if kind == 6 {
                ("sparkplug", "spBv1.0/g/NDATA/e", b"\x18\x01")
            } else {
                ("senml", "p/n7", b"[{\"n\":\"rain\",\"v\":7}]")
            };
            let text = format!(
                "[[source]]\nkind = {name:?}\nchannels = [{{ name = \"*\", channel = \"rain\", counter = {} }}]\n{}",
                kind == 7,
                if kind == 7 { "topics = [\"p/{station}\"]" } else { "" }
            );
            let at = body.iter().position(|byte| *byte == b'\n').unwrap_or(body.len());
            let mut sources = sources(&text);
            sources.restore(name, &String::from_utf8_lossy(&body[..at]), body.get(at + 1..).unwrap_or_default());
            super::decode(&mut sources, topic, payload);
            let _ = sources.announcements(NOW);
        }
    }
}

fn windows() -> Windows {
    Windows::new(WindowsConfig::default().shape(), Limits::of).heeding_order()
}

/// What is carried of a station is read, or refused; its windows close either way.
fn carried(blob: &[u8]) {
    let id = "n1".parse().unwrap_or_else(|_| unreachable!("n1 is a name"));
    let mut windows = windows();
    if windows.restore_carried(&id, blob).is_err() {
        return;
    }
    windows.resume(NOW);
    for closed in windows.close_idle(Timestamp::MAX, 0) {
        let record = Record::Window(closed.window);
        assert_eq!(Record::decode(&record.encode()).as_ref(), Ok(&record), "the cloud would refuse it");
    }
}

fn field() -> FieldConfig {
    let text = "name = \"f1\"\nstations = [\"n1\"]\nvalves = [\"n1\"]\ncrop = \"maize\"\nsoil = \"loam\"\n\
                [irrigation]\nkind = \"drip\"\napplication_mm_per_h = 2.0\nmax_minutes = 240";
    toml::from_str(text).unwrap_or_else(|error| unreachable!("{error}"))
}
