//! From one job's consumer to its many readers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use super::ending;
use super::message::Item;
use super::ring::{Limits, Ring, Taken};
use crate::server::job::{Awaited, Job};
use crate::wire;

/// How far a reader may fall behind.
const BACKLOG: Limits = Limits { items: 1024, bytes: 64 << 20 };
/// Pause after waking readers, for each of them: a thousand are woken at most 50 times a second, and find then all
/// lines that have come meanwhile. So the cost of waking is bounded, whatever the rate of the lines.
const PACE: Duration = Duration::from_micros(20);
/// Longest such pause.
const LONGEST_PACE: Duration = Duration::from_millis(50);

/// What all readers of a job share.
#[derive(Debug)]
pub struct Fan {
    state: Mutex<State>,
    /// Wakes the task that wakes the readers, so that the consumer does the same work whatever their number.
    poke: Notify,
    news: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    ring: Ring<Arc<Item>>,
    /// Why no more lines will come.
    ended: Option<Awaited>,
    readers: usize,
    /// Whether there is a task that wakes the readers.
    waking: bool,
}

/// What a reader is counted in.
#[derive(Clone)]
pub struct Counts {
    /// Readers that are connected.
    pub readers: IntGauge,
    /// Lines that readers were given.
    pub lines: IntCounter,
    /// Lines that readers were too slow for.
    pub lost: IntCounter,
}

/// One reader of a job: the job is read for as long as it lives.
pub struct Reader {
    job: Arc<Job>,
    /// Not held: what the display no longer keeps, this reader has lost.
    earlier: VecDeque<Weak<wire::Line>>,
    cursor: u64,
    /// Lines lost since the last one that was given.
    missed: u64,
    lost: u64,
    news: watch::Receiver<()>,
    counts: Counts,
    _place: OwnedSemaphorePermit,
}

/// What a reader is told.
#[derive(Debug)]
pub enum Event {
    /// A line.
    Line {
        /// The line.
        item: Arc<Item>,
        /// Lines before it that this reader was too slow for.
        lost: u64,
    },
    /// There will be no more lines, and why.
    End(Awaited),
}

impl Default for Fan {
    fn default() -> Self {
        let state = State { ring: Ring::new(BACKLOG), ended: None, readers: 0, waking: false };
        Self { state: Mutex::new(state), poke: Notify::new(), news: watch::channel(()).0 }
    }
}

impl Fan {
    /// Gives `line` to the readers, if there are any.
    pub fn push(&self, line: &Arc<wire::Line>) {
        let mut state = self.lock();
        let readers = state.readers;
        if readers > 0 {
            let item = Item::new(Arc::clone(line));
            let bytes = item.bytes();
            state.ring.push(Arc::new(item), bytes, readers);
            drop(state);
            self.poke.notify_one();
        }
    }

    /// Tells the readers, when they have had all lines, why no more will come; None: some may.
    pub fn end(&self, why: Option<Awaited>) {
        self.lock().ended = why;
        self.poke.notify_one();
    }

    /// How many read.
    pub fn readers(&self) -> usize {
        self.lock().readers
    }

    /// Enters a reader, who begins with the next line; gives its cursor.
    fn enter(self: &Arc<Self>, stop: &CancellationToken) -> u64 {
        let mut state = self.lock();
        state.readers += 1;
        if !state.waking {
            state.waking = true;
            tokio::spawn(Arc::clone(self).wake(stop.clone()));
        }
        state.ring.end()
    }

    fn leave(&self, cursor: u64) {
        let mut state = self.lock();
        state.readers -= 1;
        state.ring.leave(cursor);
        if state.readers == 0 {
            drop(state);
            // The task that wakes the readers ends with the last one.
            self.poke.notify_one();
        }
    }

    /// Wakes the readers when there is news, until there are none or until `stop`.
    async fn wake(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(self.poke.notified()).await.is_some() {
            let readers = {
                let mut state = self.lock();
                state.waking = state.readers > 0;
                state.readers
            };
            if readers == 0 {
                return;
            }
            self.news.send_replace(());
            if let Some(pause) = pace(readers) {
                tokio::time::sleep(pause).await;
            }
        }
        let mut state = self.lock();
        state.waking = false;
        state.ended.get_or_insert_with(ending::stopping);
        drop(state);
        self.news.send_replace(());
    }

    /// What `cursor` finds: a line, or that there will be none and why; None: some may come.
    fn next(&self, cursor: &mut u64) -> Option<Result<Taken<Arc<Item>>, Awaited>> {
        let mut state = self.lock();
        state.ring.take(cursor).map(Ok).or_else(|| state.ended.clone().map(Err))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// A reader of `job` from now on, who gets the newest `earlier` of the lines that are still kept first.
    pub fn new(
        job: Arc<Job>,
        earlier: usize,
        counts: Counts,
        place: OwnedSemaphorePermit,
        stop: &CancellationToken,
    ) -> Self {
        let (earlier, cursor) = job.with_newest(earlier.min(BACKLOG.items), |kept| {
            (kept.iter().map(Arc::downgrade).collect(), job.fan.enter(stop))
        });
        counts.readers.inc();
        let news = job.fan.news.subscribe();
        Self { job, earlier, cursor, missed: 0, lost: 0, news, counts, _place: place }
    }

    /// The job.
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// How many lines this reader was too slow for, in all.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The next event. Nothing is lost when this is dropped before it is done.
    pub async fn next(&mut self) -> Event {
        loop {
            self.news.mark_unchanged();
            if let Some(event) = self.poll() {
                return event;
            }
            // The sender lives as long as the job, which is held here.
            let _ = self.news.changed().await;
        }
    }

    fn poll(&mut self) -> Option<Event> {
        while let Some(line) = self.earlier.pop_front() {
            match line.upgrade() {
                Some(line) => return Some(self.given(Arc::new(Item::new(line)))),
                None => self.lose(1),
            }
        }
        match self.job.fan.next(&mut self.cursor)? {
            Ok(Taken { lost, item }) => {
                self.lose(lost);
                Some(self.given(item))
            }
            Err(why) => Some(Event::End(why)),
        }
    }

    fn lose(&mut self, count: u64) {
        self.missed += count;
        self.lost += count;
        self.counts.lost.inc_by(count);
    }

    fn given(&mut self, item: Arc<Item>) -> Event {
        self.counts.lines.inc();
        Event::Line { item, lost: std::mem::take(&mut self.missed) }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.job.touch();
        self.job.fan.leave(self.cursor);
        self.counts.readers.dec();
    }
}

/// How long readers are left alone after they have been woken.
fn pace(readers: usize) -> Option<Duration> {
    let pause = PACE.saturating_mul(u32::try_from(readers).unwrap_or(u32::MAX)).min(LONGEST_PACE);
    // The timer's grain.
    (pause >= Duration::from_millis(1)).then_some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    use prometheus::Registry;
    use tokio::sync::Semaphore;

    use crate::api::FocusJob;
    use crate::server::answer::tests::{source, spec};
    use crate::server::budget::tests::budget;
    use crate::server::job::Stage;
    use crate::server::metrics::{Metrics, ReaderKind};

    /// A job of one channel with its feed open, and what its readers need.
    struct World {
        job: Arc<Job>,
        metrics: Metrics,
        places: Arc<Semaphore>,
        stop: CancellationToken,
    }

    impl World {
        fn new() -> Self {
            let job = Arc::new(Job::new(&FocusJob::new("18-3", spec(1)), None));
            let stop = CancellationToken::new();
            job.open(&source(), &budget(usize::MAX), &stop);
            let metrics = Metrics::new(&Registry::new()).expect("fresh registry");
            Self { job, metrics, places: Arc::new(Semaphore::new(9)), stop }
        }

        fn reader(&self, earlier: usize) -> Reader {
            let counts = self.metrics.reader_counts(ReaderKind::Grpc);
            let place = Arc::clone(&self.places).try_acquire_owned().expect("a place");
            Reader::new(Arc::clone(&self.job), earlier, counts, place, &self.stop)
        }

        fn push(&self, index: u64) {
            let intensities = vec![0; 513];
            let line = wire::Line { index, intensities, db_max: 1.0, ..wire::Line::default() };
            self.job.push(line, false).expect("a feed");
        }
    }

    /// The line's number and the losses before it, or the end's reason.
    async fn next(reader: &mut Reader) -> Result<(u64, u64), String> {
        match reader.next().await {
            Event::Line { item, lost } => Ok((item.line().index, lost)),
            Event::End(why) => Err(why.reason),
        }
    }

    #[tokio::test]
    async fn a_slow_reader_loses_the_oldest_and_no_other_does() {
        let world = World::new();
        let (mut fast, mut slow) = (world.reader(0), world.reader(0));
        let pushed = BACKLOG.items as u64 + 100;
        for index in 0..pushed {
            world.push(index);
            assert_eq!(next(&mut fast).await, Ok((index, 0)));
        }
        assert_eq!(next(&mut slow).await, Ok((100, 100)));
        assert_eq!(next(&mut slow).await, Ok((101, 0)));
        assert_eq!((fast.lost(), slow.lost()), (0, 100));
        let counts = world.metrics.reader_counts(ReaderKind::Grpc);
        assert_eq!((counts.lost.get(), counts.lines.get(), counts.readers.get()), (100, pushed + 2, 2));
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_and_told_the_end_after_the_last_line() {
        let world = World::new();
        let mut reader = world.reader(0);
        let reads = tokio::spawn(async move {
            let mut got = Vec::new();
            loop {
                match next(&mut reader).await {
                    Ok((index, _)) => got.push(index),
                    Err(reason) => return (got, reason),
                }
            }
        });
        for index in 0..5 {
            world.push(index);
            tokio::task::yield_now().await;
        }
        world.job.finish(Awaited::new("finished", "Completed", ""));
        assert_eq!(reads.await.expect("no panic"), (vec![0, 1, 2, 3, 4], "Completed".to_owned()));
    }

    #[tokio::test]
    async fn a_job_is_drained_when_its_analyzer_has_taken_leave_or_its_queue_is_gone() {
        let drained =
            async |job: &Job| tokio::time::timeout(Duration::from_millis(100), job.drained()).await.is_ok();
        let world = World::new();
        assert!(drained(&world.job).await, "it has no consumer");
        world.job.set_stage(Stage::Attached, &world.stop);
        assert!(!drained(&world.job).await, "lines may come");
        world.job.with_feed(|feed| feed.ended = Some(wire::End::default()));
        assert!(drained(&world.job).await);
        world.push(0);
        assert!(!drained(&world.job).await, "another analyzer has begun");
        world.job.set_stage(Stage::Waiting(Awaited::new("queue", "QueueMissing", "")), &world.stop);
        assert!(drained(&world.job).await);
    }

    #[tokio::test]
    async fn earlier_lines_come_first_and_those_that_the_display_dropped_are_lost() {
        let world = World::new();
        (0..5).for_each(|index| world.push(index));
        let mut reader = world.reader(3);
        world.push(5);
        let mut got = Vec::new();
        for _ in 0..4 {
            got.push(next(&mut reader).await);
        }
        assert_eq!(got, [Ok((2, 0)), Ok((3, 0)), Ok((4, 0)), Ok((5, 0))]);

        let mut late = world.reader(3);
        world.job.with_feed(|feed| feed.lines.clear());
        world.push(6);
        assert_eq!(next(&mut late).await, Ok((6, 3)));
    }

    #[tokio::test]
    async fn a_job_is_read_while_a_reader_is_there_and_a_new_one_begins_with_the_next_line() {
        let world = World::new();
        let reader = world.reader(0);
        world.push(0);
        assert_eq!(world.job.unread_for(), Duration::ZERO);
        drop(reader);
        assert_eq!(world.job.fan.readers(), 0);
        assert!(world.job.unread_for() > Duration::ZERO);
        world.push(1);
        let mut again = world.reader(0);
        world.push(2);
        assert_eq!(next(&mut again).await, Ok((2, 0)));
    }

    #[tokio::test]
    async fn the_server_s_end_and_a_resumed_job_are_told() {
        let world = World::new();
        world.job.stop(Stage::Ended(Awaited::new("suspended", "Suspended", "")));
        assert_eq!(next(&mut world.reader(0)).await, Err("Suspended".to_owned()));
        world.job.set_stage(Stage::Attached, &world.stop);
        world.job.open(&source(), &budget(usize::MAX), &world.stop);
        let mut reader = world.reader(0);
        world.push(0);
        assert_eq!(next(&mut reader).await, Ok((0, 0)));
        world.stop.cancel();
        assert_eq!(next(&mut reader).await, Err("ServerStopping".to_owned()));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thousand_readers_get_every_line() {
        let world = World { places: Arc::new(Semaphore::new(1000)), ..World::new() };
        let readers: Vec<_> = (0..1000).map(|_| world.reader(0)).collect();
        let wrong = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = readers
            .into_iter()
            .map(|mut reader| {
                let wrong = Arc::clone(&wrong);
                tokio::spawn(async move {
                    for index in 0..100 {
                        if next(&mut reader).await != Ok((index, 0)) {
                            wrong.store(true, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        (0..100).for_each(|index| world.push(index));
        for task in tasks {
            task.await.expect("no panic");
        }
        assert!(!wrong.load(Ordering::Relaxed));
    }

    #[test]
    fn many_readers_are_woken_less_often() {
        for (readers, millis) in [(1, None), (49, None), (50, Some(1)), (1000, Some(20)), (1 << 20, Some(50))]
        {
            assert_eq!(pace(readers).map(|pause| pause.as_millis()), millis, "{readers}");
        }
    }
}
