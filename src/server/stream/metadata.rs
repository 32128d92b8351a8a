//! What a gRPC reader says beside its request. Pure.

use std::time::Duration;

use tonic::metadata::MetadataMap;

use crate::server::wait;

/// The metadata of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `job-id`.
    pub job_id: Option<String>,
    /// `last`: how many of the lines that are still kept come first.
    pub last: usize,
    /// `wait`: how long the call waits for the job's consumer.
    pub wait: Option<Duration>,
}

/// Reads `metadata`.
///
/// # Errors
/// A sentence for a person.
pub fn read(metadata: &MetadataMap) -> Result<Asked, String> {
    let text = |name: &str| {
        let value = metadata.get(name).map(|value| value.to_str().map(str::to_owned));
        value.transpose().map_err(|_| format!("the metadata `{name}` is not ASCII text"))
    };
    let wait = text("wait")?.map(|wait| wait::parse_wait(Some(&wait))).transpose()?;
    Ok(Asked { job_id: text("job-id")?, last: parse_last(text("last")?.as_deref())?, wait })
}

/// How many earlier lines are asked for; absent: none.
///
/// # Errors
/// A sentence for a person.
pub fn parse_last(text: Option<&str>) -> Result<usize, String> {
    let parse = |text: &str| {
        text.parse().map_err(|_| format!("last must be a number of lines, such as 100, got {text:?}"))
    };
    text.map_or(Ok(0), parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_or_refused() {
        for (pairs, wanted) in [
            (vec![], Some(Asked::default())),
            (
                vec![("job-id", "18-3"), ("last", "10"), ("wait", "500ms")],
                Some(Asked {
                    job_id: Some("18-3".to_owned()),
                    last: 10,
                    wait: Some(Duration::from_millis(500)),
                }),
            ),
            (vec![("last", "-1")], None),
            (vec![("last", "")], None),
            (vec![("wait", "soon")], None),
            (vec![("wait", "61s")], None),
        ] {
            let mut metadata = MetadataMap::new();
            for (name, value) in &pairs {
                metadata.insert(*name, value.parse().expect("ASCII"));
            }
            assert_eq!(read(&metadata).ok(), wanted, "{pairs:?}");
        }
    }
}
