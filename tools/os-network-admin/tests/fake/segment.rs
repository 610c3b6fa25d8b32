//! A link in memory, with nodes on it.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::pending,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use os_network_admin::base::{
    error::Error,
    link::{BUFFER, Net},
};
use tokio::{
    io::{DuplexStream, duplex},
    sync::Notify,
    time::{Instant, sleep},
};
use wire::{
    Ip, Mac,
    link::{Datagram, Find},
};

use crate::fake::{ADMIN_IP, ADMIN_MAC, Node, lost, serve};

/// The segment.
#[derive(Default)]
pub struct Segment {
    pub nodes: RefCell<Vec<Arc<Mutex<Node>>>>,
    /// All that the administrator sent.
    pub sent: RefCell<Vec<(Instant, Vec<u8>)>>,
    /// What nobody in particular sends whenever the administrator sends a find.
    pub noise: RefCell<Vec<(Vec<u8>, Ip)>>,
    inbox: RefCell<VecDeque<(Vec<u8>, Ip)>>,
    arrived: Notify,
    connected: RefCell<Option<Arc<Mutex<Node>>>>,
    pub abandoned: Cell<u32>,
}

impl Segment {
    pub fn with(nodes: impl IntoIterator<Item = Node>) -> Self {
        let segment = Self::default();
        *segment.nodes.borrow_mut() = nodes.into_iter().map(|node| Arc::new(Mutex::new(node))).collect();
        segment
    }

    pub fn node(&self, at: usize) -> Arc<Mutex<Node>> {
        self.nodes.borrow()[at].clone()
    }

    /// Puts a datagram on the administrator's socket.
    pub fn deliver(&self, datagram: Vec<u8>, from: Ip) {
        self.inbox.borrow_mut().push_back((datagram, from));
        self.arrived.notify_one();
    }

    #[allow(dead_code, reason = "each test program uses some")]
    pub fn sent_of<T: Datagram + Clone>(&self) -> Vec<T> {
        self.sent.borrow().iter().filter_map(|(_, bytes)| T::parse(bytes).cloned()).collect()
    }
}

impl Net for Segment {
    type Stream = DuplexStream;

    fn name(&self) -> &str {
        "memory"
    }

    fn address(&self) -> (Ip, Mac) {
        (ADMIN_IP, ADMIN_MAC)
    }

    async fn broadcast(&self, datagram: &[u8]) -> Result<(), Error> {
        self.sent.borrow_mut().push((Instant::now(), datagram.to_vec()));
        if Find::parse(datagram).is_some() {
            for (noise, from) in self.noise.borrow().iter() {
                self.deliver(noise.clone(), *from);
            }
        }
        for node in self.nodes.borrow().iter() {
            let mut node = node.lock().unwrap();
            if let Some(reply) = node.hear(datagram) {
                self.deliver(reply, node.address);
            }
        }
        Ok(())
    }

    async fn receive(&self, buffer: &mut [u8; BUFFER]) -> Result<(usize, Ip), Error> {
        loop {
            let next = self.inbox.borrow_mut().pop_front();
            if let Some((datagram, from)) = next {
                let length = datagram.len().min(BUFFER);
                buffer[..length].copy_from_slice(&datagram[..length]);
                return Ok((length, from));
            }
            self.arrived.notified().await;
        }
    }

    fn neighbour(&self, node: Ip) -> Option<Mac> {
        Some([2, 0, 0, 0, 0, node[15]])
    }

    async fn connect(&self, to: Ip) -> io::Result<DuplexStream> {
        let node = self.nodes.borrow().iter().find(|node| node.lock().unwrap().address == to).cloned();
        let node = node.ok_or(io::ErrorKind::HostUnreachable)?;
        if !lost(&mut node.lock().unwrap().lose_connections) {
            return pending().await;
        }
        let (ours, theirs) = duplex(8192);
        *self.connected.borrow_mut() = Some(node.clone());
        tokio::spawn(serve(theirs, node));
        Ok(ours)
    }

    async fn delivered(&self, _: &DuplexStream, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if self.connected.borrow().as_ref().is_some_and(|node| node.lock().unwrap().acknowledged) {
                return true;
            }
            sleep(Duration::from_millis(10)).await;
        }
        false
    }

    fn abandon(&self, _: DuplexStream) {
        self.abandoned.set(self.abandoned.get() + 1);
    }
}
