//! Calls of the Kubernetes API. Each is bounded in time.

use std::time::Duration;

use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, VersionMatch};
use kube::{Client, Config, ResourceExt};
use serde_json::json;

use super::error::ApiError;
use crate::api::names::{self, EndRequest};
use crate::api::{AnalyzerPool, FocusJob};

/// Longest wait for one answer of the API server.
const CALL: Duration = Duration::from_secs(5);

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No answer in time.
    #[error("{0}: no answer from the API server within 5 s")]
    Timeout(&'static str),
    /// Refused or unreachable.
    #[error("{0}: {1}")]
    Kube(&'static str, #[source] Box<kube::Error>),
}

impl ClusterError {
    /// The status code of a refusal.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Kube(_, error) => match error.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Timeout(_) => None,
        }
    }

    /// What a client is told.
    pub fn into_api_error(self) -> ApiError {
        match &self {
            Self::Kube(_, error) => match error.as_ref() {
                kube::Error::Api(status) if matches!(status.code, 400 | 422) => {
                    ApiError::Rule(status.message.clone())
                }
                kube::Error::Api(status) => ApiError::unavailable("ApiServerRefuses", status.message.clone()),
                _ => ApiError::unavailable("ApiServerUnreachable", self.to_string()),
            },
            Self::Timeout(_) => ApiError::unavailable("ApiServerUnreachable", self.to_string()),
        }
    }
}

/// The API server, in one namespace.
#[derive(Clone)]
pub struct Cluster {
    /// FocusJobs of the namespace.
    pub jobs: Api<FocusJob>,
    /// AnalyzerPools of the namespace.
    pub pools: Api<AnalyzerPool>,
    /// The namespace.
    pub namespace: String,
    /// For everything else.
    pub client: Client,
}

impl Cluster {
    /// Reads the kubeconfig or the pod's service account.
    ///
    /// # Errors
    /// When there is neither.
    pub async fn connect(namespace: Option<String>) -> anyhow::Result<Self> {
        let mut config = Config::infer().await?;
        config.connect_timeout = Some(CALL);
        config.write_timeout = Some(CALL);
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config)?;
        Ok(Self {
            jobs: Api::namespaced(client.clone(), &namespace),
            pools: Api::namespaced(client.clone(), &namespace),
            namespace,
            client,
        })
    }

    /// Creates `job`.
    ///
    /// # Errors
    /// Refusal (its code is 409 when the name is taken), or no answer in time.
    pub async fn create(&self, job: &FocusJob) -> Result<FocusJob, ClusterError> {
        let params = PostParams { field_manager: Some("focus-server".to_owned()), ..PostParams::default() };
        call("creating the FocusJob", self.jobs.create(&params, job)).await
    }

    /// The jobs whose label [`names::KEY_LABEL`] is `label`: as they are now, or as they were at `revision`.
    ///
    /// # Errors
    /// Refusal, or no answer in time.
    pub async fn with_key(&self, label: &str, revision: Option<&str>) -> Result<Vec<FocusJob>, ClusterError> {
        let now = ListParams::default().labels(&format!("{}={label}", names::KEY_LABEL));
        let params = match revision {
            Some(revision) => now.at(revision).matching(VersionMatch::Exact),
            None => now,
        };
        Ok(call("looking for the FocusJobs of an Idempotency-Key", self.jobs.list(&params)).await?.items)
    }

    /// The job of this name, if there is one.
    ///
    /// # Errors
    /// Refusal, or no answer in time.
    pub async fn get(&self, name: &str) -> Result<Option<FocusJob>, ClusterError> {
        call("reading the FocusJob", self.jobs.get_opt(name)).await
    }

    /// Deletes the job of this name, and of this uid if one is given; false when there is none.
    ///
    /// # Errors
    /// Refusal, or no answer in time.
    pub async fn delete(&self, name: &str, uid: Option<String>) -> Result<bool, ClusterError> {
        let preconditions = uid.map(|uid| Preconditions { uid: Some(uid), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        match call("deleting the FocusJob", self.jobs.delete(name, &params)).await {
            Ok(_) => Ok(true),
            // 409: another job has taken the name.
            Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Binds the job of this name and uid to `replica` of the server.
    ///
    /// # Errors
    /// Refusal, or no answer in time.
    pub async fn bind(&self, name: &str, uid: &str, replica: &str) -> Result<(), ClusterError> {
        self.annotate("binding the FocusJob to this replica", name, uid, (names::SERVER, replica)).await
    }

    /// Deletes the job of this name if it was asked for at `configured_at`: another of its name is left alone.
    ///
    /// # Errors
    /// Refusal, or no answer in time.
    pub async fn undo(&self, name: &str, configured_at: &str) -> Result<(), ClusterError> {
        let found = call("looking for the FocusJob", self.jobs.get_opt(name)).await?;
        let ours = |job: &FocusJob| {
            job.annotations().get(names::CONFIGURED_AT).is_some_and(|at| at == configured_at)
        };
        let Some(job) = found.filter(ours) else { return Ok(()) };
        let preconditions = Preconditions { uid: job.uid(), resource_version: None };
        let params = DeleteParams::default().preconditions(preconditions);
        match call("deleting the FocusJob", self.jobs.delete(name, &params)).await {
            Err(error) if !matches!(error.code(), Some(404 | 409)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Asks the operator to end the job of this name and uid. A job that is gone, or another of its name, is left
    /// alone.
    ///
    /// # Errors
    /// Refusal, or no answer in time.
    pub async fn end(&self, name: &str, uid: &str, request: &EndRequest) -> Result<(), ClusterError> {
        let annotation = serde_json::to_string(request).unwrap_or_default();
        self.annotate("ending the FocusJob", name, uid, (names::END, &annotation)).await
    }

    /// A job that is gone, or another of its name, is left alone.
    async fn annotate(
        &self,
        what: &'static str,
        name: &str,
        uid: &str,
        (key, value): (&str, &str),
    ) -> Result<(), ClusterError> {
        // The uid makes the API server refuse, with 409, a job that only has the same name.
        let patch = json!({"metadata": {"uid": uid, "annotations": {key: value}}});
        let params = PatchParams { field_manager: Some("focus-server".to_owned()), ..PatchParams::default() };
        match call(what, self.jobs.patch(name, &params, &Patch::Merge(&patch))).await {
            Err(error) if !matches!(error.code(), Some(404 | 409)) => Err(error),
            _ => Ok(()),
        }
    }
}

/// The outcome of `future`, which is `what`, within 5 s.
///
/// # Errors
/// Refusal, or no answer in time.
pub async fn call<T>(
    what: &'static str,
    future: impl Future<Output = kube::Result<T>>,
) -> Result<T, ClusterError> {
    match tokio::time::timeout(CALL, future).await {
        Ok(result) => result.map_err(|error| ClusterError::Kube(what, Box::new(error))),
        Err(_) => Err(ClusterError::Timeout(what)),
    }
}
