//! Which crate may use which: a crate uses lower layers, and in its own layer what its row names.

use crate::metadata::Metadata;

struct Row {
    name: &'static str,
    layer: u8,
    /// Crates of the same layer it may use.
    also: &'static [&'static str],
    /// Crates of lower layers it must not use.
    never: &'static [&'static str],
}

const fn row(layer: u8, name: &'static str, also: &'static [&'static str]) -> Row {
    Row { name, layer, also, never: &[] }
}

/// 0 is pure vocabulary, 1 engines without sockets, 2 the runtime, 3 assembly, 4 what stands beside them.
const ROWS: &[Row] = &[
    row(0, "linnet-ids", &[]),
    row(0, "linnet-env", &["linnet-ids"]),
    row(0, "linnet-subject", &[]),
    row(0, "linnet-wire", &["linnet-ids", "linnet-subject"]),
    row(0, "linnet-conf", &["linnet-ids", "linnet-subject"]),
    row(0, "linnet-jsapi", &["linnet-ids", "linnet-subject"]),
    row(0, "linnet-s2", &[]),
    row(1, "linnet-telemetry", &[]),
    row(1, "linnet-interest", &["linnet-telemetry"]),
    row(1, "linnet-auth", &["linnet-telemetry"]),
    row(1, "linnet-tls", &["linnet-auth", "linnet-telemetry"]),
    row(1, "linnet-links", &["linnet-interest", "linnet-telemetry"]),
    row(1, "linnet-seal", &[]),
    row(1, "linnet-wal", &["linnet-telemetry"]),
    row(1, "linnet-store", &["linnet-telemetry"]),
    row(1, "linnet-raft", &["linnet-telemetry"]),
    row(1, "linnet-assets", &["linnet-interest", "linnet-store", "linnet-telemetry"]),
    row(
        1,
        "linnet-replication",
        &["linnet-assets", "linnet-raft", "linnet-store", "linnet-telemetry", "linnet-wal"],
    ),
    row(1, "linnet-audit", &["linnet-telemetry"]),
    row(1, "linnet-archive", &[]),
    Row { name: "linnet-broker", layer: 2, also: &[], never: &["linnet-assets", "linnet-raft"] },
    row(2, "linnet-jetstream", &["linnet-broker"]),
    row(2, "linnet-monitor", &["linnet-broker", "linnet-jetstream"]),
    row(3, "linnet-server", &[]),
    row(3, "linnet-launch", &[]),
    row(3, "linnet-bench", &["linnet-launch"]),
    row(3, "linnet-up", &["linnet-launch"]),
    row(3, "linnet", &["linnet-bench", "linnet-launch", "linnet-server", "linnet-up"]),
    row(4, "linnet-tests", &[]),
    row(4, "linnet-sim", &[]),
    row(4, "xtask", &[]),
];

/// Every dependency between crates of the workspace that breaks the layers.
pub(crate) fn findings(metadata: &Metadata) -> Vec<String> {
    let mut found = Vec::new();
    for package in &metadata.packages {
        let Some(from) = find(&package.name) else {
            found.push(format!("{}: not in the table of layers (xtask/src/layers.rs)", package.name));
            continue;
        };
        // What only tests use shapes nothing.
        let shipped = package.dependencies.iter().filter(|d| d.kind.as_deref() != Some("dev"));
        for dependency in shipped.filter(|d| is_ours(metadata, &d.name)) {
            if let Some(why) = refusal(from, &dependency.name) {
                found.push(format!("{} must not use {}: {why}", package.name, dependency.name));
            }
        }
    }
    found
}

fn refusal(from: &Row, dependency: &str) -> Option<&'static str> {
    let to = find(dependency)?;
    if from.never.contains(&dependency) {
        return Some("its row forbids it");
    }
    match to.layer.cmp(&from.layer) {
        std::cmp::Ordering::Less => None,
        std::cmp::Ordering::Equal if from.also.contains(&dependency) => None,
        std::cmp::Ordering::Equal => Some("it is of the same layer and not named in the row"),
        std::cmp::Ordering::Greater => Some("it is of a higher layer"),
    }
}

fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

fn is_ours(metadata: &Metadata, name: &str) -> bool {
    metadata.packages.iter().any(|p| p.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(from: &str, to: &str) -> bool {
        refusal(find(from).unwrap(), to).is_some()
    }

    #[test]
    fn lower_layers_and_named_neighbours_are_allowed() {
        assert!(!refused("linnet-wal", "linnet-env"));
        assert!(!refused("linnet-replication", "linnet-wal"));
        assert!(!refused("linnet", "linnet-server"));
    }

    #[test]
    fn higher_layers_and_other_neighbours_are_refused() {
        assert!(refused("linnet-wal", "linnet-broker"));
        assert!(refused("linnet-wal", "linnet-store"));
        assert!(refused("linnet-broker", "linnet-assets"));
    }
}
