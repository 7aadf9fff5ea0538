//! Brings a version's files over the link: in slices, each synced, each going on from what is on disk.
//!
//! What is on disk is trusted for its length only; the digest at the end decides. Nothing beyond the signed length is read,
//! and nothing beyond the byte budget is asked for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proto::Manifest;
use proto::assignment::{MAX_MANIFEST_BYTES, MAX_MODEL_BYTES, manifest_target, model_target};
use proto::update::Reason;
use reqwest::StatusCode;

use super::budget::RESERVE;
use super::files::{Files, MANIFEST, MODEL, digest};
use super::link::{Link, LinkError};
use super::machine::Version;
use super::refused::Refused;
use super::source::{Metadata, Signed256, Source};

/// The most that is asked for at once: what a power cut can cost.
const SLICE: u64 = 1 << 20;
/// The least that is asked for at once, but for a file's end: below it the heads would cost more than the bytes.
const SLICE_LEAST: u64 = 16 << 10;
/// How much is written at once.
const WRITE: usize = 64 << 10;

/// How a fetch goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// More is on disk: so many bytes of so many.
    Came(u64, u64),
    /// The byte budget is used up for so long.
    Wait(Duration),
    /// All of it is on disk, and is what was signed.
    Whole(u64),
}

/// Why a fetch does not go on.
#[derive(Debug)]
pub enum FetchError {
    /// The link or the registry is away or slow: try again later.
    Later(Refused),
    /// A target came wrong, and what was on disk of it is gone: try once more.
    Struck(Refused),
    /// The version cannot be used.
    Never(Refused),
    /// The gateway's own disk.
    Disk(io::Error),
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// What is to come for one version.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    name: String,
    version: Version,
    manifest: Signed256,
    model: Signed256,
}

impl Wanted {
    /// What the registry signs for a version.
    ///
    /// # Errors
    /// When it signs no such target, another one than was assigned, or a larger one than is allowed.
    pub fn find(metadata: &Metadata, name: &str, version: &Version) -> Result<Self, Refused> {
        let number = &version.version;
        let model = metadata.find_of(&model_target(name, number), "model", name, number)?;
        let manifest = metadata.find_of(&manifest_target(name, number), "manifest", name, number)?;
        if model.sha256 != version.digest {
            let text = format!("{}: sha256 {}, but {} is assigned", model.name, model.sha256, version.digest);
            return Err(Refused::new(Reason::Digest, text));
        }
        for (target, limit) in [(&model, MAX_MODEL_BYTES), (&manifest, MAX_MANIFEST_BYTES)] {
            if target.length > limit {
                let text = format!("{}: {} bytes, expected at most {limit}", target.name, target.length);
                return Err(Refused::new(Reason::TooLarge, text));
            }
        }
        Ok(Self { name: name.to_owned(), version: version.clone(), manifest, model })
    }

    /// The bytes of all its files.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.manifest.length + self.model.length
    }

    /// Whether they are on disk and whole already.
    #[must_use]
    pub fn is_whole(&self, files: &Files) -> bool {
        let dir = files.version(&self.name, &self.version);
        [(MANIFEST, &self.manifest), (MODEL, &self.model)]
            .into_iter()
            .all(|(file, target)| digest(&dir.join(file)).is_ok_and(|found| found == target.sha256))
    }
}

/// Fetches versions.
#[derive(Debug, Clone)]
pub struct Fetcher {
    source: Arc<Source>,
    link: Arc<Link>,
    files: Files,
}

impl Fetcher {
    /// From the registry to these files.
    #[must_use]
    pub const fn new(source: Arc<Source>, link: Arc<Link>, files: Files) -> Self {
        Self { source, link, files }
    }

    /// Brings the next slice to disk, or installs the version when all has come. The manifest comes first: it is small, and
    /// may say that the rest is of no use.
    ///
    /// # Errors
    /// Why nothing more came.
    pub async fn step(&self, wanted: &Wanted) -> Result<Step, FetchError> {
        let size = wanted.size();
        if self
            .on_disk({
                let wanted = wanted.clone();
                move |files| Ok(wanted.is_whole(&files))
            })
            .await?
        {
            return Ok(Step::Whole(size));
        }
        let dir = self.files.incoming(&wanted.name, &wanted.version);
        let mut before = 0;
        for (file, target) in [(MANIFEST, &wanted.manifest), (MODEL, &wanted.model)] {
            let place = Place { whole: dir.join(file), part: dir.join(format!("{file}.part")) };
            if !place.whole.exists() {
                if let Some(step) = self.slice(target, &place, before, size).await? {
                    return Ok(step);
                }
                self.check(wanted, target, &place).await?;
            }
            before += target.length;
        }
        let (name, version) = (wanted.name.clone(), wanted.version.clone());
        self.on_disk(move |files| files.install(&name, &version)).await?;
        Ok(Step::Whole(size))
    }

    /// The next slice of one file; none when all of it is on disk.
    async fn slice(
        &self,
        target: &Signed256,
        place: &Place,
        before: u64,
        size: u64,
    ) -> Result<Option<Step>, FetchError> {
        let dir = place.part.parent().unwrap_or(&place.part).to_owned();
        let mut have = fs::metadata(&place.part).map_or(0, |part| part.len());
        if have > target.length {
            // Not what was written here: a disk that lost power may hold anything.
            self.remove(&place.part).await?;
            have = 0;
        }
        if have == target.length {
            if have == 0 {
                // There is nothing to fetch of an empty file; that there is one, is looked at like any other.
                self.on_disk(move |files| files.disk().create_dir(&dir)).await?;
                self.append(&place.part, Vec::new()).await?;
            }
            return Ok(None);
        }
        let left = target.length - have;
        let mut allowed = left.min(SLICE).min(self.available());
        if allowed < left.min(SLICE_LEAST) {
            return Ok(Some(Step::Wait(self.link.wait(left.min(SLICE_LEAST) + RESERVE))));
        }
        if have == 0 {
            self.on_disk(move |files| files.disk().create_dir(&dir)).await?;
        }
        let url = self.source.url(target).map_err(FetchError::Never)?;
        let mut download = match self.link.open(url, Some((have, have + allowed - 1))).await {
            Ok(download) => download,
            Err(error @ LinkError::NotFound { .. }) => {
                let text = format!("{error}, expected {} bytes of it", target.length);
                return Err(self.strike(place, Reason::MissingTarget, text).await);
            }
            Err(error) => return Err(FetchError::Later(Refused::link(&error, Reason::TooLarge))),
        };
        match download.status() {
            StatusCode::PARTIAL_CONTENT if download.starts_at() == Some(have) => {}
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let text = format!("{}: ends before byte {have}, expected {} bytes", target.name, target.length);
                return Err(self.strike(place, Reason::Truncated, text).await);
            }
            StatusCode::PARTIAL_CONTENT => {
                let text = format!("{}: another range came than from byte {have}", target.name);
                return Err(FetchError::Later(Refused::new(Reason::Malformed, text)));
            }
            // The server takes no ranges: it is the whole file at once.
            _ => {
                if have > 0 {
                    self.remove(&place.part).await?;
                    have = 0;
                }
                allowed = target.length.min(self.available());
            }
        }
        let announced = download.announced().unwrap_or(0);
        let (mut came, mut unwritten, mut over) = (0, Vec::with_capacity(WRITE), false);
        let ended = loop {
            match download.chunk().await {
                Ok(Some(chunk)) => {
                    let room = usize::try_from(allowed - came).unwrap_or(usize::MAX);
                    let taken = &chunk[..chunk.len().min(room)];
                    over |= taken.len() < chunk.len();
                    came += taken.len() as u64;
                    unwritten.extend_from_slice(taken);
                    if came == allowed {
                        break Ok(());
                    }
                    if unwritten.len() >= WRITE {
                        self.append(&place.part, std::mem::take(&mut unwritten)).await?;
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        // What came before the link broke is kept.
        self.append(&place.part, unwritten).await?;
        let part = place.part.clone();
        self.on_disk(move |files| files.disk().sync(&part)).await?;
        let on_disk = have + came;
        match ended {
            Err(error) => return Err(FetchError::Later(Refused::link(&error, Reason::TooLarge))),
            Ok(()) if came < allowed => {
                let text = format!("{}: ends after {on_disk} bytes, expected {}", target.name, target.length);
                return Err(self.strike(place, Reason::Truncated, text).await);
            }
            Ok(()) => {}
        }
        if on_disk == target.length && (over || announced > allowed) {
            // Only a file that is otherwise right may have something behind it.
            let (part, expected) = (place.part.clone(), target.sha256.clone());
            if self.on_disk(move |_| digest(&part)).await? != expected {
                let text =
                    format!("{}: does not end after {} bytes, which it is signed to have", target.name, target.length);
                return Err(self.strike(place, Reason::TooLarge, text).await);
            }
        }
        Ok(Some(Step::Came(before + on_disk, size)))
    }

    /// Checks a file that is all there, and gives it its name.
    async fn check(&self, wanted: &Wanted, target: &Signed256, place: &Place) -> Result<(), FetchError> {
        let part = place.part.clone();
        let found = self.on_disk(move |_| digest(&part)).await?;
        if found != target.sha256 {
            let text = format!("{}: sha256 {found}, expected {}", target.name, target.sha256);
            return Err(self.strike(place, Reason::Digest, text).await);
        }
        if *target == wanted.manifest {
            let part = place.part.clone();
            let text = self.on_disk(move |_| fs::read(part)).await?;
            check_manifest(wanted, &text).map_err(FetchError::Never)?;
        }
        let (part, whole) = (place.part.clone(), place.whole.clone());
        self.on_disk(move |files| files.disk().rename(&part, &whole)).await?;
        Ok(())
    }

    /// The bytes that a fetch may take now.
    fn available(&self) -> u64 {
        self.link.available().saturating_sub(RESERVE)
    }

    /// Throws away what came wrong.
    async fn strike(&self, place: &Place, reason: Reason, text: String) -> FetchError {
        match self.remove(&place.part).await {
            Ok(()) => FetchError::Struck(Refused::new(reason, text)),
            Err(error) => error,
        }
    }

    async fn append(&self, part: &Path, bytes: Vec<u8>) -> Result<(), FetchError> {
        let part = part.to_owned();
        self.on_disk(move |files| files.disk().append(&part, &bytes)).await
    }

    async fn remove(&self, part: &Path) -> Result<(), FetchError> {
        let part = part.to_owned();
        self.on_disk(move |files| files.disk().remove(&part)).await
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(Files) -> io::Result<T> + Send + 'static,
    ) -> Result<T, FetchError> {
        let files = self.files.clone();
        let done = tokio::task::spawn_blocking(move || work(files)).await;
        Ok(done.map_err(io::Error::other).and_then(|result| result)?)
    }
}

struct Place {
    whole: PathBuf,
    part: PathBuf,
}

/// A manifest that was signed may still be of no use.
fn check_manifest(wanted: &Wanted, bytes: &[u8]) -> Result<(), Refused> {
    let file = &wanted.manifest.name;
    let refused = |text: String| Refused::new(Reason::Manifest, format!("{file}: {text}"));
    let text = std::str::from_utf8(bytes).map_err(|error| refused(error.to_string()))?;
    let manifest = Manifest::parse(text).map_err(|error| refused(error.to_string()))?;
    let mut wrong = Vec::new();
    for (key, found, expected) in [
        ("name", &manifest.name, &wanted.name),
        ("version", &manifest.version, &wanted.version.version),
        ("sha256", &manifest.sha256, &wanted.version.digest),
    ] {
        if found != expected {
            wrong.push(format!("{key}: {found:?}, expected {expected:?}"));
        }
    }
    let (most, length) = (manifest.limits.max_bytes, wanted.model.length);
    if length > most {
        wrong.push(format!("limits.max_bytes: {most}, but the model has {length} bytes"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(refused(wrong.join("; "))) }
}
