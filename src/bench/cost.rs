//! What a process used between two moments: the server, by its metrics, and this one.

use tokio::time::Instant;

use crate::probe::exposition::{CPU, Exposition, MEMORY};
use crate::probe::report::Report;
use crate::telemetry::process::cpu_seconds;

/// The CPU time of server and benchmark at one moment.
pub struct Cost {
    at: Instant,
    server: f64,
    own: f64,
}

impl Cost {
    /// Now, when the server's metrics are `metrics`.
    ///
    /// # Errors
    /// When they do not tell.
    pub fn now(metrics: &Exposition) -> anyhow::Result<Self> {
        Ok(Self { at: Instant::now(), server: metrics.sum(CPU)?, own: cpu_seconds() })
    }

    /// Enters what was used from then on until `metrics`, also for each of `count` things, which are `what`.
    ///
    /// # Errors
    /// When they do not tell.
    pub fn enter(
        &self,
        metrics: &Exposition,
        count: u64,
        what: &str,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let now = Self::now(metrics)?;
        let (seconds, server) = ((now.at - self.at).as_secs_f64(), now.server - self.server);
        report.fact("server: CPU, % of one core", server / seconds * 100.0);
        report.fact(format!("server: CPU ms per {what}"), server * 1e3 / count.max(1) as f64);
        report.fact("this program: CPU, % of one core", (now.own - self.own) / seconds * 100.0);
        report.fact("server: resident memory at the end, MiB", metrics.sum(MEMORY)? / MIB);
        Ok(())
    }
}

/// Bytes of a MiB.
pub const MIB: f64 = 1024.0 * 1024.0;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_differences() {
        let metrics = |cpu: f64| Exposition::parse(&format!("{CPU} {cpu}\n{MEMORY} 1048576\n"));
        let before = Cost {
            at: Instant::now() - std::time::Duration::from_secs(10),
            ..Cost::now(&metrics(1.0)).unwrap()
        };
        let mut report = Report::default();
        before.enter(&metrics(3.0), 100, "request", &mut report).unwrap();
        let fact = |name: &str| report.facts.iter().find(|f| f.name.starts_with(name)).unwrap().value;
        assert!((fact("server: CPU, %") - 20.0).abs() < 0.1);
        assert_eq!((fact("server: CPU ms per request"), fact("server: resident")), (20.0, 1.0));
        assert!(fact("this program") >= 0.0);
    }
}
