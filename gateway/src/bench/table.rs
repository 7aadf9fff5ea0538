//! What a benchmark prints.

use std::fmt::{self, Write as _};
use std::fs;

use super::{Row, Server, Shape};

const MIB: f64 = (1 << 20) as f64;

/// The rows as a table.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "\n{:<10} {:<21} {:>13} {:>11} {:>8} {:>8} {:>8} {:>8} {:>11} {:>15}\n",
        "shape",
        "server",
        "CPU µs/msg",
        "messages/s",
        "RSS MiB",
        "p50 ms",
        "p99 ms",
        "× floor",
        "× mosquitto",
        "written/payload"
    );
    for row in rows {
        let times = |server| ratio(rows, row, server).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let _ = writeln!(
            text,
            "{:<10} {:<21} {:>13.2} {:>11.0} {:>8.0} {:>8.1} {:>8.1} {:>8} {:>11} {:>15.2}",
            format!("{:?}", row.shape).to_lowercase(),
            row.server.name(),
            row.cpu_us_per_message,
            row.messages_per_second,
            row.rss_bytes as f64 / MIB,
            row.p50_ms,
            row.p99_ms,
            times(Server::Floor),
            times(Server::Mosquitto),
            row.written_per_payload_byte,
        );
    }
    text
}

fn ratio(rows: &[Row], row: &Row, to: Server) -> Option<f64> {
    let other = rows.iter().find(|other| other.shape == row.shape && other.server == to)?;
    Some(row.cpu_us_per_message / other.cpu_us_per_message)
}

/// Whether a target is met.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    what: String,
    is: f64,
    most: f64,
    unit: &'static str,
}

impl Verdict {
    pub(super) fn new(what: impl Into<String>, is: f64, most: f64, unit: &'static str) -> Self {
        Self { what: what.into(), is, most, unit }
    }

    /// It is.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.is <= self.most
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, is, most, unit } = self;
        write!(f, "{}: {what}: {is:.2}{unit}, at most {most}{unit}", if self.is_met() { "met   " } else { "MISSED" })
    }
}

/// How the rows stand to the targets; of what was not measured there is no verdict.
pub(super) fn verdicts(rows: &[Row]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for row in rows.iter().filter(|row| matches!(row.server, Server::GatewayNative | Server::GatewayJson)) {
        let mut against = |to: Server, most: f64| {
            if let Some(ratio) = ratio(rows, row, to) {
                let what = format!("{:?}, {}, CPU against {}", row.shape, row.server.name(), to.name());
                verdicts.push(Verdict::new(what, ratio, most, ""));
            }
        };
        match row.shape {
            Shape::Pipelined => {
                against(Server::Mosquitto, if row.server == Server::GatewayNative { 0.4 } else { 0.6 });
            }
            Shape::Sparse => {
                against(Server::Floor, 1.4);
                against(Server::MosquittoSubscriber, 0.5);
                let what = |what: &str| format!("{:?}, {}, {what}", row.shape, row.server.name());
                verdicts.push(Verdict::new(what("p99 to durable PUBACK"), row.p99_ms, 120.0, " ms"));
                verdicts.push(Verdict::new(what("RSS"), row.rss_bytes as f64 / MIB, 60.0, " MiB"));
            }
        }
    }
    verdicts
}

/// On what it was measured, and what else was going on.
pub(super) fn circumstances() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load: Vec<String> = read("/proc/loadavg").split(' ').take(3).map(str::to_owned).collect();
    format!("{cores} cores{model}; load average {}", load.join(" "))
}
