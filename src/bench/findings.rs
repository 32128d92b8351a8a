//! Whether all lines arrived: by the readers' counts, and by the server's own. Pure.

use super::publisher::Published;
use super::streams::Read;
use super::tally::Tally;
use crate::probe::exposition::Exposition;
use crate::probe::report::{Failure, Report};

/// Lines that came to the server.
const RECEIVED: &str = "focus_server_lines_total";
/// Lines that it lost, by reason.
const DROPPED: &str = "focus_server_lines_dropped_total";

/// What publishers, readers and the server say.
pub struct Findings {
    /// Of each job.
    pub published: Vec<Published>,
    /// Of each reader.
    pub read: Vec<Read>,
    /// The server's metrics before the first line.
    pub before: Exposition,
    /// And after the last.
    pub after: Exposition,
}

impl Findings {
    /// Enters counts, and a failure for each way in which they are wrong.
    pub fn enter(&self, report: &mut Report) {
        let due = |job: usize| self.published.get(job).map_or(0, |published| published.due);
        let all = self.read.iter().fold(Tally::default(), |sum, (_, tally, _)| sum.and(*tally));
        let losses: Vec<u64> = self.read.iter().map(|(job, tally, _)| tally.lost(due(*job))).collect();
        let lost: u64 = losses.iter().sum();
        report.fact("readers", self.read.len() as f64);
        report.fact("lines received by readers", all.received as f64);
        report.fact("lines lost by readers", lost as f64);
        report.fact("of these, lost as slow readers", all.told_lost as f64);
        let losers = losses.iter().filter(|lost| **lost > 0).count();
        let mut fail = |wrong: bool, reason: &str, message: String| {
            if wrong {
                report.failures.push(Failure::new("(lines)", reason, message));
            }
        };
        let message = format!(
            "{losers} of {} readers lost {lost} lines, of which the server calls {} lost by slow readers{}",
            self.read.len(),
            all.told_lost,
            self.dropped()
        );
        fail(lost > 0, "LinesLost", message);
        fail(all.spoiled > 0, "LinesSpoiled", format!("{} lines came with wrong content", all.spoiled));
        fail(all.repeated > 0, "LinesRepeated", format!("{} lines came more than once", all.repeated));
        self.enter_server(report);
        let failed = self.read.iter().filter_map(|(_, _, failure)| failure.as_ref());
        // One stands for all: they fail together, when they fail.
        report.failures.extend(failed.take(1).map(|why| Failure::new("(readers)", "StreamEnded", why)));
    }

    fn enter_server(&self, report: &mut Report) {
        let sent: u64 = self.published.iter().map(|published| published.due - published.left_out).sum();
        let received = self.more(RECEIVED, "");
        report.fact("lines received by the server", received);
        if received != sent as f64 {
            let message = format!("{sent} lines were published, the server counts {received}");
            report.failures.push(Failure::new("(server)", "ServerMissesLines", message));
        }
    }

    /// What the server says of lines that it lost, such as `; server: reason=gap 3`.
    fn dropped(&self) -> String {
        let reasons = self.after.series(DROPPED).filter_map(|(labels, _)| {
            let more = self.more(DROPPED, labels);
            (more > 0.0).then(|| format!("; server: {labels} {more}"))
        });
        reasons.collect()
    }

    /// By how much the series has grown.
    fn more(&self, name: &str, labels: &str) -> f64 {
        let value = |metrics: &Exposition| {
            metrics.series(name).find(|(found, _)| *found == labels).map_or(0.0, |(_, value)| value)
        };
        value(&self.after) - value(&self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(lines: u64, gaps: u64) -> Exposition {
        Exposition::parse(&format!("{RECEIVED} {lines}\n{DROPPED}{{reason=\"gap\"}} {gaps}\n"))
    }

    /// What a reader of job 0 got that had `indices`.
    fn read(indices: &[u64]) -> Read {
        let mut tally = Tally::default();
        for index in indices {
            tally.take(*index, true);
        }
        (0, tally, None)
    }

    #[test]
    fn each_way_to_lose_a_line_is_a_failure() {
        let (whole, gap, late) = (&[0, 1, 2, 3][..], &[0, 1, 3][..], &[0, 1, 2][..]);
        let ended = (0, read(whole).1, Some("gone".to_owned()));
        for (left_out, received, gaps, readers, reasons) in [
            (0, 4, 0, vec![read(whole), read(whole)], vec![]),
            (0, 4, 0, vec![read(whole), read(gap)], vec!["LinesLost"]),
            (0, 4, 0, vec![read(whole), read(late)], vec!["LinesLost"]),
            (1, 3, 1, vec![read(gap)], vec!["LinesLost"]),
            (0, 3, 1, vec![read(gap)], vec!["LinesLost", "ServerMissesLines"]),
            (0, 5, 0, vec![read(&[0, 1, 1, 2, 3])], vec!["LinesRepeated", "ServerMissesLines"]),
            (0, 4, 0, vec![ended], vec!["StreamEnded"]),
        ] {
            let findings = Findings {
                published: vec![Published { due: 4, left_out }],
                read: readers,
                before: metrics(10, 5),
                after: metrics(10 + received, 5 + gaps),
            };
            let mut report = Report::default();
            findings.enter(&mut report);
            let got: Vec<_> = report.failures.iter().map(|f| f.reason.as_str()).collect();
            assert_eq!(got, reasons, "{left_out} {received}");
            assert_eq!(report.failures.iter().any(|f| f.message.contains("reason=gap 1")), gaps > 0);
        }
    }
}
