//! Each rule of the API, refused by the real API server in words that a person can act on.

use focus_operator::api::FocusJob;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::common::in_world;
use crate::common::objects::job;

#[tokio::test]
async fn every_rule_is_refused_in_its_own_words() {
    in_world("rules", |world| async move {
        let table: Vec<(Value, &str)> = vec![
            (json!({"nfftSelection": 1000}), "nfftSelection must be a power of 2 from 128 to 65536"),
            (
                json!({"nfftSelection": 4096}),
                "nfftSelection must be between 256 and 2048 for viewType MultiChannel",
            ),
            (json!({"channels": {"min": 0, "max": 5}}), "should be greater than or equal to 1"),
            (json!({"channels": {"min": 9, "max": 5}}), "channels.max must not be below channels.min"),
            (json!({"channels": {"min": 1, "max": 2501}}), "at most 2500 channels fit one view"),
            (
                json!({"viewType": "SingleChannel"}),
                "channels.min must equal channels.max for viewType SingleChannel",
            ),
            (
                json!({"viewType": "Waterfall"}),
                "viewType Waterfall takes no displayTimeAxisDuration and no frequencyRange",
            ),
            (
                json!({"frequencyRange": null}),
                "displayTimeAxisDuration and frequencyRange are required unless viewType is Waterfall",
            ),
            (json!({"frequencyRange": {"min": 5, "max": 5}}), "frequencyRange must span at least 1 Hz"),
            (json!({"displayTimeAxisDuration": 0}), "should be greater than or equal to 1"),
            (json!({"displayInfo": {"height": 0}}), "should be greater than or equal to 1"),
            (json!({"startTime": 5}), "startTime and endTime must be given together"),
            (json!({"startTime": 5, "endTime": 5}), "endTime must be after startTime"),
            (json!({"consumerDeadlineSeconds": 0}), "should be greater than or equal to 1"),
            (json!({"viewType": "Sideways"}), "Unsupported value"),
            (json!({"queue": {"type": "Stack"}}), "Unsupported value"),
        ];
        for (changes, sentence) in table {
            let refusal = create_raw(&world.jobs(), changes.clone()).await.expect_err(&changes.to_string());
            assert!(refusal.contains(sentence), "{changes}: {refusal}");
        }
        create_raw(&world.jobs(), json!({})).await.unwrap();
        the_view_is_immutable(&world.jobs()).await;
    })
    .await;
}

async fn the_view_is_immutable(jobs: &Api<FocusJob>) {
    for changes in [
        json!({"nfftSelection": 512}),
        json!({"channels": {"min": 2, "max": 50}}),
        json!({"pool": "other"}),
        json!({"displayInfo": {"height": 5}}),
    ] {
        let patch = json!({"spec": changes});
        let refused = jobs.patch("view", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap_err();
        assert!(refused.to_string().contains("are immutable: create a new FocusJob"), "{changes}: {refused}");
    }
    let harmless = json!({"spec": {"idleTimeoutSeconds": 60}});
    jobs.patch("view", &PatchParams::default(), &Patch::Merge(&harmless)).await.unwrap();
}

/// Creates the job as raw JSON, so that what our own types cannot say can be tried too.
async fn create_raw(jobs: &Api<FocusJob>, changes: Value) -> Result<(), String> {
    let mut raw = serde_json::to_value(job("view", json!({}))).unwrap();
    for (field, value) in changes.as_object().unwrap() {
        raw["spec"][field] = value.clone();
    }
    if changes["frequencyRange"].is_null() && changes.get("frequencyRange").is_some() {
        raw["spec"].as_object_mut().unwrap().remove("frequencyRange");
    }
    let request = kube::core::Request::new(jobs.resource_url());
    let body = serde_json::to_vec(&raw).unwrap();
    let request = request.create(&PostParams::default(), body).unwrap();
    let client = jobs.clone().into_client();
    client.request::<Value>(request).await.map(drop).map_err(|error| error.to_string())
}
