//! Who one is (`$SYS.REQ.USER.INFO`).

use linnet_auth::{Permissions, ResponseRule, Rules};
use linnet_broker::Conn;
use serde::Serialize;

use crate::format::{nanos, signed};

/// The user of a connection.
#[derive(Serialize)]
pub(crate) struct UserInfo {
    user: String,
    account: String,
    account_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<Shown>,
}

#[derive(Serialize)]
struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    publish: Option<Subjects>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscribe: Option<Subjects>,
    #[serde(skip_serializing_if = "Option::is_none")]
    responses: Option<Responses>,
}

#[derive(Serialize)]
struct Subjects {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allow: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deny: Vec<String>,
}

/// Times are in nanoseconds.
#[derive(Serialize)]
struct Responses {
    max: i64,
    ttl: i64,
}

impl Subjects {
    fn of(rules: &Rules) -> Option<Self> {
        if rules.allow.is_none() && rules.deny.is_empty() {
            return None;
        }
        Some(Self { allow: rules.allow.clone().unwrap_or_default(), deny: rules.deny.clone() })
    }
}

impl Shown {
    fn of(permissions: &Permissions) -> Self {
        Self {
            publish: Subjects::of(&permissions.publish),
            subscribe: Subjects::of(&permissions.subscribe),
            responses: permissions.responses.as_ref().map(|ResponseRule { max, ttl }| Responses {
                max: max.map_or(-1, signed),
                ttl: ttl.map_or(0, nanos),
            }),
        }
    }
}

impl UserInfo {
    /// The user of `conn`, which is bound to `account`.
    pub(crate) fn new(conn: &Conn, account: &str) -> Self {
        Self {
            user: conn.client().user.unwrap_or_default(),
            account: account.to_owned(),
            account_name: account.to_owned(),
            permissions: conn.permissions().as_deref().map(Shown::of),
        }
    }
}
