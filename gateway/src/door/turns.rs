//! Turns for what is long on the door's thread: the arithmetic of TLS handshakes.
//!
//! A handshake takes a fraction of a millisecond to several milliseconds, by machine and key, and anybody may ask for one.
//! So handshakes together have half of the thread's time at most, whatever comes: each of their steps waits for its turn,
//! first come first served, and all of them rest as long as they have taken. Those that are connected are served meanwhile:
//! with some 1,400 handshakes begun at once a PUBACK took 22 to 32 ms at most, and 350 to 520 ms when they were served as they
//! came (two runs each on two cores of an EPYC, door and clients as built for the tests).

use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How far the steps may get ahead of their share before they rest: as a stroke, so that nobody waits longer for them than
/// for it.
const AHEAD: Duration = Duration::from_millis(8);

/// The line in which steps wait.
#[derive(Debug)]
pub(crate) struct Turns {
    /// Who has it is the next.
    line: tokio::sync::Mutex<()>,
    /// When the steps have rested for all that they took.
    rested: Mutex<Instant>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { line: tokio::sync::Mutex::default(), rested: Mutex::new(Instant::now()) }
    }
}

impl Turns {
    /// Runs `work`, each of its steps in its turn.
    ///
    /// The steps are polls: it must be awaited by a task of its own, for that is woken when the next one can be taken.
    pub async fn take<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            self.turn().await;
            let began = Instant::now();
            let step = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
            self.spent(began.elapsed());
            if let Poll::Ready(done) = step {
                return done;
            }
            woken().await;
        }
    }

    async fn turn(&self) {
        let _first = self.line.lock().await;
        let from = *self.rested.lock().unwrap_or_else(PoisonError::into_inner) - AHEAD;
        if from > Instant::now() {
            sleep_until(from).await;
        }
    }

    /// A step has taken so long. It rests as long when it has ended.
    fn spent(&self, time: Duration) {
        let mut rested = self.rested.lock().unwrap_or_else(PoisonError::into_inner);
        *rested = (*rested).max(Instant::now() - time) + 2 * time;
    }
}

/// Waits until this task is woken.
async fn woken() {
    let mut waited = false;
    poll_fn(|_| if mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn steps_rest_as_long_as_they_took_and_come_in_their_order() {
        const TOOK: Duration = Duration::from_millis(60);
        let (turns, began) = (Arc::new(Turns::default()), Instant::now());
        turns.spent(TOOK);
        let done: Arc<Mutex<Vec<(u32, Duration)>>> = Arc::default();
        let tasks: Vec<_> = (1..4)
            .map(|number| {
                let (turns, done) = (Arc::clone(&turns), Arc::clone(&done));
                tokio::spawn(async move {
                    turns.take(std::future::ready(())).await;
                    done.lock().unwrap().push((number, began.elapsed()));
                    turns.spent(TOOK);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let done = done.lock().unwrap();
        assert_eq!(done.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3]);
        for (number, at) in done.iter() {
            assert!(*at >= *number * (TOOK - AHEAD), "step {number} came after {at:?}");
        }
    }

    #[tokio::test]
    async fn work_goes_on_when_what_it_waits_for_has_come() {
        let turns = Turns::default();
        let (send, receive) = tokio::sync::oneshot::channel();
        let sending = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            send.send(7).unwrap();
        });
        assert_eq!(turns.take(receive).await, Ok(7));
        sending.await.unwrap();
    }
}
