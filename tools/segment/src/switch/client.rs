//! The other end of the control socket: whoever wants a port of a switch that runs elsewhere.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::net::{UnixDatagram, UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    control::{CONTROL, MAX_LINE},
    port::{self, Port},
};

/// How long the end of a port waits for a switch that does not answer.
const GOODBYE: Duration = Duration::from_secs(1);

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
    let socket = port::bind(&path)?;
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
