//! Finding the job that a person means, and what to say when there is none of that name.

use std::fmt::Write as _;

use anyhow::bail;
use kube::ResourceExt;

use super::args::Choice;
use super::cluster::{Cluster, ReadError};
use crate::api::FocusJob;

/// How alike two names must be to be told, 0 to 1.
const ALIKE: f64 = 0.8;
/// Most names in a sentence.
const NAMES: usize = 5;

/// The FocusJob `name`: of the namespace, or of all when `choice` says so.
///
/// # Errors
/// When it cannot be read, or is not there: the words then name jobs that are near.
pub async fn job(cluster: &Cluster, name: &str, choice: &Choice) -> anyhow::Result<FocusJob> {
    if choice.all_namespaces {
        let mut found = cluster.named_anywhere(name).await?;
        if found.len() > 1 {
            let places: Vec<_> = found.iter().filter_map(ResourceExt::namespace).collect();
            bail!("there is a FocusJob {name} in each of {}: name one by -n", places.join(", "));
        }
        return match found.pop() {
            Some(job) => Ok(job),
            None => bail!(unknown(cluster, name, choice).await),
        };
    }
    match cluster.job(name).await {
        Err(ReadError::NotFound { .. }) => bail!(unknown(cluster, name, choice).await),
        found => Ok(found?),
    }
}

/// There is no FocusJob `name`. What is near is told as far as it may be read.
async fn unknown(cluster: &Cluster, name: &str, choice: &Choice) -> String {
    let (here, everywhere) = (choice.clone(), Choice { all_namespaces: true, selector: None });
    let (here, everywhere) = tokio::join!(cluster.list(&here), cluster.list(&everywhere));
    let names = |jobs: Result<(Vec<FocusJob>, bool), ReadError>| -> Option<Vec<(String, String)>> {
        let (jobs, _) = jobs.ok()?;
        Some(jobs.iter().map(|job| (job.namespace().unwrap_or_default(), job.name_any())).collect())
    };
    let namespace = (!choice.all_namespaces).then_some(cluster.namespace.as_str());
    sentence(name, namespace, names(here), names(everywhere))
}

/// What to say. `here` and `everywhere` are namespaces and names of jobs; None where they may not be read.
fn sentence(
    name: &str,
    namespace: Option<&str>,
    here: Option<Vec<(String, String)>>,
    everywhere: Option<Vec<(String, String)>>,
) -> String {
    let place = namespace.map_or_else(|| "any namespace".to_owned(), |n| format!("namespace {n}"));
    let mut text = format!("there is no FocusJob {name} in {place}.");
    let all = everywhere.unwrap_or_default();
    let elsewhere: Vec<&str> = all
        .iter()
        .filter(|(ns, job)| job == name && Some(ns.as_str()) != namespace)
        .map(|(ns, _)| ns.as_str())
        .collect();
    if !elsewhere.is_empty() {
        let _ = write!(text, " There is one in namespace {}: name it by -n.", elsewhere.join(", "));
        return text;
    }
    let here = here.unwrap_or_default();
    let near = near(name, here.iter().chain(&all), namespace);
    if !near.is_empty() {
        let _ = write!(text, " Close to it: {}.", near.join(", "));
    } else if !here.is_empty() {
        let _ = write!(text, " There are {}.", listed(here.iter().map(|(_, job)| job.clone()).collect()));
    } else {
        let mut namespaces: Vec<String> = all.into_iter().map(|(ns, _)| ns).collect();
        namespaces.sort();
        namespaces.dedup();
        if namespaces.is_empty() {
            text.push_str(" No FocusJob is there that may be read.");
        } else {
            let _ = write!(text, " There are FocusJobs in namespace {}.", listed(namespaces));
        }
    }
    text
}

/// Names that a person may have meant, the likeliest first; those of another namespace with it.
fn near<'a>(
    name: &str,
    jobs: impl Iterator<Item = &'a (String, String)>,
    namespace: Option<&str>,
) -> Vec<String> {
    let mut alike: Vec<(f64, String)> = jobs
        .map(|(ns, job)| {
            let shown =
                if Some(ns.as_str()) == namespace { job.clone() } else { format!("{job} (namespace {ns})") };
            (strsim::jaro_winkler(name, job), shown)
        })
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .collect();
    alike.sort_by(|(a, name_a), (b, name_b)| b.total_cmp(a).then_with(|| name_a.cmp(name_b)));
    let mut names: Vec<String> = alike.into_iter().map(|(_, name)| name).collect();
    names.dedup();
    names.truncate(NAMES);
    names
}

fn listed(names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMES);
    let shown = names.into_iter().take(NAMES).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// Where else there are jobs, when a namespace has none.
pub async fn elsewhere(cluster: &Cluster) -> Option<String> {
    let (jobs, _) = cluster.list(&Choice { all_namespaces: true, selector: None }).await.ok()?;
    let mut namespaces: Vec<String> = jobs.iter().filter_map(ResourceExt::namespace).collect();
    namespaces.sort();
    namespaces.dedup();
    (!namespaces.is_empty()).then(|| listed(namespaces))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_job_s_neighbours_are_named() {
        let jobs = |list: &[(&str, &str)]| {
            Some(list.iter().map(|(ns, job)| ((*ns).to_owned(), (*job).to_owned())).collect::<Vec<_>>())
        };
        let here = [("fibre", "18-1795486283888"), ("fibre", "night")];
        let all = [("fibre", "18-1795486283888"), ("fibre", "night"), ("lab", "18-3"), ("lab", "view")];
        let cases = [
            ("view", jobs(&here), jobs(&all), "There is one in namespace lab: name it by -n."),
            ("18-1795486283889", jobs(&here), jobs(&all), "Close to it: 18-1795486283888."),
            ("18-4", jobs(&here), jobs(&all), "Close to it: 18-3 (namespace lab)"),
            ("zzz", jobs(&here), None, "There are 18-1795486283888, night."),
            ("zzz", jobs(&[]), jobs(&all[2..]), "There are FocusJobs in namespace lab."),
            ("zzz", jobs(&[]), jobs(&[]), "No FocusJob is there that may be read."),
            ("zzz", None, None, "No FocusJob is there that may be read."),
        ];
        for (name, here, everywhere, words) in cases {
            let told = sentence(name, Some("fibre"), here, everywhere);
            assert!(told.starts_with(&format!("there is no FocusJob {name} in namespace fibre.")), "{told}");
            assert!(told.contains(words), "{words}: {told}");
        }
        let told = sentence("zzz", None, jobs(&all), jobs(&all));
        assert!(told.starts_with("there is no FocusJob zzz in any namespace. There are "), "{told}");
        assert!(listed((0..7).map(|i| i.to_string()).collect()).ends_with("4 and 2 more"));
    }
}
