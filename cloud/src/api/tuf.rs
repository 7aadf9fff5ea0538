//! The registry as TUF clients read it: metadata by name, and targets by digest and name, whole or in part.

use std::ops::RangeInclusive;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use headers::{
    AcceptRanges, CacheControl, ContentLength, ContentRange, ContentType, ETag, HeaderMapExt as _, IfNoneMatch,
    IfRange, Range,
};
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use tough::schema::RoleType;

use super::App;
use super::access::RegistryReader;
use super::problem::{ApiError, ApiResult, Problem};
use crate::registry::store;

/// How much of a target is read from the database at a time, in bytes: what an open download takes.
const PART: u32 = 256 << 10;

/// For how long files whose name says their version or digest may be kept, in seconds: a year, since they never change.
const IMMUTABLE: &str = "private, max-age=31536000, immutable";

/// A target's bytes, for the document.
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
#[allow(dead_code, reason = "only described")]
struct File(Vec<u8>);

/// A file of the registry's metadata
///
/// `timestamp.json`, or a version of another role, like `1.root.json`. Every root that there was is kept.
#[utoipa::path(
    get,
    path = "/metadata/{file}",
    tag = "models",
    operation_id = "tuf_metadata",
    security(("gateway" = []), ("session" = [])),
    params(("file" = String, Path, description = "The file's name")),
    responses(
        (status = 200, body = inline(File), content_type = "application/json", description = "The file"),
        (status = 304, description = "The client has it already (`If-None-Match`)"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Neither a gateway's token nor a session"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such file"),
    )
)]
pub async fn metadata(
    State(app): State<App>,
    _: RegistryReader,
    Path(file): Path<String>,
    request: HeaderMap,
) -> ApiResult<Response> {
    let not_found = || ApiError::NotFound { what: "file", value: file.replace('\0', "\u{fffd}") };
    let (role, version) = metadata_file(&file).ok_or_else(not_found)?;
    let bytes = store::metadata(&app.pool, role, version).await?.ok_or_else(not_found)?;
    // Weak, because the answer may be compressed on its way.
    let etag = etag(&format!("W/\"{}\"", hex::encode(Sha256::digest(&bytes))))?;
    let mut response = if is_known(&request, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Body::from(bytes).into_response();
        response.headers_mut().typed_insert(ContentType::json());
        response
    };
    let headers = response.headers_mut();
    headers.typed_insert(etag);
    match version {
        Some(_) => headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(IMMUTABLE)),
        None => {
            headers.typed_insert(CacheControl::new().with_no_cache().with_private());
            None
        }
    };
    Ok(response)
}

/// Role and version that a file's name says. The timestamp has no version in its name; the others have.
fn metadata_file(name: &str) -> Option<(RoleType, Option<u64>)> {
    let stem = name.strip_suffix(".json")?;
    if stem == "timestamp" {
        return Some((RoleType::Timestamp, None));
    }
    let (version, role) = stem.split_once('.')?;
    let role = match role {
        "root" => RoleType::Root,
        "targets" => RoleType::Targets,
        "snapshot" => RoleType::Snapshot,
        _ => return None,
    };
    // Only as it is written, so that a file has one name.
    let number: u64 = version.parse().ok()?;
    (number.to_string() == version).then_some((role, Some(number)))
}

/// A target
///
/// `SHA256.NAME`: the digest in hexadecimal and the target's name. One part of it with `Range`.
#[utoipa::path(
    get,
    path = "/targets/{file}",
    tag = "models",
    operation_id = "tuf_target",
    security(("gateway" = []), ("session" = [])),
    params(
        ("file" = String, Path, description = "The file's name"),
        ("range" = Option<String>, Header, description = "The part wanted, like `bytes=1000-`"),
    ),
    responses(
        (status = 200, body = inline(File), content_type = "application/octet-stream", description = "The file; 206 with a part of it"),
        (status = 304, description = "The client has it already (`If-None-Match`)"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Neither a gateway's token nor a session"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such file"),
        (status = 416, body = Problem, content_type = "application/problem+json", description = "The file has no such part; `Content-Range` says how long it is"),
    )
)]
pub async fn target(
    State(app): State<App>,
    _: RegistryReader,
    Path(file): Path<String>,
    request: HeaderMap,
) -> ApiResult<Response> {
    let not_found = || ApiError::NotFound { what: "file", value: file.replace('\0', "\u{fffd}") };
    let sha256 = target_file(&file).ok_or_else(not_found)?;
    let length = store::blob_length(&app.pool, &sha256).await?.ok_or_else(not_found)?;
    let etag = etag(&format!("\"{}\"", hex::encode(sha256)))?;
    let mut response = if is_known(&request, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        content(&app.pool, sha256, length, asked_part(&request, &etag, length)?)
    };
    let headers = response.headers_mut();
    headers.typed_insert(etag);
    headers.typed_insert(AcceptRanges::bytes());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(IMMUTABLE));
    Ok(response)
}

/// The digest with which a target's file name begins.
fn target_file(name: &str) -> Option<[u8; 32]> {
    let (digest, _) = name.split_once('.')?;
    let mut sha256 = [0; 32];
    hex::decode_to_slice(digest, &mut sha256).ok()?;
    Some(sha256)
}

/// The part that is asked for, first and last byte; none for the whole. Several parts at once are answered by the whole,
/// as are parts of a file that is another by now.
fn asked_part(request: &HeaderMap, etag: &ETag, length: u64) -> ApiResult<Option<RangeInclusive<u64>>> {
    let Some(range) = request.typed_get::<Range>() else {
        return Ok(None);
    };
    if request.typed_get::<IfRange>().is_some_and(|condition| condition.is_modified(Some(etag), None)) {
        return Ok(None);
    }
    let text = request.get(header::RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
    if text.contains(',') {
        return Ok(None);
    }
    let refused = || ApiError::Range { range: text.chars().take(80).collect(), length };
    let (first, last) = range.satisfiable_ranges(length).next().ok_or_else(refused)?;
    let first = match first {
        std::ops::Bound::Included(first) => first,
        std::ops::Bound::Excluded(before) => before.saturating_add(1),
        std::ops::Bound::Unbounded => 0,
    };
    let end = length.saturating_sub(1);
    let last = match last {
        std::ops::Bound::Included(last) => last.min(end),
        std::ops::Bound::Excluded(after) => after.saturating_sub(1).min(end),
        std::ops::Bound::Unbounded => end,
    };
    if first >= length || first > last { Err(refused()) } else { Ok(Some(first..=last)) }
}

/// A target's answer, whose body is read from the database part by part as the client takes it.
fn content(pool: &PgPool, sha256: [u8; 32], length: u64, part: Option<RangeInclusive<u64>>) -> Response {
    let (from, to) = part.as_ref().map_or((0, length), |part| (*part.start(), part.end() + 1));
    let pool = pool.clone();
    let parts = stream::try_unfold(from, move |at| {
        let pool = pool.clone();
        async move {
            if at >= to {
                return Ok::<_, sqlx::Error>(None);
            }
            let wanted = u32::try_from(to - at).unwrap_or(PART).min(PART);
            let bytes = store::blob_part(&pool, &sha256, at, wanted).await?;
            let next = at + bytes.len() as u64;
            Ok(Some((Bytes::from(bytes), next)))
        }
    });
    let mut response = Body::from_stream(parts).into_response();
    if let Some(range) = part.and_then(|part| ContentRange::bytes(part, length).ok()) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        response.headers_mut().typed_insert(range);
    }
    response.headers_mut().typed_insert(ContentLength(to - from));
    response.headers_mut().typed_insert(ContentType::octet_stream());
    response
}

fn is_known(request: &HeaderMap, etag: &ETag) -> bool {
    request.typed_get::<IfNoneMatch>().is_some_and(|known| !known.precondition_passes(etag))
}

fn etag(text: &str) -> ApiResult<ETag> {
    text.parse().map_err(|_| ApiError::Internal(anyhow::anyhow!("{text} is no entity tag")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_metadata_has_one_name() {
        assert_eq!(metadata_file("timestamp.json"), Some((RoleType::Timestamp, None)));
        assert_eq!(metadata_file("12.root.json"), Some((RoleType::Root, Some(12))));
        assert_eq!(metadata_file("1.targets.json"), Some((RoleType::Targets, Some(1))));
        for wrong in
            ["root.json", "1.timestamp.json", "01.root.json", "+1.root.json", "-1.root.json", "1.root", "..json"]
        {
            assert_eq!(metadata_file(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_part_is_cut_to_the_file() {
        let etag: ETag = "\"a\"".parse().unwrap();
        let part = |range: &'static str, condition: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static(range));
            condition.map(|tag| headers.insert(header::IF_RANGE, HeaderValue::from_static(tag)));
            asked_part(&headers, &etag, 100).map_err(|error| error.to_string())
        };
        assert_eq!(part("bytes=0-9", None), Ok(Some(0..=9)));
        assert_eq!(part("bytes=90-", None), Ok(Some(90..=99)));
        assert_eq!(part("bytes=90-1000", None), Ok(Some(90..=99)));
        assert_eq!(part("bytes=-5", None), Ok(Some(95..=99)));
        assert_eq!(part("bytes=5-", Some("\"a\"")), Ok(Some(5..=99)));
        assert_eq!(part("bytes=5-", Some("\"b\"")), Ok(None));
        assert_eq!(part("bytes=0-1,5-6", None), Ok(None));
        assert_eq!(part("lines=1-2", None), Ok(None));
        for beyond in ["bytes=100-", "bytes=9-5", "bytes=-0", "bytes=x-"] {
            assert!(part(beyond, None).is_err(), "{beyond}");
        }
    }
}
