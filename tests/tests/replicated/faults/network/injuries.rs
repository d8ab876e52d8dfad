//! What is done to the ways between servers.

use std::time::Duration;

use super::super::super::trio::Trio;
use super::{Network, Way};

#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Disturbance {
    /// A server is alone.
    Isolate,
    /// It sends, and hears nobody.
    Deaf,
    /// It hears, and nobody hears it.
    Mute,
    /// Two servers do not reach each other; the third reaches both.
    Bridge,
    /// One of two directions between two servers is gone.
    OneWay,
    /// A server is alone, again and again.
    Flap,
    /// Packets get lost everywhere.
    Lossy,
    /// All that one server is sent passes slowly.
    Slow,
    /// All packets come late, at another time each.
    Late,
    /// Connections of a server end, again and again.
    Resets,
}

const CUT: Way = Way { is_cut: true, loss: 0, rate: None, delay: Duration::ZERO, is_reset: false };

impl Disturbance {
    /// Does it for a while and heals it.
    pub(in super::super) async fn inflict(
        self,
        trio: &Trio,
        network: &Network,
        victims: &[String],
        random: &mut fastrand::Rng,
    ) {
        let (victim, others) = (&victims[0], &victims[1..]);
        // Shorter than a silent server is noticed, and longer.
        let duration = Duration::from_millis(random.u64(500..9000));
        eprintln!("{self:?} of {victims:?} for {duration:?}");
        match self {
            Self::Isolate => others.iter().for_each(|other| network.set_both(victim, other, CUT)),
            Self::Deaf => others.iter().for_each(|other| network.set(other, victim, CUT)),
            Self::Mute => others.iter().for_each(|other| network.set(victim, other, CUT)),
            Self::Bridge => network.set_both(victim, &others[0], CUT),
            Self::OneWay => network.set(victim, &others[0], CUT),
            Self::Lossy => {
                let way = Way { loss: random.u8(1..=30), ..Way::default() };
                everywhere(network, victims, way);
            }
            Self::Slow => {
                // One megabit in a second.
                let way = Way { rate: Some(128), ..Way::default() };
                others.iter().for_each(|other| network.set(other, victim, way));
            }
            Self::Late => {
                let way = Way { delay: Duration::from_millis(random.u64(25..250)), ..Way::default() };
                everywhere(network, victims, way);
            }
            Self::Flap | Self::Resets => {
                let way = match self {
                    Self::Flap => CUT,
                    _ => Way { is_reset: true, ..Way::default() },
                };
                for _ in 0..4 {
                    others.iter().for_each(|other| network.set_both(victim, other, way));
                    tokio::time::sleep(duration / 8).await;
                    network.heal(victims);
                    tokio::time::sleep(duration / 8).await;
                }
            }
        }
        if !matches!(self, Self::Flap | Self::Resets) {
            tokio::time::sleep(duration).await;
        }
        network.heal(&trio.names());
    }
}

fn everywhere(network: &Network, names: &[String], way: Way) {
    for (at, one) in names.iter().enumerate() {
        names[at + 1..].iter().for_each(|other| network.set_both(one, other, way));
    }
}
