//! The `[door]` table of the gateway's configuration.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the front door stands and what it lets through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DoorConfig {
    /// Address for MQTT with passwords and without TLS, for a closed farm network; absent when there is to be none. Port
    /// 0 takes a free one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// The credentials file (see [`crate::credentials`]). Without it nobody has a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// A directory of more credentials files. A station is added or removed by a file there, while the gateway runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_dir: Option<PathBuf>,
    /// Connections in all. Further ones are closed at once.
    pub max_connections: usize,
    /// Connections from one address. A farm's radio bridge or a simulation brings all of its stations from one.
    pub max_connections_per_address: usize,
    /// Seconds for the TLS handshake and CONNECT together.
    pub handshake_timeout_s: u64,
    /// The largest payload of a publish, in bytes.
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
    /// DNS name) says.
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
            handshake_timeout_s: 10,
            max_payload_bytes: 256 * 1024,
            drain_timeout_s: 5,
            tls: None,
        }
    }
}
