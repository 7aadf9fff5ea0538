//! Files that are not what they should be.

use gateway::model::Runner;
use proptest::prelude::{ProptestConfig, any, proptest};
use proto::Timestamp;
use proto::update::Reason;
use tract_onnx::pb::StringStringEntryProto;

use crate::onnx::{MEAN, Onnx, manifest};
use crate::{LIMITS, assert_refused, program, verify};

#[test]
fn bytes_that_are_no_model() {
    let whole = Onnx::mean(1.0).bytes();
    let cases = [vec![], vec![0xff; 100], b"\x08\x08".to_vec(), whole[..whole.len() / 2].to_vec(), vec![0; 5_000]];
    for bytes in cases {
        let error = verify(&bytes, &manifest("1.0.0", &bytes, &MEAN), &LIMITS).unwrap_err();
        println!("{}: {error}", error.reason());
        assert_eq!(error.reason(), Reason::Unsupported);
        assert!(error.to_string().contains(&format!("{} bytes is no ONNX model", bytes.len())), "{error}");
    }
}

#[test]
fn another_file_than_the_manifest_describes() {
    let bytes = Onnx::mean(2.0).bytes();
    let error = verify(&bytes, &manifest("1.0.0", b"another", &MEAN), &LIMITS).unwrap_err();
    assert_eq!(error.reason(), Reason::Digest);
    assert!(error.to_string().starts_with("the sha256 of model.onnx is "), "{error}");
}

#[test]
fn a_file_that_is_too_large() {
    let bytes = Onnx::mean(1.0).bytes();
    let mut small = manifest("1.0.0", &bytes, &MEAN);
    small.limits.max_bytes = 100;
    let error = verify(&bytes, &small, &LIMITS).unwrap_err();
    assert_eq!(error.reason(), Reason::TooLarge);
    let large = vec![0; (16 << 20) + 1];
    let error = verify(&large, &manifest("1.0.0", &large, &MEAN), &LIMITS).unwrap_err();
    assert_eq!(error.to_string(), "model.onnx has 16,777,217 bytes, more than the 16,777,216 that any model may have");
}

#[test]
fn a_manifest_with_mistakes() {
    let bytes = Onnx::mean(1.0).bytes();
    let text = manifest("one", &bytes, &[0.25]).to_toml().unwrap();
    let error = Runner::verify(&program(), &bytes, &text, &LIMITS, Timestamp::from_secs(0)).unwrap_err();
    assert_eq!(error.reason(), Reason::Manifest);
    assert!(error.to_string().contains("version: \"one\" is not three numbers"), "{error}");
    assert!(error.to_string().contains("golden[0].output: 1 is not 2 values"), "{error}");
}

#[test]
fn data_outside_the_file() {
    let mut onnx = Onnx::mean(1.0);
    let tensor = &mut onnx.graph().initializer[0];
    tensor.raw_data.clear();
    tensor.data_location = Some(1);
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    tensor.external_data = vec![entry("location", "../../etc/passwd"), entry("length", "100")];
    assert_refused(&onnx, Reason::ExternalData, &["tensor \"scale\" in \"../../etc/passwd\""]);
}

#[test]
fn a_tensor_that_is_larger_than_its_data() {
    let mut onnx = Onnx::mean(1.0);
    onnx.graph().initializer[0].dims = vec![1_000_000, 1_000_000, 1_000_000, 1_000_000];
    assert_refused(&onnx, Reason::Unsupported, &["\"scale\" has shape [1000000,", "but holds 1 values"]);
    onnx.graph().initializer[0].dims = vec![-1];
    assert_refused(&onnx, Reason::Unsupported, &["\"scale\" has shape [-1], but holds 1 values"]);
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
