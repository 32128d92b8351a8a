//! Completion of the command line: scripts for shells, and what kubectl asks for while a person types.
//!
//! kubectl completes `kubectl focus …` by a program `kubectl_complete-focus` on PATH, which prints a candidate on
//! each line, a tab and words about it, and at the end a colon and flags in the manner of the library cobra.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::FromArgMatches;
use clap_complete::Shell;
use clap_complete::engine::{self, CompletionCandidate};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::args::{Choice, Place};
use super::cluster::Cluster;
use super::{command, print};
use crate::api::job_view;

/// How long a person waits for names.
const WAIT: Duration = Duration::from_millis(1500);
/// Most names.
const NAMES: u32 = 500;
/// cobra's flag: no space after the candidate.
const NO_SPACE: u8 = 2;
/// cobra's flag: do not complete by files.
const NO_FILES: u8 = 4;

/// Command line of `completion`.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// bash, zsh, fish, powershell or elvish complete `kubectl-focus`; `kubectl` is the program
    /// `kubectl_complete-focus`, by which kubectl's own completion completes `kubectl focus`.
    shell: For,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum For {
    Bash,
    Zsh,
    Fish,
    Powershell,
    Elvish,
    Kubectl,
}

/// The words typed after `kubectl focus`, the last one unfinished.
#[derive(clap::Args, Debug, Clone)]
pub struct Words {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Prints a script.
///
/// # Errors
/// When standard output cannot be written.
pub fn script(args: Args) -> anyhow::Result<ExitCode> {
    let shell = match args.shell {
        For::Bash => Shell::Bash,
        For::Zsh => Shell::Zsh,
        For::Fish => Shell::Fish,
        For::Powershell => Shell::PowerShell,
        For::Elvish => Shell::Elvish,
        For::Kubectl => {
            print(
                "#!/bin/sh\n# On PATH under the name kubectl_complete-focus.\nexec kubectl-focus __complete \"$@\"\n",
            )?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command().bin_name("kubectl-focus"), "kubectl-focus", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the candidates for the last of `words`.
///
/// # Errors
/// When standard output cannot be written.
pub fn complete(words: &Words) -> anyhow::Result<ExitCode> {
    let (candidates, flags) = candidates(&words.words);
    print(&format!("{}:{flags}\n", candidates.into_iter().map(|line| line + "\n").collect::<String>()))?;
    Ok(ExitCode::SUCCESS)
}

fn candidates(words: &[OsString]) -> (Vec<String>, u8) {
    let mut line = vec![OsString::from("kubectl-focus")];
    line.extend(words.iter().cloned());
    if words.is_empty() {
        line.push(OsString::new());
    }
    let last = line.len() - 1;
    let folder = std::env::current_dir().ok();
    // What cannot be completed has no candidates; there is nobody to tell why.
    let found = engine::complete(&mut command(), line, last, folder.as_deref()).unwrap_or_default();
    let goes_on = found.iter().any(|c| c.get_value().to_string_lossy().ends_with(['/', '=']));
    let lines = found.iter().filter(|c| !c.is_hide_set()).map(|candidate| {
        let value = candidate.get_value().to_string_lossy().into_owned();
        let help = candidate.get_help().map(|help| help.to_string().replace(['\n', '\t'], " "));
        help.map_or_else(|| value.clone(), |help| format!("{value}\t{help}"))
    });
    (lines.collect(), if goes_on { NO_FILES | NO_SPACE } else { NO_FILES })
}

/// Names of jobs, where the words typed so far look for them, with what each waits for.
pub fn jobs() -> Vec<CompletionCandidate> {
    asked(|cluster, choice| async move {
        let (jobs, _) = cluster.list(&choice).await?;
        let candidate = |job: &crate::api::FocusJob| {
            let waiting = job_view::waiting(job).map(|w| format!(", waits for {}", w.phase));
            let help = format!("{}{}", job_view::state(job).as_str(), waiting.unwrap_or_default());
            CompletionCandidate::new(job.name_any()).help(Some(help.into()))
        };
        Ok(jobs.iter().map(candidate).collect())
    })
}

/// Names of namespaces.
pub fn namespaces() -> Vec<CompletionCandidate> {
    asked(|cluster, _| async move {
        let api: Api<Namespace> = Api::all(cluster.client.clone());
        let params = ListParams::default().limit(NAMES);
        let found = cluster.read("listing namespaces", api.list_metadata(&params)).await?;
        Ok(found.iter().map(|namespace| CompletionCandidate::new(namespace.name_any())).collect())
    })
}

/// What the cluster that the typed words name says; nothing when it does not.
fn asked<F>(ask: impl FnOnce(Cluster, Choice) -> F) -> Vec<CompletionCandidate>
where
    F: Future<Output = anyhow::Result<Vec<CompletionCandidate>>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime.context("starting the asynchronous runtime") else { return Vec::new() };
    let found = runtime.block_on(async {
        let (place, choice) = typed().context("nothing is known of the cluster yet")?;
        ask(Cluster::find(&place).await?, choice).await
    });
    runtime.shutdown_background();
    found.unwrap_or_default()
}

/// The options for a cluster among the words that this process was given.
fn typed() -> Option<(Place, Choice)> {
    let words: Vec<OsString> = std::env::args_os().skip(2).collect();
    let line = std::iter::once(OsString::from("kubectl-focus")).chain(words);
    let matches = command().ignore_errors(true).try_get_matches_from(line).ok()?;
    let (_, of_command) = matches.subcommand()?;
    let mut place = Place::from_arg_matches(of_command).ok()?;
    place.request_timeout = WAIT;
    let choice =
        Choice::from_arg_matches(of_command).unwrap_or(Choice { all_namespaces: false, selector: None });
    Some((place, choice))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> (Vec<String>, u8) {
        candidates(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn commands_options_and_values_are_completed() {
        for (words, candidate) in [
            (&["st"][..], "status"),
            (&["status", "--all"], "--all-namespaces"),
            (&["status", "-o", "j"], "json"),
            (&["completion", "z"], "zsh"),
            (&["probe", "--names"], "--namespace"),
        ] {
            let (found, flags) = of(words);
            assert!(
                found.iter().any(|line| line.split('\t').next() == Some(candidate)),
                "{words:?}: {found:?}"
            );
            assert_eq!(flags & NO_FILES, NO_FILES);
        }
        let all = of(&[]).0;
        assert!(all.iter().any(|line| line.starts_with("watch\tShows")), "{all:?}");
        assert!(!all.iter().any(|line| line.contains("__complete")), "{all:?}");
        assert!(of(&["nonsense", "x"]).0.iter().all(|line| !line.is_empty()));
    }
}
