//! The switch's control socket: one request per line, one answer per line.
//!
//! - `attach NAME PATH`: attaches the endpoint at PATH until it is detached;
//! - `hold NAME PATH`: the same, until it is detached or this connection ends;
//! - `detach NAME`.
//!
//! The answer is `ok`, after an attach followed by a blank and the path to send to; or `error` and why.

use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
};

use super::{
    hub::{Hub, LISTENER},
    port,
};

/// Name of the socket in the switch's directory.
pub const CONTROL: &str = "control.sock";
/// The longest request.
pub(super) const MAX_LINE: usize = 512;

pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
    connections: HashMap<u64, Connection>,
}

struct Connection {
    stream: UnixStream,
    line: Vec<u8>,
    held: Vec<String>,
}

impl Control {
    pub fn listen(dir: &Path, hub: &Hub) -> io::Result<Self> {
        let path = dir.join(CONTROL);
        port::check_path(&path)?;
        let listener = UnixListener::bind(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        listener.set_nonblocking(true)?;
        hub.watch(&listener, LISTENER)?;
        Ok(Self { listener, path, connections: HashMap::new() })
    }

    pub fn accept(&mut self, hub: &mut Hub) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        let id = hub.fresh();
        if stream.set_nonblocking(true).is_ok() && hub.watch(&stream, id).is_ok() {
            self.connections.insert(id, Connection { stream, line: Vec::new(), held: Vec::new() });
        }
    }

    /// Reads what a connection has to say; ends it if that is nothing, or no request.
    pub fn serve(&mut self, id: u64, hub: &mut Hub) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.serve(hub).is_err() {
            for name in connection.held.drain(..) {
                hub.detach(&name);
            }
            self.connections.remove(&id);
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Connection {
    fn serve(&mut self, hub: &mut Hub) -> io::Result<()> {
        let mut bytes = [0; MAX_LINE];
        let length = match self.stream.read(&mut bytes) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            read => read?,
        };
        self.line.extend_from_slice(&bytes[..length]);
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            let answer = match self.request(line.trim_ascii(), hub) {
                Ok(None) => "ok\n".to_owned(),
                Ok(Some(path)) => format!("ok {}\n", path.display()),
                Err(error) => format!("error {}\n", error.to_string().replace('\n', " ")),
            };
            // A few short lines fit the socket's buffer, unless the other end never reads.
            self.stream.write_all(answer.as_bytes())?;
        }
        if self.line.len() > MAX_LINE { Err(ErrorKind::InvalidData.into()) } else { Ok(()) }
    }

    fn request(&mut self, line: &[u8], hub: &mut Hub) -> io::Result<Option<PathBuf>> {
        let unknown = || io::Error::new(ErrorKind::InvalidInput, "unknown request");
        let line = str::from_utf8(line).map_err(|_| unknown())?;
        let (verb, rest) = line.split_once(' ').ok_or_else(unknown)?;
        match (verb, rest.split_once(' ')) {
            ("attach", Some((name, path))) => hub.attach(name, Path::new(path)).map(Some),
            ("hold", Some((name, path))) => {
                let own = hub.attach(name, Path::new(path))?;
                self.held.push(name.to_owned());
                Ok(Some(own))
            }
            ("detach", None) if hub.detach(rest) => {
                self.held.retain(|held| held != rest);
                Ok(None)
            }
            ("detach", None) => Err(io::Error::new(ErrorKind::NotFound, format!("there is no port {rest}"))),
            _ => Err(unknown()),
        }
    }
}
