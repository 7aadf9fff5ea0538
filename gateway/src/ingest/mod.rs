//! The pipeline, in two threads, so that what thinks never holds up what keeps.
//!
//! [`Intake`] takes in what the door delivers, brings it to disk in groups, and only then acknowledges it. When it cannot
//! keep up, the door's bounded queue fills, the door stops reading, and the stations keep what is not acknowledged.
//!
//! [`Analysis`] lets what is stored go on to windows, detection and spool. It goes through the commits of the raw store one
//! after the other, message by message, and remembers with all that it emits how far it has come. So what it emits depends
//! on the commits alone: not on how they were handed over, and not on how often the gateway was killed. Usually it is
//! handed each commit by [`Stored`]; when it is behind, because a model hangs or a boundary of many windows takes its time,
//! the hand-over is forgotten and it reads the commits from the raw store.

mod analysis;
mod clocks;
mod decisions;
mod foreign;
mod intake;
mod own_clock;
pub(crate) mod replay;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::{Birth, NodeModelStatus, Reading, StationId, Status, Timestamp};

pub use analysis::Analysis;
pub use foreign::Unmapped;
pub use intake::{Intake, QUEUE, QUEUE_BYTES};
pub use own_clock::Doubt;
pub use snapshot::{Snapshot, Snapshots, StationState};

use crate::config::Config;
use crate::decode::source;
use crate::model::Model;
use crate::store::{Store, StoreError};
use crate::window::{Origin, Rhythm};

/// Commits that lie between intake and analysis. When there are as many, those that follow are read from the raw store.
const HAND_OVER: usize = 16;
/// How long to wait after the disk refused something.
const DISK_WAIT: Duration = Duration::from_millis(500);

/// A group that is on disk, or that waits for the disk and will have this number.
#[derive(Debug)]
pub struct Stored {
    /// The raw store's row.
    pub commit: u64,
    /// When it came, in farm time.
    pub at: Timestamp,
    /// What its messages say, one for each message of the row, in order.
    pub items: Vec<Item>,
}

/// What one message says.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Who says it.
    pub station: StationId,
    /// What.
    pub content: Content,
}

/// What a message says that was taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Readings that are known as a batch.
    Batch(Origin, Vec<Reading>),
    /// Readings that are each known by themselves.
    Plain(Vec<Reading>),
    /// What the station is.
    Birth(Box<Birth>),
    /// A source's message as it came, by a bridge. What it says follows.
    Foreign,
    /// Whether it is there.
    Status {
        /// It is.
        online: bool,
        /// The number of its newest irrigation that is carried out.
        irrigated: Option<u64>,
        /// How it stands with its models.
        model: Option<Box<NodeModelStatus>>,
    },
}

impl From<Status> for Content {
    fn from(status: Status) -> Self {
        Self::Status { online: status.online, irrigated: status.irrigated, model: status.model.map(Box::new) }
    }
}

/// The readings of a stored message, with their station; none when it has none.
pub(crate) fn readings_of(message: &crate::store::RawMessage) -> Option<(StationId, Vec<Reading>)> {
    match replay::item(message)?.0 {
        Item { station, content: Content::Batch(_, readings) | Content::Plain(readings) } if !readings.is_empty() => {
            Some((station, readings))
        }
        _ => None,
    }
}

/// What both threads know.
#[derive(Debug)]
struct Shared {
    /// The newest commit on disk.
    newest: AtomicU64,
    /// The oldest raw row that is needed after a restart. Those from here on are not let go of.
    needed: AtomicU64,
    /// Bytes of all raw rows, once the intake has added them up.
    raw_bytes: Mutex<Option<u64>>,
    /// All counters, as they are on disk.
    counters: Mutex<BTreeMap<String, u64>>,
    /// The channels of sources that nobody mapped.
    unmapped: foreign::UnmappedChannels,
    /// How the gateway's own clock stands.
    clock: own_clock::Standing,
}

impl Shared {
    fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    fn raw_bytes(&self) -> Option<u64> {
        *self.raw_bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_raw_bytes(&self, bytes: Option<u64>) {
        *self.raw_bytes.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
    }

    /// Adds what is on disk now.
    fn counted(&self, counters: BTreeMap<String, u64>) {
        let mut all = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, by) in counters {
            count(&mut all, name, by);
        }
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Opens the store and builds the state again that the gateway had when it ended or was killed.
///
/// # Errors
/// When the store cannot be opened or read.
pub fn open(
    config: &Config,
    models: Vec<(Model, Option<Model>)>,
    now: Timestamp,
) -> Result<(Intake, Analysis, Snapshots), StoreError> {
    // What was counted for damage is on disk, and read with all other counters.
    let (mut store, _) = Store::open_or_recover(&config.data_dir, now)?;
    // What somebody has mapped since, or whose source is gone, is unknown no more.
    let (unmapped, settled): (Vec<_>, Vec<_>) =
        store.unmapped()?.into_iter().partition(|one| source::is_unmapped(&config.sources, &one.channel));
    store.forget_unmapped(&settled)?;
    let shared = Arc::new(Shared {
        newest: AtomicU64::new(store.newest()?),
        needed: AtomicU64::new(0),
        raw_bytes: Mutex::new(None),
        counters: Mutex::new(store.counters()?),
        unmapped: foreign::UnmappedChannels::new(unmapped),
        clock: own_clock::Standing::default(),
    });
    let (sender, receiver) = sync_channel(HAND_OVER);
    let mut own = store.beside()?;
    store.mark(&config.data_dir, &mut own)?;
    let (analysis, recent, snapshot) = Analysis::open(config, own, models, receiver, Arc::clone(&shared), now)?;
    let intake = Intake::open(config, store, recent, sender, shared, now)?;
    Ok((intake, analysis, snapshot))
}

fn rhythm_of(birth: &Birth) -> Rhythm {
    Rhythm { interval_s: birth.interval_s, report_s: birth.report_s }
}

fn count(counters: &mut BTreeMap<String, u64>, name: impl AsRef<str> + Into<String>, by: u64) {
    match counters.get_mut(name.as_ref()) {
        Some(value) => *value += by,
        None => drop(counters.insert(name.into(), by)),
    }
}

#[cfg(test)]
mod tests;
