//! Looks at the server's memory now and then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::cost::MIB;
use super::memory::Look;
use crate::probe::exposition::{MEMORY, Metrics};

/// How often a person is told.
const TOLD: Duration = Duration::from_secs(20);

/// Looks until it is finished.
pub struct Sampler {
    looks: Arc<Mutex<Vec<Look>>>,
    task: AbortHandle,
}

impl Sampler {
    /// Begins to look at `metrics` each `pause`.
    pub fn start(metrics: Metrics, pause: Duration) -> Self {
        let looks = Arc::default();
        let task = tokio::spawn(follow(metrics, pause, Arc::clone(&looks))).abort_handle();
        Self { looks, task }
    }

    /// Ends, and gives what was seen, with times from the beginning on.
    pub fn finish(self) -> Vec<Look> {
        self.task.abort();
        std::mem::take(&mut *self.looks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn follow(metrics: Metrics, pause: Duration, looks: Arc<Mutex<Vec<Look>>>) {
    let (start, mut told) = (Instant::now(), Instant::now());
    let mut ticks = interval(pause.max(Duration::from_millis(100)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(bytes) = metrics.read().await.and_then(|metrics| metrics.sum(MEMORY)) else { continue };
        let look = Look { at: start.elapsed().as_secs_f64(), bytes };
        looks.lock().unwrap_or_else(PoisonError::into_inner).push(look);
        if told.elapsed() >= TOLD {
            told = Instant::now();
            eprintln!("{:.0} s: the server's memory is {:.1} MiB", look.at, bytes / MIB);
        }
    }
}
