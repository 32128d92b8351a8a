//! The chart's alerts in a real Prometheus, provoked on the real cluster and the real broker. Every duration of the
//! rules is divided by [`FACTOR`] (see `common/rules.rs`): what takes a minute takes a second here.

#![allow(clippy::unwrap_used)]

mod common;
mod alerts {
    pub mod jobs;
    pub mod operators;
    pub mod servers;
}

use std::time::Duration;

use common::process::Process;
use common::prometheus::{Alert, Prometheus, Target};
use common::rules::{Rules, shorten_expression};
use common::{World, until};
use serde_json::{Value, json};

const FACTOR: u64 = 60;

/// A Prometheus with all of the chart's rules.
pub(crate) async fn prometheus(targets: &[Target]) -> Prometheus {
    Prometheus::start(targets, &Rules::of_chart().shortened(FACTOR)).await
}

pub(crate) fn operator(world: &World, process: &Process) -> Target {
    Target::of(process, "operator", &world.namespace, "operator-0")
}

pub(crate) fn server(world: &World, process: &Process) -> Target {
    Target::of(process, "server", &world.namespace, "server-0")
}

/// Waits until the alert `name` fires with `labels`, and looks at what it says of itself.
pub(crate) async fn fires(prometheus: &Prometheus, name: &str, labels: &[(&str, &str)]) -> Alert {
    speaks_well(name, prometheus.until_firing_with(name, labels).await)
}

/// The same of what fires only for a moment after its cause: `cause` is done every two seconds until then.
pub(crate) async fn fires_while<F: Future<Output = ()>>(
    prometheus: &Prometheus,
    name: &str,
    labels: &[(&str, &str)],
    cause: impl Fn() -> F,
) -> Alert {
    let alert = until(&format!("{name} fires with {labels:?}"), || async {
        cause().await;
        tokio::time::timeout(Duration::from_secs(2), prometheus.until_firing_with(name, labels)).await.ok()
    })
    .await;
    speaks_well(name, alert)
}

fn speaks_well(name: &str, alert: Alert) -> Alert {
    assert!(alert.annotations["runbook_url"].ends_with(&format!("/{name}.md")), "{alert:?}");
    for text in alert.annotations.values() {
        assert!(
            !text.contains("<no value>") && !text.contains("{{") && !text.contains("<error"),
            "{alert:?}"
        );
    }
    alert
}

/// Configures a view; gives the status of the answer and its body.
pub(crate) async fn configure(server: &Process) -> (u16, Value) {
    let request = json!({
        "displayTimeAxisDuration": 10, "nfftSelection": 1024, "channels": {"min": 1, "max": 8},
        "frequencyRange": {"min": 0, "max": 500}, "view_type": "MULTICHANNEL"
    });
    let url = server.url("/focus-server/configure");
    let answer = reqwest::Client::new().post(url).json(&request).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[test]
fn durations_alone_are_divided() {
    let expression =
        "sum by (pod) (rate(x_5m{le=\"0.05\"}[5m] offset 1h)) > 60 and max_over_time(y[1h30m:1m]) > 2";
    let shortened = "sum by (pod) (rate(x_5m{le=\"0.05\"}[5000ms] offset 60000ms)) > 60 and max_over_time(y[90000ms:1000ms]) > 2";
    assert_eq!(shorten_expression(expression, 60), shortened);
}
