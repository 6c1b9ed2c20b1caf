//! Old commands whose work is gone: each prints what to type, or why nothing is.

use std::ffi::OsString;
use std::process::ExitCode;

use super::instead;
use crate::cli::door::Global;
use crate::cli::{context, perform};

pub fn setup_nginx(_line: Vec<OsString>, global: Global) -> ExitCode {
    perform(&context(global), |_| {
        Err(instead(
            "setup-nginx has nothing to set up: `strongroom serve` speaks HTTPS itself, at gui_listen in strongroom.toml, with a certificate that it makes and renews. One of your own: strongroom tls install, or strongroom config import FILE with nginx's site file",
        ))
    })
}
