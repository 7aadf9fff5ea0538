//! The runner's own side: a process that has one model, one socket, and as little else as can be.
//!
//! It is started by [`Runner`](super::Runner) with the socket as its standard input. First it takes its own rights away,
//! then it reads the model. What the model does to it is seen by the gateway: a refusal in words, a pipe that closes, or
//! silence. When the gateway is gone, so is the runner, even in the midst of a computation.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use proto::Manifest;
use proto::update::{Reason, SelfTest};
use serde::{Deserialize, Serialize};

use super::confine;
use super::error::ModelError;
use super::frame::{self, Frame, Kind, MAX_TO_RUNNER};
use super::graph::Graph;
use super::limits::RunnerLimits;
use super::loaded::{check_golden, shape};
use super::report::{CheckReport, TensorInfo};
use super::self_test::{self, Baseline};
use super::structure;

/// Stack of the thread that listens, in bytes: it only moves frames.
const LISTENER_STACK: usize = 128 << 10;

/// What the gateway wants of a runner.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// What the model may take.
    pub limits: RunnerLimits,
    /// Memory that the model may take, in bytes, its manifest considered.
    pub memory_bytes: u64,
    /// Whether a manifest follows, before the model.
    pub with_manifest: bool,
}

/// What the runner says when it is ready for samples.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Ready {
    /// What the self-test measured; none when nobody says what the model's input is.
    pub self_test: Option<SelfTest>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// Runs a model for the gateway that started this process, until it closes the socket on standard input.
#[must_use]
pub fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("model-runner: {error}; it is started by the gateway, with a socket as its standard input");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let frames = listen(socket.try_clone()?)?;
    let baseline = Baseline::now()?;
    let order: Order = serde_json::from_slice(&expect(&frames, Kind::Order)?)?;
    confine::confine(order.memory_bytes, order.limits.cpu_s())?;
    let manifest = if order.with_manifest { Some(expect(&frames, Kind::Manifest)?) } else { None };
    let onnx = expect(&frames, Kind::Onnx)?;
    let graph = match load(&mut socket, &order, &onnx, manifest.as_deref(), &baseline)? {
        Ok((graph, ready)) => {
            drop((onnx, manifest));
            confine::lift_cpu_limit()?;
            frame::write(&mut socket, Kind::Ready, &serde_json::to_vec(&ready)?)?;
            graph
        }
        Err(error) => return refuse(&mut socket, &error),
    };
    let Some(mut graph) = graph else { return Ok(()) };
    while let Ok(Frame { kind: Kind::Run, bytes }) = frames.recv() {
        match graph.run(&frame::to_values(&bytes)) {
            Ok(scores) => frame::write(&mut socket, Kind::Scores, &frame::to_bytes(&scores))?,
            Err(error) => refuse(&mut socket, &error)?,
        }
    }
    Ok(())
}

/// Reads frames in a thread of its own, so that it is seen at once when the gateway is gone.
fn listen(mut socket: UnixStream) -> io::Result<Receiver<Frame>> {
    let (sender, receiver) = sync_channel(0);
    thread::Builder::new().name("listener".to_owned()).stack_size(LISTENER_STACK).spawn(move || {
        loop {
            match frame::read(&mut socket, MAX_TO_RUNNER) {
                Ok(Some(frame)) => {
                    if sender.send(frame).is_err() {
                        return;
                    }
                }
                Ok(None) => std::process::exit(0),
                Err(error) => {
                    eprintln!("model-runner: {error}");
                    std::process::exit(1);
                }
            }
        }
    })?;
    Ok(receiver)
}

fn expect(frames: &Receiver<Frame>, kind: Kind) -> io::Result<Vec<u8>> {
    match frames.recv() {
        Ok(frame) if frame.kind == kind => Ok(frame.bytes),
        Ok(frame) => Err(io::Error::other(format!("expected {kind:?}, got {:?}", frame.kind))),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn refuse(socket: &mut UnixStream, error: &ModelError) -> io::Result<()> {
    frame::write(socket, Kind::Refused, &serde_json::to_vec(error)?)
}

/// What is ready when a model was loaded: its graph, where somebody says what goes into it, and what is told of it.
type Loaded = Result<(Option<Graph>, Ready), ModelError>;

/// Looks at the model, tells of it, and runs its self-test.
fn load(
    socket: &mut UnixStream,
    order: &Order,
    onnx: &[u8],
    manifest: Option<&[u8]>,
    baseline: &Baseline,
) -> io::Result<Loaded> {
    let manifest = match manifest.map(parse_manifest).transpose() {
        Ok(manifest) => manifest,
        Err(error) => return Ok(Err(error)),
    };
    let (model, report) = match structure::read(onnx) {
        Ok(model) => {
            let report = structure::inspect(&model, manifest.as_ref());
            (model, report)
        }
        Err(error) => return Ok(Err(error)),
    };
    frame::write(socket, Kind::Report, &serde_json::to_vec(&report)?)?;
    if let Some(error) = report.as_error() {
        return Ok(Err(error));
    }
    let Some(shape) = manifest.as_ref().map(shape).or_else(|| self_test::declared_shape(&report)) else {
        return Ok(Ok((None, Ready { self_test: None, notes: vec![missing_shape(&report)] })));
    };
    let output = structure::chosen_output(&report.outputs).unwrap_or_default();
    let tested = || -> Result<(Graph, Ready), ModelError> {
        let mut graph = Graph::new(&model, output, shape, Some(order.limits.memory(manifest.as_ref())))?;
        let mut notes = Vec::new();
        if let Some(manifest) = &manifest {
            notes.extend(check_golden(&mut graph, manifest)?);
        }
        let measured = self_test::run(&mut graph, shape, manifest.as_ref(), &order.limits, baseline)?;
        Ok((graph, Ready { self_test: Some(measured), notes }))
    };
    Ok(tested().map(|(graph, ready)| (Some(graph), ready)))
}

fn parse_manifest(bytes: &[u8]) -> Result<Manifest, ModelError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| ModelError::new(Reason::Manifest, format_args!("manifest.toml is no text: {error}")))?;
    Ok(Manifest::parse(text)?)
}

fn missing_shape(report: &CheckReport) -> String {
    let found = report.inputs.first().map_or_else(String::new, TensorInfo::shape_text);
    format!(
        "was not run: the file declares its input as {found}; how many steps and features go in, a manifest must say"
    )
}
