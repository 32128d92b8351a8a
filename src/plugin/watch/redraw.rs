//! A table that is drawn over and over at the same place of a terminal, and stays there at the end.

use std::fmt::Write as _;
use std::time::Duration;

use crossterm::Command;
use crossterm::cursor::{Hide, MoveToColumn, MoveUp, Show};
use crossterm::terminal::{Clear, ClearType};
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::DRAW;
use super::board::Board;
use crate::plugin::args::Display;
use crate::plugin::print;
use crate::plugin::screen::{Screen, Tone};
use crate::plugin::show::list::{self, Columns};

/// What stands on the terminal.
pub struct Redraw {
    display: Display,
    columns: Columns,
    note: Option<String>,
    changed: bool,
    drawn: Option<(Instant, Screen, usize)>,
}

impl Redraw {
    /// Nothing is drawn yet.
    pub fn new(display: Display, columns: Columns) -> Self {
        Self { display, columns, note: None, changed: true, drawn: None }
    }

    /// There is something new to be drawn, under it `note`.
    pub fn changed(&mut self, note: Option<String>) {
        (self.changed, self.note) = (true, note);
    }

    /// Draws what is new, or grows older.
    pub fn draw(&mut self, board: &Board) -> anyhow::Result<()> {
        let due = self.drawn.is_none_or(|(at, ..)| at.elapsed() >= DRAW.1 - Duration::from_millis(50));
        if !self.changed && !due {
            return Ok(());
        }
        let screen = self.display.screen();
        let text = frame(board, self.columns, self.note.as_deref(), Timestamp::now(), &screen);
        let mut out = String::new();
        match self.drawn {
            None => ansi(&mut out, Hide),
            Some((_, before, lines)) if before == screen => {
                ansi(&mut out, MoveToColumn(0));
                if lines > 0 {
                    ansi(&mut out, MoveUp(u16::try_from(lines).unwrap_or(u16::MAX)));
                }
            }
            // The terminal has another size, and has broken the lines anew.
            Some(_) => {
                ansi(&mut out, Clear(ClearType::All));
                ansi(&mut out, crossterm::cursor::MoveTo(0, 0));
            }
        }
        for line in text.lines() {
            out.push_str(line);
            ansi(&mut out, Clear(ClearType::UntilNewLine));
            out.push('\n');
        }
        ansi(&mut out, Clear(ClearType::FromCursorDown));
        (self.drawn, self.changed) = (Some((Instant::now(), screen, text.lines().count())), false);
        print(&out)
    }

    /// Gives the cursor back.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let mut out = String::new();
        if self.drawn.take().is_some() {
            ansi(&mut out, MoveToColumn(0));
            ansi(&mut out, Clear(ClearType::UntilNewLine));
            ansi(&mut out, Show);
        }
        print(&out)
    }
}

impl Drop for Redraw {
    fn drop(&mut self) {
        // After an error the cursor must come back too; where even that fails there is nobody to tell.
        let _ = self.finish();
    }
}

fn ansi(out: &mut String, command: impl Command) {
    // Writing to a String does not fail.
    let _ = command.write_ansi(out);
}

/// The lines that fit the terminal: a heading, the most urgent jobs, how many more there are, the note.
fn frame(board: &Board, columns: Columns, note: Option<&str>, now: Timestamp, screen: &Screen) -> String {
    let jobs = board.sorted();
    let rows = usize::from(screen.height.unwrap_or(u16::MAX));
    // The heading, the table's head, what is left out, the note, and the line of the cursor.
    let room = rows.saturating_sub(5).max(1);
    let shown = &jobs[..jobs.len().min(room)];
    let title = format!("{} FocusJobs at {now:.0}", jobs.len());
    let mut text = format!("{}\n", screen.paint(&title, Tone::Title));
    if !shown.is_empty() {
        text.push_str(&list::draw(shown, columns, now, screen));
    }
    if jobs.len() > shown.len() {
        let more = format!("{} and {} more", screen.ellipsis(), jobs.len() - shown.len());
        let _ = writeln!(text, "{}", screen.paint(&more, Tone::Dim));
    }
    if let Some(note) = note {
        let width = usize::from(screen.width.unwrap_or(u16::MAX)).saturating_sub(1);
        let line: String = screen.clean(note).chars().take(width).collect();
        let _ = writeln!(text, "{}", screen.paint(&line, Tone::Bad));
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;

    use super::*;
    use crate::api::conditions::READY;
    use crate::api::focusjob::JobPhase;
    use crate::api::job_view::tests::job;
    use crate::plugin::screen::tests::plain;

    #[test]
    fn a_frame_is_never_higher_or_wider_than_the_terminal() {
        let mut board = Board::default();
        board.take(Event::Init);
        for i in 0..40 {
            let mut job = job(Some(JobPhase::Ready), &[(READY, true, "Ready")]);
            job.metadata.name = Some(format!("18-{i}"));
            board.take(Event::InitApply(job));
        }
        board.take(Event::InitDone);
        let columns = Columns { namespace: false, wide: false };
        for (width, height) in [(80, 24), (120, 10), (60, 6), (200, 60)] {
            let screen = Screen { height: Some(height), ..plain(Some(width)) };
            let note = "x".repeat(300);
            let text = frame(&board, columns, Some(&note), Timestamp::UNIX_EPOCH, &screen);
            assert!(text.lines().count() < usize::from(height), "{height}:\n{text}");
            assert!(text.lines().all(|line| line.chars().count() <= usize::from(width)), "{width}:\n{text}");
            assert_eq!(text.contains("more"), height < 45, "{height}:\n{text}");
        }
        let none = frame(&Board::default(), columns, None, Timestamp::UNIX_EPOCH, &plain(Some(80)));
        assert_eq!(none, "0 FocusJobs at 1970-01-01T00:00:00Z\n");
    }
}
