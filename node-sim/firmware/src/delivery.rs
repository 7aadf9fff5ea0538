//! Delivery from end to end: only the gateway's own acknowledgement takes a report from the memory.
//!
//! Reports go out in the order in which they were made, at most [`WINDOW`] ahead of the acknowledgement; after a reconnect,
//! and when the acknowledgement does not come in time, from the oldest again. The reports themselves are elsewhere
//! ([`Reports`]): in a [`Ring`](crate::ring::Ring), or in a larger memory behind the node.

use core::time::Duration;

use crate::ring::{Freed, Key};

/// Reports under way at once. Enough to fill a group commit's time at a gateway, few enough that a resend is cheap, and
/// well below an MQTT client's own limit of unacknowledged messages, which therefore never holds anything back.
pub const WINDOW: usize = 16;
/// How long a node waits for an acknowledgement at first. A gateway commits within a tenth of a second.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long it waits at most, but for chance; the wait doubles each time that it was in vain.
pub const MOST_PATIENCE: Duration = Duration::from_secs(60);
/// After this many waits in vain the connection itself is doubted.
const RECONNECT_AFTER: u32 = 2;

/// What to do when an acknowledgement has not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// Send everything again, from the oldest.
    Resend,
    /// Give the connection up and make a new one.
    Reconnect,
}

/// Where reports wait for their acknowledgement, the oldest first.
pub trait Reports {
    /// How many wait.
    fn waiting(&self) -> usize;

    /// Frees every report that an acknowledgement covers. `under_way` of the oldest are under way.
    fn acknowledge(&mut self, up_to: Key, under_way: usize) -> Freed;
}

/// How many of the oldest reports are under way, and until when that is waited for. Times are since any fixed moment.
/// `chance` gives a number from 0 to 1 and lengthens a wait by up to a quarter, so that many nodes do not speak at once.
#[derive(Debug, Clone, Default)]
pub struct Delivery {
    under_way: usize,
    connected: bool,
    /// None while nothing is under way.
    deadline: Option<Duration>,
    /// How many waits in a row were in vain.
    in_vain: u32,
}

impl Delivery {
    /// Nothing under way, and no connection.
    #[must_use]
    pub const fn new() -> Self {
        Self { under_way: 0, connected: false, deadline: None, in_vain: 0 }
    }

    /// A connection is there: everything goes again.
    pub fn connected(&mut self) {
        self.connected = true;
        self.nothing_under_way();
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.nothing_under_way();
    }

    /// The index of the report to send next; none when there is none, or enough are under way.
    #[must_use]
    pub fn next(&self, reports: &impl Reports) -> Option<usize> {
        (self.connected && self.under_way < WINDOW && self.under_way < reports.waiting()).then_some(self.under_way)
    }

    /// The report of [`Delivery::next`], which from now on is under way.
    pub fn send(&mut self, reports: &impl Reports, now: Duration, chance: impl FnOnce() -> f64) -> Option<usize> {
        let index = self.next(reports)?;
        self.under_way += 1;
        if self.deadline.is_none() {
            self.deadline = Some(now + self.patience(chance));
        }
        Some(index)
    }

    /// The report that was sent last could not be handed to the connection.
    pub fn not_sent(&mut self) {
        self.gone(1);
    }

    /// So many reports that were under way have left the memory without an acknowledgement.
    pub fn gone(&mut self, reports: usize) {
        self.under_way = self.under_way.saturating_sub(reports);
        if self.under_way == 0 {
            self.deadline = None;
        }
    }

    /// Everything of a boot up to a sequence is on the gateway's disk: it leaves the memory. Gives back whether that was news.
    pub fn acknowledge(
        &mut self,
        reports: &mut impl Reports,
        up_to: Key,
        now: Duration,
        chance: impl FnOnce() -> f64,
    ) -> bool {
        let freed = reports.acknowledge(up_to, self.under_way);
        if freed.reports > 0 {
            self.under_way = self.under_way.saturating_sub(freed.under_way);
            self.in_vain = 0;
            self.deadline = if self.under_way > 0 { Some(now + self.patience(chance)) } else { None };
        }
        freed.reports > 0
    }

    /// When [`Delivery::overdue`] wants to be asked.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// What to do about an acknowledgement that should be there by now; none when it is not yet time.
    pub fn overdue(&mut self, now: Duration) -> Option<Overdue> {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return None;
        }
        self.in_vain += 1;
        self.nothing_under_way();
        Some(if self.in_vain.is_multiple_of(RECONNECT_AFTER) { Overdue::Reconnect } else { Overdue::Resend })
    }

    fn nothing_under_way(&mut self) {
        self.under_way = 0;
        self.deadline = None;
    }

    fn patience(&self, chance: impl FnOnce() -> f64) -> Duration {
        let wait = PATIENCE.saturating_mul(1 << self.in_vain.min(6)).min(MOST_PATIENCE);
        wait.mul_f64(1.0 + 0.25 * chance())
    }
}
