//! The switch's control socket: one request per line, one answer per line.
//!
//! - `attach NAME PATH`: attaches the endpoint at PATH until it is detached;
//! - `hold NAME PATH`: the same, until it is detached or this connection ends;
//! - `detach NAME`.
//!
//! The answer is `ok`, after an attach followed by a blank and the path to send to; or `error` and why.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    hub::{Hub, LISTENER},
    port::Port,
};

/// Name of the socket in the switch's directory.
pub const CONTROL: &str = "control.sock";
/// The longest request.
const MAX_LINE: usize = 512;
/// How long the end of a port waits for a switch that does not answer.
const GOODBYE: Duration = Duration::from_secs(1);

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
        super::port::check_path(&path)?;
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

/// A port that lasts as long as this value.
pub struct Held {
    connection: UnixStream,
    name: String,
    /// The path to send to.
    pub own: PathBuf,
}

impl Held {
    /// Attaches the endpoint that is bound at `path` to the switch in `dir`.
    pub fn attach(dir: &Path, name: &str, path: &Path) -> io::Result<Self> {
        let (connection, own) = ask(dir, &format!("hold {name} {}", path.display()))?;
        Ok(Self { connection, name: name.to_owned(), own: own.into() })
    }
}

impl Drop for Held {
    /// The end of the connection would do, some time later; the name is to be free now.
    fn drop(&mut self) {
        let request = format!("detach {}\n", self.name);
        let told = self
            .connection
            .set_read_timeout(Some(GOODBYE))
            .and_then(|()| self.connection.write_all(request.as_bytes()));
        if told.is_ok() {
            let _ = self.connection.read(&mut [0; MAX_LINE]);
        }
    }
}

/// An endpoint in this process, attached to the switch in `dir` for as long as both values last.
pub fn join(dir: &Path, name: &str) -> io::Result<(Held, Port)> {
    let path = dir.join(format!("{name}.port"));
    if UnixDatagram::unbound()?.connect(&path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
        // Its owner was killed.
        let _ = std::fs::remove_file(&path);
    }
    let socket = super::port::bind(&path)?;
    let port = Port::new(socket, path.clone());
    let held = Held::attach(dir, name, &path)?;
    port.connect(&held.own)?;
    Ok((held, port))
}

/// Attaches an endpoint to the switch in `dir` until it is detached. Returns the path to send to.
pub fn attach(dir: &Path, name: &str, path: &Path) -> io::Result<PathBuf> {
    Ok(ask(dir, &format!("attach {name} {}", path.display()))?.1.into())
}

pub fn detach(dir: &Path, name: &str) -> io::Result<()> {
    ask(dir, &format!("detach {name}")).map(|_| ())
}

fn ask(dir: &Path, request: &str) -> io::Result<(UnixStream, String)> {
    let mut stream = UnixStream::connect(dir.join(CONTROL))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer)?;
    match answer.trim_end().split_once(' ') {
        None if answer == "ok\n" => Ok((stream, String::new())),
        Some(("ok", path)) => {
            let path = path.to_owned();
            Ok((stream, path))
        }
        Some(("error", why)) => Err(io::Error::other(why.to_owned())),
        _ => Err(io::Error::new(ErrorKind::UnexpectedEof, "the switch has stopped")),
    }
}
