//! Calls of the API server: how many, how long, what came of them.

use std::time::Instant;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use super::PHASE_BUCKETS;
use crate::telemetry::register;

/// A verb of the API and the resource that it is used on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    verb: &'static str,
    resource: &'static str,
}

/// Puts the finalizer on a job, or takes it off.
pub const PATCH_JOB: Call = Call { verb: "patch", resource: "focusjobs" };
/// Deletes a finished job.
pub const DELETE_JOB: Call = Call { verb: "delete", resource: "focusjobs" };
/// Writes a job's status.
pub const UPDATE_STATUS: Call = Call { verb: "update", resource: "focusjobs/status" };
/// Creates an analyzer pod.
pub const CREATE_POD: Call = Call { verb: "create", resource: "pods" };
/// Deletes one.
pub const DELETE_POD: Call = Call { verb: "delete", resource: "pods" };
/// Looks at the pod that is in the way of another.
pub const GET_POD: Call = Call { verb: "get", resource: "pods" };

const WRITES: [Call; 5] = [PATCH_JOB, DELETE_JOB, UPDATE_STATUS, CREATE_POD, DELETE_POD];

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Ok,
    /// A newer version is there, or the object exists already.
    Conflict,
    /// The object is gone.
    NotFound,
    /// The API server said no.
    Refused,
    /// It could not be reached, or what it said was not understood.
    Failed,
    /// It did not answer in time.
    Timeout,
}

impl Outcome {
    const ALL: [Outcome; 6] = [
        Outcome::Ok,
        Outcome::Conflict,
        Outcome::NotFound,
        Outcome::Refused,
        Outcome::Failed,
        Outcome::Timeout,
    ];

    /// What `answer` says; None: there was none in time.
    pub fn of<T>(answer: Option<&kube::Result<T>>) -> Self {
        match answer {
            None => Outcome::Timeout,
            Some(Ok(_)) => Outcome::Ok,
            Some(Err(kube::Error::Api(status))) => match status.code {
                409 => Outcome::Conflict,
                404 => Outcome::NotFound,
                _ => Outcome::Refused,
            },
            Some(Err(_)) => Outcome::Failed,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Conflict => "conflict",
            Outcome::NotFound => "not_found",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::Timeout => "timeout",
        }
    }
}

/// The metrics.
#[derive(Clone)]
pub struct ApiCalls {
    writes: IntCounterVec,
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl ApiCalls {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let seconds = HistogramOpts::new(
            "focus_api_request_duration_seconds",
            "How long the API server took to answer a call that a reconciliation made, retries of the client included. \
             Watches, Events and the Lease are not among them.",
        );
        let calls = Self {
            writes: counters(
                "focus_api_writes_total",
                "Writes to the API server, counted when they are tried; Events and the Lease are not among them.",
                &["verb", "resource"],
            )?,
            requests: counters(
                "focus_api_requests_total",
                "Calls that reconciliations made, by what came of them. Harmless: conflict (a newer version is there, \
                 or the pod exists already), and not_found where something was to be deleted. failed: not reached, or \
                 not understood.",
                &["verb", "resource", "outcome"],
            )?,
            seconds: register(
                registry,
                HistogramVec::new(seconds.buckets(PHASE_BUCKETS.to_vec()), &["verb", "resource"])?,
            )?,
        };
        for Call { verb, resource } in WRITES {
            calls.writes.with_label_values(&[verb, resource]);
        }
        for Call { verb, resource } in WRITES.into_iter().chain([GET_POD]) {
            calls.seconds.with_label_values(&[verb, resource]);
            for outcome in Outcome::ALL {
                calls.requests.with_label_values(&[verb, resource, outcome.as_str()]);
            }
        }
        Ok(calls)
    }

    /// Counts a call that is about to be made.
    pub fn begun(&self, call: Call) -> Instant {
        if WRITES.contains(&call) {
            self.writes.with_label_values(&[call.verb, call.resource]).inc();
        }
        Instant::now()
    }

    /// Counts what came of a call that was made at `begun`.
    pub fn ended(&self, call: Call, begun: Instant, outcome: Outcome) {
        let Call { verb, resource } = call;
        self.seconds.with_label_values(&[verb, resource]).observe(begun.elapsed().as_secs_f64());
        self.requests.with_label_values(&[verb, resource, outcome.as_str()]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn an_answer_s_outcome_is_a_word() {
        let refused = |code| Err(kube::Error::Api(Box::new(Status { code, ..Status::default() })));
        for (answer, outcome) in [
            (None, "timeout"),
            (Some(Ok(())), "ok"),
            (Some(refused(409)), "conflict"),
            (Some(refused(404)), "not_found"),
            (Some(refused(403)), "refused"),
            (Some(Err(kube::Error::LinesCodecMaxLineLengthExceeded)), "failed"),
        ] {
            assert_eq!(Outcome::of(answer.as_ref()).as_str(), outcome, "{answer:?}");
        }
    }
}
