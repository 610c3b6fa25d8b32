//! The one page. A request's head is read into a fixed buffer; what follows it is nobody's business. Every answer closes
//! the connection.

use core::fmt::{self, Write as _};

use heapless::String;
use httparse::Error;

use crate::pulse::Report;

/// The longest head of a request.
pub const HEAD: usize = 1024;
/// Headers of a request.
const HEADERS: usize = 32;
const ANSWER_HEAD: usize = 256;
const ANSWER_BODY: usize = 768;
/// The longest answer.
pub const ANSWER: usize = ANSWER_HEAD + ANSWER_BODY;

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Page,
    Malformed,
    NotFound,
    NotAllowed,
    TooLong,
}

impl Status {
    const fn line(self) -> &'static str {
        match self {
            Self::Page => "200 OK",
            Self::Malformed => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::NotAllowed => "405 Method Not Allowed",
            Self::TooLong => "431 Request Header Fields Too Large",
        }
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

impl Head {
    pub const fn new() -> Self {
        Self { bytes: [0; HEAD], len: 0 }
    }

    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Takes bytes, and says what to answer as soon as that is known.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<Status> {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let all_fit = bytes.len() <= room.len();
        room.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.len = self.len.saturating_add(bytes.len()).min(HEAD);
        let status = judge(self.bytes.get(..self.len).unwrap_or_default());
        status.or((!all_fit).then_some(Status::TooLong))
    }
}

/// `None` while the head is not whole.
fn judge(bytes: &[u8]) -> Option<Status> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(Error::TooManyHeaders) => return Some(Status::TooLong),
        Err(_) => return Some(Status::Malformed),
    }
    // RFC 9112, section 3.2.
    let hosts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("Host")).count();
    if hosts > 1 || hosts == 0 && request.version != Some(0) {
        return Some(Status::Malformed);
    }
    Some(match (request.path, request.method) {
        (Some("/"), Some("GET")) => Status::Page,
        (Some("/"), _) => Status::NotAllowed,
        _ => Status::NotFound,
    })
}

/// A whole answer.
pub struct Answer {
    head: String<ANSWER_HEAD>,
    body: String<ANSWER_BODY>,
}

impl Answer {
    pub fn new(status: Status, report: &Report) -> Self {
        let (mut head, mut body) = (String::new(), String::new());
        // Both are made to fit: a test has the longest.
        let _ = write_body(&mut body, status, report);
        let _ = write_head(&mut head, status, body.len());
        Self { head, body }
    }

    pub fn head(&self) -> &[u8] {
        self.head.as_bytes()
    }

    pub fn body(&self) -> &[u8] {
        self.body.as_bytes()
    }
}

fn write_head(to: &mut String<ANSWER_HEAD>, status: Status, len: usize) -> fmt::Result {
    write!(to, "HTTP/1.1 {}\r\nContent-Type: text/html\r\nContent-Length: {len}\r\n", status.line())?;
    if status == Status::NotAllowed {
        to.write_str("Allow: GET\r\n")?;
    }
    to.write_str("Cache-Control: no-store\r\nConnection: close\r\n\r\n")
}

fn write_body(to: &mut String<ANSWER_BODY>, status: Status, report: &Report) -> fmt::Result {
    if status != Status::Page {
        return writeln!(to, "<!doctype html><title>{0}</title><p>{0}</p>", status.line());
    }
    to.write_str(
        "<!doctype html>\n<html lang=\"en\">\n<title>Genesis workload</title>\n<h1>Genesis workload</h1>\n<dl>\n",
    )?;
    writeln!(to, "<dt>Heartbeat<dd id=\"beats\">{}", report.heartbeat.beats)?;
    writeln!(to, "<dt>Pages served<dd id=\"served\">{}", report.heartbeat.served)?;
    if let Some(v4) = report.addresses.v4 {
        writeln!(to, "<dt>IPv4<dd id=\"v4\">{v4}")?;
    }
    if let Some(v6) = report.addresses.v6 {
        writeln!(to, "<dt>IPv6<dd id=\"v6\">{v6}")?;
    }
    write!(to, "<dt>Uptime in seconds<dd id=\"uptime\">{}\n</dl>\n</html>\n", report.uptime)
}
