//! The door's thread, which works in strokes.
//!
//! Stations send when they like, thousands of times a second in all. To wake up for each message would cost more than all
//! that is done with it; and as its PUBACK waits for the group commit anyway, nobody is served sooner. So after something
//! has been read the thread sleeps for a moment, and then deals with all that has come meanwhile. While nothing
//! comes it sleeps without end.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::yield_now;

/// How long a stroke is waited for; a PUBACK, and every packet, comes as much later at most.
const STROKE: Duration = Duration::from_millis(8);

/// After so many yields in a row in which nothing was read, there is nothing left to read.
const QUIET_YIELDS: u32 = 3;

/// What connections have read so far.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    reads: AtomicU64,
    noted: Notify,
}

impl Activity {
    /// Something was read.
    pub fn note(&self) {
        // It is read and written by the door's thread alone.
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.noted.notify_one();
    }

    fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

/// Runs `work`, and whatever it spawns, on this thread until it has ended. Blocks.
///
/// # Errors
/// When the system has no more file descriptors.
pub(crate) fn run(work: impl Future<Output = ()> + Send + 'static, activity: &Activity) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut work = runtime.spawn(work);
    loop {
        let ended = runtime.block_on(async {
            tokio::select! {
                biased;
                ended = &mut work => Some(ended),
                () = activity.noted.notified() => None,
            }
        });
        if let Some(ended) = ended {
            return ended.map_err(io::Error::other);
        }
        std::thread::sleep(STROKE);
        runtime.block_on(async {
            let (mut before, mut quiet) = (activity.reads(), 0);
            // Each yield lets tasks run that are ready, and looks at the sockets for the next one.
            while quiet < QUIET_YIELDS {
                yield_now().await;
                let now = activity.reads();
                quiet = if now == before { quiet + 1 } else { 0 };
                before = now;
            }
        });
    }
}
