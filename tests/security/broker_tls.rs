//! The broker over TLS.

use crate::common::objects::default_pool;
use crate::common::process::Process;
use crate::common::{in_world, until};
use crate::{Folder, ask};
use focus_operator::api::conditions::CONSUMER_READY;

/// The broker's amqps URL and its authority's certificate, if the broker speaks TLS.
fn amqps() -> Option<(String, String)> {
    let url = std::env::var("FOCUS_TEST_BROKER_TLS_URL_FILE").ok()?;
    let ca = std::env::var("FOCUS_TEST_BROKER_CA").ok()?;
    Some((std::fs::read_to_string(url).unwrap().trim().to_owned(), ca))
}

#[tokio::test]
async fn operator_and_server_speak_tls_to_the_broker() {
    let Some((url, ca)) = amqps() else {
        println!("skipped: the broker speaks no TLS (FOCUS_TEST_BROKER_TLS_URL_FILE is not set)");
        return;
    };
    in_world("amqps", |world| async move {
        default_pool(&world).await;
        let listen = [
            "--namespace",
            &world.namespace,
            "--listen",
            "127.0.0.1:{port}",
            "--grpc-listen",
            "127.0.0.1:{grpc_port}",
        ];
        let admin = ["--namespace", &world.namespace, "--admin-addr", "127.0.0.1:{port}"];
        let env = [("FOCUS_BROKER_URL", url.as_str()), ("FOCUS_BROKER_CA", ca.as_str())];
        let operator = Process::start(&[&["operator"], &admin[..]].concat(), &env);
        let server = Process::start(&[&["server"], &listen[..]].concat(), &env);
        operator.until_ready().await;
        server.until_ready().await;
        let answer = ask(&server, "POST", "configure", None).await;
        let id = answer.body["job_id"].as_str().unwrap().to_owned();
        world.until_condition(&id, CONSUMER_READY, true).await;

        // Without the authority, or with another one, there is no connection and the reason is told.
        let folder = Folder::new();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = folder.write("other", &other.cert.pem());
        for (env, words) in [
            (&env[..1], "UnknownIssuer"),
            (&[env[0], ("FOCUS_BROKER_CA", other.as_str())], "UnknownIssuer"),
            (&[env[0], ("FOCUS_BROKER_CA", "/nowhere")], "/nowhere"),
        ] {
            let server = Process::start(&[&["server"], &listen[..]].concat(), env);
            until(&format!("the server says {words}"), || async {
                let told = reqwest::get(server.url("/readyz")).await.ok()?.text().await.ok()?;
                told.contains(words).then_some(())
            })
            .await;
        }
    })
    .await;
}
