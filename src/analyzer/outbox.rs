//! Lines between the thread that computes them and the task that publishes them: bounded, newest kept.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::metrics::Metrics;
use crate::wire::{End, Line};

/// Most bytes of intensities that wait.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Most lines that wait: about what a display shows; older ones would scroll past unseen.
pub const MAX_LINES: usize = 1024;
/// Buffers that are kept for reuse.
const MAX_SPARE: usize = 8;

/// The next thing to publish.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// A line, which is now the caller's.
    Line(Line),
    /// There will be no line any more.
    End(End),
}

/// A bounded queue whose oldest lines make room for new ones.
pub struct Outbox {
    inner: Mutex<Inner>,
    arrived: Notify,
    metrics: Metrics,
}

#[derive(Default)]
struct Inner {
    lines: VecDeque<Line>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
    end: Option<End>,
}

impl Outbox {
    /// An empty one, which counts what it drops.
    pub fn new(metrics: Metrics) -> Self {
        Self { inner: Mutex::default(), arrived: Notify::new(), metrics }
    }

    /// Adds a line; the oldest go, and are counted, until all fit. After the end, lines are ignored.
    pub fn push(&self, line: Line) {
        let mut inner = self.lock();
        if inner.end.is_some() {
            return;
        }
        inner.bytes += line.intensities.len();
        inner.lines.push_back(line);
        while inner.lines.len() > 1 && (inner.lines.len() > MAX_LINES || inner.bytes > MAX_BYTES) {
            if let Some(oldest) = inner.lines.pop_front() {
                inner.bytes -= oldest.intensities.len();
                inner.keep(oldest.intensities);
                self.metrics.dropped.inc();
            }
        }
        self.metrics.waiting_bytes.set(inner.bytes as i64);
        drop(inner);
        self.arrived.notify_one();
    }

    /// No line will come any more. The first end counts.
    pub fn close(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.arrived.notify_one();
    }

    /// Waits for the next line, oldest first; once all are taken, gives the end, again and again.
    ///
    /// Nothing is lost when the wait is given up.
    pub async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.arrived.notified().await;
        }
    }

    fn take(&self) -> Option<Next> {
        let mut inner = self.lock();
        if let Some(line) = inner.lines.pop_front() {
            inner.bytes -= line.intensities.len();
            self.metrics.waiting_bytes.set(inner.bytes as i64);
            return Some(Next::Line(line));
        }
        inner.end.clone().map(Next::End)
    }

    /// A buffer of `len` bytes, of unspecified content, that was used before if there is one.
    pub fn buffer(&self, len: usize) -> Vec<u8> {
        let mut buffer = self.lock().spare.pop().unwrap_or_default();
        buffer.resize(len, 0);
        buffer
    }

    /// Takes a buffer back for reuse.
    pub fn give_back(&self, buffer: Vec<u8>) {
        self.lock().keep(buffer);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that holds the lock can leave it inconsistent.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn keep(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn outbox() -> (Outbox, Metrics) {
        let (metrics, _) = Metrics::new().unwrap();
        (Outbox::new(metrics.clone()), metrics)
    }

    fn line(index: u64, bytes: usize) -> Line {
        Line { index, intensities: vec![0; bytes], ..Line::default() }
    }

    async fn drained(outbox: &Outbox) -> Vec<u64> {
        outbox.close(End::default());
        let mut indices = Vec::new();
        while let Next::Line(line) = outbox.next().await {
            indices.push(line.index);
        }
        indices
    }

    #[tokio::test]
    async fn the_oldest_make_room() {
        let mib = 1024 * 1024;
        // (lines, bytes of each, first kept)
        for (count, bytes, first) in
            [(10, 10, 0), (1030, 10, 6), (70, mib, 6), (2, 80 * mib, 1), (1, 80 * mib, 0)]
        {
            let (outbox, metrics) = outbox();
            (0..count).for_each(|index| outbox.push(line(index, bytes)));
            assert_eq!(metrics.dropped.get(), first, "{count} lines of {bytes} bytes");
            assert_eq!(drained(&outbox).await, (first..count).collect::<Vec<_>>());
            assert_eq!(metrics.waiting_bytes.get(), 0);
        }
    }

    #[tokio::test]
    async fn the_first_end_counts_and_stays() {
        let (outbox, _) = outbox();
        let end = |reason: &str| End { reason: reason.to_owned(), message: String::new() };
        outbox.close(end("Completed"));
        outbox.close(end("Terminated"));
        outbox.push(line(0, 1));
        for _ in 0..2 {
            assert_eq!(outbox.next().await, Next::End(end("Completed")));
        }
    }

    #[test]
    fn buffers_are_used_again() {
        let (outbox, _) = outbox();
        let buffer = outbox.buffer(1000);
        let address = buffer.as_ptr();
        outbox.give_back(buffer);
        let again = outbox.buffer(900);
        assert_eq!((again.as_ptr(), again.len()), (address, 900));
    }
}
