//! The database, as a test sees it: one of its own on the common server, dropped at the end.

use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};

use crate::common::process::Process;
use crate::common::{World, broker, from_env, until};

/// A busy machine may take longer to store a record than a request should wait: its window would be passed over.
const PATIENT: (&str, &str) = ("FOCUS_STORE_TIMEOUT", "10000");

pub struct TestDatabase {
    pub url: String,
    pub name: String,
    client: Client,
}

impl TestDatabase {
    pub async fn new() -> Self {
        Self::at(from_env("FOCUS_TEST_MONGODB_URL")).await
    }

    /// On another server.
    pub async fn at(url: String) -> Self {
        let name = format!("focus-test-{:08x}", rand::random::<u32>());
        let client = Client::with_uri_str(&url).await.unwrap();
        Self { url, name, client }
    }

    pub fn jobs(&self) -> Collection<Document> {
        self.client.database(&self.name).collection("jobs")
    }

    pub async fn record(&self, namespace: &str, job: &str) -> Option<Document> {
        self.jobs().find_one(doc! { "_id": format!("{namespace}/{job}") }).await.unwrap()
    }

    /// Waits until the job's record is in `state`, and gives it.
    pub async fn until_state(&self, world: &World, job: &str, state: &str) -> Document {
        until(&format!("the record of {job} is {state}"), || async {
            let record = self.record(&world.namespace, job).await?;
            (record.get_str("state").ok() == Some(state)).then_some(record)
        })
        .await
    }

    pub async fn drop(self) {
        self.client.database(&self.name).drop().await.unwrap();
    }

    /// A server for the world's namespace that stores its jobs here.
    pub async fn server(&self, world: &World) -> Process {
        self.ready(world, &[PATIENT]).await
    }

    /// The same, with one window.
    pub async fn server_with_one_window(&self, world: &World) -> Process {
        self.ready(world, &[PATIENT, ("FOCUS_WINDOWS", "1")]).await
    }

    /// One that waits for the database no longer than servers do.
    pub async fn impatient_server(&self, world: &World) -> Process {
        self.ready(world, &[]).await
    }

    async fn ready(&self, world: &World, more: &[(&str, &str)]) -> Process {
        let server = self.server_in(world, &self.url, more);
        server.until_ready().await;
        server
    }

    pub fn server_at(&self, world: &World, url: &str) -> Process {
        self.server_in(world, url, &[])
    }

    /// A server with more in its environment.
    pub fn server_in(&self, world: &World, url: &str, more: &[(&str, &str)]) -> Process {
        let broker = broker::url();
        let env = [
            ("FOCUS_BROKER_URL", &*broker),
            ("FOCUS_MONGODB_URI", url),
            ("FOCUS_MONGODB_DATABASE", &self.name),
        ];
        Process::start(
            &[
                "server",
                "--namespace",
                &world.namespace,
                "--listen",
                "127.0.0.1:{port}",
                "--grpc-listen",
                "127.0.0.1:{grpc_port}",
            ],
            &[&env, more].concat(),
        )
    }
}

/// `hack/database <what>`.
pub fn command(what: &str) {
    let done =
        std::process::Command::new(from_env("FOCUS_TEST_DATABASE_COMMAND")).arg(what).status().unwrap();
    assert!(done.success(), "hack/database {what}: {done}");
}

/// The states that a record has been in.
pub fn states(record: &Document) -> Vec<String> {
    let states = record.get_array("states").unwrap();
    states.iter().map(|s| s.as_document().unwrap().get_str("state").unwrap().to_owned()).collect()
}
