//! `kubectl focus trace`: jobs in the Trace Event Format (JSON) that ui.perfetto.dev and Chrome's tracing read.
//!
//! Each job is a process; its phases, its pod, queue and consumer, and its Events are the threads. Times are µs since
//! the Unix epoch, so that files of several jobs lie beside each other as they happened.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap_complete::engine::ArgValueCandidates;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::args::{Choice, Place, job_name};
use super::cluster::Cluster;
use super::show::bars::{self, Phase, Progress};
use super::show::events::EventView;
use super::show::job::status;
use super::{completion, find, print};
use crate::api::{FocusJob, job_view};

/// Command line of `trace`.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// The jobs: their names, which are also the Focus Server's job_ids.
    #[arg(required = true, value_parser = job_name, add = ArgValueCandidates::new(completion::jobs))]
    jobs: Vec<String>,
    /// The file to write; `-` is standard output. Default: the first job's name and `.trace.json`.
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// Look for the jobs in all namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Where to look.
    #[command(flatten)]
    place: Place,
}

/// Writes the file.
///
/// # Errors
/// When a job cannot be read, or the file cannot be written.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::find(&args.place).await?;
    let choice = Choice { all_namespaces: args.all_namespaces, selector: None };
    let (mut events, mut notes) = (Vec::new(), Vec::new());
    for (i, name) in args.jobs.iter().enumerate() {
        let cluster = cluster.again();
        let job = find::job(&cluster, name, &choice).await?;
        let (seen, missing) = super::status::events_of(&cluster, &job).await;
        events.extend(of_job(i + 1, &job, &seen.unwrap_or_default(), Timestamp::now()));
        notes.extend(missing);
    }
    notes.dedup();
    let text = serde_json::to_string_pretty(&document(&events)).context("writing the trace as JSON")? + "\n";
    let file = args.output.unwrap_or_else(|| PathBuf::from(format!("{}.trace.json", args.jobs[0])));
    if file.as_os_str() == "-" {
        print(&text)?;
    } else {
        tokio::fs::write(&file, text).await.with_context(|| format!("writing {}", file.display()))?;
        eprintln!("{} trace events in {}: open it in ui.perfetto.dev", events.len(), file.display());
    }
    for note in notes {
        eprintln!("note: {note}");
    }
    Ok(ExitCode::SUCCESS)
}

fn document(events: &[TraceEvent]) -> Value {
    json!({
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"program": "kubectl-focus", "version": env!("CARGO_PKG_VERSION")}
    })
}

/// One event of the format.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct TraceEvent {
    name: String,
    cat: &'static str,
    /// What it is: `X` has a duration, `i` is a moment, `M` names a process or thread.
    ph: &'static str,
    /// µs.
    ts: i64,
    /// µs, for `X`.
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<i64>,
    /// How far a moment's line reaches, for `i`: `t`, its thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'static str>,
    pid: usize,
    tid: usize,
    #[serde(skip_serializing_if = "Map::is_empty")]
    args: Map<String, Value>,
}

/// Threads of a job, in the order in which they are shown.
const THREADS: [&str; 5] = ["request", "analyzer pod", "queue", "consumer", "Events"];
const REQUEST: usize = 1;
const POD: usize = 2;
const QUEUE: usize = 3;
const CONSUMER: usize = 4;
const EVENTS: usize = 5;

/// The trace of one job, process number `pid`, as it stands at `now`.
fn of_job(pid: usize, job: &FocusJob, seen: &[EventView], now: Timestamp) -> Vec<TraceEvent> {
    let name = format!("FocusJob {}/{}", job.namespace().unwrap_or_default(), job.name_any());
    let mut all = vec![names(pid, 0, "process_name", &name)];
    all.extend(THREADS.iter().enumerate().map(|(i, thread)| names(pid, i + 1, "thread_name", thread)));
    all.extend(THREADS.iter().enumerate().map(|(i, _)| sort_index(pid, i + 1)));
    let phases = bars::phases(job, now);
    all.extend(phases.iter().filter_map(|phase| of_phase(pid, phase, job)));
    let timeline = status(job).timeline;
    all.extend(pod_steps(pid, job));
    all.extend(job_view::milestones(&timeline).map(|(name, at, _)| {
        let thread = match name {
            "podCreatedAt" | "podScheduledAt" | "podReadyAt" => POD,
            "queueReadyAt" => QUEUE,
            "consumerReadyAt" => CONSUMER,
            _ => REQUEST,
        };
        moment(pid, thread, "milestone", name, at.0, Map::new())
    }));
    all.extend(seen.iter().map(|event| {
        let args = json!({"type": event.type_, "about": event.about, "count": event.count, "message": event.message});
        moment(pid, EVENTS, "event", &event.reason, event.at, object(args))
    }));
    all
}

/// What the pod's phase is made of.
fn pod_steps(pid: usize, job: &FocusJob) -> Vec<TraceEvent> {
    let timeline = status(job).timeline;
    let steps = [
        ("create", &timeline.accepted_at, &timeline.pod_created_at),
        ("schedule", &timeline.pod_created_at, &timeline.pod_scheduled_at),
        ("start", &timeline.pod_scheduled_at, &timeline.pod_ready_at),
    ];
    let step = |(name, from, to): (&str, &Option<_>, &Option<_>)| {
        let at =
            |t: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime>| t.as_ref().map(|t| t.0);
        Some(span(pid, POD, "step", name, (at(from)?, at(to)?), Map::new()))
    };
    steps.into_iter().filter_map(step).collect()
}

fn of_phase(pid: usize, phase: &Phase, job: &FocusJob) -> Option<TraceEvent> {
    let thread = match phase.name {
        "pod" => POD,
        "queue" => QUEUE,
        "consumer" => CONSUMER,
        _ => REQUEST,
    };
    let mut args = object(json!({"seconds": phase.seconds()}));
    if phase.progress != Progress::Done {
        args.insert("unfinished".to_owned(), json!(true));
    }
    if phase.name == "total" {
        args.insert("state".to_owned(), json!(job_view::state(job).as_str()));
        args.insert("explanation".to_owned(), json!(job_view::explanation(job)));
        args.insert("pool".to_owned(), json!(job.spec.pool));
    }
    Some(span(pid, thread, "phase", phase.name, (phase.from?, phase.to?), args))
}

fn span(
    pid: usize,
    tid: usize,
    cat: &'static str,
    name: &str,
    (from, to): (Timestamp, Timestamp),
    args: Map<String, Value>,
) -> TraceEvent {
    let ts = from.as_microsecond();
    let dur = Some((to.as_microsecond() - ts).max(0));
    TraceEvent { name: name.to_owned(), cat, ph: "X", ts, dur, s: None, pid, tid, args }
}

fn moment(
    pid: usize,
    tid: usize,
    cat: &'static str,
    name: &str,
    at: Timestamp,
    args: Map<String, Value>,
) -> TraceEvent {
    let ts = at.as_microsecond();
    TraceEvent { name: name.to_owned(), cat, ph: "i", ts, dur: None, s: Some("t"), pid, tid, args }
}

fn names(pid: usize, tid: usize, what: &str, name: &str) -> TraceEvent {
    metadata(pid, tid, what, json!({"name": name}))
}

fn sort_index(pid: usize, tid: usize) -> TraceEvent {
    metadata(pid, tid, "thread_sort_index", json!({"sort_index": tid}))
}

fn metadata(pid: usize, tid: usize, what: &str, args: Value) -> TraceEvent {
    let args = object(args);
    TraceEvent {
        name: what.to_owned(),
        cat: "__metadata",
        ph: "M",
        ts: 0,
        dur: None,
        s: None,
        pid,
        tid,
        args,
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::api::focusjob::JobPhase;
    use crate::api::job_view::tests::job;

    fn started() -> FocusJob {
        let mut job = job(Some(JobPhase::Starting), &[("ConsumerReady", false, "NoConsumer")]);
        job.metadata.namespace = Some("fibre".to_owned());
        job.status.as_mut().unwrap().timeline = serde_json::from_value(json!({
            "configuredAt": "2030-01-01T00:00:00.000000Z", "acceptedAt": "2030-01-01T00:00:00.010000Z",
            "podCreatedAt": "2030-01-01T00:00:00.020000Z", "podScheduledAt": "2030-01-01T00:00:00.030000Z",
            "podReadyAt": "2030-01-01T00:00:00.900000Z", "queueReadyAt": "2030-01-01T00:00:00.015000Z"
        }))
        .unwrap();
        job
    }

    /// The rules of the format that a viewer relies on.
    fn check(document: &Value) {
        let events = document["traceEvents"].as_array().unwrap();
        assert!(["ms", "ns"].contains(&document["displayTimeUnit"].as_str().unwrap()));
        for event in events {
            assert!(event["name"].as_str().is_some_and(|name| !name.is_empty()), "{event}");
            for number in ["ts", "pid", "tid"] {
                assert!(event[number].as_u64().is_some(), "{number}: {event}");
            }
            match event["ph"].as_str().unwrap() {
                "X" => assert!(event["dur"].as_u64().is_some(), "{event}"),
                "i" => assert!(["g", "p", "t"].contains(&event["s"].as_str().unwrap()), "{event}"),
                "M" => assert!(event["args"].is_object(), "{event}"),
                other => panic!("{other}: {event}"),
            }
        }
        // On one thread, spans lie within each other or apart: others cannot be drawn.
        let spans: Vec<(&Value, u64, u64)> = events
            .iter()
            .filter(|event| event["ph"] == "X")
            .map(|e| {
                (&e["tid"], e["ts"].as_u64().unwrap(), e["ts"].as_u64().unwrap() + e["dur"].as_u64().unwrap())
            })
            .collect();
        for (tid, from, to) in &spans {
            for (other, start, end) in &spans {
                let crossing = tid == other && from < start && start < to && to < end;
                assert!(!crossing, "thread {tid}: {from} to {to} and {start} to {end}");
            }
        }
    }

    #[test]
    fn a_trace_has_what_a_viewer_needs() {
        let seen = EventView {
            at: "2030-01-01T00:00:01Z".parse().unwrap(),
            count: 2,
            type_: "Warning".to_owned(),
            reason: "DeadlineExceeded".to_owned(),
            about: "FocusJob".to_owned(),
            message: "no consumer".to_owned(),
        };
        let now = "2030-01-01T00:00:02Z".parse().unwrap();
        let events = of_job(1, &started(), &[seen], now);
        let document = document(&events);
        check(&document);
        let find = |name: &str| events.iter().find(|event| event.name == name).unwrap();
        assert_eq!((find("pod").dur, find("pod").tid), (Some(890_000), POD));
        assert_eq!((find("start").dur, find("schedule").dur), (Some(870_000), Some(10_000)));
        assert_eq!(find("consumer").dur, Some(1_985_000), "it lasts until now");
        assert_eq!(find("consumer").args["unfinished"], json!(true));
        assert_eq!(find("total").args["state"], "Starting");
        assert_eq!(find("DeadlineExceeded").args["count"], 2);
        assert_eq!(find("process_name").args["name"], "FocusJob fibre/18-3");
        assert_eq!(find("podReadyAt").ts, 1_893_456_000_900_000);
    }

    #[test]
    fn a_job_that_nobody_has_seen_makes_a_trace_too() {
        let unseen = job(None, &[]);
        let events = of_job(1, &unseen, &[], Timestamp::UNIX_EPOCH);
        check(&document(&events));
        assert!(events.iter().all(|event| event.ph == "M"), "{events:?}");
    }
}
