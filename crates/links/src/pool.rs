/// Connections of a pool, whatever the other server asks for.
pub const POOL_SIZE_MAX: usize = 256;

/// The connection of a pool that carries an account: FNV-1a of its name (cluster protocols, "Hashes").
pub fn pool_index(account: &[u8], pool_size: usize) -> usize {
    if pool_size <= 1 {
        return 0;
    }
    let hash =
        account.iter().fold(0x811c_9dc5_u32, |hash, b| (hash ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    hash as usize % pool_size
}

#[cfg(test)]
mod tests {
    use super::pool_index;

    #[test]
    fn accounts_go_where_the_other_server_puts_them() {
        let rows = [("$G", 3, 2), ("$G", 5, 3), ("X", 3, 2), ("X", 4, 3), ("ORDERS", 3, 1), ("$SYS", 3, 0)];
        for (account, size, index) in rows {
            assert_eq!(pool_index(account.as_bytes(), size), index, "{account} of {size}");
        }
        assert_eq!((pool_index(b"X", 1), pool_index(b"X", 0)), (0, 0));
    }
}
