//! What the chart's notes tell to do next, done.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::tools::{Release, run};

/// The commands of notes; Helm's is the one under test.
fn commands(notes: &str, release: &Release) -> Vec<Vec<String>> {
    let commands: Vec<Vec<String>> = notes
        .lines()
        .filter(|line| line.starts_with("  kubectl ") || line.starts_with("  helm "))
        .map(|line| line.split_whitespace().map(|word| release.program(word)).collect())
        .collect();
    assert_eq!(commands.len(), 3, "{notes}");
    commands
}

fn done(command: &[String]) -> String {
    run(&command[0], &command[1..].iter().map(String::as_str).collect::<Vec<_>>())
}

/// A command that runs until it is ended.
struct Running {
    child: Child,
    first_line: String,
    /// Kept: whoever prints where nobody reads is ended.
    _printed: BufReader<ChildStdout>,
}

impl Running {
    /// Starts it and waits for its first line.
    fn start(command: &[String]) -> Self {
        let mut child = Command::new(&command[0]).args(&command[1..]).stdout(Stdio::piped()).spawn().unwrap();
        let mut first_line = String::new();
        let mut printed = BufReader::new(child.stdout.take().unwrap());
        printed.read_line(&mut first_line).unwrap();
        Self { child, first_line, _printed: printed }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The notes of a release with servers: the rollout is complete, the test passes, and the forwarded port answers.
pub async fn lead_to_a_server(notes: &str, release: &Release) -> String {
    let [rollout, test, mut forward] = commands(notes, release).try_into().unwrap();
    let printed = done(&rollout);
    assert_eq!(printed.matches("successfully rolled out").count(), 2, "{printed}");
    let printed = done(&test);
    // Another program may hold the port that the notes propose.
    let ports = forward.last_mut().unwrap();
    *ports = ports.replacen("8080:", ":", 1);
    let forwarding = Running::start(&forward);
    let address = forwarding.first_line.split_whitespace().find(|word| word.starts_with("127.0.0.1:"));
    let address = address.unwrap_or_else(|| panic!("{forward:?} printed {}", forwarding.first_line));
    let answer = reqwest::get(format!("http://{address}/focus-server/ack")).await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    printed
}

/// The notes of a release without: the rollout is complete, and pools and jobs, of which there is one, are shown.
pub fn lead_to_the_jobs(notes: &str, release: &Release) {
    let [rollout, pools, watch] = commands(notes, release).try_into().unwrap();
    let printed = done(&rollout);
    assert_eq!(printed.matches("successfully rolled out").count(), 1, "{printed}");
    assert!(done(&pools).contains("default"));
    let watching = Running::start(&watch);
    assert!(watching.first_line.starts_with("NAME"), "{watch:?} printed {}", watching.first_line);
}
