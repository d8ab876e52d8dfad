//! Query parameters. Only the first value of a name counts, and an empty one is no value.

use axum::extract::Query;
use axum::http::Uri;
use serde::Deserialize;

use crate::answer::Refusal;

/// The parameters of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

/// Whether subscriptions are to be listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListSubs {
    /// No.
    #[default]
    No,
    /// Their subjects.
    Subjects,
    /// With everything known about each.
    Detail,
}

/// Which connections are asked for. A request in JSON has a number for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub(crate) enum ConnState {
    /// Open ones.
    #[default]
    Open,
    /// Closed ones.
    Closed,
    /// Both.
    Any,
}

impl TryFrom<i64> for ConnState {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        match number {
            0 => Ok(Self::Open),
            1 => Ok(Self::Closed),
            2 => Ok(Self::Any),
            _ => Err(format!("unknown connection state {number}")),
        }
    }
}

impl ListSubs {
    /// What two switches in JSON ask for; the second wins.
    pub(crate) fn of_switches(subjects: bool, detail: bool) -> Self {
        match (subjects, detail) {
            (_, true) => Self::Detail,
            (true, false) => Self::Subjects,
            (false, false) => Self::No,
        }
    }
}

impl Params {
    /// The parameters in a request's target.
    pub(crate) fn of(uri: &Uri) -> Self {
        Self(Query::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default())
    }

    /// The value of `name`, empty when there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// A switch, off when it is not given.
    pub(crate) fn bool(&self, name: &str) -> Result<bool, Refusal> {
        match self.text(name) {
            "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            text => Err(undecodable("boolean", name, "ParseBool", text, "invalid syntax")),
        }
    }

    /// A signed number, 0 when it is not given.
    pub(crate) fn int(&self, name: &str) -> Result<i64, Refusal> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(0);
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        text.parse().map_err(|_| undecodable("int", name, "Atoi", text, number_problem(digits)))
    }

    /// A number without sign, 0 when it is not given.
    pub(crate) fn uint64(&self, name: &str) -> Result<u64, Refusal> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(0);
        }
        let parsed = if text.starts_with('+') { None } else { text.parse().ok() };
        parsed.ok_or_else(|| undecodable("uint64", name, "ParseUint", text, number_problem(text)))
    }

    /// `subs`: a switch, or `detail`.
    pub(crate) fn subs(&self) -> Result<ListSubs, Refusal> {
        if self.text("subs").eq_ignore_ascii_case("detail") {
            return Ok(ListSubs::Detail);
        }
        Ok(if self.bool("subs")? { ListSubs::Subjects } else { ListSubs::No })
    }

    /// `state`.
    pub(crate) fn state(&self) -> Result<ConnState, Refusal> {
        let text = self.text("state");
        match text.to_ascii_lowercase().as_str() {
            "" | "open" => Ok(ConnState::Open),
            "closed" => Ok(ConnState::Closed),
            "any" | "all" => Ok(ConnState::Any),
            _ => Err(Refusal::bad_request(format!("Error decoding state for {text}"))),
        }
    }
}

fn number_problem(digits: &str) -> &'static str {
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if is_number { "value out of range" } else { "invalid syntax" }
}

/// The text of Go's number parser about a value it cannot read.
fn undecodable(kind: &str, name: &str, function: &str, text: &str, problem: &str) -> Refusal {
    Refusal::bad_request(format!(
        "Error decoding {kind} for '{name}': strconv.{function}: parsing {text:?}: {problem}"
    ))
}

/// The part of a sorted list that a page shows.
pub(crate) fn cut<T>(list: Vec<T>, offset: i64, limit: i64) -> Vec<T> {
    let offset = usize::try_from(offset).unwrap_or(0);
    list.into_iter().skip(offset).take(usize::try_from(limit).unwrap_or(0)).collect()
}

/// Entries of a page that asks for no number of them.
pub(crate) const LIMIT_DEFAULT: i64 = 1024;

/// A limit, the default standing in for none.
pub(crate) fn limit_or_default(limit: i64) -> i64 {
    if limit <= 0 { LIMIT_DEFAULT } else { limit }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::of(&format!("/connz?{query}").parse().unwrap())
    }

    fn error<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
        result.unwrap_err().text
    }

    #[test]
    fn first_value_counts_and_empty_is_absent() {
        let p = params("a=1&a=2&b=&c=x%2Ey+z");
        assert_eq!(p.int("a"), Ok(1));
        assert_eq!(p.int("b"), Ok(0));
        assert_eq!(p.text("c"), "x.y z");
        assert_eq!(p.bool("missing"), Ok(false));
    }

    #[test]
    fn values_that_cannot_be_read_are_named_in_gos_words() {
        let p = params("subs=maybe&limit=x&big=99999999999999999999&cid=-1&state=xx&sign=%2B1");
        assert_eq!(
            error(p.subs()),
            "Error decoding boolean for 'subs': strconv.ParseBool: parsing \"maybe\": invalid syntax"
        );
        assert_eq!(
            error(p.int("limit")),
            "Error decoding int for 'limit': strconv.Atoi: parsing \"x\": invalid syntax"
        );
        assert_eq!(
            error(p.int("big")),
            "Error decoding int for 'big': strconv.Atoi: parsing \"99999999999999999999\": value out of range"
        );
        assert_eq!(
            error(p.uint64("cid")),
            "Error decoding uint64 for 'cid': strconv.ParseUint: parsing \"-1\": invalid syntax"
        );
        assert_eq!(error(p.state()), "Error decoding state for xx");
        assert_eq!(p.int("sign"), Ok(1));
        assert!(p.uint64("sign").is_err());
    }

    #[test]
    fn detail_and_states_are_read_in_any_case() {
        assert_eq!(params("subs=Detail").subs(), Ok(ListSubs::Detail));
        assert_eq!(params("subs=1").subs(), Ok(ListSubs::Subjects));
        assert_eq!(params("state=CLOSED").state(), Ok(ConnState::Closed));
        assert_eq!(params("state=all").state(), Ok(ConnState::Any));
    }

    #[test]
    fn pages_stay_inside_the_list() {
        assert_eq!(cut(vec![1, 2, 3], 1, 1), [2]);
        assert_eq!(cut(vec![1, 2, 3], 5, 10), [0; 0]);
        assert_eq!(cut(vec![1, 2, 3], -5, 2), [1, 2]);
        assert_eq!(limit_or_default(-1), 1024);
    }
}
