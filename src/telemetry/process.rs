//! What this process uses: the `process_*` metrics, and its CPU time more exactly than the library tells it, whose
//! counter shows whole seconds only: a server that uses 3 % of a core would stand still for half a minute.

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Opts};
use rustix::time::{ClockId, clock_gettime};

/// Name of the counter of CPU time.
pub const CPU: &str = "process_cpu_seconds_total";

/// The library's collector with another counter of CPU time.
pub struct Process {
    library: ProcessCollector,
    cpu: Counter,
}

impl Process {
    /// Of this process.
    ///
    /// # Errors
    /// None that is known: the name is one.
    pub fn own() -> prometheus::Result<Self> {
        let help = "Total user and system CPU time spent in seconds.";
        let cpu = Counter::with_opts(Opts::new(CPU, help))?;
        Ok(Self { library: ProcessCollector::for_self(), cpu })
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.library.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.library.collect();
        families.retain(|family| family.name() != CPU);
        // Two who collect at once may see each other's addition.
        self.cpu.inc_by((cpu_seconds() - self.cpu.get()).max(0.0));
        families.extend(self.cpu.collect());
        families
    }
}

/// CPU time of this process, user and system, s.
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use prometheus::Registry;

    use super::*;

    #[test]
    fn parts_of_a_second_are_counted_beside_what_the_library_tells() {
        let registry = Registry::new();
        registry.register(Box::new(Process::own().unwrap())).unwrap();
        let cpu = || {
            let families = registry.gather();
            let named: Vec<_> = families.iter().filter(|family| family.name() == CPU).collect();
            assert_eq!(named.len(), 1, "{families:?}");
            assert!(families.iter().any(|family| family.name() == "process_resident_memory_bytes"));
            named[0].get_metric()[0].get_counter().get_value()
        };
        let before = cpu();
        let until = cpu_seconds() + 0.02;
        while cpu_seconds() < until {
            std::hint::black_box(0);
        }
        let used = cpu() - before;
        assert!(used >= 0.02, "{used}");
    }
}
