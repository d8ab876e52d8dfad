//! Servers to which it is another time of day than to others, by libfaketime. Time that only passes is left alone.

use std::ffi::OsString;
use std::path::Path;

use linnet_launch::ClusterSpec;

use super::super::trio::Trio;

/// Where Debian and its descendants have it.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
];

/// Becomes a server whose clock is as far ahead as a file says, which is read again every second. Arguments: the library, the
/// program, `-c`, the configuration, more.
const WITH_A_CLOCK: &str = r#"
    library=$1
    shift
    clock=$(dirname "$3")/clock
    [ -f "$clock" ] || echo +0s > "$clock"
    export FAKETIME_TIMESTAMP_FILE=$clock FAKETIME_CACHE_DURATION=1 FAKETIME_DONT_FAKE_MONOTONIC=1 LD_PRELOAD=$library
    exec "$@"
"#;

fn library() -> Option<&'static str> {
    LIBRARIES.into_iter().find(|path| Path::new(path).exists())
}

/// Gives every server a clock.
pub(super) fn of_their_own(spec: ClusterSpec) -> ClusterSpec {
    let launcher = ["sh", "-c", WITH_A_CLOCK, "sh", library().unwrap()];
    spec.launcher(launcher.map(OsString::from))
}

/// Why this machine has no such clocks, if it has none.
pub(super) fn missing() -> Option<String> {
    library().is_none().then(|| "libfaketime is not installed".to_owned())
}

impl Trio {
    /// From about now on, a server takes it to be so many seconds later than it is.
    pub(super) fn set_clock(&self, name: &str, seconds: i64) {
        eprintln!("{name}: {seconds:+} s");
        let clock = self.store_of(name).with_file_name("clock");
        // It is never seen half written.
        let next = clock.with_extension("next");
        std::fs::write(&next, format!("{seconds:+}s\n")).unwrap();
        std::fs::rename(next, clock).unwrap();
    }
}
