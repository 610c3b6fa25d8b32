//! Answers a call, or a bare notification with one of its own.
#![no_std]
#![no_main]

use bench_mailbox::{BODY, Echo};
use pd::Wake;
use platform::{Handler, channel, fits, read_only, read_write, start};
use sel4_microkit::protection_domain;
use shm::mailbox::Server;

#[protection_domain]
fn init() -> impl Handler {
    let mut server: Server<'_, BODY> = fits(Server::new(read_only!(client_req), read_write!(client_rep)));
    let (calls, pings) = (channel!(calls_id), channel!(pings_id));
    start(move |wake: &Wake| {
        if wake.by(pings) {
            pings.notify();
            return false;
        }
        if let Ok(Some(incoming)) = server.take() {
            match incoming.parse::<Echo>() {
                Some(body) => server.reply::<Echo>(&body),
                None => server.refuse(1),
            }
        }
        if server.take_signal() {
            calls.notify();
        }
        false
    })
}
