//! The gauge of the windows, computed when it is scraped.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

/// How many windows are taken, and how many free.
pub struct WindowGauge<F> {
    count: u16,
    taken: F,
    windows: IntGaugeVec,
}

impl<F: Fn() -> usize> WindowGauge<F> {
    /// Of `count` windows so many are taken as `taken` tells.
    ///
    /// # Errors
    /// Never: the metric's name is valid.
    pub fn new(count: u16, taken: F) -> prometheus::Result<Self> {
        let options = Opts::new(
            "focus_server_windows",
            "Windows of live jobs, and free ones, as this replica knows them; each job has a window to itself. All \
             replicas share them: take the max over the replicas, not the sum.",
        );
        Ok(Self { count, taken, windows: IntGaugeVec::new(options, &["state"])? })
    }
}

impl<F: Fn() -> usize + Send + Sync> Collector for WindowGauge<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.windows.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let taken = i64::try_from((self.taken)()).unwrap_or(i64::MAX);
        for (state, count) in [("taken", taken), ("free", i64::from(self.count) - taken)] {
            self.windows.with_label_values(&[state]).set(count);
        }
        self.windows.collect()
    }
}
