//! The messages on a job's queue, generated from `proto/focus.proto`, which documents them.

#![allow(missing_docs)]

include!(concat!(env!("OUT_DIR"), "/focus.v1.rs"));
