//! No secret is logged, whatever is asked of the log.

use crate::common::broker;
use crate::common::objects::default_pool;
use crate::common::process::Process;
use crate::common::{condition, in_world, until};
use crate::security::auth::token;
use crate::{ask, configured, start};
use focus_operator::api::conditions::CONSUMER_READY;

#[tokio::test]
async fn no_log_of_any_level_shows_a_token_or_the_broker_s_password() {
    in_world("secrets", |world| async move {
        default_pool(&world).await;
        let url = broker::url();
        let operator = Process::start(
            &["operator", "--namespace", &world.namespace, "--admin-addr", "127.0.0.1:{port}"],
            &[("FOCUS_BROKER_URL", &url), ("FOCUS_LOG", "trace")],
        );
        let server = start(&world, &["--auth", "token-review"], &[("FOCUS_LOG", "trace")]);
        operator.until_ready().await;
        server.until_ready().await;
        let good = token(&world, "viewer", None).await;
        let wrong = format!("{}wrong", &good[..good.len() - 8]);
        assert_eq!(ask(&server, "GET", "metadata/0-1", Some(&wrong)).await.status, 401);
        let id = configured(&server, &good).await;
        until("the consumer is there", || async {
            condition(&world.job(&id).await, CONSUMER_READY).filter(|(status, _, _)| status == "True")
        })
        .await;
        assert_eq!(ask(&server, "DELETE", &format!("job/{id}"), Some(&good)).await.status, 200);
        world.until_gone(&id).await;
        let password = url.split(['@']).next().and_then(|start| start.rsplit(':').next()).unwrap();
        assert!(password.len() > 8, "the broker's URL has no password");
        for (role, log) in [("operator", operator.log()), ("server", server.log())] {
            assert!(log.contains("TRACE"), "{role} did not log everything");
            for (secret, what) in [(good.as_str(), "token"), (&wrong, "wrong token"), (password, "password")]
            {
                let line = log.lines().find(|line| line.contains(secret));
                assert!(line.is_none(), "the {role} has logged a {what}: {line:?}");
            }
        }
    })
    .await;
}
