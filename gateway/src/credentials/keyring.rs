//! The credentials in use, read again when their files change.
//!
//! At every connect the file's and the directory's time of change are [looked at](Keyring::look) (two system calls); they are
//! read at most once in [`AGAIN`], on a thread beside the one that asks: a farm may have thousands of them. A file that is
//! replaced by renaming, and one that is added or removed, changes its directory. What cannot be read while the gateway runs
//! leaves those in force that were read before, and is logged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::{error, info, warn};

use super::{Credentials, CredentialsError, Refusal, Role};

/// How often the files are read at most.
const AGAIN: Duration = Duration::from_secs(1);
/// How coarse a file system's clock may be: what changed no longer ago than this may change again with the same time.
const COARSE: Duration = Duration::from_secs(2);
/// The most files of the directory that are read.
const FILES_MOST: usize = 20_000;

/// Who may connect, now.
#[derive(Debug)]
pub struct Keyring {
    file: Option<PathBuf>,
    dir: Option<PathBuf>,
    /// Whether there is a list of who may connect.
    lists: bool,
    state: Mutex<State>,
    /// Who has it reads the files; who waits for it finds them read.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    credentials: Arc<Credentials>,
    /// When the files had changed last when they were read.
    stamp: Stamp,
    /// Whether they had changed so shortly before that they may have changed since with the same time.
    fresh: bool,
    read: Instant,
}

/// When the file and the directory changed last; none where there is none.
type Stamp = [Option<SystemTime>; 2];

impl From<Credentials> for Keyring {
    /// Credentials that never change.
    fn from(credentials: Credentials) -> Self {
        Self::holding(None, None, credentials, [None; 2])
    }
}

impl State {
    fn new(credentials: Credentials, stamp: Stamp) -> Self {
        let now = SystemTime::now();
        // A time in the future is no older than any other.
        let recent = |time: &SystemTime| now.duration_since(*time).is_ok_and(|age| age < COARSE);
        let fresh = stamp.iter().flatten().any(recent);
        Self { credentials: Arc::new(credentials), stamp, fresh, read: Instant::now() }
    }
}

impl Keyring {
    /// The credentials of a file and of a directory's `*.toml`; without either, nobody has a password, and a certificate lets
    /// in everybody.
    ///
    /// # Errors
    /// When the file cannot be read or holds a client that cannot be used, or the directory cannot be read. A file of the
    /// directory that cannot be used is passed over, and logged: it is somebody else's.
    pub fn open(file: Option<PathBuf>, dir: Option<PathBuf>) -> Result<Self, CredentialsError> {
        let stamp = stamp_of(file.as_deref(), dir.as_deref());
        let credentials = read(file.as_deref(), dir.as_deref())?;
        Ok(Self { lists: file.is_some() || dir.is_some(), ..Self::holding(file, dir, credentials, stamp) })
    }

    fn holding(file: Option<PathBuf>, dir: Option<PathBuf>, credentials: Credentials, stamp: Stamp) -> Self {
        let state = Mutex::new(State::new(credentials, stamp));
        Self { file, dir, lists: true, state, reading: tokio::sync::Mutex::default() }
    }

    /// What is wrong with the files, a line each that begins with the key of the configuration. A file of the directory that
    /// cannot be used is wrong as well, though a gateway that runs passes it over.
    #[must_use]
    pub fn check(file: Option<&Path>, dir: Option<&Path>) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut all = file.map_or_else(|| Ok(Credentials::default()), Credentials::load).unwrap_or_else(|error| {
            wrong.push(format!("door.credentials: {error}"));
            Credentials::default()
        });
        let passed_over = dir.map_or(Ok(Vec::new()), |dir| take_up(&mut all, dir));
        let passed_over = passed_over.unwrap_or_else(|error| vec![error.to_string()]);
        wrong.extend(passed_over.into_iter().map(|problem| format!("door.credentials_dir: {problem}")));
        wrong
    }

    /// As [`Credentials::verify`], with the files as they were [looked at](Self::look) last.
    ///
    /// # Errors
    /// Why it is not let in.
    pub fn verify(&self, name: &str, password: &[u8]) -> Result<Role, Refusal> {
        self.current().verify(name, password)
    }

    /// What a client that proved its name by a certificate is let in for: what it is listed for, or where there is no list, a
    /// station.
    ///
    /// # Errors
    /// When it is not on the list.
    pub fn role_of(&self, name: &str) -> Result<Role, Refusal> {
        if self.lists { self.current().role_of(name).ok_or(Refusal::Unknown) } else { Ok(Role::Station) }
    }

    /// As [`Credentials::topics_of`], with the files as they were [looked at](Self::look) last.
    #[must_use]
    pub fn topics_of(&self, name: &str) -> Arc<[String]> {
        self.current().topics_of(name)
    }

    /// Reads the files if they have changed and were not read within [`AGAIN`], and returns when that is done.
    pub async fn look(&self) {
        if self.has_changed().is_none() {
            return;
        }
        let _reading = self.reading.lock().await;
        // Somebody else may have read them meanwhile.
        let Some(stamp) = self.has_changed() else { return };
        let (file, dir) = (self.file.clone(), self.dir.clone());
        let reading = move || read(file.as_deref(), dir.as_deref()).map_err(|error| error.to_string());
        let read = tokio::task::spawn_blocking(reading).await.unwrap_or_else(|error| Err(error.to_string()));
        let mut state = self.state();
        match read {
            Ok(credentials) => {
                if stamp != state.stamp {
                    info!(clients = credentials.clients.len(), "the credentials have changed");
                }
                *state = State::new(credentials, stamp);
            }
            Err(error) => {
                error!(%error, "the credentials cannot be read: those from before stay in force");
                (state.stamp, state.fresh, state.read) = (stamp, false, Instant::now());
            }
        }
    }

    /// When the files have changed, if they are to be read now.
    fn has_changed(&self) -> Option<Stamp> {
        let stamp = stamp_of(self.file.as_deref(), self.dir.as_deref());
        let state = self.state();
        ((stamp != state.stamp || state.fresh) && state.read.elapsed() >= AGAIN).then_some(stamp)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Arc<Credentials> {
        Arc::clone(&self.state().credentials)
    }
}

fn stamp_of(file: Option<&Path>, dir: Option<&Path>) -> Stamp {
    [file, dir].map(|path| fs::metadata(path?).and_then(|metadata| metadata.modified()).ok())
}

fn read(file: Option<&Path>, dir: Option<&Path>) -> Result<Credentials, CredentialsError> {
    let mut all = file.map_or_else(|| Ok(Credentials::default()), Credentials::load)?;
    let Some(dir) = dir else { return Ok(all) };
    for problem in take_up(&mut all, dir)? {
        error!(%problem, "passed over");
    }
    Ok(all)
}

/// Adds the clients of a directory's files, and says what cannot be used of them.
fn take_up(all: &mut Credentials, dir: &Path) -> Result<Vec<String>, CredentialsError> {
    let files = files_of(dir).map_err(|source| CredentialsError::Unreadable { path: dir.to_owned(), source })?;
    let mut problems = Vec::new();
    for path in files {
        match Credentials::load(&path) {
            Ok(more) => {
                problems.extend(all.take_up(more).into_iter().map(|name| {
                    format!("credentials file {}: a client {name:?} is in an earlier file", path.display())
                }))
            }
            // Removed since the directory was read.
            Err(CredentialsError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => problems.push(error.to_string()),
        }
    }
    Ok(problems)
}

/// The `*.toml` of a directory, by name.
fn files_of(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort_unstable();
    if files.len() > FILES_MOST {
        warn!(dir = %dir.display(), files = files.len(), most = FILES_MOST, "more credentials files than are read");
        files.truncate(FILES_MOST);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(dir: &Path, file: &str, name: &str, password: &str) {
        use sha2::Digest as _;
        let digest: String = sha2::Sha256::digest(password).iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("[[client]]\nname = {name:?}\nrole = \"station\"\npassword_sha256 = {digest:?}\n");
        fs::write(dir.join("making"), text).unwrap();
        fs::rename(dir.join("making"), dir.join(file)).unwrap();
    }

    /// The files are read once a second at most: waits until they say the same.
    async fn becomes(keyring: &Keyring, name: &str, password: &str, expected: Result<Role, Refusal>) {
        let until = Instant::now() + Duration::from_secs(30);
        while keyring.verify(name, password.as_bytes()) != expected {
            assert!(Instant::now() < until, "{name} is never {expected:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
            keyring.look().await;
        }
    }

    #[tokio::test]
    async fn a_station_is_added_changed_and_removed_while_it_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        client(dir.path(), "n1.toml", "n1", "one");
        let keyring = Keyring::open(None, Some(dir.path().to_owned())).unwrap();
        assert_eq!(keyring.verify("n1", b"one"), Ok(Role::Station));
        assert_eq!(keyring.verify("n2", b"two"), Err(Refusal::Unknown));
        client(dir.path(), "n2.toml", "n2", "two");
        becomes(&keyring, "n2", "two", Ok(Role::Station)).await;
        client(dir.path(), "n2.toml", "n2", "other");
        becomes(&keyring, "n2", "other", Ok(Role::Station)).await;
        assert_eq!(keyring.verify("n2", b"two"), Err(Refusal::Password));
        fs::remove_file(dir.path().join("n2.toml")).unwrap();
        becomes(&keyring, "n2", "other", Err(Refusal::Unknown)).await;
        assert_eq!(keyring.verify("n1", b"one"), Ok(Role::Station));
    }

    /// A file that takes as long to read as the test wants: a pipe.
    #[tokio::test]
    async fn whoever_is_served_by_the_same_thread_goes_on_while_the_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        client(dir.path(), "n1.toml", "n1", "one");
        let keyring = Keyring::open(None, Some(dir.path().to_owned())).unwrap();
        let slow = dir.path().join("slow.toml");
        nix::unistd::mkfifo(&slow, nix::sys::stat::Mode::S_IRWXU).unwrap();
        tokio::time::sleep(AGAIN).await;
        let (goes_on, seen) = std::sync::mpsc::channel();
        let writing = std::thread::spawn(move || {
            let went_on = seen.recv_timeout(Duration::from_secs(30)).is_ok();
            fs::write(slow, "[[client]]\nname = \"n2\"\nrole = \"station\"\n").unwrap();
            went_on
        });
        let others = async {
            assert_eq!(keyring.verify("n1", b"one"), Ok(Role::Station));
            assert_eq!(keyring.role_of("n2"), Err(Refusal::Unknown), "not read yet");
            goes_on.send(()).unwrap();
        };
        tokio::join!(keyring.look(), keyring.look(), others);
        assert!(writing.join().unwrap(), "the files were read on the thread that asked");
        assert_eq!(keyring.role_of("n2"), Ok(Role::Station));
    }

    #[tokio::test]
    async fn a_certificate_lets_in_who_is_listed_and_everybody_where_there_is_no_list() {
        let none = Keyring::open(None, None).unwrap();
        assert_eq!((none.role_of("n1"), none.verify("n1", b"")), (Ok(Role::Station), Err(Refusal::Unknown)));

        let dir = tempfile::tempdir().unwrap();
        let keyring = Keyring::open(None, Some(dir.path().to_owned())).unwrap();
        assert_eq!(keyring.role_of("n1"), Err(Refusal::Unknown), "a list of nobody lets in nobody");
        let becomes = async |expected| {
            let until = Instant::now() + Duration::from_secs(30);
            while keyring.role_of("n1") != expected {
                assert!(Instant::now() < until, "n1 is never {expected:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
                keyring.look().await;
            }
        };
        fs::write(dir.path().join("n1.toml"), "[[client]]\nname = \"n1\"\nrole = \"subscriber\"\n").unwrap();
        becomes(Ok(Role::Subscriber)).await;
        fs::remove_file(dir.path().join("n1.toml")).unwrap();
        becomes(Err(Refusal::Unknown)).await;
    }

    #[tokio::test]
    async fn a_broken_file_costs_the_others_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials.toml");
        fs::write(&file, "").unwrap();
        let more = dir.path().join("more");
        fs::create_dir(&more).unwrap();
        client(&more, "b.toml", "n1", "one");
        client(&more, "c.toml", "n1", "another");
        fs::write(more.join("a.toml"), "[[client]").unwrap();
        fs::write(more.join("notes.txt"), "not read").unwrap();
        let keyring = Keyring::open(Some(file.clone()), Some(more.clone())).unwrap();
        assert_eq!(keyring.verify("n1", b"one"), Ok(Role::Station), "the earlier file counts");
        client(&more, "d.toml", "n2", "two");
        becomes(&keyring, "n2", "two", Ok(Role::Station)).await;

        fs::write(&file, "[[client]").unwrap();
        client(&more, "e.toml", "n3", "three");
        assert_eq!(keyring.verify("n2", b"two"), Ok(Role::Station), "those from before stay in force");
        fs::write(&file, "").unwrap();
        becomes(&keyring, "n3", "three", Ok(Role::Station)).await;
        assert!(Keyring::open(Some(dir.path().join("none")), None).is_err());
        assert!(Keyring::open(None, Some(dir.path().join("none"))).is_err());
    }
}
