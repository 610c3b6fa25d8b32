//! Raw frames of one interface, by an `AF_PACKET` socket.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use nix::{
    libc,
    sys::socket::{
        AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnknownCmsg, recvmsg, send, setsockopt,
        socket, sockopt,
    },
};

use crate::{checked, name_field};

/// `ETHTOOL_STXCSUM` and `ETHTOOL_STSO` of linux/ethtool.h. Without them the kernel makes checksums and cuts segments
/// before a frame leaves the interface.
const OFFLOADS: [u32; 2] = [0x17, 0x1f];
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const RECEIVE_BUFFER: usize = 4 << 20;
const ETHERNET_HEADER: usize = 14;
const TAG: usize = 4;
/// Where a VLAN tag stands in a frame.
const TAG_AT: usize = 12;
const TPID_8021Q: u16 = 0x8100;

/// A socket for the frames of an interface. Until it is bound, nothing arrives.
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// A socket that does not wait, of the present network namespace.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let packets = Self(socket(AddressFamily::Packet, SockType::Raw, flags, None)?);
        packets.enable(libc::PACKET_AUXDATA)?;
        packets.enable(libc::PACKET_IGNORE_OUTGOING)?;
        // The first is root's; the second takes what the limit allows.
        if setsockopt(&packets.0, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            setsockopt(&packets.0, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        }
        Ok(packets)
    }

    /// From now on all frames that reach the interface are received.
    pub fn bind(&self, index: u32) -> io::Result<()> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
            sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let size = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address is valid for the size given.
        checked(unsafe { libc::bind(self.as_raw_fd(), (&raw const address).cast(), size) }).map(|_| ())
    }

    /// A frame that waits already, as it was sent: the kernel hands a VLAN tag over beside the frame, and here it
    /// is put back. Without one the error is `WouldBlock`; `NetworkDown` says that somebody took the interface down,
    /// who may bring it up again.
    pub fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        let room = frame.len().saturating_sub(TAG);
        let mut control = nix::cmsg_space!(libc::tpacket_auxdata);
        let (length, tag) = {
            let mut parts = [IoSliceMut::new(&mut frame[..room])];
            let message = recvmsg::<()>(self.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
            (message.bytes, message.cmsgs()?.find_map(vlan_tag))
        };
        match tag {
            Some(tag) if length >= ETHERNET_HEADER => {
                frame.copy_within(TAG_AT..length, TAG_AT + TAG);
                frame[TAG_AT..TAG_AT + TAG].copy_from_slice(&tag);
                Ok(length + TAG)
            }
            _ => Ok(length),
        }
    }

    /// Sends a frame out of the interface. What is not taken is lost, as on a wire.
    pub fn send(&self, frame: &[u8]) {
        let _ = send(self.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT);
    }

    fn enable(&self, option: libc::c_int) -> io::Result<()> {
        let on: libc::c_int = 1;
        let size = size_of_val(&on) as libc::socklen_t;
        // SAFETY: the value is valid for the size given.
        let set = unsafe { libc::setsockopt(self.as_raw_fd(), libc::SOL_PACKET, option, (&raw const on).cast(), size) };
        checked(set).map(|_| ())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// The tag that the kernel has taken out of a frame, if this is what it says beside it.
fn vlan_tag(message: ControlMessageOwned) -> Option<[u8; TAG]> {
    let ControlMessageOwned::Unknown(UnknownCmsg { cmsg_header, data_bytes }) = message else { return None };
    if (cmsg_header.cmsg_level, cmsg_header.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
        return None;
    }
    tag_of(&data_bytes)
}

/// The VLAN tag that the kernel has taken off a frame, as the bytes of a `tpacket_auxdata` tell it.
fn tag_of(auxdata: &[u8]) -> Option<[u8; TAG]> {
    let short = |at: usize| Some(u16::from_ne_bytes(*auxdata.get(at..)?.first_chunk()?));
    let status = u32::from_ne_bytes(*auxdata.first_chunk()?);
    let tci = short(std::mem::offset_of!(libc::tpacket_auxdata, tp_vlan_tci))?;
    let tpid = short(std::mem::offset_of!(libc::tpacket_auxdata, tp_vlan_tpid))?;
    if status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let named = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let ([a, b], [c, d]) = ((if named { tpid } else { TPID_8021Q }).to_be_bytes(), tci.to_be_bytes());
    Some([a, b, c, d])
}

/// Turns checksum and segmentation offload off. `socket` is any of the interface's namespace.
pub fn no_offload(socket: &impl AsFd, interface: &str) -> io::Result<()> {
    #[repr(C)]
    struct Value {
        command: u32,
        value: u32,
    }
    for command in OFFLOADS {
        let mut value = Value { command, value: 0 };
        let data = libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut value).cast() };
        let mut request = libc::ifreq { ifr_name: name_field(interface)?, ifr_ifru: data };
        // SAFETY: the request names a value that lives through the call and is as long as these commands take.
        checked(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCETHTOOL, &raw mut request) })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auxdata(status: u32, tci: u16, tpid: u16) -> Vec<u8> {
        let mut bytes = vec![0; size_of::<libc::tpacket_auxdata>()];
        bytes[..4].copy_from_slice(&status.to_ne_bytes());
        bytes[16..18].copy_from_slice(&tci.to_ne_bytes());
        bytes[18..20].copy_from_slice(&tpid.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_tag_is_there_if_the_kernel_says_so() {
        let (valid, named) = (libc::TP_STATUS_VLAN_VALID, libc::TP_STATUS_VLAN_TPID_VALID);
        assert_eq!(tag_of(&auxdata(0, 5, 0x88a8)), None);
        assert_eq!(tag_of(&auxdata(valid, 5, 0x88a8)), Some([0x81, 0x00, 0, 5]));
        assert_eq!(tag_of(&auxdata(valid | named, 0x0102, 0x88a8)), Some([0x88, 0xa8, 1, 2]));
        assert_eq!(tag_of(&auxdata(valid, 5, 0)[..19]), None);
    }
}
