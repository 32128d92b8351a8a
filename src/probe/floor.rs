//! The floor: what the cluster and the broker need for a bare pod and a bare queue, in the same run.

use k8s_openapi::api::core::v1::PodSpec;

use super::args::Options;
use super::broker::queue_floor;
use super::cluster::Cluster;
use super::pod;
use super::report::{Report, Row};

/// How many bare queues are measured.
const QUEUES: u32 = 50;

/// Bare pods, measured between the jobs so that both see the same machine.
pub struct PodFloor {
    cluster: Cluster,
    spec: PodSpec,
    wanted: u32,
    scheduled: Vec<f64>,
    ready: Vec<f64>,
    trouble: Option<String>,
}

impl PodFloor {
    /// A floor for `cluster`; a note in `report` when none can be measured.
    pub async fn prepare(cluster: &Cluster, args: &Options, report: &mut Report) -> Option<Self> {
        if args.no_floor || args.floor_samples == 0 {
            return None;
        }
        match pod::bare_pod(cluster, args).await {
            Ok(spec) => Some(Self {
                cluster: cluster.clone(),
                spec,
                wanted: args.floor_samples,
                scheduled: Vec::new(),
                ready: Vec::new(),
                trouble: None,
            }),
            Err(error) => {
                report.notes.push(format!("no floor of bare pods: {error:#}"));
                None
            }
        }
    }

    /// Measures as many pods as are due after `done` of `all` jobs.
    pub async fn due(&mut self, done: u32, all: u32) {
        let due = due(done, all, self.wanted);
        while self.trouble.is_none() && self.ready.len() < due {
            match pod::sample(&self.cluster, &self.spec).await {
                Ok(times) => {
                    eprintln!(
                        "bare pod: scheduled {:.1} ms, Ready {:.1} ms",
                        times.scheduled * 1e3,
                        times.ready * 1e3
                    );
                    self.scheduled.push(times.scheduled);
                    self.ready.push(times.ready);
                }
                Err(error) => self.trouble = Some(format!("the floor of bare pods ended early: {error:#}")),
            }
        }
    }

    /// Enters what was measured.
    pub fn finish(self, report: &mut Report) {
        report.floor.push(Row::new("bare pod: create -> scheduled seen", self.scheduled));
        report.floor.push(Row::new("bare pod: create -> Ready seen", self.ready));
        report.notes.extend(self.trouble);
    }
}

/// How many of `wanted` samples are due after `done` of `all` jobs: the first at once, then evenly.
fn due(done: u32, all: u32, wanted: u32) -> usize {
    let due = u64::from(done) * u64::from(wanted) / u64::from(all.max(1)) + 1;
    due.min(u64::from(wanted)) as usize
}

/// Measures bare queues and enters them; a note when that cannot be.
pub async fn queues(args: &Options, report: &mut Report) {
    let floor = match args.broker.find() {
        Some(address) => queue_floor(&address, QUEUES).await,
        None => {
            let how = "set FOCUS_BROKER_URL_FILE or FOCUS_BROKER_URL";
            report.notes.push(format!("no floor of bare queues: no broker is named; {how}"));
            return;
        }
    };
    match floor {
        Ok(floor) => {
            report.floor.push(Row::new("bare queue: declare -> declare-ok", floor.declare));
            report.floor.push(Row::new("bare queue: consume -> consume-ok", floor.consume));
        }
        Err(error) => report.notes.push(format!("no floor of bare queues: {error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::due;

    #[test]
    fn samples_lie_evenly_between_the_jobs() {
        for (done, all, wanted, expected) in [
            (0, 20, 5, 1),
            (3, 20, 5, 1),
            (4, 20, 5, 2),
            (16, 20, 5, 5),
            (20, 20, 5, 5),
            (0, 1, 5, 1),
            (1, 1, 5, 5),
            (0, 20, 0, 0),
        ] {
            assert_eq!(due(done, all, wanted), expected, "{done} of {all}, {wanted}");
        }
    }
}
