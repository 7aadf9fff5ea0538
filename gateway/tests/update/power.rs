//! Power cuts: before, in and after every change that an update makes to the disk, and around every transaction.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use gateway::update::disk::{Disk, RealDisk};
use proto::Assignment;

use crate::bench::{Bench, assignment, base, model};

/// What is on the disk when the power is back.
#[derive(Debug, Clone, Copy, PartialEq)]
enum After {
    /// All that was written.
    Everything,
    /// What was synced, and nothing else.
    SyncedOnly,
}

/// A disk that loses power at its n-th change: half of that change is done, and everything after it fails.
#[derive(Debug)]
struct Failing {
    real: RealDisk,
    after: After,
    state: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    left: u64,
    dead: bool,
    /// How much of each file is safe.
    synced: BTreeMap<PathBuf, u64>,
    /// Renames that are not safe yet, in order.
    renames: Vec<(PathBuf, PathBuf)>,
}

impl Failing {
    fn new(changes: u64, after: After) -> Arc<Self> {
        let state = Progress { left: changes, dead: false, synced: BTreeMap::new(), renames: Vec::new() };
        Arc::new(Self { real: RealDisk, after, state: Mutex::new(state) })
    }

    fn is_dead(&self) -> bool {
        self.state.lock().unwrap().dead
    }

    /// Counts a change; at the one where power fails, `half` of it is done.
    fn change(
        &self,
        half: impl FnOnce(&RealDisk),
        whole: impl FnOnce(&RealDisk, &mut Progress) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        if state.dead {
            return Err(io::Error::other("there is no power"));
        }
        if state.left == 0 {
            state.dead = true;
            half(&self.real);
            if self.after == After::SyncedOnly {
                state.lose();
            }
            return Err(io::Error::other("the power failed"));
        }
        state.left -= 1;
        whole(&self.real, &mut state)
    }
}

impl Progress {
    /// What was not synced is gone.
    fn lose(&mut self) {
        for (from, to) in self.renames.drain(..).rev() {
            let _ = fs::rename(to, from);
        }
        for (file, length) in &self.synced {
            if let Ok(file) = fs::OpenOptions::new().write(true).open(file) {
                file.set_len(*length).unwrap();
            }
        }
    }
}

impl Disk for Failing {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.change(|_| {}, |disk, _| disk.create_dir(dir))
    }

    fn append(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let length = fs::metadata(file).map_or(0, |file| file.len());
        self.change(
            |disk| disk.append(file, &bytes[..bytes.len() / 2]).unwrap(),
            |disk, state| {
                state.synced.entry(file.to_owned()).or_insert(length);
                disk.append(file, bytes)
            },
        )
    }

    fn sync(&self, file: &Path) -> io::Result<()> {
        self.change(
            |_| {},
            |disk, state| {
                disk.sync(file)?;
                state.synced.insert(file.to_owned(), fs::metadata(file)?.len());
                Ok(())
            },
        )
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(
            |_| {},
            |disk, state| {
                disk.rename(from, to)?;
                let moved: Vec<_> =
                    state.synced.iter().filter(|(f, _)| f.starts_with(from)).map(|(f, l)| (f.clone(), *l)).collect();
                for (file, length) in moved {
                    state.synced.remove(&file);
                    let rest = file.strip_prefix(from).unwrap();
                    state
                        .synced
                        .insert(if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) }, length);
                }
                state.renames.push((from.to_owned(), to.to_owned()));
                Ok(())
            },
        )
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change(
            |_| {},
            |disk, state| {
                disk.sync_dir(dir)?;
                state.renames.retain(|(_, to)| to.parent() != Some(dir));
                Ok(())
            },
        )
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        // Half of a directory that is removed is gone.
        let half = |_: &RealDisk| {
            if path.is_dir() {
                let _ = fs::read_dir(path).unwrap().flatten().next().map(|entry| fs::remove_file(entry.path()));
            }
        };
        self.change(half, |disk, state| {
            state.synced.retain(|file, _| !file.starts_with(path));
            disk.remove(path)
        })
    }

    fn transaction(&self) -> io::Result<()> {
        self.change(|_| {}, |_, _| Ok(()))
    }
}

/// Lets the power fail at every change in turn, until an update runs through.
async fn cut_everywhere(after: After) {
    let mut bench = Bench::new().await;
    let next = model("1.1.0", 1.001);
    bench.repository.put_model(&next.0, &next.1);
    bench.assign(Assignment { shadow_s: 1_800, ..assignment("1.1.0", &next.0, 1) }).await;
    let mut changes = 0;
    loop {
        // A new gateway for each, and the power fails once in its life.
        bench.dir = tempfile::TempDir::new().unwrap();
        let disk = Failing::new(changes, after);
        let through = match bench.start_on(Arc::<Failing>::clone(&disk)) {
            Ok(mut gateway) => {
                let through = tokio::select! {
                    active = gateway.active_or_ended("1.1.0") => active,
                    () = crate::bench::until("the power failed", || disk.is_dead()) => false,
                };
                gateway.kill().await;
                through
            }
            Err(error) => {
                assert!(disk.is_dead(), "{error:#}");
                false
            }
        };
        // The power is back: there is a working model at once, and the update goes on to its end.
        let mut gateway = bench.start();
        let judging = gateway.judging();
        assert!([&base().1.sha256, &next.1.sha256].contains(&&judging), "after {changes} changes");
        let model = gateway.until_active("1.1.0").await;
        assert_eq!((model.refusals.len(), model.previous.as_deref()), (0, Some("1.0.0")), "after {changes} changes");
        gateway.kill().await;
        if through {
            break;
        }
        changes += 1;
    }
    println!("the power failed at each of {changes} changes");
    assert!(changes > 30, "{changes} changes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_power_fails_at_every_change_and_all_that_was_written_is_there() {
    cut_everywhere(After::Everything).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_power_fails_at_every_change_and_only_what_was_synced_is_there() {
    cut_everywhere(After::SyncedOnly).await;
}

/// SQLite's log may end anywhere: the journal is then as it was before or after a transaction, never in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_whose_log_was_torn_still_opens() {
    let mut bench = Bench::new().await;
    bench.push(&model("1.1.0", 1.1), 1).await;
    let mut gateway = bench.start();
    gateway.until_active("1.1.0").await;
    let models = bench.dir.path().join("data/models");
    let copies: Vec<_> =
        ["updates.sqlite", "updates.sqlite-wal"].map(|f| (f, fs::read(models.join(f)).unwrap())).into();
    gateway.kill().await;
    let log = copies[1].1.len();
    assert!(log > 4_096, "{log} bytes of log");
    for length in (0..=log).step_by((log / 60).max(1)) {
        let dir = tempfile::TempDir::new().unwrap();
        let torn = dir.path().join("models");
        fs::create_dir_all(&torn).unwrap();
        fs::write(torn.join(copies[0].0), &copies[0].1).unwrap();
        fs::write(torn.join(copies[1].0), &copies[1].1[..length]).unwrap();
        let journal = gateway::update::Journal::open(dir.path()).unwrap();
        let active = journal.states().values().filter_map(|state| state.active.as_ref()).next();
        assert!(active.is_none_or(|active| ["1.0.0", "1.1.0"].contains(&active.version.version.as_str())));
    }
}

/// Once with the real runner: the power fails while the candidate's child is under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_power_fails_around_the_real_self_test() {
    let mut bench = Bench::new().await.with_runner();
    bench.push(&model("1.1.0", 1.1), 1).await;
    for phase in [proto::update::Phase::Verified, proto::update::Phase::SelfTested] {
        bench.dir = tempfile::TempDir::new().unwrap();
        let mut gateway = bench.start();
        let reached = |s: &proto::update::UpdateStatus| {
            s.models[0].active.version == "1.1.0" || s.models[0].candidate.as_ref().is_some_and(|c| c.phase >= phase)
        };
        gateway.until(phase.name(), reached).await;
        gateway.kill().await;
        let mut gateway = bench.start();
        gateway.until_active("1.1.0").await;
        gateway.kill().await;
    }
}
