//! Models that come over the air: from the cloud's registry to the pipeline, or refused with a reason.
//!
//! The modules stand in the order in which an update meets them: [`link`] (HTTP, patience, [`budget`]) ▶ [`source`] (what
//! the registry signs) ▶ [`fetch`] ([`files`] on the [`disk`]) ▶ [`machine`] (which version is what), made durable by the
//! [`journal`] ▶ [`updater`] (the task that drives it) ▶ the pipeline's slots. At a start [`startup`] decides what runs.
//!
//! Power may fail at any point: there is a working version on disk before and after, and the update goes on.

pub mod beginning;
pub mod budget;
pub mod config;
pub mod disk;
pub mod fetch;
pub mod files;
pub mod journal;
pub mod link;
pub mod machine;
pub mod refused;
pub mod source;
pub mod startup;
pub mod updater;

pub use beginning::{Started, Updates, begin, ended_well};
pub use config::UpdatesConfig;
pub use journal::{Journal, JournalError};
pub use startup::{Base, Place, Run, Starter};
pub use updater::{Setting, Updater};
