//! Servers whose stores are file systems of their own in files, so that the power of one can fail: what the kernel has
//! not written is gone.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use linnet_launch::ClusterSpec;

use super::super::trio::Trio;

/// Mounts the image of a server for this process only, and becomes the server. The image may be used by an earlier life for
/// a moment. Arguments: the program, `-c`, the configuration, more.
const ON_AN_IMAGE: &str = r#"
    dir=$(dirname "$3") image=$dir/disk.img
    mkdir -p "$dir/store"
    if [ ! -f "$image" ]; then
        truncate -s 320M "$image" && mkfs.ext4 -q -F "$image" || exit 1
    fi
    n=0
    while [ -n "$(losetup -j "$image")" ]; do
        n=$((n + 1)); [ $n -lt 200 ] || exit 1
        sleep 0.05
    done
    mount -o loop,errors=remount-ro "$image" "$dir/store" || exit 1
    exec "$@"
"#;

/// Ends a file system at once, without its journal: `FS_IOC_SHUTDOWN` with "no log flush" of ext4. Everything fails from
/// then on.
const CUT_THE_POWER: &str = "opendir(my $d, $ARGV[0]) or die $!; my $how = pack('L', 2); \
     sysopen(my $f, $ARGV[0], 0) or die $!; ioctl($f, 0x8004587d, $how) or die $!;";

/// Puts the store of every server on an image of its own.
pub(super) fn on_images(spec: ClusterSpec) -> ClusterSpec {
    spec.launcher(launcher())
}

fn launcher() -> Vec<OsString> {
    ["unshare", "-m", "--propagation", "private", "sh", "-c", ON_AN_IMAGE, "sh"].map(Into::into).to_vec()
}

/// Why this machine has no such disks, if it has none.
pub(super) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("file systems in files need root".to_owned());
    }
    let dir = tempfile::tempdir().unwrap();
    let launcher = launcher();
    let mut command = Command::new(&launcher[0]);
    command.args(&launcher[1..]).args(["true", "-c"]).arg(dir.path().join("server.conf"));
    let mounts = command.output().map_err(|error| error.to_string()).and_then(|output| {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        output.status.success().then_some(()).ok_or(said)
    });
    let perl =
        || Command::new("perl").arg("-v").output().map(|_| ()).map_err(|error| format!("perl: {error}"));
    mounts.and_then(|()| perl()).err()
}

impl Trio {
    fn pid_of(&self, name: &str) -> u32 {
        self.cluster.members().iter().find(|member| member.name() == name).unwrap().server().pid()
    }

    /// The store of a server that runs, as it is seen from outside of its mounts.
    pub(super) fn inside(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid_of(name)));
        root.join(self.store_of(name).strip_prefix("/").unwrap())
    }

    /// The power of these servers fails at the same moment. They are gone afterwards.
    pub(super) fn cut_power(&mut self, names: &[String]) {
        let cuts = names.iter().map(|name| {
            let mut perl = Command::new("perl");
            perl.args(["-e", CUT_THE_POWER]).arg(self.inside(name)).stdin(Stdio::null());
            perl.spawn().unwrap()
        });
        let cuts: Vec<_> = cuts.collect();
        for mut cut in cuts {
            assert!(cut.wait().unwrap().success(), "the file system is not shut down");
        }
        for name in names {
            self.kill(name);
        }
    }

    /// The file system of a server meets an error: from then on it takes no writes, until it is mounted anew.
    pub(super) fn break_file_system(&self, name: &str) {
        let image = self.store_of(name).with_file_name("disk.img");
        let output = Command::new("losetup").arg("-j").arg(&image).output().unwrap();
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        let device = line.split(':').next().unwrap().trim_start_matches("/dev/").to_owned();
        std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").unwrap();
    }

    /// Has calls of a server that runs fail or come late, as this says of them. Ends when what is returned is dropped.
    pub(super) fn tamper(&self, name: &str, calls: &str, how: &str) -> Tampering {
        self.tamper_with(name, &[], calls, how)
    }

    /// The same for calls about one file or directory only.
    pub(in super::super) fn tamper_at(&self, name: &str, path: &Path, calls: &str, how: &str) -> Tampering {
        self.tamper_with(name, &["-P".as_ref(), path.as_os_str()], calls, how)
    }

    fn tamper_with(&self, name: &str, which: &[&OsStr], calls: &str, how: &str) -> Tampering {
        let child = Command::new("strace")
            .args(["-f", "-q", "-o", "/dev/null", "-p", &self.pid_of(name).to_string()])
            .args(which)
            .args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{how}")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Tampering { child }
    }
}

/// A process that traces a server.
pub(in super::super) struct Tampering {
    child: Child,
}

impl Drop for Tampering {
    fn drop(&mut self) {
        // It lets go of the server; one that was killed would do the same.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.child.wait();
    }
}

/// Why calls cannot be tampered with on this machine, if so.
pub(in super::super) fn no_tampering() -> Option<String> {
    let traced = Command::new("strace").args(["-q", "-o", "/dev/null", "true"]).output();
    match traced {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("strace: {error}")),
    }
}
