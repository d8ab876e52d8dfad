use std::time::Duration;

use serde::Deserialize;

use super::{Cluster, Member};
use crate::{Error, Result, State, poll_until};

/// What is read of `/routez`.
#[derive(Deserialize)]
struct Routes {
    #[serde(default)]
    routes: Vec<Route>,
}

#[derive(Deserialize)]
struct Route {
    #[serde(default)]
    remote_name: String,
}

impl Cluster {
    /// Waits until every server that runs has all its routes to all others that run, and none to those that have ended.
    pub fn wait_formed(&mut self, timeout: Duration) -> Result<()> {
        if self.members.len() < 2 {
            return Ok(());
        }
        let give_up = self.spec.give_up.clone();
        let is_given_up =
            || give_up.as_ref().is_some_and(|flag| flag.load(std::sync::atomic::Ordering::Relaxed));
        let mut missing = None;
        poll_until(timeout, || {
            missing = self.first_missing();
            missing.is_none() || is_given_up()
        });
        match missing {
            None => Ok(()),
            Some(_) if is_given_up() => Err(Error::GivenUp),
            Some(missing) => Err(Error::NotFormed { waited: timeout, missing }),
        }
    }

    fn first_missing(&mut self) -> Option<String> {
        let wanted = self.spec.routes_per_pair();
        let states: Vec<State> = self.members.iter_mut().map(Member::state).collect();
        let running = self.members.iter().zip(&states).filter(|(_, state)| **state == State::Running);
        for (member, _) in running {
            let name = &member.name;
            let Some(remotes) = remotes(member) else {
                return Some(format!("{name} does not answer /routez"));
            };
            for (other, state) in self.members.iter().zip(&states).filter(|(other, _)| other.name != *name) {
                let found = remotes.iter().filter(|remote| **remote == other.name).count();
                let is_right = match state {
                    State::Running => found == wanted,
                    State::Ended(_) => found == 0,
                    // Whether its routes are given up depends on how long it is paused.
                    State::Paused => true,
                };
                if !is_right {
                    return Some(format!("{name} has {found} to {}, wanted are {wanted}", other.name));
                }
            }
        }
        None
    }
}

/// Whom the routes of a server lead to, a name for each route.
fn remotes(member: &Member) -> Option<Vec<String>> {
    let page = member.server.monitor_get("/routez").ok()?;
    let routes: Routes = serde_json::from_str(&page.body).ok()?;
    Some(routes.routes.into_iter().map(|route| route.remote_name).collect())
}
