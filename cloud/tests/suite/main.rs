//! The cloud against a real PostgreSQL, over HTTP, as gateways and browsers meet it.
#![allow(clippy::unwrap_used)]

mod amended;
mod answers;
mod assignments;
mod backfill;
mod events;
mod hostile;
mod ingest;
mod model_events;
mod nodes;
mod openapi;
mod pages;
mod people;
mod process;
mod push;
mod registry;
mod rotation;
mod support;
mod tables;
