//! Which path shows what.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};

use crate::answer::{Page, Refusal};
use crate::monitor::Monitor;
use crate::params::Params;
use crate::{accountz, connz, debug, healthz, ipqueuesz, jsz, links, root, subsz, varz};

/// All pages, for any method.
pub(crate) fn router(monitor: Arc<Monitor>) -> Router {
    Router::new().fallback(answer).with_state(monitor)
}

async fn answer(State(monitor): State<Arc<Monitor>>, uri: Uri) -> Response {
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
        "/routez" => links::routez(&monitor, &params),
        "/gatewayz" => links::gatewayz(&monitor, &params),
        "/leafz" => links::leafz(&monitor, &params),
        "/accountz" => accountz::page(&monitor, &params),
        "/accstatz" => {
            Err(Refusal::not_found("accstatz is not available: traffic is not counted per account yet"))
        }
        "/ipqueuesz" => ipqueuesz::page(&monitor, &params),
        "/raftz" => Err(Refusal::not_found("No Raft nodes registered")),
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

fn unknown() -> Response {
    let mut response = Refusal::not_found("404 page not found\n").into_response();
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::page_of;

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
