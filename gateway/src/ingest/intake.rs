//! From the door to the disk: a group of deliveries is decoded, deduplicated, stored, and only then acknowledged.
//!
//! A group that the disk refuses is kept and tried again until it is stored. Meanwhile nothing more is taken from the door,
//! whose bounded queue holds up the stations; but what the group says goes on to windows and detection, once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::{Birth, Reading, Record, StationBirth, StationId, TimeScale, Timestamp, TopicKind};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::timeout_at;

use super::own_clock::OwnClock;
use super::{Content, DISK_WAIT, Item, Shared, Stored, count};
use crate::config::{Config, RetentionConfig};
use crate::decode::source::{Announcement, Sources};
use crate::decode::{self, Message, Plain};
use crate::deduplicate::{Progress, Recent, Sent, Verdict};
use crate::door::{Deliveries, Delivery, DeliveryKind, Outbox, Release, Ticket};
use crate::store::{DELETE_AT_ONCE, Group, RawMessage, Reserve, Store, StoreError, kind_code};
use crate::window::Origin;

/// How long a group with few messages waits for more: what a PUBACK is late at most, with the sync after it, which has the
/// rest of the 100 ms.
const GROUP_WAIT: Duration = Duration::from_millis(50);
/// How long it waits when it has [`ENOUGH`] messages to share what a commit costs. A PUBACK that goes within 40 ms takes the
/// acknowledgement of TCP along; later the kernel has sent one by itself, which costs as much as the PUBACK.
const ENOUGH_WAIT: Duration = Duration::from_millis(25);
/// So many messages share the pages that each commit writes.
const ENOUGH: usize = 100;
/// How often it is looked meanwhile how many there are, unless they come so slowly that there will not be enough.
const LOOK: Duration = Duration::from_millis(13);
/// The most deliveries in a group.
const GROUP_MOST: usize = 4_096;
/// With as many bytes of payload a group takes no more: it holds less than this and one payload. What a source's payload
/// says in our own words is some times as large; SQLite takes a row of up to 1 GB.
pub(super) const GROUP_BYTES: usize = 8 << 20;
/// Deliveries that lie between the door and the pipeline. When it is full the door stops reading its sockets.
pub const QUEUE: usize = 4_096;
/// Bytes of them, likewise.
pub const QUEUE_BYTES: u32 = 32 << 20;
/// How often it is looked whether there is something else to do than to wait for deliveries.
const TICK: Duration = Duration::from_millis(250);
/// How often old raw readings are let go of.
const TRIM: Duration = Duration::from_secs(10);
/// How often it is looked whether raw readings stay for nothing, in farm time, ms.
const DAY_MS: i64 = 86_400_000;
/// How much raw readings make room at once on a full disk, bytes.
const ROOM: u64 = 4 << 20;
/// What is counted when the disk refuses a group.
const FAILED: &str = "failed_commits";
/// How often the disk is tried again after the door has closed.
const LAST_TRIES: u32 = 4;

/// The thread that takes in and keeps.
#[derive(Debug)]
pub struct Intake {
    retention: RetentionConfig,
    time: TimeScale,
    store: Store,
    reserve: Reserve,
    progress: Progress,
    /// The table of progress was made complete up to this commit, beside what `progress` knows.
    settled: u64,
    /// When it was looked last whether only that table holds old readings.
    settled_at: Option<Timestamp>,
    /// Groups so far.
    groups: u64,
    /// The plain payloads that came last.
    pub(super) recent: Recent,
    pub(super) sources: Sources,
    pub(super) births: BTreeMap<StationId, Birth>,
    /// Counted since the last commit.
    uncounted: BTreeMap<String, u64>,
    hand_over: SyncSender<Stored>,
    pub(super) shared: Arc<Shared>,
    /// Of a farm whose time is the wall clock's.
    own_clock: Option<OwnClock>,
    /// From here on seconds are counted.
    began: Instant,
}

/// A group that is ready for the disk.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) group: Group,
    /// When the deliveries were read, in farm time.
    pub(super) at: Timestamp,
    pub(super) items: Vec<Item>,
    pub(super) tickets: Vec<Ticket>,
    to_acknowledge: Vec<(StationId, u32)>,
    /// What sources want to have published.
    pub(super) replies: Vec<(String, Bytes)>,
}

impl Intake {
    pub(super) fn open(
        config: &Config,
        mut store: Store,
        recent: Recent,
        hand_over: SyncSender<Stored>,
        shared: Arc<Shared>,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let birth = |bytes: Vec<u8>| Birth::decode(&bytes).ok();
        let births = store
            .stations()?
            .into_iter()
            .filter_map(|(station, known)| Some((station, birth(known.birth?)?)))
            .collect();
        let mut sources = Sources::new(&config.sources, &config.gateway);
        for (source, key, body) in store.source_states()? {
            sources.restore(&source, &key, &body);
        }
        let progress = store.progress()?;
        shared.counted(store.set_aside(now)?);
        let (mut own_clock, began) = (None, Instant::now());
        if config.time == TimeScale::real() {
            let (kept, known, shown) = (store.newest_at()?, store.stations()?.len(), crate::wall_clock());
            own_clock.insert(OwnClock::new(shown, Duration::ZERO, kept, known)).tell(&shared.clock);
        }
        Ok(Self {
            retention: config.retention,
            time: config.time,
            reserve: Reserve::open(&config.data_dir),
            progress,
            settled: 0,
            settled_at: None,
            groups: 0,
            recent,
            sources,
            births,
            uncounted: BTreeMap::new(),
            hand_over,
            shared,
            own_clock,
            began,
            store,
        })
    }

    /// What the gateway says about itself to clients of sources, from now on.
    #[must_use]
    pub fn announcements(&self) -> Vec<Announcement> {
        self.sources.announcements(self.now())
    }

    /// Works until the door has closed the queue and everything in it is on disk. Blocks: give it a thread of its own.
    ///
    /// # Errors
    /// When the store fails in a way that waiting does not heal.
    pub fn run(mut self, mut deliveries: Deliveries, outbox: &Outbox, runtime: &Handle) -> Result<(), StoreError> {
        let mut trim = Instant::now();
        let mut group = Vec::with_capacity(GROUP_MOST);
        let mut last_command = self.store.last_command()?;
        outbox.count_commands_from(last_command);
        loop {
            let open = collect(&mut deliveries, &mut group, Instant::now() + TICK, runtime);
            self.look_at_the_clock(&group);
            if !group.is_empty() {
                let taken = self.take_in(&mut group);
                if !self.keep(taken, outbox, || deliveries.is_closed())? {
                    // What came after it must not be kept without it: stations would take both for kept.
                    return Ok(());
                }
            }
            if trim.elapsed() >= TRIM && !self.trim() {
                if outbox.last_command() > last_command {
                    last_command = outbox.last_command();
                    match self.store.keep_last_command(last_command) {
                        Err(error) if error.passes() => tracing::warn!(%error, "the last command's number is not kept"),
                        kept => kept?,
                    }
                }
                self.reserve.make();
                // With more to let go of, go on at the next chance.
                trim = Instant::now();
            }
            if !open {
                match self.store.add(&self.uncounted) {
                    Err(error) if error.passes() => tracing::warn!(%error, "the last counts are lost"),
                    added => added?,
                }
                self.shared.counted(std::mem::take(&mut self.uncounted));
                return Ok(());
            }
        }
    }

    /// Reads what came, and judges what of it is new.
    pub(super) fn take_in(&mut self, deliveries: &mut Vec<Delivery>) -> Taken {
        let (now, shown, counted) = (self.now(), self.shown(), self.began.elapsed());
        let mut taken = Taken { at: now, ..Taken::default() };
        self.groups += 1;
        let commit = self.shared.newest() + 1;
        for delivery in deliveries.drain(..) {
            if delivery.kind == DeliveryKind::Foreign {
                self.take_foreign(&mut taken, delivery, now);
                continue;
            }
            let Taken { group, items, tickets, to_acknowledge, .. } = &mut taken;
            let Delivery { station, kind, payload, packet, duplicate, ticket, .. } = delivery;
            let station = (*station).clone();
            tickets.push(ticket);
            let message = match decode::read_contained(kind, &payload, now) {
                Ok(message) => message,
                Err(error) => {
                    tracing::warn!(%station, %error, "a payload cannot be read: kept aside");
                    count(&mut group.counters, format!("refused.{}", decode::refusal(kind, &error)), 1);
                    group.quarantined.push((format!("station {station}"), error.to_string(), payload.to_vec()));
                    continue;
                }
            };
            let content = match message {
                Message::Data(batch) => {
                    let (verdict, first) = self.progress.take(&station, &batch, self.groups, commit);
                    if first {
                        to_acknowledge.push((station.clone(), batch.boot));
                    }
                    if verdict == Verdict::Known {
                        count(&mut group.counters, "duplicate_batches", 1);
                        continue;
                    }
                    let newest = see(group, &station, &batch.readings, now);
                    if let (Some(clock), Some(newest)) = (&mut self.own_clock, newest) {
                        clock.hear(&station, newest, shown, counted);
                    }
                    Content::Batch(Origin { boot: batch.boot, sequence: batch.sequence }, batch.readings)
                }
                Message::Plain(plain) => {
                    let sent = Sent::new(&payload, packet, plain.newest());
                    if self.recent.holds(&station, &sent, duplicate) {
                        count(&mut group.counters, "duplicate_batches", 1);
                        continue;
                    }
                    self.recent.note(&station, sent);
                    refuse_keys(group, &station, &plain, &payload);
                    let newest = see(group, &station, &plain.readings, now);
                    if let (Some(clock), Some(newest)) = (&mut self.own_clock, newest)
                        && plain.timed
                    {
                        clock.hear(&station, newest, shown, counted);
                    }
                    Content::Plain(plain.readings)
                }
                Message::Birth(birth) => {
                    group.stations.insert(station.clone(), now);
                    group.births.insert(station.clone(), (now, payload.to_vec()));
                    if self.births.get(&station) != Some(&birth) {
                        let record = StationBirth { station: station.clone(), at: now, birth: birth.clone() };
                        group.records.push(Record::Birth(record));
                        self.births.insert(station.clone(), birth.clone());
                    }
                    Content::Birth(Box::new(birth))
                }
                Message::Status(status) => Content::from(status),
            };
            group.messages.push(raw(&station, kind, now, payload, packet));
            items.push(Item { station, content });
        }
        taken
    }

    /// Brings a group to disk, however long that takes, and acknowledges it. After the door has closed it is tried a few
    /// times more; then the group is dropped unacknowledged, and the stations keep it: false.
    pub(super) fn keep(
        &mut self,
        mut taken: Taken,
        outbox: &Outbox,
        closed: impl Fn() -> bool,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        let commit = self.shared.newest() + 1;
        let holds = !taken.group.messages.is_empty();
        let mut stored = holds.then(|| Stored { commit, at: taken.at, items: std::mem::take(&mut taken.items) });
        let mut last_tries = LAST_TRIES;
        for (name, by) in std::mem::take(&mut self.uncounted) {
            count(&mut taken.group.counters, name, by);
        }
        if holds {
            // Else they stay due: the commit's number is the next one's, too.
            taken.group.progress = self.progress.due(commit);
        }
        loop {
            match self.store.commit(&taken.group, commit, now) {
                Ok(()) => break,
                Err(error) if error.passes() => {
                    tracing::error!(%error, messages = taken.group.messages.len(), "a group could not be stored; trying again");
                    // It is shown at once, and kept with the group.
                    self.shared.counted([(FAILED.to_owned(), 1)].into());
                    count(&mut taken.group.counters, FAILED, 1);
                    if error.is_full() && self.make_room(&mut taken.group) {
                        continue;
                    }
                }
                Err(error) => return Err(error),
            }
            // Detection goes on. What it finds is not kept before the group is.
            self.hand_over(stored.take());
            if closed() {
                last_tries -= 1;
                if last_tries == 0 {
                    tracing::error!(messages = taken.group.messages.len(), "a group is given up, unacknowledged");
                    return Ok(false);
                }
            }
            // What was set aside is free meanwhile for the analysis: with what it emits, more readings may go.
            std::thread::sleep(DISK_WAIT);
            self.reserve.make();
        }
        let Taken { mut group, tickets, to_acknowledge, replies, .. } = taken;
        group.counters.remove(FAILED);
        if holds {
            self.shared.newest.store(commit, Ordering::Release);
        }
        self.shared.counted(group.counters);

        let mut release = Release::new();
        for ticket in tickets {
            release.commit(ticket);
        }
        for (station, boot) in to_acknowledge {
            if let Some(sequence) = self.progress.highest(&station, boot) {
                let ack = proto::Ack { boot, sequence };
                release.publish(outbox, &station, TopicKind::Ack, &ack.encode());
            }
        }
        release.send();
        for (topic, payload) in replies {
            outbox.publish_foreign(&topic, payload);
        }
        self.hand_over(stored.take());
        Ok(true)
    }

    /// Hands a commit to the analysis. When that is behind, it will find the commit in the raw store.
    fn hand_over(&self, stored: Option<Stored>) {
        if let Some(stored) = stored {
            // When it has ended by itself, it says why where it is joined.
            let _ = self.hand_over.try_send(stored);
        }
    }

    /// Lets the oldest raw readings that nothing needs go, for the disk is full; true when some went. The room that this
    /// takes was set aside, and is again when some went: new readings never get it, for without it no old ones could go.
    fn make_room(&mut self, group: &mut Group) -> bool {
        self.reserve.give_up();
        self.settle();
        let needed = self.needed();
        match self.store.make_room(ROOM, needed) {
            Ok(0) => false,
            Ok(gone) => {
                tracing::warn!(commits = gone, "the disk is full: old readings are let go of");
                count(&mut group.counters, "raw_commits_crowded_out", gone);
                self.reserve.make();
                true
            }
            Err(error) => {
                tracing::warn!(%error, "no room can be made on the disk");
                false
            }
        }
    }

    /// Makes the table of progress complete where only that holds old readings, by being behind.
    fn settle(&mut self) {
        if self.needed() < self.shared.needed.load(Ordering::Acquire) {
            match self.store.settle_progress(self.now()) {
                Ok(()) => self.settled = self.shared.newest() + 1,
                Err(error) => tracing::warn!(%error, "how far stations are stored cannot be noted"),
            }
        }
    }

    /// Lets old raw readings go; true when there may be more.
    pub(super) fn trim(&mut self) -> bool {
        let now = self.now();
        // By a clock that is not believed nothing is old.
        let before = match self.shared.clock.doubt() {
            Some(_) => Timestamp::MIN,
            None => now.plus_millis(-i64::from(self.retention.raw_days) * DAY_MS),
        };
        // Where little comes the table is behind by weeks.
        if self.settled_at.is_none_or(|at| now.millis_since(at).abs() >= DAY_MS) {
            self.settle();
            self.settled_at = Some(now);
        }
        let needed = self.needed();
        let trimmed = self.store.trim(before, self.retention.raw_bytes, Some(needed));
        self.shared.set_raw_bytes(self.store.raw_bytes());
        match trimmed {
            Ok((gone, crowded)) => {
                let aged = gone - crowded;
                for (name, by) in [("raw_commits_expired", aged), ("raw_commits_crowded_out", crowded)] {
                    if by > 0 {
                        count(&mut self.uncounted, name, by);
                    }
                }
                aged.max(crowded) >= u64::from(DELETE_AT_ONCE)
            }
            Err(error) => {
                tracing::warn!(%error, "old readings could not be let go of");
                false
            }
        }
    }

    /// The oldest raw row that is needed after a restart.
    fn needed(&self) -> u64 {
        let needed = self.shared.needed.load(Ordering::Acquire);
        self.progress.unwritten_from().map_or(needed, |from| needed.min(from.max(self.settled)))
    }

    /// Holds the gateway's own clock against the count of seconds, and one that is in doubt against what stations said that came
    /// just now, before all that came is judged by it.
    pub(super) fn look_at_the_clock(&mut self, deliveries: &[Delivery]) {
        let (shown, counted) = (self.shown(), self.began.elapsed());
        let Some(clock) = &mut self.own_clock else { return };
        clock.look(shown, counted);
        for delivery in deliveries.iter().filter(|delivery| delivery.kind == DeliveryKind::Data) {
            if !clock.is_in_doubt() {
                break;
            }
            if let Ok(Message::Data(batch)) = decode::read(delivery.kind, &delivery.payload, shown)
                && let Some(newest) = batch.readings.iter().map(|reading| reading.time).max()
            {
                clock.hear(&delivery.station, newest, shown, counted);
            }
        }
        clock.tell(&self.shared.clock);
    }

    /// What the clock shows.
    fn shown(&self) -> Timestamp {
        self.time.at(crate::wall_clock())
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.correct(self.shown())
    }
}

/// Waits for deliveries until `until`, and after the first one a moment for more. False when there will be none any more.
fn collect(deliveries: &mut Deliveries, group: &mut Vec<Delivery>, until: Instant, runtime: &Handle) -> bool {
    let mut bytes = 0;
    match runtime.block_on(async { timeout_at(until.into(), deliveries.recv()).await }) {
        Err(_) => return true,
        Ok(None) => return false,
        Ok(Some(first)) => {
            bytes += first.payload.len();
            group.push(first);
        }
    }
    // To be woken by each of them would cost more than all that is done with it.
    let began = Instant::now();
    loop {
        while group.len() < GROUP_MOST && bytes < GROUP_BYTES {
            match deliveries.try_recv() {
                Ok(delivery) => {
                    bytes += delivery.payload.len();
                    group.push(delivery);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        let waited = began.elapsed();
        let wait = if group.len() < ENOUGH { GROUP_WAIT } else { ENOUGH_WAIT };
        let left = wait.saturating_sub(waited);
        if group.len() >= GROUP_MOST || bytes >= GROUP_BYTES || left.is_zero() {
            return true;
        }
        let in_all = group.len() as f64 * GROUP_WAIT.as_secs_f64() / waited.max(LOOK).as_secs_f64();
        let few = waited >= LOOK && in_all < ENOUGH as f64;
        std::thread::sleep(if few { left } else { left.min(LOOK) });
    }
}

/// Notes that readings of `station` came, and which time they span; gives the newest time. How far its windows are emitted is
/// no business of the intake: a gateway that is killed before the next emission must not take for final what it never emitted.
pub(super) fn see(group: &mut Group, station: &StationId, readings: &[Reading], now: Timestamp) -> Option<Timestamp> {
    count(&mut group.counters, "readings", readings.len() as u64);
    group.stations.insert(station.clone(), now);
    let span = |span: Option<(Timestamp, Timestamp)>, time: Timestamp| {
        Some(span.map_or((time, time), |(first, last)| (first.min(time), last.max(time))))
    };
    let (first, last) = readings.iter().map(|reading| reading.time).fold(None, span)?;
    group.span = span(span(group.span, first), last);
    Some(last)
}

/// Counts the keys of a plain payload that cannot be taken, and keeps it aside with what is wrong.
fn refuse_keys(group: &mut Group, station: &StationId, plain: &Plain, payload: &[u8]) {
    if plain.refused.is_empty() {
        return;
    }
    let problems = plain.problems.join("; ");
    tracing::warn!(%station, %problems, "parts of a plain payload cannot be taken");
    for (reason, by) in &plain.refused {
        count(&mut group.counters, format!("refused.{reason}_json"), *by);
    }
    group.quarantined.push((format!("station {station}"), problems, payload.to_vec()));
}

pub(super) fn raw(station: &StationId, kind: DeliveryKind, now: Timestamp, payload: Bytes, packet: u16) -> RawMessage {
    RawMessage {
        station: station.to_string(),
        kind: kind_code(kind),
        at_ms: now.as_millis(),
        payload,
        packet: u32::from(packet),
        ..RawMessage::default()
    }
}
