//! The configuration language: any text is read or refused, and what is read can be turned into options.

use std::io;

use linnet_conf::Source;

/// A world with one other file and one variable.
struct World;

impl Source for World {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        if path.ends_with("other.conf") {
            Ok(b"port: 4333\n".to_vec())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn env(&self, name: &str) -> Option<String> {
        (name == "V").then(|| "10MB".to_owned())
    }
}

/// Parses the bytes as a file.
pub fn run(bytes: &[u8]) {
    if let Ok(tree) = linnet_conf::lang::parse_text(bytes, "fuzz.conf", &World) {
        let digest = linnet_conf::lang::digest(&tree);
        assert!(digest.starts_with("sha256:"));
        if let Ok(parsed) = linnet_conf::interpret(&tree, "fuzz.conf") {
            let _ = linnet_conf::check(&parsed.options);
        }
    }
}
