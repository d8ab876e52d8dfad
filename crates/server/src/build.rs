//! From options to the settings of each part.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use linnet_auth::{Authenticator, Permissions, ResponseRule, Rules, Secret, User};
use linnet_broker::{Account, AccountLimits, Config, WritePolicy};
use linnet_conf::Secret as ConfSecret;
use linnet_conf::options::{
    self, AccountJetStream, GLOBAL_ACCOUNT, Options, StoreCipher, SubjectFilter, SubjectPermissions,
    SyncInterval, WriteTimeout,
};
use linnet_env::{Disk, RealDisk};
use linnet_jetstream::{Cipher, Encryption, MasterKey};
use linnet_jsapi::info::AccountLimits as JetStreamLimits;

/// Share of memory and of free disk space that JetStream takes when nothing is configured, in percent.
const AUTOMATIC_SHARE: u64 = 75;
/// Memory limit when the machine does not tell how much it has.
const MEMORY_FALLBACK: u64 = 256 << 20;
/// Storage limit when the file system does not tell how much is free.
const STORAGE_FALLBACK: u64 = 1 << 40;

/// Name of the system account in force; `None` if it is switched off, which JetStream does not allow.
pub(crate) fn system_account(options: &Options) -> Option<&str> {
    if options.accounts.no_system_account && !options.jetstream.enabled {
        return None;
    }
    Some(options.accounts.system_account.as_deref().unwrap_or(options::DEFAULT_SYSTEM_ACCOUNT))
}

/// Limits of the broker.
pub(crate) fn broker_config(options: &Options) -> Config {
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Config {
        max_connections: count(options.limits.max_connections),
        max_subscriptions: options.limits.max_subscriptions.map(count),
        max_sub_tokens: options.limits.max_sub_tokens.map(usize::from),
        max_control_line: options.limits.max_control_line as usize,
        max_payload: options.limits.max_payload as usize,
        max_pending: count(options.limits.max_pending),
        max_closed_clients: count(options.limits.max_closed_clients),
        write_policy: WritePolicy {
            deadline: options.client.write_deadline,
            is_strict: options.client.write_timeout == WriteTimeout::Close,
        },
        no_fast_producer_stall: options.client.no_fast_producer_stall,
        ping_interval: options.client.ping_interval,
        ping_max: options.client.ping_max,
        auth_timeout: options.auth_timeout(),
        headers: !options.client.no_header_support,
        trace: options.logging.trace,
        trace_headers: options.logging.trace_headers,
        max_traced_msg_len: options.logging.max_traced_msg_len.map_or(0, count),
    }
}

/// The accounts: the global one, the system account, and those configured.
pub(crate) fn accounts(options: &Options) -> Vec<Arc<Account>> {
    let rules = account_rules(options).into_iter();
    rules.map(|(name, is_system, limits)| Account::new(&name, is_system, limits)).collect()
}

/// Each account's name, whether it is the system account, and its limits.
pub(crate) fn account_rules(options: &Options) -> Vec<(String, bool, AccountLimits)> {
    let system = system_account(options);
    let mut accounts = vec![(GLOBAL_ACCOUNT.to_owned(), false, AccountLimits::default())];
    let configured = options.accounts.accounts.as_deref().unwrap_or_default();
    for account in configured {
        let count = |n: Option<u64>| n.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let limits = AccountLimits {
            max_connections: count(account.limits.max_connections),
            max_subscriptions: count(account.limits.max_subscriptions),
            max_payload: count(account.limits.max_payload),
        };
        accounts.push((account.name.clone(), system == Some(account.name.as_str()), limits));
    }
    if let Some(name) = system.filter(|name| !configured.iter().any(|a| a.name == *name)) {
        accounts.push((name.to_owned(), true, AccountLimits::default()));
    }
    accounts
}

/// How clients log in.
pub(crate) fn authenticator(options: &Options) -> Authenticator {
    let authorization = &options.authorization;
    if let Some(token) = &authorization.token {
        return Authenticator::token(Secret::new(token.expose()), GLOBAL_ACCOUNT);
    }
    let mut users = Vec::new();
    if let Some(name) = &authorization.user {
        users.push(User {
            name: name.clone(),
            password: Secret::new(authorization.password.as_ref().map_or("", |p| p.expose())),
            account: GLOBAL_ACCOUNT.to_owned(),
            permissions: None,
            connection_types: Vec::new(),
        });
    }
    let defaults = authorization.default_permissions.as_ref();
    users.extend(authorization.users.iter().flatten().map(|u| user(u, GLOBAL_ACCOUNT, defaults)));
    for account in options.accounts.accounts.iter().flatten() {
        let defaults = account.default_permissions.as_ref();
        users.extend(account.users.iter().map(|u| user(u, &account.name, defaults)));
    }
    if admits_guests(options) {
        return Authenticator::users(users, None).with_guests(GLOBAL_ACCOUNT);
    }
    if users.is_empty() && authorization.users.is_none() {
        return Authenticator::open(GLOBAL_ACCOUNT);
    }
    let by_name = Authenticator::users(users, options.accounts.no_auth_user.clone());
    let maps = options.client.tls.as_ref().is_some_and(|tls| tls.verify_and_map);
    if maps { by_name.mapping_certificates() } else { by_name }
}

/// True if nothing but the system account is configured, so that clients without credentials are in the global one.
fn admits_guests(options: &Options) -> bool {
    let (accounts, authorization) = (&options.accounts, &options.authorization);
    let has_login =
        authorization.is_present || authorization.user.is_some() || accounts.no_auth_user.is_some();
    let is_defined = accounts.accounts.as_ref().is_some_and(|configured| !configured.is_empty());
    is_defined && accounts.are_of_the_system() && !has_login
}

/// True if a password is written out in the configuration.
pub(crate) fn has_plain_passwords(options: &Options) -> bool {
    let authorization = &options.authorization;
    let all_users = authorization.users.iter().flatten();
    let of_accounts = options.accounts.accounts.iter().flatten().flat_map(|a| &a.users);
    let secrets = all_users.chain(of_accounts).filter_map(|u| u.password.as_ref());
    secrets.chain(&authorization.password).chain(&authorization.token).any(|s| !s.is_bcrypt())
}

fn user(user: &options::User, account: &str, defaults: Option<&options::Permissions>) -> User {
    User {
        name: user.name.clone(),
        password: Secret::new(user.password.as_ref().map_or("", |p| p.expose())),
        account: account.to_owned(),
        permissions: user.permissions.as_ref().or(defaults).map(|p| Arc::new(permissions(p))),
        connection_types: user.allowed_connection_types.iter().map(|t| t.as_str().to_owned()).collect(),
    }
}

fn rules(subjects: Option<&SubjectPermissions>) -> Rules {
    let text = |filter: &SubjectFilter| match &filter.queue {
        Some(queue) => format!("{} {queue}", filter.subject),
        None => filter.subject.clone(),
    };
    subjects.map_or_else(Rules::default, |s| Rules {
        allow: s.allow.as_ref().map(|list| list.iter().map(text).collect()),
        deny: s.deny.iter().map(text).collect(),
    })
}

/// What is told to other servers, as what is published, and what counts of theirs, as what is subscribed to.
pub(crate) fn route_permissions(cluster: &options::Cluster) -> Option<Permissions> {
    if cluster.import.is_none() && cluster.export.is_none() {
        return None;
    }
    let (publish, subscribe) = (rules(cluster.import.as_ref()), rules(cluster.export.as_ref()));
    Some(Permissions { publish, subscribe, responses: None })
}

fn permissions(configured: &options::Permissions) -> Permissions {
    Permissions {
        publish: rules(configured.publish.as_ref()),
        subscribe: rules(configured.subscribe.as_ref()),
        responses: configured.allow_responses.as_ref().map(|r| ResponseRule { max: r.max, ttl: r.expires }),
    }
}

/// Times of lame duck mode: until the first client is closed, and over which all of them are.
pub(crate) fn lame_duck(options: &Options) -> (Duration, Duration) {
    let grace = options.process.lame_duck_grace_period;
    (grace, options.process.lame_duck_duration.saturating_sub(grace))
}

/// Settings of JetStream; `None` if it is off.
pub(crate) fn jetstream_config(options: &Options) -> Option<linnet_jetstream::Config> {
    let js = &options.jetstream;
    if !js.enabled {
        return None;
    }
    let store_dir = js.store_dir.as_ref().map_or_else(|| std::env::temp_dir().join("nats"), PathBuf::from);
    let signed = |n: Option<u64>| n.map_or(0, |n| i64::try_from(n).unwrap_or(i64::MAX));
    let limits = &js.limits;
    Some(linnet_jetstream::Config {
        max_memory: js.max_memory.unwrap_or_else(automatic_memory),
        max_storage: js.max_file.unwrap_or_else(|| automatic_storage(&store_dir)),
        store_dir,
        domain: js.domain.clone().unwrap_or_default(),
        sync_interval: match js.sync_interval {
            SyncInterval::Always => None,
            SyncInterval::Every(interval) => Some(interval),
        },
        encryption: encryption(js),
        strict: js.strict,
        max_buffered_msgs: usize::try_from(js.max_buffered_msgs).unwrap_or(usize::MAX),
        max_buffered_bytes: usize::try_from(js.max_buffered_size).unwrap_or(usize::MAX),
        request_queue_limit: usize::try_from(js.request_queue_limit).unwrap_or(usize::MAX).min(1 << 20),
        max_ack_pending: signed(limits.max_ack_pending),
        max_request_batch: signed(limits.max_request_batch),
        default_max_consumers: signed(limits.default_max_consumers),
        max_duplicate_window: limits.duplicate_window.map_or(0, nanos),
        batches: batch_bounds(&limits.batch),
        log: linnet_jetstream::LogConfig::default(),
        scrub: linnet_jetstream::ScrubConfig {
            interval: options.linnet.scrub.interval,
            rate: options.linnet.scrub.rate,
        },
        cluster: cluster_settings(options),
        accounts: jetstream_accounts(options),
    })
}

/// The cluster that JetStream is part of, if this server is part of one.
fn cluster_settings(options: &Options) -> Option<linnet_jetstream::ClusterSettings> {
    options.cluster.port.map(|_| linnet_jetstream::ClusterSettings {
        name: options.cluster.name.clone().unwrap_or_default(),
        tags: options.identity.server_tags.clone(),
        max_ha_assets: options.jetstream.limits.max_ha_assets,
        unique_tag: options.jetstream.unique_tag.clone().unwrap_or_default(),
    })
}

/// Why JetStream cannot be part of the configured cluster.
pub(crate) fn jetstream_cluster_refusal(options: &Options) -> Option<&'static str> {
    (options.cluster.port.is_some() && options.cluster.routes.is_empty()).then_some(
        "JetStream cluster requires configured routes or solicited leafnode for the system account",
    )
}

pub(crate) fn encryption(js: &options::JetStream) -> Option<Encryption> {
    let master = |key: &ConfSecret| Arc::new(MasterKey::new(key.expose()));
    let cipher = match js.cipher {
        StoreCipher::ChaCha => Cipher::ChaCha,
        StoreCipher::Aes => Cipher::Aes,
    };
    let key = master(js.key.as_ref()?);
    Some(Encryption { cipher, key, prev_key: js.prev_key.as_ref().map(master) })
}

fn batch_bounds(limits: &options::BatchLimits) -> linnet_jetstream::BatchBounds {
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    linnet_jetstream::BatchBounds {
        messages: limits.max_msgs.min(linnet_jetstream::BatchBounds::MESSAGES_MAX),
        per_stream: count(limits.max_inflight_per_stream),
        total: count(limits.max_inflight_total),
        timeout: limits.timeout,
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Accounts that may use JetStream, and how much of it: the global account when none but the system's is configured, else
/// those that enable it.
pub(crate) fn jetstream_accounts(options: &Options) -> Vec<(String, JetStreamLimits)> {
    if options.accounts.are_of_the_system() {
        return vec![(GLOBAL_ACCOUNT.to_owned(), JetStreamLimits::default())];
    }
    let configured = options.accounts.accounts.iter().flatten();
    configured.filter_map(|a| Some((a.name.clone(), account_limits(a.jetstream.as_ref()?)))).collect()
}

fn account_limits(configured: &AccountJetStream) -> JetStreamLimits {
    let signed = |n: Option<u64>| n.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX));
    JetStreamLimits {
        max_memory: signed(configured.max_memory),
        max_storage: signed(configured.max_store),
        max_streams: signed(configured.max_streams),
        max_consumers: signed(configured.max_consumers),
        max_ack_pending: signed(configured.max_ack_pending),
        memory_max_stream_bytes: signed(configured.mem_max_stream_bytes),
        storage_max_stream_bytes: signed(configured.disk_max_stream_bytes),
        max_bytes_required: configured.max_bytes_required,
    }
}

fn automatic_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map_or(MEMORY_FALLBACK, |kib| kib * 1024 / 100 * AUTOMATIC_SHARE)
}

fn automatic_storage(dir: &std::path::Path) -> u64 {
    let existing = dir.ancestors().find(|p| p.exists());
    let free = existing.and_then(|p| RealDisk.free_space(p).ok());
    free.map_or(STORAGE_FALLBACK, |free| free / 100 * AUTOMATIC_SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lame_duck_duration_is_both_phases_together() {
        let mut options = Options::default();
        options.process.lame_duck_duration = Duration::from_secs(40);
        options.process.lame_duck_grace_period = Duration::from_secs(15);
        assert_eq!(lame_duck(&options), (Duration::from_secs(15), Duration::from_secs(25)));
    }

    #[test]
    fn bounds_of_queues_reach_jetstream() {
        let mut options = Options::default();
        options.jetstream.enabled = true;
        options.jetstream.max_file = Some(0);
        options.jetstream.max_buffered_msgs = 3;
        options.jetstream.max_buffered_size = 4;
        options.jetstream.request_queue_limit = 5;
        let config = jetstream_config(&options).unwrap();
        assert_eq!(
            (config.max_buffered_msgs, config.max_buffered_bytes, config.request_queue_limit),
            (3, 4, 5)
        );
    }

    #[test]
    fn jetstream_of_a_cluster_knows_it_and_needs_somebody_to_talk_to() {
        let mut options = Options::default();
        options.jetstream.enabled = true;
        options.jetstream.max_file = Some(0);
        let settings = |options: &Options| jetstream_config(options).unwrap().cluster;
        assert_eq!((settings(&options), jetstream_cluster_refusal(&options)), (None, None));
        options.cluster.port = Some(linnet_conf::Port::Random);
        options.cluster.name = Some("C1".to_owned());
        options.identity.server_tags = vec!["az:a".to_owned()];
        options.jetstream.limits.max_ha_assets = Some(7);
        options.jetstream.unique_tag = Some("az:".to_owned());
        let expected = linnet_jetstream::ClusterSettings {
            name: "C1".to_owned(),
            tags: vec!["az:a".to_owned()],
            max_ha_assets: Some(7),
            unique_tag: "az:".to_owned(),
        };
        assert_eq!(settings(&options), Some(expected));
        let refusal = jetstream_cluster_refusal(&options).unwrap();
        assert!(refusal.starts_with("JetStream cluster requires configured routes"), "{refusal}");
        let route = options::RouteAddress { host: "h".to_owned(), port: 6222, user: None, password: None };
        options.cluster.routes = vec![route];
        assert_eq!(jetstream_cluster_refusal(&options), None);
    }

    #[test]
    fn jetstream_has_the_system_account_even_if_that_is_switched_off() {
        let mut options = Options::default();
        assert_eq!(system_account(&options), Some("$SYS"));
        options.accounts.no_system_account = true;
        assert_eq!(system_account(&options), None);
        options.jetstream.enabled = true;
        assert_eq!(system_account(&options), Some("$SYS"));
    }

    #[test]
    fn how_fast_stored_messages_are_verified_reaches_jetstream() {
        let mut options = Options::default();
        options.jetstream.enabled = true;
        options.jetstream.max_file = Some(0);
        options.linnet.scrub = options::Scrub { interval: Duration::from_secs(7), rate: 70_000 };
        let scrub = jetstream_config(&options).unwrap().scrub;
        assert_eq!((scrub.interval, scrub.rate), (Duration::from_secs(7), 70_000));
    }
}
