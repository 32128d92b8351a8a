//! The API server, with a deadline on every call, and a label by which a run's leftovers are found.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use crate::api::names::WINDOW_LABEL;
use crate::api::{FocusJob, FocusJobSpec};
use crate::kubeconfig::Connection;

/// Label on all that a run creates: the run's name.
pub const RUN_LABEL: &str = "focus-operator.io/probe-run";
/// How long one API call may take.
const CALL: Duration = Duration::from_secs(10);

/// How many deletions are under way at once.
const DELETES_AT_ONCE: usize = 32;

/// The API server, one namespace of it, and this run's name.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// Where the jobs are.
    pub namespace: String,
    /// Value of [`RUN_LABEL`].
    pub run: String,
}

impl Cluster {
    /// Connects as `connection` says: by default by KUBECONFIG, or from within a pod.
    ///
    /// # Errors
    /// When there is no configuration or the API server does not answer.
    pub async fn connect(connection: &Connection, namespace: Option<&str>) -> anyhow::Result<(Self, String)> {
        let (client, _) = connection.client(CALL).await?;
        let version = bounded("asking the API server for its version", client.apiserver_version()).await?;
        let namespace = namespace.unwrap_or(client.default_namespace()).to_owned();
        let run = format!("r{:08x}", rand::random::<u32>());
        Ok((Self { client, namespace, run }, version.git_version))
    }

    /// Objects of one kind in the run's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Metadata with the run's label; the server makes the name from `prefix`.
    pub fn metadata(&self, prefix: &str) -> ObjectMeta {
        ObjectMeta {
            generate_name: Some(prefix.to_owned()),
            namespace: Some(self.namespace.clone()),
            labels: Some([(RUN_LABEL.to_owned(), self.run.clone())].into()),
            ..ObjectMeta::default()
        }
    }

    /// Creates a FocusJob of `spec`.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn create_job(&self, spec: &FocusJobSpec) -> anyhow::Result<FocusJob> {
        let mut job = FocusJob::new("", spec.clone());
        job.metadata = self.metadata("probe-");
        let what = format!("creating a FocusJob in namespace {}", self.namespace);
        bounded(&what, self.api().create(&PostParams::default(), &job)).await
    }

    /// Asks for the deletion of the FocusJob `name`; one that is gone is fine.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn delete_job(&self, name: &str) -> anyhow::Result<()> {
        self.delete::<FocusJob>(name).await
    }

    /// Asks for the deletion of an object; one that is gone is fine.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn delete<K>(&self, name: &str) -> anyhow::Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let (api, params) = (self.api::<K>(), DeleteParams::default());
        let what = format!("deleting {name} in namespace {}", self.namespace);
        bounded(&what, async {
            match api.delete(name, &params).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                other => other.map(|_| ()),
            }
        })
        .await
    }

    /// Deletes every FocusJob and Pod that carries the run's label and waits until they are gone.
    ///
    /// # Errors
    /// When some remain after `limit`; the message names them.
    pub async fn sweep(&self, limit: Duration) -> anyhow::Result<()> {
        let (deadline, ours) = (Instant::now() + limit, format!("{RUN_LABEL}={}", self.run));
        self.sweep_kind::<FocusJob>("FocusJobs", &ours, deadline).await?;
        self.sweep_kind::<Pod>("Pods", &ours, deadline).await
    }

    /// Deletes every FocusJob of the namespace that the Focus Server made, and waits until they are gone.
    ///
    /// # Errors
    /// When some remain after `limit`; the message names them.
    pub async fn sweep_configured(&self, limit: Duration) -> anyhow::Result<()> {
        self.sweep_kind::<FocusJob>("FocusJobs", WINDOW_LABEL, Instant::now() + limit).await
    }

    async fn sweep_kind<K>(&self, kind: &str, selector: &str, deadline: Instant) -> anyhow::Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let (api, ours) = (self.api::<K>(), ListParams::default().labels(selector));
        let what = format!("listing the run's {kind}");
        let mut left = bounded(&what, api.list_metadata(&ours)).await?.items;
        // One by one: the API server works through a collection in a single row, for minutes when it is long.
        futures::stream::iter(left.iter().map(|o| o.name_any()).collect::<Vec<_>>())
            .for_each_concurrent(DELETES_AT_ONCE, |name| async move {
                if let Err(error) = self.delete::<K>(&name).await {
                    tracing::warn!("{error:#}");
                }
            })
            .await;
        while !left.is_empty() {
            if Instant::now() > deadline {
                let names: Vec<_> = left.iter().take(5).map(|o| o.name_any()).collect();
                bail!(
                    "{} {kind} of the run are still there, such as {}: their finalizer waits for the operator; \
                     see that it runs, then kubectl delete -n {} -l {selector}",
                    left.len(),
                    names.join(", "),
                    self.namespace
                );
            }
            sleep(Duration::from_millis(100)).await;
            // An API server that is still busy with the load is asked again.
            match bounded(&what, api.list_metadata(&ours)).await {
                Ok(found) => left = found.items,
                Err(error) => tracing::warn!("{error:#}"),
            }
        }
        Ok(())
    }
}

/// `call` with a deadline; errors say `what` was tried.
///
/// # Errors
/// When the call fails, or takes longer than 10 s.
pub async fn bounded<T>(what: &str, call: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
    match timeout(CALL, call).await {
        Ok(answer) => answer.with_context(|| what.to_owned()),
        Err(_) => bail!("{what}: the API server gave no answer within {} s", CALL.as_secs()),
    }
}
