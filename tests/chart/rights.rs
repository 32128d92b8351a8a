//! Who may do what.

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::tools::kubectl;
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
const LEASES: &str = "leases.coordination.k8s.io";
const LEASE: &str = "leases.coordination.k8s.io=chart-operator";
const REPLICAS: &str = "leases.coordination.k8s.io=focus-server-replicas";
const WINDOW: &str = "leases.coordination.k8s.io=focus-window-29";
const NO_WINDOW: &str = "leases.coordination.k8s.io=focus-window-30";

/// Verbs by what they may be done to.
type Rights = &'static [(&'static str, &'static [&'static str])];

/// The service accounts of a release in one namespace may do what they need there, and nothing else or elsewhere.
pub async fn are_the_least(world: &World) {
    let may_do: [(&str, Rights); 3] = [
        (
            "operator",
            &[
                (JOBS, &["list", "watch", "patch", "delete"]),
                (STATUS, &["update"]),
                (POOLS, &["list", "watch"]),
                ("pods", &["get", "list", "watch", "create", "delete"]),
                ("events.events.k8s.io", &["create", "patch"]),
                (LEASE, &["get", "list", "watch", "update"]),
            ],
        ),
        (
            "server",
            &[
                (JOBS, &["get", "list", "watch", "create", "patch", "delete"]),
                (POOLS, &["list", "watch"]),
                // RBAC does not look at the name of what is made.
                (LEASES, &["create"]),
                (LEASE, &["create"]),
                (REPLICAS, &["create", "list", "watch", "patch"]),
                (WINDOW, &["create", "get", "update"]),
                (NO_WINDOW, &["create"]),
            ],
        ),
        ("analyzer", &[]),
    ];
    let things = [
        JOBS,
        STATUS,
        POOLS,
        LEASES,
        LEASE,
        REPLICAS,
        WINDOW,
        NO_WINDOW,
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
    for (account, allowed) in may_do {
        let who = format!("system:serviceaccount:{}:chart-{account}", world.namespace);
        for thing in things {
            for verb in verbs {
                let expected = allowed.iter().any(|(what, may)| *what == thing && may.contains(&verb));
                let here = may(world, &who, verb, thing, &world.namespace).await;
                assert_eq!(here, expected, "{account} may {verb} {thing} in its namespace");
                let elsewhere = may(world, &who, verb, thing, "kube-system").await;
                assert!(!elsewhere, "{account} may {verb} {thing} in kube-system");
            }
        }
    }
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
