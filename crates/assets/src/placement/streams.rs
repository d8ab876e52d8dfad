//! New streams.

use linnet_jsapi::ApiError;

use super::choose::Choice;
use super::group::{Demand, Origin, Plan, Planner};
use super::refusal::Refusal;

impl Planner<'_> {
    /// Members for a new stream.
    ///
    /// # Errors
    /// 10005 with the reasons of all clusters that were tried.
    pub fn create_stream(&self, demand: &Demand<'_>, origin: Origin<'_>) -> Result<Plan, ApiError> {
        let mut refusal = Refusal::default();
        for cluster in origin.clusters(demand) {
            match self.choose(&Choice { cluster, demand, keep: &[], members: &[], avoid: &[] }) {
                Ok(peers) => {
                    let preferred = self.preferred(&peers, None);
                    return Ok(Plan { cluster: cluster.to_owned(), peers, preferred });
                }
                Err(reasons) => refusal.add(reasons),
            }
        }
        Err(refusal.into())
    }
}
