//! Models in processes of their own: what they give, what becomes of those that misbehave, and that nothing is left.
#![allow(clippy::unwrap_used)]

#[path = "support/onnx.rs"]
mod onnx;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gateway::model::{LoadedModel, Model, ModelError, Runner, RunnerLimits, RunnerProgram};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onnx::{FEATURES, MEAN, Onnx, SAMPLE, TRAP, Trap, int, ints, manifest};
use proto::Timestamp;
use proto::update::Reason;

fn program() -> RunnerProgram {
    RunnerProgram::at(env!("CARGO_BIN_EXE_gateway"))
}

fn now() -> Timestamp {
    Timestamp::from_secs(1_780_300_800)
}

fn base_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/soil-anomaly-1.0.0")
}

/// A runner for a model that passes its self-test.
fn start(model: &Onnx) -> Runner {
    let bytes = model.bytes();
    let manifest = manifest("1.0.0", &bytes, &MEAN).to_toml().unwrap();
    Runner::verify(&program(), &bytes, &manifest, &RunnerLimits::default(), now()).unwrap()
}

fn sample() -> Vec<f32> {
    SAMPLE.iter().map(|value| *value as f32).collect()
}

fn is_there(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

/// Waits until a process is gone that somebody else reaps.
fn wait_until_gone(process: u32) {
    let began = Instant::now();
    while is_there(process) {
        assert!(began.elapsed() < Duration::from_secs(20), "process {process} is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(runner: &Runner, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(runner.process_id()).unwrap()), signal).unwrap();
}

/// The error of a run that fails; the same comes again, and the process is gone.
fn failure(runner: &mut Runner, input: &[f32]) -> ModelError {
    assert_eq!(runner.failure(), None);
    let error = runner.run(input).unwrap_err();
    println!("{}: {error}", error.reason());
    assert!(!is_there(runner.process_id()), "the process is reaped");
    assert_eq!((runner.run(input).unwrap_err(), runner.failure()), (error.clone(), Some(&error)));
    error
}

#[test]
fn a_runner_gives_what_the_same_model_gives_inside() {
    let mut inside = LoadedModel::load(&base_dir(), now()).unwrap();
    let mut runner = Runner::start(&program(), &base_dir(), &RunnerLimits::default(), now()).unwrap();
    assert_eq!((runner.label(), runner.digest()), (inside.label(), inside.digest()));
    assert_eq!(runner.running(), inside.running());
    let golden: Vec<Vec<f32>> =
        inside.manifest().golden.iter().map(|golden| golden.input.iter().map(|v| *v as f32).collect()).collect();
    for count in [1, 3, 24, 300] {
        let input: Vec<f32> = golden.iter().cycle().take(count).flatten().copied().collect();
        assert_eq!(runner.run(&input).unwrap(), inside.run(&input).unwrap(), "{count} samples");
    }
    assert_eq!(runner.run(&[]).unwrap(), Vec::<f32>::new());
}

#[test]
fn the_self_test_measures_what_the_model_takes() {
    let runner = Model::from(Runner::start(&program(), &base_dir(), &RunnerLimits::default(), now()).unwrap());
    let measured = runner.self_test().unwrap();
    println!("{measured:?}");
    let limits = runner.manifest().limits;
    assert!((1..=limits.max_latency_ms * 1_000).contains(&measured.latency_us));
    // The input of a full batch alone is more than a mebibyte.
    assert!((1 << 20..=limits.max_memory_bytes).contains(&measured.memory_bytes), "{}", measured.memory_bytes);
    assert!(measured.cpu_ms > 0 && measured.wall_ms > 0);
}

#[test]
fn a_runner_has_taken_its_own_rights_away() {
    let runner = start(&Onnx::mean(1.0));
    let of = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", runner.process_id())).unwrap();
    assert_eq!(of("environ"), "MIMALLOC_ARENA_EAGER_COMMIT=0\0", "for the allocator, and nothing else");
    assert!(of("status").contains("NoNewPrivs:\t1"));
    let limits = of("limits");
    let hard = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().rev().nth(1).unwrap().to_owned()
    };
    assert_eq!([hard("Max core file size"), hard("Max file size")], ["0", "0"]);
    assert_eq!(hard("Max open files"), "8");
    let data: u64 = hard("Max data size").parse().unwrap();
    assert!((64 << 20..96 << 20).contains(&data), "its manifest's 64 MiB and what an idle process has: {data}");
    // Its processor time is limited in the self-test only.
    let line = limits.lines().find(|line| line.starts_with("Max cpu time")).unwrap();
    assert!(line.split_whitespace().nth(3) == Some("unlimited"), "{line}");
}

#[test]
fn a_dropped_runner_leaves_no_process() {
    let runner = start(&Onnx::mean(1.0));
    let process = runner.process_id();
    assert!(is_there(process));
    drop(runner);
    assert!(!is_there(process));
}

#[test]
fn a_killed_runner_is_named() {
    let mut runner = start(&Onnx::mean(1.0));
    signal(&runner, Signal::SIGKILL);
    let error = failure(&mut runner, &sample());
    assert_eq!(error.reason(), Reason::Crash);
    assert!(error.to_string().contains("killed from outside (SIGKILL)"), "{error}");

    let mut runner = start(&Onnx::mean(1.0));
    signal(&runner, Signal::SIGILL);
    let error = failure(&mut runner, &sample());
    assert!(error.to_string().starts_with("crashed (SIGILL)"), "{error}");
}

#[test]
fn a_silent_runner_is_ended_at_its_deadline() {
    let mut runner = start(&Onnx::mean(1.0));
    signal(&runner, Signal::SIGSTOP);
    let began = Instant::now();
    let error = failure(&mut runner, &sample());
    assert_eq!(error.reason(), Reason::Timeout);
    assert_eq!(error.to_string(), "did not answer within 2,500 ms");
    assert!((2..8).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[test]
fn a_silent_runner_is_ended_also_while_it_takes_no_input() {
    let mut runner = start(&Onnx::mean(1.0));
    signal(&runner, Signal::SIGSTOP);
    // More than the socket's buffers hold.
    let error = failure(&mut runner, &sample().repeat(100_000));
    assert_eq!(error.reason(), Reason::Timeout);
}

#[test]
fn what_goes_wrong_only_later_is_contained_and_named() {
    let expected = [
        (Trap::NotANumber, Reason::NotANumber, "output 0 of sample 1 is NaN, expected a number"),
        (Trap::Panic, Reason::Panic, "the runtime panicked: index out of bounds"),
        (
            Trap::Memory,
            Reason::Memory,
            "needs another 1.5 GiB of memory, more than is left of the 64 MiB that its manifest allows",
        ),
        (Trap::Slow, Reason::Timeout, "did not answer within 3,000 ms"),
    ];
    for (trap, reason, text) in expected {
        let mut runner = start(&Onnx::trap(trap));
        let scores = runner.run(&sample().repeat(2)).unwrap();
        assert!(
            scores.chunks(FEATURES).all(|s| s.iter().zip(MEAN).all(|(s, mean)| (f64::from(*s) - mean).abs() < 1e-4))
        );
        let mut input = sample();
        input.extend(vec![2.0 * TRAP; input.len()]);
        let error = failure(&mut runner, &input);
        assert_eq!(error.reason(), reason, "{trap:?}: {error}");
        assert!(error.to_string().starts_with(text), "{trap:?}: {error}");
    }
}

#[test]
fn a_model_for_one_sample_only_is_run_sample_by_sample() {
    let model =
        Onnx::new().mean_to("mean").integers("one", &[1, 2]).node("Reshape", &["mean", "one"], "scores", vec![]);
    let mut runner = start(&model);
    assert!(
        runner.notes()[0].starts_with("its samples are run one by one, because a batch of 4"),
        "{:?}",
        runner.notes()
    );
    let input: Vec<f32> = sample().into_iter().chain(sample().into_iter().map(|v| 2.0 * v)).collect();
    let scores = runner.run(&input.repeat(150)).unwrap();
    assert_eq!(scores.len(), 300 * FEATURES);
    assert!(scores.chunks(4).all(|s| s.iter().zip([0.25, 0.5, 0.5, 1.0]).all(|(a, b)| (a - b).abs() < 1e-6)));
}

#[test]
fn a_model_that_mixes_the_samples_of_a_batch_is_run_sample_by_sample() {
    // The mean over all samples of the batch: right for one alone.
    let axes = vec![ints("axes", &[0, 1]), int("keepdims", 1)];
    let model = Onnx::new()
        .node("ReduceMean", &["input"], "all", axes)
        .mean_to("mean")
        .integers("first", &[0])
        .node("Squeeze", &["all", "first"], "row", vec![])
        .floats("zero", &[1], &[0.0])
        .node("Mul", &["mean", "zero"], "nothing", vec![])
        .node("Add", &["row", "nothing"], "scores", vec![]);
    let bytes = model.bytes();
    let mut manifest = manifest("1.0.0", &bytes, &MEAN);
    let mut double = manifest.golden[0].clone();
    double.input.iter_mut().chain(&mut double.output).for_each(|value| *value *= 2.0);
    manifest.golden.push(double);
    let runner =
        Runner::verify(&program(), &bytes, &manifest.to_toml().unwrap(), &RunnerLimits::default(), now()).unwrap();
    assert!(runner.notes()[0].contains("golden sample 0, expected 0.25"), "{:?}", runner.notes());
}

#[test]
fn a_program_that_is_no_runner_is_not_the_models_fault() {
    let bytes = Onnx::mean(1.0).bytes();
    let manifest = manifest("1.0.0", &bytes, &MEAN).to_toml().unwrap();
    let limits = RunnerLimits { self_test_s: 1, ..RunnerLimits::default() };
    let refused = |program: &RunnerProgram| Runner::verify(program, &bytes, &manifest, &limits, now()).unwrap_err();
    let error = refused(&RunnerProgram::at("/no/such/program"));
    assert!(error.passes() && error.to_string().contains("/no/such/program: No such file"), "{error}");
    let silent = RunnerProgram { path: "/bin/sleep".into(), args: vec!["60".into()] };
    assert_eq!(refused(&silent).to_string(), "did not answer within 1,000 ms");
    let error =
        refused(&RunnerProgram { path: "/bin/sh".into(), args: vec!["-c".into(), "echo no >&2; exit 3".into()] });
    assert_eq!(error.to_string(), "ended its runner (exit status: 3), which said: no");
    let missing = Runner::start(&program(), Path::new("/no/such/model"), &limits, now()).unwrap_err();
    assert!(missing.passes() && missing.to_string().contains("manifest.toml: No such file"), "{missing}");
}

/// In a process that the test below starts: a gateway in the midst of a computation.
const GATEWAY: &str = "TEST_IS_A_GATEWAY";

#[test]
fn a_runner_ends_with_its_gateway_in_the_midst_of_a_computation() {
    if std::env::var_os(GATEWAY).is_some() {
        let mut runner = start(&Onnx::trap(Trap::Slow));
        println!("runner {}", runner.process_id());
        let _ = runner.run(&[2.0 * TRAP; SAMPLE.len()]);
        return;
    }
    let name = "a_runner_ends_with_its_gateway_in_the_midst_of_a_computation";
    let mut gateway = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(GATEWAY, "")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(gateway.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.contains("runner ")).unwrap();
    let runner: u32 = line.rsplit(' ').next().unwrap().parse().unwrap();
    // It computes: its processor time grows.
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{runner}/stat")).unwrap_or_default();
        stat.split_whitespace().nth(13).map_or(0, |ticks| ticks.parse::<u64>().unwrap())
    };
    let before = ticks();
    while ticks() == before {
        assert!(is_there(runner));
        std::thread::sleep(Duration::from_millis(10));
    }
    let killed = Instant::now();
    gateway.kill().unwrap();
    gateway.wait().unwrap();
    wait_until_gone(runner);
    assert!(killed.elapsed() < Duration::from_secs(2), "it ended by itself only: {:?}", killed.elapsed());
}
