//! What the chart's hooks do, where no operator helps them.

use focus_operator::api::AnalyzerPool;
use focus_operator::api::names::FINALIZER;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::tools::{text, try_run};
use crate::common::in_world;
use crate::common::objects::{job, synthetic};

/// `focus setup ARGS…`: whether it did it, and what it printed.
fn setup(args: &[&str]) -> (bool, String) {
    let output = try_run(env!("CARGO_BIN_EXE_focus"), &[&["setup", "--within-seconds", "4"], args].concat());
    (output.status.success(), text(&output))
}

#[tokio::test]
async fn jobs_that_no_operator_frees_are_freed() {
    in_world("clean", |world| async move {
        for (name, finalizers) in [("ours", vec![FINALIZER]), ("both", vec![FINALIZER, "example.org/other"])]
        {
            let mut orphan = job(name, json!({}));
            orphan.metadata.finalizers = Some(finalizers.into_iter().map(str::to_owned).collect());
            world.create(orphan).await;
        }
        let (done, printed) = setup(&["clean", "--namespace", &world.namespace]);
        assert!(!done && printed.contains("both with finalizers [\"example.org/other\"]"), "{printed}");
        world.until_gone("ours").await;
        let free = json!({"metadata": {"finalizers": null}});
        world.jobs().patch("both", &PatchParams::default(), &Patch::Merge(&free)).await.unwrap();
        let (done, printed) = setup(&["clean", "--namespace", &world.namespace]);
        assert!(done && printed.contains("no FocusJob is left"), "{printed}");
    })
    .await;
}

#[tokio::test]
async fn a_pool_is_applied_again_and_again() {
    in_world("pool", |world| async move {
        let file =
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.json", world.namespace));
        let path = file.to_str().unwrap();
        for hertz in [500.0, 1000.0] {
            let mut source = synthetic();
            source["sampleRateHz"] = json!(hertz);
            let pool = json!({
                "apiVersion": "focus-operator.io/v1alpha1", "kind": "AnalyzerPool",
                "metadata": {"name": "default", "namespace": world.namespace},
                "spec": {"source": source, "template": {"spec": {"containers": [{"name": "analyzer"}]}}}
            });
            std::fs::write(&file, pool.to_string()).unwrap();
            let (done, printed) = setup(&["pool", path]);
            assert!(done, "{printed}");
            let pools: Api<AnalyzerPool> = Api::namespaced(world.client.clone(), &world.namespace);
            assert_eq!(pools.get("default").await.unwrap().spec.source.sample_rate_hz, hertz);
        }
        std::fs::write(&file, json!({"kind": "AnalyzerPool"}).to_string()).unwrap();
        let (done, printed) = setup(&["pool", path]);
        assert!(!done && printed.contains("it is no AnalyzerPool"), "{printed}");
        std::fs::remove_file(&file).unwrap();
    })
    .await;
}
