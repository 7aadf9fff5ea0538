//! Files that are not what they should be.

use proptest::prelude::{ProptestConfig, any, proptest};

use crate::hostile::{LIMITS, files};
use crate::onnx::{MEAN, Onnx, manifest};
use crate::{assert_all_refused, assert_refused, verify};

#[test]
fn bytes_that_are_no_model() {
    assert_all_refused(&files::no_models());
}

#[test]
fn another_file_than_the_manifest_describes() {
    assert_refused(&files::another_file());
}

#[test]
fn a_file_that_is_too_large() {
    assert_refused(&files::larger_than_promised());
    assert_refused(&files::larger_than_any());
}

#[test]
fn a_manifest_with_mistakes() {
    assert_refused(&files::mistakes());
}

#[test]
fn data_outside_the_file() {
    assert_refused(&files::external_data());
}

#[test]
fn a_tensor_that_is_larger_than_its_data() {
    assert_all_refused(&files::larger_than_their_data());
}

#[test]
fn a_model_that_is_allowed_no_memory() {
    assert_refused(&files::no_memory());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_is_refused_or_runs(damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        let mut bytes = Onnx::mean(1.0).bytes();
        for (place, byte) in damage {
            let place = place % bytes.len();
            bytes[place] = byte;
        }
        if let Err(error) = verify(&bytes, &manifest("1.0.0", &bytes, &MEAN), &LIMITS) {
            assert!(!error.passes() && !error.to_string().is_empty());
        }
    }
}
