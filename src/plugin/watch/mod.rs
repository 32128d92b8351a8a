//! `kubectl focus watch`: the table of jobs by a watch of the API server, redrawn on a terminal; elsewhere a line for
//! each change.

mod board;
mod redraw;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::{self, watcher};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::args::{Choice, Display, Place};
use super::cluster::{Cluster, ReadError};
use super::print;
use super::show::list::Columns;
use crate::backoff::Backoff;
use crate::shutdown;
use board::{Board, Change};
use redraw::Redraw;

/// How often a changed table may be drawn, and an unchanged one is, for its ages.
const DRAW: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// A connection that has gone dead without a word is noticed within this and 5 s, s.
const WATCH_SECONDS: u32 = 60;
/// How many times in a row the watch may fail.
const TRIES: u32 = 10;

/// Command line of `watch`.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// Where to look.
    #[command(flatten)]
    place: Place,
    /// Which jobs.
    #[command(flatten)]
    choice: Choice,
    /// How it is shown.
    #[command(flatten)]
    display: Display,
    /// `wide`: more columns; `json`: a JSON object for each change, on a line of its own.
    #[arg(short, long)]
    output: Option<Output>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Wide,
    Json,
}

/// Watches until it is interrupted.
///
/// # Errors
/// When jobs may not be watched, or the API server stayed away.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let stop = shutdown::on_signal()?;
    let cluster = Cluster::find(&args.place).await?;
    // What is wrong for good (no rights, no definitions, no cluster) is told at once.
    tokio::select! {
        first = cluster.list(&args.choice) => drop(first?),
        () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
    }
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
    config.label_selector.clone_from(&args.choice.selector);
    let mut events = Box::pin(watcher(cluster.jobs(&args.choice), config));
    let mut screen = Shown::new(&args);
    let mut trouble = Trouble::new();
    let mut tick = interval(DRAW.0);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.next(), if trouble.is_over() => match event {
                Some(Ok(event)) => {
                    trouble.end();
                    screen.take(event)?;
                }
                Some(Err(error)) => {
                    let why = trouble.begin(&cluster, &error)?;
                    screen.note(why)?;
                }
                None => bail!("the watch of FocusJobs ended by itself"),
            },
            () = trouble.pause() => {}
            _ = tick.tick() => screen.draw()?,
            () = stop.cancelled() => {
                screen.finish()?;
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

/// A watch that has failed, and until when it is left alone.
struct Trouble {
    backoff: Backoff,
    failures: u32,
    until: Option<Instant>,
}

impl Trouble {
    fn new() -> Self {
        Self {
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(20)),
            failures: 0,
            until: None,
        }
    }

    fn is_over(&self) -> bool {
        self.until.is_none()
    }

    fn end(&mut self) {
        self.failures = 0;
        self.backoff.reset();
    }

    /// Enters a failure; gives the words for it.
    fn begin(&mut self, cluster: &Cluster, error: &watcher::Error) -> anyhow::Result<String> {
        self.failures += 1;
        let read = explain(cluster, error);
        let for_good = matches!(
            read,
            ReadError::Forbidden { .. } | ReadError::NoDefinitions { .. } | ReadError::Unauthorized { .. }
        );
        if for_good {
            return Err(read.into());
        }
        if self.failures >= TRIES {
            bail!("given up after {TRIES} tries: {read}");
        }
        let pause = self.backoff.pause();
        self.until = Some(Instant::now() + pause);
        Ok(format!("{read}; next try in {:.1} s", pause.as_secs_f64()))
    }

    /// Waits until the watch may be tried again; for ever when it is not in trouble.
    async fn pause(&mut self) {
        match self.until {
            Some(until) => {
                tokio::time::sleep_until(until).await;
                self.until = None;
            }
            None => std::future::pending().await,
        }
    }
}

fn explain(cluster: &Cluster, error: &watcher::Error) -> ReadError {
    let what = "watching FocusJobs";
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => cluster.explain(what, error),
        watcher::Error::WatchError(status) => cluster.explain(what, &kube::Error::Api(status.clone())),
        watcher::Error::NoResourceVersion => {
            ReadError::Refused { what: what.to_owned(), message: error.to_string() }
        }
    }
}

/// What has been shown, and how.
struct Shown {
    board: Board,
    json: bool,
    redraw: Option<Redraw>,
    namespace: bool,
}

impl Shown {
    fn new(args: &Args) -> Self {
        let json = args.output == Some(Output::Json);
        let namespace = args.choice.all_namespaces;
        let columns = Columns { namespace, wide: args.output == Some(Output::Wide) };
        let terminal = args.display.screen().is_terminal() && !json;
        let redraw = terminal.then(|| Redraw::new(args.display.clone(), columns));
        Self { board: Board::default(), json, redraw, namespace }
    }

    fn take(&mut self, event: watcher::Event<crate::api::FocusJob>) -> anyhow::Result<()> {
        let changes = self.board.take(event);
        if let Some(redraw) = &mut self.redraw {
            redraw.changed(None);
            return Ok(());
        }
        let now = Timestamp::now();
        let line = |change: &Change| {
            if self.json { change.to_json() } else { change.to_line(self.namespace, now) }
        };
        print(&changes.iter().map(|change| line(change) + "\n").collect::<String>())
    }

    fn note(&mut self, why: String) -> anyhow::Result<()> {
        match &mut self.redraw {
            Some(redraw) => redraw.changed(Some(why)),
            None => eprintln!("kubectl focus: {why}"),
        }
        Ok(())
    }

    fn draw(&mut self) -> anyhow::Result<()> {
        let Some(redraw) = &mut self.redraw else { return Ok(()) };
        if self.board.is_complete() { redraw.draw(&self.board) } else { Ok(()) }
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.redraw.as_mut().map_or(Ok(()), Redraw::finish)
    }
}
