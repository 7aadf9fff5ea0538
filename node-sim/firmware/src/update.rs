//! A model comes over the air: the node's side, as a state machine.
//!
//! An offer names version, SHA-256 and size. The node asks for what it has not got, keeps it, and when all is there checks
//! size, SHA-256, checksum, bounds, golden output and that it has the channels; only then it swaps. The new model is on
//! probation for [`PROBATION`] samples judged: when it calls more than a fifth of them unusual, when its outputs are at their
//! limits in over half, or after [`MOST_RESETS`] watchdog resets, the one before comes back. What was rolled back or refused
//! is known by its SHA-256 and not taken again.
//!
//! There is room for two models: the active one and either the one before or the one that is coming. So nothing is taken
//! while a model on probation may still go back to the one before.

use sha2::{Digest, Sha256};

use crate::model::{Fault, History, Layout, MAX_BYTES, MAX_CHANNELS, Model, Verdict};

/// How many samples a new model must judge before it is trusted.
pub const PROBATION: u16 = 500;
/// Of so many samples of the probation, more than this share unusual is too many: one in five.
const MOST_ALERTS: u16 = PROBATION / 5;
/// More than half without a statement is too many.
const MOST_SATURATED: u16 = PROBATION / 2;
/// Watchdog resets since the swap from which on the model is at fault.
pub const MOST_RESETS: u8 = 3;
/// How many bad models are remembered.
const KNOWN_BAD: usize = 4;

/// Where an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing came yet.
    Idle,
    /// A candidate comes.
    Receiving,
    /// The last candidate is the active model.
    Active,
    /// The last candidate was active and is no more.
    RolledBack,
    /// The last candidate was not taken.
    Refused,
}

/// Why a candidate was refused or rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nothing is wrong.
    None,
    /// It is empty or larger than a slot.
    Size,
    /// The bytes are not those that were offered.
    Sha256,
    /// The bytes are not a model.
    Model(Fault),
    /// The node does not have all its channels.
    Channel,
    /// The file is of another version than the offer.
    Version,
    /// It was refused or rolled back before.
    KnownBad,
    /// It called too much unusual.
    Alerts,
    /// It mostly said nothing.
    Saturated,
    /// The watchdog bit too often.
    Watchdog,
    /// The gateway said so.
    Told,
}

impl Reason {
    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Size => "size",
            Self::Sha256 => "sha256",
            Self::Model(Fault::Magic) => "magic",
            Self::Model(Fault::Crc) => "crc",
            Self::Model(Fault::Bounds) => "bounds",
            Self::Model(Fault::Golden) => "golden",
            Self::Channel => "channel",
            Self::Version => "version",
            Self::KnownBad => "known as bad",
            Self::Alerts => "alerts",
            Self::Saturated => "saturated",
            Self::Watchdog => "watchdog",
            Self::Told => "told",
        }
    }

    const ALL: [Self; 14] = [
        Self::None,
        Self::Size,
        Self::Sha256,
        Self::Model(Fault::Magic),
        Self::Model(Fault::Crc),
        Self::Model(Fault::Bounds),
        Self::Model(Fault::Golden),
        Self::Channel,
        Self::Version,
        Self::KnownBad,
        Self::Alerts,
        Self::Saturated,
        Self::Watchdog,
        Self::Told,
    ];
}

/// What is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The version's code; never 0.
    pub version: u32,
    /// Of the whole file.
    pub sha256: [u8; 32],
    /// The file's bytes.
    pub size: u32,
}

impl Offer {
    /// Its version and its mark.
    fn name(&self) -> (u32, u32) {
        (self.version, mark(&self.sha256))
    }
}

/// A slot of the flash. Its version is 0 when there is nothing in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    version: u32,
    sha256: [u8; 32],
    size: u16,
    bytes: [u8; MAX_BYTES],
}

impl Slot {
    const fn empty() -> Self {
        Self { version: 0, sha256: [0; 32], size: 0, bytes: [0; MAX_BYTES] }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.size)]
    }

    fn mark(&self) -> u32 {
        mark(&self.sha256)
    }
}

/// The first four bytes of a SHA-256, little endian: tells two files of one version apart.
fn mark(sha256: &[u8; 32]) -> u32 {
    u32::from_le_bytes([sha256[0], sha256[1], sha256[2], sha256[3]])
}

/// An active model's layout, and the node's channels that are its.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fitted {
    layout: Layout,
    channels: [u8; MAX_CHANNELS],
}

/// What there is to say about a node's models; versions are codes, 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The model that judges.
    pub active: u32,
    /// Which file of that version: the first four bytes of its SHA-256.
    pub active_mark: u32,
    /// The one that would come back.
    pub previous: u32,
    /// The last one that was offered and is not active.
    pub candidate: u32,
    /// Which file of that version.
    pub candidate_mark: u32,
    /// How much of it is here.
    pub offset: u32,
    /// Where the update is.
    pub state: State,
    /// Why it was refused or rolled back.
    pub reason: Reason,
    /// Unusual samples under the active model.
    pub alerts: u64,
    /// Samples that the active model has judged.
    pub judged: u64,
}

/// A node's models and their update. `index` of several methods says which of the node's channels has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updater {
    slots: [Slot; 2],
    /// The slot of the active model, when there is one.
    active: u8,
    /// How much of a candidate is in the other slot; 0 when none is coming.
    offset: u16,
    state: State,
    reason: Reason,
    /// The last one that was offered and is not active: its version and its mark.
    candidate: (u32, u32),
    known_bad: [[u8; 32]; KNOWN_BAD],
    next_bad: u8,
    alerts: u64,
    judged: u64,
    /// Samples of the probation: judged, unusual, without a statement. The first is [`PROBATION`] when it is over.
    probation: [u16; 3],
    resets: u8,
    fitted: Option<Fitted>,
    history: History,
}

impl Default for Updater {
    fn default() -> Self {
        Self::new()
    }
}

impl Updater {
    /// A node without models.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            slots: [Slot::empty(), Slot::empty()],
            active: 0,
            offset: 0,
            state: State::Idle,
            reason: Reason::None,
            candidate: (0, 0),
            known_bad: [[0; 32]; KNOWN_BAD],
            next_bad: 0,
            alerts: 0,
            judged: 0,
            probation: [PROBATION, 0, 0],
            resets: 0,
            fitted: None,
            history: History::new(),
        }
    }

    /// What there is to say.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            active: self.active_slot().version,
            active_mark: self.active_slot().mark(),
            previous: if self.state == State::Receiving { 0 } else { self.other().version },
            candidate: self.candidate.0,
            candidate_mark: self.candidate.1,
            offset: if self.state == State::Receiving { u32::from(self.offset) } else { 0 },
            state: self.state,
            reason: self.reason,
            alerts: self.alerts,
            judged: self.judged,
        }
    }

    /// A model is offered. Gives back whether the status is another now.
    pub fn offer(&mut self, offer: Offer) -> bool {
        let receiving = self.state == State::Receiving && self.other().sha256 == offer.sha256;
        let is_active = self.active_slot().version != 0 && self.active_slot().sha256 == offer.sha256;
        if offer.version == 0 || receiving || is_active {
            return false;
        }
        if self.known_bad.contains(&offer.sha256) {
            let dealt_with = self.candidate == offer.name() && matches!(self.state, State::Refused | State::RolledBack);
            if !dealt_with {
                self.refuse_unknown(&offer, Reason::KnownBad);
            }
            return !dealt_with;
        }
        if self.on_probation() && self.has_previous() {
            return false;
        }
        if offer.size == 0 || offer.size as usize > MAX_BYTES {
            self.remember(offer.sha256);
            self.refuse_unknown(&offer, Reason::Size);
            return true;
        }
        let slot = self.other_mut();
        slot.version = offer.version;
        slot.sha256 = offer.sha256;
        slot.size = offer.size as u16;
        self.offset = 0;
        self.candidate = offer.name();
        (self.state, self.reason) = (State::Receiving, Reason::None);
        true
    }

    /// A part of the candidate has come. Only what follows what is here is taken. Gives back whether the status is another
    /// now.
    pub fn chunk(&mut self, version: u32, offset: u32, bytes: &[u8], index: impl Fn(&str) -> Option<u8>) -> bool {
        let begin = usize::from(self.offset);
        let wanted = self.state == State::Receiving && version == self.candidate.0 && offset as usize == begin;
        if !wanted || bytes.is_empty() {
            return false;
        }
        let slot = self.other_mut();
        let size = usize::from(slot.size);
        let taken = bytes.len().min(size - begin);
        slot.bytes[begin..begin + taken].copy_from_slice(&bytes[..taken]);
        self.offset += taken as u16;
        if begin + taken == size {
            match fit(self.other(), &index) {
                Ok(fitted) => self.swap(fitted),
                Err(reason) => self.drop_other(State::Refused, reason),
            }
        }
        true
    }

    /// The gateway wants the active model with this mark away, and the one before, of this version, back; 0 where there is
    /// none before. Gives back whether it went.
    pub fn back(&mut self, version: u32, mark: u32, index: impl Fn(&str) -> Option<u8>) -> bool {
        let before = if self.has_previous() { self.other().version } else { 0 };
        let goes = self.active_slot().version != 0 && self.active_slot().mark() == mark && before == version;
        if goes {
            self.roll_back(Reason::Told, index);
        }
        goes
    }

    /// Judges a sample; `value` gives that of one of the node's channels, in its unit. None without a model, and while
    /// samples before it are missing. A model that misbehaves is rolled back at once.
    pub fn judge(
        &mut self,
        value: impl Fn(usize) -> Option<f64>,
        index: impl Fn(&str) -> Option<u8>,
    ) -> Option<Verdict> {
        let Fitted { layout, channels } = self.fitted?;
        let slot = &self.slots[usize::from(self.active)];
        let model = Model::over(slot.bytes(), layout);
        let verdict = self.history.judge(&model, |channel| value(usize::from(channels[channel])))?;
        self.judged += 1;
        self.alerts += u64::from(verdict.alert);
        if self.on_probation() {
            let [judged, alerts, saturated] = &mut self.probation;
            *judged += 1;
            *alerts += u16::from(verdict.alert);
            *saturated += u16::from(verdict.saturated);
            if *alerts > MOST_ALERTS {
                self.roll_back(Reason::Alerts, index);
            } else if *saturated > MOST_SATURATED {
                self.roll_back(Reason::Saturated, index);
            }
        }
        Some(verdict)
    }

    /// The node starts after its watchdog had to reset it.
    pub fn watchdog_reset(&mut self, index: impl Fn(&str) -> Option<u8>) {
        if self.on_probation() {
            self.resets += 1;
            if self.resets >= MOST_RESETS {
                self.roll_back(Reason::Watchdog, index);
            }
        }
    }

    /// Whether the active model is not yet trusted.
    #[must_use]
    pub fn on_probation(&self) -> bool {
        self.probation[0] < PROBATION
    }

    /// Everything that must outlive a restart, in pieces for the flash.
    pub fn save(&self, mut put: impl FnMut(&[u8])) {
        let reason = Reason::ALL.iter().position(|reason| *reason == self.reason).unwrap_or(0);
        put(&[2, self.active, self.state as u8, reason as u8, self.next_bad, self.resets]);
        put(&self.offset.to_le_bytes());
        put(&self.candidate.0.to_le_bytes());
        put(&self.candidate.1.to_le_bytes());
        put(&self.alerts.to_le_bytes());
        put(&self.judged.to_le_bytes());
        self.probation.iter().for_each(|number| put(&number.to_le_bytes()));
        self.known_bad.iter().for_each(|sha256| put(sha256));
        for slot in &self.slots {
            put(&slot.version.to_le_bytes());
            put(&slot.sha256);
            put(&slot.size.to_le_bytes());
            put(slot.bytes());
        }
    }

    /// What was saved, on a node with these channels; none when the bytes are something else. An active model that is not
    /// whole any more is dropped.
    #[must_use]
    pub fn load(mut bytes: &[u8], index: impl Fn(&str) -> Option<u8>) -> Option<Self> {
        let input = &mut bytes;
        let mut updater = Self::new();
        let [2, active @ 0..=1, state, reason, next_bad, resets] = take(input)? else { return None };
        updater.active = active;
        let states = [State::Idle, State::Receiving, State::Active, State::RolledBack, State::Refused];
        updater.state = *states.get(usize::from(state))?;
        updater.reason = *Reason::ALL.get(usize::from(reason))?;
        updater.next_bad = next_bad % KNOWN_BAD as u8;
        updater.resets = resets;
        updater.offset = u16::from_le_bytes(take(input)?);
        updater.candidate = (u32::from_le_bytes(take(input)?), u32::from_le_bytes(take(input)?));
        updater.alerts = u64::from_le_bytes(take(input)?);
        updater.judged = u64::from_le_bytes(take(input)?);
        for number in &mut updater.probation {
            *number = u16::from_le_bytes(take(input)?);
        }
        for sha256 in &mut updater.known_bad {
            *sha256 = take(input)?;
        }
        for slot in &mut updater.slots {
            slot.version = u32::from_le_bytes(take(input)?);
            slot.sha256 = take(input)?;
            slot.size = u16::from_le_bytes(take(input)?);
            let (kept, rest) = input.split_at_checked(usize::from(slot.size))?;
            slot.bytes.get_mut(..kept.len())?.copy_from_slice(kept);
            *input = rest;
        }
        if !input.is_empty() || updater.offset > updater.other().size {
            return None;
        }
        if updater.active_slot().version != 0 {
            match fit(updater.active_slot(), &index) {
                Ok(fitted) => updater.fitted = Some(fitted),
                Err(reason) => updater.roll_back(reason, index),
            }
        }
        Some(updater)
    }

    fn active_slot(&self) -> &Slot {
        &self.slots[usize::from(self.active)]
    }

    fn other(&self) -> &Slot {
        &self.slots[usize::from(1 - self.active)]
    }

    fn other_mut(&mut self) -> &mut Slot {
        &mut self.slots[usize::from(1 - self.active)]
    }

    fn has_previous(&self) -> bool {
        self.state != State::Receiving && self.other().version != 0
    }

    /// The candidate becomes the active model, and the active one the one before.
    fn swap(&mut self, fitted: Fitted) {
        self.active = 1 - self.active;
        self.candidate = (0, 0);
        self.offset = 0;
        (self.state, self.reason) = (State::Active, Reason::None);
        (self.alerts, self.judged, self.probation, self.resets) = (0, 0, [0; 3], 0);
        self.fitted = Some(fitted);
        self.history = History::new();
    }

    /// The model before, if it is there and whole, becomes the active one; the other is remembered as bad. A candidate that
    /// was coming is dropped, so that the status can say what happened; it is offered again.
    fn roll_back(&mut self, reason: Reason, index: impl Fn(&str) -> Option<u8>) {
        self.fitted = if self.has_previous() { fit(self.other(), &index).ok() } else { None };
        if self.fitted.is_none() {
            *self.other_mut() = Slot::empty();
        }
        self.candidate = (self.active_slot().version, self.active_slot().mark());
        self.active = 1 - self.active;
        self.drop_other(State::RolledBack, reason);
        self.history = History::new();
        (self.alerts, self.judged, self.probation, self.resets) = (0, 0, [PROBATION, 0, 0], 0);
    }

    /// Empties the other slot, whose model is remembered as bad.
    fn drop_other(&mut self, state: State, reason: Reason) {
        self.remember(self.other().sha256);
        *self.other_mut() = Slot::empty();
        self.offset = 0;
        (self.state, self.reason) = (state, reason);
    }

    /// Refuses what was offered before any of it came; what was coming is dropped for it.
    fn refuse_unknown(&mut self, offer: &Offer, reason: Reason) {
        if self.state == State::Receiving {
            *self.other_mut() = Slot::empty();
            self.offset = 0;
        }
        self.candidate = offer.name();
        (self.state, self.reason) = (State::Refused, reason);
    }

    fn remember(&mut self, sha256: [u8; 32]) {
        if !self.known_bad.contains(&sha256) {
            self.known_bad[usize::from(self.next_bad)] = sha256;
            self.next_bad = (self.next_bad + 1) % KNOWN_BAD as u8;
        }
    }
}

/// Checks a slot's model on a node with these channels.
fn fit(slot: &Slot, index: &impl Fn(&str) -> Option<u8>) -> Result<Fitted, Reason> {
    if Sha256::digest(slot.bytes())[..] != slot.sha256 {
        return Err(Reason::Sha256);
    }
    let model = Model::read(slot.bytes()).map_err(Reason::Model)?;
    if model.layout().version() != slot.version {
        return Err(Reason::Version);
    }
    let mut channels = [0; MAX_CHANNELS];
    for (channel, name) in channels.iter_mut().zip(model.names()) {
        *channel = index(name).ok_or(Reason::Channel)?;
    }
    Ok(Fitted { layout: *model.layout(), channels })
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*head)
}
