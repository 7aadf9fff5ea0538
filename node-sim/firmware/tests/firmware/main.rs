//! The firmware against plain models of what it promises.
#![allow(clippy::unwrap_used)]

mod channel;
mod file;
mod model;
mod node;
mod ring;
mod update;
