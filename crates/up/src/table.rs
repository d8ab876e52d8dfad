//! Rows and columns of text.

use linnet_launch::State;

/// The columns of the table of servers.
const HEAD: [&str; 6] = ["NAME", "CLIENTS", "MONITORING", "PROCESS", "STATE", "PROGRAM"];

/// A server in the table.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) client: u16,
    pub(crate) monitor: u16,
    pub(crate) pid: u32,
    pub(crate) state: State,
    pub(crate) program: String,
}

/// The state in words.
pub(crate) fn words(state: State) -> String {
    match state {
        State::Running => "running".to_owned(),
        State::Paused => "paused".to_owned(),
        State::Ended(Some(status)) => format!("ended, {status}"),
        State::Ended(None) => "ended".to_owned(),
    }
}

/// The table, a line for each server.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        [
            row.name.clone(),
            format!("nats://127.0.0.1:{}", row.client),
            format!("http://127.0.0.1:{}", row.monitor),
            if matches!(row.state, State::Ended(_)) { "-".to_owned() } else { row.pid.to_string() },
            words(row.state),
            row.program.clone(),
        ]
    }));
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn columns_are_aligned_and_a_server_that_ended_has_no_process() {
        let row = |name: &str, state: State| Row {
            name: name.to_owned(),
            client: 14222,
            monitor: 18222,
            pid: 7,
            state,
            program: "linnet".to_owned(),
        };
        let rows = [
            row("n1", State::Running),
            row("n2", State::Paused),
            row("n10", State::Ended(Some(ExitStatus::from_raw(9)))),
        ];
        let expected = [
            "NAME  CLIENTS                 MONITORING              PROCESS  STATE                       PROGRAM",
            "n1    nats://127.0.0.1:14222  http://127.0.0.1:18222  7        running                     linnet",
            "n2    nats://127.0.0.1:14222  http://127.0.0.1:18222  7        paused                      linnet",
            "n10   nats://127.0.0.1:14222  http://127.0.0.1:18222  -        ended, signal: 9 (SIGKILL)  linnet",
        ];
        assert_eq!(render(&rows).lines().collect::<Vec<_>>(), expected);
    }
}
