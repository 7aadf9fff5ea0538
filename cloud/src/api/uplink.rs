//! What gateways send.

use std::io::Read as _;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use proto::uplink::{MAX_COMPRESSED, MAX_DECOMPRESSED};
use proto::{DecodeError, UplinkBatch};

use super::App;
use super::access::GatewayAccess;
use super::parameters::JsonBody;
use super::problem::{ApiError, ApiResult, Problem};
use super::types::UplinkReceipt;
use crate::ingest;

/// A batch as bytes, for the document.
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
#[allow(dead_code, reason = "only described")]
struct Body(Vec<u8>);

/// Store a batch
///
/// The body is an `UplinkBatch` in protobuf, compressed with zstd: at most 1 MiB compressed, 16 MiB decompressed and
/// 2,000 records. A batch that is stored already may be sent again. Each lane of each store of a gateway counts its
/// records from 1 without a gap.
#[utoipa::path(
    post,
    path = "/uplink",
    tag = "uplink",
    operation_id = "uplink_batch",
    security(("gateway" = [])),
    request_body(content = inline(Body), content_type = "application/x-protobuf", description = "An `UplinkBatch`, `Content-Encoding: zstd`"),
    responses(
        (status = 200, body = UplinkReceipt, description = "Stored, or was stored before"),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "The body is no batch"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "No gateway has this token"),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "The batch is another gateway's"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "Records before this batch are missing, or some of it are stored and some are not; `expected` is the sequence that comes next"),
        (status = 413, body = Problem, content_type = "application/problem+json", description = "The body is too large"),
        (status = 415, body = Problem, content_type = "application/problem+json", description = "Another type or encoding"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A record cannot be stored"),
    )
)]
pub async fn uplink(
    State(app): State<App>,
    sender: GatewayAccess,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> ApiResult<Json<UplinkReceipt>> {
    let stored = store(&app, &sender, &headers, body).await;
    match &stored {
        Ok((batch, receipt)) => app.metrics.ingested(batch.lane, receipt),
        Err(error) => {
            app.metrics.refused(error.reason());
            tracing::warn!(farm = %sender.farm, gateway = %sender.gateway, %error, "batch not stored");
        }
    }
    stored.map(|(_, receipt)| Json(UplinkReceipt { sequence: receipt.sequence }))
}

async fn store(
    app: &App,
    sender: &GatewayAccess,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> ApiResult<(UplinkBatch, ingest::Receipt)> {
    expect_header(headers, header::CONTENT_TYPE, "content-type", "application/x-protobuf")?;
    expect_header(headers, header::CONTENT_ENCODING, "content-encoding", "zstd")?;
    let body = body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::TooLarge(format!("a batch has at most {MAX_COMPRESSED} bytes compressed"))
        }
        _ => ApiError::Body(error.body_text()),
    })?;
    let _turn = app.ingests.acquire().await;
    let batch = tokio::task::spawn_blocking(move || unpack(&body)).await.map_err(anyhow::Error::from)??;
    if batch.farm != sender.farm {
        return Err(ApiError::Forbidden { field: "farm", value: batch.farm.to_string() });
    }
    if batch.gateway != sender.gateway {
        return Err(ApiError::Forbidden { field: "gateway", value: batch.gateway.to_string() });
    }
    let receipt = ingest::ingest(&app.pool, &batch, app.clock.now()).await?;
    Ok((batch, receipt))
}

fn expect_header(headers: &HeaderMap, name: HeaderName, field: &'static str, expected: &'static str) -> ApiResult<()> {
    let value = headers.get(name).map_or("", |value| value.to_str().unwrap_or("not ASCII"));
    if value == expected { Ok(()) } else { Err(ApiError::Media { field, expected, value: value.to_owned() }) }
}

/// Decompresses and decodes, holding memory to what a batch may take whatever the body claims.
fn unpack(body: &[u8]) -> ApiResult<UplinkBatch> {
    let wrong = |error: std::io::Error| ApiError::Body(format!("the body is not zstd: {error}"));
    let mut bytes = Vec::new();
    let mut decoder = zstd::Decoder::with_buffer(body).map_err(wrong)?;
    decoder.window_log_max(MAX_DECOMPRESSED.ilog2()).map_err(wrong)?;
    decoder.take(MAX_DECOMPRESSED as u64 + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() > MAX_DECOMPRESSED {
        return Err(ApiError::TooLarge(format!("a batch has at most {MAX_DECOMPRESSED} bytes decompressed")));
    }
    UplinkBatch::decode(&bytes).map_err(|error| match error {
        DecodeError::Malformed { .. } => ApiError::Body(error.to_string()),
        DecodeError::Value { field, ref value } => ApiError::parameter(field, value, "is not allowed"),
        DecodeError::Missing { field } => ApiError::parameter(field, "", "is missing"),
        DecodeError::TooMany { what, count, most } => {
            ApiError::parameter(what, &count.to_string(), format!("is more than {most}"))
        }
    })
}

/// Report on a gateway
///
/// Replaces the gateway's last report of itself.
#[utoipa::path(
    post,
    path = "/uplink/status",
    tag = "uplink",
    operation_id = "uplink_status",
    security(("gateway" = [])),
    request_body(content = super::types::GatewayStatus, description = "How the gateway is doing"),
    responses(
        (status = 204, description = "Stored"),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "The body is no report"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "No gateway has this token"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A value cannot be stored"),
    )
)]
pub async fn status(
    State(app): State<App>,
    sender: GatewayAccess,
    JsonBody(status): JsonBody<proto::GatewayStatus>,
) -> ApiResult<StatusCode> {
    // PostgreSQL cannot hold one, wherever it stands.
    let report = serde_json::to_value(&status).map_err(anyhow::Error::from)?;
    if let Some(text) = text_with_zero(&report) {
        return Err(ApiError::parameter("status", &text.escape_default().to_string(), "holds a zero byte"));
    }
    ingest::store_status(&app.pool, &sender.farm, &sender.gateway, &status, app.clock.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A text in a JSON value that holds a zero byte.
fn text_with_zero(value: &serde_json::Value) -> Option<&str> {
    match value {
        serde_json::Value::String(text) => text.contains('\0').then_some(text),
        serde_json::Value::Array(values) => values.iter().find_map(text_with_zero),
        serde_json::Value::Object(fields) => {
            let of_field = |(key, value)| {
                let key: &String = key;
                if key.contains('\0') { Some(key.as_str()) } else { text_with_zero(value) }
            };
            fields.iter().find_map(of_field)
        }
        _ => None,
    }
}
