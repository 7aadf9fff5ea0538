//! Updates of models from end to end: a real registry behind a real server, the real journal and disk, and the pipeline's
//! real slots. The registry lies, the link breaks, the power fails; the active model works on.
#![allow(clippy::unwrap_used)]

#[path = "update/attacks.rs"]
mod attacks;
#[path = "update/bench.rs"]
mod bench;
#[path = "update/hang.rs"]
mod hang;
#[path = "support/hostile.rs"]
mod hostile;
#[path = "update/life.rs"]
mod life;
#[path = "update/link.rs"]
mod link;
#[path = "update/models.rs"]
mod models;
#[path = "support/onnx.rs"]
mod onnx;
#[path = "update/power.rs"]
mod power;
#[path = "update/process.rs"]
mod process;
#[path = "support/tuf.rs"]
mod tuf;
