use std::fs::File;
use std::io;

use rustix::io::Errno;

/// True if the process, or the machine, has no descriptor left for another open file. Nothing was done then, and the same
/// call may succeed later.
pub fn lacks_descriptors(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| code == Some(errno.raw_os_error()))
}

/// Fails if the process cannot have so many more files open now.
pub fn has_descriptors(count: usize) -> io::Result<()> {
    let open = |_| File::open("/dev/null");
    (0..count).map(open).collect::<io::Result<Vec<File>>>().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_descriptors_is_told_from_other_errors() {
        assert!(lacks_descriptors(&Errno::MFILE.into()) && lacks_descriptors(&Errno::NFILE.into()));
        assert!(!lacks_descriptors(&Errno::NOSPC.into()) && !lacks_descriptors(&Errno::IO.into()));
        assert!(!lacks_descriptors(&io::ErrorKind::Other.into()));
        has_descriptors(8).unwrap();
    }
}
