//! The operator and the server on a real cluster with real pods and a real broker. Each test has a namespace and an
//! operator of its own; what disturbs others is in `e2e_alone.rs`.

#![allow(clippy::unwrap_used)]

mod common;
mod e2e {
    pub mod analyzer;
    pub mod bench;
    pub mod example;
    pub mod failures;
    pub mod historic;
    pub mod http;
    pub mod idle;
    pub mod leader;
    pub mod lifecycle;
    pub mod probe;
    pub mod queues;
    pub mod relay;
    pub mod replicas;
    pub mod rules;
    pub mod server;
    pub mod streams;
}
