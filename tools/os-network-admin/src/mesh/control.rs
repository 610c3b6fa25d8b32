//! How other commands talk to the daemon: a Unix socket that only the operator can open, a line of JSON each way.
//!
//! It works from any network namespace. Nothing secret crosses it. Every line says the protocol's version: a daemon outlives the
//! program that started it. `down` is the one request that every version answers, so that a mesh can be restarted.

use std::{io, net::Ipv6Addr, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{Instant, sleep},
};
use wire::{receipt::Receipt, telemetry::Telemetry};
use zerocopy::FromBytes;

use super::run_files::{Condition, Paths, SocketName};
use crate::{
    base::error::Error,
    fleet::delivery::{Lane, News},
    output::Up,
    registry::Member,
};

/// Of the lines below. It rises when an older program would misread one.
pub const VERSION: u32 = 2;
/// How long a daemon may take to listen, or to be seen to be dead.
const PATIENCE: Duration = Duration::from_secs(2);

/// A line with its version. The programs that said none are older than version 1.
#[derive(Serialize, Deserialize)]
struct Line<T> {
    version: u32,
    #[serde(flatten)]
    body: T,
}

/// What can be read of a line of any version.
#[derive(Deserialize)]
struct Any {
    version: Option<u32>,
    op: Option<String>,
    error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    Status,
    /// A datagram to the command port of a member, in hex.
    Send {
        to: Ipv6Addr,
        data: String,
    },
    /// The registry has changed.
    Reload,
    Down,
    /// From now on a line for every record.
    Watch,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is done; to [`Request::Status`], what is asked for.
    Ok(Option<Box<Up>>),
    Error(String),
}

/// A record of telemetry, or a receipt, as watchers get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    pub member: i64,
    pub heard_ms: i64,
    /// In hex.
    pub record: String,
}

/// A line of this version.
pub fn write<T: Serialize>(body: T) -> String {
    let line = serde_json::to_string(&Line { version: VERSION, body });
    // These are values without a form that JSON lacks.
    line.unwrap_or_default() + "\n"
}

/// A request, or what is answered to a line that is none.
pub fn read_request(line: &str) -> Result<Request, Reply> {
    let no_request = |error: serde_json::Error| Reply::Error(format!("no request: {error}"));
    let any: Any = serde_json::from_str(line).map_err(no_request)?;
    if any.op.as_deref() == Some("down") {
        return Ok(Request::Down);
    }
    if any.version != Some(VERSION) {
        return Err(Reply::Error(mismatch().message));
    }
    serde_json::from_str(line).map(|line: Line<Request>| line.body).map_err(no_request)
}

fn read_reply(line: &str, request: &Request) -> Result<Option<Box<Up>>, Error> {
    let any: Any = serde_json::from_str(line).map_err(|error| lost(&error.into()))?;
    match any {
        Any { error: Some(why), .. } => Err(Error::network(why)),
        _ if *request == Request::Down => Ok(None),
        Any { version: Some(VERSION), .. } => match serde_json::from_str(line).map_err(|error| lost(&error.into()))? {
            Line { body: Reply::Ok(status), .. } => Ok(status),
            Line { body: Reply::Error(why), .. } => Err(Error::network(why)),
        },
        _ => Err(mismatch()),
    }
}

fn mismatch() -> Error {
    Error::network(
        "the mesh was started by another version of os-network-admin than this command is of: restart the mesh, \
         os-network-admin mesh down, then mesh up",
    )
}

/// A connection to the daemon.
pub struct Client {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Client {
    /// The daemon of this registry; an error says that the mesh is not up.
    pub async fn connect(registry: &Path) -> Result<Self, Error> {
        let paths = Paths::beside(registry);
        let until = Instant::now() + PATIENCE;
        loop {
            let connected = match SocketName::of(&paths.socket) {
                Ok(named) => UnixStream::connect(&named.name).await,
                Err(error) => Err(error),
            };
            let error = match connected {
                Ok(stream) => {
                    let (read, write) = stream.into_split();
                    return Ok(Self { lines: BufReader::new(read).lines(), write });
                }
                Err(error) => error,
            };
            let why = match paths.condition() {
                Ok(Condition::Died(state)) => format!(
                    "the mesh is down: its daemon (process {}) has died, see {}; run: os-network-admin mesh up",
                    state.pid,
                    paths.log.display()
                ),
                // It is about to be up, or has just died.
                Ok(Condition::Up) if Instant::now() < until => {
                    sleep(Duration::from_millis(20)).await;
                    continue;
                }
                Ok(Condition::Up) => {
                    format!("the mesh's daemon cannot be reached at {}: {error}", paths.socket.display())
                }
                _ => "the mesh is not up: run: os-network-admin mesh up".into(),
            };
            return Err(Error::network(why));
        }
    }

    /// Has it done, and waits until it is.
    pub async fn ask(&mut self, request: &Request) -> Result<Option<Box<Up>>, Error> {
        self.write.write_all(write(request).as_bytes()).await.map_err(|error| lost(&error))?;
        let line = self.lines.next_line().await.map_err(|error| lost(&error))?;
        read_reply(&line.ok_or_else(|| lost(&io::ErrorKind::UnexpectedEof.into()))?, request)
    }

    pub async fn status(&mut self) -> Result<Up, Error> {
        let status = self.ask(&Request::Status).await?;
        status.map(|status| *status).ok_or_else(|| lost(&io::ErrorKind::InvalidData.into()))
    }
}

fn lost(error: &io::Error) -> Error {
    Error::network(format!("the mesh's daemon does not answer ({error}): see `os-network-admin mesh status`"))
}

/// The mesh as commands use it: datagrams out by the daemon, records in from it.
pub struct DaemonLane {
    asks: Client,
    heard: Client,
}

impl DaemonLane {
    pub async fn connect(registry: &Path) -> Result<Self, Error> {
        let (asks, mut heard) = (Client::connect(registry).await?, Client::connect(registry).await?);
        heard.ask(&Request::Watch).await?;
        Ok(Self { asks, heard })
    }

    /// Has the daemon read the registry again; what follows is from then on.
    pub async fn reload(&mut self) -> Result<(), Error> {
        self.asks.ask(&Request::Reload).await.map(|_| ())
    }

    /// What is heard next, of whom, and when. May be dropped at any await.
    pub async fn heard(&mut self) -> Result<(i64, News, i64), Error> {
        loop {
            let line = self.heard.lines.next_line().await.map_err(|error| lost(&error))?;
            let line = line.ok_or_else(|| lost(&io::ErrorKind::UnexpectedEof.into()))?;
            let heard: Line<Heard> = serde_json::from_str(&line).map_err(|error| lost(&error.into()))?;
            let bytes = base16ct::lower::decode_vec(&heard.body.record).unwrap_or_default();
            let news = match Telemetry::read_from_bytes(&bytes) {
                Ok(record) => Some(News::Record(Box::new(record))),
                Err(_) => Receipt::read_from_bytes(&bytes).ok().map(News::Receipt),
            };
            if let Some(news) = news {
                return Ok((heard.body.member, news, heard.body.heard_ms));
            }
        }
    }
}

impl Lane for DaemonLane {
    async fn send(&mut self, _: &Member, to: Ipv6Addr, datagram: &[u8]) -> Result<(), Error> {
        let data = base16ct::lower::encode_string(datagram);
        self.asks.ask(&Request::Send { to, data }).await.map(|_| ())
    }

    async fn next(&mut self) -> Result<(i64, News), Error> {
        self.heard().await.map(|(member, news, _)| (member, news))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up() -> Up {
        Up {
            pid: 7,
            fleet: "lab".into(),
            interface: "genesis0".into(),
            engine: "kernel".into(),
            since_ms: 5,
            v4: [10, 8, 0, 1].into(),
            v6: Ipv6Addr::LOCALHOST,
            port: 51820,
            mtu: 1420,
            works: true,
            trouble: Vec::new(),
            public_key: "k".into(),
            peers: Vec::new(),
        }
    }

    #[test]
    fn requests_and_replies_are_read_as_they_are_written() {
        let send = Request::Send { to: Ipv6Addr::LOCALHOST, data: "00ff".into() };
        for request in [Request::Status, send, Request::Reload, Request::Down, Request::Watch] {
            assert_eq!(read_request(&write(&request)), Ok(request));
        }
        let reply = Reply::Ok(Some(Box::new(up())));
        assert_eq!(read_reply(&write(&reply), &Request::Status).unwrap().as_deref(), Some(&up()));
        assert_eq!(read_reply(&write(Reply::Ok(None)), &Request::Reload).unwrap(), None);
        let error = read_reply(&write(Reply::Error("no room".into())), &Request::Reload).unwrap_err();
        assert_eq!(error.message, "no room");
        for wrong in ["", "{}", "[]", "{\"version\":2}", "{\"version\":2,\"op\":\"conquer\"}", "{\"op\":7}"] {
            assert!(read_request(wrong).is_err(), "{wrong}");
            assert!(read_reply(wrong, &Request::Status).is_err(), "{wrong}");
        }
    }

    #[test]
    fn another_version_is_told_to_restart_the_mesh_and_can() {
        let old = ["{\"op\":\"status\"}", "{\"version\":1,\"op\":\"status\"}", "{\"version\":0,\"op\":\"reload\"}"];
        for line in old {
            let Err(Reply::Error(why)) = read_request(line) else { panic!("{line}") };
            assert!(why.contains("restart the mesh"), "{why}");
        }
        for line in ["{\"ok\":{\"up\":true}}", "{\"version\":1,\"ok\":null}", "{\"version\":1,\"done\":{}}"] {
            let error = read_reply(line, &Request::Status).unwrap_err();
            assert!(error.message.contains("restart the mesh"), "{error}");
            assert_eq!(read_reply(line, &Request::Down).unwrap(), None, "{line}");
        }
        for line in ["{\"op\":\"down\"}", "{\"version\":1,\"op\":\"down\",\"now\":true}"] {
            assert_eq!(read_request(line), Ok(Request::Down));
        }
        let error = read_reply("{\"error\":\"it cannot be removed\"}", &Request::Down).unwrap_err();
        assert_eq!(error.message, "it cannot be removed");
    }
}
