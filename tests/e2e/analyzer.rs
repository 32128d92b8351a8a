//! Real recordings, where there are any, and analyzers that cannot work.

use focus_operator::api::conditions::{FINISHED, READY};
use focus_operator::api::names::queue_name;
use focus_operator::wire::{Frame, Header, frame::Kind};
use futures::StreamExt;
use prost::Message;
use serde_json::{Value, json};

use crate::common::broker::TestConsumer;
use crate::common::objects::{image, job, pool, recordings};
use crate::common::{condition, in_world};

fn recording(file: &str, rate: f64, channels: i32) -> Value {
    json!({"uri": format!("file:///recordings/{file}"), "sampleRateHz": rate, "channels": channels, "dxMeters": 1.02})
}

/// The first header and the first line that arrive.
async fn first_frames(consumer: &mut TestConsumer) -> (Header, usize) {
    let mut header = None;
    loop {
        let next = tokio::time::timeout(crate::common::PATIENCE, consumer.deliveries.next()).await;
        let delivery = next.expect("a message within the deadline").unwrap().unwrap();
        match Frame::decode(delivery.data.as_slice()).unwrap().kind.unwrap() {
            Kind::Header(found) => header = Some(found),
            Kind::Line(line) => {
                if let Some(header) = header {
                    return (header, line.intensities.len());
                }
            }
            Kind::End(end) => panic!("the analyzer ended: {end:?}"),
        }
    }
}

#[tokio::test]
async fn fifty_channels_of_a_real_recording_come_out() {
    if recordings().is_none() {
        println!("skipped: there are no recordings beside the project");
        return;
    }
    in_world("recording", |world| async move {
        pool(&world, "default", recording("decimated_optodas.hdf5", 500.0, 51), &image()).await;
        let _operator = world.operator().await;
        let view = json!({"frequencyRange": {"min": 0, "max": 250}});
        let created = world.create(job("view", view)).await;
        let mut consumer = world.broker.consume(&queue_name(&created)).await;
        let (header, intensities) = first_frames(&mut consumer).await;
        assert_eq!((header.channel_min, header.channel_max), (1, 50));
        assert_eq!(header.sample_rate_hz, 500.0);
        assert_eq!(intensities, 50 * header.frequencies_hz.len());
        world.until_condition("view", READY, true).await;
        consumer.cancel().await;
    })
    .await;
}

#[tokio::test]
async fn frequencies_above_nyquist_are_refused() {
    in_world("nyquist", |world| async move {
        pool(&world, "default", recording("decimated_optodas.hdf5", 500.0, 51), &image()).await;
        let _operator = world.operator().await;
        world.create(job("view", json!({}))).await;
        let failed = world.until_reason("view", FINISHED, "InvalidView").await;
        let (_, _, message) = condition(&failed, FINISHED).unwrap();
        assert!(message.contains("Frequency 500 Hz exceeds Nyquist limit (250 Hz)"), "{message}");
    })
    .await;
}

#[tokio::test]
async fn an_analyzer_that_cannot_work_fails_its_job_in_its_own_words() {
    if recordings().is_none() {
        println!("skipped: there are no recordings beside the project");
        return;
    }
    in_world("unfit", |world| async move {
        pool(&world, "short", recording("iDAS005_hdf5_example.626.h5", 1000.0, 1152), &image()).await;
        pool(&world, "rate", recording("decimated_optodas.hdf5", 1000.0, 51), &image()).await;
        pool(&world, "absent", recording("no-such-file.h5", 1000.0, 51), &image()).await;
        let _operator = world.operator().await;
        for (pool, reason) in
            [("short", "RecordingTooShort"), ("rate", "SampleRateMismatch"), ("absent", "SourceUnreadable")]
        {
            world.create(job(pool, json!({"pool": pool}))).await;
            let failed = world.until_reason(pool, FINISHED, reason).await;
            let (status, _, message) = condition(&failed, FINISHED).unwrap();
            assert_eq!(status, "True", "{message}");
            assert_eq!(
                failed.status.unwrap().analyzer.map(|analyzer| analyzer.restarts),
                Some(0),
                "retried in vain"
            );
        }
    })
    .await;
}
