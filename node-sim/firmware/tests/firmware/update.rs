//! Updates: what is taken, what is refused, what goes back, and that a restart at any moment changes nothing.

use firmware::model::Fault;
use firmware::update::{MOST_RESETS, Offer, PROBATION, Reason, State, Updater};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use crate::file::Plain;

fn index(name: &str) -> Option<u8> {
    (name == "air").then_some(0)
}

fn offer(version: u32, bytes: &[u8]) -> Offer {
    Offer { version, sha256: Sha256::digest(bytes)[..].try_into().unwrap(), size: bytes.len() as u32 }
}

/// Gives the node what it asks for.
fn send(updater: &mut Updater, version: u32, bytes: &[u8]) {
    while updater.status().state == State::Receiving {
        let offset = updater.status().offset;
        let end = bytes.len().min(offset as usize + 50);
        assert!(updater.chunk(version, offset, &bytes[offset as usize..end], index));
    }
}

fn install(updater: &mut Updater, version: u32) -> Vec<u8> {
    let bytes = Plain::last_value("air", version).bytes();
    assert!(updater.offer(offer(version, &bytes)));
    send(updater, version, &bytes);
    assert_eq!((updater.status().active, updater.status().state), (version, State::Active));
    bytes
}

fn judge(updater: &mut Updater, values: impl IntoIterator<Item = f64>) {
    for value in values {
        updater.judge(|_| Some(value), index);
    }
}

/// So much that nothing is unusual, and the probation is over.
fn pass(updater: &mut Updater) {
    judge(updater, std::iter::repeat_n(21.0, usize::from(PROBATION) + 2));
    assert!(!updater.on_probation());
}

fn outcome(updater: &Updater) -> (u32, u32, u32, State, Reason) {
    let status = updater.status();
    (status.active, status.previous, status.candidate, status.state, status.reason)
}

fn restarted(updater: &Updater) -> Updater {
    let mut saved = Vec::new();
    updater.save(|piece| saved.extend_from_slice(piece));
    Updater::load(&saved, index).unwrap()
}

#[test]
fn a_model_comes_in_pieces_over_a_restart_and_repetitions_are_no_harm() {
    let mut updater = Updater::new();
    let bytes = Plain::last_value("air", 5).bytes();
    assert_eq!(outcome(&updater), (0, 0, 0, State::Idle, Reason::None));
    assert!(updater.offer(offer(5, &bytes)) && !updater.offer(offer(5, &bytes)));
    assert!(updater.chunk(5, 0, &bytes[..20], index));
    assert!(!updater.chunk(5, 0, &bytes[..20], index) && !updater.chunk(5, 30, &bytes[30..], index));
    assert!(!updater.chunk(4, 20, &bytes[20..], index));
    let mut updater = restarted(&updater);
    assert_eq!(updater.status().offset, 20);
    send(&mut updater, 5, &bytes);
    assert_eq!(outcome(&updater), (5, 0, 0, State::Active, Reason::None));
    assert!(!updater.offer(offer(5, &bytes)));
    judge(&mut updater, [20.0, 20.0, 40.0]);
    assert_eq!((updater.status().judged, updater.status().alerts), (2, 1));
}

#[test]
fn what_is_wrong_is_refused_with_its_reason_and_not_taken_again() {
    let plain = Plain::last_value("air", 2);
    let good = plain.bytes();
    let foreign = Plain::last_value("rain", 2).bytes();
    let mut broken = good.clone();
    broken[20] ^= 1;
    for (version, bytes, sent, reason) in [
        (2, &good, &broken, Reason::Sha256),
        (2, &broken, &broken, Reason::Model(Fault::Crc)),
        (2, &foreign, &foreign, Reason::Channel),
        (3, &good, &good, Reason::Version),
    ] {
        let mut updater = Updater::new();
        install(&mut updater, 1);
        pass(&mut updater);
        assert!(updater.offer(offer(version, bytes)));
        send(&mut updater, version, sent);
        assert_eq!(outcome(&updater), (1, 0, version, State::Refused, reason));
        assert!(!updater.offer(offer(version, bytes)), "it is dealt with");
        // The same again under another version is dealt with too, and another file of the version is taken.
        assert!(updater.offer(offer(9, bytes)));
        assert_eq!(outcome(&updater), (1, 0, 9, State::Refused, Reason::KnownBad));
        let mut other = Plain { thresholds: vec![0.75], ..plain.clone() };
        other.version = version;
        assert!(updater.offer(offer(version, &other.bytes())));
        send(&mut updater, version, &other.bytes());
        assert_eq!(updater.status().active, version);
    }
    let mut updater = Updater::new();
    assert!(updater.offer(Offer { size: 4097, ..offer(2, &good) }));
    assert_eq!(outcome(&updater), (0, 0, 2, State::Refused, Reason::Size));
}

#[test]
fn a_model_that_misbehaves_goes_back_by_itself() {
    let restless = || (0..).map(|n| if n % 2 == 0 { 10.0 } else { 30.0 });
    type Misbehave = fn(&mut Updater);
    let cases: [(Reason, Misbehave); 3] = [
        (Reason::Alerts, |updater| judge(updater, (0..102).map(|n| if n % 2 == 0 { 10.0 } else { 30.0 }))),
        (Reason::Saturated, |updater| judge(updater, std::iter::repeat_n(500.0, 252))),
        (Reason::Watchdog, |updater| (0..MOST_RESETS).for_each(|_| updater.watchdog_reset(index))),
    ];
    for (reason, misbehave) in cases {
        for restart in [false, true] {
            let mut updater = Updater::new();
            install(&mut updater, 1);
            pass(&mut updater);
            let bytes = install(&mut updater, 2);
            assert_eq!(updater.status().previous, 1);
            // A model on probation can go back, so nothing overwrites the one before.
            assert!(!updater.offer(offer(3, &Plain::last_value("air", 3).bytes())));
            if restart {
                updater = restarted(&updater);
            }
            misbehave(&mut updater);
            assert_eq!(outcome(&updater), (1, 0, 2, State::RolledBack, reason));
            assert!(!updater.offer(offer(2, &bytes)));
            judge(&mut updater, [20.0, 20.0]);
            assert_eq!(updater.status().judged, 1, "the one before judges");
        }
    }
    // A model that has passed is not rolled back for what it says later.
    let mut updater = Updater::new();
    install(&mut updater, 1);
    pass(&mut updater);
    judge(&mut updater, restless().take(2000));
    (0..9).for_each(|_| updater.watchdog_reset(index));
    assert_eq!(outcome(&updater), (1, 0, 0, State::Active, Reason::None));
}

#[test]
fn one_in_five_is_not_too_many() {
    let mut updater = Updater::new();
    install(&mut updater, 1);
    // Two of ten are unusual: up, and down again.
    judge(&mut updater, (0..1000).map(|n| if n % 10 == 5 { 30.0 } else { 20.0 }));
    assert_eq!((updater.status().state, updater.on_probation()), (State::Active, false));
}

#[test]
fn the_gateway_can_have_the_one_before_back() {
    let mut updater = Updater::new();
    install(&mut updater, 1);
    pass(&mut updater);
    install(&mut updater, 2);
    let mark = updater.status().active_mark;
    assert!(!updater.back(2, mark, index) && !updater.back(3, mark, index) && !updater.back(1, mark ^ 1, index));
    assert!(updater.back(1, mark, index) && !updater.back(1, mark, index));
    assert_eq!(outcome(&updater), (1, 0, 2, State::RolledBack, Reason::Told));
    assert_eq!(updater.status().candidate_mark, mark);
    install(&mut updater, 4);
    assert_eq!(updater.status().previous, 1);
    // Of a first model there is none to go back to: it goes.
    let mut updater = Updater::new();
    install(&mut updater, 1);
    let mark = updater.status().active_mark;
    assert!(!updater.back(1, mark, index) && updater.back(0, mark, index) && !updater.back(0, mark, index));
    assert_eq!(outcome(&updater), (0, 0, 1, State::RolledBack, Reason::Told));
}

#[test]
fn a_first_model_that_misbehaves_leaves_none() {
    let mut updater = Updater::new();
    let bytes = install(&mut updater, 1);
    judge(&mut updater, std::iter::repeat_n(500.0, 300));
    assert_eq!(outcome(&updater), (0, 0, 1, State::RolledBack, Reason::Saturated));
    assert!(!updater.offer(offer(1, &bytes)));
    install(&mut updater, 2);
}

#[test]
fn flash_that_forgets_is_noticed() {
    let mut updater = Updater::new();
    install(&mut updater, 1);
    pass(&mut updater);
    install(&mut updater, 2);
    let mut saved = Vec::new();
    updater.save(|piece| saved.extend_from_slice(piece));
    assert!(Updater::load(&saved[..saved.len() - 1], index).is_none());
    // The active model is in the first slot, behind the fixed part of 198 bytes.
    saved[198 + 60] ^= 4;
    let updater = Updater::load(&saved, index).unwrap();
    assert_eq!(outcome(&updater), (1, 0, 2, State::RolledBack, Reason::Sha256));
}

#[derive(Debug, Clone)]
enum Step {
    Offer(usize),
    Chunk(usize),
    Back(usize),
    Judge(f64, usize),
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0usize..4).prop_map(Step::Offer),
        6 => (1usize..200).prop_map(Step::Chunk),
        1 => (0usize..4).prop_map(Step::Back),
        3 => (prop_oneof![Just(21.0), Just(500.0)], 1usize..400).prop_map(|(value, times)| Step::Judge(value, times)),
        1 => Just(Step::Reset),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever happens, a restart after each step leaves the same node, and the active model is one that was offered whole.
    #[test]
    fn a_restart_at_any_moment_changes_nothing(steps in steps()) {
        let files: Vec<(u32, Vec<u8>)> = (1..5).map(|version| (version, Plain::last_value("air", version).bytes())).collect();
        let mut updater = Updater::new();
        let mut kept = Updater::new();
        for step in steps {
            for updater in [&mut updater, &mut kept] {
                match &step {
                    Step::Offer(file) => {
                        updater.offer(offer(files[*file].0, &files[*file].1));
                    }
                    Step::Chunk(size) => {
                        let status = updater.status();
                        if let Some((version, bytes)) = files.iter().find(|(version, _)| *version == status.candidate) {
                            let begin = status.offset as usize;
                            updater.chunk(*version, status.offset, &bytes[begin..bytes.len().min(begin + size)], index);
                        }
                    }
                    Step::Back(file) => {
                        let mark = updater.status().active_mark;
                        updater.back(files[*file].0, mark, index);
                    }
                    // The history is not kept, so the first samples after a restart are not judged: as many for both, as
                    // a channel that says nothing breaks the history.
                    Step::Judge(value, times) => {
                        updater.judge(|_| None, index);
                        judge(updater, std::iter::repeat_n(*value, *times));
                    }
                    Step::Reset => updater.watchdog_reset(index),
                }
            }
            kept = restarted(&kept);
            let (one, other) = (updater.status(), kept.status());
            prop_assert_eq!((one.active, one.previous, one.candidate, one.offset, one.state, one.reason), (other.active, other.previous, other.candidate, other.offset, other.state, other.reason));
            prop_assert!(one.active == 0 || one.active != one.candidate);
            prop_assert!(one.previous == 0 || one.active != 0);
        }
    }
}
