//! Passwords and tokens, made at the first start and kept where only their owner reads them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rand::RngExt as _;
use rand::distr::Alphanumeric;
use sha2::{Digest as _, Sha256};

/// Characters of a password: 22 of 62 make 131 bits.
const LENGTH: usize = 22;

/// A new password or token of letters and digits, 131 bits of the operating system's chance.
#[must_use]
pub fn password() -> String {
    rand::rng().sample_iter(Alphanumeric).take(LENGTH).map(char::from).collect()
}

/// SHA-256 of a token, in hexadecimal: what a server keeps of it.
#[must_use]
pub fn digest(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file that only its owner reads, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, secret: &str) -> io::Result<()> {
    let mut making = path.as_os_str().to_owned();
    making.push(".making");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&making)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()?;
    fs::rename(Path::new(&making), path)
}

/// The secret in `path`, made first where there is none.
///
/// # Errors
/// When the file can be neither read nor written.
pub fn read_or_make(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(secret) => Ok(secret),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = password();
            write(path, &secret)?;
            Ok(secret)
        }
        Err(error) => Err(error),
    }
}
