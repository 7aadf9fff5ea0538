//! The registry's keys: ed25519, one for each TUF role, each in a file of its own that only its owner may read.
//!
//! A file is called `ROLE.BEGINNING-OF-THE-KEY-ID.der` and holds the pair as PKCS #8. Which of them count is said by the
//! registry's root, so a key that was made and never came into use does no harm. A key that is no longer used gets the
//! ending `.retired` and is not read any more.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::Ed25519KeyPair;
use tough::key_source::{KeySource, LocalKeySource};
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::Key;
use tough::schema::{RoleType, Root};
use tough::sign::{Sign as _, parse_keypair};

/// The roles whose keys the cloud itself uses.
pub const ONLINE: [RoleType; 3] = [RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp];

/// How files of keys in use end.
const ENDING: &str = "der";

/// Characters of the key id that stand in a file's name; enough to tell keys apart.
const SHORT_ID: usize = 16;

/// A directory of keys.
#[derive(Debug, Clone)]
pub struct KeyDir(PathBuf);

/// A key of a directory.
pub(super) struct StoredKey {
    pub id: Decoded<Hex>,
    pub public: Key,
    path: PathBuf,
}

/// Keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file or directory cannot be read or written.
    #[error("keys {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is no key.
    #[error("keys {}: expected an ed25519 pair as PKCS #8 (DER): {source}", path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No key could be made.
    #[error("keys {}: the random generator failed", path.display())]
    Generate {
        /// Where it should have gone.
        path: PathBuf,
    },
    /// The directory has not the keys that the registry's root names.
    #[error("keys {}: there is no {role} key that root version {root} of the registry names", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
        /// Whose key.
        role: RoleType,
        /// The version of the registry's root.
        root: u64,
    },
}

impl KeyDir {
    /// The keys in a directory, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The keys in use, each as something that `tough` can sign with.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(super) fn sources(&self) -> Result<Vec<Box<dyn KeySource>>, KeyError> {
        let source = |path| Box::new(LocalKeySource { path }) as Box<dyn KeySource>;
        Ok(self.files()?.into_iter().map(source).collect())
    }

    /// Makes sure that for each of the roles there is a key that `root` names.
    ///
    /// # Errors
    /// [`KeyError::Missing`] when not.
    pub(super) fn check(&self, root: &Root, roles: &[RoleType]) -> Result<(), KeyError> {
        for role in roles {
            let named = root.roles.get(role).map(|keys| keys.keyids.as_slice()).unwrap_or_default();
            if !self.keys(*role)?.iter().any(|key| named.contains(&key.id)) {
                return Err(KeyError::Missing { path: self.0.clone(), role: *role, root: root.version.get() });
            }
        }
        Ok(())
    }

    /// The key of a role: one that is there, as after a start that broke off, or a new one.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub(super) fn existing_or_new(&self, role: RoleType) -> Result<StoredKey, KeyError> {
        match self.keys(role)?.pop() {
            Some(key) => Ok(key),
            None => self.generate(role),
        }
    }

    /// Makes a key, which is on disk when this returns.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub(super) fn generate(&self, role: RoleType) -> Result<StoredKey, KeyError> {
        let refused = |source| KeyError::File { path: self.0.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(refused)?;
        let unlucky = |_| KeyError::Generate { path: self.0.clone() };
        let pair = Ed25519KeyPair::generate().map_err(unlucky)?;
        let der = AsDer::<Pkcs8V1Der>::as_der(&pair).map_err(unlucky)?;
        let (id, public) = identify(&self.0, der.as_ref())?;
        let name = format!("{role}.{}.{ENDING}", &hex::encode(&id)[..SHORT_ID]);
        let path = self.0.join(name);
        // A temporary file is its owner's only from the first moment on.
        let mut file = tempfile::NamedTempFile::new_in(&self.0).map_err(refused)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o600)).map_err(refused)?;
        file.write_all(der.as_ref()).and_then(|()| file.as_file().sync_all()).map_err(refused)?;
        file.persist(&path).map_err(|error| refused(error.error))?;
        File::open(&self.0).and_then(|directory| directory.sync_all()).map_err(refused)?;
        Ok(StoredKey { id, public, path })
    }

    /// Retires the keys of a role that `root` does not name.
    ///
    /// # Errors
    /// When a file cannot be renamed.
    pub(super) fn retire(&self, role: RoleType, root: &Root) -> Result<(), KeyError> {
        let named = root.roles.get(&role).map(|keys| keys.keyids.as_slice()).unwrap_or_default();
        for key in self.keys(role)?.into_iter().filter(|key| !named.contains(&key.id)) {
            let mut retired = key.path.clone().into_os_string();
            retired.push(".retired");
            fs::rename(&key.path, retired).map_err(|source| KeyError::File { path: key.path, source })?;
        }
        Ok(())
    }

    /// The keys of a role, in the order of their files' names.
    fn keys(&self, role: RoleType) -> Result<Vec<StoredKey>, KeyError> {
        let beginning = format!("{role}.");
        let of_role = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&beginning))
        };
        let key = |path: PathBuf| {
            let der = fs::read(&path).map_err(|source| KeyError::File { path: path.clone(), source })?;
            let (id, public) = identify(&path, &der)?;
            Ok(StoredKey { id, public, path })
        };
        self.files()?.into_iter().filter(of_role).map(key).collect()
    }

    /// The files of keys in use; none when the directory is not there.
    fn files(&self) -> Result<Vec<PathBuf>, KeyError> {
        let refused = |source| KeyError::File { path: self.0.clone(), source };
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(refused(error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(refused)?.path();
            if path.extension().is_some_and(|ending| ending == ENDING) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Id and public half of a pair, as TUF has them.
fn identify(path: &Path, der: &[u8]) -> Result<(Decoded<Hex>, Key), KeyError> {
    let wrong = |source| KeyError::Format { path: path.to_owned(), source };
    let public = parse_keypair(der).map_err(|error| wrong(error.into()))?.tuf_key();
    let id = public.key_id().map_err(|error| wrong(error.into()))?;
    Ok((id, public))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_owners_only_and_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let keys = KeyDir::new(directory.path().join("online"));
        let made = keys.existing_or_new(RoleType::Timestamp).unwrap();
        assert_eq!(keys.existing_or_new(RoleType::Timestamp).unwrap().id, made.id);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(keys.path()), mode(&made.path)), (0o700, 0o600));
        assert_ne!(keys.existing_or_new(RoleType::Snapshot).unwrap().id, made.id);
        assert_eq!(fs::read_dir(keys.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_is_no_key_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("targets.0.der"), "not a key").unwrap();
        let error = KeyDir::new(directory.path()).existing_or_new(RoleType::Targets).err().unwrap().to_string();
        assert!(error.contains("targets.0.der: expected an ed25519 pair"), "{error}");
    }
}
