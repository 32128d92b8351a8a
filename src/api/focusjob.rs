//! `FocusJob`: the request for a live view of a stretch of fibre, and how far it has come.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::timeline::{PhaseSeconds, Timeline};

/// A live (or historic) view of a stretch of fibre: which channels, which frequencies, how fine.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "focus-operator.io",
    version = "v1alpha1",
    kind = "FocusJob",
    plural = "focusjobs",
    shortname = "fj",
    category = "focus",
    namespaced,
    derive = "PartialEq",
    status = "FocusJobStatus",
    doc = "A FocusJob asks for a view of a stretch of fibre. The operator answers it with an analyzer pod and a RabbitMQ queue, and its status tells how long each phase took and what is awaited.",
    validation = Rule::new("size(self.metadata.name) <= 200").message("metadata.name must have at most 200 characters: the queue's name is made from it"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "Where the job stands"),
    printcolumn(name = "Waiting-For", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why the job is not ready, or Ready"),
    printcolumn(name = "Configure", type_ = "number", format = "double", json_path = ".status.phaseSeconds.configure", description = "s from request to first sight"),
    printcolumn(name = "Pod", type_ = "number", format = "double", json_path = ".status.phaseSeconds.pod", description = "s from first sight to pod ready"),
    printcolumn(name = "Queue", type_ = "number", format = "double", json_path = ".status.phaseSeconds.queue", description = "s from first sight to queue ready"),
    printcolumn(name = "Consumer", type_ = "number", format = "double", json_path = ".status.phaseSeconds.consumer", description = "s from queue ready to consumer attached"),
    printcolumn(name = "Total", type_ = "number", format = "double", json_path = ".status.phaseSeconds.total", description = "s from request to ready"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "View", type_ = "string", json_path = ".spec.viewType", priority = 1),
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.pool", priority = 1),
    printcolumn(name = "Start", type_ = "string", json_path = ".status.analyzer.start", priority = 1),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.analyzer.node", priority = 1),
    printcolumn(name = "Restarts", type_ = "integer", json_path = ".status.analyzer.restarts", priority = 1),
    printcolumn(name = "Consumers", type_ = "integer", json_path = ".status.queue.consumers", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, x_kube(cel))]
#[x_kube(validation = Rule::new("self.viewType != 'SingleChannel' || self.channels.min == self.channels.max")
    .message("channels.min must equal channels.max for viewType SingleChannel"))]
#[x_kube(validation = Rule::new("self.viewType != 'MultiChannel' || (self.nfftSelection >= 256 && self.nfftSelection <= 2048)")
    .message("nfftSelection must be between 256 and 2048 for viewType MultiChannel"))]
#[x_kube(validation = Rule::new("self.viewType != 'Waterfall' || (!has(self.displayTimeAxisDuration) && !has(self.frequencyRange))")
    .message("viewType Waterfall takes no displayTimeAxisDuration and no frequencyRange"))]
#[x_kube(validation = Rule::new("self.viewType == 'Waterfall' || (has(self.displayTimeAxisDuration) && has(self.frequencyRange))")
    .message("displayTimeAxisDuration and frequencyRange are required unless viewType is Waterfall"))]
#[x_kube(validation = Rule::new("has(self.startTime) == has(self.endTime)")
    .message("startTime and endTime must be given together, or neither for a live view"))]
#[x_kube(validation = Rule::new("!has(self.startTime) || !has(self.endTime) || self.endTime > self.startTime")
    .message("endTime must be after startTime"))]
#[x_kube(validation = Rule::new("self.viewType == oldSelf.viewType && self.channels == oldSelf.channels && has(self.frequencyRange) == has(oldSelf.frequencyRange) && (!has(self.frequencyRange) || self.frequencyRange == oldSelf.frequencyRange) && self.nfftSelection == oldSelf.nfftSelection && has(self.displayTimeAxisDuration) == has(oldSelf.displayTimeAxisDuration) && (!has(self.displayTimeAxisDuration) || self.displayTimeAxisDuration == oldSelf.displayTimeAxisDuration) && self.displayInfo == oldSelf.displayInfo && has(self.startTime) == has(oldSelf.startTime) && (!has(self.startTime) || (self.startTime == oldSelf.startTime && self.endTime == oldSelf.endTime)) && self.pool == oldSelf.pool && self.queue == oldSelf.queue")
    .message("the view, its pool and its queue are immutable: create a new FocusJob"))]
pub struct FocusJobSpec {
    /// What is displayed: `MultiChannel` (a spectrogram for each channel), `SingleChannel` (a spectrogram
    /// of one channel) or `Waterfall` (one level per channel over time).
    pub view_type: ViewType,

    /// The channels of the view, counted from 1, both ends included; at most 2500.
    pub channels: ChannelRange,

    /// The frequencies of the view, Hz; at least 1 Hz wide and at most half the pool's sample rate.
    /// Required, but for viewType Waterfall, which takes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_range: Option<FrequencyRange>,

    /// Window length of the Fourier transform, samples: a power of two from 128 to 65536
    /// (256 to 2048 for viewType MultiChannel). Never rounded.
    #[x_kube(validation = Rule::new("self in [128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]")
        .message("nfftSelection must be a power of 2 from 128 to 65536"))]
    pub nfft_selection: i32,

    /// Length of the display's time axis, s; the time between two lines is this divided by
    /// `displayInfo.height`. Required, but for viewType Waterfall, which takes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub display_time_axis_duration: Option<i32>,

    /// The display's size.
    #[serde(default)]
    pub display_info: DisplayInfo,

    /// Start of a historic view, s since the Unix epoch. Absent for a live view.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub start_time: Option<i64>,

    /// End of a historic view, s since the Unix epoch. Absent for a live view.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub end_time: Option<i64>,

    /// Name of the AnalyzerPool, in the job's namespace, that runs the analyzer. Default: `default`.
    #[serde(default = "default_pool")]
    #[schemars(length(min = 1, max = 253))]
    pub pool: String,

    /// The queue between analyzer and consumer.
    #[serde(default)]
    pub queue: QueueSpec,

    /// How long a ready queue may be without a consumer before the job says DeadlineExceeded, s. Default: 30.
    #[serde(default = "default_consumer_deadline")]
    #[schemars(range(min = 1, max = 3600))]
    pub consumer_deadline_seconds: i32,

    /// The job ends after this long without anybody reading it through the Focus Server, s. 0 never ends it.
    /// Default: 180.
    #[serde(default = "default_idle_timeout")]
    #[schemars(range(min = 0, max = 604800))]
    pub idle_timeout_seconds: i32,

    /// The FocusJob is deleted this long after it has finished, s. Absent: it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604800))]
    pub ttl_seconds_after_finished: Option<i32>,

    /// true takes the analyzer pod and the queue away and keeps the job; false brings them back. Default: false.
    #[serde(default)]
    pub suspend: bool,
}

/// What is displayed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewType {
    /// A spectrogram for each channel.
    MultiChannel,
    /// A spectrogram of one channel.
    SingleChannel,
    /// One level per channel over time.
    Waterfall,
}

/// Channels, counted from 1, both ends included.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, x_kube(cel))]
#[x_kube(validation = Rule::new("self.max >= self.min").message("channels.max must not be below channels.min"))]
#[x_kube(validation = Rule::new("self.max - self.min < 2500").message("at most 2500 channels fit one view"))]
pub struct ChannelRange {
    /// First channel; at least 1.
    #[schemars(range(min = 1))]
    pub min: i32,
    /// Last channel; not below `min`.
    #[schemars(range(min = 1))]
    pub max: i32,
}

impl ChannelRange {
    /// How many channels the range has.
    pub fn count(&self) -> usize {
        usize::try_from(i64::from(self.max) - i64::from(self.min) + 1).unwrap_or(0)
    }
}

/// Frequencies, Hz, both ends included.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, x_kube(cel))]
#[x_kube(validation = Rule::new("self.max - self.min >= 1").message("frequencyRange must span at least 1 Hz"))]
pub struct FrequencyRange {
    /// Lowest frequency, Hz; at least 0.
    #[schemars(range(min = 0))]
    pub min: i32,
    /// Highest frequency, Hz; at most half the sample rate of the pool's source.
    #[schemars(range(min = 0))]
    pub max: i32,
}

/// The display's size.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct DisplayInfo {
    /// Lines on the display's time axis. Default: 1000.
    #[serde(default = "default_height")]
    #[schemars(range(min = 1, max = 100_000))]
    pub height: i32,
}

impl Default for DisplayInfo {
    fn default() -> Self {
        Self { height: default_height() }
    }
}

/// The queue between analyzer and consumer.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSpec {
    /// `Classic` (the default: fastest) or `Quorum` (replicated).
    #[serde(default, rename = "type")]
    pub type_: QueueType,
}

/// RabbitMQ's kind of queue.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum QueueType {
    /// One node holds it.
    #[default]
    Classic,
    /// Replicated over the broker's nodes.
    Quorum,
}

fn default_pool() -> String {
    "default".to_owned()
}
fn default_consumer_deadline() -> i32 {
    30
}
fn default_idle_timeout() -> i32 {
    180
}
fn default_height() -> i32 {
    1000
}

/// How far the job has come, and what it waits for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FocusJobStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the job stands, in one word, for people; nothing decides by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<JobPhase>,
    /// AnalyzerReady, QueueReady, ConsumerReady, Ready and Finished, each with a reason that names the cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The analyzer pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analyzer: Option<AnalyzerStatus>,
    /// The queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
    /// When each milestone was first seen, by the operator's clock.
    #[serde(default)]
    pub timeline: Timeline,
    /// How long each phase took, s.
    #[serde(default)]
    pub phase_seconds: PhaseSeconds,
}

/// Where a job stands, in one word.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobPhase {
    /// Seen, nothing of it is there yet.
    Pending,
    /// Analyzer, queue or consumer is awaited.
    Starting,
    /// Analyzer ready, queue there, consumer attached.
    Ready,
    /// Was ready, and has lost its analyzer, queue or consumer.
    Degraded,
    /// Taken away by `spec.suspend`.
    Suspended,
    /// Ended as it should.
    Finished,
    /// Ended because it cannot work; the condition Finished tells why.
    Failed,
    /// Being deleted.
    Terminating,
}

impl JobPhase {
    /// Every phase, in the order of a job's life.
    pub const ALL: [JobPhase; 8] = [
        JobPhase::Pending,
        JobPhase::Starting,
        JobPhase::Ready,
        JobPhase::Degraded,
        JobPhase::Suspended,
        JobPhase::Finished,
        JobPhase::Failed,
        JobPhase::Terminating,
    ];

    /// The word that the status and the metrics show.
    pub fn as_str(self) -> &'static str {
        match self {
            JobPhase::Pending => "Pending",
            JobPhase::Starting => "Starting",
            JobPhase::Ready => "Ready",
            JobPhase::Degraded => "Degraded",
            JobPhase::Suspended => "Suspended",
            JobPhase::Finished => "Finished",
            JobPhase::Failed => "Failed",
            JobPhase::Terminating => "Terminating",
        }
    }
}

/// The analyzer pod.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AnalyzerStatus {
    /// Name of the current pod.
    pub pod_name: String,
    /// Node of the current pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How many pods came before the current one: failed, lost, deleted, or taken away by a suspension.
    pub restarts: i32,
    /// How many of them failed in a row; after six the job is given up.
    #[serde(default)]
    pub failures: i32,
    /// `Cold`: the pod was made for this job. `Warm`: it was running already.
    pub start: AnalyzerStart,
}

/// How an analyzer came to the job.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnalyzerStart {
    /// The pod was made for this job.
    Cold,
    /// The pod was running already.
    Warm,
}

impl AnalyzerStart {
    /// The word that the status and the metrics show.
    pub fn as_str(self) -> &'static str {
        match self {
            AnalyzerStart::Cold => "Cold",
            AnalyzerStart::Warm => "Warm",
        }
    }
}

/// The queue as last seen.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct QueueStatus {
    /// Name of the queue.
    pub name: String,
    /// Consumers attached to it.
    pub consumers: i32,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    /// A view that every rule accepts.
    fn view() -> Value {
        json!({
            "viewType": "MultiChannel", "channels": {"min": 1, "max": 8}, "frequencyRange": {"min": 0, "max": 500},
            "nfftSelection": 1024, "displayTimeAxisDuration": 10
        })
    }

    /// `spec` with the members of `changes` put in, and those that are null taken out; then as the API server
    /// would have it, with every default.
    fn with(spec: Value, changes: Value) -> Value {
        let mut spec = spec;
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(spec.as_object_mut().unwrap().remove(name)),
                value => spec[name] = value.clone(),
            }
        }
        serde_json::to_value(serde_json::from_value::<FocusJobSpec>(spec).unwrap()).unwrap()
    }

    fn check(new: &Value, old: Option<&Value>, refusal: Option<&str>) {
        match (FocusJobSpec::validate_cel(new, old), refusal) {
            (Ok(()), None) => {}
            (Err(errors), Some(refusal)) => {
                assert!(format!("{errors:?}").contains(refusal), "{refusal}: {errors:?}");
            }
            (outcome, _) => panic!("{new}: {outcome:?}, expected {refusal:?}"),
        }
    }

    #[test]
    fn each_rule_accepts_and_refuses() {
        let waterfall =
            json!({"viewType": "Waterfall", "frequencyRange": null, "displayTimeAxisDuration": null});
        let required = "displayTimeAxisDuration and frequencyRange are required unless viewType is Waterfall";
        let takes_none = "viewType Waterfall takes no displayTimeAxisDuration and no frequencyRange";
        let together = "startTime and endTime must be given together";
        let single = "channels.min must equal channels.max for viewType SingleChannel";
        let small = "nfftSelection must be between 256 and 2048 for viewType MultiChannel";
        let power = "nfftSelection must be a power of 2 from 128 to 65536";
        let one = json!({"min": 5, "max": 5});
        let cases = [
            (json!({}), None),
            (json!({"viewType": "SingleChannel", "channels": one}), None),
            (json!({"viewType": "SingleChannel"}), Some(single)),
            (json!({"nfftSelection": 256}), None),
            (json!({"nfftSelection": 2048}), None),
            (json!({"nfftSelection": 128}), Some(small)),
            (json!({"nfftSelection": 4096}), Some(small)),
            (json!({"viewType": "SingleChannel", "channels": one, "nfftSelection": 65536}), None),
            (json!({"viewType": "SingleChannel", "channels": one, "nfftSelection": 128}), None),
            (json!({"nfftSelection": 1000}), Some(power)),
            (json!({"nfftSelection": 131_072}), Some(power)),
            (waterfall, None),
            (json!({"viewType": "Waterfall", "frequencyRange": null}), Some(takes_none)),
            (json!({"viewType": "Waterfall", "displayTimeAxisDuration": null}), Some(takes_none)),
            (json!({"frequencyRange": null}), Some(required)),
            (json!({"displayTimeAxisDuration": null}), Some(required)),
            (json!({"startTime": 10, "endTime": 20}), None),
            (json!({"startTime": 10}), Some(together)),
            (json!({"endTime": 10}), Some(together)),
            (json!({"startTime": 20, "endTime": 20}), Some("endTime must be after startTime")),
            (json!({"channels": {"min": 9, "max": 8}}), Some("channels.max must not be below channels.min")),
            (json!({"channels": {"min": 1, "max": 2500}}), None),
            (json!({"channels": {"min": 1, "max": 2501}}), Some("at most 2500 channels fit one view")),
            (json!({"frequencyRange": {"min": 4, "max": 5}}), None),
            (json!({"frequencyRange": {"min": 5, "max": 5}}), Some("frequencyRange must span at least 1 Hz")),
        ];
        for (changes, refusal) in cases {
            check(&with(view(), changes), None, refusal);
        }
    }

    #[test]
    fn a_view_is_immutable_and_its_run_is_not() {
        let historic = with(view(), json!({"startTime": 10, "endTime": 20}));
        let live = with(view(), json!({}));
        let frozen = Some("the view, its pool and its queue are immutable");
        let changes = [
            (json!({"channels": {"min": 1, "max": 9}}), frozen),
            (json!({"frequencyRange": {"min": 0, "max": 400}}), frozen),
            (json!({"nfftSelection": 512}), frozen),
            (json!({"displayTimeAxisDuration": 11}), frozen),
            (json!({"displayInfo": {"height": 7}}), frozen),
            (json!({"startTime": 11}), frozen),
            (json!({"endTime": 21}), frozen),
            (json!({"startTime": null, "endTime": null}), frozen),
            (json!({"pool": "other"}), frozen),
            (json!({"queue": {"type": "Quorum"}}), frozen),
            (
                json!({"viewType": "Waterfall", "frequencyRange": null, "displayTimeAxisDuration": null}),
                frozen,
            ),
            (json!({}), None),
            (json!({"suspend": true}), None),
            (json!({"ttlSecondsAfterFinished": 5}), None),
            (json!({"consumerDeadlineSeconds": 5, "idleTimeoutSeconds": 0}), None),
        ];
        for (changes, refusal) in changes {
            check(&with(historic.clone(), changes), Some(&historic), refusal);
        }
        check(&historic, Some(&live), frozen);
        check(&live, Some(&live), None);
    }

    #[test]
    fn a_name_that_the_queue_s_name_cannot_take_is_refused() {
        let spec: FocusJobSpec = serde_json::from_value(view()).unwrap();
        assert!(kube::core::cel::validate_cel(&FocusJob::new(&"n".repeat(200), spec.clone())).is_ok());
        let refused = kube::core::cel::validate_cel(&FocusJob::new(&"n".repeat(201), spec)).unwrap_err();
        assert!(format!("{refused:?}").contains("metadata.name must have at most 200 characters"));
    }

    #[test]
    fn what_is_left_out_has_the_documented_default() {
        let spec: FocusJobSpec = serde_json::from_value(view()).unwrap();
        assert_eq!((spec.pool.as_str(), spec.queue.type_), ("default", QueueType::Classic));
        assert_eq!((spec.consumer_deadline_seconds, spec.idle_timeout_seconds), (30, 180));
        assert_eq!((spec.display_info.height, spec.suspend), (1000, false));
        assert_eq!((spec.ttl_seconds_after_finished, spec.start_time), (None, None));
    }

    #[test]
    fn channels_are_counted_with_both_ends() {
        for (min, max, count) in [(1, 1, 1), (1, 8, 8), (3, 2, 0), (9, 1, 0), (1, i32::MAX, 2_147_483_647)] {
            assert_eq!(ChannelRange { min, max }.count(), count, "{min} to {max}");
        }
    }
}
