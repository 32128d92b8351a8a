//! Why a reader gets no lines, or no more. Pure.

use serde_json::{Value, json};
use tonic::Code;

use crate::server::job::Awaited;

/// This server takes its leave; the job goes on.
pub fn stopping() -> Awaited {
    Awaited::new("server", "ServerStopping", "this server is shutting down; connect again")
}

/// The gRPC code of `why`, which a stream ends with.
pub fn code(why: &Awaited) -> Code {
    match (why.phase, why.reason.as_str()) {
        // The source is at its end: nothing is missing.
        ("finished", "Completed") => Code::Ok,
        ("finished" | "header", _) => Code::Aborted,
        ("deleted" | "none", _) => Code::NotFound,
        ("suspended", _) => Code::FailedPrecondition,
        // What is awaited may still come: try again.
        _ => Code::Unavailable,
    }
}

/// The last WebSocket message.
pub fn json(why: &Awaited) -> Value {
    json!({ "ended": { "phase": why.phase, "reason": why.reason, "message": why.message } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_code() {
        for (phase, reason, wanted) in [
            ("finished", "Completed", Code::Ok),
            ("finished", "CrashLoop", Code::Aborted),
            ("finished", "IdleTimeout", Code::Aborted),
            ("header", "HeaderMismatch", Code::Aborted),
            ("deleted", "Deleted", Code::NotFound),
            ("deleted", "Replaced", Code::NotFound),
            ("none", "UnknownJob", Code::NotFound),
            ("suspended", "Suspended", Code::FailedPrecondition),
            ("broker", "BrokerUnreachable", Code::Unavailable),
            ("queue", "QueueMissing", Code::Unavailable),
            ("replica", "ReplicaUnreachable", Code::Unavailable),
        ] {
            assert_eq!(code(&Awaited::new(phase, reason, "")), wanted, "{phase} {reason}");
        }
        assert_eq!(code(&stopping()), Code::Unavailable);
    }
}
