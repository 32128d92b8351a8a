//! The chart and deploy/ on the real cluster: installed, tested, upgraded and taken away by the real Helm and kubectl.
//! `make test` sets the environment they need.

#![allow(clippy::unwrap_used)]

mod common;
mod chart {
    pub mod alone;
    pub mod connected;
    pub mod inside;
    pub mod installed;
    pub mod kustomize;
    pub mod network;
    pub mod notes;
    pub mod render;
    pub mod restricted;
    pub mod rights;
    pub mod setup;
    pub mod stream;
    pub mod tools;
}
