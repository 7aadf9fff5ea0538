//! What the door counts.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $field:ident,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Default)]
        pub struct $name {
            $($(#[$doc])* pub $field: AtomicU64,)*
        }

        impl $name {
            /// Every counter's name and value, in the order of the fields.
            #[must_use]
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters! {
    /// Counters from the start of the process. All only grow, but for the three that say "now".
    DoorMetrics {
        /// Connections that were let in (CONNACK 0).
        connections_accepted,
        /// Connections open now, whatever their state.
        connections_open_now,
        /// Refused: the door holds as many connections as it may.
        connections_refused_full,
        /// Refused: their address holds as many connections as it may.
        connections_refused_address,
        /// Refused: their address connects more often than it may.
        connections_refused_rate,
        /// Refused: no TLS, no client certificate, or one that our authority did not sign.
        connections_refused_tls,
        /// Refused: a certificate without a usable name.
        connections_refused_certificate_name,
        /// Refused: what came first was no CONNECT.
        connections_refused_not_mqtt,
        /// Refused: an MQTT version other than 3.1.1 and 5, or MQTT 5 with an authentication method.
        connections_refused_protocol,
        /// Refused: a name that the credentials do not know.
        connections_refused_unknown,
        /// Refused: wrong password.
        connections_refused_password,
        /// Refused without a look at the password: too many wrong ones for that name from that address.
        connections_refused_guessing,
        /// Refused: a client id that is not the station's name, or holds `/`, `+`, `#` or `$`.
        connections_refused_client_id,
        /// Refused: a last will on a topic that the client may not publish.
        connections_refused_will,
        /// TLS handshake or CONNECT that did not come in time.
        handshake_timeouts,
        /// Closed: silent for one and a half times their keep-alive.
        keep_alive_timeouts,
        /// Closed: took nothing that was written to them for too long.
        write_timeouts,
        /// Closed: the same client connected again.
        takeovers,
        /// Closed: bytes that are not MQTT, or a packet that a client may not send.
        closed_malformed,
        /// Closed: a publish of theirs was not stored.
        closed_not_stored,
        /// Closed: their way to the broker broke.
        closed_broker,
        /// Times that a client had sent more than its rate and was not read from for a while.
        pauses,
        /// Publishes of stations handed to the pipeline.
        publishes,
        /// Bytes of payload handed to the pipeline.
        publish_bytes,
        /// Publishes of other topics passed on to the broker.
        publishes_to_broker,
        /// Publishes refused: a topic that this client may not publish.
        publishes_refused_topic,
        /// Publishes refused: larger than allowed.
        publishes_refused_size,
        /// Publishes refused: QoS 2.
        publishes_refused_qos,
        /// Subscriptions refused.
        subscriptions_refused,
        /// Last wills delivered as status.
        wills,
        /// Last wills that the pipeline had no room for.
        wills_dropped,
        /// PUBACKs written to stations.
        pubacks,
        /// Publishes handed to the pipeline and not answered, now.
        deliveries_waiting_now,
        /// Messages to stations that were put in their mailbox.
        messages_sent,
        /// Messages to stations that were dropped: not connected, not subscribed, or their mailbox full.
        messages_dropped,
        /// Ways to the broker that are open now.
        broker_links_now,
    }
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Adds `n`.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// Takes `n` off a counter that says "now".
pub(crate) fn subtract(counter: &AtomicU64, n: u64) {
    counter.fetch_sub(n, Ordering::Relaxed);
}
