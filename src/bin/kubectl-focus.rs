//! `kubectl focus`: the kubectl plugin of the Focus operator. kubectl finds it by its name on PATH.

use std::process::ExitCode;

fn main() -> ExitCode {
    focus_operator::plugin::main()
}
