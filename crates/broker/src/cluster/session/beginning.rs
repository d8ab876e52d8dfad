//! The handshake of a route: what it wants done is done here.

use std::sync::atomic::Ordering;

use linnet_links::{Admission, Closing, Effect, Established, Mode, Slot};
use linnet_wire::route::{Form, Op};
use linnet_wire::{ServerConnect, ServerInfo, encode};

use super::super::route::{Bound, LINE_FACTOR};
use super::{RouteSession, Stop};
use crate::close::CloseReason;

impl RouteSession {
    /// Who the other server says it is, for the log and to notice ourselves, and what it shows.
    pub(super) fn note_peer(&self, op: &Op<'_>) {
        match op {
            Op::Info(json) => {
                if let Ok(info) = ServerInfo::parse(json) {
                    self.route.conn.update_client(|client| client.name = info.server_id);
                }
            }
            Op::Connect(json) => {
                if let Ok(connect) = ServerConnect::parse(json) {
                    self.route.note_credentials(connect.user, connect.pass);
                }
            }
            _ => {}
        }
    }

    pub(super) fn follow(&mut self, effects: Vec<Effect>) -> Result<(), Stop> {
        for effect in effects {
            match effect {
                Effect::Send(bytes) => self.publisher.push(&self.route.conn, &bytes),
                Effect::Compress(mode) => self.compress(mode),
                Effect::Adopt(name) => self.adopt(name),
                Effect::Established(established) => self.establish(&established)?,
                Effect::Close(closing) => return Err(self.closing(closing)),
            }
        }
        Ok(())
    }

    /// Everything behind what was said so far is compressed, in both directions.
    pub(super) fn compress(&mut self, mode: Mode) {
        self.decoder = Some(Box::default());
        let since_start = self.shared.clock.mono().since(self.route.conn.start_mono);
        self.route.compress(mode, &self.cluster.config().rtt_thresholds, since_start);
    }

    pub(super) fn adopt(&self, name: linnet_links::ClusterName) {
        tracing::info!("Cluster name updated to {}", name.name);
        self.shared.info.write().cluster.clone_from(&name.name);
        let others = self.cluster.peers.lock().adopt(name, &self.peer_id());
        let routes = self.cluster.routes.lock();
        for route in others.iter().filter_map(|conn| routes.get(conn)) {
            route.conn.close(CloseReason::ClusterNameConflict);
        }
    }

    pub(super) fn establish(&mut self, established: &Established) -> Result<(), Stop> {
        let info = &established.info;
        self.route.bind(Bound {
            server_id: info.server_id.clone(),
            server_name: info.server_name.clone(),
            slot: established.slot.clone(),
            form: Form {
                has_account: !matches!(established.slot, Slot::Account(_)),
                has_origin_in_removal: info.lnocu || info.ln,
                max_line: self.shared.config.load().max_control_line * LINE_FACTOR,
            },
        });
        let admission = self.cluster.admit(&self.shared, &self.route, established, self.origin);
        if admission == Admission::Duplicate {
            return Err(Stop::silent(CloseReason::DuplicateRoute));
        }
        self.established = Some(established.slot.clone());
        self.is_quiet = false;
        self.route.note_told(info.import.as_ref(), info.export.as_ref());
        self.count_finished();
        self.route.agree(established.compression);
        tracing::info!("{} - Route connection created", self.prefix());
        if matches!(established.slot, Slot::Pool(_)) && self.url.is_some() {
            // The answer proves that the other side lets us in.
            self.owes_next_place = true;
            self.publisher.push(&self.route.conn, encode::PING);
        }
        Ok(())
    }

    /// The connection is not one of those in their handshakes any more.
    pub(super) fn count_finished(&mut self) {
        if std::mem::take(&mut self.is_counted) {
            self.cluster.unfinished.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn closing(&self, closing: Closing) -> Stop {
        let (reason, said) = match closing {
            Closing::Said(text) if text == "Authorization Violation" => {
                self.complain("authentication error");
                (CloseReason::AuthenticationFailure, Some(text))
            }
            Closing::Said(text) => (CloseReason::ProtocolViolation, Some(text)),
            Closing::ClusterNameConflict => (CloseReason::ClusterNameConflict, None),
            Closing::DuplicateRoute => (CloseReason::DuplicateRoute, None),
            Closing::DuplicateServerName => {
                let name = &self.shared.identity.name;
                self.complain(&format!("Remote server has a duplicate name: \"{name}\""));
                (CloseReason::DuplicateServerName, None)
            }
            Closing::ProtocolViolation => (CloseReason::ProtocolViolation, None),
            Closing::Told(text) => {
                self.complain(&format!("Router Error {text}"));
                (CloseReason::ParseError, None)
            }
        };
        Stop { reason, said }
    }
}
