//! Which lane is next: the first by priority, but what can wait has its share.

use proto::Lane;

/// What the back-fill is thought to cost before one of its batches was sent, in bytes.
const GUESS: f64 = 16_384.0;
/// The most that the back-fill can have coming, in bytes: a share is no reason to keep others waiting for long.
const MOST: f64 = 1_048_576.0;

/// The order of the lanes, pure. A restart forgets what the back-fill has coming.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    share: f64,
    /// Bytes that the back-fill has coming.
    coming: f64,
    /// What its last batch cost.
    cost: f64,
}

impl Schedule {
    /// With this share of the bytes for the back-fill, from 0 to below 1.
    #[must_use]
    pub fn new(share: f64) -> Self {
        Self { share: share.clamp(0.0, 0.99), coming: 0.0, cost: GUESS }
    }

    /// The lanes in the order in which they may send.
    #[must_use]
    pub fn order(&self) -> [Lane; Lane::ALL.len()] {
        let mut lanes = Lane::ALL;
        if self.coming >= self.cost.min(MOST) {
            lanes.rotate_right(1);
        }
        lanes
    }

    /// A lane sent bytes, while the back-fill waited or not.
    pub fn sent(&mut self, lane: Lane, bytes: u64, waits: bool) {
        let bytes = bytes as f64;
        if lane == Lane::Backfill {
            self.coming = (self.coming - bytes).max(0.0);
            self.cost = bytes;
        } else if waits {
            self.coming = (self.coming + bytes * self.share / (1.0 - self.share)).min(MOST);
        } else {
            self.coming = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_fill_gets_its_share_of_the_bytes_and_no_more_while_others_have_something() {
        let mut schedule = Schedule::new(0.1);
        let (mut backfill, mut all) = (0, 0);
        for step in 0..10_000_u64 {
            let lane = schedule.order()[0];
            let bytes = if lane == Lane::Backfill { 20_000 + step % 7 * 1_000 } else { 3_000 + step % 11 * 100 };
            schedule.sent(lane, bytes, true);
            all += bytes;
            backfill += if lane == Lane::Backfill { bytes } else { 0 };
        }
        let share = backfill as f64 / all as f64;
        assert!((0.095..0.105).contains(&share), "{share}");
    }

    #[test]
    fn what_does_not_wait_saves_nothing_up_and_no_share_is_strict() {
        let mut schedule = Schedule::new(0.5);
        schedule.sent(Lane::Alerts, 1 << 20, false);
        assert_eq!(schedule.order(), Lane::ALL);
        schedule.sent(Lane::Alerts, 1 << 20, true);
        assert_eq!(schedule.order()[..2], [Lane::Backfill, Lane::Alerts]);
        let mut strict = Schedule::new(0.0);
        strict.sent(Lane::Alerts, 1 << 30, true);
        assert_eq!(strict.order(), Lane::ALL);
    }
}
