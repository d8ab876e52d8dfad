use crate::lang::Value;
use crate::options::permissions::{self, Permissions};
use crate::read;
use crate::report::Report;
use crate::secret::Secret;
use crate::table::{Field, Row, Table, key, not_yet, unknown_field};

/// Someone who may connect with a name and a password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Name, unique over all accounts.
    pub name: String,
    /// Password or its bcrypt hash; `None` accepts any, as nats-server does.
    pub password: Option<Secret>,
    /// What the user may do, the block's default permissions included; `None` is everything.
    pub permissions: Option<Permissions>,
    /// Kinds of connection the user may use; empty is all.
    pub allowed_connection_types: Vec<ConnectionType>,
}

/// Kinds of connection a user can be limited to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionType {
    /// NATS over TCP or TLS.
    Standard,
    /// NATS over WebSocket.
    Websocket,
    /// A leafnode.
    Leafnode,
    /// A leafnode over WebSocket.
    LeafnodeWs,
    /// MQTT.
    Mqtt,
    /// MQTT over WebSocket.
    MqttWs,
    /// A client in the server's own process.
    InProcess,
}

impl ConnectionType {
    /// The type's name as it is configured.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::Websocket => "WEBSOCKET",
            Self::Leafnode => "LEAFNODE",
            Self::LeafnodeWs => "LEAFNODE_WS",
            Self::Mqtt => "MQTT",
            Self::MqttWs => "MQTT_WS",
            Self::InProcess => "IN_PROCESS",
        }
    }

    /// The type with this name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "STANDARD" => Self::Standard,
            "WEBSOCKET" => Self::Websocket,
            "LEAFNODE" => Self::Leafnode,
            "LEAFNODE_WS" => Self::LeafnodeWs,
            "MQTT" => Self::Mqtt,
            "MQTT_WS" => Self::MqttWs,
            "IN_PROCESS" => Self::InProcess,
            _ => return None,
        })
    }
}

pub(crate) const TABLE: Table<User> = Table { section: "user", rows: &[KEYS], unknown: unknown_field };

const KEYS: &[Row<User>] = &[
    key!(["user", "username"], "string", "", Live, name = read::string, "Name of the user."),
    key!(["pass", "password"], "string", "", Live, password => password,
        "Password of the user, plain or bcrypt."),
    key!(
        ["permissions", "permission", "authorization"],
        "map",
        "(the block's default)",
        Live,
        permissions = permissions::read,
        "What the user may publish and subscribe to."
    ),
    key!(
        ["allowed_connection_types", "connection_types", "clients"],
        "string or array of strings",
        "(all)",
        Live,
        allowed_connection_types = connection_types,
        "Kinds of connection the user may use."
    ),
    not_yet!(["nkey"], Live, "Public key of a user without password."),
    not_yet!(["proxy_required"], Live, "Accept the user only through a trusted proxy."),
];

fn password(user: &mut User, field: &Field<'_>, report: &mut Report) {
    user.password = read::string(field, report).map(Secret::from);
}

fn connection_types(field: &Field<'_>, report: &mut Report) -> Option<Vec<ConnectionType>> {
    let names = read::strings(field, report)?;
    let unknown: Vec<String> = names
        .iter()
        .filter(|name| ConnectionType::parse(name).is_none())
        .map(|name| format!("{:?}", name.to_uppercase()))
        .collect();
    if !unknown.is_empty() {
        report.error(field.at, format!("invalid connection types [{}]", unknown.join(" ")));
        return None;
    }
    Some(names.iter().filter_map(|name| ConnectionType::parse(name)).collect())
}

/// Reads an array of users.
pub(crate) fn read_all(field: &Field<'_>, report: &mut Report) -> Option<Vec<User>> {
    let Value::Array(items) = field.value else {
        report.error(field.at, format!("Expected users field to be an array, got {}", field.value.kind()));
        return None;
    };
    let mut users = Vec::new();
    for item in items {
        let Value::Map(map) = &item.value else {
            let text = format!("Expected user entry to be a map/struct, got {}", item.value.kind());
            report.error(&item.at, text);
            continue;
        };
        let errors = report.errors.len();
        let mut user = User::default();
        TABLE.read(map, &mut user, report);
        if report.errors.len() > errors {
            continue;
        }
        if user.name.is_empty() {
            report.error(&item.at, "User entry requires a user");
            continue;
        }
        report.claim_user(&user.name, &item.at);
        users.push(user);
    }
    Some(users)
}

/// Gives users without permissions of their own those of their block.
pub(crate) fn apply_default(users: &mut [User], default: Option<&Permissions>) {
    for user in users {
        if user.permissions.is_none() {
            user.permissions = default.cloned();
        }
    }
}
