//! The network in a node's integers against the same computed plainly, and files that are not what they should be.

use firmware::model::{Fault, History, Layout, MAX_BYTES, Model, Verdict};
use proptest::prelude::*;

use crate::file::{Plain, any_model, with_crc};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_computes_what_its_definition_says(plain in any_model(), inputs in prop::collection::vec(-127i8..=127, 30)) {
        let bytes = plain.bytes();
        let model = Model::read(&bytes).unwrap();
        prop_assert_eq!(model.names().collect::<Vec<_>>(), plain.names.iter().map(String::as_str).collect::<Vec<_>>());
        let used = plain.names.len() * plain.steps;
        let mut input = [0; 256];
        input[..used].copy_from_slice(&inputs[..used]);
        prop_assert_eq!(&model.predict(&input)[..plain.names.len()], &plain.predict(&inputs[..used])[..]);
    }

    #[test]
    fn values_are_normalised_as_defined(plain in any_model(), value in -200f64..200.0) {
        let bytes = plain.bytes();
        let model = Model::read(&bytes).unwrap();
        for (channel, (centre, scale)) in plain.centres.iter().enumerate() {
            let expected = ((value - f64::from(*centre)) / f64::from(*scale) * 16.0).round().clamp(-127.0, 127.0);
            prop_assert_eq!(f64::from(model.normalise(channel, value)), expected);
        }
    }

    /// One bit that is wrong is seen, and no bytes at all are a crash.
    #[test]
    fn damage_is_seen(plain in any_model(), at in any::<prop::sample::Index>(), bit in 0u8..8, noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = plain.bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Layout::read(&bytes).is_err());
        // With a right checksum over it, it is a model or it is none.
        bytes.truncate(bytes.len() - 4);
        let _ = Layout::read(&with_crc(bytes));
        let mut random = b"TNM1".to_vec();
        random.extend(noise);
        let _ = Layout::read(&with_crc(random));
    }
}

#[test]
fn each_fault_has_its_name() {
    let plain = Plain::last_value("air", 7);
    let bytes = plain.bytes();
    assert_eq!(Layout::read(&bytes).map(|layout| layout.version()), Ok(7));
    assert_eq!(Layout::read(b"TNM"), Err(Fault::Magic));
    let mut other = bytes.clone();
    other[9] ^= 1;
    assert_eq!(Layout::read(&other), Err(Fault::Crc));
    let body = |bytes: &[u8]| bytes[..bytes.len() - 4].to_vec();
    let mut golden = body(&bytes);
    *golden.last_mut().unwrap() ^= 1;
    assert_eq!(Layout::read(&with_crc(golden)), Err(Fault::Golden));
    let mut long = body(&bytes);
    long.push(0);
    assert_eq!(Layout::read(&with_crc(long)), Err(Fault::Bounds));
    for wrong in [
        Plain { steps: 1, golden: vec![1], first: vec![vec![1], vec![1]], ..plain.clone() },
        Plain { names: vec!["Air".to_owned()], ..plain.clone() },
        Plain { names: vec![String::new()], ..plain.clone() },
        Plain { centres: vec![(20.0, 0.0)], ..plain.clone() },
        Plain { centres: vec![(f32::NAN, 1.0)], ..plain.clone() },
        Plain { first_multiplier: f32::INFINITY, ..plain.clone() },
        Plain { thresholds: vec![-1.0], ..plain.clone() },
    ] {
        // A step has no value before it: nothing can be foretold, so its golden output is left out.
        let bytes = if wrong.steps < 2 { with_crc([&b"TNM1"[..], &[1, 1, 2, 0]].concat()) } else { wrong.bytes() };
        assert_eq!(Layout::read(&bytes), Err(Fault::Bounds), "{wrong:?}");
    }
    let mut huge = plain.clone();
    huge.first_bias = vec![i32::MAX - 127 * 128, 0];
    assert_eq!(Layout::read(&huge.bytes()), Err(Fault::Bounds));
    let twice = Plain {
        names: vec!["air".to_owned(); 2],
        centres: vec![(0.0, 1.0); 2],
        first: vec![vec![0; 4]; 2],
        second: vec![vec![0; 2]; 2],
        second_bias: vec![0; 2],
        thresholds: vec![1.0; 2],
        golden: vec![0; 4],
        ..plain
    };
    assert_eq!(Layout::read(&twice.bytes()), Err(Fault::Bounds));
    assert!(bytes.len() < MAX_BYTES);
}

#[test]
fn the_unusual_is_said_once_there_is_something_before_it() {
    let bytes = Plain::last_value("air", 1).bytes();
    let model = Model::read(&bytes).unwrap();
    let mut history = History::new();
    let mut judge = |value: Option<f64>| history.judge(&model, |_| value);
    let usual = Some(Verdict { alert: false, saturated: false });
    assert_eq!(judge(Some(20.0)), None);
    // Half a unit is five degrees.
    assert_eq!(judge(Some(25.0)), usual);
    assert_eq!(judge(Some(31.0)), Some(Verdict { alert: true, saturated: false }));
    assert_eq!(judge(None), None);
    assert_eq!(judge(Some(500.0)), None);
    assert_eq!(judge(Some(500.0)), Some(Verdict { alert: false, saturated: true }));
}
