use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use linnet_launch::Place;
use parking_lot::Mutex;

use super::Way;

/// A bridge, and a namespace for each server. All go when this is dropped.
pub(in super::super) struct Namespaces {
    /// What names begin with.
    name: String,
    net: [u8; 3],
    servers: usize,
    ways: Mutex<BTreeMap<(usize, usize), Way>>,
}

impl Namespaces {
    pub(super) fn new(servers: usize) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces need root".to_owned());
        }
        let name = format!("ln{:06x}", fastrand::u32(..1 << 24));
        let net = [10, fastrand::u8(200..), fastrand::u8(..)];
        let new = Self { name, net, servers, ways: Mutex::default() };
        new.build()?;
        Ok(new)
    }

    fn build(&self) -> Result<(), String> {
        let bridge = &self.name;
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add {}/24 dev {bridge}", self.address(255 - 1)))?;
        ip(&format!("link set {bridge} up"))?;
        for at in 0..self.servers {
            let namespace = self.namespace(at);
            ip(&format!("netns add {namespace}"))?;
            ip(&format!("link add {namespace} type veth peer name eth0 netns {namespace}"))?;
            ip(&format!("link set {namespace} master {bridge} up"))?;
            ip(&format!("-n {namespace} addr add {}/24 dev eth0", self.address(1 + at)))?;
            ip(&format!("-n {namespace} link set lo up"))?;
            ip(&format!("-n {namespace} link set eth0 up"))?;
            self.filter(at)?;
        }
        Ok(())
    }

    fn namespace(&self, at: usize) -> String {
        format!("{}-{at}", self.name)
    }

    fn address(&self, host: usize) -> Ipv4Addr {
        let [a, b, c] = self.net;
        Ipv4Addr::new(a, b, c, u8::try_from(host).unwrap())
    }

    pub(super) fn place(&self, at: usize) -> Place {
        let launcher = ["ip", "netns", "exec", &self.namespace(at)].map(Into::into).to_vec();
        Place { host: self.address(1 + at), launcher }
    }

    pub(super) fn set(&self, from: usize, to: usize, way: Way) {
        assert!(way.delay.is_zero(), "the kernel of a namespace cannot hold packets back here");
        self.ways.lock().insert((from, to), way);
        self.filter(to).unwrap();
    }

    /// Has a server get what the ways to it let through.
    fn filter(&self, at: usize) -> Result<(), String> {
        let mut rules = String::from("table ip faults\ndelete table ip faults\ntable ip faults {\n");
        rules.push_str("chain input {\ntype filter hook input priority 0; policy accept;\n");
        for ((from, _), way) in self.ways.lock().iter().filter(|((_, to), _)| *to == at) {
            let packets = format!("ip saddr {}", self.address(1 + from));
            if way.is_cut {
                let _ = writeln!(rules, "{packets} drop");
            }
            if way.is_reset {
                let _ = writeln!(rules, "{packets} meta l4proto tcp reject with tcp reset");
            }
            if way.loss > 0 {
                let _ = writeln!(rules, "{packets} numgen random mod 100 < {} drop", way.loss);
            }
            if let Some(rate) = way.rate {
                let _ =
                    writeln!(rules, "{packets} limit rate over {rate} kbytes/second burst 32 kbytes drop");
            }
        }
        rules.push_str("}\n}\n");
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &self.namespace(at), "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("ip: {error}"))?;
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        let output = nft.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or_else(|| format!("nft: {}", said.trim()))
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // What was not made is not there to be removed.
        for at in 0..self.servers {
            let _ = ip(&format!("netns del {}", self.namespace(at)));
        }
        let _ = ip(&format!("link del {}", self.name));
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or_else(|| format!("ip {arguments}: {}", said.trim()))
}
