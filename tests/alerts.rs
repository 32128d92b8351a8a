//! The chart's alerts in a real Prometheus, provoked on the real cluster and the real broker.

#![allow(clippy::unwrap_used)]

mod common;

use common::in_world;
use common::prometheus::{Prometheus, Target};
use common::rules::{Rules, shorten_expression};

#[tokio::test]
async fn the_operator_is_scraped() {
    in_world("prometheus", |world| async move {
        let operator = world.operator().await;
        let target = Target::of(&operator, "operator", &world.namespace, "operator-0");
        let prometheus = Prometheus::start(&[target], &Rules::none()).await;
        assert_eq!(prometheus.value("focus_broker_connected{job=\"focus-operator\"}").await, Some(1.0));
        assert!(prometheus.firing().await.is_empty());
    })
    .await;
}

#[test]
fn durations_alone_are_divided() {
    let expression =
        "sum by (pod) (rate(x_5m{le=\"0.05\"}[5m] offset 1h)) > 60 and max_over_time(y[1h30m:1m]) > 2";
    let shortened = "sum by (pod) (rate(x_5m{le=\"0.05\"}[5000ms] offset 60000ms)) > 60 and max_over_time(y[90000ms:1000ms]) > 2";
    assert_eq!(shorten_expression(expression, 60), shortened);
}
