//! What a cloud says, or whoever stands in its place.

use proto::NodeRollout;
use proto::assignment::{Assignments, MAX_MODELS};
use proto::rollout::MAX_NAMED;

use crate::uplink::link::{Answer, Outcome, outcome};

/// The answer to a batch: four bytes for the first sequence and one for the number of records, two for the status, one for
/// whether it says what is wrong, and the body.
pub fn cloud_answer(bytes: &[u8]) {
    let [a, b, c, d, records, low, high, is_problem, text @ ..] = bytes else { return };
    let first = u64::from(u32::from_le_bytes([*a, *b, *c, *d])) + 1;
    let last = first + u64::from(*records);
    let Ok(status) = reqwest::StatusCode::from_u16(u16::from_le_bytes([*low, *high])) else { return };
    let text = String::from_utf8_lossy(text).into_owned();
    let answer = Answer { status, is_problem: is_problem % 2 == 1, text };
    match outcome(first, last, &answer) {
        // Nothing is let go of but what was sent.
        Outcome::Stored(sequence) => assert!(status == 200 && sequence == last),
        // There is room to count on, and it is another place than that of this batch.
        Outcome::Gap(acknowledged) => {
            assert!(acknowledged < 1 << 62 && (status == 200 || status == 409));
            assert!(acknowledged + 1 != first || (acknowledged == 0 && first == 1));
        }
        Outcome::Refused(why) => {
            assert!(answer.is_problem && status.is_client_error() && why.chars().count() < 400);
        }
        Outcome::Away(why) => assert!(why.chars().count() < 400),
    }
}

/// What the registry says that a gateway is to run.
pub fn model_assignments(bytes: &[u8]) {
    match Assignments::parse(bytes) {
        Ok(assignments) => {
            assert!(assignments.models.len() <= MAX_MODELS);
            assert!(assignments.models.values().all(|one| (0.0..=1.0).contains(&one.min_agreement)));
            assert_eq!(Assignments::parse(assignments.to_json().as_bytes()), Ok(assignments));
        }
        Err(wrong) => assert!(!wrong.is_empty()),
    }
}

/// What the registry says that a farm's nodes are to run.
pub fn node_rollout(bytes: &[u8]) {
    match NodeRollout::parse(bytes) {
        Ok(rollout) => {
            assert!(rollout.digest().is_some() && rollout.stations.len() <= MAX_NAMED);
            assert!(rollout.stations.iter().all(|station| rollout.holds(station)));
            let again = NodeRollout::parse(rollout.to_json().as_bytes());
            let again = again.unwrap_or_else(|wrong| panic!("{wrong:?}"));
            // A share's last bit may be another.
            assert_eq!(NodeRollout { share: rollout.share, most_failed: rollout.most_failed, ..again }, rollout);
        }
        Err(wrong) => assert!(!wrong.is_empty()),
    }
}
