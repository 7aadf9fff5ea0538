//! How long a year of a farm takes without a network, and a digest of all its readings: the same seed gives the same bytes.
//!
//! ```sh
//! cargo run --release -p node-sim --example year            # --stations 24 --days 365 --seed 1
//! ```

use std::time::Instant;

use clap::Parser;
use node_sim::{FarmConfig, simulate};
use sha2::{Digest as _, Sha256};

#[derive(Debug, Parser)]
#[command(about = "How long a year of a farm takes without a network")]
struct Cli {
    /// How many stations
    #[arg(long, default_value_t = 24)]
    stations: u32,
    /// How many days, from the farm's start
    #[arg(long, default_value_t = 365)]
    days: u32,
    /// The seed of all chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    let Cli { stations, days, seed } = Cli::parse();
    let config = FarmConfig { stations, seed, ..FarmConfig::default() };
    let (mut digest, mut readings, mut bytes) = (Sha256::new(), 0u64, Vec::new());
    let begun = Instant::now();
    simulate(&config, config.start, config.start.plus_secs(86_400 * i64::from(days)), |station, reading| {
        bytes.clear();
        bytes.extend_from_slice(station.as_str().as_bytes());
        bytes.extend_from_slice(&reading.channel.code().to_le_bytes());
        bytes.extend_from_slice(&reading.time.as_millis().to_le_bytes());
        bytes.extend_from_slice(&reading.value.to_le_bytes());
        digest.update(&bytes);
        readings += 1;
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{stations} stations, {days} days, seed {seed}: {readings} readings in {seconds:.1} s, SHA-256 {digest}");
    Ok(())
}
