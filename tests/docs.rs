//! The pages against the code: links lead somewhere, and every reason is explained.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::Regex;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Words of the code that look like a reason and are none: kinds, conditions, phases and states, columns of
/// `kubectl get`, words of Kubernetes and HTTP, attributes of HDF5 files.
const NO_REASONS: &str = "Age Always Analyzer AnalyzerPool AnalyzerReady Bearer Channels Cold Configure Configured \
    Consumer ConsumerReady Consumers ContainerCreating Degraded Error Failed FallbackToLogsOnError False Finished FocusJob \
    FocusJobStatus Forbidden Message Never Node Operator Other PartialEq Pending Phase Pod PodInitializing PodScheduled Pool Queue \
    QueueReady Restarts Source Start Succeeded Terminating Total True Unauthorized View Warm MultiChannel SingleChannel Waterfall NaN";

/// What the code says of a job itself: troubleshooting.md alone must explain it.
const OF_JOBS: [&str; 6] = [
    "src/operator/plan",
    "src/operator/plan.rs",
    "src/operator/pod/state.rs",
    "src/api/conditions.rs",
    "src/server/consumer",
    "src/server/jobs",
];

/// The files with this ending in `folder` and below, but for what is built or not part of the project.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
            found.extend(files(&path, ending));
        } else if name.ends_with(ending) && path.is_file() {
            found.push(path);
        }
    }
    found
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref()).unwrap()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|title| title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>())
        .map(|title| title.replace(' ', "-"))
        .collect()
}

#[test]
fn relative_links_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let code = Regex::new(r"(?s)```.*?```").unwrap();
    let (mut broken, mut seen) = (Vec::new(), 0);
    for page in files(Path::new(ROOT), ".md") {
        if page.ends_with("THIRD-PARTY-NOTICES.md") {
            continue;
        }
        let text = read(&page);
        for found in link.captures_iter(&code.replace_all(&text, "")) {
            let target = &found[1];
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            let led = file.exists()
                && (anchor.is_empty()
                    || !path.ends_with(".md") && !path.is_empty()
                    || anchors(&read(&file)).contains(anchor));
            if !led {
                broken.push(format!("{}: {target}", page.strip_prefix(ROOT).unwrap().display()));
            }
        }
    }
    assert!(seen > 100, "only {seen} links were found");
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

/// The words in the file's code, without its tests, that look like a reason.
fn reasons(file: &Path) -> BTreeSet<String> {
    let text = read(file);
    let code = text.split("\n#[cfg(test)]\n").next().unwrap();
    let word = Regex::new(r#""([A-Z][a-z]+(?:[A-Z][a-z]*)*|OOMKilled)""#).unwrap();
    let others: BTreeSet<&str> = NO_REASONS.split_whitespace().collect();
    let found = word.captures_iter(code).map(|found| found[1].to_owned());
    found.filter(|word| !others.contains(word.as_str())).collect()
}

/// Those of the reasons in `places` that no page names in code quotes.
fn unexplained(places: &[&str], pages: &[PathBuf]) -> (usize, Vec<String>) {
    let explained: String = pages.iter().map(read).collect();
    let (mut count, mut missing) = (0, Vec::new());
    for place in places {
        let path = Path::new(ROOT).join(place);
        let sources = if path.is_dir() { files(&path, ".rs") } else { vec![path] };
        for source in sources.iter().filter(|path| {
            !path.components().any(|part| ["tests", "tests.rs"].iter().any(|of| part.as_os_str() == *of))
        }) {
            // Its words are attributes of HDF5 files.
            if source.ends_with("source/hdf5.rs") {
                continue;
            }
            for reason in reasons(source) {
                count += 1;
                if !explained.contains(&format!("`{reason}`")) {
                    missing.push(format!("{reason} of {}", source.strip_prefix(ROOT).unwrap().display()));
                }
            }
        }
    }
    (count, missing)
}

#[test]
fn troubleshooting_names_every_reason_of_a_job() {
    let (count, missing) = unexplained(&OF_JOBS, &[Path::new(ROOT).join("docs/troubleshooting.md")]);
    assert!(count > 40, "only {count} reasons were found");
    assert!(missing.is_empty(), "docs/troubleshooting.md does not explain:\n{}", missing.join("\n"));
}

#[test]
fn some_page_names_every_reason_of_any_part() {
    let pages = files(&Path::new(ROOT).join("docs"), ".md");
    let parts = ["src/api", "src/operator", "src/broker", "src/server", "src/analyzer"];
    let (count, missing) = unexplained(&parts, &pages);
    assert!(count > 80, "only {count} reasons were found");
    assert!(missing.is_empty(), "no page of docs/ explains:\n{}", missing.join("\n"));
}
