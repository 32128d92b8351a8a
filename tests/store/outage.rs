//! The database goes away and comes back.

use std::time::{Duration, Instant};

use focus_operator::api::conditions::{FINISHED, READY};
use reqwest::StatusCode;
use serde_json::json;

use super::database::{TestDatabase, command, states};
use super::record::{configure, configured, end};
use crate::common::objects::default_pool;
use crate::common::{in_world, until};

pub async fn a_wrong_password_is_told_and_not_shown() {
    in_world("password", |world| async move {
        let database = TestDatabase::new().await;
        default_pool(&world).await;
        let url = database.url.replacen("mongodb://", "mongodb://somebody:hunter2@", 1);
        let server = database.server_at(&world, &url);
        server.until_ready().await;
        until("the server has tried", || async { server.log().contains("not reached").then_some(()) }).await;
        let (status, answer) = configure(&server).await;
        assert_eq!(
            (status, &answer["reason"]),
            (StatusCode::SERVICE_UNAVAILABLE, &json!("StoreUnavailable"))
        );
        let told = format!("{answer}\n{}", server.log());
        assert!(!told.contains("hunter2"), "{told}");
        assert!(world.jobs().list(&Default::default()).await.unwrap().items.is_empty());
        database.drop().await;
    })
    .await;
}

/// Neither of the address as it is given nor of one that is read from a file.
pub async fn no_log_of_any_level_shows_the_password() {
    in_world("traced", |world| async move {
        let database = TestDatabase::new().await;
        default_pool(&world).await;
        let url = database.url.replacen("mongodb://", "mongodb://somebody:hunter2hunter2@", 1);
        let file = std::env::temp_dir().join(format!("focus-mongodb-uri-{:08x}", rand::random::<u32>()));
        std::fs::write(&file, &url).unwrap();
        let path = file.to_str().unwrap();
        let trace = ("FOCUS_LOG", "trace");
        for (given, more) in
            [(url.as_str(), [trace].as_slice()), ("", &[trace, ("FOCUS_MONGODB_URI_FILE", path)])]
        {
            let server = database.server_in(&world, given, more);
            server.until_ready().await;
            until("the server has tried", || async { server.log().contains("not reached").then_some(()) })
                .await;
            assert_eq!(configure(&server).await.0, StatusCode::SERVICE_UNAVAILABLE);
            let log = server.log();
            assert!(log.contains("TRACE"), "the server did not log everything");
            let line = log.lines().find(|line| line.contains("hunter2hunter2"));
            assert!(line.is_none(), "the server has logged the database's password: {line:?}");
        }
        std::fs::remove_file(&file).unwrap();
        database.drop().await;
    })
    .await;
}

pub async fn without_the_database_nothing_is_made_and_jobs_go_on() {
    in_world("outage", |world| async move {
        let database = TestDatabase::new().await;
        default_pool(&world).await;
        let _operator = world.operator().await;
        let server = database.impatient_server(&world).await;
        let (id, gone) = (configured(&server).await, configured(&server).await);
        for id in [&id, &gone] {
            world.until_condition(id, READY, true).await;
            database.until_state(&world, id, "Ready").await;
        }
        command("kill");
        // Far sooner than the driver gives up; not each time where the machine is busy.
        until("a request is refused within a second", || async {
            let begun = Instant::now();
            let (status, answer) = configure(&server).await;
            assert_eq!(
                (status, &answer["reason"]),
                (StatusCode::SERVICE_UNAVAILABLE, &json!("StoreUnavailable"))
            );
            (begun.elapsed() < Duration::from_secs(1)).then_some(())
        })
        .await;
        assert_eq!(world.jobs().list(&Default::default()).await.unwrap().items.len(), 2);
        // Running jobs are served, and end as they should.
        server.until_ready().await;
        let metadata = reqwest::get(server.url(&format!("/focus-server/metadata/{id}"))).await.unwrap();
        assert_eq!(metadata.status(), StatusCode::OK);
        end(&world, &id, "EnoughSeen").await;
        world.until_condition(&id, FINISHED, true).await;
        world.jobs().delete(&gone, &Default::default()).await.unwrap();
        world.until_gone(&gone).await;
        server.until_metric("focus_server_store_waiting_jobs", 2.0).await;
        command("start");
        let record = database.until_state(&world, &id, "Finished").await;
        assert_eq!(record.get_str("reason").ok(), Some("EnoughSeen"));
        let record = database.until_state(&world, &gone, "Deleted").await;
        assert_eq!(states(&record).last().unwrap(), "Deleted");
        server.until_metric("focus_server_store_waiting_jobs", 0.0).await;
        configured(&server).await;
        let live = database.jobs().count_documents(mongodb::bson::doc! { "live": true }).await.unwrap();
        assert_eq!(live, 1, "a job that was refused has left a record");
        database.drop().await;
    })
    .await;
}

pub async fn the_next_server_writes_what_the_last_one_could_not() {
    in_world("next", |world| async move {
        let database = TestDatabase::new().await;
        default_pool(&world).await;
        let _operator = world.operator().await;
        let server = database.server(&world).await;
        let id = configured(&server).await;
        world.until_condition(&id, READY, true).await;
        database.until_state(&world, &id, "Ready").await;
        command("stop");
        end(&world, &id, "EnoughSeen").await;
        world.until_condition(&id, FINISHED, true).await;
        server.kill();
        // It is ready without the database, and takes it up when it comes.
        let _next = database.server(&world).await;
        command("start");
        let record = database.until_state(&world, &id, "Finished").await;
        assert!(record.contains_key("expireAt"), "{record}");
        database.drop().await;
    })
    .await;
}
