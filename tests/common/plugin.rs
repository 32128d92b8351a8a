//! The kubectl plugin, run by the real kubectl.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A command of kubectl that finds the plugin on PATH, with `folders` before it, in a locale of UTF-8.
pub fn kubectl(folders: &[&Path]) -> Command {
    let mut command = Command::new("kubectl");
    command.env("PATH", path(folders)).env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
    command
}

/// PATH with `folders` and the plugin's.
pub fn path(folders: &[&Path]) -> OsString {
    let plugin = Path::new(env!("CARGO_BIN_EXE_kubectl-focus")).parent().unwrap().to_owned();
    let old = std::env::var_os("PATH").unwrap_or_default();
    let folders = folders.iter().map(|folder| PathBuf::from(*folder));
    std::env::join_paths(folders.chain([plugin]).chain(std::env::split_paths(&old))).unwrap()
}

/// The outcome of `kubectl focus ARGS…`.
pub struct Told {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Told {
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    pub fn has(&self, words: &[&str]) {
        for word in words {
            assert!(self.out.contains(word), "{word:?} is missing:\n{}\n{}", self.out, self.err);
        }
    }
}

/// Runs `kubectl focus ARGS…` without a terminal.
pub fn focus(args: &[&str]) -> Told {
    Told::of(kubectl(&[]).arg("focus").args(args).output().unwrap())
}
