//! Every domain of a node on native: the runner tells each process which program of the description it is.

use ::pd::{Child, Domain, Platform};
use native::pd::{self, Channel, Device, Heap, Nor};

use shm::{Micros, ReadOnly, ReadWrite};

#[global_allocator]
static HEAP: Heap = Heap;

struct Native(pd::Domain);

/// A port of the switch: a datagram is a frame.
struct Port(Device);

/// The pipe that the runner feeds.
struct Pipe(Device);

/// A file or terminal: what it does not take is lost, so that nobody waits for it.
struct Output(Device);

struct Alarm(Device);

impl net::Device for Port {
    fn mac(&self) -> [u8; 6] {
        self.0.mac()
    }

    fn recv(&mut self, frame: &mut [u8]) -> Option<usize> {
        self.0.read(frame)
    }

    fn send(&mut self, frame: &[u8]) -> bool {
        self.0.send(frame)
    }
}

impl entropy::Source for Pipe {
    fn read(&mut self, to: &mut [u8]) -> usize {
        self.0.read(to).unwrap_or(0)
    }

    fn counter(&mut self) -> u64 {
        pd::counter()
    }
}

impl console::Serial for Output {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.0.print(bytes);
        bytes.len()
    }
}

impl timer::Clock for Alarm {
    fn arm(&mut self, next: Option<Micros>) -> bool {
        self.0.arm(next);
        false
    }
}

impl Platform<'static> for Native {
    type Channel = Channel;

    fn read(&mut self, symbol: &'static str) -> ReadOnly<'static> {
        self.0.read(symbol)
    }

    fn write(&mut self, symbol: &'static str) -> ReadWrite<'static> {
        self.0.write(symbol)
    }

    fn channel(&mut self, symbol: &'static str) -> Channel {
        self.0.channel(symbol)
    }

    fn child(&mut self, symbol: &'static str) -> Child {
        self.0.child(symbol)
    }

    fn memory<T: 'static>(&mut self, make: fn() -> T) -> &'static mut T {
        self.0.memory(make)
    }
}

impl net::shell::Machine<'static> for Native {
    type Nic = Port;

    fn nic(&mut self) -> Port {
        Port(self.0.device("nic"))
    }
}

impl entropy::shell::Machine<'static> for Native {
    type Source = Pipe;

    fn source(&mut self) -> Pipe {
        Pipe(self.0.device("source"))
    }
}

impl console::shell::Machine<'static> for Native {
    type Serial = Output;

    fn serial(&mut self) -> Output {
        Output(self.0.device("serial"))
    }
}

impl timer::shell::Machine<'static> for Native {
    type Clock = Alarm;

    fn clock(&mut self) -> Alarm {
        Alarm(self.0.device("clock"))
    }
}

impl node::store::shell::Machine<'static> for Native {
    type Flash = Nor;

    fn flash(&mut self) -> Nor {
        Nor::new(self.0.device("flash"))
    }
}

impl node::lifecycle::shell::Machine<'static> for Native {
    type Parent = pd::Parent;

    fn parent(&mut self) -> pd::Parent {
        self.0.parent()
    }
}

impl node::Machine<'static> for Native {
    type Kept = Box<dyn Domain>;

    fn keep(&mut self, domain: impl Domain + 'static) -> Box<dyn Domain> {
        Box::new(domain)
    }
}

fn main() -> ! {
    let mut native = Native(pd::Domain::start());
    let program = native.0.program().to_owned();
    let domain = node::start(&program, &mut native);
    let mut domain = domain.unwrap_or_else(|| panic!("{program} is no domain of a node"));
    native.0.run(move |wake| domain.step(wake))
}
