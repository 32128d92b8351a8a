//! Taking secrets out of objects and logs before they leave the cluster in a bug report. Pure.
//!
//! Rather too much is taken than too little. Names of Secrets stay: they say where a value comes from, not what it is.

mod text;

use std::collections::BTreeSet;

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

/// Takes out what looks like a secret, and what was learnt to be one.
#[derive(Default)]
pub struct Redactor {
    known: BTreeSet<String>,
}

impl Redactor {
    /// Learns the secrets of `value`, so that they are found wherever else they stand.
    pub fn learn(&mut self, value: &Value) {
        match value {
            Value::String(text) => url_passwords(text).into_iter().for_each(|secret| self.add(&secret)),
            Value::Array(items) => items.iter().for_each(|item| self.learn(item)),
            Value::Object(map) => {
                // An environment variable or a header.
                if let (Some(Value::String(name)), Some(Value::String(secret))) =
                    (map.get("name"), map.get("value"))
                    && is_secret_name(name)
                {
                    self.add(secret);
                }
                for (name, value) in map {
                    match value {
                        Value::String(secret) if is_secret_name(name) => self.add(secret),
                        value => self.learn(value),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn add(&mut self, secret: &str) {
        if secret.len() >= SHORTEST {
            self.known.insert(secret.to_owned());
        }
    }

    /// `text` without secrets. A line that is JSON is treated as an object.
    pub fn text(&self, text: &str) -> String {
        let text = without_keys(text);
        let line = |line: &str| match serde_json::from_str::<Value>(line) {
            Ok(value @ Value::Object(_)) => self.value("", value).to_string(),
            _ => self.plain(line),
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
            Value::Object(map) => self.map(name, map),
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

/// A pair of name and value with only its name.
fn without_value(mut item: Value) -> Value {
    if let Some(value) = item.get_mut("value") {
        *value = REDACTED.into();
    }
    item
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
            {"name": "PIN_TOKEN", "value": "123"}
        ], "x": "amqp://u:staple1@h", "clientSecret": "battery"}}));
        let text = redactor.text("tried correct horse, staple1 and battery; information 123\n");
        assert_eq!(text, "tried REDACTED, REDACTED and REDACTED; information 123\n");
    }

    #[test]
    fn logs_are_redacted_line_by_line() {
        let log = "{\"level\":\"WARN\",\"fields\":{\"message\":\"amqp://u:hunter2@h\",\"token\":\"hunter2\",\"args\":[\"--password\",\"hunter2\"]}}\n\
                   plain password=hunter2\n\n{broken json token: hunter2";
        let cleaned = Redactor::default().text(log);
        assert!(!cleaned.contains("hunter2"), "{cleaned}");
        assert_eq!(cleaned.lines().count(), 4, "{cleaned}");
        let first: Value = serde_json::from_str(cleaned.lines().next().unwrap()).unwrap();
        assert_eq!(first["level"], "WARN");
    }
}
