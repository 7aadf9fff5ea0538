//! Who is connected, and the way back to the stations.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use proto::{Command, CommandMessage, FarmId, StationId, Timestamp, TopicKind};

use super::frames;
use super::mailbox::Mailbox;
use super::metrics::{DoorMetrics, count};
use super::rate::Spent;
use crate::broker::Broker;
use crate::decode::source::filter;
use crate::external::ToExternal;

/// Clients that have gone and whose spending is remembered. Beyond it a client that comes back begins anew.
const MAX_SPENT: usize = 20_000;

/// One connected client, as the others see it.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The station that the client is, if it is one.
    pub station: Option<Arc<StationId>>,
    /// What waits to be written to it.
    pub mailbox: Arc<Mailbox>,
    /// The largest packet that it takes, in bytes, when it speaks MQTT 5.
    mqtt5: Option<u32>,
    /// What it has sent, against its rate; goes over to its next connection.
    spent: Mutex<Spent>,
    /// The kinds of its own messages that it has subscribed to, as [`bit`]s.
    subscribed: AtomicU8,
}

const fn bit(kind: TopicKind) -> u8 {
    match kind {
        TopicKind::Ack => 1,
        TopicKind::Command => 2,
        TopicKind::Birth | TopicKind::Data | TopicKind::Status => 0,
    }
}

impl Peer {
    /// A client that has subscribed to nothing; `mqtt5` is the largest packet that it takes when it speaks MQTT 5.
    pub fn new(station: Option<Arc<StationId>>, mqtt5: Option<u32>) -> Self {
        Self { station, mqtt5, mailbox: Arc::default(), spent: Mutex::default(), subscribed: AtomicU8::new(0) }
    }

    /// What it has sent, against its rate.
    pub fn spent(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The station subscribes to its own messages of a kind.
    pub fn subscribe(&self, kind: TopicKind) {
        self.subscribed.fetch_or(bit(kind), Ordering::Relaxed);
    }

    /// The station no longer wants messages of a kind; returns whether it did.
    pub fn unsubscribe(&self, kind: TopicKind) -> bool {
        self.subscribed.fetch_and(!bit(kind), Ordering::Relaxed) & bit(kind) != 0
    }

    fn wants(&self, kind: TopicKind) -> bool {
        self.subscribed.load(Ordering::Relaxed) & bit(kind) != 0
    }
}

/// What the gateway says about itself to whoever subscribes to it: topic and payload. The broker behind the door does not
/// keep retained messages reliably; these few the door keeps itself.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    topics: Mutex<BTreeMap<String, Bytes>>,
}

impl Announced {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives what matches one of `filters` to `take`, each topic once.
    pub fn matching(&self, filters: &[String], mut take: impl FnMut(&str, &[u8])) {
        if filters.is_empty() {
            return;
        }
        for (topic, payload) in self.lock().iter() {
            if filters.iter().any(|own| filter::matches(own, topic)) {
                take(topic, payload);
            }
        }
    }

    /// Whether it is the gateway's own topic, which nobody else publishes.
    pub fn holds(&self, topic: &str) -> bool {
        self.lock().contains_key(topic)
    }
}

/// Every client that is let in, by its key: a station's name, or another program's `name/client id`.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    peers: Mutex<HashMap<String, Arc<Peer>>>,
    /// What clients that have gone had sent, as long as it counts against their rate.
    spent: Mutex<HashMap<String, Spent>>,
    /// The number of the last command to any station.
    commands: AtomicU64,
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Peer>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a client in. Whoever was in under the same key is asked to go.
    pub fn enter(&self, key: &str, peer: Arc<Peer>) {
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        *peer.spent() = spent.unwrap_or_default();
        if let Some(before) = self.lock().insert(key.to_owned(), Arc::clone(&peer)) {
            *peer.spent() = *before.spent();
            if before.mailbox.take_over() {
                before.mailbox.send();
            }
        }
    }

    /// A client has gone. It may have been replaced long since. `now` is the door's own clock.
    pub fn leave(&self, key: &str, peer: &Arc<Peer>, now: Duration) {
        peer.mailbox.leave();
        if let Entry::Occupied(entry) = self.lock().entry(key.to_owned())
            && Arc::ptr_eq(entry.get(), peer)
        {
            entry.remove();
            let spent = *peer.spent();
            if !spent.is_forgotten(now) {
                let mut all = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
                if all.len() >= MAX_SPENT {
                    all.retain(|_, spent| !spent.is_forgotten(now));
                }
                if all.len() < MAX_SPENT {
                    all.insert(key.to_owned(), spent);
                }
            }
        }
    }

    fn get(&self, key: &str) -> Option<Arc<Peer>> {
        self.lock().get(key).cloned()
    }

    fn stations(&self) -> Vec<StationId> {
        self.lock().values().filter_map(|peer| peer.station.as_deref().cloned()).collect()
    }

    fn count_stations(&self) -> usize {
        self.lock().values().filter(|peer| peer.station.is_some()).count()
    }
}

/// The way from the gateway to its stations, and the list of who is connected. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbox {
    pub(crate) farm: Arc<FarmId>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) announced: Arc<Announced>,
    pub(crate) broker: Broker,
    pub(crate) metrics: Arc<DoorMetrics>,
    pub(crate) external: Option<ToExternal>,
}

impl Outbox {
    /// Sends a message to a station under its `ack` or `command` topic with QoS 0.
    ///
    /// Returns whether the message waits to be written: the station is connected, has subscribed to the topic, and
    /// has room in its mailbox (64 messages). What does not is dropped and counted. Programs that subscribe to the
    /// topic see the message either way.
    pub fn publish(&self, station: &StationId, kind: TopicKind, payload: &[u8]) -> bool {
        self.put(station, kind, payload, |mailbox| mailbox.send())
    }

    /// Sends a station a command under the next number. Returns what [`Self::publish`] returns.
    ///
    /// A station carries out no number twice, and none below its last. So all commands get their numbers here: from `now`, the
    /// farm's clock in ms, and above [`Self::count_commands_from`], so that a restarted gateway goes on above those that it gave
    /// before, also when its clock was set back.
    pub fn command(&self, station: &StationId, command: Command, now: Timestamp) -> bool {
        let least = now.as_millis().max(1).cast_unsigned();
        let next = |last: u64| least.max(last + 1);
        let last = self.clients.commands.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        let id = last.map_or(least, next);
        self.publish(station, TopicKind::Command, &CommandMessage { id, command }.encode())
    }

    /// The numbers of commands go on above `last`.
    pub(crate) fn count_commands_from(&self, last: u64) {
        self.clients.commands.fetch_max(last, Ordering::Relaxed);
    }

    /// The number of the last command to any station; 0 before the first.
    pub(crate) fn last_command(&self) -> u64 {
        self.clients.commands.load(Ordering::Relaxed)
    }

    /// [`Self::publish`], but for the sending: `send` gets the mailbox if it must be sent.
    pub(crate) fn put(
        &self,
        station: &StationId,
        kind: TopicKind,
        payload: &[u8],
        send: impl FnOnce(Arc<Mailbox>),
    ) -> bool {
        let levels = [proto::topic::PREFIX, self.farm.as_str(), station.as_str(), kind.name()];
        if self.broker.is_wanted() {
            self.broker.hand_on(Bytes::from(levels.join("/")), Bytes::copy_from_slice(payload), None);
        }
        if let Some(external) = &self.external
            && self.clients.get(station.as_str()).is_none()
        {
            return external.publish(levels.join("/"), Bytes::copy_from_slice(payload), false);
        }
        let sent = self.clients.get(station.as_str()).filter(|peer| peer.wants(kind)).and_then(|peer| {
            if peer.mqtt5.is_some_and(|most| frames::publish_bytes(levels, payload) > most as usize) {
                return None;
            }
            let encode = |frames: &mut _| frames::put_publish(frames, peer.mqtt5.is_some(), levels, payload);
            let must_send = peer.mailbox.message(encode)?;
            Some(must_send.then(|| Arc::clone(&peer.mailbox)))
        });
        match sent {
            Some(must_send) => {
                count(&self.metrics.messages_sent);
                if let Some(mailbox) = must_send {
                    send(mailbox);
                }
                true
            }
            None => {
                count(&self.metrics.messages_dropped);
                false
            }
        }
    }

    /// Publishes a message for a source's clients with QoS 0, at the broker. It is dropped and counted when the broker is
    /// behind.
    pub fn publish_foreign(&self, topic: &str, payload: Bytes) {
        if let Some(external) = &self.external {
            external.publish(topic.to_owned(), payload.clone(), false);
        }
        self.broker.hand_on(Bytes::copy_from_slice(topic.as_bytes()), payload, None);
    }

    /// Says something about the gateway: to those who are subscribed, and from now on as a retained message to each who
    /// subscribes. Nobody else publishes on that topic any more.
    pub fn announce(&self, topic: &str, payload: &Bytes) {
        self.announced.lock().insert(topic.to_owned(), payload.clone());
        if let Some(external) = &self.external {
            external.publish(topic.to_owned(), payload.clone(), true);
        }
        self.broker.hand_on(Bytes::copy_from_slice(topic.as_bytes()), payload.clone(), None);
    }

    /// The same, and to the stations at the farm's own broker: there goes what is for none that is connected here.
    #[must_use]
    pub fn with_external(mut self, external: Option<ToExternal>) -> Self {
        self.external = external;
        self
    }

    /// How many stations are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.clients.count_stations()
    }

    /// Which stations are connected, in no order.
    #[must_use]
    pub fn stations(&self) -> Vec<StationId> {
        self.clients.stations()
    }

    /// Whether a station is connected.
    #[must_use]
    pub fn is_connected(&self, station: &StationId) -> bool {
        self.clients.get(station.as_str()).is_some()
    }
}
