use proptest::prelude::*;
use proto::update::MAX_REFUSALS;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn version(n: u64) -> Version {
    Version { version: format!("1.{n}.0"), digest: format!("{n:064x}") }
}

fn assignment(n: u64, serial: u64, shadow_s: u32) -> Assignment {
    let Version { version, digest } = version(n);
    Assignment { version, sha256: digest, serial, shadow_s, min_agreement: 0.9 }
}

fn self_test() -> Option<SelfTest> {
    Some(SelfTest { latency_us: 40, batch_latency_us: 7, memory_bytes: 1 << 20, cpu_ms: 12, wall_ms: 30 })
}

fn report(agreement: f64) -> ShadowReport {
    ShadowReport {
        windows: 96,
        until: NOW.plus_secs(86_400),
        agreement,
        mean_difference: 0.1,
        alerts: 1,
        active_alerts: 1,
    }
}

fn started() -> State {
    State::default().step(Event::Base(Some(version(0))), NOW).0
}

/// A state, through events, at `NOW`; the actions of the last one.
fn after(state: State, events: impl IntoIterator<Item = Event>) -> (State, Vec<Action>) {
    events.into_iter().fold((state, Vec::new()), |(state, _), event| state.step(event, NOW))
}

fn to_shadow(n: u64, serial: u64) -> [Event; 5] {
    [
        Event::Assigned(Some(assignment(n, serial, 86_400))),
        Event::Fetched { fetched: 10, size: 10 },
        Event::Verified,
        Event::SelfTested(self_test()),
        Event::Running,
    ]
}

fn active_version(state: &State) -> String {
    state.active.as_ref().unwrap().version.version.clone()
}

#[test]
fn a_version_goes_its_way_to_active_and_the_one_before_it_stays() {
    let (state, actions) = after(started(), to_shadow(1, 1));
    let until = NOW.plus_secs(86_400);
    assert_eq!(actions, [Action::Shadow { shadow_s: 86_400, so_far: None }]);
    let (state, actions) = after(state, [Event::Judged(report(0.5), Some(until.plus_secs(-1)))]);
    assert_eq!(actions, [], "it is judged at its end only");
    let (state, actions) = after(state, [Event::Judged(report(0.992), Some(until))]);
    assert_eq!(actions, [Action::Activate { from_shadow: true }]);
    assert_eq!(active_version(&state), "1.1.0");
    assert_eq!(state.active.as_ref().unwrap().why, "activated after 24 h in shadow, 99.2 % agreement");
    assert_eq!(state.previous, Some(version(0)));
    assert_eq!(state.settled, 1);
}

#[test]
fn a_version_that_the_gateway_brought_along_and_that_fails_again_and_again_is_told_once() {
    let failed =
        |text: &str| Event::Failed { digest: version(0).digest, reason: Reason::Memory, text: text.to_owned() };
    let (state, _) = after(started(), [failed("too much")]);
    assert_eq!((active_version(&state).as_str(), state.refusals.len()), ("1.0.0", 1));
    assert_eq!(state.clone().step(failed("too much"), NOW.plus_secs(15)).0, state, "there is nothing to write down");
    assert_eq!(state.step(failed("more"), NOW).0.refusals.len(), 2);
}

#[test]
fn too_little_agreement_is_refused_with_both_numbers() {
    let (state, _) = after(started(), to_shadow(1, 1));
    let (state, actions) = after(state, [Event::Judged(report(0.712), Some(NOW.plus_secs(90_000)))]);
    assert_eq!(actions, [Action::EndShadow]);
    assert_eq!(active_version(&state), "1.0.0");
    assert_eq!(state.refusals[0].reason, Reason::Agreement);
    assert_eq!(
        state.refusals[0].text,
        "agreed with the active version on 71.2 % of the scores of 96 windows, expected at least 90.0 %"
    );
}

#[test]
fn what_was_refused_is_tried_again_with_a_higher_serial_only() {
    let refused = Event::Refused(Reason::Golden, "golden sample 0".to_owned());
    let (state, _) = after(started(), [Event::Assigned(Some(assignment(1, 5, 0))), refused]);
    let (state, _) = after(state, [Event::Assigned(Some(assignment(1, 5, 0)))]);
    assert_eq!(state.candidate, None);
    let (state, _) = after(state, [Event::Assigned(Some(assignment(1, 6, 0)))]);
    assert_eq!(state.candidate.unwrap().assignment.serial, 6);
}

#[test]
fn a_target_that_comes_wrong_is_fetched_anew_once() {
    let wrong = || Event::Struck(Reason::Digest, "sha256 a, expected b".to_owned());
    let (state, _) = after(started(), [Event::Assigned(Some(assignment(1, 1, 0))), wrong()]);
    assert!(state.candidate.is_some());
    let (state, _) = after(state, [wrong()]);
    assert_eq!((state.candidate, state.refusals[0].reason), (None, Reason::Digest));
}

#[test]
fn an_active_version_that_fails_goes_back_and_says_why() {
    let (state, _) = after(started(), to_shadow(1, 1));
    let (state, _) = after(state, [Event::Judged(report(1.0), Some(NOW.plus_secs(90_000)))]);
    let failed = Event::Failed { digest: version(1).digest, reason: Reason::Crash, text: "it died".to_owned() };
    let (state, _) = after(state, [failed.clone()]);
    let active = state.active.clone().unwrap();
    assert_eq!((active.version, active.why.as_str()), (version(0), "rolled back from 1.1.0: it died"));
    let (again, _) = after(state.clone(), [failed]);
    assert_eq!(again, state, "a failure that is told twice counts once");
    let (state, _) = after(state, [Event::Assigned(Some(assignment(1, 1, 86_400)))]);
    assert_eq!(state.candidate, None);
}

#[test]
fn the_base_stays_when_it_fails_itself() {
    let failed = Event::Failed { digest: version(0).digest, reason: Reason::NotANumber, text: "NaN".to_owned() };
    let (state, _) = after(started(), [failed]);
    assert_eq!(active_version(&state), "1.0.0");
    assert_eq!(state.refusals[0].reason, Reason::NotANumber);
}

#[test]
fn an_assignment_of_what_is_active_only_notes_the_serial_and_drops_what_was_under_way() {
    let (state, _) = after(started(), to_shadow(1, 1));
    let (state, actions) = after(state, [Event::Assigned(Some(assignment(0, 2, 0)))]);
    assert_eq!((actions, state.settled, &state.candidate), (vec![Action::EndShadow], 2, &None));
    let (state, actions) = after(state, [Event::Assigned(None)]);
    assert_eq!((actions, active_version(&state)), (vec![], "1.0.0".to_owned()));
}

#[test]
fn going_back_to_the_version_before_keeps_the_other_as_previous() {
    let mut state = started();
    for n in [1, 2] {
        (state, _) = after(state, to_shadow(n, n));
        (state, _) = after(state, [Event::Judged(report(1.0), Some(NOW.plus_secs(90_000)))]);
    }
    assert_eq!((active_version(&state).as_str(), state.previous.clone()), ("1.2.0", Some(version(1))));
    let back =
        [Event::Assigned(Some(assignment(1, 3, 0))), Event::Verified, Event::SelfTested(self_test()), Event::Running];
    let (state, actions) = after(state, back);
    assert_eq!(actions, [Action::Activate { from_shadow: false }]);
    assert_eq!((active_version(&state).as_str(), state.previous), ("1.1.0", Some(version(2))));
}

#[test]
fn a_crash_loop_in_probation_goes_back_and_one_after_it_does_not() {
    let (state, _) = after(started(), to_shadow(1, 1));
    let (state, _) = after(state, [Event::Judged(report(1.0), Some(NOW.plus_secs(90_000)))]);
    let (back, _) = after(state.clone(), [Event::CrashLoop(3)]);
    assert_eq!((active_version(&back).as_str(), back.refusals[0].reason), ("1.0.0", Reason::CrashLoop));
    let (not_yet, _) = after(state.clone(), [Event::CrashLoop(2)]);
    assert_eq!(not_yet, state);
    let (stayed, _) = after(state, [Event::Stayed, Event::CrashLoop(3)]);
    assert_eq!(active_version(&stayed), "1.1.0");
}

#[test]
fn a_version_on_its_way_is_suspected_late() {
    let (state, _) = after(started(), to_shadow(1, 1));
    let (not_yet, _) = after(state.clone(), [Event::CrashLoop(5)]);
    assert_eq!(not_yet, state);
    let (refused, actions) = after(state, [Event::CrashLoop(6)]);
    assert_eq!((refused.refusals[0].reason, actions), (Reason::CrashLoop, vec![Action::EndShadow]));
}

#[test]
fn a_gateway_that_brings_another_base_runs_it_unless_a_pushed_version_is_active() {
    let (state, _) = after(started(), [Event::Base(Some(version(7)))]);
    assert_eq!(active_version(&state), "1.7.0");
    let (state, _) = after(state, to_shadow(1, 1));
    let (state, _) = after(state, [Event::Judged(report(1.0), Some(NOW.plus_secs(90_000)))]);
    let (state, _) = after(state, [Event::Base(Some(version(8)))]);
    assert_eq!((active_version(&state).as_str(), state.previous), ("1.1.0", Some(version(8))));
}

fn any_event() -> impl Strategy<Value = Event> {
    let words = || "why".to_owned();
    let some_version = 0u64..5;
    prop_oneof![
        (some_version.clone(), 0u64..12, 0u32..2).prop_map(|(n, serial, shadow)| Event::Assigned(Some(assignment(
            n,
            serial + 1,
            shadow * 3_600
        )))),
        Just(Event::Assigned(None)),
        Just(Event::Base(Some(version(0)))),
        (0u64..10).prop_map(|fetched| Event::Fetched { fetched, size: 10 }),
        Just(Event::Struck(Reason::Digest, words())),
        Just(Event::Verified),
        Just(Event::Verified),
        Just(Event::Refused(Reason::Golden, words())),
        Just(Event::SelfTested(self_test())),
        Just(Event::SelfTested(self_test())),
        Just(Event::Running),
        Just(Event::Running),
        (0u32..=128, 0i64..7_200)
            .prop_map(|(a, s)| Event::Judged(report(f64::from(a) / 128.0), Some(NOW.plus_secs(s)))),
        Just(Event::Judged(report(1.0), Some(NOW.plus_secs(90_000)))),
        some_version.clone().prop_map(move |n| Event::Failed {
            digest: version(n).digest,
            reason: Reason::Panic,
            text: words()
        }),
        some_version.prop_map(move |n| Event::Lost { version: version(n), text: words() }),
        Just(Event::Stayed),
        (0u32..8).prop_map(Event::CrashLoop),
    ]
}

proptest! {
    #[test]
    fn there_is_always_a_working_active_version(events in prop::collection::vec(any_event(), 1..80)) {
        let mut state = started();
        let mut tested: Vec<Version> = vec![version(0)];
        let mut ended: Vec<u64> = Vec::new();
        for event in events {
            let before = state.clone();
            let (next, actions) = state.step(event.clone(), NOW);
            state = next;

            let active = state.active.clone().expect("an active version");
            prop_assert!(tested.contains(&active.version), "{event:?} made an untested version active");
            if let (Event::SelfTested(_), Some(candidate)) = (&event, &state.candidate)
                && candidate.phase == Phase::SelfTested
            {
                tested.push(candidate.version());
            }
            // The fall-back is there, is another one, and was good before.
            if !state.is_base(&active.version) {
                let previous = state.previous.clone().expect("something to fall back to");
                prop_assert!(previous != active.version && tested.contains(&previous));
            }
            // An assignment that came to an end never comes back.
            prop_assert!(state.settled >= before.settled);
            if let Some(candidate) = &state.candidate {
                prop_assert!(candidate.assignment.serial > state.settled);
                prop_assert!(!ended.contains(&candidate.assignment.serial) , "a settled serial came back");
                prop_assert!(candidate.strikes < STRIKES);
                prop_assert_eq!(candidate.phase == Phase::Shadow, candidate.shadow.is_some());
            }
            if state.settled > before.settled {
                ended.push(state.settled);
            }
            prop_assert!(state.refusals.len() <= MAX_REFUSALS);
            // Who was in shadow and no longer is was told so.
            let in_shadow = |s: &State| s.candidate.as_ref().is_some_and(|c| c.phase == Phase::Shadow);
            if in_shadow(&before) && !in_shadow(&state) {
                let told = actions.iter().any(|a| matches!(a, Action::EndShadow | Action::Activate { from_shadow: true }));
                prop_assert!(told || matches!(event, Event::Lost { .. }), "{event:?} left a version in shadow");
            }
            let activated = actions.iter().any(|action| matches!(action, Action::Activate { .. }));
            if activated {
                let before = before.active.map(|a| a.version).filter(|v| *v != active.version).or(state.base.clone());
                // A version that was fallen back to meanwhile is activated again, and may be the base.
                prop_assert_eq!(state.previous.clone(), before.filter(|v| *v != active.version));
            }
            // The journal's text is the state.
            let text = serde_json::to_string(&state).unwrap();
            prop_assert_eq!(&serde_json::from_str::<State>(&text).unwrap(), &state);
        }
    }
}
