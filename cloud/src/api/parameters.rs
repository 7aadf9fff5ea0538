//! What a request asks, checked: every parameter that cannot be used is refused by its name and value.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Json, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::problem::{ApiError, ApiResult};
use crate::paging::{Cursor, Page};

/// Items in a page unless the request says otherwise, and at most.
const PAGE: u32 = 50;
const MOST_PAGE: u32 = 200;

/// Which page to give.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes the parameters; `Parameters::page` reads them")]
pub struct PageParameters {
    /// `next` of the page before.
    #[param(value_type = String, required = false)]
    cursor: Cursor,
    /// How many at most.
    #[param(required = false, default = 50, minimum = 1, maximum = 200)]
    limit: u32,
}

/// The query of a request. Take from it what is known; [`Parameters::finish`] refuses the rest.
pub struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        let query = Query::try_from_uri(&parts.uri).map_err(|error| ApiError::Body(error.body_text()))?;
        Ok(Self(query.0))
    }
}

impl Parameters {
    /// Every value of a parameter that may come many times.
    ///
    /// # Errors
    /// When a value is not a `T`.
    pub fn all<T: FromStr<Err: Display>>(&mut self, field: &str) -> ApiResult<Vec<T>> {
        let taken = self.0.extract_if(.., |(name, _)| name == field);
        taken.map(|(_, value)| parse(field, &value)).collect()
    }

    /// The value of a parameter that may come once.
    ///
    /// # Errors
    /// When it is not a `T`, or comes again.
    pub fn one<T: FromStr<Err: Display>>(&mut self, field: &str) -> ApiResult<Option<T>> {
        let Some(at) = self.0.iter().position(|(name, _)| name == field) else {
            return Ok(None);
        };
        let (_, value) = self.0.remove(at);
        if let Some((_, again)) = self.0.iter().find(|(name, _)| name == field) {
            return Err(ApiError::parameter(field, again, "comes a second time"));
        }
        parse(field, &value).map(Some)
    }

    /// The value of a parameter that lies between two bounds, or else what stands for it.
    ///
    /// # Errors
    /// When it is no number, or outside.
    pub fn between(&mut self, field: &str, least: u32, most: u32, otherwise: u32) -> ApiResult<u32> {
        let Some(text) = self.one::<String>(field)? else {
            return Ok(otherwise);
        };
        match text.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(ApiError::parameter(field, &text, format!("must be a whole number from {least} to {most}"))),
        }
    }

    /// Which page is asked for: `cursor` and `limit`.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn page(&mut self) -> ApiResult<Page> {
        Ok(Page { after: self.one("cursor")?, limit: self.between("limit", 1, MOST_PAGE, PAGE)? })
    }

    /// Refuses what nobody took.
    ///
    /// # Errors
    /// When a parameter is left.
    pub fn finish(self) -> ApiResult<()> {
        match self.0.first() {
            Some((name, value)) => Err(ApiError::parameter(name, value, "is a parameter that is not known here")),
            None => Ok(()),
        }
    }
}

fn parse<T: FromStr<Err: Display>>(field: &str, value: &str) -> ApiResult<T> {
    value.parse().map_err(|error: T::Err| ApiError::parameter(field, value, format!("cannot be used: {error}")))
}

/// A JSON body, with a problem as the answer when it is not one.
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> ApiResult<Self> {
        match Json::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(JsonRejection::MissingJsonContentType(_)) => Err(ApiError::Media {
                field: "content-type",
                expected: "application/json",
                value: "another".to_owned(),
            }),
            Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(ApiError::TooLarge(error.body_text())),
            Err(error) => Err(ApiError::Body(error.body_text())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Uri;

    fn query(text: &str) -> Parameters {
        Parameters(Query::try_from_uri(&format!("http://cloud/?{text}").parse::<Uri>().unwrap()).unwrap().0)
    }

    #[test]
    fn parameters_are_taken_by_name() {
        let mut parameters = query("channel=rain&hours=3&channel=soil_moisture_20cm");
        let channels: Vec<proto::Channel> = parameters.all("channel").unwrap();
        assert_eq!(channels.len(), 2);
        assert_eq!(parameters.between("hours", 1, 9, 5).unwrap(), 3);
        assert_eq!(parameters.between("days", 1, 9, 5).unwrap(), 5);
        parameters.finish().unwrap();
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let refused = |error: ApiError| error.to_string();
        assert_eq!(
            refused(query("hours=ten").between("hours", 1, 9, 5).unwrap_err()),
            "hours: \"ten\" must be a whole number from 1 to 9"
        );
        assert_eq!(refused(query("a=1&a=2").one::<String>("a").unwrap_err()), "a: \"2\" comes a second time");
        assert_eq!(
            refused(query("from=now").one::<proto::Timestamp>("from").unwrap_err()),
            "from: \"now\" cannot be used: time \"now\" is not RFC 3339, like 2026-07-14T06:00:00Z"
        );
        assert_eq!(
            refused(query("huors=3").finish().unwrap_err()),
            "huors: \"3\" is a parameter that is not known here"
        );
    }
}
