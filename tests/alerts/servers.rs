//! What is wrong with Focus Servers, and what is not.

use focus_operator::api::conditions::READY;
use focus_operator::api::names::queue_name;

use crate::common::objects::{default_pool, idle_pool};
use crate::common::process::Process;
use crate::common::prometheus::Target;
use crate::common::{in_world, until};
use crate::{configure, fires, operator, prometheus, server};

#[tokio::test]
async fn when_all_is_well_nothing_fires() {
    in_world("well", |world| async move {
        default_pool(&world).await;
        let (one, two) = (world.operator().await, world.server().await);
        let targets = [operator(&world, &one), server(&world, &two)];
        let prometheus = prometheus(&targets).await;
        let (status, answer) = configure(&two).await;
        assert_eq!(status, 200, "{answer}");
        let id = answer["job_id"].as_str().unwrap();
        let ready = world.until_condition(id, READY, true).await;
        let pod = ready.status.unwrap().analyzer.unwrap().pod_name;
        let address = world.pods().get(&pod).await.unwrap().status.unwrap().pod_ip.unwrap();
        let analyzer = Target::new("analyzer", &format!("{address}:8082"), &world.namespace, &pod);
        let targets = [&targets[..], &[analyzer]].concat();
        prometheus.set_targets(&targets);
        prometheus.until_up(&targets).await;
        // Longer than nearly every alert needs; as scrapes, for they are what is evaluated.
        until("twelve seconds of scrapes", || async {
            let scrapes = prometheus.value("min(count_over_time(up[1h]))").await?;
            (scrapes >= 24.0).then_some(())
        })
        .await;
        // At any time of these, but for what a busy machine alone brings about: lines that come late are given up.
        let fired = prometheus.query(r#"max_over_time(ALERTS{alertstate="firing"}[12s])"#).await;
        let of_load = ["FocusAnalyzerLinesDropped", "FocusServerLinesDropped"];
        let others: Vec<_> =
            fired.iter().filter(|alert| !of_load.contains(&alert.labels["alertname"].as_str())).collect();
        assert!(others.is_empty(), "{others:#?}");
        let lines = prometheus.value("sum(focus_server_lines_total)").await;
        assert!(lines.is_some_and(|lines| lines > 0.0), "nothing was at work: {lines:?}");
    })
    .await;
}

#[tokio::test]
async fn a_full_server_and_one_that_loses_lines_are_told_of() {
    in_world("full", |world| async move {
        idle_pool(&world).await;
        let (one, two) = (world.operator().await, world.server_with(&["--windows", "1"]).await);
        let prometheus = prometheus(&[operator(&world, &one), server(&world, &two)]).await;
        let (status, answer) = configure(&two).await;
        assert_eq!(status, 200, "{answer}");
        let here = ("namespace", world.namespace.as_str());
        fires(&prometheus, "FocusWindowsExhausted", &[here, ("severity", "page")]).await;
        assert_eq!(configure(&two).await.0, 429);
        // An analyzer whose messages are none.
        let object = world.job(answer["job_id"].as_str().unwrap()).await;
        let analyzer = world.broker.analyzer(&queue_name(&object)).await;
        let lost = [here, ("reason", "malformed"), ("component", "server")];
        until("lines are lost for so long that it is told", || async {
            analyzer.publish_rubbish().await;
            prometheus.is_firing("FocusServerLinesDropped", &lost).await.then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_reaches_neither_broker_nor_database_pages_and_so_does_its_absence() {
    in_world("cut-off", |world| async move {
        let http = ["server", "--namespace", &world.namespace, "--listen", "127.0.0.1:{port}"];
        let others = ["--grpc-listen", "127.0.0.1:{grpc_port}", "--mongodb-uri", "mongodb://127.0.0.1:1/"];
        let refused = [("FOCUS_BROKER_URL", "amqp://guest:guest@127.0.0.1:1/%2f")];
        let cut_off = Process::start(&[&http[..], &others[..]].concat(), &refused);
        until("its metrics are there", || async {
            reqwest::get(cut_off.url("/metrics")).await.ok().map(drop)
        })
        .await;
        let prometheus = prometheus(&[server(&world, &cut_off)]).await;
        let page = [("severity", "page"), ("namespace", world.namespace.as_str()), ("pod", "server-0")];
        fires(&prometheus, "FocusServerBrokerDisconnected", &page).await;
        fires(&prometheus, "FocusJobStoreUnreachable", &page).await;
        cut_off.kill();
        fires(
            &prometheus,
            "FocusServerAbsent",
            &[("severity", "page"), ("namespace", world.namespace.as_str())],
        )
        .await;
        fires(&prometheus, "FocusServerDown", &[("severity", "ticket"), ("pod", "server-0")]).await;
    })
    .await;
}
