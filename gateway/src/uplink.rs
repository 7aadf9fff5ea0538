//! The way to the cloud: batches of one lane at a time, alerts first, each kept until the cloud has it.
//!
//! At-least-once on the wire, exactly once in the tables: the cloud stores a lane's sequence with the rows, and skips what
//! it has. When the cloud is away the spool grows and everything else goes on; when it is back the lanes empty in order of
//! priority. A record that the cloud refuses for good is found by halving its batch, set aside and counted.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::{FarmId, GatewayId, GatewayStatus, Lane, TimeScale, Timestamp, UplinkBatch};
use rand::RngExt as _;
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::CloudConfig;
use crate::spool::{Sending, Spool};
use crate::store::StoreError;

/// zstd's level: batches are small and the link is thin.
const LEVEL: i32 = 6;
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait before the spool is looked at again when it was empty.
const IDLE: Duration = Duration::from_millis(200);
/// The wait after the first failure; it doubles with each further one.
const BACK_OFF: Duration = Duration::from_millis(250);
/// The longest wait: short, so that a cloud that is back gets its data soon.
const BACK_OFF_MOST: Duration = Duration::from_secs(5);
/// How often the gateway says how it is doing.
const STATUS: Duration = Duration::from_secs(5);
/// The most records of a batch.
const MOST: usize = 1_000;

/// What the uplink counts.
#[derive(Debug, Default)]
pub struct UplinkMetrics {
    /// Batches that the cloud took.
    pub batches: AtomicU64,
    /// Records in them.
    pub records: AtomicU64,
    /// Bytes sent, compressed.
    pub bytes: AtomicU64,
    /// Requests that failed.
    pub failures: AtomicU64,
    /// Records that the cloud refused for good.
    pub refused: AtomicU64,
}

/// The uplink's task.
#[derive(Debug)]
pub struct Uplink {
    farm: FarmId,
    gateway: GatewayId,
    cloud: CloudConfig,
    time: TimeScale,
    data_dir: PathBuf,
    metrics: Arc<UplinkMetrics>,
    status: watch::Receiver<GatewayStatus>,
    client: reqwest::Client,
}

/// What became of a batch.
enum Outcome {
    /// The cloud has the lane up to this sequence.
    Stored(u64),
    /// The cloud has the lane up to another sequence than was thought.
    Gap(u64),
    /// The cloud will never take this.
    Refused(String),
    /// The cloud, or the way to it, is away.
    Away(String),
}

impl Uplink {
    /// An uplink of the store in `data_dir`.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(
        (farm, gateway): (FarmId, GatewayId),
        cloud: CloudConfig,
        time: TimeScale,
        data_dir: PathBuf,
        status: watch::Receiver<GatewayStatus>,
    ) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        Ok(Self { farm, gateway, cloud, time, data_dir, metrics: Arc::default(), status, client })
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> Arc<UplinkMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Sends until `shutdown`.
    ///
    /// # Errors
    /// When the spool cannot be read or written.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut spool = Spool::open(&self.data_dir)?;
        let mut back_off = BACK_OFF;
        let mut most = [MOST; Lane::ALL.len()];
        let mut status_due = tokio::time::Instant::now();
        while !shutdown.is_cancelled() {
            let now = self.now();
            let (found, returned) = on_disk(spool, move |spool| {
                for lane in Lane::ALL {
                    if let Some(batch) = spool.next(lane, most[lane as usize], now)? {
                        return Ok(Some((lane, batch)));
                    }
                }
                Ok(None)
            })
            .await?;
            spool = returned;
            let mut away = None;
            match found {
                Ok(Some((lane, batch))) => {
                    let sent = tokio::select! {
                        () = shutdown.cancelled() => break,
                        outcome = self.send(lane, &batch) => outcome,
                    };
                    let outcome = sent?;
                    if let Outcome::Away(why) = &outcome {
                        away = Some(why.clone());
                    }
                    let (settled, returned) =
                        self.settle(spool, lane, batch, outcome, &mut most[lane as usize]).await?;
                    spool = returned;
                    match settled {
                        Ok(()) => {}
                        // What could not be written down is sent again, and the cloud knows it.
                        Err(error) if error.passes() => away = Some(error.to_string()),
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(None) => pause(IDLE, &shutdown).await,
                Err(error) if error.passes() => away = Some(error.to_string()),
                Err(error) => return Err(error.into()),
            }
            if away.is_none() && tokio::time::Instant::now() >= status_due {
                status_due = tokio::time::Instant::now() + STATUS;
                away = self.report().await.err();
            }
            match away {
                None => back_off = BACK_OFF,
                Some(why) => {
                    self.metrics.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        why,
                        wait_ms = back_off.as_millis() as u64,
                        "nothing reaches the cloud; trying again"
                    );
                    let jitter = rand::rng().random_range(0.8..1.2);
                    pause(back_off.mul_f64(jitter), &shutdown).await;
                    back_off = (back_off * 2).min(BACK_OFF_MOST);
                }
            }
        }
        Ok(())
    }

    async fn settle(
        &self,
        spool: Spool,
        lane: Lane,
        batch: Sending,
        outcome: Outcome,
        most: &mut usize,
    ) -> anyhow::Result<(Result<(), StoreError>, Spool)> {
        let now = self.now();
        let metrics = Arc::clone(&self.metrics);
        let halved = (batch.records.len() / 2).max(1);
        if matches!(outcome, Outcome::Refused(_)) && batch.records.len() > 1 {
            *most = halved;
        } else if matches!(outcome, Outcome::Stored(_)) {
            *most = (*most * 2).min(MOST);
        }
        on_disk(spool, move |spool| {
            match outcome {
                Outcome::Stored(sequence) => {
                    metrics.batches.fetch_add(1, Ordering::Relaxed);
                    metrics.records.fetch_add(batch.records.len() as u64, Ordering::Relaxed);
                    spool.acknowledged(lane, batch.last_row, sequence)?;
                }
                Outcome::Gap(acknowledged) => {
                    tracing::warn!(lane = lane.name(), acknowledged, "the cloud has the lane up to another sequence");
                    spool.resume_at(lane, acknowledged)?;
                }
                Outcome::Refused(why) if batch.records.len() > 1 => {
                    tracing::warn!(
                        lane = lane.name(),
                        records = batch.records.len(),
                        why,
                        "the cloud refuses a batch: halving it"
                    );
                    spool.break_up(lane)?;
                }
                Outcome::Refused(why) => {
                    metrics.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(lane = lane.name(), why, "the cloud refuses a record: set aside");
                    spool.quarantine(lane, batch.last_row, &why, now)?;
                }
                Outcome::Away(_) => {}
            }
            Ok(())
        })
        .await
    }

    async fn send(&self, lane: Lane, sending: &Sending) -> anyhow::Result<Outcome> {
        #[derive(Deserialize)]
        struct Stored {
            sequence: u64,
        }
        #[derive(Deserialize)]
        struct Expected {
            expected: u64,
        }
        let batch = UplinkBatch {
            farm: self.farm.clone(),
            gateway: self.gateway.clone(),
            store: sending.store,
            lane,
            first: sending.first,
            records: sending.records.iter().map(|(_, record)| record.clone()).collect(),
        };
        let body = zstd::bulk::compress(&batch.encode(), LEVEL)?;
        self.metrics.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        let request = self
            .client
            .post(format!("{}/api/v1/uplink", self.cloud.url.trim_end_matches('/')))
            .bearer_auth(&self.cloud.token)
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", "zstd")
            .body(body);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return Ok(Outcome::Away(format!("{:#}", anyhow::Error::from(error)))),
        };
        let status = answer.status();
        let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_problem = kind.starts_with("application/problem+json");
        let text = match answer.text().await {
            Ok(text) => text,
            Err(error) => return Ok(Outcome::Away(format!("the answer broke off: {error}"))),
        };
        let shown = || format!("{status}: {}", text.chars().take(300).collect::<String>());
        Ok(match status.as_u16() {
            200 => match serde_json::from_str::<Stored>(&text) {
                Ok(stored) if stored.sequence == batch.last() => Outcome::Stored(stored.sequence),
                // It has had more of this lane than this store ever sent, and skipped the batch as known: it has not seen it.
                Ok(stored) if stored.sequence > batch.last() => Outcome::Gap(stored.sequence),
                _ => Outcome::Away(format!("a strange answer, {}", shown())),
            },
            409 => match serde_json::from_str::<Expected>(&text) {
                Ok(Expected { expected }) if expected != batch.first => Outcome::Gap(expected.saturating_sub(1)),
                _ => Outcome::Away(format!("a strange answer, {}", shown())),
            },
            // The batch itself is at fault. The cloud says so itself; a proxy on the way, or anything else, may pass.
            400 | 413 | 415 | 422 if is_problem => Outcome::Refused(shown()),
            _ => Outcome::Away(shown()),
        })
    }

    /// Says how the gateway is doing.
    async fn report(&self) -> Result<(), String> {
        let status = self.status.borrow().clone();
        let request = self
            .client
            .post(format!("{}/api/v1/uplink/status", self.cloud.url.trim_end_matches('/')))
            .bearer_auth(&self.cloud.token)
            .json(&status);
        let answer = request.send().await.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("status report: {}", answer.status())) }
    }

    fn now(&self) -> Timestamp {
        self.time.at(crate::wall_clock())
    }
}

/// Works with the spool where blocking is allowed, and gives it back.
async fn on_disk<T: Send + 'static>(
    mut spool: Spool,
    work: impl FnOnce(&mut Spool) -> Result<T, StoreError> + Send + 'static,
) -> anyhow::Result<(Result<T, StoreError>, Spool)> {
    Ok(tokio::task::spawn_blocking(move || (work(&mut spool), spool)).await?)
}

async fn pause(length: Duration, shutdown: &CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(length) => {}
    }
}
