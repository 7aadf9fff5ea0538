//! A node's whole memory, and what happens to a sample in it.
//!
//! A node whose memory is another one runs the same program by its parts: [`take`] for its samples, and
//! [`Delivery`] over whatever keeps its reports.

use core::time::Duration;

use crate::delivery::{Delivery, Overdue};
use crate::exception::{Band, Reported};
use crate::filter::Hampel;
use crate::model::Verdict;
use crate::ring::{Gone, Key, Reading, Ring};
use crate::update::Updater;

/// How many values the filter looks at.
pub const WINDOW: usize = 5;

/// How one channel is measured and reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rule {
    /// With a filter, spikes above this size, in the value's last decimal, are taken out.
    pub filter: Option<u32>,
    /// With a band, only what leaves it is reported.
    pub band: Option<Band>,
}

/// What one channel does to its values before they become readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    rule: Rule,
    /// The power of ten by which the fixed-point values are larger than their unit.
    per_unit: u32,
    filter: Hampel<WINDOW>,
    reported: Reported,
}

impl Channel {
    /// A channel that has measured nothing. Its values have so many decimals, up to nine.
    #[must_use]
    pub const fn new(rule: Rule, decimals: u8) -> Self {
        let per_unit = 10u32.saturating_pow(decimals as u32);
        Self { rule, per_unit, filter: Hampel::new(), reported: Reported::new() }
    }

    /// The node starts anew, and has measured nothing.
    pub const fn restart(&mut self) {
        *self = Self { filter: Hampel::new(), reported: Reported::new(), ..*self };
    }

    /// A value that the node holds, in its unit.
    fn in_units(&self, value: i32) -> f64 {
        f64::from(value) / f64::from(self.per_unit)
    }

    /// The value without a spike.
    fn filtered(&mut self, value: i32) -> i32 {
        self.rule.filter.map_or(value, |floor| self.filter.push(value, floor))
    }

    /// Whether a filtered value becomes a reading. Of an unusual sample every value does.
    fn is_due(&mut self, time_ms: i64, value: i32, unusual: bool) -> bool {
        if unusual {
            self.reported.reported(time_ms, value);
            return true;
        }
        self.rule.band.is_none_or(|band| self.reported.is_due(band, time_ms, value))
    }
}

/// What happens to a sample before it is kept: spikes are taken out, the model, if the node has a place for one, judges it,
/// and only what is to be reported stays in `values`, the channels that say something. `index` says which channel has a name.
pub fn take(
    channels: &mut [Channel],
    updater: Option<&mut Updater>,
    time_ms: i64,
    values: &mut [Option<i32>],
    index: impl Fn(&str) -> Option<u8>,
) -> Option<Verdict> {
    for (value, channel) in values.iter_mut().zip(&mut *channels) {
        *value = value.map(|value| channel.filtered(value));
    }
    let in_units = |number: usize| Some(channels.get(number)?.in_units((*values.get(number)?)?));
    let verdict = updater.and_then(|updater| updater.judge(in_units, index));
    let unusual = verdict.is_some_and(|verdict| verdict.alert);
    for (value, channel) in values.iter_mut().zip(channels) {
        *value = value.filter(|value| channel.is_due(time_ms, *value, unusual));
    }
    verdict
}

/// What became of a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// How many of its values are readings.
    pub readings: u16,
    /// How many readings had to go for them.
    pub lost: u32,
    /// What the model says of it.
    pub verdict: Option<Verdict>,
}

/// A node: `CHANNELS` channels, room for `READINGS` readings in `REPORTS` reports, and two models.
///
/// [`FieldNode`] is the one in the field; its size is checked where it is compiled.
#[derive(Debug, Clone)]
pub struct Node<const CHANNELS: usize, const READINGS: usize, const REPORTS: usize> {
    channels: [Channel; CHANNELS],
    ring: Ring<READINGS, REPORTS>,
    delivery: Delivery,
    /// What the next report is known by.
    next: Key,
    /// The models.
    pub updater: Updater,
}

/// The node in the field: thirteen channels, and 2,000 readings in 192 reports. It takes 32,000 bytes, 8 KiB of them for two
/// models; less where an address has 32 bits.
pub type FieldNode = Node<13, 2000, 192>;

/// The memory of the smallest controllers that come with a radio.
pub const MEMORY_BYTES: usize = 32 * 1024;
const _: () = assert!(size_of::<FieldNode>() <= MEMORY_BYTES);

impl<const CHANNELS: usize, const READINGS: usize, const REPORTS: usize> Node<CHANNELS, READINGS, REPORTS> {
    /// A node that starts: the rule of each channel, how many decimals its values have, and the number of this start.
    #[must_use]
    pub fn new(rules: [Rule; CHANNELS], decimals: [u8; CHANNELS], boot: u32) -> Self {
        Self {
            channels: core::array::from_fn(|at| Channel::new(rules[at], decimals[at])),
            ring: Ring::new(),
            delivery: Delivery::new(),
            next: Key::first_of(boot),
            updater: Updater::new(),
        }
    }

    /// Takes a sample, the values of the channels that say something, as [`take`] does, and keeps what is to be reported.
    pub fn sample(
        &mut self,
        time_ms: i64,
        mut values: [Option<i32>; CHANNELS],
        index: impl Fn(&str) -> Option<u8>,
    ) -> Taken {
        let verdict = take(&mut self.channels, Some(&mut self.updater), time_ms, &mut values, index);
        let mut taken = Taken { verdict, ..Taken::default() };
        for (number, value) in values.into_iter().enumerate() {
            let Some(value) = value else { continue };
            let reading = Reading { channel: number as u8, time_ms, value };
            let gone = match self.ring.push(reading) {
                Ok(gone) => gone,
                // The clock was set by more than a report can span.
                Err(_) => {
                    taken.lost += self.report();
                    self.ring.push(reading).unwrap_or(None)
                }
            };
            taken.lost += self.forget(gone);
            taken.readings += 1;
        }
        taken
    }

    /// Closes the report, when there is something in it, and says how many readings had to go for it.
    pub fn report(&mut self) -> u32 {
        match self.ring.seal(self.next) {
            Ok(gone) => {
                self.next = self.next.following();
                self.forget(gone)
            }
            Err(_) => 0,
        }
    }

    /// A connection is there.
    pub fn connected(&mut self) {
        self.delivery.connected();
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.delivery.disconnected();
    }

    /// The next report to send, which from now on is under way.
    pub fn next_to_send(
        &mut self,
        now: Duration,
        chance: impl FnOnce() -> f64,
    ) -> Option<(Key, impl Iterator<Item = Reading> + '_)> {
        self.ring.report(self.delivery.send(&self.ring, now, chance)?)
    }

    /// Everything of a boot up to a sequence is on the gateway's disk. Gives back whether that was news.
    pub fn acknowledged(&mut self, up_to: Key, now: Duration, chance: impl FnOnce() -> f64) -> bool {
        self.delivery.acknowledge(&mut self.ring, up_to, now, chance)
    }

    /// When [`Node::overdue`] wants to be asked.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.delivery.deadline()
    }

    /// What to do about an acknowledgement that should be there by now.
    pub fn overdue(&mut self, now: Duration) -> Option<Overdue> {
        self.delivery.overdue(now)
    }

    /// The memory of readings.
    #[must_use]
    pub fn ring(&self) -> &Ring<READINGS, REPORTS> {
        &self.ring
    }

    /// Counts what went, and takes it from what is under way.
    fn forget(&mut self, gone: Option<Gone>) -> u32 {
        let Some(gone) = gone else { return 0 };
        if gone.key.is_some() {
            self.delivery.gone(1);
        }
        u32::from(gone.readings)
    }
}
