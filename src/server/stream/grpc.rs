//! `pandadatastream.DataStreamService`, with the reflection and health services beside it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt, stream};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::info;

use super::codec::Payload;
use super::fan::{Event, Reader};
use super::message::{self, Part};
use super::open::{self, Ask, Lines, Refusal, WAIT};
use super::{ending, metadata, relay};
use crate::health::Awaited;
use crate::server::configure::Server;
use crate::server::forward::FORWARDED_NAME;
use crate::server::job;
use crate::server::metrics::ReaderKind;
use crate::server::{security, serve};
use crate::wire::panda::data_stream_service_server::{DataStreamService, DataStreamServiceServer};
use crate::wire::panda::{DESCRIPTORS, StreamDataRequest};

/// The service's name.
const SERVICE: &str = "pandadatastream.DataStreamService";
/// Largest request, bytes.
const MAX_REQUEST: usize = 4 << 10;
/// How often readiness is looked at for the health service.
const HEALTH: Duration = Duration::from_millis(250);

/// The service.
struct Streams {
    server: Arc<Server>,
}

#[tonic::async_trait]
impl DataStreamService for Streams {
    type StreamDataStream = stream::BoxStream<'static, Result<Payload, Status>>;

    async fn stream_data(
        &self,
        request: Request<StreamDataRequest>,
    ) -> Result<Response<Self::StreamDataStream>, Status> {
        let asked = metadata::read(request.metadata()).map_err(Status::invalid_argument)?;
        let stream_id = request.get_ref().stream_id;
        let job = open::find(&self.server, asked.job_id.as_deref())?;
        let ask = Ask { kind: ReaderKind::Grpc, earlier: asked.last, wait: asked.wait.unwrap_or(WAIT) };
        let passed_on = request.metadata().contains_key(FORWARDED_NAME);
        let said = (request.metadata().clone(), *request.get_ref());
        let relay = |address, wait| -> BoxFuture<'static, _> {
            let (server, job) = (Arc::clone(&self.server), job.name.clone());
            Box::pin(relay::grpc(server, address, job, said.clone(), wait))
        };
        let (reader, source) = match open::open_anywhere(&self.server, &job, ask, passed_on, relay).await? {
            Lines::Here(reader, source) => (reader, source),
            Lines::There(relay) => return Ok(Response::new(relay.messages().boxed())),
        };
        let job = reader.job();
        let part = message::part(&job.name, &job.spec, &source, stream_id).map_err(|streams| {
            let last = streams - 1;
            let name = &job.name;
            Status::not_found(format!("job {name} has no stream {stream_id}: its streams are 0 to {last}"))
        })?;
        let newest = job.with_newest(1, |lines| lines.first().cloned());
        let header = Bytes::from(part.header(newest.as_deref()).encode_to_vec());
        Ok(Response::new(messages(header, reader, part).boxed()))
    }
}

/// The header, each line, and the status that ends the stream.
fn messages(header: Bytes, reader: Reader, part: Part) -> impl Stream<Item = Result<Payload, Status>> {
    let lines = stream::unfold(Some(reader), move |reader| {
        let part = part.clone();
        async move {
            let mut reader = reader?;
            match reader.next().await {
                Event::Line { item, lost } => {
                    Some((Ok(Payload { message: item.data_stream(&part), lost }), Some(reader)))
                }
                Event::End(why) => Some((Err(status(&why, Some(reader.lost()))), None)),
            }
        }
    });
    stream::iter([Ok(Payload { message: header, lost: 0 })]).chain(lines)
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            Refusal::Unnamed(_) => Self::invalid_argument(refusal.to_string()),
            Refusal::Full => Self::resource_exhausted(refusal.to_string()),
            Refusal::NoLines(why) => status(why, None),
        }
    }
}

/// `why` in words, with its parts and the number of rows that the reader has lost in the trailers.
pub(super) fn status(why: &job::Awaited, lost: Option<u64>) -> Status {
    let mut trailers = MetadataMap::new();
    let words = [("focus-phase", Some(why.phase.to_owned())), ("focus-reason", Some(why.reason.clone()))];
    for (name, text) in words.into_iter().chain([("focus-lost-rows", lost.map(|lost| lost.to_string()))]) {
        if let Some(value) = text.and_then(|text| MetadataValue::try_from(text).ok()) {
            trailers.insert(name, value);
        }
    }
    Status::with_metadata(ending::code(why), format!("{}: {}", why.reason, why.message), trailers)
}

/// All services.
///
/// # Errors
/// When the descriptors cannot be read.
fn routes(server: Arc<Server>, health: &HealthReporter) -> anyhow::Result<Routes> {
    let describe =
        || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
    let described = |set: &'static [u8]| describe().register_encoded_file_descriptor_set(set);
    let health_set = tonic_health::pb::FILE_DESCRIPTOR_SET;
    let streams = DataStreamServiceServer::new(Streams { server }).max_decoding_message_size(MAX_REQUEST);
    let health = tonic_health::server::HealthService::from_health_reporter(health.clone());
    Ok(Routes::new(streams)
        .add_service(tonic_health::pb::health_server::HealthServer::new(health))
        .add_service(described(health_set).build_v1().context("describing the gRPC services")?)
        .add_service(described(health_set).build_v1alpha().context("describing the gRPC services")?))
}

/// The streams alone, for the other replicas.
pub fn for_peers(server: Arc<Server>) -> axum::Router {
    let streams = DataStreamServiceServer::new(Streams { server }).max_decoding_message_size(MAX_REQUEST);
    // Paths that are none of these are answered as the HTTP API does.
    Routes::new(streams).into_axum_router().reset_fallback()
}

/// What serves until `stop`, and then until the last stream has been told or the end of the time for it.
///
/// # Errors
/// When the services cannot be described.
pub async fn serve(
    listener: security::Listener,
    layer: security::AuthLayer,
    server: Arc<Server>,
    awaited: Awaited,
    stop: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send + use<>> {
    let reporter = HealthReporter::new();
    set_health(&reporter, false).await;
    let routes = routes(server, &reporter)?;
    let health = follow_readiness(reporter, awaited, stop.clone());
    let serving = serve::serve(listener, routes.into_axum_router().layer(layer), stop);
    Ok(async {
        tokio::join!(serving, health);
    })
}

/// Lets the health service say what `/readyz` says, until `stop`; then not serving.
async fn follow_readiness(reporter: HealthReporter, awaited: Awaited, stop: CancellationToken) {
    let mut ready = false;
    let mut tick = tokio::time::interval(HEALTH);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let now = awaited().is_empty();
        if now != ready {
            ready = now;
            info!(ready, "the gRPC health service's word changes");
            set_health(&reporter, ready).await;
        }
    }
    set_health(&reporter, false).await;
}

async fn set_health(reporter: &HealthReporter, ready: bool) {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in ["", SERVICE] {
        reporter.set_service_status(service, status).await;
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn the_last_word_has_reason_and_losses() {
        let why = job::Awaited::new("finished", "Completed", "the end");
        let status = status(&why, Some(7));
        assert_eq!((status.code(), status.message()), (Code::Ok, "Completed: the end"));
        for (name, value) in
            [("focus-phase", "finished"), ("focus-reason", "Completed"), ("focus-lost-rows", "7")]
        {
            assert_eq!(status.metadata().get(name).and_then(|v| v.to_str().ok()), Some(value), "{name}");
        }
        assert_eq!(Status::from(Refusal::Unnamed(2)).code(), Code::InvalidArgument);
        assert_eq!(Status::from(Refusal::Full).code(), Code::ResourceExhausted);
    }
}
