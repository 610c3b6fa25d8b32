//! Measures round trips to a domain of higher priority: a bare notification each way, then a call by mailbox.
#![no_std]
#![no_main]

use bench_mailbox::{BODY, Echo};
use bench_report::Report;
use pd::Wake;
use platform::{Handler, channel, counter, fits, now, read_only, read_write, start};
use sel4_microkit::protection_domain;
use shm::mailbox::{Client, Patience};

/// Before the first that counts.
const WARM: u64 = 16;
const COUNTED: u64 = 1000;
/// Never reached.
const PATIENCE: Patience = Patience { each: 1_000_000, tries: 1 };

#[derive(Clone, Copy)]
enum Doing {
    Pings(u64),
    Calls(u64),
    Nothing,
}

#[protection_domain]
fn init() -> impl Handler {
    let mut report = Report::bind();
    let mut client = fits(Client::new(read_write!(server_req), read_only!(server_rep)));
    let (calls, pings) = (channel!(calls_id), channel!(pings_id));
    let (mut doing, mut since) = (Doing::Pings(0), 0);
    let mut body = [0; BODY];
    pings.notify();
    start(move |wake: &Wake| {
        match doing {
            Doing::Pings(done) if wake.by(pings) => {
                doing = Doing::Pings(done + 1);
                match done {
                    WARM => since = counter(),
                    done if done == WARM + COUNTED => {
                        report.figure("ping_ticks", counter() - since);
                        doing = Doing::Calls(0);
                        client.call::<Echo>(&body, now(), PATIENCE);
                        calls.notify();
                        return false;
                    }
                    _ => {}
                }
                pings.notify();
            }
            Doing::Calls(done) => match client.poll::<Echo>(now()) {
                None => {}
                Some(Ok(reply)) => {
                    doing = Doing::Calls(done + 1);
                    match done {
                        WARM => since = counter(),
                        done if done == WARM + COUNTED => {
                            report.figure("call_ticks", counter() - since);
                            report.figure("count", COUNTED);
                            report.end();
                            doing = Doing::Nothing;
                            return false;
                        }
                        _ => {}
                    }
                    body = reply;
                    client.call::<Echo>(&body, now(), PATIENCE);
                    if client.take_signal() {
                        calls.notify();
                    }
                }
                Some(Err(_)) => {
                    report.line("the call failed");
                    doing = Doing::Nothing;
                }
            },
            Doing::Pings(_) | Doing::Nothing => {}
        }
        false
    })
}
