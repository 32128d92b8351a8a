//! Conditions of a FocusJob: their types, and how a new one is merged into a list.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// The analyzer pod is ready.
pub const ANALYZER_READY: &str = "AnalyzerReady";
/// The queue exists.
pub const QUEUE_READY: &str = "QueueReady";
/// A consumer is attached to the queue.
pub const CONSUMER_READY: &str = "ConsumerReady";
/// Analyzer, queue and consumer are all there.
pub const READY: &str = "Ready";
/// The job has ended, well or badly.
pub const FINISHED: &str = "Finished";

/// Reasons that only say that something is under way.
pub const UNDER_WAY: [&str; 4] = ["Starting", "Declaring", "NoConsumer", "WaitingForQueue"];

/// What a condition says, without times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// One of the types above.
    pub type_: &'static str,
    /// True or False.
    pub status: bool,
    /// CamelCase cause.
    pub reason: String,
    /// A sentence for a person.
    pub message: String,
}

impl Verdict {
    /// A verdict of `type_`.
    pub fn new(
        type_: &'static str,
        status: bool,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { type_, status, reason: reason.into(), message: message.into() }
    }
}

/// The condition of `type_` in `conditions`.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the condition of `type_` is there and True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == "True")
}

/// `verdicts` as conditions. The transition time is `now` only where the status differs from `old`,
/// so that an unchanged verdict makes an unchanged condition.
pub fn merge(
    old: &[Condition],
    verdicts: &[Verdict],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    verdicts
        .iter()
        .map(|v| {
            let status = if v.status { "True" } else { "False" };
            let since = find(old, v.type_)
                .filter(|c| c.status == status)
                .map_or_else(|| whole_second(now), |c| c.last_transition_time.clone());
            Condition {
                type_: v.type_.to_owned(),
                status: status.to_owned(),
                reason: v.reason.clone(),
                message: v.message.clone(),
                last_transition_time: since,
                observed_generation: generation,
            }
        })
        .collect()
}

/// A condition's times are whole seconds on the wire; cutting them here keeps comparisons exact.
fn whole_second(t: Timestamp) -> Time {
    Time(Timestamp::from_second(t.as_second()).unwrap_or(t))
}
