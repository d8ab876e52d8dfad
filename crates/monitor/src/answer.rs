//! What goes back over HTTP.

use axum::body::Body;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::json::{Layout, to_json};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A page that could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

impl Refusal {
    /// The request is at fault.
    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text: text.into() }
    }

    /// There is no such thing to show.
    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, text: text.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        response(self.status, TEXT, self.text.into_bytes())
    }
}

/// A page or the reason why there is none.
pub(crate) type Page = Result<Response, Refusal>;

/// A page with the headers every JSON page has.
pub(crate) fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T, layout: Layout) -> Response {
    data(status, to_json(value, layout))
}

/// Content that is served with the headers of JSON whatever it is.
pub(crate) fn data(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = response(status, JSON, body);
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// A successful page in the usual layout.
pub(crate) fn page<T: Serialize + ?Sized>(value: &T) -> Page {
    Ok(json(StatusCode::OK, value, Layout::Two))
}

/// Any content.
pub(crate) fn response(status: StatusCode, content_type: HeaderValue, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
