//! Raw frames of one interface, by an `AF_PACKET` socket.

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

/// `ETHTOOL_STXCSUM` and `ETHTOOL_STSO` of linux/ethtool.h. Without them the kernel makes checksums and cuts segments
/// before a frame leaves the interface.
const OFFLOADS: [u32; 2] = [0x17, 0x1f];
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const RECEIVE_BUFFER: libc::c_int = 4 << 20;
const ETHERNET_HEADER: usize = 14;
const TAG: usize = 4;
/// Where a VLAN tag stands in a frame.
const TAG_AT: usize = 12;
const TPID_8021Q: u16 = 0x8100;

/// The far end of the program's interface. Until it is bound, nothing arrives.
pub struct Wire(OwnedFd);

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl Wire {
    pub fn open() -> io::Result<Self> {
        // SAFETY: makes a descriptor and touches no memory.
        let fd = checked(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
        // SAFETY: the descriptor is new and nobody else's.
        let wire = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        wire.option(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        wire.option(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        // The first is root's; the second takes what the limit allows.
        if wire.option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER).is_err() {
            wire.option(libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER)?;
        }
        Ok(wire)
    }

    /// From now on all frames that reach the interface are received.
    pub fn bind(&self, index: u32) -> io::Result<()> {
        // SAFETY: all fields are integers, for which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
        // SAFETY: the address is valid for the size given.
        checked(unsafe { libc::bind(self.fd(), (&raw const address).cast(), size_of_val(&address) as u32) })?;
        Ok(())
    }

    /// A frame that waits already, as it was sent: the kernel hands a VLAN tag over beside the frame, and here it
    /// is put back.
    pub fn receive(&self, frame: &mut [u8]) -> io::Result<Option<usize>> {
        let room = frame.len().saturating_sub(TAG);
        // Aligned as a control message must be.
        let mut control = [0u64; 16];
        let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: room };
        // SAFETY: all fields are integers or pointers, for which zero is a value.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control);
        // SAFETY: header, part, frame and control live through the call, with the lengths given.
        let length = unsafe { libc::recvmsg(self.fd(), &raw mut header, libc::MSG_DONTWAIT) };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            // ENETDOWN: the program took its interface down. It may bring it up again.
            return match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR | libc::ENETDOWN) => Ok(None),
                _ => Err(error),
            };
        };
        match vlan_tag(&header) {
            Some(tag) if length >= ETHERNET_HEADER => {
                frame.copy_within(TAG_AT..length, TAG_AT + TAG);
                frame[TAG_AT..TAG_AT + TAG].copy_from_slice(&tag);
                Ok(Some(length + TAG))
            }
            _ => Ok(Some(length)),
        }
    }

    /// Sends a frame to the program. What its interface does not take is lost, as on a wire.
    pub fn send(&self, frame: &[u8]) {
        // SAFETY: the frame is valid for its length.
        unsafe { libc::send(self.fd(), frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT) };
    }

    fn option(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the value is valid for the size given.
        let result =
            unsafe { libc::setsockopt(self.fd(), level, name, (&raw const value).cast(), size_of_val(&value) as u32) };
        checked(result).map(|_| ())
    }

    fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn vlan_tag(header: &libc::msghdr) -> Option<[u8; TAG]> {
    // SAFETY: the kernel has filled the control buffer that the header points to, and it is still there.
    let message = unsafe { libc::CMSG_FIRSTHDR(header).as_ref() }?;
    if (message.cmsg_level, message.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
        return None;
    }
    // SAFETY: a message of this type carries this structure; it may stand unaligned.
    let data = unsafe { libc::CMSG_DATA(message).cast::<libc::tpacket_auxdata>().read_unaligned() };
    if data.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let named = data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let tpid = if named { data.tp_vlan_tpid } else { TPID_8021Q };
    let ([a, b], [c, d]) = (tpid.to_be_bytes(), data.tp_vlan_tci.to_be_bytes());
    Some([a, b, c, d])
}

/// Turns checksum and segmentation offload off. `socket` is any of the interface's namespace.
pub fn no_offload(socket: impl AsFd, interface: &str) -> io::Result<()> {
    #[repr(C)]
    struct Value {
        command: u32,
        value: u32,
    }
    for command in OFFLOADS {
        let mut value = Value { command, value: 0 };
        // SAFETY: all variants of the union are integers or pointers, for which zero is a value.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        // The last byte stays zero.
        let (name, _) = request.ifr_name.split_at_mut(libc::IFNAMSIZ - 1);
        for (to, from) in name.iter_mut().zip(interface.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        // SAFETY: the request names a value that lives through the call and is as long as these commands take.
        checked(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCETHTOOL, &raw mut request) })?;
    }
    Ok(())
}
