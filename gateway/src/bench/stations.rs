//! Many stations that report each minute: what they cost, and how much memory they take.

use super::{Args, Programs};

/// Measures `stations` stations.
///
/// # Errors
/// As [`super::run`].
pub async fn run(_stations: u32, _args: &Args, _programs: &Programs) -> anyhow::Result<()> {
    anyhow::bail!("not there yet")
}
