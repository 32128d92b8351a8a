//! Taking secrets out of objects and logs before they leave the cluster in a bug report. Pure.
//!
//! Rather too much is taken than too little. Names of Secrets stay: they say where a value comes from, not what it is.

mod text;

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};

pub use text::REDACTED;
use text::{is_secret_name, redact, url_passwords, without_keys};

/// The whole object as it was applied, secrets and all.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Annotations of these owners are no secrets; of others only the names are told.
const KNOWN_ANNOTATIONS: [&str; 6] =
    ["focus-operator.io", "kubernetes.io", "k8s.io", "helm.sh", "prometheus.io", "deployment.kubernetes.io"];
/// A secret that is shorter is no use to anybody who searches for it, and would be found everywhere.
const SHORTEST: usize = 6;

/// The same for the value of a variable that is not called a secret.
const SHORTEST_OF_VARIABLES: usize = 8;
/// A shorter value of nothing but small letters is taken for a word.
const LONGEST_WORD: usize = 12;
/// With these begin the names of settings that are no secrets by themselves.
const KNOWN_SETTINGS: [&str; 3] = ["FOCUS_", "OTEL_", "RUST_"];

/// Takes out what looks like a secret, and what was learnt to be one.
#[derive(Default)]
pub struct Redactor {
    known: BTreeSet<String>,
}

impl Redactor {
    /// Learns the secrets of `value`, so that they are found wherever else they stand.
    pub fn learn(&mut self, value: &Value) {
        self.learn_under("", value);
    }

    /// Learns those of `value`, which stands under `name`.
    fn learn_under(&mut self, name: &str, value: &Value) {
        match value {
            Value::String(secret) if is_secret_name(name) => self.add(secret),
            Value::String(text) => url_passwords(text).into_iter().for_each(|secret| self.add(&secret)),
            Value::Array(items) => {
                for item in items {
                    self.learn_pair(name, item);
                    self.learn_under("", item);
                }
            }
            Value::Object(map) => map.iter().for_each(|(name, value)| self.learn_under(name, value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// An environment variable or a header of the list `of`. Whoever names a variable need not call a secret one.
    fn learn_pair(&mut self, of: &str, item: &Value) {
        let (Some(name), Some(value)) = (item["name"].as_str(), item["value"].as_str()) else { return };
        if is_secret_name(name) || (of == "env" && !is_known_setting(name) && may_be_secret(value)) {
            self.add(value);
        }
    }

    fn add(&mut self, secret: &str) {
        if secret.len() >= SHORTEST {
            self.known.insert(secret.to_owned());
        }
    }

    /// `text` without secrets. A line that is JSON, after a time or without one, is treated as an object.
    pub fn text(&self, text: &str) -> String {
        let text = without_keys(text);
        let line = |line: &str| {
            let (time, said) = without_time(line);
            match serde_json::from_str::<Value>(said) {
                Ok(value @ Value::Object(_)) => format!("{time}{}", self.value("", value)),
                _ => self.plain(line),
            }
        };
        let mut lines = text.lines().map(line).collect::<Vec<_>>().join("\n");
        if text.ends_with('\n') {
            lines.push('\n');
        }
        lines
    }

    fn plain(&self, text: &str) -> String {
        // The longest first: one may be a part of another.
        let mut known: Vec<&String> = self.known.iter().collect();
        known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        known.into_iter().fold(redact(text), |text, secret| text.replace(secret.as_str(), REDACTED))
    }

    /// An object of the API without secrets, without what servers note of its fields, and without what was applied.
    pub fn object(&self, object: Value) -> Value {
        self.value("", object)
    }

    /// `value`, which stands under `name`.
    fn value(&self, name: &str, value: Value) -> Value {
        match value {
            Value::String(_) if is_secret_name(name) => REDACTED.into(),
            Value::String(text) => self.string(&text).into(),
            Value::Array(items) if matches!(name, "args" | "command") => self.arguments(items),
            Value::Array(items) if is_secret_name(name) && items.iter().any(Value::is_string) => items
                .into_iter()
                .map(|item| if item.is_string() { REDACTED.into() } else { self.value(name, item) })
                .collect(),
            Value::Array(items) => {
                let named_values = matches!(name, "env" | "httpHeaders");
                items
                    .into_iter()
                    .map(|item| self.value("", if named_values { without_value(item) } else { item }))
                    .collect()
            }
            Value::Object(mut map) => {
                if is_secret_name(name) && map.get("value").is_some_and(Value::is_string) {
                    map.insert("value".to_owned(), REDACTED.into());
                }
                self.map(name, map)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value,
        }
    }

    fn map(&self, name: &str, mut map: Map<String, Value>) -> Value {
        // What only its owner understands.
        let opaque = matches!(name, "volumeAttributes" | "options");
        let kind = map.get("kind").and_then(Value::as_str).unwrap_or_default();
        let holds_data = matches!(kind, "Secret" | "ConfigMap");
        map.remove("managedFields");
        if name == "annotations" {
            map.remove(LAST_APPLIED);
        }
        map.into_iter()
            .map(|(key, value)| {
                let told = !opaque && (name != "annotations" || is_known_annotation(&key));
                let data = holds_data && matches!(key.as_str(), "data" | "stringData" | "binaryData");
                let value = match value {
                    Value::String(_) if !told => REDACTED.into(),
                    Value::Object(map) if data => {
                        map.into_iter().map(|(key, _)| (key, REDACTED.into())).collect::<Map<_, _>>().into()
                    }
                    value => self.value(&key, value),
                };
                (key, value)
            })
            .collect::<Map<_, _>>()
            .into()
    }

    /// A string, which may hold a JSON document.
    fn string(&self, text: &str) -> String {
        match serde_json::from_str::<Value>(text) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => {
                self.plain(&self.value("", value).to_string())
            }
            _ => self.plain(text),
        }
    }

    /// The arguments of a program: what follows the name of a secret is one, and a script may be.
    fn arguments(&self, items: Vec<Value>) -> Value {
        let mut after_secret = false;
        items
            .into_iter()
            .map(|item| {
                let Value::String(text) = item else { return item };
                let flag = text.starts_with('-');
                let script = text.contains(char::is_whitespace);
                let hidden = (after_secret && !flag) || script;
                after_secret = flag && !text.contains('=') && is_secret_name(&text);
                if hidden { REDACTED.into() } else { self.string(&text).into() }
            })
            .collect()
    }
}

/// The time with which the API server begins each line of a log, and the rest.
fn without_time(line: &str) -> (&str, &str) {
    let end = line.find(' ').map_or(0, |space| space + 1);
    let (time, rest) = line.split_at(end);
    if time.trim_end().parse::<Timestamp>().is_ok() { (time, rest) } else { ("", line) }
}

/// A pair of name and value with only its name.
fn without_value(mut item: Value) -> Value {
    if let Some(value) = item.get_mut("value") {
        *value = REDACTED.into();
    }
    item
}

/// Whether a variable of this name is one of the program's own, of which no value is a secret by itself.
fn is_known_setting(name: &str) -> bool {
    KNOWN_SETTINGS.iter().any(|known| name.starts_with(known)) && !name.contains("HEADERS")
}

/// Whether the value of a variable that nothing is known of may be a secret: no number, no switch and no word, which
/// would be taken out wherever it stands.
fn may_be_secret(value: &str) -> bool {
    let word = value.len() < LONGEST_WORD && value.chars().all(|letter| letter.is_ascii_lowercase());
    value.len() >= SHORTEST_OF_VARIABLES && value.parse::<f64>().is_err() && !word
}

fn is_known_annotation(name: &str) -> bool {
    let owner = name.split_once('/').map_or("", |(owner, _)| owner);
    KNOWN_ANNOTATIONS
        .iter()
        .any(|known| owner == *known || owner.strip_suffix(known).is_some_and(|rest| rest.ends_with('.')))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_pool_with_secrets_everywhere_tells_none() {
        let pool = json!({
            "kind": "AnalyzerPool",
            "metadata": {
                "name": "default", "managedFields": [{"manager": "hunter2"}],
                "annotations": {
                    LAST_APPLIED: "{\"spec\":\"hunter2\"}",
                    "vault.example.com/template": "hunter2",
                    "bare": "hunter2",
                    "fakekubernetes.io/x": "hunter2",
                    "focus-operator.io/end": "{\"reason\":\"X\",\"message\":\"amqp://u:hunter2@h\",\"failed\":true}",
                    "helm.sh/chart": "focus-operator-0.1.0"
                }
            },
            "spec": {
                "source": {"uri": "synthetic:", "description": "from ftp://u:hunter2@h/x"},
                "template": {"spec": {
                    "imagePullSecrets": [{"name": "registry"}],
                    "volumes": [
                        {"name": "v", "secret": {"secretName": "broker"}},
                        {"name": "c", "csi": {"driver": "d", "volumeAttributes": {"a": "hunter2"},
                                              "nodePublishSecretRef": {"name": "csi"}}},
                        {"name": "f", "flexVolume": {"driver": "d", "options": {"password": "hunter2", "x": "hunter2"}}}
                    ],
                    "containers": [{
                        "name": "analyzer", "image": "img:1",
                        "command": ["sh", "-c", "export X=hunter2; run"],
                        "args": ["analyzer", "--token", "hunter2", "--password=hunter2", "--url", "amqp://u:hunter2@h",
                                 "--token-file", "/etc/t"],
                        "env": [
                            {"name": "PLAIN", "value": "hunter2"},
                            {"name": "FOCUS_BROKER_URL", "valueFrom": {"secretKeyRef": {"name": "broker", "key": "url"}}}
                        ],
                        "envFrom": [{"secretRef": {"name": "more"}}],
                        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8082,
                            "httpHeaders": [{"name": "Authorization", "value": "hunter2"}]}}
                    }]
                }}
            }
        });
        let cleaned = Redactor::default().object(pool);
        let text = cleaned.to_string();
        assert!(!text.contains("hunter2"), "{cleaned:#}");
        for kept in [
            "\"registry\"",
            "\"broker\"",
            "\"csi\"",
            "\"more\"",
            "\"url\"",
            "img:1",
            "\"PLAIN\"",
            "--token-file",
            "/etc/t",
            "focus-operator-0.1.0",
            "vault.example.com/template",
            "/readyz",
            "analyzer",
        ] {
            assert!(text.contains(kept), "{kept} is gone: {cleaned:#}");
        }
        let meta = &cleaned["metadata"];
        assert!(
            meta.get("managedFields").is_none() && meta["annotations"].get(LAST_APPLIED).is_none(),
            "{meta:#}"
        );
        let end: Value =
            serde_json::from_str(meta["annotations"]["focus-operator.io/end"].as_str().unwrap()).unwrap();
        assert_eq!(end["message"], "amqp://REDACTED@h");
    }

    #[test]
    fn data_is_told_by_its_keys_alone() {
        for kind in ["Secret", "ConfigMap"] {
            let object = json!({"kind": kind, "data": {"url": "hunter2"}, "stringData": {"b": "hunter2"}});
            let cleaned = Redactor::default().object(object);
            assert_eq!(cleaned["data"]["url"], REDACTED);
            assert!(!cleaned.to_string().contains("hunter2"), "{cleaned}");
        }
        let cleaned =
            Redactor::default().object(json!({"tokens": ["hunter2"], "passwords": [{"a": 1}], "token": 7}));
        assert_eq!(cleaned, json!({"tokens": [REDACTED], "passwords": [{"a": 1}], "token": 7}));
    }

    #[test]
    fn a_secret_that_was_learnt_is_found_where_nothing_announces_it() {
        let mut redactor = Redactor::default();
        redactor.learn(&json!({"spec": {"env": [
            {"name": "DB_PASSWORD", "value": "correct horse"},
            {"name": "LOG", "value": "information"},
            {"name": "PIN_TOKEN", "value": "123"},
            {"name": "DB_PASS", "value": "stable"},
            {"name": "LICENCE", "value": "AB-12-CD"},
            {"name": "SIZE", "value": "1234567890"},
            {"name": "FOCUS_LOG", "value": "info,lapin=off"}
        ], "x": "amqp://u:staple1@h", "clientSecret": "battery"}}));
        let text = redactor.text("tried correct horse, staple1, stable, AB-12-CD and battery; information 123 1234567890 info,lapin=off\n");
        let kept = "information 123 1234567890 info,lapin=off";
        assert_eq!(text, format!("tried REDACTED, REDACTED, REDACTED, REDACTED and REDACTED; {kept}\n"));
    }

    #[test]
    fn logs_are_redacted_line_by_line() {
        let log = "2030-01-01T00:00:00.123456789Z {\"level\":\"WARN\",\"fields\":{\"message\":\"amqp://u:hunter2@h\",\"token\":\"hunter2\",\"args\":[\"--password\",\"hunter2\"],\
                   \"tokens\":[\"hunter2\"],\"password\":{\"value\":\"hunter2\"}}}\n\
                   2030-01-01T00:00:01Z plain password=hunter2\n{\"passwords\":[\"hunter2\"]}\n\
                   plain password=hunter2\n\n{broken json token: hunter2";
        let cleaned = Redactor::default().text(log);
        assert!(!cleaned.contains("hunter2"), "{cleaned}");
        assert_eq!(cleaned.lines().count(), 6, "{cleaned}");
        let (time, first) = cleaned.lines().next().unwrap().split_once(' ').unwrap();
        assert_eq!(time, "2030-01-01T00:00:00.123456789Z");
        let first: Value = serde_json::from_str(first).unwrap();
        assert_eq!(first["level"], "WARN");
    }
}
