//! Who reaches whom, where NetworkPolicies are enforced.

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use super::inside::{PORT, Target, listener, reaches};
use crate::common::{World, broker};

/// Whether the cluster under test enforces NetworkPolicies.
pub fn is_enforced() -> bool {
    let enforced = std::env::var("FOCUS_TEST_NETWORK_POLICIES").is_ok_and(|value| value == "enforced");
    if !enforced {
        eprintln!(
            "not looked at: whether policies are obeyed, for FOCUS_TEST_NETWORK_POLICIES is not \"enforced\""
        );
    }
    enforced
}

/// Values of a release with policies that name who may come, and where the broker is.
pub fn values() -> Value {
    let (host, _) = broker_address();
    let only = |role: &str| json!([{"podSelector": {"matchLabels": {"role": role}}}]);
    json!({
        "enabled": true, "monitoringFrom": only("scraper"), "clientsFrom": only("client"),
        "brokerTo": [{"ipBlock": {"cidr": format!("{host}/32")}}]
    })
}

/// Host and port of the broker as pods see it.
fn broker_address() -> (String, u16) {
    let url = broker::url_for_pods();
    let (_, address) = url.split_once('@').unwrap();
    let (host, port) = address.split('/').next().unwrap().split_once(':').unwrap();
    (host.to_owned(), port.parse().unwrap())
}

async fn pods(world: &World, selector: &str) -> Vec<Pod> {
    let found = world.pods().list(&ListParams::default().labels(selector)).await.unwrap();
    let stays = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
    found.items.into_iter().filter(stays).collect()
}

fn address(pod: &Pod) -> String {
    pod.status.clone().unwrap().pod_ip.unwrap()
}

/// Address and first port of a Service.
async fn service(world: &World, namespace: &str, name: &str) -> (String, u16) {
    let services: Api<Service> = Api::namespaced(world.client.clone(), namespace);
    let spec = services.get(name).await.unwrap().spec.unwrap();
    let port = u16::try_from(spec.ports.unwrap()[0].port).unwrap();
    (spec.cluster_ip.unwrap(), port)
}

/// One that looks: its pod, the container beside which it looks, what it reaches, and what is itself.
struct Looker<'a> {
    pod: String,
    beside: &'a str,
    open: &'a [&'a str],
    own: &'a str,
}

/// The release runs with two servers, and `job` has its analyzer: what is allowed works, and nothing else does.
pub async fn is_as_the_policies_say(world: &World, job: &str) {
    let operator = pods(world, "app.kubernetes.io/component=operator").await.remove(0);
    let [server, peer] = pods(world, "app.kubernetes.io/component=server").await.try_into().unwrap();
    let analyzer = pods(world, &format!("focus-operator.io/job={job}")).await.remove(0);
    let scraper = listener(world, "scraper", json!({"role": "scraper"})).await;
    for (name, labels) in [("client", json!({"role": "client"})), ("stranger", json!({}))] {
        listener(world, name, labels).await;
    }
    let (api, api_port) = service(world, "default", "kubernetes").await;
    let (front, front_port) = service(world, &world.namespace, "chart-server").await;
    let (broker, broker_port) = broker_address();
    let targets: [Target; 10] = [
        ("api", api, api_port),
        ("broker", broker, broker_port),
        ("pod", scraper, PORT),
        ("operator-admin", address(&operator), 8081),
        ("server-http", address(&server), 8080),
        ("server-grpc", address(&server), 50051),
        ("server-peers", address(&server), 8083),
        ("server-admin", address(&server), 8081),
        ("service", front, front_port),
        ("analyzer-health", address(&analyzer), 8082),
    ];
    let plain = |pod: &str, open, own| Looker { pod: pod.to_owned(), beside: "listener", open, own };
    let lookers = [
        plain("stranger", &["api", "broker", "pod"], ""),
        plain("scraper", &["api", "broker", "operator-admin", "server-admin", "analyzer-health"], "pod"),
        plain("client", &["api", "broker", "pod", "server-http", "server-grpc", "service"], ""),
        Looker {
            pod: operator.name_any(),
            beside: "operator",
            open: &["api", "broker"],
            own: "operator-admin",
        },
        Looker { pod: peer.name_any(), beside: "server", open: &["api", "broker", "server-peers"], own: "" },
        Looker { pod: analyzer.name_any(), beside: "analyzer", open: &["broker"], own: "analyzer-health" },
    ];
    futures::future::join_all(lookers.iter().map(|looker| agrees(world, looker, &targets))).await;
    for name in ["scraper", "client", "stranger"] {
        world.pods().delete(name, &DeleteParams::default()).await.unwrap();
    }
}

/// What a pod sends to its own address never leaves it, so that nobody can be asked about it.
async fn agrees(world: &World, looker: &Looker<'_>, targets: &[Target<'_>]) {
    let others: Vec<Target> = targets.iter().filter(|(name, ..)| *name != looker.own).cloned().collect();
    for (name, is_open) in reaches(world, &looker.pod, looker.beside, &others, looker.open).await {
        let expected = name == "names" || looker.open.contains(&name.as_str());
        assert_eq!(is_open, expected, "{} reaches {name}", looker.pod);
    }
}
