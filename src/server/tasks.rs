//! The tasks that a server cannot do without: when one ends before it is told to, so does the process, and Kubernetes
//! starts it anew. One that went on without it would be ready, and blind.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

/// The tasks, each with a name for people.
pub struct Tasks {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// None yet.
    pub fn new() -> Self {
        Self { tasks: JoinSet::new(), names: HashMap::new() }
    }

    /// Starts `task`.
    pub fn start(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.tasks.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits until all have ended, at most `within` after `stop`.
    ///
    /// # Errors
    /// Names the one that ended before; then `stop` is cancelled, and the others have ended too.
    pub async fn until_stopped(mut self, stop: &CancellationToken, within: Duration) -> anyhow::Result<()> {
        let mut fault = Ok(());
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(within).await;
        };
        tokio::select! {
            () = self.follow(stop, &mut fault) => {}
            () = late => {}
        }
        fault
    }

    async fn follow(&mut self, stop: &CancellationToken, fault: &mut anyhow::Result<()>) {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let (id, why) = match ended {
                Ok((id, ())) => (id, "it ended".to_owned()),
                Err(error) => (error.id(), error.to_string()),
            };
            if !stop.is_cancelled() {
                let name = self.names.get(&id).copied().unwrap_or("a task");
                *fault = Err(anyhow::anyhow!("{name} has failed ({why}): ending, to be started anew"));
                stop.cancel();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ended(
        stop: &CancellationToken,
        second: impl Future<Output = ()> + Send + 'static,
    ) -> Option<String> {
        let mut tasks = Tasks::new();
        tasks.start("the first", stop.clone().cancelled_owned());
        tasks.start("the second", second);
        tasks.until_stopped(stop, Duration::from_millis(50)).await.err().map(|error| error.to_string())
    }

    #[tokio::test]
    async fn all_end_when_one_does_before_its_time() {
        let stop = CancellationToken::new();
        let told = ended(&stop, async {}).await.expect("a fault");
        assert!(told.contains("the second") && told.contains("it ended"), "{told}");
        assert!(stop.is_cancelled());

        let stop = CancellationToken::new();
        let told = ended(&stop, async { panic!("on purpose") }).await.expect("a fault");
        assert!(told.contains("the second") && told.contains("on purpose"), "{told}");

        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(ended(&stop, stop.clone().cancelled_owned()).await, None);
        assert_eq!(ended(&stop, std::future::pending()).await, None, "it is not waited for");
    }
}
