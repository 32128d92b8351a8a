//! How jobs ended: a bounded set of words for the reasons, of which some are an analyzer's own.

use crate::api::FocusJobStatus;
use crate::api::conditions::{self, FINISHED};
use crate::api::focusjob::JobPhase;

/// What any other reason is counted as.
const OTHER: &str = "Other";
/// The source cannot give the view that was asked for.
const INVALID_VIEW: &str = "InvalidView";
/// The same in the analyzers' words, counted as [`INVALID_VIEW`]: none of them is a fault of the system.
const OF_THE_VIEW: [&str; 7] = [
    "ChannelOutOfRange",
    "FrequencyOutOfRange",
    "FrequencyRangeEmpty",
    "HistoricViewUnsupported",
    "LiveViewUnsupported",
    "NoRecording",
    "RecordingTooShort",
];

/// How a job may end, and the reasons that are counted by name.
pub(super) const ENDS: [(&str, &[&str]); 2] = [
    ("finished", &["Completed", "IdleTimeout", OTHER]),
    ("failed", &["CrashLoop", "AnalyzerFailed", "HeaderMismatch", INVALID_VIEW, OTHER]),
];

/// Outcome and counted reason, if the job has ended in `new` and had not in `old`.
pub(super) fn ended(old: &FocusJobStatus, new: &FocusJobStatus) -> Option<(&'static str, &'static str)> {
    if conditions::is_true(&old.conditions, FINISHED) {
        return None;
    }
    let end = conditions::find(&new.conditions, FINISHED).filter(|condition| condition.status == "True")?;
    let (outcome, reasons) = ENDS[usize::from(new.phase == Some(JobPhase::Failed))];
    let said = if OF_THE_VIEW.contains(&end.reason.as_str()) { INVALID_VIEW } else { end.reason.as_str() };
    Some((outcome, reasons.iter().find(|reason| **reason == said).copied().unwrap_or(OTHER)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::Verdict;
    use k8s_openapi::jiff::Timestamp;

    fn status(phase: JobPhase, reason: &str) -> FocusJobStatus {
        let ended = matches!(phase, JobPhase::Failed | JobPhase::Finished);
        let verdict = Verdict::new(FINISHED, ended, reason, "m");
        FocusJobStatus {
            phase: Some(phase),
            conditions: conditions::merge(&[], &[verdict], None, Timestamp::UNIX_EPOCH),
            ..FocusJobStatus::default()
        }
    }

    #[test]
    fn a_job_ends_once_and_for_a_known_reason() {
        use JobPhase::{Failed, Finished, Ready, Suspended};
        for (old, phase, reason, expected) in [
            (Ready, Failed, "CrashLoop", Some(("failed", "CrashLoop"))),
            (Ready, Failed, "InvalidView", Some(("failed", "InvalidView"))),
            (Ready, Failed, "RecordingTooShort", Some(("failed", "InvalidView"))),
            (Ready, Failed, "SourceUnreadable", Some(("failed", "Other"))),
            (Ready, Finished, "Completed", Some(("finished", "Completed"))),
            (Ready, Finished, "CrashLoop", Some(("finished", "Other"))),
            (Ready, Suspended, "Suspended", None),
            (Ready, Ready, "Running", None),
            (Failed, Failed, "CrashLoop", None),
        ] {
            let ended = ended(&status(old, "R"), &status(phase, reason));
            assert_eq!(ended, expected, "{old:?} to {phase:?} by {reason}");
        }
    }
}
