//! Generates the messages and the gRPC service from `proto/` without a system `protoc`.

use std::path::PathBuf;

use prost::Message;
use tonic_build::manual::{Builder, Method, Service};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let descriptors = protox::compile(["proto/focus.proto", "proto/pandadatastream.proto"], ["proto"])?;
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    prost_build::Config::new().compile_fds(descriptors)?;

    // Described here once more, because its answers are sent as bytes that many readers share.
    let stream_data = Method::builder()
        .name("stream_data")
        .route_name("StreamData")
        .input_type("crate::wire::panda::StreamDataRequest")
        .output_type("crate::server::stream::codec::Payload")
        .codec_path("crate::server::stream::codec::SharedBytes")
        .server_streaming()
        .build();
    let service =
        Service::builder().package("pandadatastream").name("DataStreamService").method(stream_data).build();
    Builder::new().build_client(false).compile(&[service]);
    Ok(())
}
