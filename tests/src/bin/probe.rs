//! What the tests run on a host inside the mesh, with the kernel's sockets:
//!
//! - `udp-send ADDRESS:PORT HEX`: one datagram;
//! - `udp-receive PORT`: datagrams as lines of hex, until killed;
//! - `push ADDRESS:PORT BYTES`: sends so many bytes and compares the hash that comes back;
//! - `pull ADDRESS:PORT BYTES`: has so many bytes sent and compares their hash;
//! - `connect ADDRESS:PORT MS`: whether a TCP connection is made in that time.

use std::{
    error::Error,
    io::{Read, Write},
    net::{Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tenant::stream::Stream;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["udp-send", to, hex] => udp_send(to.parse()?, hex),
        ["udp-receive", port] => udp_receive(port.parse()?),
        ["push", to, bytes] => push(to.parse()?, bytes.parse()?),
        ["pull", from, bytes] => pull(from.parse()?, bytes.parse()?),
        ["connect", to, ms] => {
            TcpStream::connect_timeout(&to.parse()?, Duration::from_millis(ms.parse()?))?;
            Ok(())
        }
        _ => Err("see the source for what it does".into()),
    }
}

fn udp_send(to: SocketAddr, hex: &str) -> Outcome {
    let bytes = hex.as_bytes().chunks(2).map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?));
    let bytes = bytes.collect::<Result<Vec<u8>, Box<dyn Error>>>()?;
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0".parse()? } else { "[::]:0".parse()? };
    UdpSocket::bind(any)?.send_to(&bytes, to)?;
    Ok(())
}

fn udp_receive(port: u16) -> Outcome {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?;
    let mut datagram = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut datagram)?;
        let hex: String = datagram[..length].iter().map(|byte| format!("{byte:02x}")).collect();
        say::result(format_args!("{from} {hex}"))?;
    }
}

fn push(to: SocketAddr, bytes: u64) -> Outcome {
    let mut tcp = TcpStream::connect(to)?;
    let (mut stream, mut hash, mut left) = (Stream::default(), Sha256::new(), bytes);
    let mut chunk = [0; 16 * 1024];
    while left > 0 {
        let length = chunk.len().min(usize::try_from(left)?);
        stream.fill(&mut chunk[..length]);
        hash.update(&chunk[..length]);
        tcp.write_all(&chunk[..length])?;
        left -= length as u64;
    }
    tcp.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    tcp.read_to_string(&mut answer)?;
    compare(&answer, hash)
}

fn pull(from: SocketAddr, bytes: u64) -> Outcome {
    let mut tcp = TcpStream::connect(from)?;
    tcp.write_all(format!("{bytes}\n").as_bytes())?;
    let (mut hash, mut count) = (Sha256::new(), 0);
    let mut chunk = [0; 16 * 1024];
    loop {
        let length = tcp.read(&mut chunk)?;
        if length == 0 {
            break;
        }
        count += length as u64;
        hash.update(&chunk[..length]);
    }
    let (mut stream, mut expected, mut left) = (Stream::default(), Sha256::new(), bytes);
    while left > 0 {
        let length = chunk.len().min(usize::try_from(left)?);
        stream.fill(&mut chunk[..length]);
        expected.update(&chunk[..length]);
        left -= length as u64;
    }
    if count != bytes {
        return Err(format!("{count} bytes of {bytes} came").into());
    }
    compare(&text(hash), expected)
}

fn compare(answer: &str, hash: Sha256) -> Outcome {
    let expected = text(hash);
    if answer.trim() == expected { Ok(()) } else { Err(format!("{answer} is not {expected}").into()) }
}

fn text(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
