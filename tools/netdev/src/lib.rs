//! Linux network interfaces: made and set up by rtnetlink, and read and written as raw frames or packets.
//!
//! A socket belongs to the network namespace that the thread is in when it opens it, and goes on to speak of that one.
//! All calls are synchronous: the kernel answers a request before it returns, and `lab enter` may have one thread only,
//! because it makes a user namespace.

pub mod netlink;
pub mod packet;
pub mod tun;

use std::io;

use nix::libc;

/// An Ethernet address.
pub type Mac = [u8; 6];

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// An interface's name, as requests to the kernel carry it: with a zero at its end.
fn name_field(interface: &str) -> io::Result<[libc::c_char; libc::IFNAMSIZ]> {
    let mut name = [0; libc::IFNAMSIZ];
    if interface.len() >= name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{interface} is too long for an interface")));
    }
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_whole_and_ends_with_zero() {
        assert_eq!(name_field("lab0").unwrap()[..5], b"lab0\0".map(|byte| byte as libc::c_char));
        assert!(name_field("fifteen-letters").unwrap()[15] == 0);
        assert!(name_field("sixteen--letters").is_err());
    }
}
