//! TLS between the replicas of the server.

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::tls::{Authority, Mounted, connect, connect_to, get, leaf};
use crate::common::objects::default_pool;
use crate::common::process::Process;
use crate::common::python::Python;
use crate::common::{World, in_world, until};
use crate::{Folder, start};

/// A replica that shows a certificate of `authority`, mounted in `mounted`, and takes those of the same.
async fn replica(world: &World, name: &str, authority: &Authority, mounted: &Mounted, ca: &str) -> Process {
    let peer = ["--peer-listen", "127.0.0.1:{peer_port}", "--peer-host", "127.0.0.1", "--replica", name];
    let known = ["--peer-ca", ca, "--peer-name", "localhost"];
    mounted.server(world, &authority.client(&[], None), &[&peer[..], &known[..]].concat()).await
}

async fn asked(
    server: &Process,
    authority: &Authority,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, Value) {
    let mut stream = connect(server, &authority.client(&[], None)).await.unwrap();
    let answer = super::tls::ask(&mut stream, method, path, body).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
async fn replicas_speak_tls_among_themselves_and_with_nobody_else() {
    in_world("peers", |world| async move {
        default_pool(&world).await;
        let _operator = world.operator().await;
        let (ours, theirs) = (Authority::new(), Authority::new());
        let folder = Folder::new();
        let (ca, other_ca) = (folder.write("ca", &ours.pem()), folder.write("other", &theirs.pem()));
        let pair = ours.pair();
        let (mut mounted, alien) = (Mounted::new(&pair), Mounted::new(&theirs.pair()));
        let first = replica(&world, "first", &ours, &mounted, &ca).await;
        let second = replica(&world, "second", &ours, &Mounted::new(&ours.pair()), &ca).await;
        let third = replica(&world, "third", &theirs, &alien, &other_ca).await;
        for server in [&first, &second, &third] {
            server.until_replicas(&["first", "second", "third"]).await;
        }
        let request = json!({
            "displayTimeAxisDuration": 10, "nfftSelection": 1024, "channels": {"min": 1, "max": 8},
            "frequencyRange": {"min": 0, "max": 500}, "view_type": "MULTICHANNEL"
        });
        let (status, answer) =
            asked(&first, &ours, "POST", "/focus-server/configure", &request.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        let id = answer["job_id"].as_str().unwrap().to_owned();

        // Metadata, lines and streams through the other replica.
        let metadata = format!("/focus-server/metadata/{id}?wait=60s");
        let (status, told) = asked(&second, &ours, "GET", &metadata, "").await;
        assert_eq!((status, &told["job_id"]), (200, &json!(id)), "{told}");
        until("rows", || async {
            let path = format!("/focus-server/waterfall/{id}/2");
            (asked(&second, &ours, "GET", &path, "").await.0 == 201).then_some(())
        })
        .await;
        let python = Python::trusting(&ca);
        let grpc = format!("localhost:{}", second.grpc_port);
        let found = python.run("grpc_client.py", &[&grpc, "lines", &id, "1", "5"]).await;
        assert_eq!(found[0].as_array().unwrap().len(), 6, "{found}");
        let url = format!("wss://localhost:{}/focus-server/stream/{id}", second.port);
        let (told, _) = python.start("websocket_client.py", &[&url]).says().await;
        assert_eq!(told["job_id"], json!(id));

        // A replica whose certificate is of another authority reaches nobody.
        let (status, told) = asked(&third, &theirs, "GET", &format!("/focus-server/metadata/{id}"), "").await;
        assert_eq!((status, &told["error"]), (404, &json!("Invalid job_id")));
        let told = Python::trusting(&other_ca)
            .run(
                "grpc_client.py",
                &[
                    &format!("localhost:{}", third.grpc_port),
                    "status",
                    "0",
                    &format!("job-id={id}"),
                    "wait=1s",
                ],
            )
            .await;
        let trailers = json!({"focus-phase": "replica", "focus-reason": "ReplicaUnreachable"});
        assert_eq!((&told["code"], &told["trailers"]), (&json!("UNAVAILABLE"), &trailers), "{told}");

        refuses_strangers(&first, &ours, &theirs).await;

        // A new certificate is shown to the other replicas too.
        let peer = ours.client(&[], Some(ours.pair()));
        let before = leaf(&connect_to(first.peer_port, &peer).await.unwrap());
        mounted.swap(&ours.pair());
        until("the new certificate is shown", || async {
            let stream = connect_to(first.peer_port, &peer).await.unwrap();
            (leaf(&stream) != before).then_some(())
        })
        .await;
        let (status, _) = asked(&second, &ours, "GET", &metadata, "").await;
        assert_eq!(status, 200);
    })
    .await;
}

/// The port for the other replicas takes those with a certificate of `ours` alone.
async fn refuses_strangers(server: &Process, ours: &Authority, theirs: &Authority) {
    let path = "/focus-server/ack";
    let known = ours.client(&["http/1.1"], Some(ours.pair()));
    let mut stream = connect_to(server.peer_port, &known).await.unwrap();
    assert!(get(&mut stream, path).await.unwrap().starts_with("HTTP/1.1 200"));
    let strangers = [None, Some(theirs.pair()), Some(ours.pair_for("client"))];
    for own in strangers {
        let stranger = ours.client(&[], own);
        // With TLS 1.3 the client hears of it when it reads.
        let refused = async {
            let mut stream = connect_to(server.peer_port, &stranger).await?;
            get(&mut stream, path).await
        };
        assert!(!refused.await.is_ok_and(|answer| !answer.is_empty()));
    }
    let mut plain = TcpStream::connect(("127.0.0.1", server.peer_port)).await.unwrap();
    let told = get(&mut plain, path).await.unwrap();
    assert!(told.contains("use https"), "{told}");
    let _ = plain.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn a_server_with_tls_does_not_reach_others_without() {
    in_world("peerless", |world| async move {
        let (authority, other) = (Authority::new(), Authority::new());
        let folder = Folder::new();
        let (cert, key) = authority.pair();
        let (cert, key) = (folder.write("cert", &cert), folder.write("key", &key));
        let (ca, other) = (folder.write("ca", &authority.pem()), folder.write("other", &other.pem()));
        let always = [
            "--tls-cert",
            &cert,
            "--tls-key",
            &key,
            "--peer-listen",
            "127.0.0.1:{peer_port}",
            "--peer-host",
            "127.0.0.1",
        ];
        for (more, words) in [
            (&[][..], "set --peer-ca"),
            (
                &["--peer-ca", &other, "--peer-name", "localhost"][..],
                "no other replica would take the certificate",
            ),
            (&["--peer-ca", &ca, "--peer-name", "elsewhere"][..], "bear the name elsewhere"),
        ] {
            let server = start(&world, &[&always[..], more].concat(), &[]);
            until(&format!("it says {words:?}"), || async { server.log().contains(words).then_some(()) })
                .await;
            assert_ne!(server.until_ended().await, Some(0), "{words}");
        }
    })
    .await;
}
