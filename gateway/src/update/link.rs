//! The link to the registry: HTTP with a token, with an end to every patience, and every byte counted.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use proto::Timestamp;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, RANGE};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use tokio::time::{Instant, timeout};

use super::budget::Budget;

/// The most that is read of an answer that is not the file, in bytes.
const MOST_EXPLANATION: u64 = 4 << 10;

/// How long the gateway waits for the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the connection, and then for the answer's head.
    pub answer: Duration,
    /// In each stretch of this length…
    pub stretch: Duration,
    /// …at least so many bytes have to come.
    pub least: u64,
    /// After something failed that may pass by itself: a slow link, a full disk.
    pub again: Duration,
}

impl Default for Patience {
    /// Half a kilobyte a second: slower than the thinnest mobile link, faster than a server that only keeps the line busy.
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(20),
            stretch: Duration::from_secs(20),
            least: 10 << 10,
            again: Duration::from_secs(15),
        }
    }
}

/// Why nothing came, or not all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// There is no such file.
    #[error("{file}: the registry has no such file")]
    NotFound {
        /// The file.
        file: String,
    },
    /// The registry does not answer, or not as it should.
    #[error("{file}: {why}")]
    Away {
        /// The file.
        file: String,
        /// What happened instead.
        why: String,
    },
    /// The registry answers too slowly.
    #[error("{file}: {came} bytes in {seconds} s, expected at least {least}")]
    Slow {
        /// The file.
        file: String,
        /// What came in the last stretch, bytes.
        came: u64,
        /// The length of the stretch.
        seconds: u64,
        /// What had to come.
        least: u64,
    },
    /// The file does not end where it has to.
    #[error("{file}: more than {limit} bytes came, expected at most that many")]
    Endless {
        /// The file.
        file: String,
        /// The most that was read.
        limit: u64,
    },
}

/// The link, and what came over it.
#[derive(Debug)]
pub struct Link {
    client: Client,
    token: String,
    patience: Patience,
    counted: Mutex<Counted>,
}

/// What came over the link.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// Bytes, since the gateway was set up.
    pub bytes: u64,
    /// What may still come.
    pub budget: Budget,
}

impl Link {
    /// A link that authenticates with `token` and goes on counting.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(token: String, patience: Patience, counted: Counted) -> reqwest::Result<Self> {
        // A redirection would take the token elsewhere.
        let client =
            Client::builder().connect_timeout(patience.answer).redirect(redirect::Policy::none()).no_proxy().build()?;
        Ok(Self { client, token, patience, counted: Mutex::new(counted) })
    }

    /// What came so far.
    #[must_use]
    pub fn counted(&self) -> Counted {
        *self.lock()
    }

    /// The bytes that may come now.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.lock().budget.available(crate::wall_clock())
    }

    /// How long to wait until so many bytes may come.
    #[must_use]
    pub fn wait(&self, bytes: u64) -> Duration {
        self.lock().budget.wait(bytes, crate::wall_clock())
    }

    /// A whole file of at most `limit` bytes.
    ///
    /// # Errors
    /// When it does not come, or not all of it.
    pub async fn whole(&self, url: Url, limit: u64) -> Result<Vec<u8>, LinkError> {
        let mut download = self.open(url, None).await?;
        let mut body = Vec::new();
        while let Some(chunk) = download.chunk().await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(LinkError::Endless { file: download.file, limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Asks for a file, or for its bytes from the first to the last given.
    ///
    /// # Errors
    /// When there is no answer, or another one than the file.
    pub async fn open(&self, url: Url, range: Option<(u64, u64)>) -> Result<Download<'_>, LinkError> {
        let file = url.path_segments().and_then(Iterator::last).unwrap_or_default().to_owned();
        let mut request = self.client.get(url).bearer_auth(&self.token);
        if let Some((first, last)) = range {
            request = request.header(RANGE, format!("bytes={first}-{last}"));
        }
        let away = |why: String| LinkError::Away { file: file.clone(), why };
        let response = match timeout(self.patience.answer, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(away(causes(&error.without_url()))),
            Err(_) => {
                let seconds = self.patience.answer.as_secs();
                return Err(LinkError::Slow { file, came: 0, seconds, least: 1 });
            }
        };
        let status = response.status();
        let mut download = Download { link: self, file, response, stretch: Instant::now(), came: 0 };
        if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE) {
            return Ok(download);
        }
        // The connection is used again only once an answer was read to its end.
        while download.came < MOST_EXPLANATION
            && let Ok(Some(_)) = download.chunk().await
        {}
        let file = download.file;
        Err(match status {
            StatusCode::NOT_FOUND => LinkError::NotFound { file },
            status => LinkError::Away { file, why: format!("the registry answered {status}, expected 200 OK") },
        })
    }

    fn count(&self, bytes: u64, now: Timestamp) {
        let mut counted = self.lock();
        counted.bytes += bytes;
        counted.budget.take(bytes, now);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A file that is coming.
#[derive(Debug)]
pub struct Download<'a> {
    link: &'a Link,
    file: String,
    response: Response,
    stretch: Instant,
    came: u64,
}

impl Download<'_> {
    /// The answer's status: 200 for the whole file, 206 for the range, 416 when the file has no such range.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Where the range begins that came, by the answer's head.
    #[must_use]
    pub fn starts_at(&self) -> Option<u64> {
        let range = text(self.response.headers(), &CONTENT_RANGE)?;
        range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
    }

    /// How many bytes are to come, by the answer's head.
    #[must_use]
    pub fn announced(&self) -> Option<u64> {
        text(self.response.headers(), &CONTENT_LENGTH)?.parse().ok()
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is too slow.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, LinkError> {
        let patience = self.link.patience;
        loop {
            let left = patience.stretch.saturating_sub(self.stretch.elapsed());
            let next = timeout(left, self.response.chunk()).await;
            if self.stretch.elapsed() >= patience.stretch {
                if self.came < patience.least && !matches!(next, Ok(Ok(None))) {
                    let (came, seconds, least) = (self.came, patience.stretch.as_secs().max(1), patience.least);
                    return Err(LinkError::Slow { file: self.file.clone(), came, seconds, least });
                }
                (self.stretch, self.came) = (Instant::now(), 0);
            }
            match next {
                Err(_) => {}
                Ok(Ok(None)) => return Ok(None),
                Ok(Ok(Some(chunk))) => {
                    self.came += chunk.len() as u64;
                    self.link.count(chunk.len() as u64, crate::wall_clock());
                    return Ok(Some(chunk));
                }
                Ok(Err(error)) => {
                    return Err(LinkError::Away { file: self.file.clone(), why: causes(&error.without_url()) });
                }
            }
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &reqwest::header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An error and what caused it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
