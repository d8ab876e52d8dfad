use std::collections::HashMap;
use std::sync::Arc;

use crate::permissions::Permissions;
use crate::secret::Secret;

/// What a client presented in `CONNECT`.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// User name.
    pub user: String,
    /// Password.
    pub pass: String,
    /// Token.
    pub token: String,
}

/// A configured user.
#[derive(Clone, Debug)]
pub struct User {
    /// Name, unique over all accounts.
    pub name: String,
    /// Password.
    pub password: Secret,
    /// Account the user belongs to.
    pub account: String,
    /// `None` permits everything.
    pub permissions: Option<Arc<Permissions>>,
    /// Kinds of connection the user may open, upper case (`STANDARD`, …); empty permits all.
    pub connection_types: Vec<String>,
}

/// Who a connection turned out to be.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Name for monitoring; `None` for an anonymous client. A token login shows as `[REDACTED]`.
    pub user: Option<String>,
    /// Account.
    pub account: String,
    /// `None` permits everything.
    pub permissions: Option<Arc<Permissions>>,
}

/// The configured ways to log in.
#[derive(Debug, Default)]
pub struct Authenticator {
    token: Option<Secret>,
    users: HashMap<String, User>,
    no_auth_user: Option<String>,
    anonymous_account: String,
}

/// What a user must have to hold a client connection of the plain protocol.
const STANDARD: &str = "STANDARD";

impl Authenticator {
    /// Everybody is let in, to `account`.
    pub fn open(account: &str) -> Self {
        Self { anonymous_account: account.to_owned(), ..Self::default() }
    }

    /// One token for everybody.
    pub fn token(token: Secret, account: &str) -> Self {
        Self { token: Some(token), anonymous_account: account.to_owned(), ..Self::default() }
    }

    /// A list of users; `no_auth_user` names the one whom clients without credentials become.
    pub fn users(users: impl IntoIterator<Item = User>, no_auth_user: Option<String>) -> Self {
        let users = users.into_iter().map(|u| (u.name.clone(), u)).collect();
        Self { users, no_auth_user, ..Self::default() }
    }

    /// True if a client must present credentials.
    pub fn is_required(&self) -> bool {
        self.no_auth_user.is_none() && (self.token.is_some() || !self.users.is_empty())
    }

    /// True if [`Authenticator::verify`] with these credentials takes milliseconds of CPU.
    pub fn is_slow(&self, given: &Credentials) -> bool {
        self.token.as_ref().is_some_and(Secret::is_slow)
            || self.users.get(&given.user).is_some_and(|u| u.password.is_slow())
    }

    /// The identity behind the credentials, or `None` when they are wrong.
    pub fn verify(&self, given: &Credentials) -> Option<Identity> {
        if let Some(token) = &self.token {
            return token.verify(&given.token).then(|| Identity {
                user: Some("[REDACTED]".to_owned()),
                account: self.anonymous_account.clone(),
                permissions: None,
            });
        }
        if self.users.is_empty() {
            let user = (!given.user.is_empty()).then(|| given.user.clone());
            return Some(Identity { user, account: self.anonymous_account.clone(), permissions: None });
        }
        let has_credentials = !given.user.is_empty() || !given.token.is_empty();
        if !has_credentials {
            return self.identity(self.users.get(self.no_auth_user.as_ref()?)?);
        }
        let user = self.users.get(&given.user)?;
        if user.password.verify(&given.pass) { self.identity(user) } else { None }
    }

    fn identity(&self, user: &User) -> Option<Identity> {
        let may_connect =
            user.connection_types.is_empty() || user.connection_types.iter().any(|t| t == STANDARD);
        may_connect.then(|| Identity {
            user: Some(user.name.clone()),
            account: user.account.clone(),
            permissions: user.permissions.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, pass: &str, account: &str) -> User {
        User {
            name: name.into(),
            password: Secret::new(pass),
            account: account.into(),
            permissions: None,
            connection_types: Vec::new(),
        }
    }

    fn creds(user: &str, pass: &str) -> Credentials {
        Credentials { user: user.into(), pass: pass.into(), token: String::new() }
    }

    #[test]
    fn users_log_in_to_their_account_only_with_their_password() {
        let auth = Authenticator::users([user("a", "1", "A"), user("b", "2", "B")], None);
        assert!(auth.is_required());
        assert_eq!(auth.verify(&creds("a", "1")).map(|i| i.account), Some("A".to_owned()));
        assert!(auth.verify(&creds("a", "2")).is_none());
        assert!(auth.verify(&creds("", "")).is_none());
    }

    #[test]
    fn no_auth_user_stands_in_for_missing_credentials_but_not_for_wrong_ones() {
        let auth = Authenticator::users([user("a", "1", "A")], Some("a".into()));
        assert!(!auth.is_required());
        assert_eq!(auth.verify(&creds("", "")).map(|i| i.account), Some("A".to_owned()));
        assert!(auth.verify(&creds("a", "x")).is_none());
        assert!(auth.verify(&creds("zz", "")).is_none());
    }

    #[test]
    fn a_user_limited_to_other_connection_types_is_refused() {
        let mut limited = user("a", "1", "A");
        limited.connection_types = vec!["WEBSOCKET".into()];
        assert!(Authenticator::users([limited], None).verify(&creds("a", "1")).is_none());
    }

    #[test]
    fn token_login() {
        let auth = Authenticator::token(Secret::new("t"), "$G");
        let given = Credentials { token: "t".into(), ..Credentials::default() };
        assert_eq!(auth.verify(&given).and_then(|i| i.user).as_deref(), Some("[REDACTED]"));
        assert!(auth.verify(&creds("t", "t")).is_none());
    }
}
