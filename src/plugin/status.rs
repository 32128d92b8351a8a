//! `kubectl focus status`.

use std::process::ExitCode;

use clap_complete::engine::ArgValueCandidates;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::args::{Choice, Display, Output, Place, job_name};
use super::cluster::{Cluster, ReadError};
use super::show::events::{self, EventView};
use super::show::job::{self as job_text, JobReport};
use super::show::list::{self, Columns, Listed};
use super::{completion, document, find, print};
use crate::api::FocusJob;

/// Command line of `status`.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// The job: its name, which is also the Focus Server's job_id. Without one: a table of all.
    #[arg(value_parser = job_name, conflicts_with = "selector", add = ArgValueCandidates::new(completion::jobs))]
    job: Option<String>,
    /// Where to look.
    #[command(flatten)]
    place: Place,
    /// Which jobs.
    #[command(flatten)]
    choice: Choice,
    /// How it is shown.
    #[command(flatten)]
    display: Display,
    /// The form of the answer.
    #[arg(short, long)]
    output: Option<Output>,
    /// How many Events are shown, the newest ones.
    #[arg(long, default_value_t = 10, value_name = "NUMBER")]
    events: usize,
}

/// Shows one job or all.
///
/// # Errors
/// When the jobs cannot be read, or there is none of that name.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::find(&args.place).await?;
    match &args.job {
        Some(name) => one(&args, &cluster, name).await,
        None => all(&args, &cluster).await,
    }
}

async fn one(args: &Args, cluster: &Cluster, name: &str) -> anyhow::Result<ExitCode> {
    let job = find::job(cluster, name, &args.choice).await?;
    let (seen, notes) = match args.output {
        Some(Output::Name) => (None, Vec::new()),
        _ => events_of(cluster, &job).await,
    };
    let report = JobReport::new(&job, seen, notes);
    let now = Timestamp::now();
    match args.output {
        Some(Output::Json) => print(&document(&report, false)?)?,
        Some(Output::Yaml) => print(&document(&report, true)?)?,
        Some(Output::Name) => print(&resource_name(&job))?,
        None | Some(Output::Wide) => {
            let screen = args.display.screen();
            print(&job_text::draw(&job, &report, now, &screen, args.events))?;
            if args.output.is_some() {
                print(&job_text::milestones(&report, &screen))?;
            }
        }
    }
    for note in &report.notes {
        eprintln!("note: {note}");
    }
    Ok(ExitCode::from(job_text::exit_code(&job)))
}

/// The Events of `job` and of its pod, and what of them could not be read.
pub async fn events_of(cluster: &Cluster, job: &FocusJob) -> (Option<Vec<EventView>>, Vec<String>) {
    let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
    let pod = job.status.as_ref().and_then(|status| status.analyzer.as_ref());
    let of_pod = async {
        match pod {
            Some(pod) => cluster.events(&namespace, "Pod", &pod.pod_name).await,
            None => Ok(Vec::new()),
        }
    };
    let (of_job, of_pod) = tokio::join!(cluster.events(&namespace, "FocusJob", &name), of_pod);
    let uid = job.uid().unwrap_or_default();
    // A pod's name has its job's uid in it, so that its Events are of no other job.
    let ours = of_job.map(|found| events::about(&found, &[&uid]));
    let pods = of_pod.map(|found| events::about(&found, &[]));
    let note = |error: ReadError| format!("Events are left out: {error}");
    match (ours, pods) {
        (Ok(mut all), Ok(more)) => {
            all.extend(more);
            all.sort_by_key(|event| event.at);
            (Some(all), Vec::new())
        }
        (Ok(some), Err(error)) | (Err(error), Ok(some)) if !some.is_empty() => {
            (Some(some), vec![note(error)])
        }
        (Err(error), _) | (_, Err(error)) => (None, vec![note(error)]),
    }
}

async fn all(args: &Args, cluster: &Cluster) -> anyhow::Result<ExitCode> {
    let (mut jobs, more) = cluster.list(&args.choice).await?;
    list::sort(&mut jobs);
    match args.output {
        Some(Output::Json | Output::Yaml) => {
            let items: Vec<_> = jobs.iter().map(Listed::new).collect();
            let answer = serde_json::json!({"jobs": items, "total": items.len(), "truncated": more});
            print(&document(&answer, args.output == Some(Output::Yaml))?)?;
        }
        Some(Output::Name) => print(&jobs.iter().map(resource_name).collect::<String>())?,
        None | Some(Output::Wide) if jobs.is_empty() => eprintln!("{}", nothing(args, cluster).await),
        None | Some(Output::Wide) => {
            let columns = Columns { namespace: args.choice.all_namespaces, wide: args.output.is_some() };
            print(&list::draw(&jobs, columns, Timestamp::now(), &args.display.screen()))?;
        }
    }
    if more {
        eprintln!(
            "note: there are more jobs than these {}: choose some by -l or -n, or give more time by --request-timeout",
            jobs.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn nothing(args: &Args, cluster: &Cluster) -> String {
    let such = if args.choice.selector.is_some() { " with such labels" } else { "" };
    if args.choice.all_namespaces {
        return format!("There are no FocusJobs{such} in any namespace.");
    }
    let here = format!("There are no FocusJobs{such} in namespace {}.", cluster.namespace);
    match find::elsewhere(cluster).await {
        Some(namespaces) => format!("{here} There are some in {namespaces}."),
        None => here,
    }
}

fn resource_name(job: &FocusJob) -> String {
    format!("focusjob.{}/{}\n", crate::api::GROUP, job.name_any())
}
