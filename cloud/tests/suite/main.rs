//! The cloud against a real PostgreSQL, over HTTP, as gateways and browsers meet it.
#![allow(clippy::unwrap_used)]

mod amended;
mod answers;
mod events;
mod hostile;
mod ingest;
mod openapi;
mod pages;
mod people;
mod process;
mod support;
mod tables;
