//! `focus setup`: what the Helm chart's hooks do, for Helm itself can do neither. It cannot create an object of a
//! definition that the same release brings, and it would delete the operator together with jobs whose finalizer waits
//! for it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, Config, ResourceExt};
use rand::RngExt;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::api::names::FINALIZER;
use crate::api::{AnalyzerPool, FocusJob};

/// How long the API server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(300);
/// Jobs asked for at once.
const PAGE: u32 = 500;

/// Command line of `focus setup`.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    #[command(subcommand)]
    task: Task,
    /// How long it may take, s.
    #[arg(long, global = true, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    within_seconds: u64,
}

#[derive(clap::Subcommand, Debug, Clone)]
enum Task {
    /// Applies an AnalyzerPool (server-side) as soon as the API server knows the definition.
    Pool {
        /// The AnalyzerPool, as JSON or YAML.
        file: PathBuf,
    },
    /// Deletes every FocusJob while the operator still runs, and waits until they are gone.
    Clean {
        /// Only those of this namespace. Default: all.
        #[arg(long)]
        namespace: Option<String>,
    },
}

/// Runs one task.
///
/// # Errors
/// When it could not be done in time; the message says what stood in the way.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut config = Config::infer().await.context("finding the cluster: set KUBECONFIG, or run as a pod")?;
    config.connect_timeout = Some(ANSWER_WITHIN);
    let client = Client::try_from(config).context("making a client of the API server")?;
    let deadline = Instant::now() + Duration::from_secs(args.within_seconds);
    match args.task {
        Task::Pool { file } => {
            let text = tokio::fs::read_to_string(&file).await;
            let text = text.with_context(|| format!("reading the AnalyzerPool from {}", file.display()))?;
            let pool = serde_saphyr::from_str(&text)
                .with_context(|| format!("reading {}: it is no AnalyzerPool", file.display()))?;
            apply_pool(&client, pool, deadline).await
        }
        Task::Clean { namespace } => clean(&client, namespace.as_deref(), deadline).await,
    }
}

async fn apply_pool(client: &Client, mut pool: AnalyzerPool, deadline: Instant) -> anyhow::Result<()> {
    let (name, namespace) = (pool.name_any(), pool.namespace());
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let pools: Api<AnalyzerPool> = Api::namespaced(client.clone(), &namespace);
    pool.metadata.managed_fields = None;
    let params = PatchParams::apply("focus-setup").force();
    loop {
        let why = match timeout(ANSWER_WITHIN, pools.patch(&name, &params, &Patch::Apply(&pool))).await {
            Ok(Ok(_)) => {
                println!("applied AnalyzerPool {namespace}/{name}");
                return Ok(());
            }
            // Another try would be refused too. A definition that is not served yet answers 404.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 400 | 401 | 403 | 422) => {
                bail!("applying AnalyzerPool {namespace}/{name}: {}", status.message)
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer from the API server within {} s", ANSWER_WITHIN.as_secs()),
        };
        if Instant::now() >= deadline {
            bail!(
                "applying AnalyzerPool {namespace}/{name}: {why}; see that its definition is installed (kubectl get crd)"
            );
        }
        pause().await;
    }
}

/// Deletes all jobs. One whose finalizer no operator serves is freed in the end: its queue expires by itself.
async fn clean(client: &Client, namespace: Option<&str>, deadline: Instant) -> anyhow::Result<()> {
    let jobs: Api<FocusJob> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    // Half the time for the operator, half for us.
    let patience = deadline.saturating_duration_since(Instant::now()) / 2;
    let alone = Instant::now() + patience;
    let mut last = usize::MAX;
    loop {
        let left = list(&jobs).await?;
        if left.is_empty() {
            println!("no FocusJob is left");
            return Ok(());
        }
        if left.len() != last {
            println!("FocusJobs left: {}", left.len());
            last = left.len();
        }
        if Instant::now() >= deadline {
            let (name, namespace) = (left[0].name_any(), left[0].namespace().unwrap_or_default());
            bail!(
                "{} FocusJobs are still there, such as {namespace}/{name} with finalizers {:?}: see what holds them, \
                 and try again",
                left.len(),
                left[0].finalizers()
            );
        }
        let free = Instant::now() >= alone;
        for job in &left {
            remove(client, job, free).await?;
        }
        pause().await;
    }
}

async fn list(jobs: &Api<FocusJob>) -> anyhow::Result<Vec<FocusJob>> {
    match timeout(ANSWER_WITHIN, jobs.list(&ListParams::default().limit(PAGE))).await {
        Ok(Ok(list)) => Ok(list.items),
        // Without a definition there are no jobs.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(Vec::new()),
        Ok(Err(error)) => Err(error).context("listing FocusJobs"),
        Err(_) => {
            bail!("listing FocusJobs: no answer from the API server within {} s", ANSWER_WITHIN.as_secs())
        }
    }
}

/// Asks for the deletion of `job`; with `free`, also takes our finalizer away.
async fn remove(client: &Client, job: &FocusJob, free: bool) -> anyhow::Result<()> {
    let (name, namespace) = (job.name_any(), job.namespace().unwrap_or_default());
    let jobs: Api<FocusJob> = Api::namespaced(client.clone(), &namespace);
    let call = async {
        if job.metadata.deletion_timestamp.is_none() {
            jobs.delete(&name, &DeleteParams::default()).await?;
        } else if free && job.finalizers().iter().any(|name| name == FINALIZER) {
            let finalizers: Vec<_> = job.finalizers().iter().filter(|name| *name != FINALIZER).collect();
            let version = job.resource_version();
            let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
            jobs.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            println!("freed {namespace}/{name}, which no operator had freed");
        }
        Ok(())
    };
    match timeout(ANSWER_WITHIN, call).await {
        Ok(Ok(())) => Ok(()),
        // Gone, or changed meanwhile: the next look tells.
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(()),
        Ok(Err(error)) => Err(error).with_context(|| format!("deleting FocusJob {namespace}/{name}")),
        Err(_) => bail!("deleting FocusJob {namespace}/{name}: no answer from the API server"),
    }
}

async fn pause() {
    sleep(PAUSE.mul_f64(rand::rng().random_range(0.8..1.2))).await;
}
