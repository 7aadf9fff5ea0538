//! What goes wrong, as RFC 9457 problem details.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use headers::{ContentRange, HeaderMapExt as _};
use serde::Serialize;
use utoipa::ToSchema;

use super::types::Role;
use crate::ingest::{IngestError, Refusal};
use crate::registry::assign::AssignError;
use crate::registry::{PushError, RegistryError};

/// A problem, as the client sees it (RFC 9457, `application/problem+json`).
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// A URI for the kind of problem; programs tell problems apart by it.
    #[serde(rename = "type")]
    #[schema(example = "urn:tilth:problem:parameter")]
    pub kind: String,
    /// The kind of problem, for people.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time, for people.
    pub detail: String,
    /// The parameter or field that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub field: Option<String>,
    /// The value that it had, cut to a printable length.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub value: Option<String>,
    /// The sequence that the lane goes on with, when a batch leaves a gap.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub expected: Option<u64>,
}

/// Every way in which a request fails.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody is logged in, or the gateway's token is not known.
    #[error("{0}")]
    Unauthorised(&'static str),
    /// The gateway is known and speaks for another.
    #[error("{field} {value:?} is not the token's")]
    Forbidden {
        /// What it named.
        field: &'static str,
        /// The name.
        value: String,
    },
    /// The person may look at this and not change it.
    #[error("this needs the role operator or admin, and {email} has the role {}", role.name())]
    Role {
        /// Whose role.
        email: String,
        /// The role.
        role: Role,
    },
    /// There is nothing of that name, or it is somebody else's.
    #[error("there is no {what} {value:?}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// Its name.
        value: String,
    },
    /// The path takes other methods.
    #[error("this path does not take {0}")]
    Method(String),
    /// A parameter or a field of the body cannot be used.
    #[error("{field}: {value:?} {reason}")]
    Parameter {
        /// Its name.
        field: String,
        /// What it was.
        value: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// The body is not what it should be.
    #[error("{0}")]
    Body(String),
    /// The body is longer than is taken.
    #[error("{0}")]
    TooLarge(String),
    /// The body is of another type or encoding.
    #[error("{field} must be {expected}, not {value:?}")]
    Media {
        /// The header.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it was.
        value: String,
    },
    /// A batch leaves a gap in its lane.
    #[error("the batch begins at {first}, and {expected} comes next")]
    Gap {
        /// The batch's first sequence.
        first: u64,
        /// The sequence that the lane goes on with.
        expected: u64,
    },
    /// A model cannot be registered; everything that is wrong with it.
    #[error("{}", .0.join("; "))]
    Model(Vec<String>),
    /// Something of that name is there, or something that is needed is not.
    #[error("{0}")]
    Conflict(String),
    /// The server has no keys to change the registry with.
    #[error("this server only reads the registry; its configuration names no [registry] online_keys")]
    ReadOnly,
    /// A part of a file beyond its end.
    #[error("the range {range:?} is not within the file's {length} bytes")]
    Range {
        /// What was asked for.
        range: String,
        /// How long the file is.
        length: u64,
    },
    /// Too many tries, or too many streams.
    #[error("{detail}")]
    TooMany {
        /// What there is too much of.
        detail: &'static str,
        /// Seconds after which it may work.
        retry_after_s: u64,
    },
    /// The database does not answer now.
    #[error("the database does not answer: {0}")]
    Unavailable(sqlx::Error),
    /// A mistake of ours.
    #[error("{0:#}")]
    Internal(anyhow::Error),
}

/// What handlers return.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// A parameter or field that cannot be used.
    pub fn parameter(field: impl Into<String>, value: &str, reason: impl Into<String>) -> Self {
        Self::Parameter { field: field.into(), value: shown(value), reason: reason.into() }
    }

    /// Status, last part of the type, and title.
    const fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Unauthorised(_) => (StatusCode::UNAUTHORIZED, "unauthorised", "Not logged in"),
            Self::Forbidden { .. } => (StatusCode::FORBIDDEN, "forbidden", "Not yours"),
            Self::Role { .. } => (StatusCode::FORBIDDEN, "role", "Not allowed"),
            Self::Model(_) => (StatusCode::UNPROCESSABLE_ENTITY, "model", "The model cannot be registered"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict", "Not possible as things are"),
            Self::ReadOnly => (StatusCode::SERVICE_UNAVAILABLE, "read-only", "Not possible on this server"),
            Self::Range { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "range", "There is no such part"),
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, "method", "Method not allowed"),
            Self::Parameter { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "parameter", "A value cannot be used"),
            Self::Body(_) => (StatusCode::BAD_REQUEST, "body", "The body cannot be read"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            Self::Media { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "The body is of another type"),
            Self::Gap { .. } => (StatusCode::CONFLICT, "sequence-gap", "Records are missing before these"),
            Self::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many requests"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not available now"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
        }
    }

    /// The status of the answer.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.kind().0
    }

    /// A short word for counting by reason.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        self.kind().1
    }
}

/// The first 80 characters of something that came from outside.
fn shown(value: &str) -> String {
    value.chars().take(80).collect()
}

/// Whether a database's error is one that may be gone at the next try: of the connection (class 08), a conflict with
/// another transaction (40), a lack of something (53), the wrong state (55), or the server's stopping or starting (57).
fn passes(code: &str) -> bool {
    ["08", "40", "53", "55", "57"].iter().any(|class| code.starts_with(class))
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) | sqlx::Error::Tls(_) => {
                Self::Unavailable(error)
            }
            sqlx::Error::Database(ref e) if e.code().is_some_and(|code| passes(&code)) => Self::Unavailable(error),
            error => Self::Internal(anyhow::Error::new(error).context("database")),
        }
    }
}

impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        Self::Internal(error)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::parameter(refusal.field, &refusal.value, refusal.reason)
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Database(error) => error.into(),
            error => Self::Internal(anyhow::Error::new(error).context("registry")),
        }
    }
}

impl From<PushError> for ApiError {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Mistakes(mistakes) => Self::Model(mistakes),
            PushError::Exists { .. } => Self::Conflict(error.to_string()),
            PushError::Registry(error) => error.into(),
        }
    }
}

impl From<AssignError> for ApiError {
    fn from(error: AssignError) -> Self {
        match error {
            AssignError::Version { model, version } => {
                Self::NotFound { what: "model version", value: format!("{model} {version}") }
            }
            AssignError::Gateway(value) => Self::NotFound { what: "gateway", value },
            AssignError::Value { field, value, reason } => Self::parameter(field, &value, reason),
            AssignError::NothingBefore { .. } => Self::Conflict(error.to_string()),
            AssignError::Registry(error) => error.into(),
        }
    }
}

impl From<IngestError> for ApiError {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Gap { first, expected } => Self::Gap { first, expected },
            IngestError::Refused(refusal) => refusal.into(),
            IngestError::Database(error) => error.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, kind, title) = self.kind();
        let detail = match &self {
            Self::Unavailable(error) => {
                tracing::warn!(%error, "database does not answer");
                "the database does not answer; try again".to_owned()
            }
            Self::Internal(error) => {
                tracing::error!(error = format!("{error:#}"), "internal error");
                "this is a mistake of the server; its log says more".to_owned()
            }
            other => other.to_string(),
        };
        let mut problem = Problem {
            kind: format!("urn:tilth:problem:{kind}"),
            title,
            status: status.as_u16(),
            detail,
            field: None,
            value: None,
            expected: None,
        };
        let (mut retry_after_s, mut length) = (None, None);
        match self {
            Self::Range { length: of_file, .. } => length = Some(of_file),
            Self::Parameter { field, value, .. } => {
                (problem.field, problem.value) = (Some(field), Some(value));
            }
            Self::Forbidden { field, value } | Self::Media { field, value, .. } => {
                (problem.field, problem.value) = (Some(field.to_owned()), Some(shown(&value)));
            }
            Self::NotFound { what, value } => {
                (problem.field, problem.value) = (Some(what.to_owned()), Some(shown(&value)));
            }
            Self::Gap { expected, .. } => problem.expected = Some(expected),
            Self::TooMany { retry_after_s: seconds, .. } => retry_after_s = Some(seconds),
            Self::Unavailable(_) => retry_after_s = Some(5),
            _ => {}
        }
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            // People's sessions have no scheme of their own; programs learn that a token would do.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(length) = length {
            headers.typed_insert(ContentRange::unsatisfied_bytes(length));
        }
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
