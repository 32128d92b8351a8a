//! Files of mounted Secrets, read again when they change.
//!
//! Their content is compared, not their times: Kubernetes swaps a symbolic link, and a file system's clock is
//! coarse.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::digest::{Digest, sha256};
use super::metrics::{Reloads, Source};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(2);
/// How long new content must stay as it is before it is used: files of a pair change one after the other.
const SETTLED: Duration = Duration::from_millis(100);
/// Largest file, bytes.
const MAX_FILE: u64 = 1 << 20;
/// Most files of a folder.
const MAX_FILES: usize = 10_000;

/// What the files hold.
#[derive(PartialEq, Eq)]
pub struct Content {
    /// Path and bytes of each; those of a folder in the order of their names.
    pub files: Vec<(PathBuf, Vec<u8>)>,
}

/// Files that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("reading {}: {why}", path.display())]
pub struct ReadError {
    path: PathBuf,
    why: String,
}

impl Content {
    /// Reads the files; of a folder, all files but hidden ones.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub async fn read(paths: &[PathBuf]) -> Result<Self, ReadError> {
        let mut files = Vec::new();
        for path in paths {
            let failed = |error: std::io::Error| ReadError { path: path.clone(), why: error.to_string() };
            if tokio::fs::metadata(path).await.map_err(failed)?.is_dir() {
                for file in folder(path).await.map_err(failed)? {
                    files.push(one(file).await?);
                }
            } else {
                files.push(one(path.clone()).await?);
            }
        }
        Ok(Self { files })
    }

    /// The bytes of the file at `path`.
    pub fn of(&self, path: &Path) -> &[u8] {
        self.files.iter().find(|(file, _)| file == path).map_or(&[], |(_, bytes)| bytes)
    }

    fn digest(&self) -> Digest {
        let parts = self
            .files
            .iter()
            .flat_map(|(path, bytes)| [sha256(path.as_os_str().as_encoded_bytes()), sha256(bytes)].concat());
        sha256(&parts.collect::<Vec<u8>>())
    }
}

async fn folder(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (mut entries, mut files) = (tokio::fs::read_dir(path).await?, Vec::new());
    while let Some(entry) = entries.next_entry().await? {
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // Kubernetes' files are links, which are followed here.
        if !hidden && tokio::fs::metadata(entry.path()).await?.is_file() {
            files.push(entry.path());
        }
        if files.len() > MAX_FILES {
            return Err(std::io::Error::other(format!("more than {MAX_FILES} files")));
        }
    }
    files.sort();
    Ok(files)
}

async fn one(path: PathBuf) -> Result<(PathBuf, Vec<u8>), ReadError> {
    let mut bytes = Vec::new();
    let read = async {
        let file = tokio::fs::File::open(&path).await?;
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).await
    };
    match read.await {
        Ok(_) if bytes.len() as u64 > MAX_FILE => {
            Err(ReadError { path, why: format!("larger than {MAX_FILE} bytes") })
        }
        Ok(_) => Ok((path, bytes)),
        Err(error) => Err(ReadError { path, why: error.to_string() }),
    }
}

/// Files, what is made of them, and where they are counted.
pub struct Files<F> {
    /// What they are.
    pub source: Source,
    /// The files and folders.
    pub paths: Vec<PathBuf>,
    /// Makes something of their content, or says why not.
    pub make: F,
    /// Counts.
    pub reloads: Reloads,
}

/// What the looks before have seen.
struct Seen {
    /// The content of the last one that could be read.
    known: Digest,
    /// Whether it could not be used, so that another is in use.
    refused: bool,
    /// The last cause that was told.
    told: String,
}

impl<F> Files<F> {
    /// What the files make now, and ever after until `stop`. New content that cannot be used leaves the old in place.
    ///
    /// # Errors
    /// When the files cannot be used now.
    pub async fn start<T, E>(self, stop: CancellationToken) -> anyhow::Result<watch::Receiver<Arc<T>>>
    where
        T: Send + Sync + 'static,
        E: std::error::Error + Send + Sync + 'static,
        F: Fn(&Content) -> Result<T, E> + Send + Sync + 'static,
    {
        let content = Content::read(&self.paths).await?;
        let (current, receiver) = watch::channel(Arc::new((self.make)(&content)?));
        let known = content.digest();
        drop(content);
        tokio::spawn(async move {
            stop.run_until_cancelled(self.follow(known, current)).await;
        });
        Ok(receiver)
    }

    async fn follow<T, E>(self, known: Digest, current: watch::Sender<Arc<T>>)
    where
        E: std::error::Error,
        F: Fn(&Content) -> Result<T, E>,
    {
        let mut seen = Seen { known, refused: false, told: String::new() };
        loop {
            tokio::time::sleep(PERIOD).await;
            self.look(&mut seen, &current).await;
        }
    }

    /// Looks once, and makes something of what has changed.
    async fn look<T, E>(&self, seen: &mut Seen, current: &watch::Sender<Arc<T>>)
    where
        E: std::error::Error,
        F: Fn(&Content) -> Result<T, E>,
    {
        let outcome = match self.changed(seen.known).await {
            Ok(None) => {
                seen.told.clear();
                return self.reloads.stands(self.source, seen.refused);
            }
            Ok(Some(content)) => {
                seen.known = content.digest();
                let made = (self.make)(&content).map_err(|error| error.to_string());
                seen.refused = made.is_err();
                made
            }
            // One cause is told once, however long it stays.
            Err(error) if error.to_string() == seen.told => return,
            Err(error) => Err(error.to_string()),
        };
        self.reloads.count(self.source, outcome.is_ok());
        match outcome {
            Ok(made) => {
                seen.told.clear();
                current.send_replace(Arc::new(made));
                info!(source = self.source.as_str(), "the files have changed and are in use");
            }
            Err(error) => {
                warn!(source = self.source.as_str(), %error, "the changed files cannot be used: the old stay");
                seen.told = error;
            }
        }
    }

    /// The content, when it is not the `known` one and has settled.
    async fn changed(&self, known: Digest) -> Result<Option<Content>, ReadError> {
        let content = Content::read(&self.paths).await?;
        if content.digest() == known {
            return Ok(None);
        }
        tokio::time::sleep(SETTLED).await;
        Ok((Content::read(&self.paths).await? == content).then_some(content))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::metrics::SecurityMetrics;
    use super::*;

    #[tokio::test]
    async fn refused_files_are_shown_for_as_long_as_they_are_there() {
        let path = std::env::temp_dir().join(format!("reload-{:08x}", rand::random::<u32>()));
        std::fs::write(&path, "1").unwrap();
        let registry = prometheus::Registry::new();
        let metrics = SecurityMetrics::new(&registry).unwrap();
        let make = {
            let path = path.clone();
            move |content: &Content| String::from_utf8_lossy(content.of(&path)).parse::<u32>()
        };
        let files =
            Files { source: Source::Tokens, paths: vec![path.clone()], make, reloads: metrics.reloads };
        let known = Content::read(&files.paths).await.unwrap().digest();
        let mut seen = Seen { known, refused: false, told: String::new() };
        let (current, used) = watch::channel(Arc::new(1));
        let refused = || {
            let families = registry.gather();
            let family =
                families.iter().find(|family| family.name() == "focus_server_reload_refused").unwrap();
            family.get_metric().iter().map(|one| one.get_gauge().get_value()).sum::<f64>()
        };
        for (text, in_use, expected) in [
            (Some("2"), 2, 0.0),
            (Some("x"), 2, 1.0),
            (Some("x"), 2, 1.0),
            (Some("3"), 3, 0.0),
            (None, 3, 1.0),
            (Some("3"), 3, 0.0),
            (Some("y"), 3, 1.0),
            (None, 3, 1.0),
            (Some("y"), 3, 1.0),
            (Some("3"), 3, 0.0),
        ] {
            match text {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            files.look(&mut seen, &current).await;
            assert_eq!((**used.borrow(), refused()), (in_use, expected), "{text:?}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
