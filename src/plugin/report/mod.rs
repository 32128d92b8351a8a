//! `kubectl focus report`: what a bug report needs, in one tar.gz, with secrets taken out.
//!
//! Whatever may not be read is noted in the bundle, and the rest is written.

mod bundle;
mod collect;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::args::{Choice, Place};
use super::cluster::Cluster;
use super::redact::Redactor;
use bundle::Bundle;
use collect::{Collected, Collector};

/// How long all of it may take.
const WITHIN: Duration = Duration::from_secs(60);

/// Command line of `report`.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// The file to write; it must not be there. Default: focus-report-NAMESPACE-TIME.tar.gz
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// Where operator and server run. Default: in any namespace, or in the jobs' own if that is all one may read.
    #[arg(long, value_name = "NAMESPACE")]
    operator_namespace: Option<String>,
    /// Leave logs out.
    #[arg(long)]
    no_logs: bool,
    /// How many lines of each log.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    lines: i64,
    /// Where to look.
    #[command(flatten)]
    place: Place,
    /// Which jobs.
    #[command(flatten)]
    choice: Choice,
}

/// Writes the bundle.
///
/// # Errors
/// When there is no cluster at all, or the file cannot be written.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::find(&args.place).await?;
    let now = Timestamp::now();
    let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let of = if args.choice.all_namespaces { "all" } else { &cluster.namespace };
    let folder = format!("focus-report-{of}-{stamp}");
    let file = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{folder}.tar.gz")));
    let collector = Collector { cluster, args: &args, until: Instant::now() + WITHIN, now };
    let collected = collector.collect().await;
    let notes = collected.notes.clone();
    let bundle = redacted(collected, now);
    let names: Vec<String> = bundle.names().map(str::to_owned).collect();
    let what = format!("writing {}", file.display());
    let to = file.clone();
    let size =
        tokio::task::spawn_blocking(move || bundle.write(&to, &folder, now)).await.context(what.clone())?;
    let size = size.with_context(|| format!("{what}; name another file by -o"))?;
    eprintln!("{} files, {} KiB in {}", names.len(), size.div_ceil(1024), file.display());
    for note in notes {
        eprintln!("note: left out: {note}");
    }
    eprintln!(
        "Secrets were taken out as far as they can be known for such: look through it before you send it."
    );
    Ok(ExitCode::SUCCESS)
}

/// What was collected, without secrets, as files.
fn redacted(collected: Collected, now: Timestamp) -> Bundle {
    let mut redactor = Redactor::default();
    collected.objects.iter().for_each(|(_, object)| redactor.learn(object));
    let mut bundle = Bundle::default();
    for (name, object) in collected.objects {
        let text = serde_json::to_string_pretty(&redactor.object(object)).unwrap_or_default();
        bundle.add(&name, text + "\n");
    }
    for (name, text) in collected.texts {
        bundle.add(&name, redactor.text(&text));
    }
    let notes: String = collected.notes.iter().map(|note| format!("{}\n", redactor.text(note))).collect();
    bundle.add("left-out.txt", if notes.is_empty() { "nothing\n".to_owned() } else { notes });
    bundle.add("README.txt", readme(now));
    bundle
}

fn readme(now: Timestamp) -> String {
    format!(
        "Written by kubectl-focus {} at {now:.0}.\n\n\
         status.txt     the jobs, as `kubectl focus status` shows them\n\
         versions.json  of this program, of the cluster, of its definitions of FocusJob and AnalyzerPool\n\
         *.json         objects of the API: FocusJobs, AnalyzerPools, pods, Events\n\
         logs/          of operator, server and analyzers: the last lines, and those before a container's last end\n\
         metrics/       of operator and server\n\
         left-out.txt   what could not be read, and why\n\n\
         Taken out: user and password of URLs, values of environment variables and of headers, what follows the name\n\
         of a password, token or key, scripts among arguments, annotations of unknown owners, and what was applied\n\
         last. Names of Secrets stay. No Secret was read.\n",
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_of_an_object_is_taken_out_of_logs_and_notes_too() {
        let collected = Collected {
            objects: vec![(
                "pools.json".to_owned(),
                json!({"env": [{"name": "DB_PASSWORD", "value": "correct horse"}]}),
            )],
            texts: vec![("logs/a.log".to_owned(), "tried correct horse\n".to_owned())],
            notes: vec!["logs: amqp://u:correct@h refused".to_owned()],
        };
        let bundle = redacted(collected, Timestamp::UNIX_EPOCH);
        let all: String = bundle.names().filter_map(|name| bundle.get(name)).collect();
        assert!(!all.contains("correct") && all.contains("tried REDACTED"), "{all}");
        let names: Vec<_> = bundle.names().collect();
        assert_eq!(names, ["README.txt", "left-out.txt", "logs/a.log", "pools.json"]);
    }
}
