//! Room on the disk that is set aside: to let old readings go takes some itself, and a full disk has none.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// How much is set aside, bytes.
const BYTES: usize = 8 << 20;

/// A file that is given up when the disk is full, and made again when it is not.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    whole: bool,
}

impl Reserve {
    /// The reserve in `dir`, made where there is none.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        let path = dir.join("reserve");
        let whole = fs::metadata(&path).is_ok_and(|file| file.len() == BYTES as u64);
        let mut reserve = Self { path, whole };
        reserve.make();
        reserve
    }

    /// Makes it again; without room nothing is made.
    pub fn make(&mut self) {
        if self.whole {
            return;
        }
        let making = self.path.with_extension("making");
        let written = fs::File::create(&making).and_then(|mut file| {
            let zeros = vec![0; 1 << 20];
            (0..BYTES / zeros.len()).try_for_each(|_| file.write_all(&zeros))?;
            file.sync_data()
        });
        match written.and_then(|()| fs::rename(&making, &self.path)) {
            Ok(()) => self.whole = true,
            Err(error) => {
                let _ = fs::remove_file(&making);
                tracing::debug!(%error, "no room is set aside");
            }
        }
    }

    /// Gives it up; true when there was something to give.
    pub fn give_up(&mut self) -> bool {
        self.whole = false;
        match fs::remove_file(&self.path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::warn!(%error, "what is set aside cannot be given up");
                false
            }
        }
    }
}
