//! The files of a report, and the archive that they are written into.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use k8s_openapi::jiff::Timestamp;

/// Files by their path in the archive.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    files: BTreeMap<String, String>,
}

impl Bundle {
    /// Adds a file.
    pub fn add(&mut self, name: &str, text: String) {
        self.files.insert(name.to_owned(), text);
    }

    /// The names of the files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The text of a file.
    #[cfg(test)]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(String::as_str)
    }

    /// Writes the archive, which only its owner may read, with all files in `folder`; gives its size, bytes.
    ///
    /// # Errors
    /// When the file is there already, or cannot be written.
    pub fn write(&self, file: &Path, folder: &str, now: Timestamp) -> std::io::Result<u64> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut archive = tar::Builder::new(GzEncoder::new(options.open(file)?, Compression::default()));
        for (name, text) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(u64::try_from(now.as_second()).unwrap_or(0));
            archive.append_data(&mut header, format!("{folder}/{name}"), text.as_bytes())?;
        }
        let mut written = archive.into_inner()?.finish()?;
        written.flush()?;
        Ok(written.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_written_can_be_read_and_nothing_is_overwritten() {
        let folder = std::env::temp_dir().join(format!("focus-bundle-{:08x}", rand::random::<u32>()));
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("report.tar.gz");
        let mut bundle = Bundle::default();
        bundle.add("logs/a.log", "one\n".to_owned());
        bundle.add(&format!("{}.txt", "n".repeat(150)), String::new());
        assert!(bundle.write(&file, "top", Timestamp::UNIX_EPOCH).unwrap() > 0);
        let mut archive =
            tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(&file).unwrap()));
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((entry.path().unwrap().display().to_string(), text));
        }
        assert_eq!(found[0], ("top/logs/a.log".to_owned(), "one\n".to_owned()));
        assert_eq!(found[1].0.len(), "top/".len() + 154);
        let again = bundle.write(&file, "top", Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
