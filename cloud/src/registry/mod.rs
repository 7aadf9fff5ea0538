//! The model registry: which models there are, and what each gateway is to run, as one TUF repository
//! (<https://theupdateframework.io>) whose files lie in the database.
//!
//! A push or an assignment is one transaction under one lock: the new files, the row that tells of them, and the signed
//! metadata that names them. So a client sees all of it or nothing, whichever process it asks, and a push that breaks off
//! leaves nothing behind.
//!
//! The key of the root is used by [`create`] and [`rotate`] only, which an operator runs. A serving process has the other
//! three. [`renew`] keeps their metadata from expiring.
//!
//! One file of metadata names all targets, some 300 bytes each, and clients read at most 10 MiB of it: enough for thirty
//! thousand gateways and files of models.
//!
//! * [`keys`]: files of keys. [`metadata`]: what is signed. [`store`]: where it lies.
//! * [`push`], which asks [`inspect`] first, and [`versions`] that lists what was pushed.
//! * [`assign`]: what gateways are to run. [`events`]: what they made of it.
//! * [`nodes`]: the same for the models that run on stations.

pub mod assign;
pub mod events;
pub mod inspect;
pub mod keys;
pub mod metadata;
pub mod nodes;
pub(crate) mod push;
pub mod renew;
pub mod store;
pub mod versions;

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::path::Path;

use proto::Timestamp;
use sqlx::{PgConnection, PgPool};
use tough::TargetName;
use tough::schema::{RoleType, Target};

use self::keys::{KeyDir, KeyError, ONLINE};
use self::metadata::{Lifetimes, Published, Signer};
pub use self::push::{PushError, push, push_if_new};
use crate::clock;

/// What signs the registry's changes.
#[derive(Debug, Clone)]
pub struct Publisher {
    /// The keys of targets, snapshot and timestamp.
    pub keys: KeyDir,
    /// How long what they sign is valid.
    pub lifetimes: Lifetimes,
}

impl Publisher {
    /// Signs with the keys of a directory, for the usual lifetimes.
    pub fn new(online_keys: &Path) -> Self {
        Self { keys: KeyDir::new(online_keys), lifetimes: Lifetimes::default() }
    }
}

/// A registry that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is none yet.
    #[error("the registry is not set up in this database")]
    NotCreated,
    /// Its keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Metadata cannot be signed.
    #[error("signing the registry's metadata: {0}")]
    Sign(Box<dyn std::error::Error + Send + Sync>),
    /// What the database holds is no metadata.
    #[error("the registry's {role} metadata in the database {problem}")]
    Stored {
        /// Whose.
        role: RoleType,
        /// What is wrong with it.
        problem: String,
    },
    /// The database failed.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}

impl From<tough::error::Error> for RegistryError {
    fn from(error: tough::error::Error) -> Self {
        Self::Sign(Box::new(error))
    }
}

impl From<tough::schema::Error> for RegistryError {
    fn from(error: tough::schema::Error) -> Self {
        Self::Sign(Box::new(error))
    }
}

/// Sets up the registry: makes the keys that are missing, in two directories, and signs the first root and metadata without
/// targets. A registry that is there stays as it is; only its online keys are looked for.
///
/// # Errors
/// When a directory cannot be written, the database does not answer, or `online_keys` has not the keys of the registry.
pub async fn create(pool: &PgPool, root_keys: &Path, online_keys: &Path) -> Result<(), RegistryError> {
    create_at(pool, &KeyDir::new(root_keys), &Publisher::new(online_keys), clock::wall()).await
}

/// [`create`], at a time of the wall clock.
///
/// # Errors
/// As [`create`].
pub async fn create_at(
    pool: &PgPool,
    root_keys: &KeyDir,
    publisher: &Publisher,
    now: Timestamp,
) -> Result<(), RegistryError> {
    let mut transaction = pool.begin().await?;
    store::lock(&mut transaction).await?;
    if let Some(published) = store::newest(&mut transaction).await? {
        return Ok(publisher.keys.check(&published.root.signed, &ONLINE)?);
    }
    let mut keys = vec![(RoleType::Root, root_keys.existing_or_new(RoleType::Root)?)];
    for role in ONLINE {
        keys.push((role, publisher.keys.existing_or_new(role)?));
    }
    let root = metadata::root(NonZeroU64::MIN, publisher.lifetimes, now, keys);
    let mut signatures = vec![metadata::sign_root(root.clone(), None, root_keys).await?];
    signatures.extend(publisher.signer(now).first(&root).await?);
    store::add_metadata(&mut transaction, signatures, now).await?;
    transaction.commit().await?;
    Ok(())
}

/// The registry's first root, for gateways to trust from the start; it leads to every later one.
///
/// # Errors
/// When there is no registry, or the database does not answer.
pub async fn root(pool: &PgPool) -> Result<Vec<u8>, RegistryError> {
    store::metadata(pool, RoleType::Root, Some(1)).await?.ok_or(RegistryError::NotCreated)
}

/// Which keys to replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one of the root.
    Root,
    /// Those of targets, snapshot and timestamp.
    Online,
}

/// Replaces keys: makes new ones, signs a new root that names them, with the root's old and new key, and everything else
/// anew. The files of the old keys get the ending `.retired`. Gives the version of the new root.
///
/// New keys are on disk before the registry names them, and old ones leave only after, so that a rotation that breaks off
/// leaves a registry that can be signed for, and can be begun again.
///
/// # Errors
/// When a key is missing, a directory cannot be written, or the database does not answer.
pub async fn rotate(
    pool: &PgPool,
    root_keys: &Path,
    online_keys: &Path,
    which: Which,
) -> Result<NonZeroU64, RegistryError> {
    let (root_keys, publisher, now) = (KeyDir::new(root_keys), Publisher::new(online_keys), clock::wall());
    let mut transaction = pool.begin().await?;
    store::lock(&mut transaction).await?;
    let mut published = store::newest(&mut transaction).await?.ok_or(RegistryError::NotCreated)?;
    let old = published.root.signed.clone();
    // Before a key is made that would not be used.
    root_keys.check(&old, &[RoleType::Root])?;
    publisher.keys.check(&old, &ONLINE)?;

    let mut root = metadata::next_root(&old, publisher.lifetimes, now);
    let (directory, roles) = match which {
        Which::Root => (&root_keys, &[RoleType::Root][..]),
        Which::Online => (&publisher.keys, &ONLINE[..]),
    };
    for role in roles {
        metadata::replace_key(&mut root, *role, directory.generate(*role)?);
    }
    published.root.signed = root.clone();
    let mut signatures = vec![metadata::sign_root(root.clone(), Some(&old), &root_keys).await?];
    signatures.extend(publisher.signer(now).next(RoleType::Targets, published).await?);
    store::add_metadata(&mut transaction, signatures, now).await?;
    transaction.commit().await?;

    for role in roles {
        directory.retire(*role, &root)?;
    }
    Ok(root.version)
}

impl Publisher {
    fn signer(&self, now: Timestamp) -> Signer<'_> {
        Signer { keys: &self.keys, lifetimes: self.lifetimes, now }
    }
}

/// A change of the registry, from its lock to its new metadata, all in one transaction of the caller.
struct Publication<'a> {
    signer: Signer<'a>,
    published: Published,
}

impl<'a> Publication<'a> {
    /// Locks the registry and reads what is published.
    async fn begin(connection: &mut PgConnection, publisher: &'a Publisher) -> Result<Self, RegistryError> {
        store::lock(connection).await?;
        let published = store::newest(connection).await?.ok_or(RegistryError::NotCreated)?;
        Ok(Self { signer: publisher.signer(clock::wall()), published })
    }

    /// Stores a file, and names it among the targets.
    async fn add(
        &mut self,
        connection: &mut PgConnection,
        name: &str,
        bytes: &[u8],
        custom: &[(&str, &str)],
    ) -> Result<[u8; 32], RegistryError> {
        let sha256 = store::add_blob(connection, bytes).await?;
        let targets: &mut HashMap<TargetName, Target> = &mut self.published.targets.signed.targets;
        targets.insert(metadata::target_name(name)?, metadata::target(bytes, custom));
        Ok(sha256)
    }

    /// Signs the targets as they are now, and what stands above them.
    async fn finish(self, connection: &mut PgConnection) -> Result<(), RegistryError> {
        let signatures = self.signer.next(RoleType::Targets, self.published).await?;
        Ok(store::add_metadata(connection, signatures, self.signer.now).await?)
    }
}
