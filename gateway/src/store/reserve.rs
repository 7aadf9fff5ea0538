//! Room on the disk that is set aside: to let old readings go takes some itself, and a full disk has none.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::posix_fallocate;

/// Its file in the data directory.
const FILE: &str = "reserve";
/// How much is set aside, bytes.
pub const BYTES: u64 = 8 << 20;
/// What is set aside at least, where there is no room for all of it.
const LEAST: u64 = 1 << 20;

/// A file that is given up when the disk is full, and made again when it is not.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    whole: bool,
}

impl Reserve {
    /// Gives up what is set aside in `dir` where the disk has no room for a start: a gateway that was killed on a full disk
    /// is to run, for only so can it let old readings go.
    pub fn clear_the_way(dir: &Path) {
        let path = dir.join("room");
        let room = fs::File::create(&path).and_then(|mut file| match posix_fallocate(&file, 0, LEAST.cast_signed()) {
            Err(Errno::EOPNOTSUPP | Errno::EINVAL) => file.write_all(&vec![0; LEAST as usize]),
            allocated => Ok(allocated?),
        });
        let _ = fs::remove_file(&path);
        if let Err(error) = room {
            tracing::warn!(%error, "the disk is full: what is set aside is given up for the start");
            Self::give_up_in(dir);
        }
    }

    /// Gives up what is set aside in `dir`.
    pub(super) fn give_up_in(dir: &Path) {
        Self { path: dir.join(FILE), whole: false }.give_up();
    }

    /// The reserve in `dir`, made where there is none.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let whole = fs::metadata(&path).is_ok_and(|file| file.len() == BYTES);
        let mut reserve = Self { path, whole };
        reserve.make();
        reserve
    }

    /// How much is set aside in `dir`, bytes.
    #[must_use]
    pub fn held(dir: &Path) -> u64 {
        fs::metadata(dir.join(FILE)).map_or(0, |file| file.len())
    }

    /// Makes it again, as large as there is room for.
    pub fn make(&mut self) {
        if self.whole {
            return;
        }
        match self.set_aside() {
            Ok(whole) => self.whole = whole,
            Err(error) => tracing::debug!(%error, "no room is set aside"),
        }
    }

    fn set_aside(&self) -> io::Result<bool> {
        let mut file = fs::File::options().append(true).create(true).open(&self.path)?;
        let held = file.metadata()?.len();
        let mut bytes = BYTES;
        while bytes >= LEAST && bytes > held {
            match posix_fallocate(&file, 0, bytes.cast_signed()) {
                Ok(()) => return file.sync_all().map(|()| bytes == BYTES),
                // A file system that sets nothing aside by itself.
                Err(Errno::EOPNOTSUPP | Errno::EINVAL) => {
                    file.write_all(&vec![0; (BYTES - held.min(BYTES)) as usize])?;
                    return file.sync_all().map(|()| true);
                }
                Err(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => bytes /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(held >= BYTES)
    }

    /// Gives it up.
    pub fn give_up(&mut self) {
        self.whole = false;
        match fs::remove_file(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "what is set aside cannot be given up"),
        }
    }
}
