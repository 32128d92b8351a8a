//! A report is whole, and has no secret in it.

use std::io::Read;
use std::path::{Path, PathBuf};

use focus_operator::api::AnalyzerPool;
use focus_operator::api::conditions::ANALYZER_READY;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::common::objects::{default_pool, job};
use crate::common::plugin::focus;
use crate::common::{World, broker, in_world};

/// Stands in places of the pool where people put secrets.
const PLANTED: &str = "planted-hunter2";

/// The default pool, with secrets in it.
pub async fn planted_pool(world: &World) {
    default_pool(world).await;
    let pools: Api<AnalyzerPool> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut pool = pools.get("default").await.unwrap();
    let spec = pool.spec.template.spec.as_mut().unwrap();
    let more = json!([
        {"name": "RUST_BACKTRACE", "value": "1"},
        {"name": "DATABASE", "value": format!("mongodb://user:{PLANTED}@database:27017/")},
        {"name": "API_TOKEN", "value": PLANTED},
        {"name": "DB_PASS", "value": PLANTED},
        {"name": "UNSUSPECTED", "value": PLANTED}
    ]);
    let env = spec.containers[0].env.get_or_insert_default();
    env.extend(serde_json::from_value::<Vec<_>>(more).unwrap());
    let annotations = json!({
        "kubectl.kubernetes.io/last-applied-configuration": format!("{{\"password\":\"{PLANTED}\"}}"),
        "vault.example.com/token": PLANTED
    });
    pool.metadata.annotations = Some(serde_json::from_value(annotations).unwrap());
    pool.metadata.managed_fields = None;
    pools.replace("default", &Default::default(), &pool).await.unwrap();
}

/// The files of an archive: path and text.
pub fn archive(file: &Path) -> Vec<(String, String)> {
    let opened = std::fs::File::open(file).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(opened));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (entry.path().unwrap().display().to_string(), text)
    });
    entries.collect()
}

#[tokio::test]
async fn a_report_has_everything_but_secrets() {
    in_world("plugin-report", |world| async move {
        planted_pool(&world).await;
        let _operator = world.operator().await;
        world.create(job("view", json!({}))).await;
        world.until_condition("view", ANALYZER_READY, true).await;
        // As a person does who is in a hurry.
        let annotations = json!({"metadata": {"annotations": {"note": format!("amqp://u:{PLANTED}@h")}}});
        world.jobs().patch("view", &PatchParams::default(), &Patch::Merge(&annotations)).await.unwrap();

        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.tar.gz", world.namespace));
        let args = ["report", "-n", &world.namespace, "-o", file.to_str().unwrap()];
        let told = focus(&args);
        assert_eq!(told.code, Some(0), "{}", told.err);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let files = archive(&file);
        let password = broker::url_for_pods();
        let password = password.split(['/', '@']).nth(2).and_then(|login| login.split(':').nth(1)).unwrap();
        for (name, text) in &files {
            assert!(!text.contains(PLANTED) && !text.contains("last-applied"), "{name}:\n{text}");
            assert!(!text.contains(&format!(":{password}@")), "{name}:\n{text}");
        }
        let text = |end: &str| {
            let found = files.iter().find(|(name, _)| name.ends_with(end));
            found.map(|(_, text)| text.as_str()).unwrap_or_else(|| panic!("no {end}: {}", told.err))
        };
        assert!(text("/status.txt").contains("view") && text("/status.txt").contains("The job waits for"));
        assert!(text("/focusjobs.json").contains("podReadyAt"));
        let pools = text("/analyzerpools.json");
        for kept in ["\"RUST_BACKTRACE\"", "\"API_TOKEN\"", "\"broker\"", "\"REDACTED\"", "synthetic:"] {
            assert!(pools.contains(kept), "{kept}: {pools}");
        }
        assert!(text("/analyzer-pods.json").contains("\"containerStatuses\""));
        assert!(
            text("/versions.json").contains("\"as_of_this_program\": true"),
            "{}",
            text("/versions.json")
        );
        assert!(text(".analyzer.log").lines().count() > 0);
        assert!(text("/README.txt").contains("status.txt"));

        let again = focus(&args);
        assert_eq!(again.code, Some(1));
        assert!(again.err.contains("name another file by -o"), "{}", again.err);
        std::fs::remove_file(&file).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_report_of_the_wrong_namespace_says_so() {
    in_world("plugin-empty", |world| async move {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.tar.gz", world.namespace));
        let here = ["-n", &world.namespace, "--operator-namespace", &world.namespace];
        let told = focus(&[&["report", "-o", file.to_str().unwrap()], &here[..]].concat());
        assert_eq!(told.code, Some(0), "{}", told.err);
        let nothing = format!("FocusJobs and AnalyzerPools: there are none in namespace {}", world.namespace);
        for words in [nothing.as_str(), "--operator-namespace"] {
            assert!(told.err.contains(words), "{words}: {}", told.err);
            let files = archive(&file);
            let (_, left_out) = files.iter().find(|(name, _)| name.ends_with("/left-out.txt")).unwrap();
            assert!(left_out.contains(words), "{words}: {left_out}");
        }
        std::fs::remove_file(&file).unwrap();
    })
    .await;
}
