//! The real binary as a child process.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::until;

/// A running role; it is killed when this is dropped.
pub struct Process {
    child: Child,
    pub port: u16,
    /// The port of the Focus Server's gRPC.
    pub grpc_port: u16,
    /// The port on which other replicas reach it.
    pub peer_port: u16,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts `focus` with `args`, in which `{port}`, `{grpc_port}` and `{peer_port}` stand for free ports, and `env`.
    pub fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        // All are held until all are known: they differ.
        let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [port, grpc_port, peer_port] = free.map(|listener| listener.local_addr().unwrap().port());
        let with_ports = |arg: &&str| {
            arg.replace("{port}", &port.to_string())
                .replace("{grpc_port}", &grpc_port.to_string())
                .replace("{peer_port}", &peer_port.to_string())
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_focus"))
            .args(args.iter().map(with_ports))
            .env("FOCUS_LOG_FORMAT", "text")
            .envs(env.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (log.clone(), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Self { child, port, grpc_port, peer_port, log }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Waits until `/readyz` says so.
    pub async fn until_ready(&self) {
        until("the process is ready", || async {
            let answer = reqwest::get(self.url("/readyz")).await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// Waits until this server has heard of the replicas called `names`, and of no others.
    pub async fn until_replicas(&self, names: &[&str]) {
        let mut names = names.to_vec();
        names.sort_unstable();
        until(&format!("the replicas are {names:?}"), || async {
            let log = self.log();
            let heard = log.lines().rev().find(|line| line.contains("the replicas have changed"))?;
            heard.contains(&format!("{names:?}")).then_some(())
        })
        .await;
    }

    /// The value of the metric whose line starts with `name`; 0 when there is none.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = reqwest::get(self.url("/metrics")).await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    /// Waits until the metric has `value`: it is counted just after what it counts is seen.
    pub async fn until_metric(&self, name: &str, value: f64) {
        until(&format!("{name} is {value}"), || async { (self.metric(name).await == value).then_some(()) })
            .await;
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Asks it to end, as Kubernetes does, and waits until it has; gives its exit code.
    pub async fn terminate(self) -> Option<i32> {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(asked.success());
        self.until_ended().await
    }

    /// Waits until it has ended by itself; gives its exit code.
    pub async fn until_ended(mut self) -> Option<i32> {
        let child = std::cell::RefCell::new(&mut self.child);
        until("the process has ended", || async { child.borrow_mut().try_wait().unwrap() }).await.code()
    }

    /// As if the machine had frozen: its connections stay open, and nothing answers on them.
    pub fn freeze(&self) {
        let asked = Command::new("kill").args(["-STOP", &self.child.id().to_string()]).status().unwrap();
        assert!(asked.success());
    }

    /// As if the machine had failed: no chance to say good-bye.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of focus ---\n{}", self.log());
        }
    }
}
