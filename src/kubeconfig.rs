//! Which cluster a command line speaks to, by kubectl's own options.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// The options by which kubectl finds a cluster, and who asks.
#[derive(clap::Args, Debug, Clone, Default)]
#[command(next_help_heading = "Cluster")]
pub struct Connection {
    /// The kubeconfig. Default: KUBECONFIG, ~/.kube/config, or a pod's own service account.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context. Default: its current one.
    #[arg(long)]
    pub context: Option<String>,
    /// The kubeconfig's cluster. Default: the context's.
    #[arg(long)]
    pub cluster: Option<String>,
    /// The kubeconfig's user. Default: the context's.
    #[arg(long)]
    pub user: Option<String>,
    /// Ask as this user, who is impersonated.
    #[arg(long = "as", value_name = "USER")]
    pub as_user: Option<String>,
    /// Ask as a member of this group; may be given more than once.
    #[arg(long = "as-group", value_name = "GROUP")]
    pub as_groups: Vec<String>,
}

impl Connection {
    /// A client of the cluster, and the API server's address. No call to the API server is made yet, but a program
    /// that the kubeconfig names for credentials is run.
    ///
    /// # Errors
    /// When there is no such configuration, or credentials did not come `within` that time.
    pub async fn client(&self, within: Duration) -> anyhow::Result<(Client, String)> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(within);
        let place = config.cluster_url.to_string();
        // Credentials may come from a program, which is waited for.
        let made = tokio::task::spawn_blocking(move || Client::try_from(config));
        let Ok(made) = tokio::time::timeout(within, made).await else {
            bail!(
                "the credentials for {place} did not come within {} s: run the program that the kubeconfig names \
                 under users[].user.exec by hand",
                within.as_secs()
            );
        };
        let client = made.context("making a client of the API server")?;
        Ok((client.with_context(|| format!("making a client of the API server at {place}"))?, place))
    }

    async fn config(&self) -> anyhow::Result<Config> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            cluster: self.cluster.clone(),
            user: self.user.clone(),
        };
        let chosen = options.context.is_some() || options.cluster.is_some() || options.user.is_some();
        let mut config = match &self.kubeconfig {
            Some(file) => {
                let what = || format!("reading the kubeconfig {}", file.display());
                let kubeconfig = Kubeconfig::read_from(file).with_context(what)?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.with_context(what)?
            }
            None if chosen => Config::from_kubeconfig(&options).await.context(
                "reading the kubeconfig; `kubectl config get-contexts` lists the contexts that there are",
            )?,
            None => Config::infer().await.context(
                "no cluster is configured: name a kubeconfig by KUBECONFIG or --kubeconfig, or run in a pod",
            )?,
        };
        if self.as_user.is_some() {
            config.auth_info.impersonate.clone_from(&self.as_user);
        }
        if !self.as_groups.is_empty() {
            config.auth_info.impersonate_groups = Some(self.as_groups.clone());
        }
        Ok(config)
    }
}
