use std::io;

/// Where configuration text comes from: files and environment variables. Everything else in this crate is pure.
pub trait Source {
    /// Whole content of the file at `path`, which is relative to the working directory unless absolute.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
    /// Value of an environment variable; `None` if it is unset or not UTF-8.
    fn env(&self, name: &str) -> Option<String>;
}

/// The files and the environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessSource;

impl Source for ProcessSource {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn env(&self, name: &str) -> Option<String> {
        // The standard library panics on names no variable can have.
        if name.is_empty() || name.contains(['=', '\0']) {
            return None;
        }
        std::env::var(name).ok()
    }
}
