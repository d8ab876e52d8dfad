//! `/routez`: the connections to the other servers of the cluster.

use linnet_broker::{RouteInterest, RouteSnapshot};
use linnet_wire::SubjectPermission;
use serde::{Deserialize, Serialize};

use crate::answer::{Page, Refusal, page as answer};
use crate::format::{rtt, signed, uptime};
use crate::monitor::Monitor;
use crate::params::{ListSubs, Params};
use crate::subsz::SubDetail;

/// Routes.
#[derive(Serialize)]
pub(crate) struct Routez {
    server_id: String,
    server_name: String,
    now: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    import: Option<SubjectPermission>,
    #[serde(skip_serializing_if = "Option::is_none")]
    export: Option<SubjectPermission>,
    num_routes: i64,
    routes: Vec<Route>,
}

#[derive(Serialize)]
struct Route {
    rid: u64,
    remote_id: String,
    remote_name: String,
    did_solicit: bool,
    is_configured: bool,
    ip: String,
    port: u16,
    start: String,
    last_activity: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    rtt: String,
    uptime: String,
    idle: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    import: Option<SubjectPermission>,
    #[serde(skip_serializing_if = "Option::is_none")]
    export: Option<SubjectPermission>,
    pending_size: i64,
    in_msgs: i64,
    out_msgs: i64,
    in_bytes: i64,
    out_bytes: i64,
    subscriptions: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscriptions_list: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscriptions_list_detail: Option<Vec<SubDetail>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    account: String,
    compression: &'static str,
}

/// What is asked for. The names are those in JSON.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Question {
    subscriptions: bool,
    subscriptions_detail: bool,
}

impl Question {
    fn of(params: &Params) -> Result<Self, Refusal> {
        let subs = params.subs()?;
        Ok(Self { subscriptions: subs == ListSubs::Subjects, subscriptions_detail: subs == ListSubs::Detail })
    }
}

/// `/routez`.
pub(crate) fn page(monitor: &Monitor, params: &Params) -> Page {
    answer(&report(monitor, &Question::of(params)?))
}

/// What the page shows.
pub(crate) fn report(monitor: &Monitor, question: &Question) -> Routez {
    let subs = ListSubs::of_switches(question.subscriptions, question.subscriptions_detail);
    let broker = monitor.broker();
    let routes: Vec<Route> = broker.routes().into_iter().map(|route| row(monitor, route, subs)).collect();
    let own = broker.route_permissions();
    Routez {
        server_id: monitor.server_id(),
        server_name: monitor.server_name(),
        now: monitor.now(),
        import: own.import,
        export: own.export,
        num_routes: signed(routes.len()),
        routes,
    }
}

fn row(monitor: &Monitor, route: RouteSnapshot, subs: ListSubs) -> Route {
    let conn = route.conn;
    let interests = || monitor.broker().route_interests(conn.cid).into_iter();
    let last_activity =
        conn.start.0.saturating_add(signed((conn.uptime - conn.idle.min(conn.uptime)).as_nanos()));
    let (subjects, details) = match subs {
        ListSubs::No => (None, None),
        ListSubs::Subjects => (Some(interests().map(|interest| interest.subject).collect()), None),
        ListSubs::Detail => (None, Some(interests().map(|i| detail(i, conn.cid)).collect())),
    };
    Route {
        rid: conn.cid,
        remote_id: route.remote_id,
        remote_name: route.remote_name,
        did_solicit: route.did_solicit,
        is_configured: route.is_configured,
        ip: conn.peer.ip().to_canonical().to_string(),
        port: conn.peer.port(),
        start: conn.start.rfc3339(),
        last_activity: linnet_ids::Wall(last_activity).rfc3339(),
        rtt: if conn.rtt.is_zero() { String::new() } else { rtt(conn.rtt) },
        uptime: uptime(conn.uptime),
        idle: uptime(conn.idle),
        import: route.permissions.import,
        export: route.permissions.export,
        pending_size: signed(conn.pending_bytes),
        in_msgs: signed(conn.in_msgs),
        out_msgs: signed(conn.out_msgs),
        in_bytes: signed(conn.in_bytes),
        out_bytes: signed(conn.out_bytes),
        subscriptions: signed(route.interests),
        subscriptions_list: subjects,
        subscriptions_list_detail: details,
        account: route.account,
        compression: route.compression,
    }
}

/// An interest has no name of its own: nats-server shows the words that told of it.
fn detail(interest: RouteInterest, cid: u64) -> SubDetail {
    let mut sid = format!("R {} {}", interest.account, interest.subject);
    if let Some(queue) = &interest.queue {
        sid.push(' ');
        sid.push_str(queue);
    }
    SubDetail { subject: interest.subject, qgroup: interest.queue, sid, cid, ..SubDetail::default() }
}
