//! Live fibre sensing (DAS) on Kubernetes: the Focus operator, the Focus Server with its consumers,
//! the reference analyzer and the timing probe.
//!
//! `docs/architecture.md` tells how the parts fit together.

pub mod analyzer;
pub mod api;
pub mod backoff;
pub mod bench;
pub mod broker;
pub mod crd_reference;
pub mod health;
pub mod kubeconfig;
pub mod metrics_reference;
pub mod operator;
pub mod picture;
pub mod plugin;
pub mod probe;
pub mod recordings;
pub mod server;
pub mod setup;
pub mod shutdown;
pub mod telemetry;
pub mod wire;
