//! Dashboards and alerts on a real Prometheus, which scrapes the real operator, server and analyzers under load: every
//! query gives what its panel needs, every selector of a rule selects something, and every metric is used somewhere.

#![allow(clippy::unwrap_used)]

mod common;
mod monitoring {
    pub mod dashboards;
    pub mod load;
    pub mod mentions;
    pub mod promql;
}

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::prometheus::Prometheus;
use common::rules::Rules;
use common::{PATIENCE, in_world, until};
use monitoring::dashboards::{Query, queries};
use monitoring::load::System;
use monitoring::{mentions, promql};

/// What has no data in this test, and why.
const WITHOUT_DATA: [(&str, &str); 1] =
    [("Focus: server and streams / Certificate ends A", "the server under test has no certificate")];

/// The rules' windows are divided by this: jobs that came within the last seconds are all that there is.
const SHORTER: u64 = 60;

#[tokio::test]
async fn every_query_gives_what_its_panel_needs_and_every_metric_is_used() {
    in_world("monitoring", |world| async move {
        let mut system = System::start(world.clone()).await;
        let mut targets = system.targets();
        let since = now();
        let prometheus = Prometheus::start(&targets, &Rules::of_chart().shortened(SHORTER)).await;
        targets.extend(system.load().await);
        prometheus.set_targets(&targets);
        prometheus.until_up(&targets).await;
        every_panel_has_data(&prometheus, &world.namespace, since).await;
        every_rule_has_what_it_selects(&prometheus).await;
        mentions::of_every_metric(&prometheus).await;
    })
    .await;
}

async fn every_panel_has_data(prometheus: &Prometheus, namespace: &str, since: f64) {
    let started = Instant::now();
    let mut missing: Vec<(Query, String)> =
        queries().into_iter().map(|query| (query, "not asked yet".to_owned())).collect();
    let excused = |query: &Query| WITHOUT_DATA.iter().any(|(place, _)| query.place == *place);
    while missing.iter().any(|(query, _)| !excused(query)) {
        let told: Vec<_> = missing.iter().map(|(query, why)| format!("{}: {why}", query.place)).collect();
        assert!(started.elapsed() < PATIENCE, "these panels would be empty or wrong:\n{}", told.join("\n"));
        let mut still = Vec::new();
        for (query, _) in missing {
            if let Some(why) = misses(prometheus, &query, namespace, since).await {
                still.push((query, why));
            }
        }
        missing = still;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for (place, why) in WITHOUT_DATA {
        assert!(missing.iter().any(|(query, _)| query.place == place), "{place} has data, although {why}");
    }
}

/// Why the panel of `query` could not show what Prometheus answers; None: it can.
async fn misses(prometheus: &Prometheus, query: &Query, namespace: &str, since: f64) -> Option<String> {
    let now = now();
    let expr = query.resolved(namespace, &format!("{:.0}s", (now - since).ceil()));
    let start = if query.instant { now } else { since };
    match prometheus.query_range(&expr, start, now, 1.0).await {
        Ok(answer) => query.misses(&answer).map(|why| format!("{why}: {expr}")),
        Err(why) => panic!("{}: {why}: {expr}", query.place),
    }
}

/// A rule that is silent may be silent because it looks at nothing: each of its selectors must select something.
async fn every_rule_has_what_it_selects(prometheus: &Prometheus) {
    let rules = until("every rule has been evaluated", || async {
        let groups = prometheus.rules().await;
        let rules =
            groups.as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap().clone());
        let rules: Vec<_> = rules.collect();
        rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules)
    })
    .await;
    assert!(!rules.is_empty());
    for rule in rules {
        let (name, expr) = (&rule["name"], rule["query"].as_str().unwrap());
        assert_eq!(rule["health"], "ok", "{name}: {}", rule["lastError"]);
        for selector in promql::selectors(expr) {
            let found = prometheus.query(&format!("last_over_time({selector}[1h])")).await;
            assert!(!found.is_empty(), "{name} looks at {selector}, of which there is nothing: {expr}");
        }
    }
}

/// The time, as Prometheus counts it: s since the Unix epoch.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}
