//! Who may knock: caps and rates of connections, in all and by address, and how often a password may be tried.
//!
//! An IPv4 address counts by itself, an IPv6 address with its /64, which is what one subscriber has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::warn;

use super::Shared;
use super::metrics::{count, subtract};
use super::rate::{Bucket, Rate};

/// Wrong passwords for one name from one address that are answered at once, before it slows down.
const GUESSES_AT_ONCE: u64 = 10;
/// After those, one try for that name from that address is looked at in as long.
const GUESS_EVERY: Duration = Duration::from_secs(5);
/// Pairs of address and name with wrong passwords that are remembered. Beyond it, further ones are not slowed down until
/// older ones are forgotten: with random passwords of 128 bits a guesser gains nothing by it.
const MAX_GUESSERS: usize = 10_000;
/// Addresses without a connection that are remembered for their rate, before those that need not be are let go of.
const MAX_ADDRESSES: usize = 4_096;
/// Files that the gateway keeps for everything but clients: its store, the broker, the way to the cloud.
const OTHER_FILES: u64 = 512;

/// A connection's place among those that may be open.
pub(crate) struct Admission {
    pub shared: Arc<Shared>,
    pub address: IpAddr,
}

/// What is known of addresses.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    known: Mutex<HashMap<IpAddr, Known>>,
    guesses: Mutex<HashMap<(IpAddr, String), Bucket>>,
}

#[derive(Debug, Default)]
struct Known {
    open: usize,
    connects: Bucket,
}

/// The address as it counts.
pub(crate) fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

impl Admission {
    /// A place for a connection from `address` (as [`counted`]), if it may have one.
    pub fn of(shared: &Arc<Shared>, address: IpAddr) -> Option<Self> {
        let metrics = &shared.metrics;
        if metrics.connections_open_now.load(Ordering::Relaxed) >= shared.max_connections {
            count(&metrics.connections_refused_full);
            return None;
        }
        let now = shared.now();
        let mut addresses = shared.addresses.known.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() >= MAX_ADDRESSES + shared.max_connections as usize {
            addresses.retain(|_, known| known.open > 0 || !known.connects.is_full(now));
        }
        let known = addresses.entry(address).or_default();
        if known.open >= shared.max_connections_per_address {
            count(&metrics.connections_refused_address);
            return None;
        }
        if !known.connects.take(shared.connection_rate, now) {
            count(&metrics.connections_refused_rate);
            return None;
        }
        known.open += 1;
        count(&metrics.connections_open_now);
        Some(Self { shared: Arc::clone(shared), address })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        subtract(&self.shared.metrics.connections_open_now, 1);
        let now = self.shared.now();
        let mut addresses = self.shared.addresses.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = addresses.get_mut(&self.address) {
            known.open -= 1;
            if known.open == 0 && known.connects.is_full(now) {
                addresses.remove(&self.address);
            }
        }
    }
}

impl Addresses {
    /// Whether a password for `name` from `address` is looked at now. After too many wrong ones it is not, also not a
    /// right one: the answer would say which of many was right.
    pub fn may_try(&self, address: IpAddr, name: &str, now: Duration) -> bool {
        let guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        if guesses.is_empty() {
            return true;
        }
        guesses.get(&(address, name.to_owned())).is_none_or(|bucket| bucket.wait(guess_rate(), now).is_none())
    }

    /// Notes a wrong password.
    pub fn guessed(&self, address: IpAddr, name: &str, now: Duration) {
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        if guesses.len() >= MAX_GUESSERS {
            guesses.retain(|_, bucket| !bucket.is_full(now));
            if guesses.len() >= MAX_GUESSERS {
                return;
            }
        }
        guesses.entry((address, name.to_owned())).or_default().charge(guess_rate(), now, 1);
    }
}

fn guess_rate() -> Rate {
    Rate::one_in(GUESS_EVERY, GUESSES_AT_ONCE)
}

/// Raises the limit of open files as far as the system allows without being asked, and says how many clients fit.
///
/// A client needs a file; one that subscribes at the broker needs three.
pub(crate) fn room_for(clients: usize) -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let wanted = clients as u64;
    let limit = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    let limit = match limit {
        Ok(limit) => limit,
        Err(error) => {
            warn!(%error, "the limit of open files cannot be read or raised");
            return wanted;
        }
    };
    let room = limit.saturating_sub(OTHER_FILES).max(limit / 2);
    if room < wanted {
        warn!(
            limit,
            "the system lets this process open {limit} files, too few for door.max_connections = {wanted}: \
             {room} clients are let in at a time (raise it with `ulimit -n`, or LimitNOFILE in the service's unit)"
        );
    }
    wanted.min(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_count_by_subscriber() {
        let same = |a: &str, b: &str| counted(a.parse().unwrap()) == counted(b.parse().unwrap());
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
    }

    #[test]
    fn guessing_slows_down_for_that_name_and_address_only() {
        let (addresses, guesser) = (Addresses::default(), "192.0.2.1".parse().unwrap());
        let at = Duration::from_secs(1_000);
        for _ in 0..GUESSES_AT_ONCE {
            assert!(addresses.may_try(guesser, "n1", at));
            addresses.guessed(guesser, "n1", at);
        }
        assert!(!addresses.may_try(guesser, "n1", at));
        assert!(addresses.may_try(guesser, "n2", at));
        assert!(addresses.may_try("192.0.2.2".parse().unwrap(), "n1", at));
        let later = at + GUESS_EVERY + Duration::from_millis(1);
        assert!(addresses.may_try(guesser, "n1", later));
        addresses.guessed(guesser, "n1", later);
        assert!(!addresses.may_try(guesser, "n1", later));
    }

    #[test]
    fn guessers_are_remembered_within_a_bound() {
        let (addresses, guesser) = (Addresses::default(), "192.0.2.1".parse().unwrap());
        for n in 0..2 * MAX_GUESSERS {
            addresses.guessed(guesser, &format!("n{n}"), Duration::from_secs(1));
        }
        assert_eq!(addresses.guesses.lock().unwrap().len(), MAX_GUESSERS);
        addresses.guessed(guesser, "late", Duration::from_secs(1_000));
        assert_eq!(addresses.guesses.lock().unwrap().len(), 1, "those that are over are let go of");
    }
}
