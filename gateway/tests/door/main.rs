//! The front door and the broker behind it, tried with real clients. A small pipeline stands in for the gateway's: each
//! test takes the deliveries itself, and decides when they are "on disk".
#![allow(clippy::unwrap_used)]

mod acknowledging;
mod behind;
mod bridges;
mod external;
mod limits;
mod mqtt5;
mod strangers;
mod support;
