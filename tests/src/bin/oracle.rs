//! Compares the aggregates of a database with what simulated stations really measured: waits until the tables hold as many
//! readings as were made, then checks every row. `tests/compose` runs it beside a farm in containers.
//!
//!     oracle DATABASE-URL TRUTH-DIRECTORY...

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tests::oracle;

/// How long the tables may take to be complete after the last reading was made.
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("usage: oracle DATABASE-URL TRUTH-DIRECTORY...")?;
    let dirs: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let (expected, made) = oracle::expected_of(&dirs);
    let pool = cloud::database::connect(&url).await?;
    let began = Instant::now();
    loop {
        let there: i64 = sqlx::query_scalar("SELECT coalesce(sum(count + rejected), 0)::bigint FROM aggregate")
            .fetch_one(&pool)
            .await?;
        if there >= made {
            break;
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("{there} of {made} readings are in the tables after {} s", PATIENCE.as_secs()).into());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    oracle::check_all(&pool, &dirs).await;
    println!(
        "{made} readings of {} truth logs are in {} aggregates: none is missing, none doubled",
        dirs.len(),
        expected.len()
    );
    Ok(())
}
