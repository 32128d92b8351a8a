//! Clients in Python, made from `proto/` when they are needed. `hack/test` sets FOCUS_TEST_PYTHON, which names the bin
//! folder of their environment; `hack/python-tools` prints it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use super::from_env;

/// The messages of `proto/` as Python modules, in a folder of their own that goes when this is dropped.
pub struct Python {
    bin: PathBuf,
    modules: PathBuf,
    ca: Option<String>,
}

/// A client that runs; it is killed when this is dropped.
pub struct Client {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Python {
    pub fn new() -> Self {
        let bin = PathBuf::from(from_env("FOCUS_TEST_PYTHON"));
        let modules = std::env::temp_dir().join(format!("focus-proto-{:08x}", rand::random::<u32>()));
        std::fs::create_dir(&modules).unwrap();
        let python = Self { bin, modules, ca: None };
        let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
        let made = Command::new(python.bin.join("python"))
            .args(["-m", "grpc_tools.protoc", "-I"])
            .arg(&proto)
            .args(["focus.proto", "pandadatastream.proto"])
            .args(["python", "grpc_python"].map(|kind| format!("--{kind}_out={}", python.modules.display())))
            .status()
            .unwrap_or_else(|error| panic!("FOCUS_TEST_PYTHON={}: {error}", python.bin.display()));
        assert!(made.success(), "grpc_tools.protoc could not make the Python modules: {made}");
        python
    }

    /// Clients that speak TLS with servers whose certificates come from the authority in the file `ca`.
    pub fn trusting(ca: &str) -> Self {
        let mut python = Self::new();
        python.ca = Some(ca.to_owned());
        python
    }

    /// Starts `tests/python/<script>` with `args`.
    pub fn start(&self, script: &str, args: &[&str]) -> Client {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(script);
        let mut child = Command::new(self.bin.join("python"))
            .arg(script)
            .args(args)
            .envs(self.ca.iter().map(|ca| ("CA", ca)))
            .env("PYTHONPATH", &self.modules)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Client { child, stdin, stdout: BufReader::new(stdout) }
    }

    /// Runs it to its end; gives what it has to say.
    pub async fn run(&self, script: &str, args: &[&str]) -> Value {
        self.start(script, args).says().await.0
    }
}

impl Client {
    /// The next line of JSON that it prints; it can be asked again.
    pub async fn says(mut self) -> (Value, Self) {
        tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            self.stdout.read_line(&mut line).unwrap();
            let value = serde_json::from_str(&line);
            (value.unwrap_or_else(|error| panic!("the Python client said {line:?}: {error}")), self)
        })
        .await
        .unwrap()
    }

    /// Lets it go on.
    pub fn go_on(&mut self) {
        self.stdin.write_all(b"\n").unwrap();
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.modules);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
