//! A way to the API server that can be cut.

use std::path::PathBuf;

use kube::config::Kubeconfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A kubeconfig that leads to the cluster's API server through this process.
pub struct Way {
    open: watch::Sender<bool>,
    kubeconfig: PathBuf,
}

impl Way {
    pub async fn new() -> Self {
        let mut config = Kubeconfig::read().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let named = config.clusters.iter_mut().find_map(|named| named.cluster.as_mut());
        let cluster = named.expect("a cluster in the kubeconfig");
        let server: axum::http::Uri = cluster.server.as_deref().unwrap().parse().unwrap();
        let host = server.host().unwrap().to_owned();
        let to = format!("{host}:{}", server.port_u16().unwrap_or(443));
        cluster.tls_server_name.get_or_insert(host);
        cluster.server = Some(format!("https://{here}"));
        let kubeconfig = std::env::temp_dir().join(format!("focus-kubeconfig-{:08x}", rand::random::<u32>()));
        std::fs::write(&kubeconfig, serde_json::to_string(&config).unwrap()).unwrap();
        let (open, is_open) = watch::channel(true);
        tokio::spawn(pass(listener, to, is_open));
        Self { open, kubeconfig }
    }

    /// The kubeconfig's file.
    pub fn kubeconfig(&self) -> &str {
        self.kubeconfig.to_str().unwrap()
    }

    /// Breaks all connections and takes none, until [`Way::restore`].
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    pub fn restore(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

async fn pass(listener: TcpListener, to: String, is_open: watch::Receiver<bool>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let (to, mut is_open) = (to.clone(), is_open.clone());
        tokio::spawn(async move {
            if !*is_open.borrow_and_update() {
                return;
            }
            let Ok(mut far) = TcpStream::connect(&to).await else { return };
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                _ = is_open.wait_for(|open| !open) => {}
            }
        });
    }
}
