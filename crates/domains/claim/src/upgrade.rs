//! The HTTP head that opens a WebSocket, read into a fixed buffer and held to one form: the request line
//! byte for byte, with the token as its path, and the headers that RFC 6455 demands: `Host`, version and key once, the two
//! that are lists on as many lines as one likes. A head that is anything else, or is longer than [`HEAD`] bytes or
//! [`HEADERS`] headers, is no head; nothing is said about why.

use base64ct::{Base64, Encoding};
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

/// Bytes of the longest head, from the request line to the empty line.
pub const HEAD: usize = 1024;
/// The most headers.
pub const HEADERS: usize = 24;
/// Length of `Sec-WebSocket-Accept`.
pub const ACCEPT: usize = 28;
const END: &[u8] = b"\r\n\r\n";

const BEFORE_TOKEN: &[u8] = b"GET /";
const AFTER_TOKEN: &[u8] = b" HTTP/1.1\r\n";
const LINE: usize = BEFORE_TOKEN.len() + 32 + AFTER_TOKEN.len();

/// The request line that presents a token.
pub struct RequestLine(Zeroizing<[u8; LINE]>);

impl RequestLine {
    pub fn new(token: &[u8; 16]) -> Self {
        let mut line = Zeroizing::new([0; LINE]);
        let hex = token.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| match digit {
            0..=9 => b'0' + digit,
            _ => b'a' + digit - 10,
        });
        let bytes = BEFORE_TOKEN.iter().copied().chain(hex).chain(AFTER_TOKEN.iter().copied());
        line.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Self(line)
    }

    /// Whether the bytes begin with the line. In constant time.
    pub fn begins(&self, bytes: &[u8]) -> bool {
        bytes.get(..LINE).is_some_and(|line| crypto::equal(line, &*self.0))
    }
}

/// A head that is arriving.
pub struct Head {
    bytes: [u8; HEAD],
    len: usize,
}

impl Default for Head {
    fn default() -> Self {
        Self::new()
    }
}

/// What has arrived of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    Part,
    Whole,
    TooLong,
}

impl Head {
    pub const fn new() -> Self {
        Self { bytes: [0; HEAD], len: 0 }
    }

    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Takes bytes up to the head's end, and says how many. What follows belongs to the WebSocket.
    pub fn feed(&mut self, bytes: &[u8]) -> (usize, Arrived) {
        for (taken, byte) in bytes.iter().enumerate() {
            let Some(place) = self.bytes.get_mut(self.len) else {
                return (taken, Arrived::TooLong);
            };
            *place = *byte;
            self.len += 1;
            if self.arrived().ends_with(END) {
                return (taken + 1, Arrived::Whole);
            }
        }
        (bytes.len(), Arrived::Part)
    }

    fn arrived(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// `Sec-WebSocket-Accept` for this whole head, if it presents the token and is in order.
    pub fn accept(&self, line: &RequestLine) -> Option<[u8; ACCEPT]> {
        let bytes = self.arrived();
        let lines_end_properly =
            bytes.iter().zip([&0].into_iter().chain(bytes)).all(|(b, a)| *b != b'\n' || *a == b'\r');
        (line.begins(bytes) && lines_end_properly).then_some(())?;
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        request.parse(bytes).ok().filter(httparse::Status::is_complete)?;
        let named = |name| {
            let headers = request.headers.iter();
            headers.filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
        };
        let only = |name| {
            let mut values = named(name);
            let value = values.next()?;
            values.next().is_none().then_some(value)
        };
        // Several lines of a list are one list (RFC 9110, 5.3).
        let lists = |name, item: &[u8]| {
            let mut items = named(name).flat_map(|value| value.split(|byte| *byte == b','));
            items.any(|part| part.trim_ascii().eq_ignore_ascii_case(item))
        };
        let host = is_host(only("Host")?);
        let upgrade = lists("Upgrade", b"websocket") && lists("Connection", b"upgrade");
        let version = only("Sec-WebSocket-Version")? == b"13";
        (host && upgrade && version).then_some(())?;
        accept(only("Sec-WebSocket-Key")?)
    }
}

/// Whether a `Host` can be one, whoever it names: the characters that a host and a port may have (RFC 3986, 3.2).
fn is_host(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(byte))
}

fn accept(key: &[u8]) -> Option<[u8; ACCEPT]> {
    let mut raw = [0; 18];
    let decoded = Base64::decode(key, &mut raw).ok()?;
    (decoded.len() == 16).then_some(())?;
    let digest = Sha1::new().chain_update(key).chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    let mut out = [0; ACCEPT];
    Base64::encode(&digest, &mut out).ok()?;
    Some(out)
}

/// The answer, in three parts.
pub fn response(accept: &[u8; ACCEPT]) -> [&[u8]; 3] {
    const HEAD: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";
    [HEAD, accept, END]
}
