//! A database that speaks TLS only.

use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use reqwest::StatusCode;

use super::database::TestDatabase;
use super::record::{configure, configured};
use crate::common::objects::default_pool;
use crate::common::{from_env, in_world, until};

/// A database of its own, and the folder of its data and certificates; both go with it.
struct Database {
    folder: PathBuf,
    port: u16,
}

impl Database {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("focus-database-{:08x}", rand::random::<u32>()));
        std::fs::create_dir(&folder).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let ours = authority();
        let key = KeyPair::generate().unwrap();
        let pair = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ours).unwrap();
        let files = [
            ("ca.crt", ours.pem()),
            ("other.crt", authority().pem()),
            ("tls.crt", pair.pem()),
            ("tls.key", key.serialize_pem()),
        ];
        files.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).unwrap());
        let database = Self { folder, port };
        let started = database.command("start").status().unwrap();
        assert!(started.success(), "hack/database start: {started}");
        database
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(from_env("FOCUS_TEST_DATABASE_COMMAND"));
        command.arg(what).env("FOCUS_CLUSTER_DIR", &self.folder).env("FOCUS_DATABASE_TLS", &self.folder);
        command.env("FOCUS_DATABASE_PORT", self.port.to_string());
        command
    }

    fn url(&self) -> String {
        String::from_utf8(self.command("url").output().unwrap().stdout).unwrap().trim().to_owned()
    }

    fn file(&self, name: &str) -> String {
        Path::new(&self.folder).join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.command("clean").status();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub async fn a_database_behind_tls_is_used_and_one_of_another_authority_is_not() {
    in_world("dbtls", |world| async move {
        let behind = Database::start();
        let database = TestDatabase::at(behind.url()).await;
        default_pool(&world).await;
        let server = database.server(&world).await;
        let id = configured(&server).await;
        assert!(database.record(&world.namespace, &id).await.is_some());
        drop(server);

        let stranger = database.url.replace(&behind.file("ca.crt"), &behind.file("other.crt"));
        let plain = database.url.split("&tls=").next().unwrap();
        for url in [&*stranger, plain] {
            assert_ne!(url, database.url);
            let server = database.server_at(&world, url);
            server.until_ready().await;
            until("the server has tried", || async { server.log().contains("not reached").then_some(()) })
                .await;
            assert_eq!(configure(&server).await.0, StatusCode::SERVICE_UNAVAILABLE, "{url}");
        }
        database.drop().await;
    })
    .await;
}
