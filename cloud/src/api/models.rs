//! The versions in the registry.

use axum::Json;
use axum::body::Bytes;
use axum::extract::multipart::{Field, MultipartError, MultipartRejection};
use axum::extract::{Multipart, Path, State};
use axum::http::{HeaderName, StatusCode, header};
use proto::assignment::{MAX_MANIFEST_BYTES, MAX_MODEL_BYTES};

use super::App;
use super::access::Operator;
use super::problem::{ApiError, ApiResult, Problem};
use super::types::{ModelList, ModelPush, ModelVersion};
use crate::people::Person;
use crate::registry::inspect::inspect;
use crate::registry::{PushError, push, versions};

/// What a form needs besides its two files, in bytes: names, boundaries.
const FORM_BYTES: u64 = 64 << 10;

/// The largest body of a push, in bytes.
#[allow(clippy::cast_possible_truncation, reason = "some 20 MiB")]
pub const MOST_BODY: usize = (MAX_MODEL_BYTES + MAX_MANIFEST_BYTES + FORM_BYTES) as usize;

/// Models in the registry
///
/// Every version, newest first; the five hundred newest.
#[utoipa::path(
    get,
    path = "/models",
    tag = "models",
    operation_id = "models",
    security(("session" = [])),
    responses(
        (status = 200, body = ModelList, description = "The versions"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
    )
)]
pub async fn models(State(app): State<App>, person: Person) -> ApiResult<Json<ModelList>> {
    let items = versions::list(&mut *app.pool.acquire().await?, person.user_id).await?;
    Ok(Json(ModelList { items }))
}

/// A version of a model
#[utoipa::path(
    get,
    path = "/models/{name}/{version}",
    tag = "models",
    operation_id = "model_version",
    security(("session" = [])),
    params(("name" = String, Path, description = "The model's name"), ("version" = String, Path, description = "The version")),
    responses(
        (status = 200, body = ModelVersion, description = "The version"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such version"),
    )
)]
pub async fn model_version(
    State(app): State<App>,
    person: Person,
    Path((name, version)): Path<(String, String)>,
) -> ApiResult<Json<ModelVersion>> {
    let (name, version) = known(name, version)?;
    let found = versions::find_for(&mut *app.pool.acquire().await?, person.user_id, &name, &version).await?;
    found.map(Json).ok_or_else(|| not_found(&name, &version))
}

/// The manifest of a version
///
/// As it was pushed.
#[utoipa::path(
    get,
    path = "/models/{name}/{version}/manifest",
    tag = "models",
    operation_id = "model_manifest",
    security(("session" = [])),
    params(("name" = String, Path, description = "The model's name"), ("version" = String, Path, description = "The version")),
    responses(
        (status = 200, body = String, content_type = "text/toml", description = "The manifest"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such version"),
    )
)]
pub async fn model_manifest(
    State(app): State<App>,
    _: Person,
    Path((name, version)): Path<(String, String)>,
) -> ApiResult<([(HeaderName, &'static str); 1], Vec<u8>)> {
    let (name, version) = known(name, version)?;
    let found = versions::manifest(&mut *app.pool.acquire().await?, &name, &version).await?;
    let text = found.ok_or_else(|| not_found(&name, &version))?;
    Ok(([(header::CONTENT_TYPE, "text/toml; charset=utf-8")], text))
}

fn not_found(name: &str, version: &str) -> ApiError {
    ApiError::NotFound { what: "model version", value: format!("{name} {version}") }
}

/// Refuses what PostgreSQL cannot look for.
fn known(name: String, version: String) -> ApiResult<(String, String)> {
    if name.contains('\0') || version.contains('\0') {
        return Err(not_found(&name.replace('\0', "\u{fffd}"), &version.replace('\0', "\u{fffd}")));
    }
    Ok((name, version))
}

/// Push a model
///
/// Registers a version, all of it or nothing. Versions never change: another content needs another number.
#[utoipa::path(
    post,
    path = "/models",
    tag = "models",
    operation_id = "push_model",
    security(("session" = [])),
    request_body(content = ModelPush, content_type = "multipart/form-data", description = "Manifest and ONNX file"),
    responses(
        (status = 201, body = ModelVersion, description = "Registered"),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "The body is no such form, or broke off"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "Needs the role operator or admin"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "The version exists; `detail` says whether with the same content"),
        (status = 413, body = Problem, content_type = "application/problem+json", description = "A file is too large"),
        (status = 415, body = Problem, content_type = "application/problem+json", description = "The body is no form"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "The model cannot be used; `detail` names every mistake"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "The server has no keys for it, or the database does not answer"),
    )
)]
pub async fn push_model(
    State(app): State<App>,
    Operator(person): Operator,
    form: Result<Multipart, MultipartRejection>,
) -> ApiResult<(StatusCode, Json<ModelVersion>)> {
    let publisher = app.publisher.as_ref().ok_or(ApiError::ReadOnly)?;
    let form = form.map_err(|_| ApiError::Media {
        field: "content-type",
        expected: "multipart/form-data",
        value: "another".to_owned(),
    })?;
    let _turn = app.pushes.acquire().await;
    let (text, onnx) = read(form).await?;
    let looked_at = tokio::task::spawn_blocking(move || inspect(&text, &onnx).map(|manifest| (manifest, text, onnx)));
    let (manifest, text, onnx) = looked_at.await.map_err(anyhow::Error::from)?.map_err(PushError::Mistakes)?;
    let version = push::register(&app.pool, publisher, &manifest, &text, &onnx, &person.email).await?;
    tracing::info!(name = version.name, version = version.version, by = person.email, "model registered");
    Ok((StatusCode::CREATED, Json(version)))
}

/// The two parts of the form.
async fn read(mut form: Multipart) -> ApiResult<(String, Vec<u8>)> {
    let (mut manifest, mut model) = (None, None);
    while let Some(field) = form.next_field().await.map_err(|error| broken(&error))? {
        let name = field.name().unwrap_or_default().to_owned();
        let (place, most) = match name.as_str() {
            "manifest" => (&mut manifest, MAX_MANIFEST_BYTES),
            "model" => (&mut model, MAX_MODEL_BYTES),
            _ => return Err(ApiError::parameter(name, "", "is a part that is not known here")),
        };
        if place.replace(bytes(field, &name, most).await?).is_some() {
            return Err(ApiError::parameter(name, "", "comes a second time"));
        }
    }
    let missing = |name| ApiError::parameter(name, "", "is missing");
    let manifest = String::from_utf8(manifest.ok_or_else(|| missing("manifest"))?)
        .map_err(|_| ApiError::parameter("manifest", "", "is not UTF-8"))?;
    Ok((manifest, model.ok_or_else(|| missing("model"))?))
}

pub(super) async fn bytes(mut field: Field<'_>, name: &str, most: u64) -> ApiResult<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| broken(&error))? {
        let chunk: Bytes = chunk;
        if (bytes.len() + chunk.len()) as u64 > most {
            return Err(ApiError::TooLarge(format!("the {name} has more than the {most} bytes that are allowed")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

pub(super) fn broken(error: &MultipartError) -> ApiError {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge(format!(
            "a push has at most {MAX_MODEL_BYTES} bytes of model and {MAX_MANIFEST_BYTES} bytes of manifest"
        )),
        _ => ApiError::Body(format!("the form cannot be read: {}", error.body_text())),
    }
}
