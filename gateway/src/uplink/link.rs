//! The way to the cloud: one request at a time, held in time and size whatever answers.

use std::time::Duration;

use proto::{GatewayStatus, UplinkBatch};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde::Deserialize;

use crate::config::CloudConfig;

/// zstd's level: batches are small and the link is thin.
const LEVEL: i32 = 6;
/// How long a request may take at first. It doubles with each that took longer, for a link may be thin, and is as at first
/// after one that went well.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that a request may take.
const TIMEOUT_MOST: Duration = Duration::from_secs(300);
/// The largest answer that is read, in bytes: the cloud's have some tens.
const MOST_ANSWER: usize = 64 << 10;
/// How long a connection is kept without a request: longer than a status takes under a budget.
const KEPT: Duration = Duration::from_secs(900);
/// What a request and its answer take beside their bodies, in bytes, measured between a gateway and a cloud: the headers of
/// both, and IP and TCP around them and around their acknowledgements.
const OVERHEAD: u64 = 800;
/// What IP and TCP take of a segment, and a segment's bytes.
const SEGMENT: (u64, u64) = (60, 1_400);
/// What a new connection takes, in bytes: TCP's handshake, and TLS's with two certificates.
const CONNECT: u64 = 200;
const CONNECT_TLS: u64 = 6_000;

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The cloud has the lane up to this sequence.
    Stored(u64),
    /// The cloud has the lane up to another sequence than was thought.
    Gap(u64),
    /// The cloud will never take this.
    Refused(String),
    /// The cloud, or the way to it, is away.
    Away(String),
}

/// The connection to the cloud.
#[derive(Debug)]
pub struct Link {
    cloud: CloudConfig,
    client: reqwest::Client,
    timeout: Duration,
    /// Whether the next request needs a new connection, as far as we can know.
    is_new: bool,
}

/// An answer.
pub(crate) struct Answer {
    pub status: reqwest::StatusCode,
    /// Whether it says that it tells what is wrong, as the cloud does and whatever stands before it does not (RFC 9457).
    pub is_problem: bool,
    pub text: String,
}

impl Link {
    /// A link that is not used yet.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(cloud: CloudConfig) -> anyhow::Result<Self> {
        // Whoever redirects is not the cloud, and must not have the token.
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(TIMEOUT)
            .pool_idle_timeout(KEPT)
            .pool_max_idle_per_host(1)
            .build()?;
        Ok(Self { cloud, client, timeout: TIMEOUT, is_new: true })
    }

    /// Whether the last request was answered, whatever the answer was.
    #[must_use]
    pub const fn was_answered(&self) -> bool {
        !self.is_new
    }

    /// What a request of this many bytes is thought to cost on the link, in both directions.
    #[must_use]
    pub fn cost(&self, body: usize) -> u64 {
        let body = body as u64;
        let connect = match (self.is_new, self.cloud.url.starts_with("https:")) {
            (false, _) => 0,
            (true, false) => CONNECT,
            (true, true) => CONNECT + CONNECT_TLS,
        };
        let (header, segment) = SEGMENT;
        connect + OVERHEAD + body + body / segment * header
    }

    /// A batch's body.
    ///
    /// # Errors
    /// When zstd fails.
    pub fn pack(batch: &UplinkBatch) -> std::io::Result<Vec<u8>> {
        zstd::bulk::compress(&batch.encode(), LEVEL)
    }

    /// Sends a packed batch.
    pub async fn send(&mut self, batch: &UplinkBatch, body: Vec<u8>) -> Outcome {
        let request = self
            .client
            .post(self.path("/api/v1/uplink"))
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(CONTENT_ENCODING, "zstd")
            .body(body);
        match self.ask(request).await {
            Ok(answer) => outcome(batch.first, batch.last(), &answer),
            Err(why) => Outcome::Away(why),
        }
    }

    /// Says how the gateway is doing. Gives what it cost.
    ///
    /// # Errors
    /// Why it could not be said, in words.
    pub async fn report(&mut self, status: &GatewayStatus) -> (u64, Result<(), String>) {
        let body = serde_json::to_vec(status).unwrap_or_default();
        let cost = self.cost(body.len());
        let request =
            self.client.post(self.path("/api/v1/uplink/status")).header(CONTENT_TYPE, "application/json").body(body);
        let said = match self.ask(request).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => Err(format!("status report: {}", shown(answer.status, &answer.text))),
            Err(why) => Err(why),
        };
        (cost, said)
    }

    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.cloud.url.trim_end_matches('/'))
    }

    async fn ask(&mut self, request: reqwest::RequestBuilder) -> Result<Answer, String> {
        let request = request.bearer_auth(&self.cloud.token);
        let answer = tokio::time::timeout(self.timeout, answer(request)).await;
        self.is_new = !matches!(answer, Ok(Ok(_)));
        match answer {
            Ok(Ok(answer)) => {
                self.timeout = TIMEOUT;
                Ok(answer)
            }
            Ok(Err(why)) => Err(why),
            Err(_) => {
                let why = format!("no answer within {} s", self.timeout.as_secs());
                self.timeout = (self.timeout * 2).min(TIMEOUT_MOST);
                Err(why)
            }
        }
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, String> {
    let words = |error: reqwest::Error| format!("{:#}", anyhow::Error::from(error.without_url()));
    let mut answer = request.send().await.map_err(words)?;
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let (status, is_problem) = (answer.status(), kind.starts_with("application/problem+json"));
    let mut text = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|error| format!("the answer broke off: {}", words(error)))? {
        if text.len() + part.len() > MOST_ANSWER {
            return Err(format!("{status} with an answer of more than {MOST_ANSWER} bytes"));
        }
        text.extend_from_slice(&part);
    }
    Ok(Answer { status, is_problem, text: String::from_utf8_lossy(&text).into_owned() })
}

/// What an answer says of a batch of the sequences from `first` to `last`. Whatever is answered, there is room to count on.
pub(crate) fn outcome(first: u64, last: u64, Answer { status, is_problem, text }: &Answer) -> Outcome {
    #[derive(Deserialize)]
    struct Stored {
        sequence: u64,
    }
    #[derive(Deserialize)]
    struct Expected {
        expected: u64,
    }
    let fits = |sequence: &u64| *sequence < 1 << 62;
    let shown = || shown(*status, text);
    match status.as_u16() {
        200 => match serde_json::from_str::<Stored>(text).ok().map(|stored| stored.sequence).filter(fits) {
            Some(sequence) if sequence == last => Outcome::Stored(sequence),
            // It has had more of this lane than this store ever sent, and skipped the batch as known: it has not seen it.
            Some(sequence) if sequence > last => Outcome::Gap(sequence),
            _ => Outcome::Away(format!("a strange answer, {}", shown())),
        },
        409 => match serde_json::from_str::<Expected>(text).ok().map(|gap| gap.expected).filter(fits) {
            Some(expected) if expected != first => Outcome::Gap(expected.saturating_sub(1)),
            _ => Outcome::Away(format!("a strange answer, {}", shown())),
        },
        // The batch itself is at fault. The cloud says so itself; a proxy on the way, or anything else, may pass.
        400 | 413 | 415 | 422 if *is_problem => Outcome::Refused(shown()),
        _ => Outcome::Away(shown()),
    }
}

fn shown(status: reqwest::StatusCode, text: &str) -> String {
    format!("{status}: {}", text.chars().take(300).collect::<String>())
}
