//! The steps of one job within one process, each told once.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use opentelemetry::trace::SpanKind;

use super::{JobTrace, Span, SpanId, new_span_id};

/// Tells of steps: a job's trace, and the span that they are parts of.
#[derive(Debug)]
pub struct Steps {
    trace: JobTrace,
    parent: SpanId,
    told: Mutex<Vec<&'static str>>,
}

impl Steps {
    /// Steps of `trace`, within the span `parent`.
    pub fn new(trace: JobTrace, parent: SpanId) -> Self {
        Self { trace, parent, told: Mutex::default() }
    }

    /// Tells that the step `name`, begun at `start`, has just ended, badly if there is a cause. Only the first time
    /// counts.
    pub fn once(&self, name: &'static str, start: SystemTime, failed: Option<&str>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.contains(&name) {
            return;
        }
        told.push(name);
        drop(told);
        self.trace.emit(Span {
            name,
            id: new_span_id(),
            parent: self.parent,
            kind: SpanKind::Internal,
            start,
            end: SystemTime::now(),
            failed: failed.map(str::to_owned),
            attributes: Vec::new(),
        });
    }
}
