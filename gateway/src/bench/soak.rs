//! A month of a farm, as fast as it goes: does anything grow?

use super::{Args, Programs};

/// Measures `days` days.
///
/// # Errors
/// As [`super::run`].
pub async fn run(_days: u32, _args: &Args, _programs: &Programs) -> anyhow::Result<()> {
    anyhow::bail!("not there yet")
}
