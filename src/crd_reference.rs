//! `focus crd --reference`: every field of the resources as Markdown, made of the definitions themselves.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use crate::api::{conditions, crds};

const HEAD: &str = "# Resources

Every field of FocusJob and AnalyzerPool, made from the code by `focus crd --reference`; `make generate` writes this page.
`kubectl explain focusjob.spec --recursive` tells the same on a cluster. The API server refuses what breaks a rule, in the
words that stand here; the Focus Server refuses the same.

A field that is neither required nor has a default may be left out. Whoever may make FocusJobs, and whoever may make
AnalyzerPools, is told in [security.md](security.md#who-may-do-what).
";

/// The reference of both resources as Markdown.
///
/// # Errors
/// When a definition cannot be written as JSON.
pub fn markdown() -> anyhow::Result<String> {
    let mut text = HEAD.to_owned();
    for crd in crds::all() {
        text += &resource(&crd)?;
    }
    Ok(text)
}

fn resource(crd: &CustomResourceDefinition) -> anyhow::Result<String> {
    let value = serde_json::to_value(crd)?;
    let (names, version) = (&value["spec"]["names"], &value["spec"]["versions"][0]);
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut text = format!("\n## {}\n\n{}\n\n", word(&names["kind"]), word(&schema["description"]));
    let _ = writeln!(
        text,
        "`{}/{}`, {}; `kubectl get {}`, in short `{}`; in the category `{}`.",
        crd.spec.group,
        word(&version["name"]),
        crd.spec.scope.to_lowercase(),
        crd.spec.names.plural,
        words(&names["shortNames"]).join("`, `"),
        words(&names["categories"]).join("`, `")
    );
    for part in ["spec", "status"] {
        if let Some(schema) = schema["properties"].get(part) {
            text += &section(part, schema);
        }
    }
    let of_the_whole = rules("", schema);
    if !of_the_whole.is_empty() {
        let _ = write!(text, "\n### Rules of the whole\n\n{}", of_the_whole.concat());
    }
    if version["subresources"].get("status").is_some() {
        text += &condition_types();
    }
    Ok(text + &columns(&version["additionalPrinterColumns"]))
}

/// The fields of `spec` or `status`, and the rules among them.
fn section(name: &str, schema: &Value) -> String {
    let mut found = Fields { rules: rules("", schema), ..Fields::default() };
    found.walk("", schema);
    let mut text = format!("\n### {name}\n\n{}\n\n", word(&schema["description"]));
    text += "| field | type | default | limits | meaning |\n|---|---|---|---|---|\n";
    text += &found.rows.concat();
    if !found.rules.is_empty() {
        let _ = write!(text, "\nRules, each with the words of its refusal:\n\n{}", found.rules.concat());
    }
    text
}

#[derive(Default)]
struct Fields {
    rows: Vec<String>,
    rules: Vec<String>,
}

impl Fields {
    fn walk(&mut self, above: &str, schema: &Value) {
        let required = words(&schema["required"]);
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{above}{name}");
            self.rows.push(row(&path, field, required.contains(&name.as_str())));
            self.rules.extend(rules(&path, field));
            self.walk(&format!("{path}."), field);
            if let Some(items) = field.get("items") {
                self.walk(&format!("{path}[]."), items);
            }
        }
    }
}

fn row(path: &str, field: &Value, required: bool) -> String {
    let default = match field.get("default") {
        _ if required => "required".to_owned(),
        Some(default) if *default != serde_json::json!({}) => format!("`{default}`"),
        _ => String::new(),
    };
    let meaning = word(&field["description"]).replace('\n', " ").replace('|', "\\|");
    format!("| `{path}` | {} | {default} | {} | {meaning} |\n", kind(field), limits(field))
}

fn kind(field: &Value) -> String {
    let type_ = word(&field["type"]);
    match field.get("format").and_then(Value::as_str) {
        Some("date-time") => "time".to_owned(),
        Some(format) if type_ == "integer" => format.to_owned(),
        _ if type_ == "array" => format!("list of {}s", word(&field["items"]["type"])),
        _ => type_.to_owned(),
    }
}

fn limits(field: &Value) -> String {
    let number = |name: &str| field.get(name).and_then(Value::as_f64);
    let range = |low: Option<f64>, high: Option<f64>, unit: &str| match (low, high) {
        (Some(low), Some(high)) => Some(format!("{low} to {high}{unit}")),
        (Some(low), None) => Some(format!("at least {low}{unit}")),
        (None, Some(high)) => Some(format!("at most {high}{unit}")),
        (None, None) => None,
    };
    let one_of = field.get("enum").map(|values| format!("one of `{}`", words(values).join("`, `")));
    let told = [
        one_of,
        range(number("minimum"), number("maximum"), ""),
        range(number("minLength"), number("maxLength"), " characters"),
        field.get("pattern").map(|pattern| format!("`{}`", word(pattern).replace('|', "\\|"))),
        field.get("x-kubernetes-preserve-unknown-fields").map(|_| "not looked at here".to_owned()),
    ];
    told.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// A line for each CEL rule of a field; `path` is empty for the whole.
fn rules(path: &str, schema: &Value) -> Vec<String> {
    let of = if path.is_empty() { String::new() } else { format!("`{path}`: ") };
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.map(|rule| format!("- {of}{}: `{}`\n", word(&rule["message"]), word(&rule["rule"]))).collect()
}

fn condition_types() -> String {
    let types = [
        (conditions::ANALYZER_READY, "the analyzer pod is ready"),
        (conditions::QUEUE_READY, "the queue exists"),
        (conditions::CONSUMER_READY, "a consumer is attached to the queue"),
        (
            conditions::READY,
            "analyzer, queue and consumer are all there; else the reason of the first that is not",
        ),
        (conditions::FINISHED, "the job has ended, well or badly"),
    ];
    let mut text =
        "\n### Conditions\n\nEvery reason is explained in [troubleshooting.md](troubleshooting.md).\n\n\
                    | type | True when |\n|---|---|\n"
            .to_owned();
    for (type_, meaning) in types {
        let _ = writeln!(text, "| `{type_}` | {meaning} |");
    }
    text
}

fn columns(columns: &Value) -> String {
    let mut text =
        "\n### Columns of kubectl get\n\n| column | shows | only with `-o wide` |\n|---|---|---|\n"
            .to_owned();
    for column in columns.as_array().into_iter().flatten() {
        let wide = if column["priority"].as_i64().unwrap_or(0) > 0 { "yes" } else { "" };
        let meaning = column.get("description").map(|text| format!(": {}", word(text))).unwrap_or_default();
        let path = word(&column["jsonPath"]);
        let _ = writeln!(text, "| {} | `{path}`{meaning} | {wide} |", word(&column["name"]));
    }
    text
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn words(values: &Value) -> Vec<&str> {
    values.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_in_docs_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/crds.md");
        assert!(
            std::fs::read_to_string(path).unwrap() == markdown().unwrap(),
            "{path} is stale: run make generate"
        );
    }

    #[test]
    fn fields_have_their_type_default_limits_and_rules() {
        let text = markdown().unwrap();
        for line in [
            "`focus-operator.io/v1alpha1`, namespaced; `kubectl get focusjobs`, in short `fj`; in the category `focus`.",
            "| `channels` | object | required |  | The channels of the view",
            "| `channels.max` | int32 | required | at least 1 | Last channel",
            "| `consumerDeadlineSeconds` | int32 | `30` | 1 to 3600 | How long",
            "| `pool` | string | `\"default\"` | 1 to 253 characters |",
            "| `queue.type` | string | `\"Classic\"` | one of `Classic`, `Quorum` |",
            "| `conditions[].reason` | string | required |",
            "| `timeline.readyAt` | time |  |  |",
            "- `channels`: at most 2500 channels fit one view: `self.max - self.min < 2500`",
            "- endTime must be after startTime: `",
            "| `ConsumerReady` | a consumer is attached",
            "| Waiting-For | `.status.conditions[?(@.type=='Ready')].reason`: Why the job is not ready, or Ready |  |",
            "| Node | `.status.analyzer.node` | yes |",
            "| `source.sampleRateHz` | number | required |",
            "| `template` | object | required | not looked at here |",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        for row in text.lines().filter(|line| line.starts_with("| `")) {
            let cells = row.replace("\\|", "").matches('|').count();
            assert!([3, 6].contains(&cells), "a broken table: {row}");
            assert!(!row.ends_with("|  |") || cells == 3, "a field without a meaning: {row}");
        }
    }
}
