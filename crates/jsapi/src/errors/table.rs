//! Every JetStream error code with its HTTP-like class and exact text, as nats-server 2.15.1 has them (its
//! `server/errors.json`). Clients compare `err_code`, and some match on the text, so neither may be edited.

use std::borrow::Cow;
use std::fmt::Display;

use super::{ApiError, ErrorEntry};

/// One row per error: fixed texts become constants, texts with arguments become constructors.
macro_rules! error_table {
    ($($(#[$doc:meta])* $name:ident $(($($arg:ident),+))? = $code:literal, $err_code:literal, $text:literal;)*) => {
        $(error_table!(@item $(#[$doc])* $name ($($($arg),+)?) $code $err_code $text);)*

        /// All rows, ascending by `err_code`; `{…}` in a text stands for an argument.
        pub const ALL: &[ErrorEntry] =
            &[$(ErrorEntry { code: $code, err_code: $err_code, text: $text }),*];
    };
    (@item $(#[$doc:meta])* $name:ident () $code:literal $err_code:literal $text:literal) => {
        $(#[$doc])*
        pub const $name: ApiError =
            ApiError { code: $code, err_code: $err_code, description: Cow::Borrowed($text) };
    };
    (@item $(#[$doc:meta])* $name:ident ($($arg:ident),+) $code:literal $err_code:literal $text:literal) => {
        $(#[$doc])*
        pub fn $name($($arg: impl Display),+) -> ApiError {
            ApiError { code: $code, err_code: $err_code, description: Cow::Owned(format!($text)) }
        }
    };
}

error_table! {
    /// Publish: storing it would exceed the account (or tier) memory/file limit.
    ACCOUNT_RESOURCES_EXCEEDED = 400, 10002, "resource limits exceeded for account";
    /// Malformed use of an API.
    BAD_REQUEST = 400, 10003, "bad request";
    /// Reserved, not raised (list gaps are reported in missing/offline instead).
    CLUSTER_INCOMPLETE = 503, 10004, "incomplete results";
    /// No suitable peers for a placement/step-down.
    cluster_no_peers(err) = 400, 10005, "{err}";
    /// Internal: cluster-only path hit while standalone.
    CLUSTER_NOT_ACTIVE = 500, 10006, "JetStream not in clustered mode";
    /// Internal: stream assigned elsewhere; kept on an assignment, not normally sent.
    CLUSTER_NOT_ASSIGNED = 500, 10007, "JetStream cluster not assigned to this server";
    /// Clustered, no meta leader (or the asset's raft group has no leader): retry later.
    CLUSTER_NOT_AVAIL = 503, 10008, "JetStream system temporarily unavailable";
    /// Ingest reached a server that is not stream leader (internal; not normally sent to publishers).
    CLUSTER_NOT_LEADER = 500, 10009, "JetStream cluster can not handle request";
    /// Cluster-only request sent to a standalone server.
    CLUSTER_REQUIRED = 503, 10010, "JetStream clustering support required";
    /// Reserved, not raised.
    CLUSTER_TAGS = 400, 10011, "tags placement not supported for operation";
    /// Generic consumer create/update failure, e.g. an update of an immutable field.
    consumer_create(err) = 500, 10012, "{err}";
    /// Update of a push consumer's deliver_subject while the old one still has interest.
    CONSUMER_NAME_EXIST = 400, 10013, "consumer name already in use";
    /// No such consumer (info, delete, pause, unpin, stepdown).
    CONSUMER_NOT_FOUND = 404, 10014, "consumer not found";
    /// SNAPSHOT: deliver_subject empty, invalid or has wildcards.
    SNAPSHOT_DELIVER_SUBJECT_INVALID = 400, 10015, "deliver subject not valid";
    /// DURABLE.CREATE subject without the durable token.
    CONSUMER_DURABLE_NAME_NOT_IN_SUBJECT = 400, 10016, "consumer expected to be durable but no durable name set in subject";
    /// Durable in body differs from the consumer token in the subject.
    CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT = 400, 10017, "consumer name in subject does not match durable name in request";
    /// DURABLE.CREATE with no durable_name in the body.
    CONSUMER_DURABLE_NAME_NOT_SET = 400, 10018, "consumer expected to be durable but a durable name was not set";
    /// Reserved, not raised.
    CONSUMER_EPHEMERAL_WITH_DURABLE_IN_SUBJECT = 400, 10019, "consumer expected to be ephemeral but detected a durable name set in subject";
    /// Legacy CONSUMER.CREATE.`<stream>` (no name token) with durable_name in the body.
    CONSUMER_EPHEMERAL_WITH_DURABLE_NAME = 400, 10020, "consumer expected to be ephemeral but a durable name was set in request";
    /// Mirror/source external.api prefix collides with $JS.API.
    stream_external_api_overlap(prefix, subject) = 400, 10021, "stream external api prefix {prefix} must not overlap with {subject}";
    /// Mirror/source external.deliver prefix makes an overlap with a subject of the origin stream.
    stream_external_del_prefix_overlaps(prefix, subject) = 400, 10022, "stream external delivery prefix {prefix} overlaps with stream subject {subject}";
    /// Server memory/file limit reached at publish.
    INSUFFICIENT_RESOURCES = 503, 10023, "insufficient resources";
    /// Mirror/source external.deliver prefix is not a valid literal subject.
    stream_invalid_external_delivery_subj(prefix) = 400, 10024, "stream external delivery prefix {prefix} must not contain wildcards";
    /// Body is not valid JSON for the request, has an unknown field in strict mode, bad enum, or UNPIN without group.
    invalid_json(err) = 400, 10025, "invalid JSON: {err}";
    /// Consumer count would pass stream max_consumers or account max_consumers.
    MAXIMUM_CONSUMERS_LIMIT = 400, 10026, "maximum consumers limit reached";
    /// Account/tier max_streams reached (create, restore, scale-up into a tier).
    MAXIMUM_STREAMS_LIMIT = 400, 10027, "maximum number of streams reached";
    /// Reservation (max_bytes) or restore does not fit account/server memory limit.
    MEMORY_RESOURCES_EXCEEDED = 500, 10028, "insufficient memory resources available";
    /// Mirror's origin consumer could not be set up; shown in mirror.error of stream info.
    mirror_consumer_setup_failed(err) = 500, 10029, "{err}";
    /// Mirror max_msg_size is smaller than the origin's (same account).
    MIRROR_MAX_MESSAGE_SIZE_TOO_BIG = 400, 10030, "stream mirror must have max message size >= source";
    /// Config has both mirror and sources.
    MIRROR_WITH_SOURCES = 400, 10031, "stream mirrors can not also contain other sources";
    /// Reserved, not raised.
    MIRROR_WITH_START_SEQ_AND_TIME = 400, 10032, "stream mirrors can not have both start seq and start time configured";
    /// Reserved, not raised.
    MIRROR_WITH_SUBJECT_FILTERS = 400, 10033, "stream mirrors can not contain filtered subjects";
    /// Mirror config also lists subjects.
    MIRROR_WITH_SUBJECTS = 400, 10034, "stream mirrors can not contain subjects";
    /// Account named in an ACCOUNT.STREAM.MOVE / CANCEL_MOVE subject is unknown.
    NO_ACCOUNT = 503, 10035, "account not found";
    /// Reserved, not raised.
    CLUSTER_UNSUPPORTED_FEATURE = 503, 10036, "not currently supported in clustered mode";
    /// STREAM.MSG.GET found nothing for the seq/subject/time.
    NO_MESSAGE_FOUND = 404, 10037, "no message found";
    /// Body present on a request that takes none (STREAM.DELETE, CONSUMER.DELETE, CONSUMER.INFO).
    NOT_EMPTY_REQUEST = 400, 10038, "expected an empty request payload";
    /// Account has no JetStream.
    NOT_ENABLED_FOR_ACCOUNT = 503, 10039, "JetStream not enabled for account";
    /// Named peer is not in the stream/consumer group (or move source).
    CLUSTER_PEER_NOT_MEMBER = 400, 10040, "peer not a member";
    /// Raft refused the request (stepdown, peer removal).
    raft_general(err) = 500, 10041, "{err}";
    /// RESTORE: internal subscription for chunks failed.
    restore_subscribe_failed(subject, err) = 500, 10042, "JetStream unable to subscribe to restore snapshot {subject}: {err}";
    /// MSG.DELETE of a sequence that is not there (memory store; file store answers 10057 instead).
    sequence_not_found(seq) = 400, 10043, "sequence {seq} not found";
    /// SERVER.REMOVE/EVACUATE/MOVE names a server that is not a meta peer.
    CLUSTER_SERVER_NOT_MEMBER = 400, 10044, "server is not a member of the cluster";
    /// Source's origin consumer could not be set up; shown in `sources[]`.error.
    source_consumer_setup_failed(err) = 500, 10045, "{err}";
    /// Sourcing stream's max_msg_size is smaller than the origin's (same account).
    SOURCE_MAX_MESSAGE_SIZE_TOO_BIG = 400, 10046, "stream source must have max message size >= target";
    /// Reservation (max_bytes) or restore does not fit account/server file limit.
    STORAGE_RESOURCES_EXCEEDED = 500, 10047, "insufficient storage resources available";
    /// Processing of a stream assignment failed on the leader.
    stream_assignment(err) = 500, 10048, "{err}";
    /// Wrapper for stream create failures that carry no own code.
    stream_create(err) = 500, 10049, "{err}";
    /// Stream delete failed.
    stream_delete(err) = 500, 10050, "{err}";
    /// Wrapper for other stream operation failures (purge, consumer delete, account purge).
    stream_general(err) = 500, 10051, "{err}";
    /// Stream config validation text.
    stream_invalid_config(err) = 500, 10052, "{err}";
    /// Wrapper for limit failures at create without own code.
    stream_limits(err) = 500, 10053, "{err}";
    /// Publish: headers+payload > max_msg_size; or a computed counter message > max payload.
    STREAM_MESSAGE_EXCEEDS_MAXIMUM = 400, 10054, "message size exceeds maximum allowed";
    /// Update changes or adds mirror (only removal = promotion is allowed).
    STREAM_MIRROR_NOT_UPDATABLE = 400, 10055, "stream mirror configuration can not be updated";
    /// Stream name in subject differs from body (create, update, restore, consumer create).
    STREAM_MISMATCH = 400, 10056, "stream name in subject does not match request";
    /// MSG.DELETE failed.
    stream_msg_delete_failed(err) = 500, 10057, "{err}";
    /// STREAM.CREATE for an existing name whose config differs (identical = success).
    STREAM_NAME_EXIST = 400, 10058, "stream name already in use with a different configuration";
    /// No such stream.
    STREAM_NOT_FOUND = 404, 10059, "stream not found";
    /// Publish: Nats-Expected-Stream names another stream.
    STREAM_NOT_MATCH = 400, 10060, "expected stream does not match";
    /// Reserved, not raised.
    STREAM_REPLICAS_NOT_UPDATABLE = 400, 10061, "Replicas configuration can not be updated";
    /// Final restore reply when the restore failed.
    stream_restore(err) = 500, 10062, "restore failed: {err}";
    /// Internal ordering check on a replicated store failed; publisher should retry.
    STREAM_SEQUENCE_NOT_MATCH = 503, 10063, "expected stream sequence does not match";
    /// Snapshot could not start.
    stream_snapshot(err) = 500, 10064, "snapshot failed: {err}";
    /// Subjects collide with another stream of the account (create, update).
    STREAM_SUBJECT_OVERLAP = 400, 10065, "subjects overlap with an existing stream";
    /// Reserved (stream templates were removed).
    stream_template_create(err) = 500, 10066, "{err}";
    /// Reserved (stream templates were removed).
    stream_template_delete(err) = 500, 10067, "{err}";
    /// Reserved (stream templates were removed).
    STREAM_TEMPLATE_NOT_FOUND = 404, 10068, "template not found";
    /// Wrapper for update failures without own code, e.g. 'change to limits violates consumers: a, b'.
    stream_update(err) = 500, 10069, "{err}";
    /// Publish: Nats-Expected-Last-Msg-Id differs; text shows the current last id (may be empty).
    stream_wrong_last_msg_id(id) = 400, 10070, "wrong last msg ID: {id}";
    /// Publish.
    stream_wrong_last_sequence(seq) = 400, 10071, "wrong last sequence: {seq}";
    /// Reserved, not raised.
    TEMP_STORAGE_FAILED = 500, 10072, "JetStream unable to open temp storage for restore";
    /// Reserved (stream templates were removed).
    TEMPLATE_NAME_NOT_MATCH_SUBJECT = 400, 10073, "template name in subject does not match request";
    /// Num_replicas > 1 on a standalone server (stream or consumer).
    STREAM_REPLICAS_NOT_SUPPORTED = 500, 10074, "replicas > 1 not supported in non-clustered mode";
    /// Peer remove/evacuate found no replacement placement.
    PEER_REMAP = 503, 10075, "peer remap failed";
    /// JetStream not enabled on the server.
    NOT_ENABLED = 503, 10076, "JetStream not enabled";
    /// Publish refused by the store.
    stream_store_failed(err) = 503, 10077, "{err}";
    /// Consumer create with no config (internal API).
    CONSUMER_CONFIG_REQUIRED = 400, 10078, "consumer config required";
    /// Deliver_subject contains wildcards.
    CONSUMER_DELIVER_TO_WILDCARDS = 400, 10079, "consumer deliver subject has wildcards";
    /// Push consumer with max_waiting set.
    CONSUMER_PUSH_MAX_WAITING = 400, 10080, "consumer in push mode can not set max waiting";
    /// Deliver_subject is inside the stream's own subjects.
    CONSUMER_DELIVER_CYCLE = 400, 10081, "consumer deliver subject forms a cycle";
    /// Push consumer with max_ack_pending > 0 and ack_policy none.
    CONSUMER_MAX_PENDING_ACK_POLICY_REQUIRED = 400, 10082, "consumer requires ack policy for max ack pending";
    /// Push idle_heartbeat below 100ms.
    CONSUMER_SMALL_HEARTBEAT = 400, 10083, "consumer idle heartbeat needs to be >= 100ms";
    /// Pull consumer with ack_policy none on a workqueue stream.
    CONSUMER_PULL_REQUIRES_ACK = 400, 10084, "consumer in pull mode requires explicit ack policy on workqueue stream";
    /// Reserved, not raised (ephemeral pull consumers are allowed).
    CONSUMER_PULL_NOT_DURABLE = 400, 10085, "consumer in pull mode requires a durable name";
    /// Pull consumer with rate_limit_bps.
    CONSUMER_PULL_WITH_RATE_LIMIT = 400, 10086, "consumer in pull mode can not have rate limit set";
    /// Pull consumer with negative max_waiting (normally clamped to 0 first).
    CONSUMER_MAX_WAITING_NEGATIVE = 400, 10087, "consumer max waiting needs to be positive";
    /// Pull consumer with idle_heartbeat.
    CONSUMER_HB_REQUIRES_PUSH = 400, 10088, "consumer idle heartbeat requires a push based consumer";
    /// Pull consumer with flow_control.
    CONSUMER_FC_REQUIRES_PUSH = 400, 10089, "consumer flow control requires a push based consumer";
    /// Direct consumer without deliver_subject.
    CONSUMER_DIRECT_REQUIRES_PUSH = 400, 10090, "consumer direct requires a push based consumer";
    /// Direct consumer with durable_name.
    CONSUMER_DIRECT_REQUIRES_EPHEMERAL = 400, 10091, "consumer direct requires an ephemeral consumer";
    /// Reserved, not raised.
    CONSUMER_ON_MAPPED = 400, 10092, "consumer direct on a mapped consumer";
    /// Reserved, not raised (filter need not overlap the stream subjects).
    CONSUMER_FILTER_NOT_SUBSET = 400, 10093, "consumer filter subject is not a valid subset of the interest subjects";
    /// Deliver_policy conflicts with opt_start_seq/opt_start_time or lacks the needed one, or last_per_subject without filter.
    consumer_invalid_policy(err) = 400, 10094, "{err}";
    /// Sample_freq is not a non-negative integer with optional %.
    consumer_invalid_sampling(err) = 400, 10095, "failed to parse consumer sampling configuration: {err}";
    /// Stream closed or not usable while creating a consumer.
    STREAM_INVALID = 500, 10096, "stream not valid";
    /// Publish: header block longer than 65535 bytes.
    STREAM_HEADER_EXCEEDS_MAXIMUM = 400, 10097, "header size exceeds maximum allowed of 64k";
    /// Workqueue stream: consumer ack_policy is not explicit (or flow_control).
    CONSUMER_WQ_REQUIRES_EXPLICIT_ACK = 400, 10098, "workqueue stream requires explicit ack";
    /// Workqueue stream: unfiltered consumer while another consumer exists.
    CONSUMER_WQ_MULTIPLE_UNFILTERED = 400, 10099, "multiple non-filtered consumers not allowed on workqueue stream";
    /// Workqueue stream: filter overlaps another consumer's filter (or the other is unfiltered).
    CONSUMER_WQ_CONSUMER_NOT_UNIQUE = 400, 10100, "filtered consumer not unique on workqueue stream";
    /// Workqueue stream: deliver_policy other than all on create.
    CONSUMER_WQ_CONSUMER_NOT_DELIVER_ALL = 400, 10101, "consumer must be deliver all on workqueue stream";
    /// Durable name longer than 255.
    consumer_name_too_long(max) = 400, 10102, "consumer name is too long, maximum allowed is {max}";
    /// Generated/durable name not a valid asset name.
    CONSUMER_BAD_DURABLE_NAME = 400, 10103, "durable name can not contain '.', '*', '>'";
    /// Consumer store could not be created or updated.
    consumer_store_failed(err) = 500, 10104, "error creating store for consumer: {err}";
    /// Replacing a push durable that is still active.
    CONSUMER_EXISTING_ACTIVE = 400, 10105, "consumer already exists and is still active";
    /// Replacing an inactive push durable with a different config.
    CONSUMER_REPLACEMENT_WITH_DIFFERENT_NAME = 400, 10106, "consumer replacement durable config not the same";
    /// Consumer description longer than 4096.
    consumer_description_too_long(max) = 400, 10107, "consumer description is too long, maximum allowed is {max}";
    /// Flow_control set without idle_heartbeat.
    CONSUMER_WITH_FLOW_CONTROL_NEEDS_HEARTBEATS = 400, 10108, "consumer with flow control also needs heartbeats";
    /// Publish, delete or purge on a sealed stream.
    STREAM_SEALED = 400, 10109, "invalid operation on sealed stream";
    /// PURGE with deny_purge ('stream purge not permitted').
    stream_purge_failed(err) = 500, 10110, "{err}";
    /// Publish with Nats-Rollup.
    stream_rollup_failed(err) = 500, 10111, "{err}";
    /// Deliver_subject is not a valid subject.
    CONSUMER_INVALID_DELIVER_SUBJECT = 400, 10112, "invalid push consumer deliver subject";
    /// Account has max_bytes_required and the stream has no positive max_bytes.
    STREAM_MAX_BYTES_REQUIRED = 400, 10113, "account requires a stream config to have max bytes set";
    /// Negative max_batch (normally clamped to 0 first).
    CONSUMER_MAX_REQUEST_BATCH_NEGATIVE = 400, 10114, "consumer max request batch needs to be > 0";
    /// Max_expires set but below 1ms.
    CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL = 400, 10115, "consumer max request expires needs to be >= 1ms";
    /// Backoff longer than max_deliver when max_deliver is not -1.
    CONSUMER_MAX_DELIVER_BACKOFF = 400, 10116, "max deliver is required to be > length of backoff values";
    /// Reserved, not raised (subject details are paged).
    STREAM_INFO_MAX_SUBJECTS = 500, 10117, "subject details would exceed maximum allowed";
    /// All peers of the stream are offline (sent after 500ms).
    STREAM_OFFLINE = 500, 10118, "stream is offline";
    /// All peers of the consumer are offline (sent after 500ms).
    CONSUMER_OFFLINE = 500, 10119, "consumer is offline";
    /// Account has tiered limits but none for this replica count (create; also publish).
    NO_LIMITS = 400, 10120, "no JetStream default or applicable tiered limit present";
    /// Max_ack_pending above server, account or stream consumer_limits value.
    consumer_max_pending_ack_excess(limit) = 400, 10121, "consumer max ack pending exceeds system limit of {limit}";
    /// Max_bytes above the account's per-stream maximum for that storage.
    STREAM_MAX_STREAM_BYTES_EXCEEDED = 400, 10122, "stream max bytes exceeds account limit max stream bytes";
    /// One update changes both placement and replicas.
    STREAM_MOVE_AND_SCALE = 400, 10123, "can not move and scale a stream in a single update";
    /// Placement change or scale while a move is in flight.
    STREAM_MOVE_IN_PROGRESS = 400, 10124, "stream move already in progress";
    /// Max_batch above the server limit max_request_batch.
    consumer_max_request_batch_exceeded(limit) = 400, 10125, "consumer max request batch exceeds server limit of {limit}";
    /// Consumer num_replicas above the stream's.
    CONSUMER_REPLICAS_EXCEEDS_STREAM = 400, 10126, "consumer config replica count exceeds parent stream";
    /// Consumer name contains / or \.
    CONSUMER_NAME_CONTAINS_PATH_SEPARATORS = 400, 10127, "Consumer name can not contain path separators";
    /// Stream name contains / or \.
    STREAM_NAME_CONTAINS_PATH_SEPARATORS = 400, 10128, "Stream name can not contain path separators";
    /// CANCEL_MOVE but no move/scale/retention change is in flight.
    STREAM_RECONFIGURE_NOT_IN_PROGRESS = 400, 10129, "stream reconfiguration not in progress";
    /// RESTORE of a stream name that exists.
    STREAM_NAME_EXIST_RESTORE_FAILED = 400, 10130, "stream name already in use, cannot restore";
    /// Filter tokens in the CONSUMER.CREATE subject differ from filter_subject in the body.
    CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH = 400, 10131, "Consumer create request did not match filtered subject from create subject";
    /// Name and durable_name both set and different (legacy subject).
    CONSUMER_CREATE_DURABLE_AND_NAME_MISMATCH = 400, 10132, "Consumer Durable and Name have to be equal if both are provided";
    /// Negative num_replicas (stream or consumer).
    REPLICAS_COUNT_CANNOT_BE_NEGATIVE = 400, 10133, "replicas count cannot be negative";
    /// Interest/workqueue stream: consumer num_replicas neither 0 nor equal to the stream's.
    CONSUMER_REPLICAS_SHOULD_MATCH_STREAM = 400, 10134, "consumer config replicas must match interest retention stream's replicas";
    /// Consumer metadata over 128KB ({limit} = 128KB).
    consumer_metadata_length(limit) = 400, 10135, "consumer metadata exceeds maximum size of {limit}";
    /// Filter_subject and filter_subjects both set.
    CONSUMER_DUPLICATE_FILTER_SUBJECTS = 400, 10136, "consumer cannot have both FilterSubject and FilterSubjects specified";
    /// Filter tokens in the create subject together with filter_subjects in the body.
    CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED = 400, 10137, "consumer with multiple subject filters cannot use subject based API";
    /// One filter of filter_subjects is a subset of another.
    CONSUMER_OVERLAPPING_SUBJECT_FILTERS = 400, 10138, "consumer subject filters cannot overlap";
    /// Empty string inside filter_subjects.
    CONSUMER_EMPTY_FILTER = 400, 10139, "consumer filter in FilterSubjects cannot be empty";
    /// Two sources with the same stream+external+consumer+filter/transform set.
    SOURCE_DUPLICATE_DETECTED = 400, 10140, "duplicate source configuration detected";
    /// Source name empty or invalid.
    SOURCE_INVALID_STREAM_NAME = 400, 10141, "sourced stream name is invalid";
    /// Mirror name empty or invalid.
    MIRROR_INVALID_STREAM_NAME = 400, 10142, "mirrored stream name is invalid";
    /// Mirror with first_seq > 0.
    MIRROR_WITH_FIRST_SEQ = 400, 10143, "stream mirrors can not have first sequence configured";
    /// Source with filter_subject and subject_transforms.
    SOURCE_MULTIPLE_FILTERS_NOT_ALLOWED = 400, 10144, "source with multiple subject transforms cannot also have a single subject filter";
    /// Source transform src is not a valid subject.
    source_invalid_subject_filter(err) = 400, 10145, "source transform source: {err}";
    /// Source transform dest invalid for its src.
    source_invalid_transform_destination(err) = 400, 10146, "source transform: {err}";
    /// Source transform filters overlap each other.
    SOURCE_OVERLAPPING_SUBJECT_FILTERS = 400, 10147, "source filters can not overlap";
    /// Action create on an existing consumer with another config.
    CONSUMER_ALREADY_EXISTS = 400, 10148, "consumer already exists";
    /// Action update on a missing consumer; or consumer vanished during update.
    CONSUMER_DOES_NOT_EXIST = 400, 10149, "consumer does not exist";
    /// Mirror with filter_subject and subject_transforms.
    MIRROR_MULTIPLE_FILTERS_NOT_ALLOWED = 400, 10150, "mirror with multiple subject transforms cannot also have a single subject filter";
    /// Mirror transform src is not a valid subject.
    mirror_invalid_subject_filter(err) = 400, 10151, "mirror transform source: {err}";
    /// Mirror transform filters overlap each other.
    MIRROR_OVERLAPPING_SUBJECT_FILTERS = 400, 10152, "mirror subject filters can not overlap";
    /// Inactive_threshold above stream consumer_limits.inactive_threshold.
    consumer_inactive_threshold_excess(limit) = 400, 10153, "consumer inactive threshold exceeds system limit of {limit}";
    /// Mirror transform dest invalid for its src.
    mirror_invalid_transform_destination(err) = 400, 10154, "mirror transform: {err}";
    /// Stream subject_transform.src is not a valid subject.
    stream_transform_invalid_source(err) = 400, 10155, "stream transform source: {err}";
    /// Stream subject_transform.dest invalid for its src.
    stream_transform_invalid_destination(err) = 400, 10156, "stream transform: {err}";
    /// Pedantic:true and the server would have had to change the given value.
    pedantic(err) = 400, 10157, "pedantic mode: {err}";
    /// Replicated stream: same Nats-Msg-Id is proposed but not yet stored.
    STREAM_DUPLICATE_MESSAGE_CONFLICT = 409, 10158, "duplicate message id is in process";
    /// Priority_policy set, no priority_groups.
    CONSUMER_PRIORITY_POLICY_WITHOUT_GROUP = 400, 10159, "Setting PriorityPolicy requires at least one PriorityGroup to be set";
    /// UNPIN with a group the consumer does not have.
    CONSUMER_INVALID_PRIORITY_GROUP = 400, 10160, "Provided priority group does not exist for this consumer";
    /// Empty string inside priority_groups.
    CONSUMER_EMPTY_GROUP_NAME = 400, 10161, "Group name cannot be an empty string";
    /// Group name does not match `[a-zA-Z0-9/_=-]{1,16}` (create, UNPIN).
    CONSUMER_INVALID_GROUP_NAME = 400, 10162, "Valid priority group name must match A-Z, a-z, 0-9, -_/=)+ and may not exceed 16 characters";
    /// Reserved, not raised.
    STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_NOT_READY = 503, 10163, "expected last sequence per subject temporarily unavailable";
    /// Expected-sequence conflict with messages still in flight, or inside an atomic batch.
    STREAM_WRONG_LAST_SEQUENCE_CONSTANT = 400, 10164, "wrong last sequence";
    /// Nats-TTL not parseable, or a duration below 1s (also '0').
    MESSAGE_TTL_INVALID = 400, 10165, "invalid per-message TTL";
    /// Nats-TTL (or Nats-Schedule-TTL) on a stream without allow_msg_ttl.
    MESSAGE_TTL_DISABLED = 400, 10166, "per-message TTL is disabled";
    /// Ingest queue full (100000 messages / 128MB per stream); headers also carry status 429.
    STREAM_TOO_MANY_REQUESTS = 429, 10167, "too many requests";
    /// Nats-Incr on a stream without allow_msg_counter.
    MESSAGE_INCR_DISABLED = 400, 10168, "message counters is disabled";
    /// Counter stream: message without Nats-Incr.
    MESSAGE_INCR_MISSING = 400, 10169, "message counter increment is missing";
    /// Nats-Incr with a non-empty payload.
    MESSAGE_INCR_PAYLOAD = 400, 10170, "message counter has payload";
    /// Nats-Incr not a base-10 integer, or combined with Nats-Rollup / Nats-Expected-*.
    MESSAGE_INCR_INVALID = 400, 10171, "message counter increment is invalid";
    /// Stored counter value or sources header can not be parsed.
    MESSAGE_COUNTER_BROKEN = 400, 10172, "message counter is broken";
    /// Mirror + allow_msg_counter.
    MIRROR_WITH_COUNTERS = 400, 10173, "stream mirrors can not also calculate counters";
    /// Nats-Batch-Id on a stream without allow_atomic.
    ATOMIC_PUBLISH_DISABLED = 400, 10174, "atomic publish is disabled";
    /// Nats-Batch-Id without a valid Nats-Batch-Sequence.
    ATOMIC_PUBLISH_MISSING_SEQ = 400, 10175, "atomic publish sequence is missing";
    /// Batch unknown, sequence gap, timed out, store error, or eob as first message.
    ATOMIC_PUBLISH_INCOMPLETE_BATCH = 400, 10176, "atomic publish batch is incomplete";
    /// Nats-Expected-Last-Msg-Id inside an atomic batch (raised at commit).
    atomic_publish_unsupported_header_batch(header) = 400, 10177, "atomic publish unsupported header used: {header}";
    /// Priority_policy on a push consumer.
    CONSUMER_PUSH_WITH_PRIORITY_GROUP = 400, 10178, "priority groups can not be used with push consumers";
    /// Nats-Batch-Id longer than 64.
    ATOMIC_PUBLISH_INVALID_BATCH_ID = 400, 10179, "atomic publish batch ID is invalid";
    /// Reserved, not raised.
    STREAM_MIN_LAST_SEQ = 412, 10180, "min last sequence";
    /// Ack_policy out of range (not reachable from JSON, which fails with 10025).
    CONSUMER_ACK_POLICY_INVALID = 400, 10181, "consumer ack policy invalid";
    /// Replay_policy out of range (not reachable from JSON).
    CONSUMER_REPLAY_POLICY_INVALID = 400, 10182, "consumer replay policy invalid";
    /// Negative ack_wait.
    CONSUMER_ACK_WAIT_NEGATIVE = 400, 10183, "consumer ack wait needs to be positive";
    /// Negative backoff entry.
    CONSUMER_BACKOFF_NEGATIVE = 400, 10184, "consumer backoff needs to be positive";
    /// Nats-Required-Api-Level header above 5 or not an integer.
    REQUIRED_API_LEVEL = 412, 10185, "JetStream minimum api level required";
    /// Mirror + allow_msg_schedules.
    MIRROR_WITH_MSG_SCHEDULES = 400, 10186, "stream mirrors can not also schedule messages";
    /// Sources + allow_msg_schedules.
    SOURCE_WITH_MSG_SCHEDULES = 400, 10187, "stream source can not also schedule messages";
    /// Schedule headers on a stream without allow_msg_schedules.
    MESSAGE_SCHEDULES_DISABLED = 400, 10188, "message schedules is disabled";
    /// Nats-Schedule not parseable; time zone with @at/@every.
    MESSAGE_SCHEDULES_PATTERN_INVALID = 400, 10189, "message schedules pattern is invalid";
    /// Nats-Schedule-Target missing, not literal, equal to the publish subject, or not covered by the stream subjects.
    MESSAGE_SCHEDULES_TARGET_INVALID = 400, 10190, "message schedules target is invalid";
    /// Nats-Schedule-TTL not a valid TTL.
    MESSAGE_SCHEDULES_TTL_INVALID = 400, 10191, "message schedules invalid per-message TTL";
    /// Nats-Schedule-Rollup not 'sub', or Nats-Rollup on a schedule not 'sub'.
    MESSAGE_SCHEDULES_ROLLUP_INVALID = 400, 10192, "message schedules invalid rollup";
    /// Nats-Expected-Last-Subject-Sequence-Subject without the sequence header.
    STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID = 400, 10193, "missing sequence for expected last sequence per subject";
    /// Stream can not run on this server.
    stream_offline_reason(err) = 500, 10194, "stream is offline: {err}";
    /// Same for a consumer.
    consumer_offline_reason(err) = 500, 10195, "consumer is offline: {err}";
    /// Priority_groups with policy none.
    CONSUMER_PRIORITY_GROUP_WITH_POLICY_NONE = 400, 10196, "consumer can not have priority groups when policy is none";
    /// Priority_timeout with policy none.
    CONSUMER_PINNED_TTL_WITHOUT_PRIORITY_POLICY_NONE = 400, 10197, "PinnedTTL cannot be set when PriorityPolicy is none";
    /// Mirror + allow_atomic.
    MIRROR_WITH_ATOMIC_PUBLISH = 400, 10198, "stream mirrors can not also use atomic publishing";
    /// Atomic batch larger than the limit ({size}, default 1000).
    atomic_publish_too_large_batch(size) = 400, 10199, "atomic publish batch is too large: {size}";
    /// Nats-Batch-Commit neither 1 nor eob.
    ATOMIC_PUBLISH_INVALID_BATCH_COMMIT = 400, 10200, "atomic publish batch commit is invalid";
    /// Nats-Msg-Id repeated in the batch or already known (raised at commit).
    ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE = 400, 10201, "atomic publish batch contains duplicate message id";
    /// SERVER.REMOVE while another membership change is running.
    CLUSTER_SERVER_MEMBER_CHANGE_INFLIGHT = 400, 10202, "cluster member change is in progress";
    /// Nats-Schedule-Source invalid, equal to target/own subject, or outside the stream subjects.
    MESSAGE_SCHEDULES_SOURCE_INVALID = 400, 10203, "message schedules source is invalid";
    /// CONSUMER.RESET: 'not allowed', 'below start seq', 'below start time'.
    consumer_invalid_reset(err) = 400, 10204, "invalid reset: {err}";
    /// Fast-batch reply subject on a stream without allow_batched.
    BATCH_PUBLISH_DISABLED = 400, 10205, "batch publish is disabled";
    /// Reply ends in .$FI but does not parse as a fast-batch reply.
    BATCH_PUBLISH_INVALID_PATTERN = 400, 10206, "batch publish pattern is invalid";
    /// Fast batch id longer than 64.
    BATCH_PUBLISH_INVALID_BATCH_ID = 400, 10207, "batch publish ID is invalid";
    /// Fast batch message with sequence > 1 for an unknown batch.
    BATCH_PUBLISH_UNKNOWN_BATCH_ID = 400, 10208, "batch publish ID unknown";
    /// Mirror + allow_batched.
    MIRROR_WITH_BATCH_PUBLISH = 400, 10209, "stream mirrors can not also use batch publishing";
    /// More than 50 open atomic batches on the stream or 1000 on the server.
    ATOMIC_PUBLISH_TOO_MANY_INFLIGHT = 429, 10210, "atomic publish too many inflight";
    /// More than 1000 open fast batches on the stream or 50000 on the server.
    BATCH_PUBLISH_TOO_MANY_INFLIGHT = 429, 10211, "batch publish too many inflight";
    /// Nats-Scheduler/Nats-Schedule-Next misuse by a client.
    MESSAGE_SCHEDULES_SCHEDULER_INVALID = 400, 10212, "message schedules invalid scheduler";
    /// Mirror.consumer: bad name/deliver_subject, or combined with start/filter fields.
    MIRROR_DURABLE_CONSUMER_CFG_INVALID = 400, 10213, "stream mirror consumer config is invalid";
    /// Mirror.consumer names a consumer whose ack_policy is not flow_control (mirror.error).
    MIRROR_CONSUMER_REQUIRES_ACK_FC = 400, 10214, "stream mirror consumer requires flow control ack policy";
    /// `Sources[]`.consumer: bad name/deliver_subject, or combined with start/filter fields.
    SOURCE_DURABLE_CONSUMER_CFG_INVALID = 400, 10215, "stream source consumer config is invalid";
    /// Same origin stream + same consumer name used by two sources.
    SOURCE_DURABLE_CONSUMER_DUPLICATE_DETECTED = 400, 10216, "duplicate stream source consumer detected";
    /// `Sources[]`.consumer names a consumer whose ack_policy is not flow_control (`sources[]`.error).
    SOURCE_CONSUMER_REQUIRES_ACK_FC = 400, 10217, "stream source consumer requires flow control ack policy";
    /// Ack_policy flow_control without deliver_subject.
    CONSUMER_ACK_FC_REQUIRES_PUSH = 400, 10218, "flow control ack policy requires a push based consumer";
    /// Ack_policy flow_control without flow_control (pedantic only; otherwise forced on).
    CONSUMER_ACK_FC_REQUIRES_FC = 400, 10219, "flow control ack policy requires flow control";
    /// Ack_policy flow_control with max_ack_pending <= 0.
    CONSUMER_ACK_FC_REQUIRES_MAX_ACK_PENDING = 400, 10220, "flow control ack policy requires max ack pending";
    /// Ack_policy flow_control with ack_wait or backoff.
    CONSUMER_ACK_FC_REQUIRES_NO_ACK_WAIT = 400, 10221, "flow control ack policy requires unset ack wait";
    /// Ack_policy flow_control with max_deliver > 0.
    CONSUMER_ACK_FC_REQUIRES_NO_MAX_DELIVER = 400, 10222, "flow control ack policy requires unset max deliver";
    /// Nats-Schedule-Time-Zone empty or unknown.
    MESSAGE_SCHEDULES_TIME_ZONE_INVALID = 400, 10223, "message schedules time zone is invalid";
    /// META.RESCUE refused (quorum_needed out of range, etc.).
    cluster_rescue(err) = 400, 10224, "JetStream system rescue not applied: {err}";
    /// Nats-Stream-Identity of a source's consumer request differs.
    consumer_stream_identity_mismatch(msg) = 400, 10225, "consumer's stream identity does not match: {msg}";
    /// Move requested while a scale/retention change is in flight.
    STREAM_RECONFIGURE_IN_PROGRESS = 400, 10226, "stream reconfiguration already in progress";
    /// Publish carrying Nats-Stream-Source from a client.
    MESSAGE_SOURCE_HDR_NOT_ALLOWED = 400, 10227, "message stream source header is not allowed";
    /// Source durable consumer makes no progress on flow control; shown in `sources[]`.error.
    SOURCE_CONSUMER_FLOW_CONTROL_STALLED = 500, 10228, "stream source consumer stalled on flow control";
}
