//! The custom resources `FocusJob` and `AnalyzerPool`, and the pure rules that go with them.

pub mod analyzerpool;
pub mod conditions;
pub mod crds;
pub mod focusjob;
pub mod job_view;
pub mod names;
pub mod timeline;
pub mod view;

pub use analyzerpool::{AnalyzerPool, AnalyzerPoolSpec, AnalyzerSource};
pub use focusjob::{FocusJob, FocusJobSpec, FocusJobStatus};

/// API group of both resources.
pub const GROUP: &str = "focus-operator.io";
/// API version of both resources.
pub const VERSION: &str = "v1alpha1";
