use std::time::Duration;

use super::Options;
use crate::options::permissions::{self, Permissions};
use crate::options::user::{self, User};
use crate::read;
use crate::report::Report;
use crate::secret::Secret;
use crate::table::{Field, Row, Table, key, not_yet, unknown_field};

/// Who may connect to the global account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// Whether the configuration has the block, whatever is in it.
    pub is_present: bool,
    /// Name of the only user. Not together with a token or users.
    pub user: Option<String>,
    /// Password of the only user, plain or bcrypt.
    pub password: Option<Secret>,
    /// Token everyone has to present, plain or bcrypt. Not together with a user or users.
    pub token: Option<Secret>,
    /// Time a client has to authenticate.
    pub timeout: Duration,
    /// Users; `None` if there is no list. An empty list lets nobody in.
    pub users: Option<Vec<User>>,
    /// Permissions of users without their own; already part of `users`.
    pub default_permissions: Option<Permissions>,
}

impl Default for Authorization {
    fn default() -> Self {
        Self {
            is_present: false,
            user: None,
            password: None,
            token: None,
            timeout: Duration::from_secs(2),
            users: None,
            default_permissions: None,
        }
    }
}

pub(super) const TOP_KEYS: &[Row<Options>] =
    &[key!(["authorization"], "map", "", Live, authorization => read,
    "Who may connect to the global account.")];

pub(crate) const TABLE: Table<Authorization> =
    Table { section: "authorization", rows: &[KEYS], unknown: unknown_field };

const KEYS: &[Row<Authorization>] = &[
    key!(["user", "username"], "string", "", Live, user = read::string, "Name of the only user."),
    key!(["pass", "password"], "string", "", Live, password => password,
        "Password of the only user, plain or bcrypt."),
    key!(["token"], "string", "", Live, token => token, "Token every client has to present, plain or bcrypt."),
    key!(
        ["timeout"],
        "seconds or duration",
        "2",
        Live,
        timeout = read::seconds,
        "Time a client has to authenticate."
    ),
    key!(["users"], "array of users", "", Live, users = user::read_all, "Users of the global account."),
    key!(
        ["default_permissions", "default_permission", "permissions"],
        "map",
        "",
        Live,
        default_permissions = permissions::read,
        "Permissions of users that have none of their own."
    ),
    not_yet!(["auth_callout", "auth_hook"], Refused, "Service that decides about logins."),
    not_yet!(["proxy_required"], Refused, "Accept clients only through a trusted proxy."),
];

fn password(section: &mut Authorization, field: &Field<'_>, report: &mut Report) {
    section.password = read::string(field, report).map(Secret::from);
}

/// An empty token is none.
fn token(section: &mut Authorization, field: &Field<'_>, report: &mut Report) {
    section.token = read::string(field, report).filter(|t| !t.is_empty()).map(Secret::from);
}

fn read(options: &mut Options, field: &Field<'_>, report: &mut Report) {
    let Some(map) = read::map(field, report) else { return };
    let mut section = Authorization { is_present: true, ..Authorization::default() };
    TABLE.read(map, &mut section, report);
    if let Some(problem) = section.conflict() {
        report.error(field.at, problem);
    }
    let default = section.default_permissions.clone();
    user::apply_default(section.users.as_deref_mut().unwrap_or_default(), default.as_ref());
    options.authorization = section;
}

impl Authorization {
    fn has_single_user(&self) -> bool {
        self.user.is_some() || self.password.is_some()
    }

    /// Ways to log in that exclude each other.
    pub(crate) fn conflict(&self) -> Option<&'static str> {
        match (self.has_single_user(), self.token.is_some(), self.users.is_some()) {
            (true, true, _) => Some("Cannot have a user/pass and token"),
            (true, _, true) => Some("Can not have a single user/pass and a users array"),
            (_, true, true) => Some("Can not have a token and a users array"),
            _ => None,
        }
    }

    /// Why there can be no accounts with users beside this block.
    pub(crate) fn conflict_with_accounts(&self) -> Option<&'static str> {
        match (self.has_single_user(), self.token.is_some()) {
            (true, _) => Some("Can not have a single user/pass and accounts"),
            (_, true) => Some("Can not have a token and accounts"),
            _ => None,
        }
    }
}
