use std::sync::Arc;

use crate::broker::Shared;
use crate::router::push_and_flush;

/// Sends INFO to the clients that understand it.
pub(crate) fn tell(shared: &Arc<Shared>) {
    for conn in shared.registry.all() {
        if conn.client().wants_info {
            let mut info = shared.info.read().clone();
            info.client_id = conn.cid();
            info.client_ip = conn.peer().ip().to_string();
            let mut line = Vec::new();
            info.encode(&mut line);
            push_and_flush(shared, &conn, &line);
        }
    }
}
