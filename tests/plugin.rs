//! The kubectl plugin by the real kubectl, on the real cluster. `make test` sets the environment that it needs.

#![allow(clippy::unwrap_used)]

mod common;
mod plugin {
    mod errors;
    mod krew;
    mod live;
    mod report;
    mod rights;
    mod status;
}
