use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use linnet_launch::{ClusterSpec, MemberPorts, lasting_ports};
use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use super::Way;

/// Nobody listens there: servers reach each other only where they are told to.
const NOWHERE: &str = "advertise: \"127.0.0.1:1\"";
/// A packet that is lost is sent again after this.
const AGAIN: Duration = Duration::from_millis(200);
/// As much as one packet carries.
const PACKET: usize = 1448;
/// Packets on their way at most.
const ON_THE_WAY: usize = 256;

/// A listener for each server and each other one that it dials.
pub(in super::super) struct Proxies {
    ports: Vec<MemberPorts>,
    detours: Vec<(usize, usize, u16)>,
    ways: BTreeMap<(usize, usize), Arc<Shared>>,
}

#[derive(Default)]
struct Shared {
    way: Mutex<Way>,
    has_changed: Condvar,
}

impl Proxies {
    pub(super) fn new(servers: usize) -> Self {
        let free = lasting_ports(3 * servers).unwrap();
        let ports: Vec<MemberPorts> = free
            .chunks_exact(3)
            .map(|p| MemberPorts { client: p[0], cluster: p[1], monitor: p[2] })
            .collect();
        let pairs = || (0..servers).flat_map(|one| (0..servers).map(move |other| (one, other)));
        let pairs = || pairs().filter(|(one, other)| one != other);
        let ways: BTreeMap<_, _> = pairs().map(|pair| (pair, Arc::new(Shared::default()))).collect();
        let detours = pairs()
            .map(|(from, to)| {
                let there = [(from, to), (to, from)].map(|pair| ways[&pair].clone());
                (from, to, listen(ports[to].cluster, there))
            })
            .collect();
        Self { ports, detours, ways }
    }

    pub(super) fn describe(&self, spec: ClusterSpec) -> ClusterSpec {
        let spec = spec.ports(|at| self.ports[at]).cluster_extra(NOWHERE);
        self.detours
            .iter()
            .fold(spec, |spec, (from, to, port)| spec.detour(format!("n{from}"), format!("n{to}"), *port))
    }

    pub(super) fn set(&self, from: usize, to: usize, way: Way) {
        let shared = &self.ways[&(from, to)];
        *shared.way.lock() = way;
        shared.has_changed.notify_all();
    }
}

impl Shared {
    /// Waits while nothing gets through; how the way is then.
    fn open(&self) -> Way {
        let mut way = self.way.lock();
        while way.is_cut {
            self.has_changed.wait(&mut way);
        }
        *way
    }
}

/// A port from which everything is passed on to another one, and back.
fn listen(target: u16, [there, back]: [Arc<Shared>; 2]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let Ok(near) = near else { return };
            // A connection takes packets of both directions to be made.
            there.open();
            back.open();
            let Ok(far) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], target))) else { continue };
            pass(near.try_clone().unwrap(), far.try_clone().unwrap(), there.clone());
            pass(far, near, back.clone());
        }
    });
    port
}

/// Takes what comes apart into packets, each with the moment at which it is there.
fn pass(mut from: TcpStream, to: TcpStream, shared: Arc<Shared>) {
    let (sender, packets) = sync_channel(ON_THE_WAY);
    let way = shared.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; PACKET];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let due = Instant::now() + lateness(&way.open());
            if sender.send((due, buffer[..count].to_vec())).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || deliver(to, &packets, &shared));
}

#[allow(clippy::disallowed_methods, reason = "packets are late, nothing is waited for")]
fn deliver(mut to: TcpStream, packets: &Receiver<(Instant, Vec<u8>)>, shared: &Shared) {
    while let Ok((due, packet)) = packets.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let way = shared.open();
        if let Some(rate) = way.rate {
            std::thread::sleep(Duration::from_secs(1) * u32::try_from(packet.len()).unwrap() / (rate << 10));
        }
        if way.is_reset || to.write_all(&packet).is_err() {
            break;
        }
    }
    // Whoever is still there is told.
    let _ = to.shutdown(Shutdown::Both);
}

fn lateness(way: &Way) -> Duration {
    let jitter = way.delay.mul_f64(fastrand::f64());
    let is_lost = fastrand::u8(..100) < way.loss;
    way.delay + jitter + if is_lost { AGAIN } else { Duration::ZERO }
}
