//! Who is let in, and what each may do.

use focus_operator::api::names;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::common::objects::default_pool;
use crate::common::{World, in_world, until};
use crate::{Folder, ask, configured, server, start, until_status};

/// A token of the ServiceAccount `name`, which is made; for `audience`, or for the API server.
pub async fn token(world: &World, name: &str, audience: Option<&str>) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
    if accounts.get_opt(name).await.unwrap().is_none() {
        let account = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        accounts.create(&PostParams::default(), &account).await.unwrap();
    }
    let spec = TokenRequestSpec {
        audiences: audience.into_iter().map(ToOwned::to_owned).collect(),
        expiration_seconds: Some(600),
        ..TokenRequestSpec::default()
    };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let made = accounts.create_token_request(name, &PostParams::default(), &request).await.unwrap();
    made.status.unwrap().token
}

#[tokio::test]
async fn the_api_server_s_tokens_are_known() {
    in_world("review", |world| async move {
        default_pool(&world).await;
        let viewer = format!("system:serviceaccount:{}:viewer", world.namespace);
        let admin = format!("system:serviceaccount:{}:admin", world.namespace);
        let server = server(&world, &["--auth", "token-review", "--auth-admins", &admin]).await;
        let good = token(&world, "viewer", None).await;
        for path in ["ack", "../livez", "../readyz", "../metrics"] {
            assert_eq!(ask(&server, "GET", path, None).await.status, 200, "{path}");
        }
        let wrong = format!("{}x", &good[..good.len() - 8]);
        for (token, challenge) in [(None, "Bearer"), (Some(&wrong), "Bearer error=\"invalid_token\"")] {
            for (method, path) in
                [("POST", "configure"), ("GET", "metadata/0-1"), ("DELETE", "job/0-1"), ("GET", "none")]
            {
                let answer = ask(&server, method, path, token.map(String::as_str)).await;
                assert_eq!(answer.status, 401, "{method} {path}: {}", answer.body);
                assert_eq!(answer.headers["www-authenticate"], challenge);
                assert_eq!(answer.body["error"], json!("Unauthorized"));
            }
        }
        let id = configured(&server, &good).await;
        assert_eq!(world.job(&id).await.annotations()[names::CALLER], viewer);
        // Others may read it, and not end it; jobs of nobody are the admins'.
        let other = token(&world, "other", None).await;
        assert_eq!(ask(&server, "GET", &format!("jobs/{id}"), Some(&other)).await.status, 200);
        let refused = ask(&server, "DELETE", &format!("job/{id}"), Some(&other)).await;
        assert_eq!((refused.status, &refused.body["error"]), (403, &json!("Forbidden")));
        assert!(world.job(&id).await.metadata.deletion_timestamp.is_none());
        assert_eq!(ask(&server, "DELETE", &format!("job/{id}"), Some(&good)).await.status, 200);
        world.create(crate::common::objects::job("by-kubectl", json!({}))).await;
        assert_eq!(ask(&server, "DELETE", "job/by-kubectl", Some(&good)).await.status, 403);
        let admin = token(&world, "admin", None).await;
        assert_eq!(ask(&server, "DELETE", "job/by-kubectl", Some(&admin)).await.status, 200);
        assert_eq!(ask(&server, "DELETE", "job/by-kubectl", Some(&admin)).await.status, 404);
        assert!(server.metric("focus_server_auth_total{outcome=\"bad_token\"}").await >= 4.0);
    })
    .await;
}

#[tokio::test]
async fn a_token_for_somebody_else_is_refused() {
    in_world("audience", |world| async move {
        let server = server(&world, &["--auth", "token-review", "--auth-audience", "focus,other"]).await;
        for (audience, status) in [(Some("focus"), 404), (None, 401), (Some("else"), 401)] {
            let token = token(&world, "viewer", audience).await;
            assert_eq!(
                ask(&server, "GET", "metadata/0-1", Some(&token)).await.status,
                status,
                "{audience:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn an_api_server_that_is_silent_lets_nobody_in() {
    in_world("silent", |world| async move {
        // It accepts, and says nothing.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let folder = Folder::new();
        let kubeconfig = folder.write(
            "kubeconfig",
            &json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", silent.local_addr().unwrap())}}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]
            })
            .to_string(),
        );
        let server = start(&world, &["--auth", "token-review"], &[("KUBECONFIG", &kubeconfig)]);
        until("the server lives", || async { reqwest::get(server.url("/livez")).await.ok() }).await;
        let answer = ask(&server, "GET", "metadata/0-1", Some("some-token")).await;
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert_eq!(answer.body["reason"], json!("AuthenticationUnavailable"));
        assert_eq!(answer.headers["retry-after"], "1");
        assert_eq!(server.metric("focus_server_auth_total{outcome=\"unavailable\"}").await, 1.0);
    })
    .await;
}

#[tokio::test]
async fn static_tokens_change_while_the_server_runs() {
    in_world("static", |world| async move {
        let folder = Folder::new();
        let file = folder.write("tokens", "ann:the-first-token-of-ann\n");
        let server = server(&world, &["--auth", "static", "--auth-tokens-file", &file]).await;
        let (first, second) = (Some("the-first-token-of-ann"), Some("the-second-token-of-ann"));
        assert_eq!(ask(&server, "GET", "metadata/0-1", first).await.status, 404);
        assert_eq!(ask(&server, "GET", "metadata/0-1", second).await.status, 401);
        folder.write("tokens", "ann:the-first-token-of-ann\nann:the-second-token-of-ann\n");
        until_status(&server, "metadata/0-1", second, 404).await;
        assert_eq!(ask(&server, "GET", "metadata/0-1", first).await.status, 404);
        folder.write("tokens", "ann: short\n");
        server.until_metric("focus_server_reloads_total{outcome=\"refused\",source=\"tokens\"}", 1.0).await;
        assert_eq!(ask(&server, "GET", "metadata/0-1", first).await.status, 404);
        folder.write("tokens", "ann:the-second-token-of-ann\n");
        until_status(&server, "metadata/0-1", first, 401).await;
        assert_eq!(ask(&server, "GET", "metadata/0-1", second).await.status, 404);
        assert!(!server.log().contains("-token-of-ann"));
    })
    .await;
}

#[tokio::test]
async fn a_caller_has_so_many_jobs_and_no_more() {
    in_world("limit", |world| async move {
        default_pool(&world).await;
        let folder = Folder::new();
        let file = folder.write("tokens", "ann:the-first-token-of-ann\nbob:the-first-token-of-bob\n");
        let args = ["--auth", "static", "--auth-tokens-file", &file, "--jobs-per-caller", "2"];
        let (one, two) = (server(&world, &args).await, server(&world, &args).await);
        let (ann, bob) = ("the-first-token-of-ann", "the-first-token-of-bob");
        // All at once, and still no more than two.
        let answers =
            futures::future::join_all((0..8).map(|_| ask(&one, "POST", "configure", Some(ann)))).await;
        let made: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
        assert_eq!(made.len(), 2);
        for refused in answers.iter().filter(|answer| answer.status != 200) {
            assert_eq!((refused.status, &refused.body["reason"]), (429, &json!("CallerLimit")));
            assert_eq!(refused.headers["retry-after"], "5");
        }
        configured(&one, bob).await;
        // The other replica counts the same jobs once its watch has told of them.
        let ids: Vec<_> = made.iter().map(|answer| answer.body["job_id"].as_str().unwrap()).collect();
        for id in &ids {
            until("the other replica knows the job", || async {
                let answer = ask(&two, "GET", &format!("metadata/{id}"), Some(ann)).await;
                (answer.headers["focus-reason"] != "UnknownJob").then_some(())
            })
            .await;
        }
        assert_eq!(ask(&two, "POST", "configure", Some(ann)).await.status, 429);
        assert_eq!(ask(&two, "DELETE", &format!("job/{}", ids[0]), Some(ann)).await.status, 200);
        until("there is room again", || async {
            (ask(&two, "POST", "configure", Some(ann)).await.status == 200).then_some(())
        })
        .await;
    })
    .await;
}
