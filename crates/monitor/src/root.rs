//! The page with links to the others.

use axum::http::{HeaderValue, StatusCode};

use crate::answer::{Page, response};
use crate::monitor::Monitor;

const LINKS: [(&str, &str); 12] = [
    ("/varz", "General"),
    ("/jsz", "JetStream"),
    ("/connz", "Connections"),
    ("/accountz", "Accounts"),
    ("/accstatz", "Account Stats"),
    ("/subsz", "Subscriptions"),
    ("/routez", "Routes"),
    ("/leafz", "LeafNodes"),
    ("/gatewayz", "Gateways"),
    ("/raftz", "Raft Groups"),
    ("/healthz", "Health Probe"),
    ("/debug/vars", "Expvar"),
];

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<title>Linnet monitoring</title>
<style>
body { font-family: system-ui, sans-serif; margin: 2rem }
a { display: block; padding: .2rem 0; color: #334 }
</style>
</head>
<body>
";

/// The root page.
pub(crate) fn page(monitor: &Monitor) -> Page {
    let options = monitor.options();
    let base = match options.monitoring.base_path.as_str() {
        "/" => "",
        base => base,
    };
    let mut html = HEAD.to_owned();
    html.push_str(&format!(
        "<h1>Linnet {}</h1>\n<p>nats-server v{}</p>\n",
        env!("CARGO_PKG_VERSION"),
        monitor.broker().identity().version
    ));
    for (path, title) in LINKS {
        html.push_str(&format!("<a href=\".{}{path}\">{title}</a>\n", escape(base)));
    }
    html.push_str("</body>\n</html>\n");
    Ok(response(StatusCode::OK, HeaderValue::from_static("text/html; charset=utf-8"), html.into_bytes()))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
