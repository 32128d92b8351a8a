//! Who may do what.

use std::fmt::Debug;

use focus_operator::api::{AnalyzerPool, FocusJob};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use super::tools::kubectl;
use crate::common::objects::job;
use crate::common::{World, until};

/// Whether `who` may `verb` the `resource`, such as `pods`, `focusjobs.focus-operator.io/status` or
/// `leases.coordination.k8s.io=name`, in `namespace`.
async fn may(world: &World, who: &str, verb: &str, resource: &str, namespace: &str) -> bool {
    let (resource, name) = resource.split_once('=').unwrap_or((resource, ""));
    let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    let review: SubjectAccessReview = serde_json::from_value(json!({"spec": {"user": who, "resourceAttributes": {
        "verb": verb, "group": group, "resource": resource, "subresource": part, "name": name, "namespace": namespace
    }}}))
    .unwrap();
    let reviews: Api<SubjectAccessReview> = Api::all(world.client.clone());
    reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
}

const JOBS: &str = "focusjobs.focus-operator.io";
const STATUS: &str = "focusjobs.focus-operator.io/status";
const POOLS: &str = "analyzerpools.focus-operator.io";
const LEASES: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];
const LEASE: &str = "leases.coordination.k8s.io=chart-operator";

/// Verbs by what they may be done to.
type Rights = &'static [(&'static str, &'static [&'static str])];

/// What the operator may do where it serves jobs.
const OPERATOR: Rights = &[
    (JOBS, &["list", "watch", "patch", "delete"]),
    (STATUS, &["update"]),
    (POOLS, &["list", "watch"]),
    ("pods", &["get", "list", "watch", "create", "delete"]),
    ("events.events.k8s.io", &["create", "patch"]),
];
/// And where it is installed.
const LEADER: Rights = &[(LEASE, &["get", "list", "watch", "update"])];

/// What the server may do where its jobs are. The replicas' Leases have names that nobody knows beforehand.
const SERVER: Rights = &[
    (JOBS, &["get", "list", "watch", "create", "patch", "delete"]),
    (POOLS, &["list", "watch"]),
    ("leases.coordination.k8s.io", &LEASES),
    (LEASE, &LEASES),
];

/// The service accounts of a release may do what they need in their namespace, and nothing else; elsewhere the
/// operator may serve jobs if the release is for the whole cluster, and nobody anything else.
pub async fn are_the_least(world: &World, whole_cluster: bool) {
    let may_do: [(&str, Vec<Rights>, Rights); 3] = [
        ("operator", vec![OPERATOR, LEADER], if whole_cluster { OPERATOR } else { &[] }),
        ("server", vec![SERVER], &[]),
        ("analyzer", vec![], &[]),
    ];
    let things = [
        JOBS,
        STATUS,
        POOLS,
        LEASE,
        "leases.coordination.k8s.io",
        "pods",
        "pods/exec",
        "pods/log",
        "secrets",
        "configmaps",
        "serviceaccounts/token",
        "services",
        "nodes",
        "namespaces",
        "deployments.apps",
        "events.events.k8s.io",
        "roles.rbac.authorization.k8s.io",
        "tokenreviews.authentication.k8s.io",
        "customresourcedefinitions.apiextensions.k8s.io",
    ];
    let verbs = [
        "get",
        "list",
        "watch",
        "create",
        "update",
        "patch",
        "delete",
        "deletecollection",
        "escalate",
        "bind",
    ];
    for (account, allowed, abroad) in may_do {
        let who = format!("system:serviceaccount:{}:chart-{account}", world.namespace);
        for thing in things {
            for verb in verbs {
                let expected = allowed.iter().any(|rights| allow(rights, verb, thing));
                let here = may(world, &who, verb, thing, &world.namespace).await;
                assert_eq!(here, expected, "{account} may {verb} {thing} in its namespace");
                let elsewhere = may(world, &who, verb, thing, "kube-system").await;
                assert_eq!(
                    elsewhere,
                    allow(abroad, verb, thing),
                    "{account} may {verb} {thing} in kube-system"
                );
            }
        }
    }
}

fn allow(rights: Rights, verb: &str, thing: &str) -> bool {
    rights.iter().any(|(what, may)| *what == thing && may.contains(&verb))
}

/// Roles of the release name everything they allow, and never Secrets.
pub fn name_everything(world: &World) {
    let get =
        ["--namespace", &world.namespace, "get", "roles,clusterroles", "--output", "json", "--selector"];
    let found = kubectl(&[&get[..], &["app.kubernetes.io/instance=chart"]].concat());
    let list: Value = serde_json::from_str(&found).unwrap();
    let roles = list["items"].as_array().unwrap();
    assert!(roles.len() >= 3, "{found}");
    for role in roles {
        let rules = role["rules"].to_string();
        assert!(!rules.contains('*') && !rules.contains("secrets"), "{}: {rules}", role["metadata"]["name"]);
    }
}

/// Kubernetes' own roles: `view` reads, `edit` makes jobs and no pools, `admin` makes pools too.
pub async fn are_part_of_the_usual_roles(world: &World) {
    let namespace = &world.namespace;
    for role in ["view", "edit", "admin"] {
        let (clusterrole, user) = (format!("--clusterrole={role}"), format!("--user={namespace}-{role}"));
        kubectl(&["--namespace", namespace, "create", "rolebinding", role, &clusterrole, &user]);
    }
    // The controller manager puts the roles together in its own time.
    until("admin may make pools", || async {
        may(world, &format!("{namespace}-admin"), "create", POOLS, namespace).await.then_some(())
    })
    .await;
    for (role, verb, thing, expected) in [
        ("view", "get", JOBS, true),
        ("view", "watch", POOLS, true),
        ("view", "create", JOBS, false),
        ("view", "delete", JOBS, false),
        ("edit", "get", JOBS, true),
        ("edit", "create", JOBS, true),
        ("edit", "deletecollection", JOBS, true),
        ("edit", "list", POOLS, true),
        ("edit", "create", POOLS, false),
        ("edit", "patch", POOLS, false),
        ("edit", "delete", POOLS, false),
        ("edit", "update", STATUS, false),
        ("admin", "create", POOLS, true),
        ("admin", "create", JOBS, true),
        ("admin", "update", STATUS, false),
    ] {
        let is = may(world, &format!("{namespace}-{role}"), verb, thing, namespace).await;
        assert_eq!(is, expected, "{role} may {verb} {thing}");
    }
}

/// The API server as `user` sees it.
async fn client_of(user: &str) -> Client {
    let mut config = Config::infer().await.unwrap();
    config.auth_info.impersonate = Some(user.to_owned());
    Client::try_from(config).unwrap()
}

fn assert_forbidden<T: Debug>(answer: kube::Result<T>, what: &str) {
    assert!(matches!(&answer, Err(kube::Error::Api(status)) if status.code == 403), "{what}: {answer:?}");
}

/// After [`are_part_of_the_usual_roles`]: users with those roles try it. `edit` makes a job, `made_by_edit`, which
/// stays.
pub async fn hold_when_users_try(world: &World) {
    let namespace = &world.namespace;
    let pool = json!({
        "apiVersion": "focus-operator.io/v1alpha1", "kind": "AnalyzerPool", "metadata": {"name": "another"},
        "spec": {
            "source": {"uri": "synthetic:", "sampleRateHz": 1000.0, "channels": 8, "dxMeters": 1.0},
            "template": {"spec": {"containers": [{"name": "analyzer", "image": "none"}]}}
        }
    });
    let pool: AnalyzerPool = serde_json::from_value(pool).unwrap();
    let (post, drop, all) = (PostParams::default(), DeleteParams::default(), ListParams::default());
    let as_role = async |role: &str| {
        let client = client_of(&format!("{namespace}-{role}")).await;
        let jobs: Api<FocusJob> = Api::namespaced(client.clone(), namespace);
        let pools: Api<AnalyzerPool> = Api::namespaced(client, namespace);
        (jobs, pools)
    };
    let (jobs, pools) = as_role("edit").await;
    jobs.create(&post, &job("made-by-edit", json!({}))).await.unwrap();
    assert_forbidden(pools.create(&post, &pool).await, "edit makes a pool");
    assert_forbidden(pools.delete("default", &drop).await, "edit deletes a pool");
    let (jobs, pools) = as_role("view").await;
    assert_eq!(jobs.list(&all).await.unwrap().items.len(), 1);
    assert_eq!(pools.list(&all).await.unwrap().items.len(), 1);
    assert_forbidden(jobs.create(&post, &job("made-by-view", json!({}))).await, "view makes a job");
    assert_forbidden(jobs.delete("made-by-edit", &drop).await, "view deletes a job");
    assert_forbidden(pools.create(&post, &pool).await, "view makes a pool");
    let (_, pools) = as_role("admin").await;
    pools.create(&post, &pool).await.unwrap();
    pools.delete("another", &drop).await.unwrap();
}

/// The release's service accounts ask for what is not theirs.
pub async fn hold_when_accounts_try(world: &World) {
    let namespace = &world.namespace;
    for account in ["operator", "server", "analyzer"] {
        let client = client_of(&format!("system:serviceaccount:{namespace}:chart-{account}")).await;
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        assert_forbidden(secrets.get("broker").await, &format!("{account} reads the broker's Secret"));
        assert_forbidden(secrets.list(&ListParams::default()).await, &format!("{account} lists Secrets"));
        let jobs: Api<FocusJob> = Api::namespaced(client.clone(), "default");
        assert_forbidden(
            jobs.list(&ListParams::default()).await,
            &format!("{account} lists another namespace's jobs"),
        );
        let pods: Api<Pod> = Api::namespaced(client, "kube-system");
        assert_forbidden(
            pods.list(&ListParams::default()).await,
            &format!("{account} lists another namespace's pods"),
        );
    }
}
