//! Where the files of pushed versions lie: `models/incoming/` while they come, `models/versions/` once they are whole.
//!
//! A directory in `versions/` is there with all its files or not at all. It is named after the model, its version and the
//! digest of its ONNX file; all three are checked names without a slash.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::disk::Disk;
use super::machine::Version;

/// The ONNX file in a version's directory.
pub const MODEL: &str = "model.onnx";
/// The manifest in a version's directory.
pub const MANIFEST: &str = "manifest.toml";

/// The files of all pushed versions.
#[derive(Debug, Clone)]
pub struct Files {
    models: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Files {
    /// Those below `data_dir`.
    #[must_use]
    pub fn new(data_dir: &Path, disk: Arc<dyn Disk>) -> Self {
        Self { models: data_dir.join("models"), disk }
    }

    /// The disk that they lie on.
    #[must_use]
    pub fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// The directory of a version that is whole.
    #[must_use]
    pub fn version(&self, name: &str, version: &Version) -> PathBuf {
        self.models.join("versions").join(folder(name, version))
    }

    /// The directory of a version that is coming.
    #[must_use]
    pub fn incoming(&self, name: &str, version: &Version) -> PathBuf {
        self.models.join("incoming").join(folder(name, version))
    }

    /// Moves a version that has come, whole and synced, to where it is run from.
    ///
    /// # Errors
    /// What the system says.
    pub fn install(&self, name: &str, version: &Version) -> io::Result<()> {
        let (from, to) = (self.incoming(name, version), self.version(name, version));
        self.disk.sync_dir(&from)?;
        self.disk.create_dir(&self.models.join("versions"))?;
        self.disk.remove(&to)?;
        self.disk.rename(&from, &to)?;
        self.disk.sync_dir(&self.models.join("versions"))?;
        self.disk.sync_dir(&self.models.join("incoming"))?;
        self.disk.sync_dir(&self.models)
    }

    /// What is wrong with a version's files, in words; none when the ONNX file is the one and the manifest is there.
    #[must_use]
    pub fn damage(&self, name: &str, version: &Version) -> Option<String> {
        let dir = self.version(name, version);
        let shown = dir.display();
        match digest(&dir.join(MODEL)) {
            Ok(found) if found != version.digest => {
                return Some(format!("{shown}/{MODEL}: sha256 {found}, expected {}", version.digest));
            }
            Ok(_) => {}
            Err(error) => return Some(format!("{shown}/{MODEL}: {error}")),
        }
        fs::metadata(dir.join(MANIFEST)).err().map(|error| format!("{shown}/{MANIFEST}: {error}"))
    }

    /// Removes everything but these versions.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep_only(&self, needed: &[(String, Version)]) -> io::Result<()> {
        let needed: BTreeSet<String> = needed.iter().map(|(name, version)| folder(name, version)).collect();
        for folder in ["incoming", "versions"] {
            let entries = match fs::read_dir(self.models.join(folder)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let known = entry.file_name().to_str().is_some_and(|name| needed.contains(name));
                if !known {
                    self.disk.remove(&entry.path())?;
                }
            }
        }
        Ok(())
    }
}

/// A file's SHA-256, in hexadecimal.
///
/// # Errors
/// What the system says.
pub fn digest(file: &Path) -> io::Result<String> {
    let mut file = fs::File::open(file)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

fn folder(name: &str, Version { version, digest }: &Version) -> String {
    format!("{name}-{version}-{digest}")
}
