use super::Options;
use super::account_jetstream::{self, AccountJetStream};
use super::account_limits::{self, AccountLimits};
use crate::lang::{Position, Value};
use crate::options::permissions::{self, Permissions};
use crate::options::user::{self, User};
use crate::read;
use crate::report::Report;
use crate::table::{Field, Row, Table, key, not_yet, unknown_field};

/// Name of the account everyone is in if there are no others.
pub const GLOBAL_ACCOUNT: &str = "$G";
/// Name of the system account unless another is chosen.
pub const DEFAULT_SYSTEM_ACCOUNT: &str = "$SYS";

/// The accounts, and which of them have a special role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Accounts in the order written; `None` if there is no `accounts` block.
    pub accounts: Option<Vec<Account>>,
    /// User that clients without credentials are.
    pub no_auth_user: Option<String>,
    /// Account for events and services of the system; [`DEFAULT_SYSTEM_ACCOUNT`] if not set.
    pub system_account: Option<String>,
    /// Have no system account, and so no events and no system services.
    pub no_system_account: bool,
}

impl Accounts {
    /// Whether there is no account but the system's and the global one, so that everybody else is in the latter.
    pub fn are_of_the_system(&self) -> bool {
        let system = self.system_account.as_deref().filter(|name| !name.is_empty());
        let system = system.unwrap_or(DEFAULT_SYSTEM_ACCOUNT);
        self.accounts.iter().flatten().all(|account| account.name == system)
    }

    /// The account of this name.
    pub fn get(&self, name: &str) -> Option<&Account> {
        self.accounts.iter().flatten().find(|account| account.name == name)
    }
}

/// A separate space of subjects with its users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Name.
    pub name: String,
    /// Users.
    pub users: Vec<User>,
    /// Permissions of users without their own; already part of `users`.
    pub default_permissions: Option<Permissions>,
    /// JetStream for this account and its limits; `None` is off.
    pub jetstream: Option<AccountJetStream>,
    /// Limits on connections.
    pub limits: AccountLimits,
}

pub(super) const TOP_KEYS: &[Row<Options>] = &[
    key!(["accounts"], "map, or array of names", "", Live, accounts.accounts => read_accounts,
        "Accounts with their users and limits."),
    key!(
        ["no_auth_user"],
        "string",
        "",
        Refused,
        accounts.no_auth_user = read::string,
        "User that clients without credentials are."
    ),
    key!(
        ["system_account", "system"],
        "string",
        "($SYS)",
        Refused,
        accounts.system_account = read::string,
        "Account for the system's events and services; quote names with a dollar sign."
    ),
    key!(
        ["no_system_account", "no_system", "no_sys_acc"],
        "boolean",
        "false",
        Refused,
        accounts.no_system_account = read::boolean,
        "Have no system account, no events, no system services."
    ),
];

pub(crate) const TABLE: Table<Account> = Table { section: "account", rows: &[KEYS], unknown: unknown_field };

const KEYS: &[Row<Account>] = &[
    key!(["users"], "array of users", "", Live, users = user::read_all, "Users of the account."),
    key!(
        ["default_permissions"],
        "map",
        "",
        Live,
        default_permissions = permissions::read,
        "Permissions of users that have none of their own."
    ),
    key!(
        ["jetstream"],
        "boolean, enabled, disabled or map",
        "false",
        Live,
        jetstream = account_jetstream::read,
        "JetStream for the account, and how much of it."
    ),
    key!(["limits"], "map", "", Live, limits = account_limits::read, "Limits on the account's connections."),
    not_yet!(["nkey"], Live, "Public key of the account."),
    not_yet!(["exports"], Live, "Streams and services other accounts may import."),
    not_yet!(["imports"], Live, "Streams and services of other accounts."),
    not_yet!(["mappings", "maps"], Live, "Subject mappings of the account."),
    not_yet!(["msg_trace", "trace_dest"], Live, "Where traces go of messages that carry a trace header."),
];

fn read_accounts(options: &mut Options, field: &Field<'_>, report: &mut Report) {
    let mut accounts: Vec<Account> = Vec::new();
    match field.value {
        Value::Array(items) => {
            for item in items {
                let Value::String(name) = &item.value else {
                    let text = format!("Expected an account name, got {}", item.value.kind());
                    report.error(&item.at, text);
                    continue;
                };
                if accounts.iter().any(|a| a.name == *name) {
                    report.error(&item.at, format!("Duplicate Account Entry: {name}"));
                } else if is_free(name, &item.at, report) {
                    accounts.push(Account { name: name.clone(), ..Account::default() });
                }
            }
        }
        Value::Map(map) => {
            for entry in map.in_order() {
                if !is_free(&entry.key, &entry.at, report) {
                    continue;
                }
                let Value::Map(block) = &entry.node.value else {
                    // A variable may well be defined here.
                    if !entry.used {
                        report.error(&entry.at, "Expected map entries for accounts");
                    }
                    continue;
                };
                let mut account = Account { name: entry.key.clone(), ..Account::default() };
                TABLE.read(block, &mut account, report);
                let default = account.default_permissions.clone();
                user::apply_default(&mut account.users, default.as_ref());
                accounts.push(account);
            }
        }
        _ => {
            report.mismatch(field, "a map of accounts or an array of names");
            return;
        }
    }
    options.accounts.accounts = Some(accounts);
}

fn is_free(name: &str, at: &Position, report: &mut Report) -> bool {
    let reserved = name == GLOBAL_ACCOUNT;
    if reserved {
        report.error(at, format!("{name:?} is a Reserved Account"));
    }
    !reserved
}
