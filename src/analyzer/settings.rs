//! What the operator's environment asks for, checked before anything is opened.

use std::net::SocketAddr;

use serde::de::DeserializeOwned;

use super::Args;
use super::error::AnalyzerError;
use super::geometry::Geometry;
use crate::api::AnalyzerSource;
use crate::api::focusjob::FocusJobSpec;
use crate::api::view;
use crate::broker::Address;
use crate::broker::address::AddressError;

/// The environment, understood and found consistent.
pub struct Settings {
    /// What the job asks for.
    pub spec: FocusJobSpec,
    /// The source as its pool declares it.
    pub source: AnalyzerSource,
    /// What is computed: channels, window, hop, frequencies.
    pub geometry: Geometry,
    /// Name of the queue.
    pub queue: String,
    /// Where the broker is, with its credentials.
    pub broker: Address,
    /// `namespace/name` of the job, for people.
    pub job: String,
    /// `metadata.uid` of the job.
    pub job_uid: String,
    /// Where probes and metrics are served.
    pub health_addr: SocketAddr,
}

impl Settings {
    /// Understands the environment.
    ///
    /// # Errors
    /// `BadEnvironment` when a variable is absent or malformed, and the reasons of a view that cannot work.
    pub async fn from_args(args: &Args) -> Result<Self, AnalyzerError> {
        let spec: FocusJobSpec = json("FOCUS_SPEC", args.spec.as_deref())?;
        let source: AnalyzerSource = json("FOCUS_SOURCE", args.source.as_deref())?;
        let health_addr = args.health_addr.parse().map_err(|_| AnalyzerError::BadEnvironment {
            variable: "FOCUS_HEALTH_ADDR",
            why: format!("is {:?}, which is no address and port", args.health_addr),
            remedy: "give it as in 0.0.0.0:8082",
        })?;
        let settings = Self {
            geometry: geometry(&spec, &source)?,
            queue: required("FOCUS_QUEUE", args.queue.as_deref())?.to_owned(),
            broker: broker(args).await?,
            job: format!(
                "{}/{}",
                required("FOCUS_JOB_NAMESPACE", args.job_namespace.as_deref())?,
                required("FOCUS_JOB_NAME", args.job_name.as_deref())?
            ),
            job_uid: required("FOCUS_JOB_UID", args.job_uid.as_deref())?.to_owned(),
            health_addr,
            spec,
            source,
        };
        if settings.queue.len() > 255 {
            return Err(AnalyzerError::BadEnvironment {
                variable: "FOCUS_QUEUE",
                why: format!("has {} bytes, and AMQP allows 255", settings.queue.len()),
                remedy: "use a shorter queue name",
            });
        }
        Ok(settings)
    }
}

fn geometry(spec: &FocusJobSpec, source: &AnalyzerSource) -> Result<Geometry, AnalyzerError> {
    if let Some(why) = view::time_refusal(spec, source) {
        let reason = if source.is_live() { "HistoricViewUnsupported" } else { "LiveViewUnsupported" };
        return Err(AnalyzerError::ViewOutsideSource { reason, why });
    }
    if let Some(why) = view::refusal(spec, source) {
        let reason =
            if spec.channels.max > source.channels { "ChannelOutOfRange" } else { "FrequencyOutOfRange" };
        return Err(AnalyzerError::ViewOutsideSource { reason, why });
    }
    Geometry::new(spec, source)
}

fn required<'a>(variable: &'static str, value: Option<&'a str>) -> Result<&'a str, AnalyzerError> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| AnalyzerError::BadEnvironment {
        variable,
        why: "is not set".to_owned(),
        remedy: "run the analyzer through the operator, or set every variable of docs/analyzer-contract.md",
    })
}

fn json<T: DeserializeOwned>(variable: &'static str, value: Option<&str>) -> Result<T, AnalyzerError> {
    serde_json::from_str(required(variable, value)?).map_err(|error| AnalyzerError::BadEnvironment {
        variable,
        why: format!("is not the JSON that is expected ({error})"),
        remedy: "run operator and analyzer of the same version",
    })
}

/// The broker's address, read once to refuse at the start what can never work.
async fn broker(args: &Args) -> Result<Address, AnalyzerError> {
    let refused = |error: AddressError| AnalyzerError::BadEnvironment {
        variable: "FOCUS_BROKER_URL",
        why: format!("is of no use: {error}"),
        remedy: "mount the secret with the broker's URL and name it in FOCUS_BROKER_URL_FILE",
    };
    let address = args.broker.address().map_err(refused)?;
    address.read().await.map_err(refused)?;
    Ok(address)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::broker::BrokerArgs;
    use crate::broker::address::Secret;

    const SPEC: &str = r#"{"viewType":"MultiChannel","channels":{"min":1,"max":50},
        "frequencyRange":{"min":0,"max":500},"nfftSelection":1024,"displayTimeAxisDuration":10}"#;
    const SOURCE: &str = r#"{"uri":"synthetic:","sampleRateHz":1000,"channels":2500,"dxMeters":1.0}"#;

    fn args() -> Args {
        Args {
            spec: Some(SPEC.into()),
            source: Some(SOURCE.into()),
            queue: Some("q".into()),
            broker: BrokerArgs {
                url: secret("amqp://user:topsecret@host:5672/%2f"),
                ..BrokerArgs::default()
            },
            job_name: Some("job".into()),
            job_namespace: Some("ns".into()),
            job_uid: Some("uid".into()),
            traceparent: None,
            tracestate: None,
            health_addr: "0.0.0.0:8082".into(),
            termination_log: "/dev/null".into(),
        }
    }

    fn secret(url: &str) -> Option<Secret> {
        Some(Secret::from(url.to_owned()))
    }

    async fn refused(change: impl FnOnce(&mut Args)) -> (String, u8) {
        let mut args = args();
        change(&mut args);
        let error = Settings::from_args(&args).await.map(|_| ()).unwrap_err();
        (error.sentence(), error.exit_code())
    }

    #[tokio::test]
    async fn a_complete_environment_is_understood() {
        let settings = Settings::from_args(&args()).await.unwrap();
        assert_eq!((settings.job.as_str(), settings.geometry.channels.len()), ("ns/job", 50));
    }

    #[tokio::test]
    async fn what_cannot_work_is_refused_with_its_reason() {
        type Change = fn(&mut Args);
        let cases: [(Change, u8, &str); 10] = [
            (|a| a.spec = None, 64, "BadEnvironment: reading the environment: FOCUS_SPEC is not set; run"),
            (
                |a| a.source = Some("{".into()),
                64,
                "BadEnvironment: reading the environment: FOCUS_SOURCE is not",
            ),
            (
                |a| a.queue = Some("".into()),
                64,
                "BadEnvironment: reading the environment: FOCUS_QUEUE is not set",
            ),
            (
                |a| a.queue = Some("q".repeat(256).into()),
                64,
                "BadEnvironment: reading the environment: FOCUS_QUEUE has 256",
            ),
            (
                |a| a.health_addr = "nowhere".into(),
                64,
                "BadEnvironment: reading the environment: FOCUS_HEALTH_ADDR",
            ),
            (
                |a| a.broker.url = None,
                64,
                "BadEnvironment: reading the environment: FOCUS_BROKER_URL is of no use: no broker",
            ),
            (
                |a| a.spec = Some(SPEC.replace("50}", "2501}").into()),
                65,
                "ChannelOutOfRange: starting the view: Channel 2501 is outside the source",
            ),
            (
                |a| a.spec = Some(SPEC.replace("500}", "501}").into()),
                65,
                "FrequencyOutOfRange: starting the view: Frequency 501 Hz exceeds Nyquist limit (500 Hz)",
            ),
            (
                |a| {
                    a.spec = Some(SPEC.replace("10}", r#"10,"startTime":1,"endTime":2}"#).into());
                },
                65,
                "HistoricViewUnsupported: starting the view: the source has no recordings",
            ),
            (
                |a| a.source = Some(SOURCE.replace("synthetic:", "file:///recordings/").into()),
                65,
                "LiveViewUnsupported: starting the view: the source file:///recordings/ is a folder",
            ),
        ];
        for (change, code, start) in cases {
            let (sentence, exit) = refused(change).await;
            assert!(sentence.starts_with(start), "{sentence}");
            assert_eq!(exit, code, "{sentence}");
        }
    }

    #[tokio::test]
    async fn the_brokers_address_is_never_shown() {
        let (sentence, _) = refused(|a| a.broker.url = secret("amqp//user:topsecret@host")).await;
        assert!(!sentence.contains("topsecret"), "{sentence}");
        assert!(!format!("{:?}", args()).contains("topsecret"));
    }
}
