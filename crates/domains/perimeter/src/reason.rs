//! Why frames are dropped.

/// Why a frame was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The phase lets nothing through.
    Closed,
    /// Too short, too long, or lengths that disagree.
    Length,
    /// An Ethernet type other than IPv6's, or another version.
    NotIpv6,
    /// A next header other than TCP, UDP and ICMPv6.
    Protocol,
    /// Not what neighbour discovery needs here: type, code, option, target.
    Neighbour,
    /// A checksum that does not fit, or none.
    Checksum,
    /// Source or destination port.
    Port,
    /// No datagram of the kind that may go this way.
    Datagram,
    /// Flags that no TCP segment has, or that must not go out.
    Flags,
    /// Hop limit, traffic class or flow label.
    Header,
    /// Not an address that may be the source.
    Sender,
    /// Not an address that may be the destination.
    Receiver,
    /// Needs an open gate.
    Gate,
}
