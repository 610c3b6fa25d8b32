//! Why frames are dropped.

/// Why a frame was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The phase lets nothing through.
    Closed,
    /// The frame is too short or too long, or its lengths disagree.
    Length,
    /// The Ethernet type is not IPv6's, or the version is another.
    NotIpv6,
    /// The next header is none of TCP, UDP and ICMPv6.
    Protocol,
    /// The message is not what neighbour discovery needs here: type, code, option, target.
    Neighbour,
    /// The checksum does not fit, or there is none.
    Checksum,
    /// The source or destination port may not be there.
    Port,
    /// The datagram is of no kind that may go this way.
    Datagram,
    /// No TCP segment has these flags, or they must not go out.
    Flags,
    /// Hop limit, traffic class or flow label is another than it has to be.
    Header,
    /// The source is no address that may send this.
    Sender,
    /// The destination is no address that may get this.
    Receiver,
    /// The frame needs an open gate.
    Gate,
}
