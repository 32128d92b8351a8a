//! What is said when nothing can be told.

use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::plugin::{focus, kubectl};

/// A kubeconfig with another address of the API server; removed when this is dropped.
struct Elsewhere(PathBuf);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Elsewhere {
    fn new(address: impl FnOnce(&str) -> String) -> Self {
        let shown =
            kubectl(&[]).args(["config", "view", "--raw", "--minify", "--flatten", "-o", "json"]).output();
        let mut config: Value = serde_json::from_slice(&shown.unwrap().stdout).unwrap();
        let cluster = &mut config["clusters"][0]["cluster"];
        cluster["server"] = json!(address(cluster["server"].as_str().unwrap()));
        let name = format!("elsewhere-{:08x}.kubeconfig", rand::random::<u32>());
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&file, config.to_string()).unwrap();
        Self(file)
    }

    fn status(&self, more: &[&str]) -> String {
        let told = focus(&[&["status", "--kubeconfig", self.0.to_str().unwrap()], more].concat());
        assert_eq!((told.code, told.out.as_str()), (Some(1), ""), "{}", told.err);
        told.err
    }
}

#[test]
fn a_cluster_without_the_definitions_is_told_how_to_get_them() {
    // The API server answers what it does not serve in the same way wherever that is.
    let bare = Elsewhere::new(|address| format!("{}/not-there", address.trim_end_matches('/')));
    for more in [&[][..], &["view"], &["-A"]] {
        let words = bare.status(more);
        assert!(words.contains("does not know FocusJobs") && words.contains("helm install"), "{words}");
    }
}

#[test]
fn no_cluster_and_a_silent_one() {
    // Nothing listens on the discard port of this machine.
    let words = Elsewhere::new(|_| "https://127.0.0.1:9".to_owned()).status(&[]);
    assert!(words.contains("no connection to the API server at https://127.0.0.1:9"), "{words}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let words = Elsewhere::new(|_| format!("https://127.0.0.1:{port}")).status(&["--request-timeout", "1s"]);
    assert!(words.contains("within 1 s") || words.contains("no connection"), "{words}");

    let told = focus(&["status", "--kubeconfig", "/no/such/file"]);
    assert_eq!(told.code, Some(1));
    assert!(told.err.contains("reading the kubeconfig /no/such/file"), "{}", told.err);
    let told = focus(&["status", "--context", "no-such-context"]);
    assert!(told.err.contains("no-such-context") && told.err.contains("get-contexts"), "{}", told.err);
}

#[test]
fn wrong_usage_and_versions() {
    for args in [&["stat"][..], &["status", "pod/x"], &["status", "x", "-l", "a=b"], &["trace"]] {
        assert_eq!(focus(args).code, Some(2), "{args:?}");
    }
    let version = focus(&["version", "--client"]);
    version.has(&[&format!("kubectl-focus: {}", env!("CARGO_PKG_VERSION")), "focus-operator.io/v1alpha1"]);
    focus(&["version"]).has(&["Kubernetes: v1."]);
    focus(&["--help"]).has(&["Exit codes:", "status", "watch", "trace", "report", "probe", "completion"]);
}
