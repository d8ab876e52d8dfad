//! Which path shows what.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{LOCATION, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::answer::{Page, Refusal, response};
use crate::monitor::Monitor;
use crate::params::Params;
use crate::{
    accountz, accstatz, connz, debug, healthz, ipqueuesz, jsz, links, raftz, root, routez, subsz, varz,
};

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// All pages, for any method.
pub(crate) fn router(monitor: Arc<Monitor>) -> Router {
    Router::new().fallback(answer).with_state(monitor)
}

async fn answer(State(monitor): State<Arc<Monitor>>, method: Method, uri: Uri) -> Response {
    let clean = clean_path(uri.path());
    if uri.path().starts_with('/') && clean != uri.path() {
        return moved(&method, &clean, uri.query());
    }
    let options = monitor.options();
    let Some(page) = page_of(uri.path(), &options.monitoring.base_path) else { return unknown() };
    let page = if page == "/subscriptionsz" { "/subsz" } else { page };
    monitor.requests.count(page);
    let params = Params::of(&uri);
    let result: Page = match page {
        "/" => root::page(&monitor),
        "/varz" => varz::page(&monitor),
        "/connz" => connz::page(&monitor, &params),
        "/subsz" => subsz::page(&monitor, &params),
        "/jsz" => jsz::page(&monitor, &params).await,
        "/healthz" => healthz::page(&monitor, &params).await,
        "/routez" => routez::page(&monitor, &params),
        "/gatewayz" => links::gatewayz(&monitor, &params),
        "/leafz" => links::leafz(&monitor, &params),
        "/accountz" => accountz::page(&monitor, &params),
        "/accstatz" => accstatz::page(&monitor, &params),
        "/ipqueuesz" => ipqueuesz::page(&monitor, &params),
        "/raftz" => raftz::page(&monitor, &params).await,
        "/stacksz" => debug::stacksz(&monitor),
        "/debug/vars" => debug::vars(&monitor),
        _ => return unknown(),
    };
    result.unwrap_or_else(IntoResponse::into_response)
}

/// The page a path names below the base path; the base path itself is the root page.
fn page_of<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    if base == "/" {
        return Some(path);
    }
    match path.strip_prefix(base)? {
        "" => Some("/"),
        "/" => None,
        page => page.starts_with('/').then_some(page),
    }
}

/// The path without empty and `.` segments, with `..` taken back, as nats-server redirects to it. A slash at the end
/// stays.
fn clean_path(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            name => kept.push(name),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

/// Sends the client on to another path of this server.
fn moved(method: &Method, path: &str, query: Option<&str>) -> Response {
    // Browsers take a backslash for a slash, and two slashes for another host.
    let path = path.replace('\\', "%5C");
    let target = query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    let Ok(location) = HeaderValue::from_str(&target) else { return unknown() };
    let mut response = if matches!(*method, Method::GET | Method::HEAD) {
        let html = format!("<a href=\"{}\">Temporary Redirect</a>.\n\n", escape(&target));
        response(StatusCode::TEMPORARY_REDIRECT, HTML, html.into_bytes())
    } else {
        StatusCode::TEMPORARY_REDIRECT.into_response()
    };
    response.headers_mut().insert(LOCATION, location);
    response
}

/// Text as it may stand in an attribute of HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

fn unknown() -> Response {
    let mut response = Refusal::not_found("404 page not found\n").into_response();
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::{clean_path, page_of};

    #[test]
    fn paths_are_cleaned() {
        for (path, clean) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/..", "/"),
            ("/varz", "/varz"),
            ("//varz", "/varz"),
            ("/./varz/.", "/varz"),
            ("/a/../varz", "/varz"),
            ("/../varz", "/varz"),
            ("/varz/", "/varz/"),
            ("/varz//", "/varz/"),
            ("/debug//vars", "/debug/vars"),
            ("/%2fvarz", "/%2fvarz"),
        ] {
            assert_eq!(clean_path(path), clean, "{path}");
        }
    }

    #[test]
    fn base_path_is_taken_off() {
        for (path, base, page) in [
            ("/varz", "/", Some("/varz")),
            ("/", "/", Some("/")),
            ("/foo", "/foo", Some("/")),
            ("/foo/", "/foo", None),
            ("/foo/varz", "/foo", Some("/varz")),
            ("/foovarz", "/foo", None),
            ("/varz", "/foo", None),
        ] {
            assert_eq!(page_of(path, base), page, "{path} below {base}");
        }
    }
}
