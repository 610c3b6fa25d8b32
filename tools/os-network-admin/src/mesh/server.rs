//! The daemon's end of the control socket: each connection in a task of its own.

use std::io;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{broadcast, mpsc, oneshot},
};

use super::{
    control::{Reply, Request, read_request, write},
    registry_thread::Teller,
    run_files::{Paths, SocketName},
};

/// A line of a request: the longest datagram in hex, and words.
const LINE: usize = 8192;

pub type Asked = (Request, Teller);

/// Takes requests. `heard` has the lines for those who watch.
pub fn listen(paths: &Paths, asks: mpsc::Sender<Asked>, heard: broadcast::Sender<String>) -> io::Result<()> {
    match std::fs::remove_file(&paths.socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let named = SocketName::of(&paths.socket)?;
    // Nobody else may open it, at no time.
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(&named.name);
    nix::sys::stat::umask(before);
    let listener = listener?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, asks.clone(), heard.subscribe()));
        }
    });
    Ok(())
}

async fn converse(stream: UnixStream, asks: mpsc::Sender<Asked>, mut heard: broadcast::Receiver<String>) -> Option<()> {
    let (read, mut to) = stream.into_split();
    let mut lines = BufReader::with_capacity(LINE, read).lines();
    loop {
        let line = lines.next_line().await.ok()??;
        let (reply, watch) = match read_request(&line) {
            Ok(Request::Watch) => (Reply::Ok(None), true),
            Ok(request) => {
                let (teller, told) = oneshot::channel();
                asks.send((request, teller)).await.ok()?;
                (told.await.ok()?, false)
            }
            Err(reply) => (reply, false),
        };
        to.write_all(write(reply).as_bytes()).await.ok()?;
        if watch {
            break;
        }
    }
    loop {
        match heard.recv().await {
            Ok(line) => to.write_all(line.as_bytes()).await.ok()?,
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}
