//! Report by exception: a value becomes a reading only when it has left the dead band around the last one that was
//! reported, or when that is as long ago as the heartbeat.
//!
//! What the receiver holds meanwhile, the last reading, is therefore never further from the measured value than the dead
//! band: send-on-delta (Miskowicz 2006, Send-On-Delta Concept: An Event-Based Data Reporting Strategy, Sensors 6, 49-63).
//! The heartbeat tells a probe that rests from one that is dead.

/// How one channel reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Band {
    /// The largest difference that is not reported, in the value's last decimal.
    pub width: u32,
    /// The longest time without a reading, ms.
    pub heartbeat_ms: u32,
}

/// The last reading of one channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reported {
    last: Option<(i64, i32)>,
}

impl Reported {
    /// Nothing was reported yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: None }
    }

    /// Whether a value at a time is a reading. When it is, it is the last one from now on. A clock that was set back is no
    /// reason for silence.
    pub fn is_due(&mut self, band: Band, time_ms: i64, value: i32) -> bool {
        let due = self.last.is_none_or(|(last_ms, last)| {
            let since_ms = time_ms.saturating_sub(last_ms);
            value.abs_diff(last) > band.width || since_ms >= i64::from(band.heartbeat_ms) || since_ms < 0
        });
        if due {
            self.reported(time_ms, value);
        }
        due
    }

    /// A value was reported, whatever the band says.
    pub fn reported(&mut self, time_ms: i64, value: i32) {
        self.last = Some((time_ms, value));
    }
}
