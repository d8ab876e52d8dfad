use super::Options;
use crate::read;
use crate::table::{Row, key, not_yet};

/// What is logged, how and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// Log at debug level.
    pub debug: bool,
    /// Log the protocol.
    pub trace: bool,
    /// Trace the system account too. Implies `trace`.
    pub trace_verbose: bool,
    /// Trace headers only. Implies `trace`.
    pub trace_headers: bool,
    /// Begin lines with the time.
    pub logtime: bool,
    /// Use UTC instead of local time.
    pub logtime_utc: bool,
    /// Bytes of a payload shown in the trace; `None` is all.
    pub max_traced_msg_len: Option<u64>,
    /// File to log to instead of standard error.
    pub log_file: Option<String>,
    /// Bytes at which the file is rotated; `None` is never.
    pub log_size_limit: Option<u64>,
    /// Files kept, the current one included; `None` is all.
    pub log_max_num: Option<u64>,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            debug: false,
            trace: false,
            trace_verbose: false,
            trace_headers: false,
            logtime: true,
            logtime_utc: false,
            max_traced_msg_len: None,
            log_file: None,
            log_size_limit: None,
            log_max_num: None,
        }
    }
}

impl Logging {
    /// Lets the special forms of trace switch trace on.
    pub(crate) fn complete(&mut self) {
        self.trace |= self.trace_verbose || self.trace_headers;
    }
}

pub(super) const KEYS: &[Row<Options>] = &[
    key!(["debug"], "boolean", "false", Live, logging.debug = read::boolean, "Log at debug level."),
    key!(["trace"], "boolean", "false", Live, logging.trace = read::boolean, "Log the protocol."),
    key!(
        ["trace_verbose"],
        "boolean",
        "false",
        Live,
        logging.trace_verbose = read::boolean,
        "Log the protocol, the system account's too."
    ),
    key!(
        ["trace_headers"],
        "boolean",
        "false",
        Live,
        logging.trace_headers = read::boolean,
        "Log the protocol, of messages only the headers."
    ),
    key!(
        ["logtime"],
        "boolean",
        "true",
        Live,
        logging.logtime = read::boolean,
        "Begin log lines with the time."
    ),
    key!(
        ["logtime_utc"],
        "boolean",
        "false",
        Live,
        logging.logtime_utc = read::boolean,
        "Log the time in UTC instead of local time."
    ),
    key!(
        ["max_traced_msg_len"],
        "integer",
        "0",
        Live,
        logging.max_traced_msg_len = read::limit,
        "Bytes of a payload shown in the trace; 0 is all."
    ),
    key!(
        ["log_file", "logfile"],
        "string",
        "",
        Live,
        logging.log_file = read::string,
        "File to log to instead of standard error."
    ),
    key!(
        ["log_size_limit", "logfile_size_limit"],
        "integer",
        "0",
        Refused,
        logging.log_size_limit = read::limit,
        "Bytes at which the log file is rotated; 0 is never."
    ),
    key!(
        ["log_max_num", "logfile_max_num"],
        "integer",
        "0",
        Refused,
        logging.log_max_num = read::limit,
        "Log files kept, the current one included; 0 is all."
    ),
    not_yet!(["syslog"], Live, "Log to the system log."),
    not_yet!(["remote_syslog"], Live, "Address of a system log to log to."),
];
