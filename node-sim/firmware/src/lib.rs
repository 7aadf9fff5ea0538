//! What runs on a node. It needs no operating system, no allocator and no clock: time is a parameter, and its whole memory
//! is [`Node`], whose size the compiler checks.
//!
//! - [`ring`]: readings in reports, known by (boot, sequence), until they are acknowledged.
//! - [`delivery`]: which report goes when, and how long its acknowledgement is waited for.
//! - [`filter`] and [`exception`]: spikes are taken out, and only what has changed becomes a reading.
//! - [`model`]: a small quantised network that foretells each channel from the samples before, and says when it is wrong.
//! - [`update`]: such a model comes over the air, is checked, is tried, and goes back when it misbehaves.
//! - [`node`]: all of these together.
#![no_std]
#![forbid(unsafe_code)]

pub mod delivery;
pub mod exception;
pub mod filter;
pub mod model;
pub mod node;
pub mod ring;
pub mod update;

pub use node::{FieldNode, Node};
