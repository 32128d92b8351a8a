//! One trace for each job, over operator, server and analyzer, as a real OpenTelemetry Collector takes it; and lines of
//! the log that name the job.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use common::collector::{Collector, Span};
use common::objects::{default_pool, job, pool_in};
use common::process::Process;
use common::{World, broker, in_world, until};
use focus_operator::api::conditions::{FINISHED, READY};
use focus_operator::api::{FocusJob, names};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

const OPERATOR: &str = "focus-operator";
const SERVER: &str = "focus-server";
const ANALYZER: &str = "focus-analyzer";
const CONFIGURE: &str = "POST /focus-server/configure";
const CLIENT: &str = "b7ad6b7169203331";

/// The spans of a job that comes up as it should.
const STEPS: [(&str, &str); 14] = [
    (OPERATOR, "configure"),
    (OPERATOR, "pod"),
    (OPERATOR, "queue"),
    (OPERATOR, "consumer"),
    (OPERATOR, "total"),
    (SERVER, "subscribe"),
    (SERVER, "metadata available"),
    (SERVER, "first header"),
    (SERVER, "first line"),
    (ANALYZER, "start"),
    (ANALYZER, "open source"),
    (ANALYZER, "connect"),
    (ANALYZER, "first header"),
    (ANALYZER, "first line"),
];

/// Configures a view within the trace; gives the job's id.
async fn configure(server: &Process, traceparent: &str) -> String {
    let request = json!({
        "displayTimeAxisDuration": 10, "nfftSelection": 1024, "channels": {"min": 1, "max": 50},
        "frequencyRange": {"min": 0, "max": 500}, "view_type": "MULTICHANNEL"
    });
    let client = reqwest::Client::new();
    let sent =
        client.post(server.url(CONFIGURE.trim_start_matches("POST "))).header("traceparent", traceparent);
    let answer = sent.header("tracestate", "vendor=value").json(&request).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json::<Value>().await.unwrap()["job_id"].as_str().unwrap().to_owned()
}

async fn until_line(server: &Process, id: &str) {
    until("a line at the client", || async {
        let url = server.url(&format!("/focus-server/waterfall/{id}/1"));
        (reqwest::get(url).await.ok()?.status() == 201).then_some(())
    })
    .await;
}

async fn delete(world: &World, server: &Process, id: &str) {
    let url = server.url(&format!("/focus-server/job/{id}"));
    assert_eq!(reqwest::Client::new().delete(url).send().await.unwrap().status(), 200);
    world.until_gone(id).await;
}

/// Whether pods reach what listens on this machine: only the cluster of `make test` is known to let them.
fn pods_reach_us() -> bool {
    let ours = std::env::var_os("FOCUS_TEST_BROKER_COMMAND").is_some();
    if !ours {
        println!("skipped: pods of this cluster may not reach a collector on this machine");
    }
    ours
}

#[tokio::test]
async fn one_trace_shows_all_phases_of_a_job() {
    if !pods_reach_us() {
        return;
    }
    in_world("trace", |world| async move {
        let collector = Collector::start().await;
        let (here, from_pods) = (collector.url(), collector.url_for_pods());
        let often = ("OTEL_BSP_SCHEDULE_DELAY", "100");
        pool_in(&world, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &from_pods), often]).await;
        let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", here.as_str()), often];
        let operator = world.operator_in(&env).await;
        let server = world.server_in(&[], &env).await;

        let unwanted = "11111111111111111111111111111111";
        let other = configure(&server, &format!("00-{unwanted}-{CLIENT}-00")).await;
        world.until_condition(&other, READY, true).await;
        let trace = format!("{:032x}", rand::random::<u128>());
        let id = configure(&server, &format!("00-{trace}-{CLIENT}-01")).await;
        let ready = world.until_condition(&id, READY, true).await;
        until_line(&server, &id).await;
        assert_eq!(ready.annotations()[names::TRACESTATE], "vendor=value");
        for id in [&id, &other] {
            delete(&world, &server, id).await;
        }

        let spans = collector.until_trace(&trace, &[&STEPS[..], &[(SERVER, CONFIGURE)]].concat()).await;
        hangs_together(&spans, &ready);
        as_long_as_the_status_says(&spans, &ready);
        assert!(collector.spans().iter().all(|span| span.trace != unwanted), "the client did not want that");
        of_kubectl(&world, &collector).await;
        let url = broker::url();
        let password = url.split(['@', ':']).nth(2).unwrap();
        assert!(!collector.text().contains(password), "a secret in a span");
        for process in [&operator, &server] {
            assert!(process.metric("focus_trace_spans_total{outcome=\"exported\"}").await >= 5.0);
            process.until_metric("focus_trace_spans_total{outcome=\"dropped\"}", 0.0).await;
        }
    })
    .await;
}

/// Each span once, each with its parent and its job.
fn hangs_together(spans: &[Span], job: &FocusJob) {
    let what: BTreeSet<(&str, &str)> = spans.iter().map(|s| (s.service.as_str(), s.name.as_str())).collect();
    assert_eq!(what.len(), spans.len(), "a span twice: {spans:#?}");
    let named = |service: &str, name: &str| {
        spans.iter().find(|span| span.service == service && span.name == name).unwrap()
    };
    let parents = [
        ((SERVER, CONFIGURE), CLIENT),
        ((OPERATOR, "total"), &named(SERVER, CONFIGURE).id),
        ((OPERATOR, "configure"), &named(OPERATOR, "total").id),
        ((OPERATOR, "pod"), &named(OPERATOR, "total").id),
        ((OPERATOR, "queue"), &named(OPERATOR, "total").id),
        ((OPERATOR, "consumer"), &named(OPERATOR, "total").id),
        ((ANALYZER, "first line"), &named(OPERATOR, "pod").id),
        ((SERVER, "first line"), &named(OPERATOR, "consumer").id),
    ];
    for ((service, name), parent) in parents {
        assert_eq!(named(service, name).parent, parent, "{service}: {name}");
    }
    assert_eq!(job.annotations()[names::TRACEPARENT].split('-').nth(2), Some(&*named(SERVER, CONFIGURE).id));
    for span in spans {
        assert_eq!(span.attributes["focus.job.name"], job.name_any(), "{span:?}");
        assert_eq!(span.failed, None, "{span:?}");
        if span.name != CONFIGURE {
            assert_eq!(span.attributes["focus.job.uid"], job.uid().unwrap(), "{span:?}");
        }
    }
    assert!(named(OPERATOR, "pod").attributes.contains_key("k8s.pod.name"));
}

fn as_long_as_the_status_says(spans: &[Span], job: &FocusJob) {
    let status = job.status.as_ref().unwrap();
    for ((name, from, to), (_, seconds)) in
        status.timeline.phases().into_iter().zip(status.phase_seconds.named())
    {
        let span = spans.iter().find(|span| span.service == OPERATOR && span.name == name).unwrap();
        let (from, to) = (from.as_ref().unwrap().0, to.as_ref().unwrap().0);
        assert_eq!(span.start_us, from.as_microsecond(), "{name}");
        assert_eq!(span.end_us, to.as_microsecond().max(span.start_us), "{name}");
        let lasted = (span.end_us - span.start_us) as f64 / 1e6;
        assert!((lasted - seconds.unwrap()).abs() < 1e-6, "{name}: {lasted} {seconds:?}");
    }
}

/// Jobs that nobody gave a trace are in that of their uid; one that fails says why.
async fn of_kubectl(world: &World, collector: &Collector) {
    let made = world.create(job("view", json!({}))).await;
    let bad = world.create(job("bad", json!({"frequencyRange": {"min": 0, "max": 501}}))).await;
    let trace_of = |job: &FocusJob| job.uid().unwrap().replace('-', "");
    let spans = collector.until_trace(&trace_of(&made), &STEPS).await;
    let total = spans.iter().find(|span| span.name == "total").unwrap();
    assert_eq!(total.parent, "", "it begins the trace");
    assert!(spans.iter().all(|span| span.attributes["focus.job.name"] == "view"), "{spans:#?}");
    world.until_reason("bad", FINISHED, "InvalidView").await;
    let spans = collector.until_trace(&trace_of(&bad), &[(OPERATOR, "total")]).await;
    let total = spans.iter().find(|span| span.name == "total").unwrap();
    assert_eq!(total.failed.as_deref(), Some("InvalidView"));
}

#[tokio::test]
async fn a_receiver_that_is_away_or_silent_harms_nothing() {
    in_world("away", |world| async move {
        // It takes connections and never answers.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = format!("http://{}", silent.local_addr().unwrap());
        let often = [("OTEL_BSP_SCHEDULE_DELAY", "50"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "500")];
        default_pool(&world).await;
        let away = [&often[..], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")]].concat();
        let operator = world.operator_in(&away).await;
        let secret = "not-for-the-log";
        let headers = format!("authorization=Bearer%20{secret}");
        let silent = [
            &often[..],
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", silent.as_str()),
                ("OTEL_EXPORTER_OTLP_HEADERS", &headers),
                ("FOCUS_LOG", "trace"),
            ],
        ]
        .concat();
        let server = world.server_in(&[], &silent).await;
        let id = configure(&server, &format!("00-0af7651916cd43dd8448eb211c80319c-{CLIENT}-01")).await;
        world.until_condition(&id, READY, true).await;
        until_line(&server, &id).await;
        for (name, process) in [("operator", &operator), ("server", &server)] {
            until(&format!("the {name} counts what it drops"), || async {
                (process.metric("focus_trace_spans_total{outcome=\"dropped\"}").await > 0.0).then_some(())
            })
            .await;
            assert!(process.log().contains("exporting traces failed"), "{name}");
        }
        assert!(!server.log().contains(secret), "a secret in the log");
        delete(&world, &server, &id).await;
        for process in [operator, server] {
            let asked = Instant::now();
            assert_eq!(process.terminate().await, Some(0));
            assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        }
    })
    .await;
}

#[tokio::test]
async fn each_line_about_a_job_names_it_alike() {
    in_world("logs", |world| async move {
        default_pool(&world).await;
        let json = [("FOCUS_LOG_FORMAT", "json")];
        let operator = world.operator_in(&json).await;
        let server = world.server_in(&[], &json).await;
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let id = configure(&server, &format!("00-{trace}-{CLIENT}-01")).await;
        let uid = world.until_condition(&id, READY, true).await.uid().unwrap();
        until_line(&server, &id).await;
        let pods = world.pods().list(&ListParams::default()).await.unwrap();
        let analyzer = until("a line of the analyzer", || async {
            let log = world.pods().logs(&pods.items[0].name_any(), &Default::default()).await.ok()?;
            log.contains("first line published").then_some(log)
        })
        .await;
        until("the operator's line", || async { operator.log().contains(&uid).then_some(()) }).await;
        for (role, log) in [("operator", operator.log()), ("server", server.log()), ("analyzer", analyzer)] {
            let about: Vec<Value> = log
                .lines()
                .filter(|line| line.contains(&id) || line.contains(&uid))
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            assert!(!about.is_empty(), "{role}: {log}");
            for line in about {
                let fields = ["namespace", "job", "uid", "trace_id"].map(|field| line[field].as_str());
                let expected = [world.namespace.as_str(), id.as_str(), uid.as_str(), trace].map(Some);
                assert_eq!(fields, expected, "{role}: {line}");
            }
            assert!(!log.contains('\u{1b}'), "{role}: colours");
        }
    })
    .await;
}
