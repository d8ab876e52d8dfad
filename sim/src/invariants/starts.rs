//! A consumer begins where its deliver policy says.

use linnet_assets::Entry;
use linnet_jsapi::policies::DeliverPolicy;

use super::{Check, broken};
use crate::facts::StreamFacts;

/// An entry that makes a consumer is what a client asked for, and says where that begins.
pub(crate) fn is_as_asked(stream: &StreamFacts, payload: &[u8]) -> Check {
    let Ok(Entry::ConsumerAttach(attach)) = Entry::decode(payload) else { return Ok(()) };
    let Some(state) = attach.state.filter(|_| !stream.is_lossy) else { return Ok(()) };
    let config = &attach.config;
    // Where another stream goes on is its own affair.
    if config.sourcing {
        return Ok(());
    }
    let mut asked = stream.wishes.iter().filter(|wish| {
        let wanted = &wish.config;
        wanted.name == attach.name
            && wanted.deliver_policy == config.deliver_policy
            && wanted.opt_start_seq == config.opt_start_seq
            && wanted.opt_start_time == config.opt_start_time
            && wanted.filters() == config.filters()
    });
    // What this means is the newest of each subject where its entry stands: the model looks for them itself.
    let any = config.deliver_policy == DeliverPolicy::LastPerSubject;
    let start = state.delivered.stream + 1;
    if asked.any(|wish| any || wish.starts.iter().any(|(low, high)| (*low..=*high).contains(&start))) {
        return Ok(());
    }
    let text = format!("{} > {}: begins at {start}, asked was {config:?}", stream.name, attach.name);
    broken("starts", text)
}
