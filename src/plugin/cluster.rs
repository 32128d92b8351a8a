//! What the plugin reads of a cluster, each call with a deadline, and what to say when it cannot.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::time::{Instant, timeout_at};

use super::args::{Choice, Place};
use crate::api::FocusJob;

/// Most jobs that are looked at.
const MOST_JOBS: usize = 5000;
/// Jobs asked for at once.
const PAGE: u32 = 500;
/// Events asked for, of one object.
const MOST_EVENTS: u32 = 500;

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The cluster does not know FocusJobs.
    #[error(
        "{what}: the cluster at {place} does not know FocusJobs, for their definitions are not installed. Install \
         the operator (`helm install focus charts/focus-operator --namespace focus`), or the definitions alone \
         (`kubectl apply --server-side -f crds/`); see docs/install.md"
    )]
    NoDefinitions {
        /// What was done.
        what: String,
        /// The API server.
        place: String,
    },
    /// There is no such object.
    #[error("{what}: not found")]
    NotFound {
        /// What was done.
        what: String,
    },
    /// Not allowed.
    #[error("{what}: {message}; ask for the role `view` in that namespace, which may read it")]
    Forbidden {
        /// What was done.
        what: String,
        /// The API server's words.
        message: String,
    },
    /// Unknown credentials.
    #[error("{what}: the API server at {place} does not accept the credentials ({message}); log in again")]
    Unauthorized {
        /// What was done.
        what: String,
        /// The API server.
        place: String,
        /// The API server's words.
        message: String,
    },
    /// No answer in time.
    #[error(
        "{what}: the API server at {place} gave no answer within {within} s; see `kubectl cluster-info`, or give it \
         more time by --request-timeout"
    )]
    TimedOut {
        /// What was done.
        what: String,
        /// The API server.
        place: String,
        /// How long was waited, s.
        within: f64,
    },
    /// No connection.
    #[error(
        "{what}: no connection to the API server at {place}: {why}; is the cluster up, and is it the right one \
             (`kubectl config current-context`)?"
    )]
    Unreachable {
        /// What was done.
        what: String,
        /// The API server.
        place: String,
        /// Why not.
        why: String,
    },
    /// Anything else that the API server says.
    #[error("{what}: the API server refuses: {message}")]
    Refused {
        /// What was done.
        what: String,
        /// Its words.
        message: String,
    },
}

/// A cluster, and until when it may answer.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The API server's address.
    pub place: String,
    /// The namespace that is meant when none is named.
    pub namespace: String,
    /// How long all of an answer may take.
    pub within: Duration,
    deadline: Instant,
}

impl Cluster {
    /// Finds the cluster; the clock of its deadline starts now.
    ///
    /// # Errors
    /// When no cluster is configured.
    pub async fn find(place: &Place) -> anyhow::Result<Self> {
        let (within, deadline) = (place.request_timeout, Instant::now() + place.request_timeout);
        let (client, address) = place.connection.client(within).await?;
        let namespace = place.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        Ok(Self { client, place: address, namespace, within, deadline })
    }

    /// The same cluster, with a deadline that starts now.
    pub fn again(&self) -> Self {
        Self { deadline: Instant::now() + self.within, ..self.clone() }
    }

    /// The same cluster, with a deadline that is not after `latest`.
    pub fn not_after(self, latest: Instant) -> Self {
        Self { deadline: self.deadline.min(latest), ..self }
    }

    /// The outcome of `call`, if it comes before the deadline.
    ///
    /// # Errors
    /// When the call fails, or takes too long.
    pub async fn read<T>(
        &self,
        what: &str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ReadError> {
        match timeout_at(self.deadline, call).await {
            Ok(outcome) => outcome.map_err(|error| self.explain(what, &error)),
            Err(_) => Err(ReadError::TimedOut {
                what: what.to_owned(),
                place: self.place.clone(),
                within: self.within.as_secs_f64(),
            }),
        }
    }

    /// What `error` means.
    pub fn explain(&self, what: &str, error: &kube::Error) -> ReadError {
        let (what, place) = (what.to_owned(), self.place.clone());
        let kube::Error::Api(status) = error else {
            return ReadError::Unreachable { what, place, why: root_cause(error) };
        };
        let message = status.message.clone();
        // A missing object is named in the details; a missing resource has none.
        let named = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
        match status.code {
            404 if named => ReadError::NotFound { what },
            404 => ReadError::NoDefinitions { what, place },
            401 => ReadError::Unauthorized { what, place, message },
            403 => ReadError::Forbidden { what, message },
            _ => ReadError::Refused { what, message },
        }
    }

    /// The FocusJobs that may be chosen from.
    pub fn jobs(&self, choice: &Choice) -> Api<FocusJob> {
        if choice.all_namespaces {
            Api::all(self.client.clone())
        } else {
            Api::namespaced(self.client.clone(), &self.namespace)
        }
    }

    /// The chosen FocusJobs, and whether there are more: than are looked at, or than came in time.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn list(&self, choice: &Choice) -> Result<(Vec<FocusJob>, bool), ReadError> {
        let place = if choice.all_namespaces {
            "all namespaces".to_owned()
        } else {
            format!("namespace {}", self.namespace)
        };
        self.list_in(&self.jobs(choice), &place, choice.selector.as_deref(), None).await
    }

    /// The FocusJobs of this name in any namespace.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn named_anywhere(&self, name: &str) -> Result<Vec<FocusJob>, ReadError> {
        let (api, fields) = (Api::all(self.client.clone()), format!("metadata.name={name}"));
        Ok(self.list_in(&api, "all namespaces", None, Some(&fields)).await?.0)
    }

    async fn list_in(
        &self,
        api: &Api<FocusJob>,
        place: &str,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<(Vec<FocusJob>, bool), ReadError> {
        let what = format!("listing FocusJobs in {place}");
        let mut params = ListParams::default().limit(PAGE);
        params.label_selector = labels.map(str::to_owned);
        params.field_selector = fields.map(str::to_owned);
        let mut found = Vec::new();
        loop {
            let page = match self.read(&what, api.list(&params)).await {
                // Pages that came are worth showing.
                Err(ReadError::TimedOut { .. }) if !found.is_empty() => return Ok((found, true)),
                page => page?,
            };
            found.extend(page.items);
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() || found.len() >= MOST_JOBS {
                return Ok((found, params.continue_token.is_some()));
            }
        }
    }

    /// The FocusJob `name` of the namespace.
    ///
    /// # Errors
    /// When it cannot be read, or is not there.
    pub async fn job(&self, name: &str) -> Result<FocusJob, ReadError> {
        let what = format!("reading FocusJob {name} in namespace {}", self.namespace);
        let api: Api<FocusJob> = Api::namespaced(self.client.clone(), &self.namespace);
        self.read(&what, api.get(name)).await
    }

    /// The Events of the object `name` of `kind` in `namespace`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn events(&self, namespace: &str, kind: &str, name: &str) -> Result<Vec<Event>, ReadError> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let about = format!("involvedObject.kind={kind},involvedObject.name={name}");
        let params = ListParams::default().fields(&about).limit(MOST_EVENTS);
        let what = format!("listing Events in namespace {namespace}");
        Ok(self.read(&what, api.list(&params)).await?.items)
    }
}

/// The innermost cause: what is around it only says that there was a call.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// An API server that has two pages of one job each, which come at once, or are `slow`.
    fn cluster(slow: [bool; 2]) -> Cluster {
        let service = tower::service_fn(move |request: http::Request<Body>| async move {
            let second = request.uri().query().unwrap_or_default().contains("continue=");
            if slow[usize::from(second)] {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            let job = json!({
                "apiVersion": "focus-operator.io/v1alpha1", "kind": "FocusJob", "metadata": {"name": "view"},
                "spec": {"viewType": "SingleChannel", "channels": {"min": 1, "max": 1},
                         "frequencyRange": {"min": 0, "max": 500}, "nfftSelection": 1024, "displayTimeAxisDuration": 10}
            });
            let next = if second { "" } else { "next" };
            let list =
                json!({"apiVersion": "v1", "kind": "List", "metadata": {"continue": next}, "items": [job]});
            Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(list.to_string().into_bytes())))
        });
        Cluster {
            client: Client::new(service, "fibre"),
            place: "nowhere".to_owned(),
            namespace: "fibre".to_owned(),
            within: Duration::from_secs(1),
            deadline: Instant::now() + Duration::from_secs(1),
        }
    }

    #[tokio::test]
    async fn pages_that_came_in_time_are_given() {
        let choice = Choice { all_namespaces: false, selector: None };
        for (slow, jobs, more) in [([false, false], 2, false), ([false, true], 1, true)] {
            let (found, cut) = cluster(slow).list(&choice).await.unwrap();
            assert_eq!((found.len(), cut), (jobs, more), "slow: {slow:?}");
        }
        let nothing = cluster([true, true]).list(&choice).await;
        assert!(matches!(nothing, Err(ReadError::TimedOut { .. })), "{nothing:?}");
    }
}
