//! How far a station's clock is believed: what each batch is judged by, and what it changes.
//!
//! It is a small state that every batch moves on, so it cannot be found again from the last few batches alone: a leap
//! waits for batches that confirm it, and what went before decides whether one is one. So the commits whose readings are
//! kept have beside the first of each window what was believed before it came, and what was believed before the oldest is on
//! disk: a rebuilt gateway begins there, and believes the same after each batch.

use prost::Message;
use proto::{Reading, StationId, Timestamp};

use super::{CarriedError, LEAP_BATCHES, Origin, PACE_MS, Shape, Windows};

/// Batches that have leapt ahead, so far without being believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leap {
    newest: Timestamp,
    batches: u32,
}

/// A batch that went back behind an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Back {
    at: Timestamp,
    newest: Timestamp,
}

impl Back {
    /// Whether a batch that comes at `now` was made as long after this one as it comes after it.
    fn keeps_pace(&self, newest: Timestamp, now: Timestamp) -> bool {
        let passed = now.millis_since(self.at);
        passed >= PACE_MS && (newest.millis_since(self.newest) - passed).abs() <= (passed / 50).max(PACE_MS / 2)
    }
}

/// What is believed of a station's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Belief {
    /// The time of the newest believed reading, at most what the gateway's clock showed when it came.
    pub watermark: Option<Timestamp>,
    /// The batch with the newest believed reading, and that reading's time.
    pub top: Option<(Origin, Timestamp)>,
    leap: Option<Leap>,
    /// The last batch, if it went back behind an earlier one.
    back: Option<Back>,
}

/// A [`Belief`] that is kept beside commits: what is seldom in it takes no room.
#[derive(Debug, Clone)]
pub(super) enum Before {
    /// The newest reading is believed, is of this batch, and nothing is doubted.
    Usual {
        boot: u32,
        sequence: u64,
        newest: Timestamp,
    },
    Seldom(Box<Belief>),
}

impl From<Belief> for Before {
    fn from(belief: Belief) -> Self {
        match belief {
            Belief {
                watermark: Some(watermark),
                top: Some((Origin { boot, sequence }, newest)),
                leap: None,
                back: None,
            } if watermark == newest => Self::Usual { boot, sequence, newest },
            other => Self::Seldom(Box::new(other)),
        }
    }
}

impl From<&Before> for Belief {
    fn from(before: &Before) -> Self {
        match before {
            Before::Usual { boot, sequence, newest } => {
                let origin = Origin { boot: *boot, sequence: *sequence };
                Self { watermark: Some(*newest), top: Some((origin, *newest)), leap: None, back: None }
            }
            Before::Seldom(belief) => **belief,
        }
    }
}

impl Belief {
    /// The time that the readings of a batch should not lie behind, if its clock was set back. What the future holds is no
    /// measure.
    pub fn set_back(
        &mut self,
        shape: &Shape,
        origin: Origin,
        readings: &[Reading],
        now: Timestamp,
    ) -> Option<Timestamp> {
        let before = self.back.take();
        let (_, reached) = self.top.filter(|(top, _)| top.boot > 0 && *top < origin)?;
        let (slack_ms, times) = (shape.tolerance.future_ms, readings.iter().map(|r| r.time));
        let newest = times.filter(|time| time.millis_since(now) <= slack_ms).max()?;
        let from = reached.plus_millis(-slack_ms);
        if newest >= from {
            return None;
        }
        self.back = Some(Back { at: now, newest });
        before.filter(|back| back.keeps_pace(newest, now)).map(|_| from)
    }

    /// Moves the watermark to the newest reading of a batch, or waits for more that say the same when it leaps.
    pub fn follow(&mut self, shape: &Shape, origin: Origin, newest: Timestamp, now: Timestamp) {
        let leap_ms = shape.leap_ms();
        let leaps = self.watermark.is_some_and(|before| newest.millis_since(before) > leap_ms);
        let fresh = now.millis_since(newest) <= shape.tolerance.future_ms;
        if leaps && !fresh {
            let again = self.leap.filter(|leap| leap.newest.millis_since(newest) <= leap_ms);
            let batches = again.map_or(0, |leap| leap.batches) + 1;
            if batches < LEAP_BATCHES {
                self.leap = Some(Leap { newest: again.map_or(newest, |leap| leap.newest.max(newest)), batches });
                return;
            }
        }
        self.leap = None;
        self.watermark = self.watermark.max(Some(newest.min(now)));
        if self.top.is_none_or(|(_, reached)| newest > reached) {
            self.top = Some((origin, newest));
        }
    }

    /// Nobody contradicted a leap: it is believed.
    pub fn settle(&mut self, now: Timestamp) {
        if let Some(leap) = self.leap.take() {
            self.watermark = self.watermark.max(Some(leap.newest.min(now)));
        }
    }
}

/// A [`Belief`] on disk.
#[derive(Clone, PartialEq, Message)]
struct Stored {
    /// The oldest commit that is needed of the station; none when nothing is.
    #[prost(uint64, optional, tag = "1")]
    from: Option<u64>,
    #[prost(sint64, optional, tag = "2")]
    watermark_ms: Option<i64>,
    #[prost(message, optional, tag = "3")]
    top: Option<At>,
    #[prost(sint64, tag = "4")]
    leap_ms: i64,
    /// 0 for no leap.
    #[prost(uint32, tag = "5")]
    leap_batches: u32,
    #[prost(sint64, optional, tag = "6")]
    back_at_ms: Option<i64>,
    #[prost(sint64, tag = "7")]
    back_ms: i64,
}

/// A reading's batch and time.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct At {
    #[prost(uint32, tag = "1")]
    boot: u32,
    #[prost(uint64, tag = "2")]
    sequence: u64,
    #[prost(sint64, tag = "3")]
    time_ms: i64,
}

impl From<(Origin, Timestamp)> for At {
    fn from((origin, time): (Origin, Timestamp)) -> Self {
        Self { boot: origin.boot, sequence: origin.sequence, time_ms: time.as_millis() }
    }
}

impl From<At> for (Origin, Timestamp) {
    fn from(At { boot, sequence, time_ms }: At) -> Self {
        (Origin { boot, sequence }, Timestamp::from_millis(time_ms))
    }
}

impl Windows {
    /// What was believed of `station`'s clock before the oldest commit that is needed of it, for
    /// [`Windows::restore_belief`]. It belongs into the transaction that notes how far the commits are gone through.
    #[must_use]
    pub fn belief(&self, station: &StationId) -> Option<Vec<u8>> {
        let station = self.stations.get(station)?;
        let oldest = station.commits.front();
        let Belief { watermark, top, leap, back } = oldest.map_or(station.belief, |kept| (&kept.before).into());
        let stored = Stored {
            from: oldest.map(|kept| kept.commit),
            watermark_ms: watermark.map(Timestamp::as_millis),
            top: top.map(At::from),
            leap_ms: leap.map_or(0, |leap| leap.newest.as_millis()),
            leap_batches: leap.map_or(0, |leap| leap.batches),
            back_at_ms: back.map(|back| back.at.as_millis()),
            back_ms: back.map_or(0, |back| back.newest.as_millis()),
        };
        Some(stored.encode_to_vec())
    }

    /// Takes up what was believed of a station's clock. After [`Windows::restore`], before [`Windows::restore_carried`] and
    /// the replay, which then takes nothing of the station from commits before those that are needed of it.
    ///
    /// # Errors
    /// When `body` is damaged; nothing of it is taken up then, and what is replayed is believed as if it were the first.
    pub fn restore_belief(&mut self, id: &StationId, body: &[u8]) -> Result<(), CarriedError> {
        let stored = Stored::decode(body).map_err(|e| CarriedError { station: id.clone(), detail: e.to_string() })?;
        let time = Timestamp::from_millis;
        let station = self.station(id);
        station.belief = Belief {
            watermark: stored.watermark_ms.map(time),
            top: stored.top.map(Into::into),
            leap: (stored.leap_batches > 0)
                .then(|| Leap { newest: time(stored.leap_ms), batches: stored.leap_batches }),
            back: stored.back_at_ms.map(|at| Back { at: time(at), newest: time(stored.back_ms) }),
        };
        station.needed_from = Some(stored.from.unwrap_or(u64::MAX));
        Ok(())
    }
}
