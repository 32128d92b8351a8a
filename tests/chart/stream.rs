//! A client that goes on reading, whatever happens to the release.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::common::until;

/// Reads the newest line of a job again and again.
pub struct Reader {
    newest: Arc<AtomicI64>,
    done: Arc<AtomicBool>,
    /// How often each status was answered; 0 stands for no answer.
    answers: JoinHandle<BTreeMap<u16, u32>>,
}

impl Reader {
    /// Reads `job` of the API at `base`, on a thread of the runtime of its own.
    pub fn start(base: &str, job: &str) -> Self {
        let url = format!("{base}/waterfall/{job}/1");
        let (newest, done) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, stop) = (newest.clone(), done.clone());
        let answers = tokio::spawn(async move {
            let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
            let mut answers = BTreeMap::new();
            while !stop.load(Ordering::Relaxed) {
                let answer = client.get(&url).send().await;
                let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
                *answers.entry(status).or_insert(0) += 1;
                if let (201, Ok(answer)) = (status, answer)
                    && let Ok(lines) = answer.json::<Value>().await
                    && let Some(end) = lines[0]["rows"][0]["endTimestamp"].as_i64()
                {
                    seen.fetch_max(end, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            answers
        });
        Self { newest, done, answers }
    }

    /// Waits until a line of after `moment` has been read.
    pub async fn until_newer_than(&self, moment: Timestamp) {
        until(&format!("a line newer than {moment}"), || async {
            (self.newest.load(Ordering::Relaxed) > moment.as_millisecond()).then_some(())
        })
        .await;
    }

    /// Ends it. While a job is taken over it may be told that there is nothing yet (200), that no consumer is there
    /// (404), to come again (503), or nothing at all; never that the analyzer has exited, and never an error.
    pub async fn stop(self) {
        self.done.store(true, Ordering::Relaxed);
        let answers = self.answers.await.unwrap();
        let unexpected = answers.keys().find(|status| ![0, 200, 201, 404, 503].contains(*status));
        assert_eq!(unexpected, None, "{answers:?}");
    }
}
