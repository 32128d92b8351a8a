//! The example analyzer in Python (`examples/python-analyzer`), which knows of the contract what its page says.

use std::time::{Duration, Instant};

use focus_operator::api::conditions::{FINISHED, READY};
use focus_operator::api::names::queue_name;
use focus_operator::wire::{Frame, Header, Line, frame::Kind};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use prost::Message;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::server::{configure, get, request};
use crate::common::broker::TestConsumer;
use crate::common::objects::{job, python_pool, synthetic};
use crate::common::{PATIENCE, World, condition, in_world, until};

/// The sample rate is 1000 Hz, and each channel hums at an eighth of it with an amplitude of 10: half of that in the
/// spectrum, in dB.
const HUM_HZ: f64 = 125.0;
const HUM_DB: f32 = 13.98;

async fn restrict(world: &World) {
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    namespaces.patch(&world.namespace, &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
}

/// Where the largest value is.
fn highest(values: &[f64]) -> usize {
    (0..values.len()).max_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap()
}

#[tokio::test]
async fn an_analyzer_in_python_serves_a_view() {
    in_world("example", |world| async move {
        restrict(&world).await;
        python_pool(&world, "default", synthetic(), true).await;
        let _operator = world.operator().await;
        let server = world.server().await;
        let (status, answer) = configure(&server, &request()).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let id = answer["job_id"].as_str().unwrap().to_owned();
        let metadata = get(&server, &format!("metadata/{id}?wait=30s")).await;
        assert_eq!(metadata.status(), StatusCode::OK);
        world.until_condition(&id, READY, true).await;

        let rows: Value = until("lines at the client", || async {
            let answer = get(&server, &format!("waterfall/{id}/5")).await;
            (answer.status() == StatusCode::CREATED).then_some(())?;
            answer.json().await.ok()
        })
        .await;
        let frequencies = answer["frequencies_list"].as_array().unwrap();
        let sensors = rows[0]["rows"][0]["sensors"].as_array().unwrap();
        assert_eq!(sensors.len(), 50);
        for sensor in sensors {
            let levels: Vec<f64> =
                sensor["intensity"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
            assert_eq!(levels.len(), frequencies.len());
            assert_eq!(frequencies[highest(&levels)].as_f64(), Some(HUM_HZ), "{}", sensor["id"]);
        }

        // Its template allows it a minute.
        let asked = Instant::now();
        world.jobs().delete(&id, &DeleteParams::default()).await.unwrap();
        world.until_gone(&id).await;
        world.until_no_pods().await;
        assert!(
            asked.elapsed() < Duration::from_secs(30),
            "it did not end at SIGTERM: {:?}",
            asked.elapsed()
        );
    })
    .await;
}

async fn next(consumer: &mut TestConsumer) -> Kind {
    let next = tokio::time::timeout(PATIENCE, consumer.deliveries.next()).await;
    let delivery = next.expect("a message within the deadline").unwrap().unwrap();
    Frame::decode(delivery.data.as_slice()).unwrap().kind.unwrap()
}

async fn header(consumer: &mut TestConsumer) -> Header {
    match next(consumer).await {
        Kind::Header(header) => header,
        other => panic!("a header comes first, not {other:?}"),
    }
}

async fn line(consumer: &mut TestConsumer) -> Line {
    loop {
        match next(consumer).await {
            Kind::Header(_) => {}
            Kind::Line(line) => return line,
            Kind::End(end) => panic!("the analyzer ended: {end:?}"),
        }
    }
}

#[tokio::test]
async fn its_messages_are_those_of_the_contract() {
    in_world("example-queue", |world| async move {
        python_pool(&world, "default", synthetic(), true).await;
        let _operator = world.operator().await;
        let created = world.create(job("view", json!({"frequencyRange": {"min": 100, "max": 200}}))).await;
        let mut consumer = world.broker.consume(&queue_name(&created)).await;
        let header_of_it = header(&mut consumer).await;
        assert_eq!(Some(&header_of_it.job_uid), created.metadata.uid.as_ref());
        assert_eq!((header_of_it.channel_min, header_of_it.channel_max, header_of_it.nfft), (1, 50, 1024));
        let bins = header_of_it.frequencies_hz.len();
        let hum = header_of_it.frequencies_hz.iter().position(|hz| *hz == HUM_HZ).unwrap();
        for index in 0..20 {
            let line = line(&mut consumer).await;
            assert_eq!((line.index, line.end_us - line.start_us), (index, 1_024_000));
            assert_eq!(line.intensities.len(), 50 * bins);
            for channel in line.intensities.chunks(bins) {
                let level = line.db_min + f32::from(channel[hum]) * (line.db_max - line.db_min) / 255.0;
                assert!((level - HUM_DB).abs() < 1.5, "{level} dB in line {index}");
            }
        }
        until_headers_follow(&mut consumer).await;

        world.until_condition("view", READY, true).await;
        let pod = world.pods().list(&ListParams::default()).await.unwrap().items.remove(0);
        world.pods().delete(&pod.metadata.name.unwrap(), &DeleteParams::default()).await.unwrap();
        until_replaced(&mut consumer, &header_of_it).await;
        consumer.cancel().await;
    })
    .await;
}

/// Until the old pod has said that it ends and the next one, which need not wait for it, has begun anew.
async fn until_replaced(consumer: &mut TestConsumer, expected: &Header) {
    let (mut ended, mut begun) = (false, false);
    while !(ended && begun) {
        match next(consumer).await {
            Kind::Header(header) => assert_eq!(&header, expected),
            Kind::Line(line) => begun |= line.index == 0,
            Kind::End(end) => {
                assert_eq!(end.reason, "Terminated");
                ended = true;
            }
        }
    }
}

/// A consumer that attaches late is told what the lines mean, again and again.
async fn until_headers_follow(consumer: &mut TestConsumer) {
    let mut lines = 0;
    for _ in 0..2 {
        while let Kind::Line(_) = next(consumer).await {
            lines += 1;
        }
    }
    // 100 lines a second; at least one header a second is asked for.
    assert!(lines < 200, "{lines} lines and only two headers");
}

#[tokio::test]
async fn what_it_refuses_fails_the_job_in_its_own_words() {
    in_world("example-unfit", |world| async move {
        python_pool(&world, "default", synthetic(), true).await;
        python_pool(&world, "brokerless", synthetic(), false).await;
        let mut past = synthetic();
        past["recordings"] = json!("file:///recordings/");
        python_pool(&world, "past", past, true).await;
        let _operator = world.operator().await;
        let coarse = json!({"nfftSelection": 256, "frequencyRange": {"min": 1, "max": 3}});
        for (name, view, reason, words) in [
            ("coarse", coarse, "FrequencyRangeEmpty", "no multiple of 3.90625 Hz lies from 1 to 3 Hz"),
            (
                "historic",
                json!({"pool": "past", "startTime": 10, "endTime": 20}),
                "HistoricViewUnsupported",
                "leave out startTime and endTime",
            ),
            ("silent", json!({"pool": "brokerless"}), "BadEnvironment", "the broker's address"),
        ] {
            world.create(job(name, view)).await;
            let failed = world.until_reason(name, FINISHED, reason).await;
            let (status, _, message) = condition(&failed, FINISHED).unwrap();
            assert_eq!(status, "True", "{message}");
            assert!(message.contains(words), "{message}");
            let restarts = failed.status.unwrap().analyzer.map(|analyzer| analyzer.restarts);
            assert_eq!(restarts, Some(0), "retried in vain");
        }
    })
    .await;
}
