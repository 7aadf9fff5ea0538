//! The way to the cloud: batches of one lane at a time, alerts first, each kept until the cloud has it.
//!
//! At-least-once on the wire, exactly once in the tables: the cloud stores a lane's sequence with the rows, and skips what
//! it has. When the cloud is away the spool grows and everything else goes on; when it is back the lanes empty in order of
//! priority, with a share for the back-fill. A record that the cloud refuses for good is found by halving its batch, set
//! aside and counted. Under a budget all that goes over the link is counted, the status reports too.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::{
    BudgetStatus, FarmId, GatewayId, GatewayStatus, Lane, LaneStatus, LinkStatus, TimeScale, Timestamp, UplinkBatch,
    UplinkStatus,
};
use rand::RngExt as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::CloudConfig;
use crate::spool::{Limits, MAX_BYTES, MAX_RECORDS, Sending, Spool};
use crate::store::StoreError;
use budget::Budget;
use link::{Link, Outcome};
use schedule::Schedule;

pub mod budget;
mod config;
pub mod link;
mod news;
mod pace;
pub mod schedule;

pub use config::UplinkConfig;
pub use pace::Pace;

/// How long to wait before the spool is looked at again when it was empty.
const IDLE: Duration = Duration::from_millis(200);
/// The wait after the first failure; it doubles with each further one.
const BACK_OFF: Duration = Duration::from_millis(250);
/// The longest wait: short, so that a cloud that is back gets its data soon.
const BACK_OFF_MOST: Duration = Duration::from_secs(5);
/// How often the gateway says how it is doing.
const STATUS: Duration = Duration::from_secs(5);
/// The most that the status reports take of a budget.
const STATUS_SHARE: f64 = 0.05;
/// The longest between two reports: the cloud takes a gateway for lost after fifteen minutes.
const STATUS_MOST: Duration = Duration::from_secs(600);
/// How long raw readings are gathered at least, so that the cloud gets few large batches and the disk few writes.
const RAW_EVERY: Duration = Duration::from_secs(10);
/// Records that are refused one after the other without one that is taken, after which each costs a pause: a cloud that
/// refuses everything is at fault itself.
const REFUSED_IN_A_ROW: u32 = 10;

/// What the uplink counts.
#[derive(Debug, Default)]
pub struct UplinkMetrics {
    /// Batches that the cloud took.
    pub batches: AtomicU64,
    /// Records in them.
    pub records: AtomicU64,
    /// Bytes of batches sent, compressed, without headers.
    pub bytes: AtomicU64,
    /// Requests that failed.
    pub failures: AtomicU64,
    /// Records that the cloud refused for good.
    pub refused: AtomicU64,
    /// All that went over the link, in both directions, headers and what lies below them estimated.
    pub link_bytes: AtomicU64,
    /// Status reports that the cloud took.
    pub reports: AtomicU64,
}

/// The uplink's task.
#[derive(Debug)]
pub struct Uplink {
    farm: FarmId,
    gateway: GatewayId,
    config: UplinkConfig,
    time: TimeScale,
    data_dir: PathBuf,
    metrics: Arc<UplinkMetrics>,
    status: watch::Receiver<GatewayStatus>,
    /// How the link is, for the status.
    told: watch::Sender<UplinkStatus>,
    /// How it does just now, for the page.
    pace: watch::Sender<Pace>,
    link: Link,
    schedule: Schedule,
    budget: Option<Budget>,
    /// The most records of a lane's next batch, by priority.
    most: [usize; Lane::ALL.len()],
    gaps: u32,
    refused_in_a_row: u32,
    /// What it was told of stations' untimely readings.
    untimely: news::Told,
}

/// What was found to send.
struct Found {
    lane: Lane,
    batch: Sending,
    /// Whether the back-fill waits too.
    backfill_waits: bool,
}

impl Uplink {
    /// An uplink of the store in `data_dir`.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(
        (farm, gateway): (FarmId, GatewayId),
        cloud: CloudConfig,
        config: UplinkConfig,
        time: TimeScale,
        data_dir: PathBuf,
        status: watch::Receiver<GatewayStatus>,
    ) -> anyhow::Result<Self> {
        let since = time.at(crate::wall_clock());
        let link = LinkStatus { up: false, since, last_success: None, last_error: None, last_error_at: None, bytes: 0 };
        let (told, _) = watch::channel(UplinkStatus { link: Some(link), ..UplinkStatus::default() });
        Ok(Self {
            farm,
            gateway,
            config,
            time,
            data_dir,
            metrics: Arc::default(),
            status,
            told,
            pace: watch::Sender::new(Pace::default()),
            link: Link::new(cloud)?,
            schedule: Schedule::new(config.backfill_share),
            budget: None,
            most: [MAX_RECORDS; Lane::ALL.len()],
            gaps: 0,
            refused_in_a_row: 0,
            untimely: news::Told::default(),
        })
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> Arc<UplinkMetrics> {
        Arc::clone(&self.metrics)
    }

    /// How the link is, and what it may carry. What waits is not in it, but what was refused.
    #[must_use]
    pub fn told(&self) -> watch::Receiver<UplinkStatus> {
        self.told.subscribe()
    }

    /// How fast the link answers, how long is waited, and what it carried lately.
    #[must_use]
    pub fn pace(&self) -> watch::Receiver<Pace> {
        self.pace.subscribe()
    }

    /// Sends until `shutdown`.
    ///
    /// # Errors
    /// When the spool cannot be read or written.
    pub async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut spool = Spool::open(&self.data_dir)?;
        if let Some(budget) = self.config.budget() {
            self.budget = Some(Budget::new(budget, spool.kept("budget_full_at")?.unwrap_or(0)));
        }
        let mut back_off = BACK_OFF;
        let (mut status_due, mut raw_due) = (Instant::now(), Instant::now());
        while !shutdown.is_cancelled() {
            let gather = self.config.raw && Instant::now() >= raw_due;
            let (found, returned) = self.look(spool, gather).await?;
            spool = returned;
            let found = found.map(|(found, more)| {
                if gather && !more {
                    raw_due = Instant::now() + RAW_EVERY.max(Duration::from_secs(self.config.linger().into()));
                }
                found
            });
            let mut away = None;
            match found {
                Ok(Some(found)) => {
                    let outcome = tokio::select! {
                        () = shutdown.cancelled() => break,
                        outcome = self.send(&found) => outcome?,
                    };
                    match outcome {
                        // It costs more than there is: nothing is sent, and the batch stays as it is.
                        None => pause(IDLE, &shutdown).await,
                        Some(outcome) => {
                            away = self.judge(&found, &outcome);
                            let (settled, returned) = self.settle(spool, found, outcome).await?;
                            spool = returned;
                            match settled {
                                Ok(()) => {}
                                // What could not be written down is sent again, and the cloud knows it.
                                Err(error) if error.passes() => away = Some(error.to_string()),
                                Err(error) => return Err(error.into()),
                            }
                        }
                    }
                }
                Ok(None) => pause(IDLE, &shutdown).await,
                Err(error) if error.passes() => away = Some(error.to_string()),
                Err(error) => return Err(error.into()),
            }
            if away.is_none() && Instant::now() >= status_due {
                let reported = tokio::select! {
                    () = shutdown.cancelled() => break,
                    reported = self.report() => reported,
                };
                match reported {
                    Ok(wait) => status_due = Instant::now() + wait,
                    Err(why) => away = Some(why),
                }
            }
            self.pace.send_modify(|pace| pace.waits = away.is_some().then_some(back_off));
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

    /// Looks for what is to be sent next, after it gathered raw readings if it should. Gives whether there are more of them.
    async fn look(
        &self,
        spool: Spool,
        gather: bool,
    ) -> anyhow::Result<(Result<(Option<Found>, bool), StoreError>, Spool)> {
        let now = self.now();
        let wall = crate::wall_clock();
        let linger_ms = (f64::from(self.config.linger()) * 1000.0 * self.time.speed) as i64;
        let (most, budget) = (self.most, self.budget);
        let lanes = self.schedule.order();
        on_disk(spool, move |spool| {
            let more = gather && spool.gather_raw(now)?;
            for lane in lanes {
                // The smallest request must be allowed before a batch is made.
                if budget.is_some_and(|budget| !budget.allows(budget::is_urgent(lane), 1, wall)) {
                    continue;
                }
                let limits = Limits {
                    records: most[lane.priority()],
                    bytes: budget.map_or(MAX_BYTES, |budget| budget.most_batch().min(MAX_BYTES)),
                    linger_ms: if lane == Lane::Aggregates { linger_ms } else { 0 },
                };
                if let Some(batch) = spool.next(lane, limits, now)? {
                    let backfill_waits = lane == Lane::Backfill || spool.backfill_waits()?;
                    return Ok((Some(Found { lane, batch, backfill_waits }), more));
                }
            }
            Ok((None, more))
        })
        .await
    }

    /// Sends a batch; none when the budget does not allow it now.
    async fn send(&mut self, found: &Found) -> anyhow::Result<Option<Outcome>> {
        let Found { lane, batch: sending, backfill_waits } = found;
        let batch = UplinkBatch {
            farm: self.farm.clone(),
            gateway: self.gateway.clone(),
            store: sending.store,
            lane: *lane,
            first: sending.first,
            records: sending.records.iter().map(|(_, record)| record.clone()).collect(),
        };
        let body = Link::pack(&batch)?;
        let (bytes, cost) = (body.len(), self.link.cost(body.len()));
        let wall = crate::wall_clock();
        if self.budget.is_some_and(|budget| !budget.allows(budget::is_urgent(*lane), cost, wall)) {
            return Ok(None);
        }
        self.spend(cost);
        self.metrics.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let began = Instant::now();
        let outcome = self.link.send(&batch, body).await;
        self.answered(began);
        if let Outcome::Stored(_) = &outcome {
            self.schedule.sent(*lane, cost, *backfill_waits);
        }
        if began.elapsed() > BACK_OFF_MOST {
            // The link is thin: the next batch is smaller, so that an alert need not wait for long behind it.
            let most = &mut self.most[lane.priority()];
            *most = (*most / 4).max(1);
        }
        Ok(Some(outcome))
    }

    /// What an outcome says of the link: why to wait, if so.
    fn judge(&mut self, found: &Found, outcome: &Outcome) -> Option<String> {
        let why = match outcome {
            Outcome::Stored(_) => {
                (self.gaps, self.refused_in_a_row) = (0, 0);
                None
            }
            Outcome::Gap(at) => {
                self.gaps += 1;
                (self.gaps > 1)
                    .then(|| format!("lane {} is said to be at {at}, and at another place before", found.lane.name()))
            }
            Outcome::Refused(why) if found.batch.records.len() == 1 => {
                self.refused_in_a_row += 1;
                (self.refused_in_a_row > REFUSED_IN_A_ROW).then(|| format!("everything is refused, now with {why}"))
            }
            Outcome::Refused(_) => None,
            Outcome::Away(why) => Some(why.clone()),
        };
        let refused = matches!(outcome, Outcome::Refused(_)) && found.batch.records.len() == 1;
        if refused {
            self.told.send_modify(|told| {
                told.lanes.entry(found.lane.name().to_owned()).or_insert_with(LaneStatus::default).refused += 1
            });
        }
        self.tell(why.clone());
        why
    }

    /// Notes how the link is.
    fn tell(&self, away: Option<String>) {
        let now = self.now();
        let bytes = self.metrics.link_bytes.load(Ordering::Relaxed);
        let budget = self.budget.map(|budget| BudgetStatus {
            bytes_per_hour: budget.per_hour(),
            burst_bytes: budget.burst(),
            available: u64::try_from(budget.holds(crate::wall_clock())).unwrap_or(0),
        });
        self.told.send_modify(|told| {
            told.budget = budget;
            let Some(link) = &mut told.link else { return };
            link.bytes = bytes;
            if link.up != away.is_none() {
                (link.up, link.since) = (away.is_none(), now);
            }
            match away {
                None => link.last_success = Some(now),
                Some(_) => (link.last_error, link.last_error_at) = (away, Some(now)),
            }
        });
    }

    /// Notes how long a request took that began at `began`, if it was answered.
    fn answered(&self, began: Instant) {
        if self.link.was_answered() {
            self.pace.send_modify(|pace| pace.round_trip = Some(began.elapsed()));
        }
    }

    fn spend(&mut self, cost: u64) {
        self.metrics.link_bytes.fetch_add(cost, Ordering::Relaxed);
        let wall = crate::wall_clock();
        self.pace.send_modify(|pace| pace.sent(cost, wall));
        if let Some(budget) = &mut self.budget {
            budget.take(cost, wall);
        }
    }

    async fn settle(
        &mut self,
        spool: Spool,
        found: Found,
        outcome: Outcome,
    ) -> anyhow::Result<(Result<(), StoreError>, Spool)> {
        let Found { lane, batch, .. } = found;
        let now = self.now();
        let metrics = Arc::clone(&self.metrics);
        let most = &mut self.most[lane.priority()];
        let halved = (batch.records.len() / 2).max(1);
        if matches!(outcome, Outcome::Refused(_)) && batch.records.len() > 1 {
            *most = halved;
        } else if matches!(outcome, Outcome::Stored(_)) {
            *most = (*most * 2).min(MAX_RECORDS);
        }
        let full_at = self.budget.map(|budget| budget.full_at_us());
        on_disk(spool, move |spool| {
            if let Some(full_at) = full_at {
                spool.keep("budget_full_at", full_at)?;
            }
            match outcome {
                Outcome::Stored(sequence) => {
                    metrics.batches.fetch_add(1, Ordering::Relaxed);
                    metrics.records.fetch_add(batch.records.len() as u64, Ordering::Relaxed);
                    spool.acknowledged(lane, &batch, sequence)?;
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
                    spool.quarantine(lane, *batch.rows.end(), &why, now)?;
                }
                Outcome::Away(_) => {}
            }
            Ok(())
        })
        .await
    }

    /// Says how the gateway is doing. Gives how long to wait until it is said again: under a budget as long as it must, so
    /// that the reports take no more than their share.
    async fn report(&mut self) -> Result<Duration, String> {
        let mut status = self.status.borrow().clone();
        status.untimely = self.untimely.news(&status.untimely);
        if self.budget.is_some_and(|budget| !budget.allows(false, 1, crate::wall_clock())) {
            return Ok(STATUS);
        }
        let began = Instant::now();
        let (cost, said) = self.link.report(&status).await;
        self.answered(began);
        self.spend(cost);
        self.tell(said.clone().err());
        said?;
        self.untimely.told(status.untimely);
        self.metrics.reports.fetch_add(1, Ordering::Relaxed);
        Ok(self.budget.map_or(STATUS, |budget| {
            let per_second = budget.per_hour() as f64 / 3600.0 * STATUS_SHARE;
            Duration::from_secs_f64(cost as f64 / per_second).clamp(STATUS, STATUS_MOST)
        }))
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
