//! Events on their way to the console. A full ring holds nobody up: what does not fit is counted and said later.

use calls::console::{Code, Event, SLOT};
use shm::ring::Duplex;
use zerocopy::IntoBytes;

const WAITING: usize = 16;

pub struct Events {
    waiting: [Option<Event>; WAITING],
    lost: u32,
}

impl Events {
    pub const fn new() -> Self {
        Self { waiting: [None; WAITING], lost: 0 }
    }

    pub fn say(&mut self, event: Event) {
        match self.waiting.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(event),
            None => self.lost = self.lost.saturating_add(1),
        }
    }

    pub fn flush(&mut self, console: &mut Duplex<'_, SLOT>) {
        let mut sent = 0;
        while let Some(Some(event)) = self.waiting.get(sent)
            && console.send(event.as_bytes()).is_ok()
        {
            sent += 1;
        }
        self.waiting[..sent].fill(None);
        self.waiting.rotate_left(sent);
        if self.lost > 0 && console.send(Event::new(Code::Lost, self.lost, &[]).as_bytes()).is_ok() {
            self.lost = 0;
        }
    }
}
