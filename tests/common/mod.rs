//! What the end-to-end tests share: a namespace of their own on the real cluster, the real operator and server as
//! processes, the real broker, and waiting for conditions. `make test` sets the environment they need.

#![allow(dead_code, clippy::unwrap_used)]

pub mod broker;
pub mod collector;
pub mod cut;
pub mod objects;
pub mod plugin;
pub mod process;
pub mod prometheus;
pub mod python;
pub mod rules;

use std::fmt::Debug;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use focus_operator::api::{FocusJob, conditions};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use process::Process;

/// Long enough for a slow machine under load; a test that is well ends far sooner.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// One test's surroundings.
pub struct World {
    pub client: Client,
    pub namespace: String,
    pub broker: broker::TestBroker,
}

/// Runs `test` in a namespace of its own, which is removed afterwards whatever happens.
pub async fn in_world<F: Future<Output = ()>>(name: &str, test: impl FnOnce(std::rc::Rc<World>) -> F) {
    let client = Client::try_default().await.expect("KUBECONFIG names no cluster: run `make test`");
    let namespace = format!("e2e-{name}-{:06x}", rand::random::<u32>() & 0xff_ffff);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &objects::namespace(&namespace)).await.unwrap();
    let broker = broker::TestBroker::connect().await;
    let world = std::rc::Rc::new(World { client: client.clone(), namespace: namespace.clone(), broker });
    objects::broker_secret(&world).await;
    let outcome = AssertUnwindSafe(test(world.clone())).catch_unwind().await;
    if outcome.is_err() {
        world.describe().await;
    }
    world.clean_up().await;
    namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

impl World {
    pub fn jobs(&self) -> Api<FocusJob> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The operator for this namespace, ready to work.
    pub async fn operator(&self) -> Process {
        let operator = self.operator_with(&broker::url()).await;
        operator.until_ready().await;
        operator
    }

    pub async fn operator_with(&self, broker_url: &str) -> Process {
        self.start_operator(&[("FOCUS_BROKER_URL", broker_url)])
    }

    /// The operator with more environment, ready to work.
    pub async fn operator_in(&self, env: &[(&str, &str)]) -> Process {
        let url = broker::url();
        let operator = self.start_operator(&[&[("FOCUS_BROKER_URL", url.as_str())], env].concat());
        operator.until_ready().await;
        operator
    }

    fn start_operator(&self, env: &[(&str, &str)]) -> Process {
        Process::start(&["operator", "--namespace", &self.namespace, "--admin-addr", "127.0.0.1:{port}"], env)
    }

    /// The Focus Server for this namespace, ready to work.
    pub async fn server(&self) -> Process {
        self.server_with(&[]).await
    }

    /// The Focus Server with more options.
    pub async fn server_with(&self, options: &[&str]) -> Process {
        self.server_in(options, &[]).await
    }

    /// The Focus Server with more options and environment.
    pub async fn server_in(&self, options: &[&str], env: &[(&str, &str)]) -> Process {
        let (http, grpc) = ("127.0.0.1:{port}", "127.0.0.1:{grpc_port}");
        let mut args =
            vec!["server", "--namespace", &self.namespace, "--listen", http, "--grpc-listen", grpc];
        args.extend(options);
        let url = broker::url();
        let server = Process::start(&args, &[&[("FOCUS_BROKER_URL", url.as_str())], env].concat());
        server.until_ready().await;
        server
    }

    pub async fn create(&self, job: FocusJob) -> FocusJob {
        self.jobs().create(&PostParams::default(), &job).await.unwrap()
    }

    pub async fn job(&self, name: &str) -> FocusJob {
        self.jobs().get(name).await.unwrap()
    }

    /// Waits until the job's condition `type_` has `status`, and gives the job.
    pub async fn until_condition(&self, name: &str, type_: &str, status: bool) -> FocusJob {
        let wanted = if status { "True" } else { "False" };
        until(&format!("{name}: {type_}={wanted}"), || async {
            let job = self.job(name).await;
            condition(&job, type_).is_some_and(|(is, _, _)| is == wanted).then_some(job)
        })
        .await
    }

    /// Waits until the job's condition `type_` has `reason`, and gives the job.
    pub async fn until_reason(&self, name: &str, type_: &str, reason: &str) -> FocusJob {
        until(&format!("{name}: {type_} with reason {reason}"), || async {
            let job = self.job(name).await;
            condition(&job, type_).is_some_and(|(_, is, _)| is == reason).then_some(job)
        })
        .await
    }

    pub async fn until_gone(&self, name: &str) {
        until(&format!("FocusJob {name} is gone"), || async {
            self.jobs().get_opt(name).await.unwrap().is_none().then_some(())
        })
        .await;
    }

    pub async fn until_no_pods(&self) {
        until("no pod is left", || async {
            self.pods().list(&ListParams::default()).await.unwrap().items.is_empty().then_some(())
        })
        .await;
    }

    /// Nothing may outlive the test: jobs go with their queues, finalizers that no operator serves are removed.
    async fn clean_up(&self) {
        for job in self.jobs().list(&ListParams::default()).await.unwrap() {
            self.broker.delete(&focus_operator::api::names::queue_name(&job)).await;
            let free = serde_json::json!({"metadata": {"finalizers": null}});
            let (name, patch) = (job.name_any(), kube::api::Patch::Merge(&free));
            let _ = self.jobs().patch(&name, &Default::default(), &patch).await;
            let _ = self.jobs().delete(&name, &DeleteParams::default()).await;
        }
    }

    /// What a person would look at after a failure.
    async fn describe(&self) {
        for job in self.jobs().list(&ListParams::default()).await.unwrap() {
            eprintln!("FocusJob {}: {}", job.name_any(), serde_json::to_string_pretty(&job.status).unwrap());
        }
        for pod in self.pods().list(&ListParams::default()).await.unwrap() {
            eprintln!("Pod {}: {}", pod.name_any(), serde_json::to_string_pretty(&pod.status).unwrap());
            let logs = self.pods().logs(&pod.name_any(), &Default::default()).await;
            eprintln!("its log: {}", logs.unwrap_or_default());
        }
    }
}

/// Status, reason and message of a condition.
pub fn condition(job: &FocusJob, type_: &str) -> Option<(String, String, String)> {
    let found = conditions::find(&job.status.as_ref()?.conditions, type_)?;
    Some((found.status.clone(), found.reason.clone(), found.message.clone()))
}

/// Waits until `look` finds something; panics, saying what was awaited, when it does not come.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited {} s in vain: {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// The value of an environment variable that `make test` sets.
pub fn from_env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with `make test`"))
}

pub fn assert_ascending<T: PartialOrd + Debug>(named: &[(&str, T)]) {
    for pair in named.windows(2) {
        assert!(pair[0].1 <= pair[1].1, "{} comes after {}: {named:?}", pair[0].0, pair[1].0);
    }
}
