//! What standard output can show, and text that fits it.

use std::io::IsTerminal;

use crossterm::style::{Color, Stylize};

/// What standard output can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Columns; None: no terminal, so that lines may be as long as they are.
    pub width: Option<u16>,
    /// Rows, on a terminal.
    pub height: Option<u16>,
    /// Whether colours are wanted and understood.
    pub colour: bool,
    /// Whether more than ASCII is understood.
    pub unicode: bool,
    /// Whether tables have headings.
    pub headings: bool,
}

/// What a piece of text tells, which its colour shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Under way.
    Waiting,
    /// A cause for concern.
    Bad,
    /// Over, or of less interest.
    Dim,
    /// A heading.
    Title,
    /// Nothing special.
    Plain,
}

impl Tone {
    /// Its colour, if it has one.
    pub fn colour(self) -> Option<Color> {
        match self {
            Tone::Good => Some(Color::Green),
            Tone::Waiting => Some(Color::Yellow),
            Tone::Bad => Some(Color::Red),
            Tone::Dim => Some(Color::DarkGrey),
            Tone::Title | Tone::Plain => None,
        }
    }
}

impl Screen {
    /// Standard output and its locale.
    pub fn of_stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        // A terminal that does not know its size has the one that all once had.
        let known = || crossterm::terminal::size().ok().filter(|(width, height)| *width > 0 && *height > 0);
        let size = terminal.then(|| known().unwrap_or((80, 24)));
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            width: size.map(|(width, _)| width),
            height: size.map(|(_, height)| height),
            colour: terminal && variable("NO_COLOR").is_none() && variable("TERM").as_deref() != Some("dumb"),
            unicode: is_utf8(variable),
            headings: true,
        }
    }

    /// Whether it is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.width.is_some()
    }

    /// `text` in the colour of `tone`.
    pub fn paint(&self, text: &str, tone: Tone) -> String {
        match (self.colour, tone, tone.colour()) {
            (true, Tone::Title, _) => text.bold().to_string(),
            (true, _, Some(colour)) => text.with(colour).to_string(),
            _ => text.to_owned(),
        }
    }

    /// What shows that something was left away.
    pub fn ellipsis(&self) -> &'static str {
        if self.unicode { "…" } else { "..." }
    }

    /// `text` without control characters, which could do anything to a terminal, and within the locale.
    pub fn clean(&self, text: &str) -> String {
        text.chars()
            .map(|c| match c {
                '\n' | '\r' | '\t' => ' ',
                c if c.is_control() || is_invisible(c) || !(self.unicode || c.is_ascii()) => '?',
                c => c,
            })
            .collect()
    }

    /// `text` broken at spaces into lines that fit beside an indent of `indent` columns.
    pub fn wrap(&self, text: &str, indent: usize) -> String {
        let room = self.width.map_or(usize::MAX, |width| usize::from(width).saturating_sub(indent).max(20));
        let (mut lines, mut line) = (Vec::new(), String::new());
        for word in text.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
        lines.join(&format!("\n{}", " ".repeat(indent)))
    }
}

/// Characters that reorder or hide what stands around them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Whether the locale's characters are UTF-8, by the variable that decides.
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let deciding = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable);
    deciding.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// A length of time as kubectl writes it: two units at most.
pub fn age(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (s / 60, s / 3600, s / 86400);
    match s {
        0..=119 => format!("{s}s"),
        120..=599 if !s.is_multiple_of(60) => format!("{minutes}m{}s", s % 60),
        120..=10_799 => format!("{minutes}m"),
        10_800..=28_799 if minutes % 60 > 0 => format!("{hours}h{}m", minutes % 60),
        10_800..=172_799 => format!("{hours}h"),
        172_800..=691_199 if hours % 24 > 0 => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

/// Seconds of a phase: three decimals while they matter.
pub fn seconds(value: f64) -> String {
    match value {
        v if v < 100.0 => format!("{v:.3}"),
        v => format!("{v:.1}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A terminal of that width, without colours.
    pub fn plain(width: Option<u16>) -> Screen {
        Screen { width, height: width.map(|_| 24), colour: false, unicode: true, headings: true }
    }

    #[test]
    fn the_locale_tells_whether_bars_may_be_drawn() {
        let cases: [(&[(&str, &str)], bool); 6] = [
            (&[], false),
            (&[("LANG", "C")], false),
            (&[("LANG", "de_DE.UTF-8")], true),
            (&[("LC_CTYPE", "en_GB.utf8"), ("LANG", "C")], true),
            (&[("LC_ALL", "POSIX"), ("LANG", "en_GB.UTF-8")], false),
            (&[("LC_ALL", "C.UTF-8")], true),
        ];
        for (set, expected) in cases {
            let variable =
                |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(is_utf8(variable), expected, "{set:?}");
        }
    }

    #[test]
    fn ages_have_two_units_at_most() {
        for (seconds, expected) in [
            (-3.0, "0s"),
            (0.9, "0s"),
            (119.0, "119s"),
            (120.0, "2m"),
            (192.0, "3m12s"),
            (600.0, "10m"),
            (10_799.0, "179m"),
            (10_800.0, "3h"),
            (11_520.0, "3h12m"),
            (100_000.0, "27h"),
            (180_000.0, "2d2h"),
            (8.0 * 86400.0, "8d"),
            (400.0 * 86400.0, "400d"),
        ] {
            assert_eq!(age(seconds), expected, "{seconds} s");
        }
    }

    #[test]
    fn what_others_wrote_cannot_drive_the_terminal() {
        let screen = plain(None);
        assert_eq!(screen.clean("a\u{1b}[2Jb\n\tc\u{7}d\u{202e}e…"), "a?[2Jb  c?d?e…");
        assert_eq!(Screen { unicode: false, ..screen }.clean("5 µm…"), "5 ?m?");
    }

    #[test]
    fn text_is_broken_at_spaces() {
        let text = "no consumer has attached to the queue within 30 s";
        assert_eq!(plain(None).wrap(text, 2), text);
        assert_eq!(plain(Some(26)).wrap(text, 2), "no consumer has attached\n  to the queue within 30 s");
        assert_eq!(plain(Some(1)).wrap("a b", 2), "a b");
    }

    #[test]
    fn colour_only_where_it_is_wanted() {
        let screen = plain(Some(80));
        assert_eq!(screen.paint("Ready", Tone::Good), "Ready");
        let painted = Screen { colour: true, ..screen }.paint("Ready", Tone::Bad);
        assert!(painted.contains("Ready") && painted.len() > 5, "{painted:?}");
    }
}
