//! `os-network-admin`: see `docs/os-network-admin.md`.

use std::{env, process::ExitCode};

use clap::{Parser, error::ErrorKind};
use nix::sys::signal::{SigHandler, Signal, signal};
use os_network_admin::{
    base::{
        error::{Error, Exit},
        guard,
    },
    cli::{self, Cli},
    output,
};

fn main() -> ExitCode {
    // SAFETY: no handler is installed, only the default one taken away; no other thread runs yet.
    // A file size limit is then an error of the write, as a full disk is, and not a death without a word.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
    // Any command may hold the administrator's key, or the mesh's.
    let closed = guard::close_process();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let json = cli.common.json;
    if let Err(error) = closed {
        output::error(json, &Error::new(Exit::Other, format!("the process cannot be closed to others: {error}")));
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(cli::run(cli)),
        Err(error) => Err(Error::new(Exit::Other, format!("the runtime cannot be started: {error}"))),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(json, &error);
            ExitCode::from(error.exit as u8)
        }
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !asked && env::args_os().any(|argument| argument == "--json") {
        output::error(true, &Error::new(Exit::Usage, error.to_string().trim_end()));
    } else {
        // If nobody reads it, the exit code still says it.
        let _ = error.print();
    }
    if asked { ExitCode::SUCCESS } else { ExitCode::from(Exit::Usage as u8) }
}
