//! The recordings that historic views can show, as the server knows them: a folder, looked at again and again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::metrics::Metrics;
use crate::api::AnalyzerSource;
use crate::recordings::{Index, Recorded, Scan, stretches};

/// What is known of the folder.
#[derive(Clone, Debug)]
enum Known {
    /// The server was given none.
    NoFolder,
    /// It has not been read yet, and why not.
    Unread(String),
    /// Its recordings, in the order of their starts, as last read.
    Read(Arc<Vec<Recorded>>),
}

/// The recordings of a folder.
pub struct Recordings {
    known: watch::Sender<Known>,
}

impl Recordings {
    /// Those of `folder`, and the future that looks at it every `pause` until `stop`.
    pub fn new(
        folder: Option<PathBuf>,
        pause: Duration,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> (Arc<Self>, impl Future<Output = ()>) {
        let known = match &folder {
            Some(_) => Known::Unread("the recordings have not been read yet".to_owned()),
            None => Known::NoFolder,
        };
        let recordings = Arc::new(Self { known: watch::channel(known).0 });
        let task = follow(Arc::clone(&recordings), folder, pause, metrics, stop);
        (recordings, task)
    }

    /// Start and end, µs since the Unix epoch, of each stretch without a gap of what was recorded of `source`, as
    /// far as it reaches into the time from `start_us` to `end_us`.
    ///
    /// # Errors
    /// A sentence, when the folder has not been read.
    pub fn within(
        &self,
        source: &AnalyzerSource,
        start_us: i64,
        end_us: i64,
    ) -> Result<Vec<(i64, i64)>, String> {
        let known = self.known.borrow().clone();
        match known {
            Known::NoFolder => Ok(Vec::new()),
            Known::Unread(why) => Err(why),
            Known::Read(_) if source.past().is_none() => Ok(Vec::new()),
            Known::Read(all) => {
                Ok(stretches(all.iter().filter(|recorded| recorded.fits(source)), start_us, end_us))
            }
        }
    }
}

async fn follow(
    recordings: Arc<Recordings>,
    folder: Option<PathBuf>,
    pause: Duration,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let Some(folder) = folder else { return };
    let mut index = Index::new(&folder);
    let mut tick = tokio::time::interval(pause);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut problem = None;
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let scanned = tokio::task::spawn_blocking(move || {
            let scan = index.scan();
            (index, scan)
        });
        let scan = match scanned.await {
            Ok((back, scan)) => {
                index = back;
                scan.map_err(|error| error.to_string())
            }
            // The index is lost with its thread: all files are read again.
            Err(error) => {
                index = Index::new(&folder);
                Err(error.to_string())
            }
        };
        match scan {
            Ok(scan) => {
                problem = None;
                metrics.recordings(scan.recordings.len(), scan.unreadable);
                tell(&scan);
                recordings.known.send_replace(Known::Read(Arc::new(scan.recordings)));
            }
            Err(why) => {
                metrics.recording_scan_failures.inc();
                let words = format!(
                    "reading the recordings in {}: {why}; check that the volume is mounted",
                    folder.display()
                );
                if problem.as_ref() != Some(&words) {
                    warn!("{words}");
                }
                // What was read before stays known.
                recordings.known.send_if_modified(|known| {
                    let unread = matches!(known, Known::Unread(_));
                    if unread {
                        *known = Known::Unread(words.clone());
                    }
                    unread
                });
                problem = Some(words);
            }
        }
    }
}

fn tell(scan: &Scan) {
    if scan.too_many {
        warn!(recordings = scan.recordings.len(), "the folder has too many files; some are left out");
    }
    for (path, why) in &scan.newly_unreadable {
        info!(file = %path.display(), why, "no recording that can be shown; told once");
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    /// 2026-01-01T00:00:00Z, µs.
    const T: i64 = 1_767_225_600_000_000;

    fn source(recordings: Option<&str>, channels: i32) -> AnalyzerSource {
        AnalyzerSource {
            recordings: recordings.map(str::to_owned),
            sample_rate_hz: 100.0,
            channels,
            ..crate::server::answer::tests::source()
        }
    }

    async fn read(folder: Option<&str>) -> Arc<Recordings> {
        let metrics = Metrics::new(&Registry::new()).expect("fresh registry");
        let (recordings, task) = Recordings::new(
            folder.map(PathBuf::from),
            Duration::from_secs(60),
            metrics.clone(),
            CancellationToken::new(),
        );
        let mut news = recordings.known.subscribe();
        let task = tokio::spawn(task);
        if folder.is_some() {
            news.changed().await.expect("the task runs");
        }
        task.abort();
        recordings
    }

    #[tokio::test]
    async fn what_fits_the_source_is_found() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/recordings");
        let recordings = read(Some(folder)).await;
        let s = 1_000_000;
        let past = Some("file:///recordings/");
        for (source, from, to, expected) in [
            (source(past, 4), T, T + 100 * s, vec![(T, T + 10 * s), (T + 30 * s, T + 35 * s)]),
            (source(past, 2), T, T + 100 * s, vec![(T + 60 * s, T + 65 * s)]),
            (source(past, 4), T + 10 * s, T + 30 * s, vec![]),
            (source(None, 4), T, T + 100 * s, vec![]),
        ] {
            assert_eq!(recordings.within(&source, from, to), Ok(expected), "{from} to {to}");
        }
        assert_eq!(read(None).await.within(&source(past, 4), T, T + s), Ok(vec![]));
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_told() {
        let recordings = read(Some("/nonexistent")).await;
        let why =
            recordings.within(&source(Some("file:///recordings/"), 4), T, T + 1).expect_err("no folder");
        assert!(why.contains("/nonexistent") && why.contains("check that the volume is mounted"), "{why}");
    }
}
