//! What is wrong with operators.

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::common::objects::{idle_pool, job};
use crate::common::process::Process;
use crate::common::{World, broker, from_env, in_world};
use crate::{fires, operator, prometheus};

/// Nobody listens there.
const REFUSED: &str = "amqp://guest:guest@127.0.0.1:1/%2f";

#[tokio::test]
async fn an_operator_without_its_broker_pages_and_its_jobs_are_stuck() {
    in_world("no-broker", |world| async move {
        idle_pool(&world).await;
        let cut_off = world.operator_with(REFUSED).await;
        world.create(job("view", json!({}))).await;
        let prometheus = prometheus(&[operator(&world, &cut_off)]).await;
        let page = [("severity", "page"), ("namespace", world.namespace.as_str()), ("pod", "operator-0")];
        let told = fires(&prometheus, "FocusOperatorBrokerDisconnected", &page).await;
        assert!(
            told.annotations["description"].contains(&format!("{}/operator-0", world.namespace)),
            "{told:?}"
        );
        fires(&prometheus, "FocusJobsStuck", &[("phase", "queue"), ("severity", "ticket")]).await;
        // The pod is made all the same, and no node takes it.
        fires(&prometheus, "FocusAnalyzersBlocked", &[("reason", "Unschedulable")]).await;
    })
    .await;
}

/// An operator that stands for election in the namespace of `world`.
async fn candidate(world: &World) -> Process {
    let operator = Process::start(
        &["operator", "--namespace", &world.namespace, "--admin-addr", "127.0.0.1:{port}", "--leader-elect"],
        &[("FOCUS_BROKER_URL", &broker::url()), ("FOCUS_LEASE_NAMESPACE", &world.namespace)],
    );
    operator.until_ready().await;
    operator
}

#[tokio::test]
async fn operators_without_a_leader_page_and_so_does_their_absence() {
    in_world("no-leader", |world| async move {
        // Somebody holds the Lease and promises to be there for an hour.
        let held: Lease = serde_json::from_value(json!({
            "metadata": {"name": "focus-operator"},
            "spec": {"holderIdentity": "nobody", "leaseDurationSeconds": 3600}
        }))
        .unwrap();
        let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.namespace);
        leases.create(&PostParams::default(), &held).await.unwrap();
        let candidate = candidate(&world).await;
        let prometheus = prometheus(&[operator(&world, &candidate)]).await;
        fires(&prometheus, "FocusNoLeader", &[("severity", "page"), ("namespace", world.namespace.as_str())])
            .await;
        assert_eq!(candidate.terminate().await, Some(0));
        fires(
            &prometheus,
            "FocusOperatorAbsent",
            &[("severity", "page"), ("namespace", world.namespace.as_str())],
        )
        .await;
        fires(&prometheus, "FocusOperatorDown", &[("severity", "ticket"), ("pod", "operator-0")]).await;
        // Who is not there does not lead, and it is the absence that tells.
        prometheus.until_quiet("FocusNoLeader").await;
        // Nor does it come to an end when the pod is no longer known at all.
        prometheus.set_targets(&[]);
        prometheus.until_quiet("FocusOperatorDown").await;
        fires(&prometheus, "FocusOperatorAbsent", &[("namespace", world.namespace.as_str())]).await;
    })
    .await;
}

/// A user of the broker who may do everything with the jobs' queues and nothing else.
struct PoorUser {
    name: String,
    url: String,
}

impl PoorUser {
    fn new() -> Self {
        let name = format!("poor-{:08x}", rand::random::<u32>());
        let (_, host) =
            broker::url().rsplit_once('@').map(|(user, host)| (user.to_owned(), host.to_owned())).unwrap();
        let url = format!("amqp://{name}:{name}@{host}");
        rabbitmqctl(&["add_user", &name, &name]);
        rabbitmqctl(&["set_permissions", &name, r"focus\..*", r"focus\..*", r"focus\..*"]);
        Self { name, url }
    }
}

impl Drop for PoorUser {
    fn drop(&mut self) {
        rabbitmqctl(&["delete_user", &self.name]);
    }
}

fn rabbitmqctl(args: &[&str]) {
    let command = from_env("FOCUS_TEST_BROKER_COMMAND");
    let done = std::process::Command::new(command).arg("ctl").arg("-q").args(args).output().unwrap();
    assert!(done.status.success(), "rabbitmqctl {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn an_operator_that_may_not_read_the_broker_s_events_polls_and_says_so() {
    if std::env::var_os("FOCUS_TEST_BROKER_COMMAND").is_none() {
        println!("skipped: the broker's users are not ours (FOCUS_TEST_BROKER_COMMAND is not set)");
        return;
    }
    in_world("polling", |world| async move {
        let user = PoorUser::new();
        let poor = world.operator_with(&user.url).await;
        poor.until_ready().await;
        let prometheus = prometheus(&[operator(&world, &poor)]).await;
        let ticket =
            [("severity", "ticket"), ("component", "operator"), ("namespace", world.namespace.as_str())];
        fires(&prometheus, "FocusConsumerDetectionPolling", &ticket).await;
        // It is connected, after all.
        prometheus.until_quiet("FocusOperatorBrokerDisconnected").await;
    })
    .await;
}
