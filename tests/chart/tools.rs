//! Helm and kubectl.

use std::path::PathBuf;
use std::process::{Command, Output};

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::common::objects::image;
use crate::common::{World, from_env, until};

/// The checkout.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Runs a program; gives what it printed, or panics with that.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = try_run(program, args);
    let text = text(&output);
    assert!(output.status.success(), "{program} {}: {}\n{text}", args.join(" "), output.status);
    text
}

pub fn try_run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

pub fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

pub fn kubectl(args: &[&str]) -> String {
    run("kubectl", args)
}

/// A release of the chart, named `chart`.
pub struct Release {
    helm: String,
    three: bool,
    namespace: String,
    values: PathBuf,
}

impl Drop for Release {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.values);
    }
}

impl Release {
    /// With the Helm that the variable `helm` names, in the world's namespace.
    pub fn new(world: &World, helm: &str) -> Self {
        let namespace = world.namespace.clone();
        let values = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{namespace}.json"));
        Self { helm: from_env(helm), three: helm.ends_with('3'), namespace, values }
    }

    fn act(&self, verb: &[&str], changes: &Value) -> String {
        let image = image();
        let (repository, tag) = image.rsplit_once(':').unwrap();
        let mut values = json!({
            "image": {"repository": repository, "tag": tag},
            "broker": {"existingSecret": {"name": "broker"}},
        });
        values.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        std::fs::write(&self.values, values.to_string()).unwrap();
        let chart = format!("{ROOT}/charts/focus-operator");
        let file = self.values.to_str().unwrap();
        let common =
            ["chart", &chart, "--namespace", &self.namespace, "--values", file, "--wait", "--timeout", "3m"];
        run(&self.helm, &[verb, &common].concat())
    }

    /// What the chart tells after an installation with `values`, without one.
    pub fn notes(&self, values: &Value) -> String {
        self.act(&["install", "--dry-run=client"], values)
    }

    /// The program that `word` of a command line means: `helm` is the one under test.
    pub fn program(&self, word: &str) -> String {
        if word == "helm" { self.helm.clone() } else { word.to_owned() }
    }

    pub fn install(&self, values: &Value) -> String {
        self.act(&["install"], values)
    }

    pub fn upgrade(&self, values: &Value) -> String {
        self.act(&["upgrade"], values)
    }

    /// Back to the revision before the last.
    pub fn roll_back(&self) {
        let wait = ["--wait", "--timeout", "3m"];
        run(&self.helm, &[&["rollback", "chart", "--namespace", &self.namespace], &wait[..]].concat());
    }

    /// What `helm test` prints. Helm 3 prints the log by itself, and cannot when it is asked for.
    pub fn test(&self) -> String {
        let logs: &[&str] = if self.three { &[] } else { &["--logs"] };
        let args = ["test", "chart", "--namespace", &self.namespace, "--timeout", "3m"];
        run(&self.helm, &[&args, logs].concat())
    }

    pub fn uninstall(&self) {
        run(&self.helm, &["uninstall", "chart", "--namespace", &self.namespace, "--wait", "--timeout", "3m"]);
    }
}

/// From now on the namespace takes only pods of the Pod Security level `restricted`.
pub async fn enforce_restricted(world: &World) {
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.patch(&world.namespace, &PatchParams::default(), &Patch::Merge(&labels)).await.unwrap();
    let privileged = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root"}, "spec": {
        "containers": [{"name": "root", "image": "none", "securityContext": {"privileged": true}}]}});
    let refused =
        world.pods().create(&Default::default(), &serde_json::from_value(privileged).unwrap()).await;
    assert!(
        matches!(refused, Err(kube::Error::Api(status)) if status.code == 403),
        "a privileged pod was taken"
    );
}

/// What the release has left in its namespace and in the cluster, but for AnalyzerPools, which stay with the jobs.
pub fn leftovers(namespace: &str) -> Vec<String> {
    let kinds = "deployments,replicasets,pods,services,serviceaccounts,configmaps,jobs,leases,roles,rolebindings,\
                 poddisruptionbudgets,networkpolicies,ingresses";
    let label = "app.kubernetes.io/instance=chart";
    let own = kubectl(&["--namespace", namespace, "get", kinds, "--selector", label, "--output", "name"]);
    // Other tests' releases have the same name in other namespaces.
    let line = "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.annotations}{\"\\n\"}{end}";
    let all = kubectl(&["get", "clusterroles,clusterrolebindings", "--selector", label, "--output", line]);
    let own = own.lines().filter(|line| line.contains('/'));
    own.chain(all.lines().filter(|line| line.contains(namespace))).map(str::to_owned).collect()
}

pub async fn until_nothing_is_left(namespace: &str) {
    until(&format!("nothing of the release is left in {namespace}"), || async {
        leftovers(namespace).is_empty().then_some(())
    })
    .await;
}
