//! `/connz`: client connections, open and closed.

use linnet_broker::{Account, ClosedConn, Conn, ConnTls};
use serde::{Deserialize, Serialize};

use crate::answer::{Page, Refusal, page as answer};
use crate::format::{rtt, signed, uptime};
use crate::monitor::Monitor;
use crate::params::{ConnState, ListSubs, Params, cut, limit_or_default};
use crate::sort::{Entry, SortBy};
use crate::subsz::SubDetail;

/// Name of the account everybody is in if there are no others; it goes without saying.
const GLOBAL_ACCOUNT: &str = linnet_conf::options::GLOBAL_ACCOUNT;

/// Client connections.
#[derive(Serialize)]
pub(crate) struct Connz {
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

/// What is asked for. The names are those in JSON.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Question {
    auth: bool,
    subscriptions: bool,
    subscriptions_detail: bool,
    offset: i64,
    limit: i64,
    cid: u64,
    state: ConnState,
    user: String,
    #[serde(rename = "acc")]
    account: String,
    /// There are no MQTT clients, so any name filters everything out.
    mqtt_client: String,
    /// Connections with a subscription that overlaps it; not known to the page over HTTP.
    filter_subject: String,
    sort: String,
}

impl Question {
    fn of(params: &Params) -> Result<Self, Refusal> {
        let auth = params.bool("auth")?;
        let subs = params.subs()?;
        let offset = params.int("offset")?;
        let limit = params.int("limit")?;
        let cid = params.uint64("cid")?;
        Ok(Self {
            auth,
            subscriptions: subs == ListSubs::Subjects,
            subscriptions_detail: subs == ListSubs::Detail,
            offset,
            limit,
            cid,
            state: params.state()?,
            user: params.text("user").to_owned(),
            account: params.text("acc").to_owned(),
            mqtt_client: params.text("mqtt_client").to_owned(),
            filter_subject: String::new(),
            sort: params.text("sort").to_owned(),
        })
    }

    /// The same about one account.
    pub(crate) fn for_account(self, account: &str) -> Self {
        Self { account: account.to_owned(), ..self }
    }

    fn subs(&self) -> ListSubs {
        ListSubs::of_switches(self.subscriptions, self.subscriptions_detail)
    }

    fn is_in_account(&self, account: Option<&Account>) -> bool {
        self.account.is_empty() || account.is_some_and(|a| a.name() == self.account)
    }

    /// The subject to filter by, if there is one that filters.
    fn filter(&self) -> Result<Option<&[u8]>, Refusal> {
        if self.filter_subject.is_empty() || self.filter_subject == ">" {
            return Ok(None);
        }
        if self.account.is_empty() {
            return Err(Refusal::bad_request("filter by subject only valid with account filtering"));
        }
        Ok(Some(self.filter_subject.as_bytes()))
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
    answer(&report(monitor, &Question::of(params)?)?)
}

/// What the page shows.
pub(crate) fn report(monitor: &Monitor, question: &Question) -> Result<Connz, Refusal> {
    let sort = SortBy::parse(&question.sort, question.state)?;
    let filter = question.filter()?;
    let offset = question.offset.max(0);
    let limit = if question.cid > 0 { 1 } else { limit_or_default(question.limit) };
    let broker = monitor.broker();
    let mut connz = Connz {
        server_id: monitor.server_id(),
        now: monitor.now(),
        num_connections: 0,
        total: 0,
        offset,
        limit,
        connections: None,
    };
    if !question.account.is_empty() && broker.account(&question.account).is_none() {
        connz.server_id.clear();
        return Ok(connz);
    }
    let mut entries = Vec::new();
    if question.state != ConnState::Closed {
        let now = broker.clock().mono();
        let open = broker.connections();
        let open = open.iter().filter(|c| question.is_in_account(c.account().as_deref()));
        let open = open.filter(|c| {
            filter.is_none_or(|f| c.subscriptions().iter().any(|s| linnet_subject::overlaps(&s.subject, f)))
        });
        entries.extend(open.map(|c| Entry { conn: c.snapshot(now), end: None, subs: Vec::new() }));
    }
    if question.state != ConnState::Open {
        let closed = broker.closed_connections().into_iter();
        let closed = closed.filter(|c| question.is_in_account(c.last.client.account.as_deref()));
        let overlaps = |c: &ClosedConn, f: &[u8]| {
            c.subscriptions.iter().any(|(subject, ..)| linnet_subject::overlaps(subject.as_bytes(), f))
        };
        let closed = closed.filter(|c| filter.is_none_or(|f| overlaps(c, f)));
        entries.extend(closed.map(ended));
    }
    connz.total = signed(entries.len());
    entries.retain(|e| question.wants(e));
    sort.sort(&mut entries);
    let rows: Vec<ConnInfo> = cut(entries, offset, limit)
        .into_iter()
        .map(|e| row(e, question, |cid| broker.connection(cid)))
        .collect();
    connz.num_connections = signed(rows.len());
    connz.connections = Some(rows);
    Ok(connz)
}

fn ended(closed: ClosedConn) -> Entry {
    Entry { conn: closed.last, end: Some((closed.stop, closed.reason)), subs: closed.subscriptions }
}

fn row(
    entry: Entry,
    question: &Question,
    find: impl FnOnce(u64) -> Option<std::sync::Arc<Conn>>,
) -> ConnInfo {
    let subs = match question.subs() {
        ListSubs::No => Vec::new(),
        _ => subscriptions(&entry, find),
    };
    let (subjects, details) = match question.subs() {
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
