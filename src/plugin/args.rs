//! What the plugin's commands have in common on the command line.

use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;

use super::completion;
use super::screen::Screen;
use crate::kubeconfig::Connection;
use crate::probe::duration;

/// Where to look, as kubectl is told.
#[derive(clap::Args, Debug, Clone)]
pub struct Place {
    /// The namespace. Default: the context's.
    #[arg(short, long, add = ArgValueCandidates::new(completion::namespaces))]
    pub namespace: Option<String>,
    /// Which cluster.
    #[command(flatten)]
    pub connection: Connection,
    /// How long the API server may take; what is there by then is shown.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration, help_heading = "Cluster")]
    pub request_timeout: Duration,
}

/// Which jobs.
#[derive(clap::Args, Debug, Clone)]
pub struct Choice {
    /// In all namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Only jobs with these labels, such as focus-operator.io/window=18.
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub selector: Option<String>,
}

/// How something is shown.
#[derive(clap::Args, Debug, Clone)]
#[command(next_help_heading = "Display")]
pub struct Display {
    /// Bars and ellipses of plain ASCII, as also where the locale is not UTF-8.
    #[arg(long)]
    pub ascii: bool,
    /// Leave the tables' headings away.
    #[arg(long)]
    pub no_headers: bool,
}

impl Display {
    /// What standard output can show.
    pub fn screen(&self) -> Screen {
        let mut screen = Screen::of_stdout();
        screen.unicode &= !self.ascii;
        screen.headings = !self.no_headers;
        screen
    }
}

/// The forms of an answer.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For people, with more columns.
    Wide,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// Resource names alone.
    Name,
}

/// The job's name in what a person wrote: `NAME`, `fj/NAME`, `focusjob/NAME` or `focusjob.focus-operator.io/NAME`.
/// The Focus Server's `job_id` is the FocusJob's name.
///
/// # Errors
/// A sentence, when it is another kind or no name.
pub fn job_name(text: &str) -> Result<String, String> {
    let name = match text.split_once('/') {
        Some((kind, name)) => {
            let kind = kind.to_ascii_lowercase();
            let ours =
                ["fj", "focusjob", "focusjobs", "focusjob.focus-operator.io", "focusjobs.focus-operator.io"];
            if !ours.contains(&kind.as_str()) {
                return Err(format!("{kind} is no FocusJob: write NAME or fj/NAME"));
            }
            name
        }
        None => text,
    };
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if name.len() <= 253 && name.split('.').all(word) {
        Ok(name.to_owned())
    } else {
        Err(format!("{name:?} is no name of a FocusJob: names have letters, digits, hyphens and dots"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_named_as_kubectl_names_them() {
        for (text, name) in [
            ("18-1795486283888", Some("18-1795486283888")),
            ("fj/view", Some("view")),
            ("focusjob/view", Some("view")),
            ("FocusJobs/view", Some("view")),
            ("focusjob.focus-operator.io/a.view", Some("a.view")),
            ("pod/view", None),
            ("", None),
            ("fj/", None),
            ("..", None),
            ("a/b/c", None),
            ("-l", Some("-l")),
            ("a b", None),
        ] {
            assert_eq!(job_name(text).ok().as_deref(), name, "{text:?}");
        }
    }
}
