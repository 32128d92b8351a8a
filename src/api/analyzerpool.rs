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
    /// Where the samples of live views come from: `synthetic:` or `file:///path/recording.h5`, optionally with
    /// `?loop=true` (the default) or `?loop=false` (ends with the recording). A folder, `file:///path/`, gives
    /// historic views only.
    #[x_kube(validation = Rule::new("self.startsWith('synthetic:') || self.startsWith('file:///')")
        .message("source.uri must start with synthetic: or file:///"))]
    pub uri: String,
    /// Folder of HDF5 recordings that historic views are played from: `file:///path/`, optionally with
    /// `?speed=4` (so many times as fast as it happened, above 0 and at most 100; default 1).
    /// Default: `uri`, if that is a folder.
    #[x_kube(validation = Rule::new("self.matches('^file:///([^?]*/)?([?].*)?$')")
        .message("source.recordings must be a folder: file:///path/"))]
    #[schemars(length(max = 4096))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recordings: Option<String>,
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

/// Longest text in which a source is noted on a job, bytes.
const MAX_TOLD: usize = 16 << 10;

impl AnalyzerSource {
    /// The text in which the source is noted on a job made of it: what tells how its lines are to be read. None: its
    /// description is too long for that.
    pub fn told(&self) -> Option<String> {
        let told = Self { uri: String::new(), recordings: None, ..self.clone() };
        serde_json::to_string(&told).ok().filter(|text| text.len() <= MAX_TOLD)
    }

    /// The source that is noted in `text`; None when that is none: whoever makes jobs may have written it.
    pub fn of_told(text: &str) -> Option<Self> {
        let source: Self = serde_json::from_str(text).ok().filter(|_| text.len() <= MAX_TOLD)?;
        let above_0 = |value: f64| value.is_finite() && value > 0.0;
        let sound = above_0(source.sample_rate_hz) && above_0(source.dx_meters) && source.channels > 0;
        sound.then_some(source)
    }

    /// The folder of recordings that historic views are played from, if there is one, with its options.
    pub fn past(&self) -> Option<&str> {
        self.recordings.as_deref().or_else(|| (!self.is_live()).then_some(self.uri.as_str()))
    }

    /// Whether there are live views of the source: it is more than a folder of recordings.
    pub fn is_live(&self) -> bool {
        !self
            .uri
            .split('?')
            .next()
            .is_some_and(|address| address.starts_with("file://") && address.ends_with('/'))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_noted_without_its_address_and_read_again_when_it_is_sound() {
        let text = r#"{"uri":"file:///x/","recordings":"file:///y/","sampleRateHz":1000.5,"channels":7,"dxMeters":2.0}"#;
        let source: AnalyzerSource = serde_json::from_str(text).expect("a source");
        let told = source.told().expect("short");
        assert!(!told.contains("file:"), "{told}");
        let wanted = AnalyzerSource { uri: String::new(), recordings: None, ..source.clone() };
        assert_eq!(AnalyzerSource::of_told(&told), Some(wanted));
        for (right, wrong) in [
            ("1000.5", "0.0"),
            ("1000.5", "-1.0"),
            ("1000.5", "1e999"),
            (":7", ":0"),
            ("2.0", "null"),
            ("{", ""),
        ] {
            assert_eq!(AnalyzerSource::of_told(&told.replacen(right, wrong, 1)), None, "{wrong}");
        }
        let wordy = AnalyzerSource { description: "x".repeat(MAX_TOLD), ..source };
        assert_eq!(wordy.told(), None);
    }
}
