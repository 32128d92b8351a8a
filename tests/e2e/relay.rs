//! Live streams asked of a replica that has not the job's consumer, as clients in another language read them.

use focus_operator::api::names;
use focus_operator::wire::frame::Kind;
use kube::api::{DeleteParams, Patch};
use serde_json::{Value, json};

use super::replicas::two_replicas;
use super::streams::{
    analyzer, eight_channels, grpc, job_id, line, silent_pool, sum_of, the_slow_loses_alone, websocket,
};
use crate::common::broker::TestAnalyzer;
use crate::common::cut::Way;
use crate::common::process::Process;
use crate::common::python::Python;
use crate::common::{World, in_world, until};

/// Two replicas, a job whose consumer the first one has, and what publishes its lines.
async fn two(world: &World) -> (Process, Process, String, TestAnalyzer) {
    two_in(world, &[]).await
}

async fn two_in(world: &World, env: &[(&str, &str)]) -> (Process, Process, String, TestAnalyzer) {
    silent_pool(world).await;
    let (first, second) = two_replicas(world, env).await;
    let id = job_id(&first, &eight_channels()).await;
    let analyzer = analyzer(world, &id).await;
    (first, second, id, analyzer)
}

async fn publish(analyzer: &TestAnalyzer, lines: std::ops::Range<u64>) {
    for index in lines {
        analyzer.publish(Kind::Line(line(index))).await;
    }
}

#[tokio::test]
async fn a_stream_through_another_replica_is_the_same_to_its_end() {
    const LINES: u64 = 300;
    in_world("relay", |world| async move {
        let _operator = world.operator().await;
        let (first, second, id, analyzer) = two(&world).await;
        let python = Python::new();
        let (header, mut rows) = python.start("grpc_client.py", &[&grpc(&second), "slow", &id]).says().await;
        assert_eq!((&header["channels"], &header["shape"]), (&json!([1, 3]), &json!([3, 513, 0])));
        assert_eq!(header["job_id"], json!(id));
        let (metadata, lines) = python.start("websocket_client.py", &[&websocket(&second, &id)]).says().await;
        assert_eq!((&metadata["job_id"], &metadata["stream_amount"]), (&json!(id), &json!(3)));
        // They are readers of the replica that has the consumer.
        for kind in ["grpc", "websocket"] {
            let readers = format!("focus_server_stream_readers{{kind=\"{kind}\"}}");
            first.until_metric(&readers, 1.0).await;
            assert_eq!(second.metric(&readers).await, 0.0);
        }

        rows.go_on();
        publish(&analyzer, 0..LINES).await;
        for kind in ["grpc", "websocket"] {
            first
                .until_metric(&format!("focus_server_stream_lines_total{{kind=\"{kind}\"}}"), LINES as f64)
                .await;
        }
        let refused =
            python.run("grpc_client.py", &[&grpc(&second), "status", "3", &format!("job-id={id}")]).await;
        assert_eq!(refused["code"], json!("NOT_FOUND"), "{refused}");
        assert!(refused["details"].as_str().unwrap().contains("its streams are 0 to 2"), "{refused}");

        let end = json!({"reason": "Completed", "message": "the end", "failed": false}).to_string();
        let patch = json!({"metadata": {"annotations": {names::END: end}}});
        world.jobs().patch(&id, &Default::default(), &Patch::Merge(&patch)).await.unwrap();
        let (told, _) = rows.says().await;
        assert_eq!((&told["rows"], &told["lost"]), (&json!(LINES), &json!(0)), "{told}");
        let trailers =
            json!({"focus-phase": "finished", "focus-reason": "Completed", "focus-lost-rows": "0"});
        assert_eq!((&told["code"], &told["trailers"]), (&json!("OK"), &trailers), "{told}");
        let (told, _) = lines.says().await;
        assert_eq!((&told["rows"], &told["sums"]), (&json!(LINES), &json!(sum_of(LINES))), "{told}");
        assert_eq!(
            told["ended"],
            json!({"phase": "finished", "reason": "Completed", "message": "the end"}),
            "{told}"
        );
        first.until_metric("focus_server_stream_readers{kind=\"grpc\"}", 0.0).await;
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_of_another_replica_is_told_what_it_lost() {
    in_world("slowrelay", |world| async move {
        let _operator = world.operator().await;
        let (first, second, id, analyzer) = two(&world).await;
        let python = Python::new();
        let (_, slow) = python.start("grpc_client.py", &[&grpc(&second), "slow", &id]).says().await;
        let (_, fast) = python.start("websocket_client.py", &[&websocket(&second, &id)]).says().await;
        the_slow_loses_alone(&world, &first, &id, &analyzer, (fast, slow)).await;
    })
    .await;
}

#[tokio::test]
async fn when_the_owner_dies_its_relayed_readers_are_told_and_find_the_next() {
    in_world("lostowner", |world| async move {
        let _operator = world.operator().await;
        let (first, second, id, analyzer) = two(&world).await;
        let python = Python::new();
        let (_, mut rows) = python.start("grpc_client.py", &[&grpc(&second), "slow", &id, "10"]).says().await;
        let (_, lines) = python.start("websocket_client.py", &[&websocket(&second, &id), "10"]).says().await;
        rows.go_on();
        publish(&analyzer, 0..10).await;
        // What is on the way when a replica dies is lost.
        let ((has, rows), (too, lines)) = tokio::join!(rows.says(), lines.says());
        assert_eq!((has, too), (json!({"has": 10}), json!({"has": 10})));
        first.kill();
        let (told, _) = rows.says().await;
        let trailers = json!({"focus-phase": "replica", "focus-reason": "ReplicaUnreachable"});
        assert_eq!((&told["code"], &told["trailers"]), (&json!("UNAVAILABLE"), &trailers), "{told}");
        assert_eq!((&told["rows"], &told["lost"]), (&json!(10), &json!(0)), "{told}");
        let (told, _) = lines.says().await;
        assert_eq!((&told["rows"], &told["ended"]["reason"]), (&json!(10), &json!("ReplicaUnreachable")));

        // Whoever asks again at once waits for the next one.
        let again = python.start("grpc_client.py", &[&grpc(&second), "lines", &id, "3", "5"]).says();
        let asked = python.start("websocket_client.py", &[&websocket(&second, &id)]).says();
        let live = async {
            for index in 10.. {
                publish(&analyzer, index..index + 1).await;
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let ((again, _), (metadata, _)): ((Value, _), (Value, _)) = tokio::select! {
            both = async { tokio::join!(again, asked) } => both,
            () = live => unreachable!(),
        };
        for stream in again.as_array().unwrap() {
            let numbers: Vec<i64> = stream.as_array().unwrap()[1..]
                .iter()
                .map(|message| message["rows"][0].as_i64().unwrap())
                .collect();
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
        }
        assert_eq!(metadata["job_id"], json!(id));
        second.until_metric("focus_server_consumers", 1.0).await;
    })
    .await;
}

#[tokio::test]
async fn an_api_server_that_is_away_stops_no_stream() {
    in_world("away", |world| async move {
        let _operator = world.operator().await;
        let way = Way::new().await;
        let (first, second, id, analyzer) = two_in(&world, &[("KUBECONFIG", way.kubeconfig())]).await;
        let python = Python::new();
        let (_, there) = python.start("websocket_client.py", &[&websocket(&second, &id)]).says().await;
        let (_, here) = python.start("websocket_client.py", &[&websocket(&first, &id)]).says().await;
        way.cut();
        // No sign of life is good any more.
        for replica in [&first, &second] {
            until("signs of life have failed for longer than one is good", || async {
                let log = replica.log();
                let failed = log.lines().filter(|line| line.contains("giving a sign of life failed"));
                (failed.count() >= 5).then_some(())
            })
            .await;
        }
        publish(&analyzer, 0..100).await;
        first.until_metric("focus_server_stream_lines_total{kind=\"websocket\"}", 200.0).await;
        way.restore();
        world.jobs().delete(&id, &DeleteParams::default()).await.unwrap();
        for client in [there, here] {
            let (told, _) = client.says().await;
            assert_eq!((&told["rows"], &told["lost"]), (&json!(100), &json!(0)), "{told}");
            assert_eq!(told["ended"]["reason"], json!("Deleted"), "{told}");
        }
    })
    .await;
}
