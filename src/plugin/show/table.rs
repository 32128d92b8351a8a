//! Tables as kubectl prints them: no lines, fitted to the terminal.

use comfy_table::{Attribute, Cell, ContentArrangement, Row, Table, presets};

use crate::plugin::screen::{Screen, Tone};

/// A cell, as the tone of what it tells.
pub struct Text {
    text: String,
    tone: Tone,
}

impl Text {
    /// A cell of a tone.
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Text {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// What becomes of text that is longer than its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Long {
    /// It goes on in the next line.
    Wrap,
    /// It is cut.
    Cut,
}

/// The lines of a table, each ending in a line break; without a terminal a row is one line, however long.
pub fn draw(screen: &Screen, indent: u16, header: &[&str], rows: Vec<Vec<Text>>, long: Long) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_truncation_indicator(screen.ellipsis()).force_no_tty();
    if screen.colour {
        table.enforce_styling();
        table.style_text_only();
    }
    if let Some(width) = screen.width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    if screen.headings {
        let titles = header.iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold));
        table.set_header(fitted(titles.collect(), long));
    }
    for cells in rows {
        let cells = cells.into_iter().map(|Text { text, tone }| {
            let cell = Cell::new(screen.clean(&text));
            match tone.colour() {
                Some(colour) => cell.fg(colour),
                None => cell,
            }
        });
        table.add_row(fitted(cells.collect(), long));
    }
    let last = table.column_count().saturating_sub(1);
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if i == 0 { indent } else { 0 }, if i == last { 0 } else { 2 }));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn fitted(cells: Vec<Cell>, long: Long) -> Row {
    let mut row = Row::from(cells);
    if long == Long::Cut {
        row.max_height(1);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::screen::tests::plain;

    fn rows() -> Vec<Vec<Text>> {
        vec![
            vec!["18-3".into(), Text::new("Ready", Tone::Good), "all is there and lines are coming".into()],
            vec!["view".into(), Text::new("Failed", Tone::Bad), "six analyzers\nfailed\u{1b}[31m".into()],
        ]
    }

    #[test]
    fn without_a_terminal_a_row_is_a_line() {
        let drawn = draw(&plain(None), 0, &["NAME", "STATE", "WHY"], rows(), Long::Wrap);
        let expected = "\
NAME  STATE   WHY
18-3  Ready   all is there and lines are coming
view  Failed  six analyzers failed?[31m
";
        assert_eq!(drawn, expected);
    }

    #[test]
    fn on_a_terminal_it_fits() {
        for width in 20..60 {
            for long in [Long::Wrap, Long::Cut] {
                let drawn = draw(&plain(Some(width)), 2, &["NAME", "STATE", "WHY"], rows(), long);
                let longest = drawn.lines().map(|line| line.chars().count()).max().unwrap_or(0);
                assert!(longest <= usize::from(width), "{width}:\n{drawn}");
                assert!(long == Long::Wrap || drawn.lines().count() == 3, "{width}:\n{drawn}");
            }
        }
        let drawn = draw(&plain(Some(30)), 0, &["NAME", "STATE", "WHY"], rows(), Long::Cut);
        assert!(drawn.contains('…') && drawn.contains("18-3  Ready"), "\n{drawn}");
    }

    #[test]
    fn colours_and_headings_are_the_screen_s() {
        let coloured = Screen { colour: true, ..plain(None) };
        let drawn = draw(&coloured, 0, &["A", "B", "C"], rows(), Long::Wrap);
        assert!(drawn.contains("\u{1b}["), "{drawn:?}");
        let bare = Screen { headings: false, ..plain(None) };
        assert_eq!(draw(&bare, 0, &["A", "B", "C"], rows(), Long::Wrap).lines().count(), 2);
    }
}
