//! A simulated farm: weather over fields, water and heat in their soil, stations with probes that fail, and each station a
//! real MQTT client.
//!
//! From the outside in:
//! - [`run()`] is the whole program; [`config`] says how it is configured, [`run`](mod@run) paces it, [`client`] is a
//!   station's connection, [`node`] its memory, [`onboard`] what its firmware does to samples, [`models`] the models on it, [`store`] what survives a restart, [`truth`] what really happened.
//! - [`simulate`] is the farm alone, without a network: [`farm`] over [`weather`] (with [`sun`] and
//!   [`evapotranspiration`]), [`space`], [`field`], [`soil`], [`station`], [`sensor`], [`faults`] and repeatable [`chance`]; and
//!   [`clock`], which only shows in what is sent.
//! - [`energy`], [`radio`] and [`base_station`] are what keeps a station from reporting.
//! - [`replay`] plays measured data through the same stations.
//! - [`validate`] is a report on how true the simulated field is.
//!
//! The second half is pure: it reads no clock, and the same configuration and commands give the same bytes.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod base_station;
pub mod chance;
pub mod client;
pub mod clock;
pub mod config;
pub mod crop;
pub mod energy;
pub mod evapotranspiration;
pub mod farm;
pub mod faults;
mod feed;
pub mod field;
pub mod ground;
pub mod irrigation;
pub mod models;
pub mod node;
pub mod onboard;
pub mod radio;
pub mod replay;
pub mod run;
pub mod sensing;
pub mod sensor;
pub mod soil;
pub mod space;
pub mod station;
pub mod store;
pub mod sun;
pub mod truth;
pub mod validate;
pub mod weather;

pub use config::{Config, ConfigError, FarmConfig, Pace, Problem};
pub use farm::simulate;
pub use run::run;
pub use store::resume_time;
