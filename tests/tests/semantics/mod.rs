//! What JetStream does in the cases people get wrong: a numbered list of rules, each with at least one test whose name
//! begins with its number, each against both servers.

mod api;
mod deliveries;
mod num_pending;
mod pulls_and_filters;
mod retention;
mod sequences_and_storage;
mod timers;

/// How many rules there are.
const ROWS: usize = 50;

const SOURCES: [&str; 6] = [
    include_str!("api.rs"),
    include_str!("deliveries.rs"),
    include_str!("num_pending.rs"),
    include_str!("pulls_and_filters.rs"),
    include_str!("retention.rs"),
    include_str!("sequences_and_storage.rs"),
];

#[test]
fn every_row_has_a_test() {
    let has_test = |row: &usize| {
        let test = format!("    async fn r{row:02}_");
        SOURCES.iter().any(|source| source.contains(&test))
    };
    let missing: Vec<usize> = (1..=ROWS).filter(|row| !has_test(row)).collect();
    assert!(missing.is_empty(), "no test for the rows {missing:?}");
    assert!(include_str!("timers.rs").contains("    async fn timers_"));
}
