//! The yardstick: the smallest system that says a line. It says when it has done so, and stops.
#![no_std]
#![no_main]

use bench_report::Report;
use pd::Wake;
use platform::{Handler, counter, start};
use sel4_microkit::protection_domain;

#[protection_domain]
fn init() -> impl Handler {
    let mut report = Report::bind();
    report.line("hello");
    let said = counter();
    report.figure("ticks", said);
    report.end();
    start(|_: &Wake| false)
}
