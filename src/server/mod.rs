//! Placeholder.
/// Command line.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {}
/// Runs the role until it is told to stop.
pub async fn run(_args: Args) -> anyhow::Result<()> {
    Ok(())
}
