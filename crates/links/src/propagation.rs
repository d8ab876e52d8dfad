//! Who is told of interest, and where messages go on to, between servers (cluster protocols, "Propagation matrix").
//!
//! Clusters are full meshes, so interest and messages of a route stop at the server they reach; what comes from other
//! clusters goes on inside this one; leafnodes hang below the servers they dial.

/// Where a subscription is, or a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A client of this server, or a service inside it.
    Local,
    /// A service inside this server that stands in for another account's; only this server's clients are to find it.
    Import,
    /// A server of the same cluster.
    Route,
    /// A server of the same cluster, on behalf of a leafnode's cluster.
    RouteOfLeaf,
    /// Another cluster.
    Gateway,
    /// A leafnode that dialled this server.
    Leaf,
    /// The server that this one dialled as a leafnode.
    Upstream,
}

/// Who may be told, or sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// The other servers of the cluster.
    Route,
    /// Other clusters.
    Gateway,
    /// Leafnodes that dialled this server.
    Leaf,
    /// Servers that this one dialled as a leafnode.
    Upstream,
}

/// Whether something is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// To none of them.
    No,
    /// To all of them.
    Yes,
    /// To all but those of the cluster that it comes from, and but those that want to be isolated from others like them.
    OtherClusters,
    /// To all but the connection that it comes from.
    Others,
}

/// What a message is, as far as it matters for its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// Any message.
    Message,
    /// The answer of a service that was imported (`_R_`).
    ImportReply,
    /// An answer on its way back through gateways (`_GR_`).
    GatewayReply,
    /// For a member of a queue group that the sender named and nobody here is.
    QueueFallback,
}

/// Who is told of interest at a place.
#[must_use]
pub const fn interest(from: Place, to: Neighbour) -> Passing {
    match (from, to) {
        (Place::Local, _) => Passing::Yes,
        (Place::Import, Neighbour::Leaf | Neighbour::Upstream) => Passing::Yes,
        (Place::Import, _) => Passing::No,
        (Place::Route, Neighbour::Gateway | Neighbour::Leaf) => Passing::Yes,
        (Place::RouteOfLeaf, Neighbour::Gateway) => Passing::Yes,
        (Place::RouteOfLeaf, Neighbour::Leaf) => Passing::OtherClusters,
        (Place::Gateway, Neighbour::Leaf) => Passing::Yes,
        (Place::Route | Place::RouteOfLeaf | Place::Gateway, _) => Passing::No,
        (Place::Leaf, Neighbour::Leaf) => Passing::OtherClusters,
        (Place::Leaf, _) => Passing::Yes,
        (Place::Upstream, Neighbour::Leaf) => Passing::OtherClusters,
        (Place::Upstream, _) => Passing::No,
    }
}

/// Who is told of the interest (`$LDS.…`) by which leafnodes that form a loop are found: it goes up whatever its place,
/// or a loop through a server that was dialled would not close.
#[must_use]
pub const fn loop_interest(from: Place, to: Neighbour) -> Passing {
    match (from, to) {
        (Place::Upstream, Neighbour::Upstream) => Passing::Others,
        (_, Neighbour::Upstream) => Passing::Yes,
        _ => interest(from, to),
    }
}

/// Where a message from a place goes on to, given that somebody is interested there.
#[must_use]
pub const fn message(from: Place, to: Neighbour, matter: Matter) -> Passing {
    match (from, to) {
        (Place::Local | Place::Import, _) => Passing::Yes,
        (Place::Route | Place::RouteOfLeaf, Neighbour::Route) => match matter {
            Matter::Message => Passing::No,
            Matter::ImportReply | Matter::GatewayReply | Matter::QueueFallback => Passing::Yes,
        },
        (Place::Route | Place::RouteOfLeaf, Neighbour::Gateway) => Passing::No,
        (Place::Route, Neighbour::Leaf) => Passing::Yes,
        (Place::RouteOfLeaf, Neighbour::Leaf) => Passing::OtherClusters,
        (Place::Route | Place::RouteOfLeaf, Neighbour::Upstream) => match matter {
            Matter::ImportReply => Passing::Yes,
            _ => Passing::No,
        },
        (Place::Gateway, Neighbour::Gateway) => match matter {
            Matter::GatewayReply => Passing::Yes,
            _ => Passing::No,
        },
        (Place::Gateway, _) => Passing::Yes,
        (Place::Leaf, Neighbour::Leaf) => Passing::OtherClusters,
        (Place::Leaf, _) => Passing::Yes,
        (Place::Upstream, Neighbour::Route) => Passing::No,
        (Place::Upstream, Neighbour::Upstream) => Passing::Others,
        (Place::Upstream, _) => Passing::Yes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: [Neighbour; 4] = [Neighbour::Route, Neighbour::Gateway, Neighbour::Leaf, Neighbour::Upstream];

    /// `y` yes, `-` no, `c` other clusters, `o` others; in order of [`TO`].
    fn row(passing: impl Fn(Neighbour) -> Passing) -> String {
        let letter = |to| match passing(to) {
            Passing::Yes => 'y',
            Passing::No => '-',
            Passing::OtherClusters => 'c',
            Passing::Others => 'o',
        };
        TO.map(letter).into_iter().collect()
    }

    #[test]
    fn interest_is_told_as_the_table_says() {
        for (from, expected) in [
            (Place::Local, "yyyy"),
            (Place::Import, "--yy"),
            (Place::Route, "-yy-"),
            (Place::RouteOfLeaf, "-yc-"),
            (Place::Gateway, "--y-"),
            (Place::Leaf, "yycy"),
            (Place::Upstream, "--c-"),
        ] {
            assert_eq!(row(|to| interest(from, to)), expected, "{from:?}");
        }
    }

    #[test]
    fn interest_that_finds_loops_goes_up_from_everywhere() {
        for (from, expected) in [
            (Place::Local, "yyyy"),
            (Place::Route, "-yyy"),
            (Place::RouteOfLeaf, "-ycy"),
            (Place::Gateway, "--yy"),
            (Place::Leaf, "yycy"),
            (Place::Upstream, "--co"),
        ] {
            assert_eq!(row(|to| loop_interest(from, to)), expected, "{from:?}");
        }
    }

    #[test]
    fn messages_go_on_as_the_table_says() {
        for (from, matter, expected) in [
            (Place::Local, Matter::Message, "yyyy"),
            (Place::Route, Matter::Message, "--y-"),
            (Place::Route, Matter::ImportReply, "y-yy"),
            (Place::Route, Matter::GatewayReply, "y-y-"),
            (Place::Route, Matter::QueueFallback, "y-y-"),
            (Place::RouteOfLeaf, Matter::Message, "--c-"),
            (Place::Gateway, Matter::Message, "y-yy"),
            (Place::Gateway, Matter::GatewayReply, "yyyy"),
            (Place::Leaf, Matter::Message, "yycy"),
            (Place::Upstream, Matter::Message, "-yyo"),
        ] {
            assert_eq!(row(|to| message(from, to, matter)), expected, "{from:?} {matter:?}");
        }
    }
}
