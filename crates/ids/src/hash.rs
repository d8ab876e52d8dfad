use sha2::{Digest, Sha256};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// First `N` bytes of the SHA-256 of `name`, each taken modulo 62 as a character of `0-9A-Za-z`. nats-server
/// derives peer ids, account hashes and route hashes this way (cluster protocols, "Hashes").
pub fn hash_base62<const N: usize>(name: &str) -> String {
    base62_of_sha256::<N>(name).map(char::from).iter().collect()
}

/// [`hash_base62`] as bytes.
pub(crate) fn base62_of_sha256<const N: usize>(name: &str) -> [u8; N] {
    const { assert!(N <= 32, "a SHA-256 has 32 bytes") };
    let digest = Sha256::digest(name.as_bytes());
    std::array::from_fn(|i| BASE62[usize::from(digest[i]) % 62])
}

/// The 8-character id under which peers know a server of this name.
pub fn node_hash(server_name: &str) -> String {
    hash_base62::<8>(server_name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn hash_of_a_name_is_what_nats_server_prints() {
        assert_eq!(super::node_hash("n1"), "fjFyEjc1");
    }
}
