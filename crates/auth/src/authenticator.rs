use std::collections::HashMap;
use std::sync::Arc;

use crate::certificate::CertificateNames;
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
    /// Names in the certificate the client has proven to own.
    pub certificate: Option<Arc<CertificateNames>>,
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

/// What a change of the authorization means for a client that is logged in.
#[derive(Clone, Debug)]
pub enum Recheck {
    /// It may stay, as this identity.
    Stays(Identity),
    /// Its user is not there any more.
    Gone,
    /// Its credentials are not good any more.
    Refused,
}

/// The configured ways to log in.
#[derive(Debug, Default)]
pub struct Authenticator {
    token: Option<Secret>,
    users: HashMap<String, User>,
    no_auth_user: Option<String>,
    /// Where clients without credentials are let in although there are users, or may be.
    guest_account: Option<String>,
    anonymous_account: String,
    /// Users are found by the names in their certificates.
    maps_certificates: bool,
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

    /// Clients without credentials are let in, to `account`. INFO asks for credentials all the same, and wrong ones are
    /// refused, even if there are no users.
    #[must_use]
    pub fn with_guests(mut self, account: &str) -> Self {
        self.guest_account = Some(account.to_owned());
        self
    }

    /// Users are who their certificates say, not who CONNECT says; a password still has to be the user's, and where
    /// none is configured none may be given (nats-server `server/auth.go`). Without users it changes nothing.
    #[must_use]
    pub fn mapping_certificates(mut self) -> Self {
        self.maps_certificates = !self.users.is_empty();
        self
    }

    /// True if a client must present credentials.
    pub fn is_required(&self) -> bool {
        self.guest_account.is_some()
            || self.no_auth_user.is_none() && (self.token.is_some() || !self.users.is_empty())
    }

    /// True if [`Authenticator::verify`] with these credentials takes milliseconds of CPU.
    pub fn is_slow(&self, given: &Credentials) -> bool {
        let user = if self.maps_certificates { self.mapped(given) } else { self.users.get(&given.user) };
        self.token.as_ref().is_some_and(Secret::is_slow) || user.is_some_and(|u| u.password.is_slow())
    }

    /// The user whom the client's certificate names, whatever CONNECT says; `None` if certificates name nobody.
    pub fn mapped_user(&self, given: &Credentials) -> Option<&str> {
        self.mapped(given).map(|user| user.name.as_str())
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
        if self.users.is_empty() && self.guest_account.is_none() {
            let user = (!given.user.is_empty()).then(|| given.user.clone());
            return Some(Identity { user, account: self.anonymous_account.clone(), permissions: None });
        }
        if self.maps_certificates {
            let user = self.mapped(given)?;
            return if user.password.verify(&given.pass) { self.identity(user) } else { None };
        }
        let has_credentials = !given.user.is_empty() || !given.token.is_empty();
        if !has_credentials {
            if let Some(account) = &self.guest_account {
                return Some(Identity { user: None, account: account.clone(), permissions: None });
            }
            return self.identity(self.users.get(self.no_auth_user.as_ref()?)?);
        }
        let user = self.users.get(&given.user)?;
        if user.password.verify(&given.pass) { self.identity(user) } else { None }
    }

    /// The first user a name in the certificate stands for: the other names before the subject, and the subject as it
    /// is written before any other order of its parts.
    fn by_certificate(&self, names: &CertificateNames) -> Option<&User> {
        let literal = names.alternatives.iter().chain([&names.subject]).filter(|name| !name.is_empty());
        if let Some(found) = literal.filter_map(|name| self.users.get(name)).find(|user| may_connect(user)) {
            return Some(found);
        }
        let dn = names.dn.as_ref()?;
        // Of several spellings of one name the first in order wins, not the first of the table.
        let mut same: Vec<&User> =
            self.users.values().filter(|user| crate::Dn::parse(&user.name).as_ref() == Some(dn)).collect();
        same.sort_by(|a, b| a.name.cmp(&b.name));
        same.into_iter().find(|user| may_connect(user))
    }

    fn mapped(&self, given: &Credentials) -> Option<&User> {
        let names = given.certificate.as_ref().filter(|_| self.maps_certificates)?;
        self.by_certificate(names)
    }

    /// Judges a client again that `before` has let in. Passwords are only verified where the configured one has
    /// changed.
    pub fn recheck(&self, before: &Self, given: &Credentials) -> Recheck {
        let unverified = |user: &User| self.identity(user).map_or(Recheck::Refused, Recheck::Stays);
        if let Some(old) = before.named(given) {
            let Some(new) = self.users.get(&old.name) else { return Recheck::Gone };
            let is_still_named = self.named(given).is_some_and(|user| user.name == new.name);
            if is_still_named && new.password == old.password {
                return unverified(new);
            }
        }
        self.verify(given).map_or(Recheck::Refused, Recheck::Stays)
    }

    /// The user whom the credentials name, whatever the password.
    fn named(&self, given: &Credentials) -> Option<&User> {
        if self.token.is_some() {
            return None;
        }
        if self.maps_certificates {
            return self.mapped(given);
        }
        if given.user.is_empty() && given.token.is_empty() {
            return self.users.get(self.no_auth_user.as_ref()?);
        }
        self.users.get(&given.user)
    }

    fn identity(&self, user: &User) -> Option<Identity> {
        may_connect(user).then(|| Identity {
            user: Some(user.name.clone()),
            account: user.account.clone(),
            permissions: user.permissions.clone(),
        })
    }
}

fn may_connect(user: &User) -> bool {
    user.connection_types.is_empty() || user.connection_types.iter().any(|t| t == STANDARD)
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
        Credentials { user: user.into(), pass: pass.into(), ..Credentials::default() }
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
    fn guests_are_let_in_without_credentials_and_wrong_ones_are_refused() {
        for users in [vec![user("sys", "1", "S")], Vec::new()] {
            let has_users = !users.is_empty();
            let auth = Authenticator::users(users, None).with_guests("G");
            assert!(auth.is_required());
            let account = |given: &Credentials| auth.verify(given).map(|i| i.account);
            assert_eq!(account(&creds("", "")).as_deref(), Some("G"));
            assert_eq!(account(&creds("sys", "1")).as_deref(), has_users.then_some("S"));
            assert!(account(&creds("sys", "2")).is_none() && account(&creds("x", "")).is_none());
            assert!(matches!(auth.recheck(&auth, &creds("", "")), Recheck::Stays(_)));
        }
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

    fn certificate(alternatives: &[&str], subject: &str) -> Credentials {
        let names = CertificateNames {
            alternatives: alternatives.iter().map(|n| (*n).to_owned()).collect(),
            subject: subject.into(),
            dn: crate::Dn::parse(subject),
        };
        Credentials { certificate: Some(Arc::new(names)), ..creds("a", "1") }
    }

    #[test]
    fn certificates_say_who_a_client_is() {
        let users = ["a", "joe@acme", "joe.acme", "CN=joe,O=Acme"].map(|name| user(name, "1", name));
        let auth = Authenticator::users(users, Some("a".into())).mapping_certificates();
        let found = |given: &Credentials| auth.verify(given).map(|i| i.account);
        assert_eq!(
            found(&certificate(&["joe@acme", "joe.acme"], "CN=joe,O=Acme")).as_deref(),
            Some("joe@acme")
        );
        assert_eq!(found(&certificate(&["x", "joe.acme"], "CN=joe,O=Acme")).as_deref(), Some("joe.acme"));
        assert_eq!(found(&certificate(&["x"], "CN=joe,O=Acme")).as_deref(), Some("CN=joe,O=Acme"));
        assert_eq!(found(&certificate(&[], "O=Acme,CN=joe")).as_deref(), Some("CN=joe,O=Acme"));
        assert_eq!(found(&certificate(&[], "CN=joe")), None);
        assert_eq!(found(&certificate(&[], "CN=joe,O=Acme,OU=dev")), None);
        // Neither a password nor being nobody helps.
        assert_eq!(found(&creds("a", "1")), None);
        assert_eq!(found(&Credentials::default()), None);
    }

    #[test]
    fn the_password_of_a_user_that_a_certificate_names_counts_but_not_the_name_beside_it() {
        let hash = bcrypt::hash("h", 4).unwrap();
        let users = [user("none", "", "A"), user("plain", "p", "A"), user("hashed", &hash, "A")];
        let auth = Authenticator::users(users, None).mapping_certificates();
        let given = |shown: &str, name: &str, pass: &str| Credentials {
            certificate: certificate(&[shown], "").certificate,
            ..creds(name, pass)
        };
        for (shown, name, pass, is_let_in) in [
            ("none", "", "", true),
            ("none", "plain", "", true),
            ("none", "plain", "p", false),
            ("none", "nobody", "x", false),
            ("none", "none", "x", false),
            ("plain", "", "", false),
            ("plain", "", "p", true),
            ("plain", "none", "p", true),
            ("hashed", "", "h", true),
            ("hashed", "", "x", false),
        ] {
            let given = given(shown, name, pass);
            let found = auth.verify(&given).and_then(|i| i.user);
            assert_eq!(found.as_deref(), is_let_in.then_some(shown), "{shown} {name} {pass}");
            assert_eq!((auth.mapped_user(&given), auth.is_slow(&given)), (Some(shown), shown == "hashed"));
        }
        assert_eq!(auth.mapped_user(&creds("plain", "p")), None);
        assert!(matches!(auth.recheck(&auth, &given("plain", "", "p")), Recheck::Stays(_)));
        let changed = Authenticator::users([user("plain", "q", "A")], None).mapping_certificates();
        assert!(matches!(changed.recheck(&auth, &given("plain", "", "p")), Recheck::Refused));
    }

    #[test]
    fn a_change_of_the_authorization_tells_users_apart() {
        let before =
            Authenticator::users([user("a", "1", "A"), user("b", "1", "A"), user("c", "1", "A")], None);
        let now = Authenticator::users([user("a", "1", "B"), user("b", "2", "A")], None);
        let judge = |name: &str| now.recheck(&before, &creds(name, "1"));
        assert!(matches!(judge("a"), Recheck::Stays(identity) if identity.account == "B"));
        assert!(matches!(judge("b"), Recheck::Refused));
        assert!(matches!(judge("c"), Recheck::Gone));
        // The same password in another form.
        let hash = bcrypt::hash("1", 4).unwrap();
        let hashed = Authenticator::users([user("a", &hash, "A")], None);
        assert!(matches!(hashed.recheck(&before, &creds("a", "1")), Recheck::Stays(_)));
        let open = Authenticator::open("$G");
        let token = Authenticator::token(Secret::new("t"), "$G");
        assert!(matches!(token.recheck(&open, &Credentials::default()), Recheck::Refused));
        assert!(matches!(open.recheck(&token, &Credentials::default()), Recheck::Stays(_)));
        assert!(matches!(open.recheck(&before, &creds("a", "1")), Recheck::Gone));
    }
}
