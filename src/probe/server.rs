//! The Focus Server's HTTP API as its clients use it.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

/// How long a call that does not wait may take.
const CALL: Duration = Duration::from_secs(10);
/// The longest `wait` that the server takes.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How often waterfall/{job_id}/1 is asked.
const LINE_POLL: Duration = Duration::from_millis(5);

/// A Focus Server.
#[derive(Clone)]
pub struct Server {
    base: String,
    http: Client,
}

impl Server {
    /// The server at `address`, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(address: &str) -> anyhow::Result<Self> {
        let http = Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(CALL)
            .build()
            .context("making the HTTP client")?;
        Ok(Self { base: format!("{}/focus-server", address.trim_end_matches('/')), http })
    }

    /// Asks whether it is there.
    ///
    /// # Errors
    /// When it does not answer 200.
    pub async fn ack(&self) -> anyhow::Result<()> {
        let answer = self.get("ack", CALL).await.context("is the Focus Server running? --server names it")?;
        expect(answer, &[StatusCode::OK], "GET ack").await.map(|_| ())
    }

    /// The server's `sw_version`, when it tells one.
    pub async fn version(&self) -> Option<String> {
        let metadata: Value = self.get("live_metadata", CALL).await.ok()?.json().await.ok()?;
        Some(metadata.get("sw_version")?.as_str()?.to_owned())
    }

    /// Configures a job and returns its id.
    ///
    /// # Errors
    /// When the server refuses, in its own words, or does not answer.
    pub async fn configure(&self, request: &Value) -> anyhow::Result<String> {
        let call = self.http.post(format!("{}/configure", self.base)).json(request).send();
        let answer = call.await.context("POST configure")?;
        let body = expect(answer, &[StatusCode::OK, StatusCode::CREATED], "POST configure").await?;
        let body: Value = serde_json::from_str(&body).context("POST configure: the answer is not JSON")?;
        let id = body.get("job_id").and_then(Value::as_str);
        id.map(str::to_owned).context("POST configure: the answer has no job_id")
    }

    /// Asks for the job's metadata each `poll` until 200.
    ///
    /// # Errors
    /// When `deadline` came first; the message has the last answer.
    pub async fn poll_metadata(&self, id: &str, poll: Duration, deadline: Instant) -> anyhow::Result<()> {
        let path = format!("metadata/{id}");
        let mut next = Instant::now();
        loop {
            let answer = self.get(&path, CALL).await?;
            if answer.status() == StatusCode::OK {
                return Ok(());
            }
            next += poll;
            if next.max(Instant::now()) >= deadline {
                bail!("GET {path} still answers {}", told(answer).await);
            }
            sleep_until(next).await;
        }
    }

    /// Asks for the job's metadata with `?wait=`, which the server answers when the consumer is there. Asks
    /// again when the server waits for less long than asked.
    ///
    /// # Errors
    /// When `deadline` came first; the message has the last answer.
    pub async fn wait_metadata(&self, id: &str, deadline: Instant) -> anyhow::Result<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).min(LONGEST_WAIT);
            let path = format!("metadata/{id}?wait={}s", left.as_secs_f64().ceil());
            let answer = self.get(&path, left + CALL).await?;
            match answer.status() {
                StatusCode::OK => return Ok(()),
                StatusCode::NOT_FOUND if Instant::now() + Duration::from_millis(50) < deadline => {
                    sleep(Duration::from_millis(50)).await;
                }
                _ => bail!("GET {path} answers {}", told(answer).await),
            }
        }
    }

    /// Asks for one line each 5 ms until 201.
    ///
    /// # Errors
    /// When `deadline` came first or the analyzer has exited (208).
    pub async fn first_line(&self, id: &str, deadline: Instant) -> anyhow::Result<()> {
        let path = format!("waterfall/{id}/1");
        loop {
            let answer = self.get(&path, CALL).await?;
            match answer.status() {
                StatusCode::CREATED => return Ok(()),
                StatusCode::ALREADY_REPORTED => bail!("GET {path} answers 208: the analyzer has exited"),
                _ if Instant::now() >= deadline => bail!("GET {path} still answers {}", told(answer).await),
                _ => sleep(LINE_POLL).await,
            }
        }
    }

    /// Ends a job; one that is gone is fine.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub async fn delete(&self, id: &str) -> anyhow::Result<()> {
        let what = format!("DELETE job/{id}");
        let answer =
            self.http.delete(format!("{}/job/{id}", self.base)).send().await.context(what.clone())?;
        if answer.status().is_success() || answer.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        bail!("{what} answers {}", told(answer).await)
    }

    /// Whether the job's metadata is gone.
    pub async fn is_gone(&self, id: &str) -> bool {
        self.get(&format!("metadata/{id}"), CALL).await.is_ok_and(|a| a.status() == StatusCode::NOT_FOUND)
    }

    async fn get(&self, path: &str, limit: Duration) -> anyhow::Result<Response> {
        let call = self.http.get(format!("{}/{path}", self.base)).timeout(limit).send();
        call.await.with_context(|| format!("GET {path}"))
    }
}

async fn expect(answer: Response, good: &[StatusCode], what: &str) -> anyhow::Result<String> {
    if !good.contains(&answer.status()) {
        bail!("{what} answers {}", told(answer).await);
    }
    answer.text().await.with_context(|| format!("{what}: reading the answer"))
}

/// Status and the beginning of the body.
async fn told(answer: Response) -> String {
    let status = answer.status();
    let body: String = answer.text().await.unwrap_or_default().chars().take(300).collect();
    format!("{status}: {body}")
}
