//! How other commands talk to the daemon: a Unix socket that only the operator can open, a line of JSON each way.
//!
//! It works from any network namespace. Nothing secret crosses it.

use std::{io, net::Ipv6Addr, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{Instant, sleep},
};
use wire::telemetry::Telemetry;
use zerocopy::FromBytes;

use super::run_files::{Condition, Paths};
use crate::{base::error::Error, fleet::delivery::Lane, registry::Member};

/// How long a daemon may take to listen, or to be seen to be dead.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Serialize, Deserialize)]
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

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Ok(Value),
    Error(String),
}

/// A record of telemetry, as watchers get it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Heard {
    pub member: i64,
    pub record: String,
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
            let error = match UnixStream::connect(&paths.socket).await {
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

    pub async fn ask(&mut self, request: &Request) -> Result<Value, Error> {
        let mut line = serde_json::to_string(request).map_err(|error| lost(&error.into()))?;
        line.push('\n');
        self.write.write_all(line.as_bytes()).await.map_err(|error| lost(&error))?;
        let line = self.lines.next_line().await.map_err(|error| lost(&error))?;
        let line = line.ok_or_else(|| lost(&io::ErrorKind::UnexpectedEof.into()))?;
        match serde_json::from_str(&line).map_err(|error| lost(&error.into()))? {
            Reply::Ok(value) => Ok(value),
            Reply::Error(why) => Err(Error::network(why)),
        }
    }
}

fn lost(error: &io::Error) -> Error {
    Error::network(format!("the mesh's daemon does not answer ({error}): see `os-network-admin mesh status`"))
}

/// The mesh as commands use it: datagrams out by the daemon, records in from it.
pub struct Mesh {
    asks: Client,
    heard: Client,
}

impl Mesh {
    pub async fn connect(registry: &Path) -> Result<Self, Error> {
        let (asks, mut heard) = (Client::connect(registry).await?, Client::connect(registry).await?);
        heard.ask(&Request::Watch).await?;
        Ok(Self { asks, heard })
    }

    /// Has the daemon read the registry again; what follows is from then on.
    pub async fn reload(&mut self) -> Result<(), Error> {
        self.asks.ask(&Request::Reload).await.map(|_| ())
    }
}

impl Lane for Mesh {
    async fn send(&mut self, _: &Member, to: Ipv6Addr, datagram: &[u8]) -> Result<(), Error> {
        let data = base16ct::lower::encode_string(datagram);
        self.asks.ask(&Request::Send { to, data }).await.map(|_| ())
    }

    async fn next(&mut self) -> Result<(i64, Telemetry), Error> {
        loop {
            let line = self.heard.lines.next_line().await.map_err(|error| lost(&error))?;
            let line = line.ok_or_else(|| lost(&io::ErrorKind::UnexpectedEof.into()))?;
            let heard: Heard = serde_json::from_str(&line).map_err(|error| lost(&error.into()))?;
            let bytes = base16ct::lower::decode_vec(&heard.record).unwrap_or_default();
            if let Ok(record) = Telemetry::read_from_bytes(&bytes) {
                return Ok((heard.member, record));
            }
        }
    }
}
