//! The `[door]` table of the gateway's configuration.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rate::{ClientRate, Rate};

/// The longest of the door's times, in seconds.
const MOST_S: u64 = 3_600;
/// The largest payload that can be configured: the broker's largest packet, and room for a header.
const MOST_PAYLOAD_BYTES: usize = 15 * 1024 * 1024;

/// Where the front door stands and what it lets through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DoorConfig {
    /// Address for MQTT with passwords and without TLS, for a closed farm network; absent when there is to be none (without
    /// the whole table it is port 1883 of the machine itself). Port 0 takes a free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// The credentials file (see [`crate::credentials`]). Without it nobody has a password. Where there is one, or a directory
    /// of them, a certificate lets in only whom it lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// A directory of more credentials files. A station is added or removed by a file there, while the gateway runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_dir: Option<PathBuf>,
    /// Connections in all. Further ones are closed at once.
    pub max_connections: usize,
    /// Connections from one address. A farm's radio bridge or a simulation brings all of its stations from one.
    pub max_connections_per_address: usize,
    /// Connections a second from one address, on the long run; 0 is no limit. Further ones are closed at once.
    pub connections_per_s_per_address: u64,
    /// Connections from one address that may come at once.
    pub connection_burst_per_address: u64,
    /// Messages a second of one client, on the long run; 0 is no limit. A client beyond it is not read from until it is
    /// within again: nothing is dropped, TCP makes it wait.
    pub rate_messages_per_s: u64,
    /// Bytes a second of one client, likewise.
    pub rate_bytes_per_s: u64,
    /// Seconds' worth of both that a client may send at once, after it was silent as long.
    pub rate_burst_s: u64,
    /// Seconds for the TLS handshake and CONNECT together.
    pub handshake_timeout_s: u64,
    /// The largest payload of a publish, in bytes, also of one that comes from a broker of the farm's own.
    pub max_payload_bytes: usize,
    /// Seconds that a shutdown waits for the pipeline to commit what stations have sent.
    pub drain_timeout_s: u64,
    /// MQTT over TLS with client certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
}

/// The `[door.tls]` table. The files are PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Address for MQTT over TLS. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The gateway's certificate, with its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that sign clients' certificates. A client is who its certificate's common name (or else first
    /// DNS name) says. There is no list of revoked ones: who is no longer in the credentials is not let in.
    pub client_ca: PathBuf,
}

impl Default for DoorConfig {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 1883))),
            credentials: None,
            credentials_dir: None,
            max_connections: 20_000,
            max_connections_per_address: 20_000,
            connections_per_s_per_address: 200,
            connection_burst_per_address: 20_000,
            rate_messages_per_s: 2_000,
            rate_bytes_per_s: 4 * 1024 * 1024,
            rate_burst_s: 10,
            handshake_timeout_s: 10,
            max_payload_bytes: 256 * 1024,
            drain_timeout_s: 5,
            tls: None,
        }
    }
}

impl DoorConfig {
    pub(crate) fn client_rate(&self) -> ClientRate {
        let burst = Duration::from_secs(self.rate_burst_s);
        ClientRate {
            messages: Rate::per_second(self.rate_messages_per_s, burst),
            bytes: Rate::per_second(self.rate_bytes_per_s, burst),
        }
    }

    pub(crate) fn connection_rate(&self) -> Rate {
        match self.connections_per_s_per_address {
            0 => Rate::per_second(0, Duration::ZERO),
            per_s => {
                let every = Duration::from_nanos(1_000_000_000 / per_s);
                Rate::one_in(every, self.connection_burst_per_address)
            }
        }
    }

    /// What is wrong with the values: key (below `door.`), value, what is expected.
    #[must_use]
    pub fn check(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut wrong = Vec::new();
        let mut above_0 = |key, value: u64| {
            if value == 0 {
                wrong.push((key, value.to_string(), "above 0"));
            }
        };
        above_0("max_connections", self.max_connections as u64);
        above_0("max_connections_per_address", self.max_connections_per_address as u64);
        above_0("connection_burst_per_address", self.connection_burst_per_address);
        above_0("rate_burst_s", self.rate_burst_s);
        above_0("handshake_timeout_s", self.handshake_timeout_s);
        above_0("max_payload_bytes", self.max_payload_bytes as u64);
        let times = [("handshake_timeout_s", self.handshake_timeout_s), ("drain_timeout_s", self.drain_timeout_s)];
        for (key, value) in times.into_iter().filter(|(_, value)| *value > MOST_S) {
            wrong.push((key, value.to_string(), "at most 3600 s"));
        }
        if self.max_payload_bytes > MOST_PAYLOAD_BYTES {
            wrong.push(("max_payload_bytes", self.max_payload_bytes.to_string(), "at most 15 MiB"));
        }
        wrong
    }
}
