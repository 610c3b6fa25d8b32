//! What goes on, on standard error: a spinner on a terminal, a line per change elsewhere, nothing under `--json`.

use std::{cell::RefCell, io, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use super::{say::say, terminal};

enum Shape {
    Spinner(ProgressBar),
    Lines,
    Silent,
}

pub struct Progress {
    shape: Shape,
    last: RefCell<String>,
}

impl Progress {
    pub fn new(json: bool) -> Self {
        let shape = if terminal::can_redraw(&io::stderr()) {
            let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}");
            let bar = ProgressBar::new_spinner();
            Shape::Spinner(style.map(|style| bar.clone().with_style(style)).unwrap_or(bar))
        } else if json {
            Shape::Silent
        } else {
            Shape::Lines
        };
        Self { shape, last: RefCell::default() }
    }

    /// For tests and libraries.
    pub fn silent() -> Self {
        Self { shape: Shape::Silent, last: RefCell::default() }
    }

    /// What is being done now. The same again is not repeated.
    pub fn say(&self, text: &str) {
        if *self.last.borrow() == text {
            return;
        }
        *self.last.borrow_mut() = text.into();
        match &self.shape {
            Shape::Spinner(bar) => {
                bar.enable_steady_tick(Duration::from_millis(120));
                bar.set_message(say::plain::text(text));
            }
            Shape::Lines => say(text),
            Shape::Silent => {}
        }
    }

    /// What the operator should know even if all goes well. Never silent.
    pub fn warn(&self, text: &str) {
        self.pause(|| say(format_args!("warning: {text}")));
    }

    /// Runs something that uses the terminal.
    pub fn pause<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.shape {
            Shape::Spinner(bar) => bar.suspend(work),
            _ => work(),
        }
    }

    /// Clears the spinner before the result is printed.
    pub fn done(&self) {
        if let Shape::Spinner(bar) = &self.shape {
            bar.finish_and_clear();
        }
    }
}
