//! Every change that an update makes to the disk, one by one.
//!
//! A seam: the tests put another disk behind it, which loses power in the middle of the n-th change, for every n.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// What an update does to a disk. Each call is one step that power can fail before, in or after.
pub trait Disk: Debug + Send + Sync {
    /// Makes a directory and those above it.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Appends to a file, making it where there is none. What was appended may be lost until [`Disk::sync`].
    ///
    /// # Errors
    /// What the system says.
    fn append(&self, file: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Brings a file's content to the disk.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&self, file: &Path) -> io::Result<()>;

    /// Renames a file or directory. The new name may be lost until [`Disk::sync_dir`].
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Brings the names in a directory to the disk.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Removes a file, or a directory with all that is in it. It is no error when there is none.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Before and after each transaction of the journal. There is nothing to do: SQLite writes by itself.
    ///
    /// # Errors
    /// Only where power fails on purpose.
    fn transaction(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The disk of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn append(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().create(true).append(true).open(file)?.write_all(bytes)
    }

    fn sync(&self, file: &Path) -> io::Result<()> {
        File::open(file)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}
