//! Which requests are served (KIP-35, KIP-511).

use bytes::BytesMut;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::Encodable;
use mk_net::event_loop::{Context, RequestId};
use mk_net::fault::ErrorCode;
use mk_net::kafka::api::{Api, ApiKey};
use mk_net::kafka::frame::{finish, response};
use mk_net::outgoing::Chunk;
use tracing::error;

use super::NoAnswer;
use super::place::Place;

/// Answers; from version 3 on the client has said what it is: name and version of its software.
pub fn answer(
    context: &mut Context,
    place: Place,
    fields: &[u8],
) -> Result<Option<(String, String)>, NoAnswer> {
    let request: ApiVersionsRequest = place.read(fields)?;
    let served = Api::ALL.iter().map(version_of).collect();
    place.answer(context, &ApiVersionsResponse::default().with_api_keys(served));
    let (name, version) = (request.client_software_name, request.client_software_version);
    Ok((place.version >= 3).then(|| (name.to_string(), version.to_string())))
}

/// Answers a version that is not served: in version 0, which every client reads, with the versions that are, so that
/// the client asks again (KIP-511).
pub fn refuse(context: &mut Context, to: RequestId, correlation: i32) {
    let Some(api) = ApiKey::API_VERSIONS.served() else { return };
    let refusal = ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UNSUPPORTED_VERSION.0)
        .with_api_keys(vec![version_of(api)]);
    let mut bytes = BytesMut::new();
    if let Err(error) = refusal.encode(&mut bytes, 0) {
        error!(%error, "a refusal cannot be written");
    }
    let mut writer = response(api, 0, correlation);
    writer.raw(&bytes);
    context.respond(to, [Chunk::Bytes(finish(writer, 0).into())]);
}

fn version_of(api: &Api) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(api.key.0)
        .with_min_version(api.min)
        .with_max_version(api.max)
}
