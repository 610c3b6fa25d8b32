//! TCP of one gate: smoltcp, and in front of it a door that costs the node no memory.
//!
//! A SYN is answered from a keyed hash of its port, its number and the size of segment that it wants (a SYN cookie) and
//! forgotten. Only the first
//! segment that carries data, behind an acknowledgement that proves the peer saw the answer, makes a
//! connection: one of [`PENDING`] if a place is free, or the oldest one's place if the segment presents
//! the token. So neither a flood of SYNs nor slow connections can keep out a peer whose first
//! segment holds its request line; there are no half-open connections to count or to time out.
//!
//! smoltcp sees a connection only then: it is shown a SYN as if just received, and from there on the
//! difference between its sequence number and the cookie is added and subtracted at the edge.
//! Neither window scaling nor selective acknowledgement is offered, as usual with cookies.

use calls::rules::Rules;
use crypto::Secret;
use link::MAX_FRAME;
use shm::Micros;
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage},
    socket::tcp::{Socket, SocketBuffer},
    time::Instant,
    wire::{EthernetAddress, IpAddress, IpCidr, TcpControl, TcpRepr, TcpSeqNumber},
};
use wire::CLAIM_PORT;

use crate::device::{Connection, Device, Ends, Incoming, MSS, Outlet, Ring, SMALL, Segment, build_segment, incoming};

/// Connections that may be on their way to presenting the token.
pub const PENDING: usize = 4;
const RECEIVE: usize = 2048;
const SEND: usize = 1024;
/// The sizes of segment that a peer can have, in rising order. A cookie names one of them: the largest that is not above
/// what the SYN wants. The last is what every IPv6 link carries, and what a peer that says nothing has (RFC 9293, 3.7.1);
/// who wants less than the first is not answered.
const SIZES: [u16; 8] = [64, 128, 256, 384, 536, 768, 1024, 1220];
/// The bits of a cookie that name the size.
const SIZE: i32 = SIZES.len() as i32 - 1;

/// Buffers of the sockets.
pub struct Buffers<'a> {
    storage: [SocketStorage<'a>; PENDING],
    receive: [[u8; RECEIVE]; PENDING],
    send: [[u8; SEND]; PENDING],
    scratch: [u8; MAX_FRAME],
}

impl Buffers<'_> {
    pub const fn new() -> Self {
        Self {
            storage: [SocketStorage::EMPTY; PENDING],
            receive: [[0; RECEIVE]; PENDING],
            send: [[0; SEND]; PENDING],
            scratch: [0; MAX_FRAME],
        }
    }
}

pub struct Stack<'a> {
    sockets: SocketSet<'a>,
    handles: [SocketHandle; PENDING],
    scratch: &'a mut [u8; MAX_FRAME],
    open: Option<Open>,
}

/// What exists only while a gate is open.
struct Open {
    interface: Interface,
    ends: Ends,
    cookies: Secret,
    connections: [Option<Connection>; PENDING],
    /// The slot is taken: nobody else is heard.
    taken: bool,
}

impl<'a> Stack<'a> {
    pub fn new(buffers: &'a mut Buffers<'a>) -> Self {
        let Buffers { storage, receive, send, scratch } = buffers;
        let mut sockets = SocketSet::new(&mut storage[..]);
        let mut handles = [SocketHandle::default(); PENDING];
        for ((handle, receive), send) in handles.iter_mut().zip(receive).zip(send) {
            let mut socket = Socket::new(SocketBuffer::new(&mut receive[..]), SocketBuffer::new(&mut send[..]));
            socket.set_ack_delay(None);
            socket.set_nagle_enabled(false);
            *handle = sockets.add(socket);
        }
        Self { sockets, handles, scratch, open: None }
    }

    /// Begins to listen for the gate's peer. Nothing happens if the addresses are none that a host can have.
    pub fn open(&mut self, rules: &Rules, random: Secret, now: Micros, ring: &mut Ring<'_>) {
        self.close();
        let Some(ends) = Ends::new(rules.link, rules.peer) else { return };
        let mut config = Config::new(EthernetAddress(ends.node.mac).into());
        let [seed @ .., _, _, _, _, _, _, _, _] = crypto::mac16(&random, &[b"smoltcp"]);
        config.random_seed = u64::from_be_bytes(seed);
        let outlet = Outlet { ring, ends, connections: &mut [] };
        let mut device = Device { incoming: None, scratch: self.scratch, outlet };
        let mut interface = Interface::new(config, &mut device, instant(now));
        interface.update_ip_addrs(|addresses| {
            // There is room for one. No prefix: the peer is on the link by construction.
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv6(ends.local()), 0));
        });
        let connections = [const { None }; PENDING];
        self.open = Some(Open { interface, ends, cookies: random, connections, taken: false });
    }

    /// Forgets the gate and every connection, and says so to nobody.
    pub fn close(&mut self) {
        if self.open.take().is_some() {
            for handle in self.handles {
                silence(self.sockets.get_mut(handle));
            }
        }
    }

    /// Takes one frame. Returns the place of a connection that it has made.
    pub fn ingest(
        &mut self,
        frame: &mut [u8],
        now: Micros,
        ring: &mut Ring<'_>,
        presents: impl Fn(&[u8]) -> bool,
    ) -> Option<usize> {
        let open = self.open.as_mut()?;
        match incoming(frame, &open.ends)? {
            Incoming::Solicitation => {
                // A full ring loses the frame, as a link would; the peer asks again.
                let _ = ring.send(&link::advertisement(&open.ends.node, &open.ends.peer));
                None
            }
            Incoming::Segment(segment) => {
                let known = open.connections.iter().flatten().find(|known| known.port == segment.port);
                if let Some(shift) = known.and_then(|known| known.shift) {
                    shift.inward(frame);
                    self.deliver(frame, now, ring);
                    return None;
                }
                match (segment.control, segment.ack) {
                    _ if open.taken => None,
                    (TcpControl::Syn, None) => {
                        open.answer(&segment, ring);
                        None
                    }
                    (TcpControl::None | TcpControl::Psh, Some(ack)) if !segment.payload.is_empty() => {
                        let first = open.proven(&segment, before(ack))?;
                        let payload = frame.get(segment.payload.clone())?;
                        let place = open.place(presents(payload))?;
                        self.adopt(place, &segment, first, frame, now, ring)
                    }
                    _ => None,
                }
            }
        }
    }

    /// Shows smoltcp the connection from its SYN on.
    fn adopt(
        &mut self,
        place: usize,
        segment: &Segment,
        first: TcpSeqNumber,
        frame: &mut [u8],
        now: Micros,
        ring: &mut Ring<'_>,
    ) -> Option<usize> {
        self.forget(place);
        let open = self.open.as_mut()?;
        let ends = open.ends;
        *open.connections.get_mut(place)? = Some(Connection { port: segment.port, first, shift: None, since: now });
        // Cannot fail: the socket was just closed.
        let _ = self.sockets.get_mut::<Socket<'_>>(*self.handles.get(place)?).listen(CLAIM_PORT);
        let syn = TcpRepr {
            src_port: segment.port,
            dst_port: CLAIM_PORT,
            seq_number: before(segment.seq),
            max_seg_size: SIZES.get(size_of(first)).copied(),
            ..EMPTY
        };
        let mut small = [0; SMALL];
        self.deliver(&link::advertisement(&ends.peer, &ends.node), now, ring);
        self.deliver(build_segment(&mut small, &ends, true, &syn), now, ring);
        self.egress(now, ring);
        let shift = self.open.as_ref()?.connections.get(place)?.as_ref()?.shift;
        let Some(shift) = shift else {
            self.forget(place);
            return None;
        };
        shift.inward(frame);
        self.deliver(frame, now, ring);
        Some(place)
    }

    fn deliver(&mut self, frame: &[u8], now: Micros, ring: &mut Ring<'_>) {
        let Some(open) = &mut self.open else { return };
        let outlet = Outlet { ring, ends: open.ends, connections: &mut open.connections };
        let mut device = Device { incoming: Some(frame), scratch: self.scratch, outlet };
        open.interface.poll_ingress_single(instant(now), &mut device, &mut self.sockets);
    }

    /// Sends what is due, at most one frame per connection.
    pub fn egress(&mut self, now: Micros, ring: &mut Ring<'_>) {
        let Some(open) = &mut self.open else { return };
        let outlet = Outlet { ring, ends: open.ends, connections: &mut open.connections };
        let mut device = Device { incoming: None, scratch: self.scratch, outlet };
        open.interface.poll_egress(instant(now), &mut device, &mut self.sockets);
    }

    /// When [`Self::egress`] is due next.
    pub fn poll_at(&mut self, now: Micros) -> Option<Micros> {
        let open = self.open.as_mut()?;
        let at = open.interface.poll_at(instant(now), &self.sockets)?;
        Some(u64::try_from(at.total_micros()).unwrap_or(0))
    }

    /// The connection in a place, and since when it is there.
    pub fn connection(&mut self, place: usize) -> Option<(&mut Socket<'a>, Micros)> {
        let since = self.open.as_ref()?.connections.get(place)?.as_ref()?.since;
        Some((self.sockets.get_mut(*self.handles.get(place)?), since))
    }

    /// Since when each connection is there.
    pub fn ages(&self) -> impl Iterator<Item = Micros> + '_ {
        self.open.iter().flat_map(|open| open.connections.iter().flatten()).map(|known| known.since)
    }

    /// Drops a connection and says so to nobody.
    pub fn forget(&mut self, place: usize) {
        if let (Some(open), Some(handle)) = (&mut self.open, self.handles.get(place)) {
            if let Some(connection) = open.connections.get_mut(place) {
                *connection = None;
            }
            silence(self.sockets.get_mut(*handle));
        }
    }

    /// Gives the slot to one connection: drops the others and hears nobody else from now on.
    pub fn take(&mut self, place: usize) {
        for other in (0..PENDING).filter(|other| *other != place) {
            self.forget(other);
        }
        if let Some(open) = &mut self.open {
            open.taken = true;
        }
    }
}

impl Open {
    /// The node's first sequence number for a connection from `port` whose SYN had the number `syn`, with segments of this
    /// size, a place in [`SIZES`].
    fn cookie(&self, port: u16, syn: TcpSeqNumber, size: usize) -> TcpSeqNumber {
        let size = [size as u8];
        let [a, b, c, d, ..] = crypto::mac16(&self.cookies, &[&port.to_be_bytes(), &syn.0.to_be_bytes(), &size]);
        TcpSeqNumber(i32::from_be_bytes([a, b, c, d]) & !SIZE | i32::from(size[0]))
    }

    /// The first number that the peer acknowledges, if it was told it.
    fn proven(&self, segment: &Segment, first: TcpSeqNumber) -> Option<TcpSeqNumber> {
        (self.cookie(segment.port, before(segment.seq), size_of(first)) == first).then_some(first)
    }

    fn answer(&self, segment: &Segment, ring: &mut Ring<'_>) {
        let fits = |size: &u16| segment.max_size.is_none_or(|max| *size <= max);
        let Some(size) = SIZES.iter().rposition(fits) else { return };
        let repr = TcpRepr {
            src_port: CLAIM_PORT,
            dst_port: segment.port,
            seq_number: self.cookie(segment.port, segment.seq, size),
            ack_number: Some(segment.seq + 1),
            window_len: RECEIVE as u16,
            max_seg_size: Some(MSS),
            ..EMPTY
        };
        // A full ring loses the frame, as a link would; the peer repeats its SYN.
        let _ = ring.send(build_segment(&mut [0; SMALL], &self.ends, false, &repr));
    }

    /// A free place; for one who presents the token, the oldest if none is free.
    fn place(&self, presents: bool) -> Option<usize> {
        let free = self.connections.iter().position(Option::is_none);
        let age =
            |place: &usize| self.connections.get(*place).and_then(|known| known.as_ref()).map(|known| known.since);
        free.or_else(|| (0..PENDING).min_by_key(age).filter(|_| presents))
    }
}

/// A SYN without options.
const EMPTY: TcpRepr<'static> = TcpRepr {
    src_port: 0,
    dst_port: 0,
    control: TcpControl::Syn,
    seq_number: TcpSeqNumber(0),
    ack_number: None,
    window_len: 0,
    window_scale: None,
    max_seg_size: None,
    sack_permitted: false,
    sack_ranges: [None; 3],
    timestamp: None,
    payload: &[],
};

/// The place in [`SIZES`] that a first sequence number names.
fn size_of(first: TcpSeqNumber) -> usize {
    (first.0 & SIZE) as usize
}

fn before(seq: TcpSeqNumber) -> TcpSeqNumber {
    TcpSeqNumber(seq.0.wrapping_sub(1))
}

/// Closes without a word: aborting alone would leave a reset to be sent, listening anew forgets the peer.
fn silence(socket: &mut Socket<'_>) {
    socket.abort();
    let _ = socket.listen(CLAIM_PORT);
    socket.close();
}

fn instant(now: Micros) -> Instant {
    // Half the range, so that smoltcp's own additions cannot overflow: 146 thousand years.
    Instant::from_micros(i64::try_from(now).unwrap_or(i64::MAX).min(i64::MAX / 2))
}
