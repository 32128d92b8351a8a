//! `AnalyzerPool`: the administrator's choice of source, image and everything else that runs.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A fibre source and the pod template of the analyzers that read it.
///
/// A FocusJob only names a pool: whoever may create FocusJobs chooses no image, command, volume,
/// service account or host.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "focus-operator.io",
    version = "v1alpha1",
    kind = "AnalyzerPool",
    plural = "analyzerpools",
    shortname = "fpool",
    category = "focus",
    namespaced,
    derive = "PartialEq",
    doc = "An AnalyzerPool, owned by an administrator, says which fibre source is read and with which pod template its analyzers run.",
    printcolumn(name = "Source", type_ = "string", json_path = ".spec.source.uri"),
    printcolumn(name = "Rate-Hz", type_ = "number", json_path = ".spec.source.sampleRateHz"),
    printcolumn(name = "Channels", type_ = "integer", json_path = ".spec.source.channels"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AnalyzerPoolSpec {
    /// The fibre source.
    pub source: AnalyzerSource,
    /// Pod template of the analyzers. Its container `analyzer` receives the environment of
    /// docs/analyzer-contract.md; `restartPolicy` is always `Never`, for the operator replaces failed pods.
    #[schemars(schema_with = "pod_template_schema")]
    pub template: PodTemplateSpec,
}

/// A fibre source as declared; an analyzer that finds it otherwise refuses to start.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AnalyzerSource {
    /// Where the samples come from: `synthetic:` or `file:///path/recording.h5`, optionally with
    /// `?loop=true` (the default for a live view) or `?loop=false` (ends with the recording).
    #[x_kube(validation = Rule::new("self.startsWith('synthetic:') || self.startsWith('file:///')")
        .message("source.uri must start with synthetic: or file:///"))]
    pub uri: String,
    /// Samples per second of each channel, Hz.
    #[x_kube(validation = Rule::new("self > 0.0").message("source.sampleRateHz must be above 0"))]
    pub sample_rate_hz: f64,
    /// Number of channels.
    #[schemars(range(min = 1))]
    pub channels: i32,
    /// Distance between neighbouring channels, m.
    #[x_kube(validation = Rule::new("self > 0.0").message("source.dxMeters must be above 0"))]
    pub dx_meters: f64,
    /// Optical position of channel 1, m. Default: 0.
    #[serde(default)]
    pub fiber_start_meters: f64,
    /// Pulses per second of the interrogator, Hz. Default: the sample rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pulse_rate_hz: Option<f64>,
    /// Sample type, such as `float32` or `int16`. Default: `float32`.
    #[serde(default = "default_dtype")]
    pub dtype: String,
    /// What the fibre is, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

fn default_dtype() -> String {
    "float32".to_owned()
}

/// The pod template's own schema has thousands of lines; the API server checks it when the pod is made.
fn pod_template_schema(_: &mut schemars::generate::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "description": "Pod template of the analyzers. Its container `analyzer` receives the environment of docs/analyzer-contract.md; `restartPolicy` is always `Never`, for the operator replaces failed pods.",
        "x-kubernetes-preserve-unknown-fields": true
    })
}
