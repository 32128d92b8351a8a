//! Does what a plan says, and writes the status. Every call is bounded in time and counted.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::error::Error;
use super::memory::Memory;
use super::metrics::{
    CREATE_POD, Call, DELETE_JOB, DELETE_POD, GET_POD, Metrics, Outcome, PATCH_JOB, UPDATE_STATUS,
};
use super::plan::Action;
use super::pod;
use crate::api::names::{self, FINALIZER};
use crate::api::{FocusJob, FocusJobStatus};
use crate::broker::follow::BrokerHandle;
use crate::telemetry::traces::JobTrace;

/// How long the API server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The hands of the operator.
#[derive(Clone)]
pub struct Writer {
    /// The API server.
    pub client: Client,
    /// The broker.
    pub broker: BrokerHandle<ObjectRef<FocusJob>>,
    /// Where our writes are remembered.
    pub memory: Memory,
    /// Where they are counted.
    pub metrics: Metrics,
}

impl Writer {
    /// Does `actions`, all at the same time; but the finalizer, and with it the job, goes only when all else has
    /// been done.
    ///
    /// # Errors
    /// The first that failed; the others were done all the same.
    pub async fn apply(&self, job: &FocusJob, actions: Vec<Action>) -> Result<(), Error> {
        let last = |action: &Action| matches!(action, Action::RemoveFinalizer | Action::DeleteJob);
        let (last, first): (Vec<_>, Vec<_>) = actions.into_iter().partition(last);
        let done = join_all(first.into_iter().map(|action| self.act(job, action))).await;
        done.into_iter().collect::<Result<Vec<()>, Error>>()?;
        for action in last {
            self.act(job, action).await?;
        }
        Ok(())
    }

    async fn act(&self, job: &FocusJob, action: Action) -> Result<(), Error> {
        match action {
            Action::AddFinalizer => self.add_finalizer(job).await,
            Action::RemoveFinalizer => self.remove_finalizer(job).await,
            Action::CreatePod(pod) => self.create_pod(job, *pod).await,
            Action::DeletePod { name, uid } => self.delete_pod(job, &name, uid).await,
            Action::DeleteJob => self.delete_job(job).await,
            Action::EnsureQueue => {
                let queue = names::queue_name(job);
                self.broker.track(&queue, ObjectRef::from_obj(job));
                let asked = self.broker.ensure(&queue, job.spec.queue.type_).await;
                asked.map_err(|source| Error::Queue { job: key(job), source })
            }
            Action::DeleteQueue => {
                let asked = self.broker.delete(&names::queue_name(job)).await;
                asked.map_err(|source| Error::Queue { job: key(job), source })
            }
        }
    }

    async fn add_finalizer(&self, job: &FocusJob) -> Result<(), Error> {
        // The resourceVersion keeps another's finalizer from being overwritten.
        let mut finalizers = job.finalizers().to_vec();
        finalizers.push(FINALIZER.to_owned());
        self.patch_finalizers(job, "adding the finalizer", finalizers).await
    }

    async fn remove_finalizer(&self, job: &FocusJob) -> Result<(), Error> {
        let finalizers = job.finalizers().iter().filter(|name| *name != FINALIZER).cloned().collect();
        self.broker.untrack(&names::queue_name(job));
        match self.patch_finalizers(job, "removing the finalizer", finalizers).await {
            Err(Error::Api { source, .. }) if is_status(&source, 404) => Ok(()),
            done => done,
        }
    }

    async fn patch_finalizers(
        &self,
        job: &FocusJob,
        doing: &'static str,
        finalizers: Vec<String>,
    ) -> Result<(), Error> {
        let patch =
            json!({"metadata": {"resourceVersion": job.resource_version(), "finalizers": finalizers}});
        let (api, name, params) = (self.jobs(job), job.name_any(), PatchParams::default());
        let patch = Patch::Merge(&patch);
        let patched = self.call(job, doing, PATCH_JOB, api.patch(&name, &params, &patch)).await?;
        self.remember(patched);
        Ok(())
    }

    async fn create_pod(&self, job: &FocusJob, mut pod: Pod) -> Result<(), Error> {
        pod::set_environment(&mut pod, JobTrace::of(job).environment());
        let (api, params) = (self.pods(job), PostParams::default());
        let create = api.create(&params, &pod);
        let created = self.call(job, "creating the analyzer pod", CREATE_POD, create).await;
        let refused = created.as_ref().err().and_then(Error::refusal);
        self.memory.update(&uid(job), |memory| memory.refused = refused);
        match created {
            Ok(created) => {
                self.show(job, Some(created));
                Ok(())
            }
            // It is there already: ours, and the watch brings it; or another's, which the next look finds.
            Err(Error::Conflict { .. }) => self.find_existing(job, &pod.name_any()).await,
            Err(error) => Err(error),
        }
    }

    async fn find_existing(&self, job: &FocusJob, name: &str) -> Result<(), Error> {
        let (api, doing) = (self.pods(job), "looking at the pod that is in the way");
        let found = self.call(job, doing, GET_POD, api.get_opt(name)).await?;
        self.show(job, found);
        Ok(())
    }

    /// Remembers what the API server has just shown us, until the watch brings it.
    fn show(&self, job: &FocusJob, pod: Option<Pod>) {
        let now = Timestamp::now();
        self.memory.update(&uid(job), |memory| memory.shown = pod.map(|pod| (Arc::new(pod), now)));
    }

    async fn delete_pod(&self, job: &FocusJob, name: &str, uid: String) -> Result<(), Error> {
        let preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
        // An analyzer has nothing to finish: its lines are of the moment.
        let params = DeleteParams { preconditions, grace_period_seconds: Some(1), ..DeleteParams::default() };
        let api = self.pods(job);
        let deleted =
            self.call(job, "deleting the analyzer pod", DELETE_POD, api.delete(name, &params)).await;
        match deleted {
            // It is gone, or another has taken its name.
            Err(Error::Conflict { .. }) => Ok(()),
            Err(Error::Api { source, .. }) if is_status(&source, 404) => Ok(()),
            other => other.map(drop),
        }?;
        self.show(job, None);
        Ok(())
    }

    async fn delete_job(&self, job: &FocusJob) -> Result<(), Error> {
        let preconditions = Some(Preconditions { uid: job.uid(), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        let (api, name) = (self.jobs(job), job.name_any());
        match self.call(job, "deleting the finished job", DELETE_JOB, api.delete(&name, &params)).await {
            Err(Error::Api { source, .. }) if is_status(&source, 404) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Writes `status`. A newer version of the job than the one looked at makes a conflict.
    ///
    /// # Errors
    /// When the API server refuses, is away, or knows a newer version.
    pub async fn write_status(&self, job: &FocusJob, status: FocusJobStatus) -> Result<(), Error> {
        let mut updated = job.clone();
        updated.status = Some(status);
        // The finalizer may have been added a moment ago: that write's version is the one to build on.
        let latest = self.memory.freshest(&Arc::new(job.clone()));
        updated.metadata = latest.metadata.clone();
        let (api, name, params) = (self.jobs(job), job.name_any(), PostParams::default());
        let call = api.replace_status(&name, &params, &updated);
        let written = self.call(job, "writing the status", UPDATE_STATUS, call).await?;
        self.remember(written);
        Ok(())
    }

    fn remember(&self, mut written: FocusJob) {
        written.metadata.managed_fields = None;
        let uid = uid(&written);
        self.memory.update(&uid, |memory| memory.written = Some(Arc::new(written)));
    }

    /// Makes one call, within its time, and counts it.
    async fn call<T>(
        &self,
        job: &FocusJob,
        doing: &'static str,
        call: Call,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        let begun = self.metrics.api.begun(call);
        let answer = tokio::time::timeout(ANSWER_WITHIN, request).await;
        self.metrics.api.ended(call, begun, Outcome::of(answer.as_ref().ok()));
        outcome(job, doing, answer)
    }

    fn jobs(&self, job: &FocusJob) -> Api<FocusJob> {
        Api::namespaced(self.client.clone(), &job.namespace().unwrap_or_default())
    }

    fn pods(&self, job: &FocusJob) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &job.namespace().unwrap_or_default())
    }
}

fn outcome<T>(
    job: &FocusJob,
    doing: &'static str,
    answer: Result<kube::Result<T>, tokio::time::error::Elapsed>,
) -> Result<T, Error> {
    match answer {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if is_status(&error, 409) => Err(Error::Conflict { doing, job: key(job) }),
        Ok(Err(error)) => Err(Error::Api { doing, job: key(job), source: Box::new(error) }),
        Err(_) => Err(Error::ApiTimeout { doing, job: key(job), seconds: ANSWER_WITHIN.as_secs() }),
    }
}

fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

fn uid(job: &FocusJob) -> String {
    job.meta().uid.clone().unwrap_or_default()
}

/// `namespace/name`, for messages.
pub fn key(job: &FocusJob) -> String {
    format!("{}/{}", job.namespace().unwrap_or_default(), job.name_any())
}
