//! `/connz`: client connections, open and closed.

use linnet_broker::{Account, ClosedConn, Conn, ConnTls};
use serde::Serialize;

use crate::answer::{Page, page as answer};
use crate::format::{rtt, signed, uptime};
use crate::monitor::Monitor;
use crate::params::{ConnState, ListSubs, Params, cut, limit_or_default};
use crate::sort::{Entry, SortBy};
use crate::subsz::SubDetail;

/// Name of the account everybody is in if there are no others; it goes without saying.
const GLOBAL_ACCOUNT: &str = linnet_conf::options::GLOBAL_ACCOUNT;

#[derive(Serialize)]
struct Connz {
    server_id: String,
    now: String,
    num_connections: i64,
    total: i64,
    offset: i64,
    limit: i64,
    connections: Option<Vec<ConnInfo>>,
}

#[derive(Serialize)]
struct ConnInfo {
    cid: u64,
    kind: &'static str,
    #[serde(rename = "type")]
    protocol: &'static str,
    ip: String,
    port: u16,
    start: String,
    last_activity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    rtt: String,
    uptime: String,
    idle: String,
    pending_bytes: i64,
    in_msgs: i64,
    out_msgs: i64,
    in_bytes: i64,
    out_bytes: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stalls: Option<i64>,
    subscriptions: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    lang: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cipher_suite: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tls_peer_certs: Vec<PeerCert>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tls_first: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorized_user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list_detail: Vec<SubDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_tag: Option<String>,
}

#[derive(Serialize)]
struct PeerCert {
    #[serde(skip_serializing_if = "String::is_empty")]
    subject: String,
    spki_sha256: String,
    cert_sha256: String,
}

impl PeerCert {
    fn all_of(tls: &ConnTls) -> Vec<Self> {
        let hex = |hash: &[u8]| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let certificates = tls.peer.iter().flat_map(|peer| &peer.certificates);
        let show = |certificate: &linnet_tls::PeerCertificate| Self {
            subject: certificate.subject.clone(),
            spki_sha256: hex(&certificate.spki_sha256),
            cert_sha256: hex(&certificate.cert_sha256),
        };
        certificates.map(show).collect()
    }
}

/// What is asked for.
struct Question<'a> {
    auth: bool,
    subs: ListSubs,
    offset: i64,
    limit: i64,
    cid: u64,
    state: ConnState,
    user: &'a str,
    account: &'a str,
    /// There are no MQTT clients, so any name filters everything out.
    mqtt_client: &'a str,
    sort: SortBy,
}

impl<'a> Question<'a> {
    fn of(params: &'a Params) -> Result<Self, crate::answer::Refusal> {
        let auth = params.bool("auth")?;
        let subs = params.subs()?;
        let offset = params.int("offset")?.max(0);
        let limit = limit_or_default(params.int("limit")?);
        let cid = params.uint64("cid")?;
        let state = params.state()?;
        Ok(Self {
            auth,
            subs,
            offset,
            limit: if cid > 0 { 1 } else { limit },
            cid,
            state,
            user: params.text("user"),
            account: params.text("acc"),
            mqtt_client: params.text("mqtt_client"),
            sort: SortBy::parse(params.text("sort"), state)?,
        })
    }

    fn is_in_account(&self, account: Option<&Account>) -> bool {
        self.account.is_empty() || account.is_some_and(|a| a.name() == self.account)
    }

    fn wants(&self, entry: &Entry) -> bool {
        let user = entry.conn.client.user.as_deref().unwrap_or_default();
        (self.cid == 0 || self.cid == entry.conn.cid)
            && (self.user.is_empty() || self.user == user)
            && self.mqtt_client.is_empty()
    }
}

/// `/connz`.
pub(crate) fn page(monitor: &Monitor, params: &Params) -> Page {
    let question = Question::of(params)?;
    let broker = monitor.broker();
    let mut connz = Connz {
        server_id: monitor.server_id(),
        now: monitor.now(),
        num_connections: 0,
        total: 0,
        offset: question.offset,
        limit: question.limit,
        connections: None,
    };
    if !question.account.is_empty() && broker.account(question.account).is_none() {
        connz.server_id.clear();
        return answer(&connz);
    }
    let mut entries = Vec::new();
    if question.state != ConnState::Closed {
        let now = broker.clock().mono();
        let open = broker.connections();
        let open = open.iter().filter(|c| question.is_in_account(c.account().as_deref()));
        entries.extend(open.map(|c| Entry { conn: c.snapshot(now), end: None, subs: Vec::new() }));
    }
    if question.state != ConnState::Open {
        let closed = broker.closed_connections().into_iter();
        let closed = closed.filter(|c| question.is_in_account(c.last.client.account.as_deref()));
        entries.extend(closed.map(ended));
    }
    connz.total = signed(entries.len());
    entries.retain(|e| question.wants(e));
    question.sort.sort(&mut entries);
    let rows: Vec<ConnInfo> = cut(entries, question.offset, question.limit)
        .into_iter()
        .map(|e| row(e, &question, |cid| broker.connection(cid)))
        .collect();
    connz.num_connections = signed(rows.len());
    connz.connections = Some(rows);
    answer(&connz)
}

fn ended(closed: ClosedConn) -> Entry {
    Entry { conn: closed.last, end: Some((closed.stop, closed.reason)), subs: closed.subscriptions }
}

fn row(
    entry: Entry,
    question: &Question<'_>,
    find: impl FnOnce(u64) -> Option<std::sync::Arc<Conn>>,
) -> ConnInfo {
    let subs = match question.subs {
        ListSubs::No => Vec::new(),
        _ => subscriptions(&entry, find),
    };
    let (subjects, details) = match question.subs {
        ListSubs::Detail => (Vec::new(), subs),
        _ => (subs.into_iter().map(|s| s.subject).collect(), Vec::new()),
    };
    let last_activity = entry.last_activity().rfc3339();
    let conn = entry.conn;
    let client = conn.client;
    let account = client.account.map(|a| a.name().to_owned());
    let (stop, reason) = entry.end.unzip();
    ConnInfo {
        cid: conn.cid,
        kind: "Client",
        protocol: "nats",
        ip: conn.peer.ip().to_canonical().to_string(),
        port: conn.peer.port(),
        start: conn.start.rfc3339(),
        last_activity,
        stop: stop.map(|s| s.rfc3339()),
        reason: reason.map(|r| r.as_str()),
        rtt: rtt(conn.rtt),
        uptime: uptime(conn.uptime),
        idle: uptime(conn.idle),
        pending_bytes: signed(conn.pending_bytes),
        in_msgs: signed(conn.in_msgs),
        out_msgs: signed(conn.out_msgs),
        in_bytes: signed(conn.in_bytes),
        out_bytes: signed(conn.out_bytes),
        stalls: Some(signed(conn.stalls)).filter(|n| *n > 0),
        subscriptions: signed(conn.subscriptions),
        name: client.name,
        lang: client.lang,
        version: client.version,
        tls_version: conn.tls.as_ref().map(|tls| tls.version),
        tls_cipher_suite: conn.tls.as_ref().map(|tls| tls.cipher_suite),
        tls_peer_certs: conn
            .tls
            .as_deref()
            .filter(|_| question.auth)
            .map(PeerCert::all_of)
            .unwrap_or_default(),
        tls_first: conn.tls.as_ref().is_some_and(|tls| tls.is_first),
        authorized_user: client.user.filter(|_| question.auth),
        account: account.clone().filter(|a| question.auth && a != GLOBAL_ACCOUNT),
        subscriptions_list: subjects,
        subscriptions_list_detail: details,
        name_tag: account.filter(|_| question.auth),
    }
}

/// The subscriptions of a connection by sid; those of a closed one name their account.
fn subscriptions(entry: &Entry, find: impl FnOnce(u64) -> Option<std::sync::Arc<Conn>>) -> Vec<SubDetail> {
    let mut subs: Vec<SubDetail> = if entry.end.is_some() {
        let account = entry.conn.client.account.as_ref().map_or(GLOBAL_ACCOUNT, |a| a.name());
        entry.subs.iter().map(|sub| closed_detail(sub, entry.conn.cid).in_account(account)).collect()
    } else {
        let subs = find(entry.conn.cid).map(|c| c.subscriptions()).unwrap_or_default();
        subs.iter().map(|s| SubDetail::of(s)).collect()
    };
    subs.sort_by(|a, b| (a.sid.len(), &a.sid).cmp(&(b.sid.len(), &b.sid)));
    subs
}

fn closed_detail(sub: &(String, Option<String>, String, u64), cid: u64) -> SubDetail {
    let (subject, qgroup, sid, delivered) = sub.clone();
    SubDetail { subject, qgroup, sid, msgs: signed(delivered), cid, ..SubDetail::default() }
}
