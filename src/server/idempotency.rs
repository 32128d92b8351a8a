//! A retried `POST /configure` gets the job that the first one made.
//!
//! The job carries its key's hash as a label; there is no other record. Two requests with one key may be served by
//! two replicas at once, and both make a job. Then each asks the API server for the jobs of that key **as of the
//! revision at which its own was created**: the revisions are in one order for all, so exactly one of them finds
//! itself alone. It stays; the others delete their own and answer with that one. None of this depends on clocks or
//! on what a watch has brought so far, and it holds across restarts.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::cluster::Cluster;
use super::error::ApiError;
use crate::api::{FocusJob, FocusJobSpec};
use crate::backoff::Backoff;
use crate::telemetry::traces::JobTrace;

/// The request's header.
pub const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest key, bytes.
const MAX_KEY: usize = 255;
/// How often the jobs of a key are looked at until one is left.
const LOOKS: usize = 8;

/// The key of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The label's value: the first half of the SHA-256 of key and caller, in hexadecimal digits.
    pub label: String,
}

impl Key {
    /// The key that the headers have, if any. Each caller has keys of its own.
    ///
    /// # Errors
    /// 400, when there are two, or one that is empty, too long or not printable.
    pub fn of(headers: &HeaderMap, caller: Option<&str>) -> Result<Option<Self>, ApiError> {
        let mut keys = headers.get_all(HEADER).iter();
        match (keys.next(), keys.next()) {
            (None, _) => Ok(None),
            (Some(key), None)
                if (1..=MAX_KEY).contains(&key.len()) && key.as_bytes().iter().all(u8::is_ascii_graphic) =>
            {
                Ok(Some(Self::new(key.as_bytes(), caller)))
            }
            _ => Err(ApiError::Rule(format!(
                "Idempotency-Key must be given once, with 1 to {MAX_KEY} printable ASCII characters without spaces"
            ))),
        }
    }

    fn new(key: &[u8], caller: Option<&str>) -> Self {
        // A key has no line break, so that no key and caller make the text of another pair.
        let digest =
            Sha256::new().chain_update(key).chain_update("\n").chain_update(caller.unwrap_or_default());
        let digest = digest.finalize();
        Self { label: digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect() }
    }

    /// The job that an earlier request with this key made and that is still there.
    ///
    /// # Errors
    /// When the API server does not answer, or two jobs stay.
    pub async fn earlier(&self, cluster: &Cluster) -> Result<Option<FocusJob>, ApiError> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        for _ in 0..LOOKS {
            let all = cluster.with_key(&self.label, None).await.map_err(|error| error.into_api_error())?;
            let mut live: Vec<FocusJob> = all.into_iter().filter(is_live).collect();
            if live.len() <= 1 {
                return Ok(live.pop());
            }
            // Requests at the same time: all but the first take theirs away.
            tokio::time::sleep(backoff.pause()).await;
        }
        let message = "several jobs have this Idempotency-Key; delete them, or use another key";
        Err(ApiError::unavailable("KeyUnsettled", message))
    }

    /// Whether `mine`, just made, is the first job of this key. Otherwise it is deleted.
    ///
    /// # Errors
    /// When the API server does not answer; the job is then deleted as far as possible.
    pub async fn is_first(&self, cluster: &Cluster, mine: &FocusJob) -> Result<bool, ApiError> {
        let revision = mine.resource_version().unwrap_or_default();
        let then = cluster.with_key(&self.label, Some(&revision)).await;
        let first = then.as_ref().is_ok_and(|jobs| is_alone(mine, jobs));
        if !first {
            let deleted = cluster.delete(&mine.name_any(), mine.uid()).await;
            if let Err(error) = deleted {
                let log = JobTrace::of(mine).log();
                log.in_scope(|| tracing::warn!(%error, "a job made twice for one Idempotency-Key stays"));
            }
        }
        then.map_err(|error| error.into_api_error())?;
        Ok(first)
    }
}

fn is_live(job: &FocusJob) -> bool {
    job.metadata.deletion_timestamp.is_none()
}

/// Whether no other live job is among `jobs`, which are those of the moment at which `mine` was created.
fn is_alone(mine: &FocusJob, jobs: &[FocusJob]) -> bool {
    jobs.iter().filter(|job| is_live(job)).all(|job| job.uid() == mine.uid())
}

/// Whether two requests asked for the same: the pool and the limits are the server's own choice.
pub fn same_view(a: &FocusJobSpec, b: &FocusJobSpec) -> bool {
    let view = |spec: &FocusJobSpec| {
        let s = spec.clone();
        let axes = (s.frequency_range, s.display_time_axis_duration, s.display_info);
        (s.view_type, s.channels, axes, s.nfft_selection, s.start_time, s.end_time)
    };
    view(a) == view(b)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::server::answer::tests::spec;

    fn headers(keys: &[&str]) -> HeaderMap {
        keys.iter().map(|key| (HEADER, HeaderValue::from_bytes(key.as_bytes()).expect("a value"))).collect()
    }

    #[test]
    fn a_key_is_printable_and_given_once() {
        let long = "k".repeat(256);
        for (keys, good) in [
            (vec!["9f2c"], true),
            (vec![&long[1..]], true),
            (vec![&long[..]], false),
            (vec![""], false),
            (vec!["two words"], false),
            (vec!["\u{fc}"], false),
            (vec!["a", "a"], false),
        ] {
            assert_eq!(Key::of(&headers(&keys), None).is_ok(), good, "{keys:?}");
        }
        assert_eq!(Key::of(&headers(&[]), None).ok(), Some(None));
        // As printf 'abc\n' | sha256sum has it.
        assert_eq!(Key::new(b"abc", None).label, "edeaaff3f1774ad2888673770c6d6409");
        assert_ne!(Key::new(b"abc", Some("ann")), Key::new(b"abc", None));
    }

    #[test]
    fn the_first_finds_itself_alone() {
        let job = |uid: &str, going: bool| {
            let mut job = FocusJob::new("x", spec(8));
            job.metadata.uid = Some(uid.to_owned());
            job.metadata.deletion_timestamp = going.then_some(Time(Timestamp::UNIX_EPOCH));
            job
        };
        let mine = job("mine", false);
        for (others, alone) in [
            (vec![], true),
            (vec![mine.clone()], true),
            (vec![mine.clone(), job("theirs", false)], false),
            (vec![job("theirs", true), mine.clone()], true),
        ] {
            assert_eq!(is_alone(&mine, &others), alone, "{others:?}");
        }
    }

    #[test]
    fn only_the_view_is_compared() {
        let mut other = spec(8);
        other.pool = "other".to_owned();
        other.idle_timeout_seconds = 7;
        assert!(same_view(&spec(8), &other) && !same_view(&spec(8), &spec(9)));
        other.start_time = Some(1);
        assert!(!same_view(&spec(8), &other));
    }
}
