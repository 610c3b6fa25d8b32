//! An administrator in the world: the library of `os-network-admin` as it is, over a simulated link, on the world's clock.
//!
//! The library waits by tokio; a runtime whose clock is paused goes on when nothing else is to be done, so one clock serves
//! both: [`run`] lets the world do what is due whenever the administrator waits.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use link::{ON_LINK, UdpPorts};
use os_network_admin::base::{
    error::Error,
    host::Host,
    link::{BUFFER, Net},
};
use smoltcp::{iface::SocketHandle, socket::tcp};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until, timeout},
};
use wire::{BEACON_PORT, CLAIM_PORT, Ip, Mac};

use crate::{rng::Rng, station::Station, world::World};

/// Unix time at the world's beginning: 2026-01-01. Nothing depends on it but what is stored.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// The time of day and the randomness that an administrator sees.
pub struct VirtualHost {
    rng: std::sync::Mutex<u64>,
    started: Instant,
    /// By how many seconds it goes wrong.
    skew: AtomicI64,
}

impl VirtualHost {
    /// Inside [`simulate`]: the clock is the runtime's.
    pub fn shared(rng: &Rng) -> Arc<Self> {
        Arc::new(Self { rng: rng.next().into(), started: Instant::now(), skew: AtomicI64::new(0) })
    }

    /// Somebody sets the clock: it goes wrong by so many seconds from now on.
    pub fn set_skew(&self, seconds: i64) {
        self.skew.store(seconds, Ordering::Relaxed);
    }
}

impl Host for VirtualHost {
    fn since_1970(&self) -> Duration {
        let skew = self.skew.load(Ordering::Relaxed);
        let by = Duration::from_secs(skew.unsigned_abs());
        let right = EPOCH + self.started.elapsed();
        if skew < 0 { right.saturating_sub(by) } else { right + by }
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), Error> {
        let mut state = self.rng.lock().expect("nobody panics with it");
        let rng = Rng::new(*state);
        rng.fill(bytes);
        *state = rng.next();
        Ok(())
    }
}

/// Runs a script on a runtime whose clock is virtual. All of a simulation happens inside.
pub fn simulate<F: Future>(script: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O starts").block_on(script)
}

/// Runs the world while the administrator's work goes on, and until that is done.
pub async fn run<F: Future>(world: &RefCell<World>, work: F) -> F::Output {
    let (began, zero) = (Instant::now(), world.borrow().now());
    let micros = |at: Instant| zero + u64::try_from((at - began).as_micros()).unwrap_or(u64::MAX);
    let mut work = pin!(work);
    loop {
        let done = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
        if let Poll::Ready(done) = done {
            // Where nothing happens the time passes too.
            let (mut world, now) = (world.borrow_mut(), micros(Instant::now()));
            if !world.is_busy() && world.next().is_none_or(|next| next >= now) {
                world.advance_to(now);
            }
            return done;
        }
        let now = micros(Instant::now());
        let next = {
            let mut world = world.borrow_mut();
            world.poll_hosts();
            let mut heard = false;
            while !heard && world.step_until(now) {
                heard = world.take_heard();
            }
            if heard {
                continue;
            }
            world.advance_to(now);
            world.next()
        };
        // Until the world's next event, or until a timer wakes the administrator: he may have something to send then.
        let at = next.map_or(began + Duration::from_secs(1 << 32), |next| began + Duration::from_micros(next - zero));
        let mut event = pin!(sleep_until(at));
        let mut asleep = false;
        poll_fn(|context| match event.as_mut().poll(context) {
            Poll::Pending if !asleep => {
                asleep = true;
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
        .await;
    }
}

/// The world goes on for so long, with nobody at work.
pub async fn pass(world: &RefCell<World>, time: Duration) {
    run(world, tokio::time::sleep(time)).await;
}

/// The administrator's end of a link.
#[derive(Clone)]
pub struct Link {
    pub station: Rc<RefCell<Station>>,
    name: String,
}

impl Link {
    /// Of the host of this number, which somebody puts on the segment.
    pub fn on(number: u8, segment: usize) -> Self {
        Self { station: Rc::new(RefCell::new(Station::new(number))), name: format!("sim{segment}") }
    }

    /// Waits until the station has what is looked for.
    pub async fn until<T>(&self, mut look: impl FnMut(&mut Station) -> Option<T>) -> T {
        poll_fn(|_| look(&mut self.station.borrow_mut()).map_or(Poll::Pending, Poll::Ready)).await
    }
}

impl Net for Link {
    type Stream = Stream;

    fn name(&self) -> &str {
        &self.name
    }

    fn address(&self) -> (Ip, Mac) {
        let at = self.station.borrow().at;
        (at.ip, at.mac)
    }

    async fn broadcast(&self, datagram: &[u8]) -> Result<(), Error> {
        let ports = UdpPorts { source: BEACON_PORT, destination: BEACON_PORT };
        self.station.borrow_mut().send(&link::Station::ALL_NODES, ports, ON_LINK, datagram);
        Ok(())
    }

    async fn receive(&self, buffer: &mut [u8; BUFFER]) -> Result<(usize, Ip), Error> {
        let datagram = self.until(|station| station.receive_from(BEACON_PORT)).await;
        let length = datagram.payload.len().min(BUFFER);
        buffer[..length].copy_from_slice(&datagram.payload[..length]);
        Ok((length, datagram.from))
    }

    fn neighbour(&self, node: Ip) -> Option<Mac> {
        self.station.borrow().neighbour(&node)
    }

    async fn connect(&self, node: Ip) -> io::Result<Stream> {
        let handle = self.station.borrow_mut().connect(node, CLAIM_PORT);
        let stream = Stream { station: self.station.clone(), handle };
        let state = |station: &mut Station| match station.socket(handle).state() {
            tcp::State::SynSent => None,
            state => Some(state),
        };
        match self.until(state).await {
            tcp::State::Established => Ok(stream),
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    async fn delivered(&self, stream: &Stream, patience: Duration) -> bool {
        let handle = stream.handle;
        let ended = |station: &mut Station| {
            let socket = station.socket(handle);
            let left = socket.send_queue();
            (left == 0 || !socket.is_open()).then_some(left == 0)
        };
        timeout(patience, self.until(ended)).await.unwrap_or(false)
    }

    fn abandon(&self, stream: Stream) {
        self.station.borrow_mut().socket(stream.handle).abort();
    }
}

/// A connection.
pub struct Stream {
    station: Rc<RefCell<Station>>,
    handle: SocketHandle,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.station.borrow_mut().socket(self.handle).close();
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut station = self.station.borrow_mut();
        let socket = station.socket(self.handle);
        if socket.can_recv() {
            let got = socket.recv_slice(to.initialize_unfilled()).map_err(io::Error::other)?;
            to.advance(got);
            Poll::Ready(Ok(()))
        } else if socket.may_recv() {
            Poll::Pending
        } else if socket.state() == tcp::State::Closed {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        } else {
            Poll::Ready(Ok(()))
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let mut station = self.station.borrow_mut();
        let socket = station.socket(self.handle);
        if !socket.may_send() {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        } else if socket.can_send() {
            Poll::Ready(socket.send_slice(from).map_err(io::Error::other))
        } else {
            Poll::Pending
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.station.borrow_mut().socket(self.handle).close();
        Poll::Ready(Ok(()))
    }
}
