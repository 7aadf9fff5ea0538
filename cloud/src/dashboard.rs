//! The dashboard: files that the build made and the binary holds.

use axum::http::{HeaderValue, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::api::problem::ApiError;

#[derive(RustEmbed)]
#[folder = "$OUT_DIR/dashboard"]
struct Files;

/// The page that every path of the dashboard's own leads to.
const INDEX: &str = "index.html";

/// Scripts, requests and images are the dashboard's own; styles may stand in the page, since charts place their parts so.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Answers what no route takes: a file of the dashboard, or its page, which finds its own way from the path.
pub async fn serve(method: Method, uri: Uri) -> Result<Response, ApiError> {
    let path = uri.path().trim_start_matches('/');
    if path == "api" || path.starts_with("api/") {
        return Err(ApiError::NotFound { what: "path", value: uri.path().to_owned() });
    }
    if method != Method::GET && method != Method::HEAD {
        return Err(ApiError::Method(method.to_string()));
    }
    if let Some(file) = Files::get(path) {
        return Ok(answer(path, file));
    }
    // A missing file is missing; only paths that look like pages are pages.
    if path.starts_with("assets/") {
        return Err(ApiError::NotFound { what: "path", value: uri.path().to_owned() });
    }
    let index = Files::get(INDEX).ok_or_else(|| anyhow::anyhow!("the dashboard has no {INDEX}"))?;
    Ok(answer(INDEX, index))
}

fn answer(path: &str, file: EmbeddedFile) -> Response {
    // The build puts a hash of the content into the names of assets, so they never change.
    let cache = match path {
        INDEX => "no-cache",
        path if path.starts_with("assets/") => "public, max-age=31536000, immutable",
        _ => "public, max-age=3600",
    };
    let kind = HeaderValue::from_str(file.metadata.mimetype());
    let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, HeaderValue::from_static(cache))];
    (headers, file.data).into_response()
}
