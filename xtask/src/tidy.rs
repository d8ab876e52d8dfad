//! `cargo xtask tidy`: rules the compiler does not know.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::{layers, links, metadata, text};

/// Fails with every finding.
pub(crate) fn run() -> anyhow::Result<()> {
    let metadata = metadata::load()?;
    let mut found = layers::findings(&metadata);
    for package in &metadata.packages {
        let manifest = fs::read_to_string(&package.manifest_path)
            .with_context(|| format!("cannot read {}", package.manifest_path.display()))?;
        if !manifest.contains("[lints]\nworkspace = true") {
            found.push(format!("{}: does not take the lints of the workspace", package.name));
        }
    }
    let files = files(&metadata.workspace_root)?;
    let mut checked = 0;
    for path in &files {
        // What is not text has no rules; what is listed but gone is a change in progress.
        let Ok(content) = fs::read_to_string(metadata.workspace_root.join(path)) else { continue };
        checked += 1;
        found.extend(text::findings(path, &content));
        found.extend(links::findings(&metadata.workspace_root, path, &content));
    }
    if found.is_empty() {
        println!("tidy: {} crates and {checked} files are in order", metadata.packages.len());
        return Ok(());
    }
    for finding in &found {
        eprintln!("{finding}");
    }
    bail!("tidy: {} findings", found.len())
}

/// Every file of the working tree that is, or could be, committed.
fn files(root: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("cannot run git ls-files")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}
