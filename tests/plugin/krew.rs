//! The Krew manifest, by Krew itself.

use std::path::PathBuf;
use std::process::Command;

use crate::common::from_env;
use crate::common::plugin::kubectl;

#[test]
fn krew_installs_what_is_packed_for_it() {
    let folder =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("krew-{:08x}", rand::random::<u32>()));
    let packed = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/hack/krew-pack"))
        .args([folder.as_path(), env!("CARGO_BIN_EXE_kubectl-focus").as_ref()])
        .output()
        .unwrap();
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    let manifest = folder.join("focus.yaml");
    let mut packed = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let archive = packed.find(|path| path.extension().is_some_and(|end| end == "gz")).unwrap();
    let root = folder.join("root");
    let install = |manifest: &std::path::Path| {
        Command::new(from_env("FOCUS_TEST_KREW"))
            .args([
                "install",
                "--manifest",
                manifest.to_str().unwrap(),
                "--archive",
                archive.to_str().unwrap(),
            ])
            .env("KREW_ROOT", &root)
            .env("KREW_NO_UPGRADE_CHECK", "1")
            .output()
            .unwrap()
    };
    let installed = install(&manifest);
    let words = String::from_utf8_lossy(&installed.stderr).into_owned();
    assert!(installed.status.success(), "{words}");
    let version =
        Command::new(root.join("bin/kubectl-focus")).args(["version", "--client"]).output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let listed = kubectl(&[&root.join("bin")]).args(["plugin", "list"]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("/root/bin/kubectl-focus"), "{listed:?}");

    // Krew refuses an archive that is another than the manifest says.
    let text = std::fs::read_to_string(&manifest).unwrap();
    let sum = text.lines().find_map(|line| line.trim().strip_prefix("sha256: ")).unwrap();
    std::fs::remove_dir_all(&root).unwrap();
    std::fs::write(&manifest, text.replace(sum, &"0".repeat(64))).unwrap();
    assert!(!install(&manifest).status.success());
    std::fs::remove_dir_all(&folder).unwrap();
}
