//! Tokens from a mounted Secret. Only their digests are kept. Pure.

use std::path::Path;

use subtle::ConstantTimeEq;

use super::digest::{Digest, sha256};
use super::reload::Content;

/// Shortest token, bytes: a shorter one could be guessed.
const MIN_TOKEN: usize = 16;
/// How a digest is told from a token.
const DIGEST: &str = "sha256:";

/// The callers and the digests of their tokens.
#[derive(Default)]
pub struct Tokens {
    entries: Vec<(String, Digest)>,
}

/// A file of tokens that cannot be used. Its content is not shown.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub struct TokensError {
    place: String,
    why: &'static str,
}

impl Tokens {
    /// Reads the tokens: of a file, lines `name:token` or `name:sha256:<hex>`, empty lines and lines that begin with
    /// `#` aside; of a folder, each file's name and its content, a token or `sha256:<hex>`.
    ///
    /// # Errors
    /// Names the place of what cannot be understood.
    pub fn parse(path: &Path, content: &Content) -> Result<Self, TokensError> {
        let mut tokens = Self::default();
        for (file, bytes) in &content.files {
            let place = file.display().to_string();
            let text = std::str::from_utf8(bytes).map_err(|_| refused(&place, "is not text"))?;
            if file == path {
                tokens.add_lines(&place, text)?;
            } else {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                tokens.add(&place, &name, text)?;
            }
        }
        Ok(tokens)
    }

    fn add_lines(&mut self, file: &str, text: &str) -> Result<(), TokensError> {
        let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let place = format!("{file}, line {number}");
            let (name, token) = line.split_once(':').ok_or_else(|| refused(&place, "is not name:token"))?;
            self.add(&place, name, token)?;
        }
        Ok(())
    }

    fn add(&mut self, place: &str, name: &str, token: &str) -> Result<(), TokensError> {
        let (name, token) = (name.trim(), token.trim());
        if name.is_empty() {
            return Err(refused(place, "has no name"));
        }
        let digest = match token.strip_prefix(DIGEST) {
            Some(hex) => unhex(hex).ok_or_else(|| refused(place, "sha256: must have 64 hex digits"))?,
            None if token.len() < MIN_TOKEN => {
                return Err(refused(place, "the token must have at least 16 characters"));
            }
            None => sha256(token.as_bytes()),
        };
        self.entries.push((name.to_owned(), digest));
        Ok(())
    }

    /// Whose token has this digest. All are compared, so that the time tells nothing.
    pub fn find(&self, digest: &Digest) -> Option<&str> {
        self.entries.iter().fold(None, |found, (name, own)| {
            let same = bool::from(own.ct_eq(digest));
            if same && found.is_none() { Some(name.as_str()) } else { found }
        })
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

fn refused(place: &str, why: &'static str) -> TokensError {
    TokensError { place: place.to_owned(), why }
}

fn unhex(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    if text.len() != 2 * digest.len() || !text.is_ascii() {
        return None;
    }
    for (i, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "a-token-of-some-length";

    fn parse(files: &[(&str, &str)]) -> Result<Tokens, String> {
        let files = files.iter().map(|(name, text)| (Path::new(name).to_owned(), text.as_bytes().to_vec()));
        Tokens::parse(Path::new("/t"), &Content { files: files.collect() }).map_err(|error| error.to_string())
    }

    fn hex() -> String {
        sha256(TOKEN.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_token_belongs_to_the_name_before_it() {
        for (files, count, owner) in [
            (vec![("/t", format!("# who\n\nann: {TOKEN} \nbob:another-token-of-it\n"))], 2, Some("ann")),
            (vec![("/t", format!("ann:sha256:{}", hex()))], 1, Some("ann")),
            (vec![("/t", format!("ann:sha256:{}", hex().to_uppercase()))], 1, Some("ann")),
            // The digest is no token.
            (vec![("/t", format!("ann:{}", hex()))], 1, None),
            (vec![("/t", format!("ann:an-older-token-of-it\nann:{TOKEN}"))], 2, Some("ann")),
            (
                vec![("/t/ann", format!("{TOKEN}\n")), ("/t/bob", "another-token-of-it".into())],
                2,
                Some("ann"),
            ),
            (vec![("/t", String::new())], 0, None),
            (vec![], 0, None),
        ] {
            let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
            let tokens = parse(&files).expect("tokens");
            assert_eq!((tokens.len(), tokens.find(&sha256(TOKEN.as_bytes()))), (count, owner), "{files:?}");
            assert_eq!(tokens.find(&sha256(b"wrong")), None);
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_no_token_is_shown() {
        for (text, words) in [
            ("ann:token-one-of-many\nsecretsecretsecret", "/t, line 2: is not name:token"),
            (":secretsecretsecret", "/t, line 1: has no name"),
            ("ann:secret", "/t, line 1: the token must have at least 16 characters"),
            ("ann:sha256:secret", "/t, line 1: sha256: must have 64 hex digits"),
        ] {
            let told = parse(&[("/t", text)]).err().unwrap_or_default();
            assert_eq!(told, words);
            assert!(!told.contains("secret"), "{told}");
        }
    }
}
