//! A small world: what the API server and the broker would have, and an operator that may die at any write.

use proptest::prelude::*;

use super::*;

struct World {
    job: FocusJob,
    pods: Vec<Pod>,
    queue: QueueSeen,
    seen: Timeline,
    failed: Option<(String, Timestamp)>,
    now: f64,
    writes: u32,
    /// At these status writes the operator dies.
    lost: Vec<u32>,
}

impl World {
    fn new(lost: Vec<u32>) -> Self {
        Self {
            job: job(),
            pods: Vec::new(),
            queue: QueueSeen::default(),
            seen: Timeline::default(),
            failed: None,
            now: 0.0,
            writes: 0,
            lost,
        }
    }

    fn observe(&mut self) -> Observed {
        self.seen.accepted_at.get_or_insert_with(|| micro(at(self.now)));
        Observed {
            pods: self.pods.clone(),
            queue: self.queue.clone(),
            seen: self.seen.clone(),
            failed_at: self.failed.as_ref().map(|(_, at)| *at),
            ..observed()
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::AddFinalizer => self.job = with_finalizer(self.job.clone()),
            Action::RemoveFinalizer => self.job.metadata.finalizers = None,
            Action::CreatePod(mut pod) => {
                assert!(self.pods.iter().all(|known| known.name_any() != pod.name_any()), "made twice");
                pod.metadata.uid = Some(pod.name_any());
                self.pods.push(*pod);
            }
            Action::DeletePod { uid, .. } => self.pods.retain(|pod| pod.uid().as_ref() != Some(&uid)),
            Action::EnsureQueue => self.queue = queue(0, self.now),
            Action::DeleteQueue => self.queue = QueueSeen { exists: Some(false), ..QueueSeen::default() },
            Action::DeleteJob => panic!("nobody asked for that"),
        }
    }

    /// One look as reconcile has it: plan, apply, plan again for the status only.
    fn look(&mut self) -> Plan {
        let observed = self.observe();
        let mut planned = plan(&self.job, &observed, at(self.now));
        if !planned.actions.is_empty() {
            planned.actions.into_iter().for_each(|action| self.act(action));
            let observed = self.observe();
            planned = plan(&self.job, &observed, at(self.now));
        }
        if planned.write {
            self.save(planned.status.clone());
        }
        planned
    }

    fn save(&mut self, status: FocusJobStatus) {
        self.writes += 1;
        if self.lost.contains(&self.writes) {
            // The operator dies before the write; the next one remembers nothing.
            self.seen = Timeline::default();
            self.failed = None;
            if self.queue.exists == Some(true) {
                self.queue = queue(self.queue.consumers, self.now);
            }
            // Its first list of pods stamps what it finds.
            if self.pods.iter().any(|pod| pod::state(pod) == pod::PodState::Ready) {
                self.seen.pod_ready_at = Some(micro(at(self.now)));
            }
            return;
        }
        if let Some(old) = &self.job.status {
            let kept = old.timeline.merged(&status.timeline);
            assert_eq!(kept, status.timeline, "a milestone was rewritten or lost");
        }
        self.job.status = Some(status);
    }

    fn step(&mut self, seconds: f64) -> Plan {
        self.now += seconds;
        self.look()
    }

    /// The newest pod changes as `change` says, and the watch tells of it.
    fn change_pod(&mut self, change: impl FnOnce(Pod) -> Pod) {
        let newest = self.pods.iter_mut().max_by_key(|pod| pod::attempt(pod)).unwrap();
        *newest = change(newest.clone());
        match pod::state(newest) {
            pod::PodState::Ready => {
                self.seen.pod_ready_at.get_or_insert(micro(at(self.now)));
            }
            pod::PodState::Failed { .. } => self.failed = Some((newest.name_any(), at(self.now))),
            _ => {}
        }
    }
}

#[test]
fn an_analyzer_that_always_fails_is_given_up_after_six() {
    let mut world = World::new(vec![]);
    world.step(0.0);
    for _ in 0..FAILURES {
        world.change_pod(|pod| exited(pod, 1, "boom", 1));
        world.step(0.0);
        for _ in 0..3 {
            world.step(30.0);
        }
    }
    let status = world.job.status.clone().unwrap();
    let finished = conditions::find(&status.conditions, FINISHED).unwrap();
    assert_eq!((status.phase, finished.reason.as_str()), (Some(JobPhase::Failed), "CrashLoop"));
    assert_eq!(status.analyzer.unwrap().restarts, FAILURES - 1);
    assert_eq!((world.pods.len(), world.queue.exists), (0, Some(false)));
}

/// A job comes up in `world`; in which order its parts do, `order` tells.
fn come_up(world: &mut World, consumer_first: bool, fails_once: bool) {
    world.step(0.0);
    world.step(0.01);
    if fails_once {
        world.change_pod(|pod| exited(pod, 1, "boom", 1));
        (0..4).for_each(|_| drop(world.step(1.0)));
    }
    for part in [consumer_first, !consumer_first] {
        if part {
            world.queue = queue(1, world.now);
        } else {
            world.change_pod(ready);
        }
        world.step(0.3);
    }
    // However many writes were lost, the next looks find all that there is to say.
    (0..8).for_each(|_| drop(world.step(1.0)));
}

proptest! {
    #[test]
    fn lost_writes_and_restarts_end_in_ready(
        lost in prop::collection::vec(1_u32..6, 0..4),
        consumer_first: bool,
        fails_once: bool,
    ) {
        let mut world = World::new(lost.clone());
        come_up(&mut world, consumer_first, fails_once);
        let status = world.job.status.clone().unwrap();
        prop_assert_eq!(status.phase, Some(JobPhase::Ready));
        prop_assert_eq!(world.pods.len(), 1);
        let t = &status.timeline;
        for (name, milestone) in [
            ("configured", &t.configured_at), ("accepted", &t.accepted_at), ("queue", &t.queue_ready_at),
            ("consumer", &t.consumer_ready_at), ("pod", &t.pod_ready_at), ("ready", &t.ready_at),
        ] {
            prop_assert!(milestone.is_some(), "{name}");
        }
        prop_assert!(status.phase_seconds.total.is_some_and(|total| total >= 0.0));
        let quiet = world.step(1.0);
        prop_assert!(!quiet.write && quiet.actions.is_empty());
        // With the pod and the finalizer at most four writes in all.
        prop_assert!(fails_once || !lost.is_empty() || world.writes <= 2, "{} writes", world.writes);
    }
}
