//! The uplink alone: a real store on one side, and on the other a cloud that is written by hand, so that it can do on the wire
//! whatever a cloud, or what pretends to be one, may do.
#![allow(clippy::unwrap_used)]

mod backlog;
mod budget;
mod hostile;
mod poison;
mod raw;
#[path = "../support/records.rs"]
mod records;
mod support;
