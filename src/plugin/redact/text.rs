//! Secrets in running text: logs, messages, arguments.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// What stands in a secret's place.
pub const REDACTED: &str = "REDACTED";

/// Words in the name of something secret.
const SECRET_WORDS: &str = "passw(?:or)?d|passwd|passphrase|pwd|secret|token|credential|authorization|api[-_]?key|\
     access[-_]?key|private[-_]?key|account[-_]?key|shared[-_]?key|signature|cookie|connection[-_]?string|dsn";
/// Ends of such names that within a word mean something else (`passed`, `keyboard`, `signal`).
const SECRET_ENDS: &str = r"pass(?:[\d_.\-][\w.\-]*)?|[_\-]key|\bsig";
/// Ends of names that only say where a secret is, which is no secret.
const PLACES: [&str; 8] = ["file", "path", "dir", "name", "namespace", "audience", "seconds", "ref"];

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is written here and tested")
}

struct Patterns {
    name: Regex,
    private_key: Regex,
    url: Regex,
    encoded_url: Regex,
    login: Regex,
    header: Regex,
    scheme: Regex,
    known_form: Regex,
    pair: Regex,
    flag: Regex,
    url_password: Regex,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| Patterns {
    name: regex(&format!("(?i){SECRET_WORDS}|(?:{SECRET_ENDS})$")),
    private_key: regex(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)"),
    // Up to the last @, for a password may have one unencoded; rather too much than too little.
    url: regex(r"([A-Za-z][A-Za-z0-9+.\-]*://)\S*@"),
    encoded_url: regex(r"(?i)(%3a%2f%2f)\S*%40"),
    login: regex(r#"[^\s:/@"'=,(]+:[^\s@]+@"#),
    header: regex(r#"(?i)((?:proxy-)?authorization|(?:set-)?cookie)(\\?["']?\s*[:=]\s*\\?["']?)[^\r\n"]+"#),
    scheme: regex(r"(?i)\b(bearer|basic|negotiate)\s+[A-Za-z0-9\-._~+/=]{6,}"),
    known_form: regex(
        r"\beyJ[A-Za-z0-9_\-]{5,}\.[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]*)?|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}|\bxox[abprs]-[A-Za-z0-9\-]{10,}|\bhvs\.[A-Za-z0-9_\-]{20,}",
    ),
    pair: regex(&format!(
        r#"(?i)([\w.\-]*(?:(?:{SECRET_WORDS})[\w.\-]*|{SECRET_ENDS}))(\\?["']?\s*(?:=>|[:=])\s*)(\\"[^"]*\\"|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s"',;&}}\])]+)"#
    )),
    flag: regex(&format!(r"(?i)(--?[\w\-]*(?:(?:{SECRET_WORDS})[\w\-]*|{SECRET_ENDS}))(\s+)([^\s\-]\S*)")),
    url_password: regex(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s:/@]*:(\S+)@"),
});

/// Whether something of this name is a secret, and not merely where one is.
pub fn is_secret_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    PATTERNS.name.is_match(&lower) && !PLACES.iter().any(|end| lower.ends_with(end))
}

/// The passwords in the URLs of `text`.
pub fn url_passwords(text: &str) -> Vec<String> {
    PATTERNS.url_password.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

/// `text` without private keys, which go over several lines.
pub fn without_keys(text: &str) -> Cow<'_, str> {
    PATTERNS.private_key.replace_all(text, "REDACTED PRIVATE KEY")
}

/// `text` with everything that looks like a secret replaced.
pub fn redact(text: &str) -> String {
    let p = &*PATTERNS;
    let mut text = without_keys(text);
    let mut replace = |pattern: &Regex, by: &str| {
        if let Cow::Owned(changed) = pattern.replace_all(&text, by) {
            text = Cow::Owned(changed);
        }
    };
    replace(&p.header, "${1}${2}REDACTED");
    replace(&p.encoded_url, "${1}REDACTED%40");
    replace(&p.scheme, "$1 REDACTED");
    replace(&p.known_form, REDACTED);
    // The digest of an image stands behind an @ too.
    let text = p.url.replace_all(&text, |found: &Captures<'_>| {
        let image = found[1].starts_with("docker") && is_digest(&text, found);
        if image { found[0].to_owned() } else { format!("{}{REDACTED}@", &found[1]) }
    });
    let text = p.login.replace_all(&text, |found: &Captures<'_>| {
        if is_digest(&text, found) || is_redacted_url(&found[0]) {
            found[0].to_owned()
        } else {
            format!("{REDACTED}@")
        }
    });
    let pairs = p.pair.replace_all(&text, |found: &Captures<'_>| {
        if !is_secret_name(&found[1]) {
            return found[0].to_owned();
        }
        let value = &found[3];
        let quote = ["\\\"", "\"", "'"].into_iter().find(|quote| value.starts_with(quote)).unwrap_or("");
        format!("{}{}{quote}{REDACTED}{quote}", &found[1], &found[2])
    });
    let flags = p.flag.replace_all(&pairs, |found: &Captures<'_>| {
        if is_secret_name(&found[1]) {
            format!("{}{}{REDACTED}", &found[1], &found[2])
        } else {
            found[0].to_owned()
        }
    });
    flags.into_owned()
}

/// Whether `found`, which ends with an @, is followed by the digest of an image.
fn is_digest(text: &str, found: &Captures<'_>) -> bool {
    found.get(0).is_some_and(|all| text[all.end()..].starts_with("sha256:"))
}

/// Whether `found` is only the beginning of a URL whose login has been replaced already.
fn is_redacted_url(found: &str) -> bool {
    let scheme = found.strip_suffix(&format!("://{REDACTED}@"));
    scheme.is_some_and(|scheme| scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No secret of these lines may be left; what is no secret stays.
    #[test]
    fn nothing_secret_is_left_of_nasty_lines() {
        for line in [
            "connecting to amqp://user:hunter2@rabbit:5672/%2f",
            "connecting to amqp://user:hun@ter2/x@rabbit:5672/%2f failed",
            "amqp://user:hun%40ter2hunter2@a:1,amqp://user:hunter2@b:2",
            "mongodb+srv://u:hunter2@cluster.example/?authSource=admin",
            "amqp://:hunter2@rabbit",
            "https://hunter2@git.example/x",
            "amqp://user:hunter2\"quoted@rabbit",
            "redirect=amqp%3A%2F%2Fuser%3Ahunter2%40rabbit%3A5672",
            "login user:hunter2@rabbit refused",
            "Authorization: Bearer hunter2hunter2",
            "authorization: Custom hunter2 hunter2",
            r#"{"headers":{"Authorization":"Token hunter2"}}"#,
            "Cookie: a=hunter2; b=hunter2",
            "got 'basic aHVudGVyMg==hunter2'",
            "password=hunter2",
            "PASSWORD = hunter2",
            "db_password: hunter2,",
            "rabbitmq.default_pass_token => 'hunter2 hunter2'",
            "default_pass = hunter2",
            "DB_PASS=hunter2",
            "PGPASS=hunter2 next",
            "pass_2: hunter2",
            r#"{"pass":"hunter2"}"#,
            "encryption_key: hunter2",
            "SIGNING_KEY=hunter2",
            "--db-pass hunter2",
            "https://x.example/c?sv=1&sig=hunter2",
            r#"password="hunter2 hunter2" next"#,
            r#"{"apiKey":"hunter2","x":1}"#,
            r#"{"message":"{\"password\":\"hunter2 hunter2\"}"}"#,
            r#"{"clientSecret": "hun\"ter2hunter2"}"#,
            "--token hunter2 --verbose",
            "--db-password=hunter2",
            "https://x.example/?access_token=hunter2&page=2",
            "AccountKey=hunter2;EndpointSuffix=core",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.hunter2",
            "-----BEGIN RSA PRIVATE KEY-----\nhunter2\nhunter2\n-----END RSA PRIVATE KEY-----",
            "cut off: -----BEGIN PRIVATE KEY-----\nhunter2",
            "\u{1f511} пароль amqp://ä:hunter2@ö",
        ] {
            let cleaned = redact(line);
            assert!(!cleaned.contains("hunter2"), "{line}\n{cleaned}");
            assert!(cleaned.contains(REDACTED), "{line}\n{cleaned}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for line in [
            "connecting to the broker at rabbit:5672",
            "GET https://10.96.0.1:443/apis/focus-operator.io/v1alpha1/focusjobs?limit=500",
            "no consumer has attached to the queue within 30 s",
            "secretName: broker",
            "registry:5000/focus@sha256:0123",
            "docker-pullable://registry:5000/focus@sha256:0123",
            "--broker-url-file=/etc/focus/broker/url --token-file /x",
            "2030-01-01T00:00:00Z job 18-3 is Ready",
            r#"{"level":"INFO","fields":{"message":"listening","address":"0.0.0.0:8080"}}"#,
            "tokenExpirationSeconds: 3600",
            "2 tests passed: 3 s; signal=9 keyboard=de topologyKey: zone",
            r#"{"secretKeyRef":{"key":"url","name":"broker"}}"#,
        ] {
            assert_eq!(redact(line), line);
        }
        assert_eq!(redact("see amqp://u:p@rabbit:5672/%2f"), "see amqp://REDACTED@rabbit:5672/%2f");
        assert_eq!(redact(r#"{"apiKey":"x","n":1}"#), r#"{"apiKey":"REDACTED","n":1}"#);
    }

    #[test]
    fn names_of_secrets_and_of_their_places() {
        for (name, secret) in [
            ("RABBITMQ_PASSWORD", true),
            ("apiKey", true),
            ("API_KEY", true),
            ("secretName", false),
            ("secretKeyRef", false),
            ("FOCUS_BROKER_URL_FILE", false),
            ("token-file", false),
            ("serviceAccountName", false),
            ("FOCUS_LOG", false),
            ("default_pass", true),
            ("dbPass", true),
            ("PGPASSFILE", false),
            ("passthrough", false),
            ("signing_key", true),
            ("key", false),
            ("topologyKey", false),
            ("sig", true),
            ("signal", false),
        ] {
            assert_eq!(is_secret_name(name), secret, "{name}");
        }
        assert_eq!(url_passwords("amqp://u:p1@a and http://x:p2@b"), ["p1", "p2"]);
    }
}
