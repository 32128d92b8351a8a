//! `watch`, with a terminal and without; and what else a terminal changes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use focus_operator::api::conditions::QUEUE_READY;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::common::objects::{idle_pool, job};
use crate::common::plugin::{kubectl, path};
use crate::common::{World, in_world, until};

/// A running command, and what it has written so far.
struct Running {
    child: Child,
    out: Arc<Mutex<String>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let (out, mut stdout) = (Arc::new(Mutex::new(String::new())), child.stdout.take().unwrap());
        let text = out.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n) = stdout.read(&mut buffer) {
                if n == 0 {
                    return;
                }
                text.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        Self { child, out }
    }

    fn text(&self) -> String {
        self.out.lock().unwrap().clone()
    }

    async fn until(&self, words: &str) {
        until(&format!("{words:?} in {:?}", self.text()), || async {
            self.text().contains(words).then_some(())
        })
        .await;
    }

    /// Sends the signal and waits for the end; gives the exit code.
    async fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let child = std::cell::RefCell::new(&mut self.child);
        let code = until("the end", || async { child.borrow_mut().try_wait().unwrap() }).await.code();
        (code, self.text())
    }
}

/// A command line that is run on a terminal of that size.
fn on_a_terminal(line: &str, columns: u16, rows: u16) -> Command {
    let mut command = Command::new("script");
    let line = format!("stty cols {columns} rows {rows}; {line}");
    command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
    command
        .env("PATH", path(&[]))
        .env("LC_ALL", "C.UTF-8")
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR");
    command
}

#[tokio::test]
async fn a_watch_follows_the_jobs_on_a_terminal_and_without_one() {
    in_world("plugin-watch", |world| async move {
        idle_pool(&world).await;
        let _operator = world.operator().await;
        world.create(job("first", json!({}))).await;
        world.until_condition("first", QUEUE_READY, true).await;
        let namespace = &world.namespace;
        let lines = Running::start(kubectl(&[]).args(["focus", "watch", "-n", namespace]));
        let objects = Running::start(kubectl(&[]).args(["focus", "watch", "-n", namespace, "-o", "json"]));
        let line = format!("exec kubectl focus watch -n {namespace}");
        let table = Running::start(&mut on_a_terminal(&line, 120, 20));
        for watch in [&lines, &objects, &table] {
            watch.until("first").await;
        }
        world.create(job("second", json!({}))).await;
        lines.until("second  Starting").await;
        table.until("2 FocusJobs").await;
        world.jobs().delete("second", &DeleteParams::default()).await.unwrap();
        lines.until("second  Gone").await;
        objects.until("\"Gone\"").await;
        until("the table is drawn anew", || async {
            table
                .text()
                .rsplit("FocusJobs at")
                .next()
                .is_some_and(|last| !last.contains("second"))
                .then_some(())
        })
        .await;

        let (code, text) = lines.end("-INT").await;
        assert_eq!(code, Some(0), "{text}");
        assert!(!text.contains('\u{1b}') && text.lines().all(|line| line.starts_with("20")), "{text}");
        let (code, text) = objects.end("-TERM").await;
        assert_eq!(code, Some(0), "{text}");
        for line in text.lines() {
            let change: Value = serde_json::from_str(line).unwrap();
            assert!(change["job"]["job_id"].is_string(), "{change}");
        }
        on_the_terminal(table, &world).await;
    })
    .await;
}

/// Ctrl-C leaves the table and gives the cursor back; lines fit, and colours are a matter of NO_COLOR.
async fn on_the_terminal(table: Running, world: &World) {
    let hidden = "\u{1b}[?25l";
    let shown = "\u{1b}[?25h";
    assert!(table.text().contains(hidden) && table.text().contains("\u{1b}[3"), "{:?}", table.text());
    let plugin = Command::new("pgrep").args(["--parent", &table.child.id().to_string()]).output().unwrap();
    let plugin = String::from_utf8(plugin.stdout).unwrap();
    let sent = Command::new("kill").args(["-INT", plugin.trim()]).status().unwrap();
    assert!(sent.success());
    table.until(shown).await;

    let line = format!("kubectl focus status first -n {}", world.namespace);
    for (width, colour) in [(40, true), (120, false)] {
        let mut command = on_a_terminal(&line, width, 20);
        if !colour {
            command.env("NO_COLOR", "1");
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        let lines: Vec<String> = BufReader::new(&output.stdout[..]).lines().map(Result::unwrap).collect();
        assert_eq!(output.status.code(), Some(3), "{lines:?}");
        assert_eq!(lines.iter().any(|line| line.contains("\u{1b}[")), colour, "{lines:?}");
        // The first line has the job's whole name.
        for line in &lines[1..] {
            let width_of = without_colours(line).trim_end().chars().count();
            assert!(width_of <= usize::from(width) || line.contains("focus."), "{width}: {line:?}");
        }
    }
}

fn without_colours(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}
