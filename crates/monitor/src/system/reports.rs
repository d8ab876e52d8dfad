//! The reports that are asked for over NATS: the monitoring pages, about the server or about an account.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::reply::{Failure, raw};
use super::request::Body;
use crate::answer::Refusal;
use crate::monitor::Monitor;
use crate::{accountz, accstatz, connz, debug, healthz, ipqueuesz, jsz, links, raftz, routez, subsz, varz};

/// A report in JSON.
type Report = Result<Box<RawValue>, Failure>;

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Failed(refusal.text)
    }
}

fn read<T: DeserializeOwned>(body: &Body) -> Result<T, Failure> {
    body.read().map_err(Failure::Unreadable)
}

/// `/healthz` with its status, which HTTP has in its own place.
#[derive(Serialize)]
struct Health {
    #[serde(flatten)]
    body: crate::health::Body,
    status_code: u16,
}

/// Answer to a request for a profile of the process.
#[derive(Serialize)]
struct Profile {
    profile: &'static str,
    error: String,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct ProfileQuestion {
    name: String,
}

impl Profile {
    /// No profiles are taken here, so none of any name is found.
    fn none(question: &ProfileQuestion) -> Self {
        let error = match question.name.as_str() {
            "" => "Profile name not specified".to_owned(),
            name => format!("Profile {name:?} not found"),
        };
        Self { profile: "", error }
    }
}

/// A report about the server.
pub(crate) async fn of_server(monitor: &Monitor, verb: &str, body: &Body) -> Report {
    Ok(match verb {
        "VARZ" => raw(&varz::report(monitor)),
        "CONNZ" => raw(&connz::report(monitor, &read(body)?)?),
        "ROUTEZ" => raw(&routez::report(monitor, &read(body)?)),
        "GATEWAYZ" => raw(&links::gateways(monitor)),
        "LEAFZ" => raw(&links::leafnodes(monitor)),
        "SUBSZ" => raw(&subsz::report(monitor, &read(body)?)?),
        "ACCOUNTZ" => raw(&accountz::report(monitor, &read(body)?)?),
        "JSZ" => {
            let question = read(body)?;
            if jsz::is_left_to_leader(monitor, &question) {
                return Err(Failure::Silence);
            }
            raw(&jsz::report(monitor, &question).await)
        }
        "HEALTHZ" => {
            let answer = healthz::report(monitor, &read(body)?).await;
            raw(&Health { body: answer.body, status_code: answer.code })
        }
        "PROFILEZ" => raw(&Profile::none(&read(body)?)),
        "EXPVARZ" => raw(&debug::expvars()),
        "IPQUEUESZ" => raw(&ipqueuesz::report(monitor, &read(body)?)),
        "RAFTZ" => raw(&raftz::report(monitor, &read(body)?).await.unwrap_or_default()),
        _ => return Err(Failure::Silence),
    })
}

/// A report about an account.
pub(crate) async fn of_account(monitor: &Monitor, account: &str, verb: &str, body: &Body) -> Report {
    Ok(match verb {
        "CONNZ" => {
            let question: connz::Question = read(body)?;
            raw(&connz::report(monitor, &question.for_account(account))?)
        }
        "SUBSZ" => {
            let question: subsz::Question = read(body)?;
            raw(&subsz::report(monitor, &question.for_account(account))?)
        }
        "LEAFZ" => raw(&links::leafnodes(monitor)),
        "JSZ" => raw(&jsz::of_account(monitor, account, &read(body)?).await?),
        "INFO" => raw(&accountz::named(monitor, account)?),
        "STATZ" => {
            let question: accstatz::Question = read(body)?;
            statz(monitor, accstatz::Question { accounts: [account.to_owned()].into(), ..question })?
        }
        _ => return Err(Failure::Silence),
    })
}

/// Connections and traffic of all accounts, or of those named.
pub(crate) fn of_accounts(monitor: &Monitor, body: &Body) -> Report {
    statz(monitor, read(body)?)
}

/// Nothing is said where there is nothing to say.
fn statz(monitor: &Monitor, question: accstatz::Question) -> Report {
    let report = accstatz::report(monitor, &question);
    if report.account_statz.is_empty() && !question.include_unused {
        return Err(Failure::Silence);
    }
    Ok(raw(&report))
}
