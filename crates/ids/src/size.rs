/// Human form of a byte count as nats-server logs it: two decimals, 1024-based, `KB MB GB TB PB`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.2} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_print_with_two_decimals() {
        assert_eq!(super::format_bytes(12), "12 B");
        assert_eq!(super::format_bytes(64 << 20), "64.00 MB");
        assert_eq!(super::format_bytes(1 << 30), "1.00 GB");
    }
}
