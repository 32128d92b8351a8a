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

    /// Notes `source`, as [`crate::api::AnalyzerSource::told`] gives it, on the job of this name and uid.
    ///
    /// # Errors
    /// Refusal, or no answer in time.
    pub async fn note_source(&self, name: &str, uid: &str, source: &str) -> Result<(), ClusterError> {
        self.annotate("noting the source on the FocusJob", name, uid, (names::SOURCE, source)).await
    }

    /// The job of this name, if it was asked for at `configured_at`: another may have taken the name.
    ///
    /// # Errors
    /// Refusal, or no answer in time.
    pub async fn made(&self, name: &str, configured_at: &str) -> Result<Option<FocusJob>, ClusterError> {
        let found = call("looking for the FocusJob", self.jobs.get_opt(name)).await?;
        Ok(found
            .filter(|job| job.annotations().get(names::CONFIGURED_AT).is_some_and(|at| at == configured_at)))
    }

    /// Deletes the job of this name if it was asked for at `configured_at`; false when there is none such.
    ///
    /// # Errors
    /// Refusal, or no answer in time.
    pub async fn undo(&self, name: &str, configured_at: &str) -> Result<bool, ClusterError> {
        let Some(job) = self.made(name, configured_at).await? else { return Ok(false) };
        self.delete(name, job.uid()).await?;
        Ok(true)
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
        let error = match call(what, self.jobs.patch(name, &params, &Patch::Merge(&patch))).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        match error.code() {
            Some(404) => Ok(()),
            // Somebody else may only have written it at the same moment.
            Some(409) => match self.get(name).await? {
                Some(job) if job.uid().as_deref() == Some(uid) => Err(error),
                _ => Ok(()),
            },
            _ => Err(error),
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

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};

    use axum::http::{Request, Response};
    use kube::client::Body;
    use serde_json::Value;

    use super::*;
    use crate::server::answer::tests::spec;

    /// The calls that a [`fake`] API server has received, such as `GET focusjobs/5-1`.
    pub type Calls = Arc<Mutex<Vec<String>>>;

    /// An API server that answers by `answer`, which is given the call and how many came before; None: never.
    pub fn fake(
        answer: impl Fn(&str, usize) -> Option<(u16, Value)> + Clone + Send + 'static,
    ) -> (Cluster, Calls) {
        let calls = Calls::default();
        let told = Arc::clone(&calls);
        let service = tower::service_fn(move |request: Request<Body>| {
            let path = request.uri().path();
            let place = path.split_once("/namespaces/fibre/").map_or(path, |(_, place)| place);
            let call = format!("{} {place}", request.method());
            let before = {
                let mut told = told.lock().expect("no panic");
                told.push(call.clone());
                told.len() - 1
            };
            let answered = answer(&call, before);
            async move {
                let Some((code, body)) = answered else { return std::future::pending().await };
                let body = if code < 300 { body } else { refusal(code) };
                let body = Body::from(body.to_string().into_bytes());
                Response::builder().status(code).body(body).map_err(std::io::Error::other)
            }
        });
        let client = Client::new(service, "fibre");
        let cluster = Cluster {
            jobs: Api::namespaced(client.clone(), "fibre"),
            pools: Api::namespaced(client.clone(), "fibre"),
            namespace: "fibre".to_owned(),
            client,
        };
        (cluster, calls)
    }

    fn refusal(code: u16) -> Value {
        let reason = if code == 404 { "NotFound" } else { "" };
        json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "m", "reason": reason, "code": code
        })
    }

    /// The job `5-1`, with this uid, asked for at this time.
    pub fn job(uid: &str, configured_at: &str) -> Value {
        let mut job = FocusJob::new("5-1", spec(8));
        job.metadata.uid = Some(uid.to_owned());
        job.metadata.namespace = Some("fibre".to_owned());
        job.annotations_mut().insert(names::CONFIGURED_AT.to_owned(), configured_at.to_owned());
        serde_json::to_value(job).expect("JSON")
    }

    #[tokio::test]
    async fn only_a_job_of_this_request_is_taken_back() {
        for (found, done, calls) in
            [(Some(job("u", "then")), true, 2), (Some(job("u", "another time")), false, 1), (None, false, 1)]
        {
            let (cluster, told) = fake(move |call, _| match (call, &found) {
                ("GET focusjobs/5-1", Some(job)) => Some((200, job.clone())),
                ("DELETE focusjobs/5-1", Some(job)) => Some((200, job.clone())),
                _ => Some((404, Value::Null)),
            });
            assert_eq!(cluster.undo("5-1", "then").await.ok(), Some(done));
            assert_eq!(told.lock().expect("no panic").len(), calls);
        }
    }

    #[tokio::test]
    async fn a_conflict_about_an_annotation_is_done_only_when_the_job_is_another() {
        let request = EndRequest { reason: "IdleTimeout".to_owned(), message: String::new(), failed: false };
        for (found, done) in [(Some("u"), false), (Some("other"), true), (None, true)] {
            let (cluster, _) = fake(move |call, _| match (call, found) {
                ("PATCH focusjobs/5-1", _) => Some((409, Value::Null)),
                (_, Some(uid)) => Some((200, job(uid, "then"))),
                (_, None) => Some((404, Value::Null)),
            });
            assert_eq!(cluster.end("5-1", "u", &request).await.is_ok(), done, "{found:?}");
        }
    }
}
