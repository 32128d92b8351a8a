//! Pod Security `restricted` in the namespace of the jobs.

use focus_operator::api::AnalyzerPool;
use focus_operator::api::conditions::{ANALYZER_READY, READY};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::common::objects::job;
use crate::common::{World, condition};

/// The template of the release's pool with a privileged analyzer.
fn privileged(pool: &AnalyzerPool) -> Value {
    let mut template = serde_json::to_value(&pool.spec.template).unwrap();
    template["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    template
}

/// A pool whose pods the namespace does not allow: its job says so in the API server's words, makes no pod, and comes up
/// when the pool is mended.
pub async fn a_privileged_pool_is_refused_in_words(world: &World) {
    let pools: Api<AnalyzerPool> = Api::namespaced(world.client.clone(), &world.namespace);
    let good = pools.get("default").await.unwrap();
    let bad = json!({
        "apiVersion": "focus-operator.io/v1alpha1", "kind": "AnalyzerPool", "metadata": {"name": "privileged"},
        "spec": {"source": good.spec.source, "template": privileged(&good)}
    });
    pools.create(&PostParams::default(), &serde_json::from_value(bad).unwrap()).await.unwrap();
    world.create(job("privileged", json!({"pool": "privileged"}))).await;
    let refused = world.until_reason("privileged", READY, "PodRefused").await;
    let (status, _, message) = condition(&refused, ANALYZER_READY).unwrap();
    assert_eq!(status, "False");
    assert!(
        message.contains("violates PodSecurity \"restricted") && message.contains("privileged"),
        "{message}"
    );
    let of_it = ListParams::default().labels("focus-operator.io/job=privileged");
    assert!(world.pods().list(&of_it).await.unwrap().items.is_empty());

    let mended =
        json!({"spec": {"template": {"spec": {"containers": good.spec.template.spec.unwrap().containers}}}});
    pools.patch("privileged", &PatchParams::default(), &Patch::Merge(&mended)).await.unwrap();
    let ready = world.until_condition("privileged", READY, true).await;
    assert_eq!(ready.status.unwrap().analyzer.unwrap().restarts, 0);
    world.jobs().delete("privileged", &DeleteParams::default()).await.unwrap();
    world.until_gone("privileged").await;
    pools.delete("privileged", &DeleteParams::default()).await.unwrap();
}
